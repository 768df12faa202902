"""The master process: starts the workers, watches and replaces them, restarts them one by one, stops them.

It imports neither grpc nor a model runtime: each worker is a fresh interpreter that makes its own. A signal handler
only queues; the loop looks at signals, heartbeats and children, and does one small thing after another.
"""

from __future__ import annotations

import logging
import os
import secrets
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

log = logging.getLogger(__name__)

TICK_SECONDS = 0.1
LATE_SECONDS = 0.5  # no tick is so late while this process runs
# A worker that has served for so long has started well: the next death begins with no back-off again.
STABLE_SECONDS = 10.0
MAX_BACKOFF_SECONDS = 30.0
EXIT_KILLED = 1
# The id of a worker process in logs, answers and traces. It is random, so that callers learn no address from it.
WORKER_ID_BYTES = 4


@dataclass(frozen=True)
class Policy:
    """How many workers, and the times in seconds that the supervisor keeps (see the settings of the same names)."""

    workers: int
    start_seconds: float
    silence_seconds: float
    handover_seconds: float
    grace_seconds: float


@dataclass(frozen=True)
class WorkerCounts:
    """Workers that there should be, workers that serve, how many have failed since the start, and the slots taken."""

    wanted: int
    serving: int
    failures: int
    slots: frozenset[int]


@dataclass
class Child:
    """A worker process as the supervisor sees it."""

    slot: int
    worker_id: str
    generation: int
    process: subprocess.Popen[bytes]
    heartbeat: int
    born: float = field(default_factory=time.monotonic)
    serving_since: float | None = None
    last_beat: float | None = None
    draining_since: float | None = None
    killed: bool = False

    @property
    def draining(self) -> bool:
        """Whether the worker was told to go because its successor serves."""
        return self.draining_since is not None

    def served_for(self, now: float) -> float:
        """Seconds since the worker first said that it serves."""
        return 0.0 if self.serving_since is None else now - self.serving_since


class Supervisor:
    """Keeps `policy.workers` processes serving.

    `command(slot, heartbeat_fd, worker_id)` gives the arguments that start a worker. Slots are 0 to `policy.workers`,
    one more than there are workers, because a rolling restart starts the successor before it stops the predecessor.
    """

    def __init__(self, policy: Policy, command: Callable[[int, int, str], Sequence[str]]) -> None:
        self._policy = policy
        self._command = command
        self._children: list[Child] = []
        self._generation = 0
        self._ever_served = False
        self._failures = 0  # in a row
        self._all_failures = 0
        self._not_before = 0.0
        self._stop_by: float | None = None
        self._exit_code = 0
        self._ticked = time.monotonic()
        self._selector = selectors.DefaultSelector()

    def run(self) -> int:
        """Run until a signal or a failed start ends it, and give the exit code."""
        signals = self._catch_signals()
        while self._stop_by is None or self._children:
            for key, _ in self._selector.select(TICK_SECONDS):
                if key.fileobj is signals:
                    self._obey(signals.recv(64))
                else:
                    self._hear(key.data)
            self._reap()
            self._notice_own_sleep()
            self._kill_the_silent()
            if self._stop_by is None:
                self._keep_alive()
                self._hand_over()
            elif self._children and time.monotonic() > self._stop_by:
                log.error("the grace period is over, killing the rest", extra={"workers": len(self._children)})
                self._exit_code = self._exit_code or EXIT_KILLED
                self._signal_all(signal.SIGKILL)
                self._stop_by = float("inf")
        log.info("stopped", extra={"exit_code": self._exit_code})
        return self._exit_code

    def census(self) -> WorkerCounts:
        """Count the workers; for another thread, which may see a worker more or less while one comes or goes."""
        children = list(self._children)
        serving = [c for c in children if c.serving_since is not None and not c.draining]
        slots = frozenset(child.slot for child in children)
        return WorkerCounts(self._policy.workers, len(serving), self._all_failures, slots)

    def _catch_signals(self) -> socket.socket:
        """Have Python write each signal's number to a socket that the loop reads."""
        reading, writing = socket.socketpair()
        reading.setblocking(False)
        writing.setblocking(False)
        signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        self._wakeup = writing  # kept open
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        self._selector.register(reading, selectors.EVENT_READ)
        return reading

    def _obey(self, numbers: bytes) -> None:
        for number in numbers:
            if number == signal.SIGHUP and self._stop_by is None:
                self._generation += 1
                log.info("replacing the workers one by one")
            elif number in (signal.SIGTERM, signal.SIGINT):
                if self._stop_by is None:
                    log.info("draining and stopping", extra={"signal": signal.Signals(number).name})
                    self._stop(0)
                else:
                    log.warning("stopping at once")
                    self._exit_code = 128 + number
                    self._signal_all(signal.SIGKILL)

    def _stop(self, exit_code: int) -> None:
        self._exit_code = exit_code
        self._stop_by = time.monotonic() + self._policy.grace_seconds
        self._signal_all(signal.SIGTERM)

    def _signal_all(self, number: signal.Signals) -> None:
        for child in self._children:
            child.process.send_signal(number)

    def _hear(self, child: Child) -> None:
        """Take note of a heartbeat; the first one says that the worker serves."""
        if not os.read(child.heartbeat, 4096):
            self._selector.unregister(child.heartbeat)  # the other end is closed: the process is ending
            return
        child.last_beat = time.monotonic()
        if child.serving_since is None:
            child.serving_since = child.last_beat
            self._ever_served = True
            log.info("worker serves", extra=_about(child, seconds=round(child.last_beat - child.born, 1)))

    def _reap(self) -> None:
        """Take leave of the workers that have ended; one that should not have ended is a failure."""
        for child in [child for child in self._children if child.process.poll() is not None]:
            self._children.remove(child)
            with suppress(KeyError):
                self._selector.unregister(child.heartbeat)
            os.close(child.heartbeat)
            if self._stop_by is None and not child.draining:
                self._after_failure(child)

    def _after_failure(self, child: Child) -> None:
        status = child.process.returncode
        self._all_failures += 1
        log.error("worker ended", extra=_about(child, status=status))
        if not self._ever_served:
            log.critical("no worker could start")
            self._stop(128 - status if status < 0 else status or 1)
            return
        now = time.monotonic()
        if now >= self._not_before:  # else it died together with one for which there is a pause already
            self._failures = 1 if child.served_for(now) >= STABLE_SECONDS else self._failures + 1
            # At once after a single death, then 1, 2, 4, ... seconds.
            wait = 0.0 if self._failures == 1 else min(MAX_BACKOFF_SECONDS, 2.0 ** (self._failures - 2))
            self._not_before = now + wait
        log.info("replacing it", extra={"in_seconds": round(self._not_before - now, 1)})

    def _notice_own_sleep(self) -> None:
        """After a pause of this process itself (a frozen container) nobody's silence counts."""
        now = time.monotonic()
        late = now - self._ticked - TICK_SECONDS
        if late > LATE_SECONDS:
            for child in self._children:
                child.born += late
                child.last_beat = child.last_beat and child.last_beat + late
                child.draining_since = child.draining_since and child.draining_since + late
        self._ticked = now

    def _kill_the_silent(self) -> None:
        """End a worker that does not come up, does not go, or is heard no more (stopped, or stuck in C code)."""
        if self._stop_by is not None:
            return
        now = time.monotonic()
        for child in self._children:
            if child.last_beat is None:
                overdue = now - child.born > self._policy.start_seconds
            elif child.draining_since is not None:
                overdue = now - child.draining_since > self._policy.grace_seconds
            else:
                overdue = now - child.last_beat > self._policy.silence_seconds
            if overdue and not child.killed:
                log.error("worker is silent, killing it", extra=_about(child))
                child.process.kill()
                child.killed = True

    def _keep_alive(self) -> None:
        """Start what is missing; during a rolling restart one more than there should be."""
        wanted = self._policy.workers + bool(self._outdated())
        missing = wanted - sum(not child.draining for child in self._children)
        slots_left = self._policy.workers + 1 - len(self._children)
        if time.monotonic() >= self._not_before:
            for _ in range(min(missing, slots_left)):
                self._start()

    def _outdated(self) -> list[Child]:
        return [child for child in self._children if not child.draining and child.generation < self._generation]

    def _hand_over(self) -> None:
        """Drain an outdated worker when all are there, its successor included, and Envoy has had time to see it."""
        outdated = self._outdated()
        now = time.monotonic()
        settled = [c for c in self._children if not c.draining and c.served_for(now) >= self._policy.handover_seconds]
        if outdated and len(settled) > self._policy.workers:
            outdated[0].draining_since = now
            outdated[0].process.send_signal(signal.SIGTERM)

    def _start(self) -> None:
        taken = {child.slot for child in self._children}
        slot = next(slot for slot in range(self._policy.workers + 1) if slot not in taken)
        reading, writing = os.pipe()
        # A group of its own: Ctrl-C at a terminal is for the supervisor, which tells the workers.
        worker_id = secrets.token_hex(WORKER_ID_BYTES)
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            self._command(slot, writing, worker_id), pass_fds=[writing], stdin=subprocess.DEVNULL, process_group=0
        )
        os.close(writing)
        child = Child(slot, worker_id, self._generation, process, reading)
        self._children.append(child)
        self._selector.register(reading, selectors.EVENT_READ, child)
        log.info("worker started", extra=_about(child))


def _about(child: Child, **more: object) -> dict[str, object]:
    return {"worker": child.worker_id, "slot": child.slot, "pid": child.process.pid, **more}
