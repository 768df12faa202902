"""The supervisor with real processes; its children are a stand-in that beats and obeys as a worker does."""

from __future__ import annotations

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

# A worker without gRPC: `python stand_in.py SLOT HEARTBEAT_FD BEHAVIOUR`.
STAND_IN = """
import os, signal, sys, time
slot, beat, behaviour = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
stopping = []
signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
if behaviour == "cannot start":
    sys.exit(7)
if behaviour == "never serves":
    time.sleep(600)
silent_after = time.monotonic() + 0.3 if behaviour == "falls silent" and slot == 0 else float("inf")
dies_after = time.monotonic() + 0.1 if behaviour == "dies again and again" and slot == 0 else float("inf")
while behaviour == "does not stop" or not stopping:
    if time.monotonic() < silent_after:
        os.write(beat, b".")
    if time.monotonic() > dies_after:
        sys.exit(5)
    time.sleep(0.02)
time.sleep(0.1)
"""
# Runs the supervisor on the stand-in: `python supervise.py STAND_IN BEHAVIOUR WORKERS START SILENCE GRACE`.
SUPERVISE = """
import sys
from telemetry import logs
from inference.process.supervisor import Policy, Supervisor
stand_in, behaviour, workers, *seconds = sys.argv[1:]
start, silence, grace = map(float, seconds)
logs.configure("INFO", tier="inference", part="supervisor")
policy = Policy(
    int(workers), start_seconds=start, hang_seconds=silence, handover_seconds=0.1, grace_seconds=grace
)
command = lambda slot, beat, _: [sys.executable, stand_in, str(slot), str(beat), behaviour]
sys.exit(Supervisor(policy, command).run())
"""


class Running:
    """A supervisor at work, and its log."""

    def __init__(self, folder: Path, behaviour: str, workers: int, seconds: tuple[float, float, float]) -> None:
        (folder / "stand_in.py").write_text(STAND_IN)
        (folder / "supervise.py").write_text(SUPERVISE)
        self._log = folder / "log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    folder / "supervise.py",
                    folder / "stand_in.py",
                    behaviour,
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
    """Start supervisors; whatever is left of them is killed at the end."""
    started: list[Running] = []

    def start(
        behaviour: str = "", workers: int = 2, *, start: float = 60, silence: float = 60, grace: float = 60
    ) -> Running:
        started.append(Running(tmp_path, behaviour, workers, (start, silence, grace)))
        return started[-1]

    yield start
    for running in started:
        left = running.children() if running.process.poll() is None else []
        running.process.kill()
        running.process.wait()
        for child in left:
            child.kill()


def test_it_stops_its_workers_and_exits_with_0_on_sigterm(start: Start) -> None:
    """Each worker is told, and waited for."""
    running = start()
    running.wait_for_serving(2)
    children = running.children()
    assert len(children) == 2
    running.process.terminate()
    assert running.end() == 0
    assert all(gone(child) for child in children)


def test_a_second_sigterm_stops_at_once(start: Start) -> None:
    """Workers that do not go are killed; the exit code tells of the signal."""
    running = start("does not stop", grace=600)
    running.wait_for_serving(2)
    children = running.children()
    running.process.terminate()
    wait_for(lambda: running.lines("draining and stopping"), "the first one is heard")
    running.process.terminate()
    assert running.end() == 128 + signal.SIGTERM
    assert all(gone(child) for child in children)


def test_workers_that_outlast_the_grace_period_are_killed(start: Start) -> None:
    """Stopping takes no longer than it may, and the exit code says that it was not clean."""
    running = start("does not stop", grace=0.5)
    running.wait_for_serving(2)
    running.process.terminate()
    assert running.end() == 1
    assert running.lines("the grace period is over; killing the remaining workers")


def test_it_ends_with_the_exit_code_of_a_worker_that_cannot_start(start: Start) -> None:
    """When none has ever served, trying again is of no use."""
    assert start("cannot start").end() == 7


def test_a_worker_that_never_comes_up_is_killed(start: Start) -> None:
    """The time to start is bounded; 137 is SIGKILL in a shell's words."""
    assert start("never serves", start=1).end() == 128 + signal.SIGKILL


def test_a_dead_worker_is_replaced_in_its_slot(start: Start) -> None:
    """The slot is the port: Envoy knows it."""
    running = start()
    running.wait_for_serving(2)
    slot_0 = running.lines("worker started")[0]
    os.kill(slot_0["pid"], signal.SIGKILL)
    running.wait_for_serving(3)
    assert [line["slot"] for line in running.lines("worker started")] == [0, 1, 0]


def test_a_worker_that_dies_again_and_again_is_started_more_and_more_slowly(start: Start) -> None:
    """At once, then after 1, 2, ... seconds; the other worker goes on."""
    running = start("dies again and again")
    wait_for(lambda: len(running.lines("replacing the worker")) >= 3, "three deaths")
    assert [line["in_seconds"] for line in running.lines("replacing the worker")][:3] == [0.0, 1.0, 2.0]
    assert [line["slot"] for line in running.lines("worker ended")] == [0] * len(running.lines("worker ended"))


def test_workers_that_die_together_are_one_failure(start: Start) -> None:
    """All are replaced after one short pause, however many they were."""
    running = start(workers=8)
    running.wait_for_serving(8)
    for child in running.children():
        child.kill()
    running.wait_for_serving(16)
    assert max(line["in_seconds"] for line in running.lines("replacing the worker")) <= 1.0


def test_a_silent_worker_is_killed_and_replaced(start: Start) -> None:
    """Stopped, or stuck where no Python runs: it cannot say so itself."""
    running = start("falls silent", silence=1)
    wait_for(lambda: running.lines("worker does not respond; killing it"), "the silence is noticed")
    running.wait_for_serving(3)
    assert running.lines("worker ended")[0]["status"] == -signal.SIGKILL


def test_after_a_pause_of_them_all_nobody_is_taken_for_silent(start: Start) -> None:
    """A frozen container goes on where it was."""
    running = start(silence=3)
    running.wait_for_serving(2)
    supervisor, children = psutil.Process(running.process.pid), running.children()
    for process in (supervisor, *children):
        process.suspend()
    time.sleep(3.5)  # above the silence that is suffered
    supervisor.resume()
    time.sleep(0.5)  # it must not judge before the others have had their turn
    for child in children:
        child.resume()
    running.process.send_signal(signal.SIGHUP)  # heard after it has judged
    wait_for(lambda: running.lines("replacing the workers one by one"), "it goes on")
    assert running.lines("worker does not respond; killing it") == []


def test_sighup_starts_each_successor_before_its_predecessor_goes(start: Start) -> None:
    """There are never fewer workers than there should be, nor more than one too many."""
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
    assert running.lines("worker ended") == []  # none of them counts as a failure


def test_repeated_starts_and_stops_leave_nothing(start: Start) -> None:
    """A signal at any moment of the start is obeyed."""
    for delay in (0.0, 0.02, 0.05, 0.1, 0.2, 0.3):
        running = start()
        wait_for(partial(running.lines, "worker started"), "it catches signals")
        children = running.children()
        time.sleep(delay)  # the moment is the point
        running.process.terminate()
        assert running.end() == 0
        assert all(gone(child) for child in children)


def test_a_port_in_use_is_named() -> None:
    """Whoever listens there, also with SO_REUSEPORT."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortInUse, match=f"127.0.0.1:{port}"):
            check_ports("127.0.0.1", [port])


def test_of_a_names_addresses_the_one_of_this_machine_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that stands for every container of a service; one without an address here is refused."""
    assert own_address("127.0.0.1", 0) == "127.0.0.1"
    assert own_address("[::]", 0) == "::"
    elsewhere, here = "203.0.113.77", "127.0.0.5"  # RFC 5737: nobody's
    known = {"service": [elsewhere, here], "others": [elsewhere]}

    def stand_in(name: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in known[name]]

    monkeypatch.setattr(socket, "getaddrinfo", stand_in)
    assert own_address("service", 0) == here
    with pytest.raises(PortInUse, match="others:0"):
        own_address("others", 0)


def test_it_imports_neither_grpc_nor_a_model_runtime() -> None:
    """What exists before a worker starts cannot harm it."""
    script = "import sys, inference.__main__; print([m for m in sys.modules if m.split('.')[0] in sys.argv])"
    heavy = ["grpc", "openvino", "onnxruntime", "tensorflow", "keras", "mtcnn", "numpy", "PIL", "opentelemetry"]
    found = subprocess.run([sys.executable, "-c", script, *heavy], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
