"""The supervisor with real processes; its workers are a stand-in that sends heartbeats and obeys signals."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from inference.process.ports import PortInUse, check_ports, own_address

from tests.stack.running import gone, wait_for

# A worker without gRPC: `python stand_in.py SLOT HEARTBEAT_FD BEHAVIOR`.
STAND_IN = """
import os, signal, sys, time
slot, beat, behavior = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
stopping = []
signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
if behavior == "cannot start":
    sys.exit(7)
if behavior == "never serves":
    time.sleep(600)
quiet_after = time.monotonic() + 0.3 if behavior == "stops its heartbeats" and slot == 0 else float("inf")
fails_after = time.monotonic() + 0.1 if behavior == "keeps failing" and slot == 0 else float("inf")
while behavior == "does not stop" or not stopping:
    if time.monotonic() < quiet_after:
        os.write(beat, b".")
    if time.monotonic() > fails_after:
        sys.exit(5)
    time.sleep(0.02)
time.sleep(0.1)
"""
# Runs the supervisor on the stand-in: `python supervise.py STAND_IN BEHAVIOR WORKERS START HANG GRACE`.
SUPERVISE = """
import sys
from telemetry import logs
from inference.process.supervisor import Policy, Supervisor
stand_in, behavior, workers, *seconds = sys.argv[1:]
start, hang, grace = map(float, seconds)
logs.configure("INFO", tier="inference", part="supervisor")
policy = Policy(
    int(workers), start_seconds=start, hang_seconds=hang, handover_seconds=0.1, grace_seconds=grace
)
command = lambda slot, beat, _: [sys.executable, stand_in, str(slot), str(beat), behavior]
sys.exit(Supervisor(policy, command).run())
"""


class Running:
    """A running supervisor and its log."""

    def __init__(self, folder: Path, behavior: str, workers: int, seconds: tuple[float, float, float]) -> None:
        (folder / "stand_in.py").write_text(STAND_IN)
        (folder / "supervise.py").write_text(SUPERVISE)
        self._log = folder / "log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    folder / "supervise.py",
                    folder / "stand_in.py",
                    behavior,
                    str(workers),
                    *map(str, seconds),
                ],
                stdout=log,
            )

    def children(self) -> list[psutil.Process]:
        return [p for p in psutil.Process(self.process.pid).children() if not gone(p)]

    def lines(self, message: str) -> list[dict[str, Any]]:
        entries = [json.loads(line) for line in self._log.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return [entry for entry in entries if entry["message"] == message]

    def wait_for_serving(self, count: int) -> None:
        wait_for(lambda: len(self.lines("worker serves")) >= count, f"{count} workers have come up")

    def end(self) -> int:
        return self.process.wait(30)


Start = Callable[..., Running]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start supervisors. At the end, kill them and their workers."""
    started: list[Running] = []

    def start(
        behavior: str = "", workers: int = 2, *, start: float = 60, hang: float = 60, grace: float = 60
    ) -> Running:
        started.append(Running(tmp_path, behavior, workers, (start, hang, grace)))
        return started[-1]

    yield start
    for running in started:
        left = running.children() if running.process.poll() is None else []
        running.process.kill()
        running.process.wait()
        for child in left:
            child.kill()


def test_it_stops_its_workers_and_exits_with_0_on_sigterm(start: Start) -> None:
    """It stops each worker and waits for it."""
    running = start()
    running.wait_for_serving(2)
    children = running.children()
    assert len(children) == 2
    running.process.terminate()
    assert running.end() == 0
    assert all(gone(child) for child in children)


def test_a_second_sigterm_stops_at_once(start: Start) -> None:
    """Workers that do not stop are killed; the exit code is that of the signal."""
    running = start("does not stop", grace=600)
    running.wait_for_serving(2)
    children = running.children()
    running.process.terminate()
    wait_for(lambda: running.lines("draining and stopping"), "the first one is handled")
    running.process.terminate()
    assert running.end() == 128 + signal.SIGTERM
    assert all(gone(child) for child in children)


def test_workers_that_outlast_the_grace_period_are_killed(start: Start) -> None:
    """The exit code says that the stop was not clean."""
    running = start("does not stop", grace=0.5)
    running.wait_for_serving(2)
    running.process.terminate()
    assert running.end() == 1
    assert running.lines("the grace period is over; killing the remaining workers")


def test_it_ends_with_the_exit_code_of_a_worker_that_cannot_start(start: Start) -> None:
    """If no worker has ever served, there is no second attempt."""
    assert start("cannot start").end() == 7


def test_a_worker_that_never_serves_is_killed(start: Start) -> None:
    """The time to start is bounded. The exit code is 137, which stands for SIGKILL."""
    assert start("never serves", start=1).end() == 128 + signal.SIGKILL


def test_a_dead_worker_is_replaced_in_its_slot(start: Start) -> None:
    """The slot determines the port, which Envoy knows."""
    running = start()
    running.wait_for_serving(2)
    slot_0 = running.lines("worker started")[0]
    os.kill(slot_0["pid"], signal.SIGKILL)
    running.wait_for_serving(3)
    assert [line["slot"] for line in running.lines("worker started")] == [0, 1, 0]


def test_a_worker_that_keeps_failing_is_restarted_with_a_back_off(start: Start) -> None:
    """It is restarted at once, then after 1, 2, ... seconds. The other worker keeps running."""
    running = start("keeps failing")
    wait_for(lambda: len(running.lines("replacing the worker")) >= 3, "three failures")
    assert [line["in_seconds"] for line in running.lines("replacing the worker")][:3] == [0.0, 1.0, 2.0]
    assert [line["slot"] for line in running.lines("worker ended")] == [0] * len(running.lines("worker ended"))


def test_workers_that_fail_together_count_as_one_failure(start: Start) -> None:
    """All are replaced after one short pause."""
    running = start(workers=8)
    running.wait_for_serving(8)
    for child in running.children():
        child.kill()
    running.wait_for_serving(16)
    assert max(line["in_seconds"] for line in running.lines("replacing the worker")) <= 1.0


def test_a_worker_without_heartbeats_is_killed_and_replaced(start: Start) -> None:
    """It may be stopped, or stuck in C code, and cannot end itself."""
    running = start("stops its heartbeats", hang=1)
    wait_for(lambda: running.lines("worker does not respond; killing it"), "the missing heartbeats are noticed")
    running.wait_for_serving(3)
    assert running.lines("worker ended")[0]["status"] == -signal.SIGKILL


def test_no_worker_is_killed_after_a_pause_of_all_processes(start: Start) -> None:
    """A frozen container continues where it was."""
    running = start(hang=3)
    running.wait_for_serving(2)
    supervisor, children = psutil.Process(running.process.pid), running.children()
    for process in (supervisor, *children):
        process.suspend()
    time.sleep(3.5)  # longer than a worker may be without heartbeats
    supervisor.resume()
    time.sleep(0.5)  # the supervisor runs before the workers do
    for child in children:
        child.resume()
    running.process.send_signal(signal.SIGHUP)  # handled after it has checked the workers
    wait_for(lambda: running.lines("replacing the workers one by one"), "it continues")
    assert running.lines("worker does not respond; killing it") == []


def test_sighup_starts_each_successor_before_its_predecessor_goes(start: Start) -> None:
    """There are never fewer workers than configured, and at most one more."""
    running = start(workers=3)
    running.wait_for_serving(3)
    before = {child.pid for child in running.children()}
    running.process.send_signal(signal.SIGHUP)
    counts = set()

    def all_new() -> bool:
        children = running.children()
        counts.add(len(children))
        return len(running.lines("worker serves")) == 6 and before.isdisjoint(child.pid for child in children)

    wait_for(all_new, "all workers are new")
    assert counts == {3, 4}
    assert {line["slot"] for line in running.lines("worker started")} == {0, 1, 2, 3}
    assert running.lines("worker ended") == []  # no worker has failed


def test_a_stop_during_the_start_leaves_no_process(start: Start) -> None:
    """The signal is obeyed at any moment of the start."""
    for delay in (0.0, 0.02, 0.05, 0.1, 0.2, 0.3):
        running = start()
        wait_for(partial(running.lines, "worker started"), "it catches signals")
        children = running.children()
        time.sleep(delay)  # each stop comes at another moment
        running.process.terminate()
        assert running.end() == 0
        assert all(gone(child) for child in children)


def test_a_port_in_use_is_named() -> None:
    """That also holds if the other program listens with SO_REUSEPORT."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortInUse, match=f"127.0.0.1:{port}"):
            check_ports("127.0.0.1", [port])


def test_the_address_of_a_name_is_the_one_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name can have the addresses of all containers of a service. Without one of this machine it is refused."""
    assert own_address("127.0.0.1", 0) == "127.0.0.1"
    assert own_address("[::]", 0) == "::"
    elsewhere, here = "203.0.113.77", "127.0.0.5"  # reserved for documentation, RFC 5737
    known = {"service": [elsewhere, here], "others": [elsewhere]}

    def stand_in(name: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in known[name]]

    monkeypatch.setattr(socket, "getaddrinfo", stand_in)
    assert own_address("service", 0) == here
    with pytest.raises(PortInUse, match="others:0"):
        own_address("others", 0)
