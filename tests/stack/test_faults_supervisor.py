"""The inference service alone is started, stopped and killed repeatedly, and started twice."""

import json
import random
import time
from pathlib import Path

from tests.conftest import Figures
from tests.stack.running import free_base_port, gone, wait_for
from tests.stack.service import running_service


def test_starts_and_stops_at_any_moment_leave_nothing(tmp_path: Path, figures: Figures, *, long: bool) -> None:
    """After SIGTERM during or after a start, the exit code is 0, no process is left and the ports are free again."""
    base, moments, times = free_base_port(), random.Random(1), 200 if long else 6
    longest, exit_codes, orphans = 0.0, set[int](), 0
    for _ in range(times):
        with running_service(base, tmp_path) as service:
            wait_for(lambda log=service.log: "worker started" in log.read_text(), "signals are handled")  # type: ignore[misc]
            time.sleep(moments.uniform(0, 2))  # a random moment is the purpose of this test
            family, asked = service.processes(), time.monotonic()
            service.process.terminate()
            exit_codes.add(service.process.wait(60))
            longest = max(longest, time.monotonic() - asked)
            orphans += sum(not gone(process) for process in family)
    figures(
        "starts and stops of the inference service, at any moment",
        {"starts": times, "orphans": orphans, "exit_code": max(exit_codes), "longest_stop_s": round(longest, 2)},
        at_most={"orphans": 0, "exit_code": 0, "longest_stop_s": 25},
    )
    assert (exit_codes, orphans) == ({0}, 0)


def test_after_a_kill_it_starts_again_on_the_same_ports(tmp_path: Path, figures: Figures, *, long: bool) -> None:
    """When the supervisor is killed, its workers end too, and a new service can use the same ports."""
    base, times, longest = free_base_port(), 20 if long else 2, 0.0
    for _ in range(times):
        with running_service(base, tmp_path) as service:
            wait_for(service.serves, "it serves")
            family = service.processes()
            assert len(family) == 3
            service.process.kill()
            killed = time.monotonic()
            wait_for(lambda killed=family: all(gone(process) for process in killed), "no process is left")  # type: ignore[misc]
            longest = max(longest, time.monotonic() - killed)
    found = {"kills": times, "all_gone_after_s": round(longest, 2)}
    figures("kill -9 of the supervisor; the next one serves each time", found, at_most={"all_gone_after_s": 5})


def test_a_second_service_on_the_same_ports_does_not_start(tmp_path: Path, figures: Figures) -> None:
    """It logs one line with the port and starts no workers; the first service keeps running."""
    base = free_base_port()
    with running_service(base, tmp_path) as first:
        wait_for(first.serves, "it serves")
        began = time.monotonic()
        with running_service(base, tmp_path) as second:
            assert second.process.wait(60) == 2
        figures("a second start on the same ports", {"refused_after_s": round(time.monotonic() - began, 1)})
        (line,) = second.log.read_text().splitlines()
        message = f"cannot listen on 127.0.0.1:{base}: Address already in use"
        assert (json.loads(line)["level"], json.loads(line)["message"]) == ("CRITICAL", message)
        assert first.serves()
        assert len(first.processes()) == 3
