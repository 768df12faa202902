"""The master process: starts the workers, watches and replaces them, restarts them one by one, and stops them.

It imports neither grpc nor a model runtime: each worker is a fresh interpreter that imports its own. Signal handlers
only queue. One loop handles signals, heartbeats and ended processes in turn.
"""

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
# A tick that is later than this means that this process was stopped.
LATE_SECONDS = 0.5
# After a worker has served this long, its failure is the first of a new series, without a back-off.
STABLE_SECONDS = 10.0
MAX_BACKOFF_SECONDS = 30.0
EXIT_KILLED = 1


@dataclass(frozen=True)
class Policy:
    """The number of workers, and limits in seconds (see the settings with similar names)."""

    workers: int
    start_seconds: float
    hang_seconds: float
    handover_seconds: float
    grace_seconds: float


@dataclass(frozen=True)
class WorkerCounts:
    """The workers wanted, the workers serving, the failures since the start, and the slots in use."""

    wanted: int
    serving: int
    failures: int
    slots: frozenset[int]


@dataclass
class Child:
    """A worker process and the state that the supervisor keeps about it."""

    slot: int
    worker_id: str
    generation: int
    process: subprocess.Popen[bytes]
    heartbeat: int
    started: float = field(default_factory=time.monotonic)
    serving_since: float | None = None
    last_beat: float | None = None
    draining_since: float | None = None
    killed: bool = False

    @property
    def draining(self) -> bool:
        """Whether the worker was told to stop because its successor serves."""
        return self.draining_since is not None

    def served_for(self, now: float) -> float:
        """Give the seconds since the first heartbeat, 0 without one."""
        return 0.0 if self.serving_since is None else now - self.serving_since


class Supervisor:
    """Keeps `policy.workers` worker processes serving.

    `command(slot, heartbeat_fd, worker_id)` gives the arguments that start a worker. Slots are 0 to `policy.workers`,
    one more than there are workers, because a rolling restart starts the successor before it stops the predecessor.
    """

    def __init__(self, policy: Policy, command: Callable[[int, int, str], Sequence[str]]) -> None:
        self._policy = policy
        self._command = command
        self._children: list[Child] = []
        self._generation = 0
        self._ever_served = False
        self._failures_in_a_row = 0
        self._failures = 0
        self._not_before = 0.0
        self._stop_by: float | None = None
        self._exit_code = 0
        self._ticked = time.monotonic()
        self._selector = selectors.DefaultSelector()

    def run(self) -> int:
        """Supervise until a signal or a failed start ends it. Give the exit code."""
        signals = self._catch_signals()
        while self._stop_by is None or self._children:
            for key, _ in self._selector.select(TICK_SECONDS):
                if key.fileobj is signals:
                    self._handle_signals(signals.recv(64))
                else:
                    self._receive_heartbeat(key.data)
            self._reap()
            self._forgive_own_pause()
            if self._stop_by is None:
                self._kill_hung()
                self._start_missing()
                self._hand_over()
            elif self._children and time.monotonic() > self._stop_by:
                log.error(
                    "the grace period is over; killing the remaining workers", extra={"workers": len(self._children)}
                )
                self._exit_code = self._exit_code or EXIT_KILLED
                self._signal_all(signal.SIGKILL)
                self._stop_by = float("inf")
        log.info("stopped", extra={"exit_code": self._exit_code})
        return self._exit_code

    def counts(self) -> WorkerCounts:
        """Count the workers. Any thread may call this; it may miss a worker that is just starting or ending."""
        children = list(self._children)
        serving = [c for c in children if c.serving_since is not None and not c.draining]
        slots = frozenset(child.slot for child in children)
        return WorkerCounts(self._policy.workers, len(serving), self._failures, slots)

    def _catch_signals(self) -> socket.socket:
        """Let Python write the number of each signal to a socket that the loop reads."""
        reading, writing = socket.socketpair()
        reading.setblocking(False)
        writing.setblocking(False)
        signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        self._wakeup = writing  # keeps the socket open
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        self._selector.register(reading, selectors.EVENT_READ)
        return reading

    def _handle_signals(self, numbers: bytes) -> None:
        for number in numbers:
            if number == signal.SIGHUP and self._stop_by is None:
                self._generation += 1
                log.info("replacing the workers one by one")
            elif number in (signal.SIGTERM, signal.SIGINT):
                if self._stop_by is None:
                    log.info("draining and stopping", extra={"signal": signal.Signals(number).name})
                    self._stop(0)
                else:
                    log.warning("second signal; killing the workers")
                    self._exit_code = 128 + number
                    self._signal_all(signal.SIGKILL)

    def _stop(self, exit_code: int) -> None:
        self._exit_code = exit_code
        self._stop_by = time.monotonic() + self._policy.grace_seconds
        self._signal_all(signal.SIGTERM)

    def _signal_all(self, number: signal.Signals) -> None:
        for child in self._children:
            child.process.send_signal(number)

    def _receive_heartbeat(self, child: Child) -> None:
        """Record a heartbeat. The first one means that the worker serves."""
        if not os.read(child.heartbeat, 4096):
            self._selector.unregister(child.heartbeat)  # the worker closed its end: it is exiting
            return
        child.last_beat = time.monotonic()
        if child.serving_since is None:
            child.serving_since = child.last_beat
            self._ever_served = True
            log.info("worker serves", extra=_about(child, seconds=round(child.last_beat - child.started, 1)))

    def _reap(self) -> None:
        """Remove the workers that have exited. An exit that was not requested is a failure."""
        for child in [child for child in self._children if child.process.poll() is not None]:
            self._children.remove(child)
            with suppress(KeyError):
                self._selector.unregister(child.heartbeat)
            os.close(child.heartbeat)
            if self._stop_by is None and not child.draining:
                self._after_failure(child)

    def _after_failure(self, child: Child) -> None:
        status = child.process.returncode
        self._failures += 1
        log.error("worker ended", extra=_about(child, status=status))
        if not self._ever_served:
            log.critical("no worker could start; stopping")
            self._stop(128 - status if status < 0 else status or 1)
            return
        now = time.monotonic()
        if now >= self._not_before:  # workers that fail during a back-off belong to the same failure
            self._failures_in_a_row = 1 if child.served_for(now) >= STABLE_SECONDS else self._failures_in_a_row + 1
            # The first replacement starts at once, the next after 1, 2, 4, ... seconds.
            failures = self._failures_in_a_row
            wait = 0.0 if failures == 1 else min(MAX_BACKOFF_SECONDS, 2.0 ** (failures - 2))
            self._not_before = now + wait
        log.info("replacing the worker", extra={"in_seconds": round(self._not_before - now, 1)})

    def _forgive_own_pause(self) -> None:
        """Extend the workers' deadlines by the time for which this process was stopped (a frozen container)."""
        now = time.monotonic()
        late = now - self._ticked - TICK_SECONDS
        if late > LATE_SECONDS:
            for child in self._children:
                child.started += late
                child.last_beat = child.last_beat and child.last_beat + late
                child.draining_since = child.draining_since and child.draining_since + late
        self._ticked = now

    def _kill_hung(self) -> None:
        """Kill workers that start or stop too slowly, or send no heartbeat (stopped, or stuck in C code)."""
        now = time.monotonic()
        for child in self._children:
            if child.last_beat is None:
                overdue = now - child.started > self._policy.start_seconds
            elif child.draining_since is not None:
                overdue = now - child.draining_since > self._policy.grace_seconds
            else:
                overdue = now - child.last_beat > self._policy.hang_seconds
            if overdue and not child.killed:
                log.error("worker does not respond; killing it", extra=_about(child))
                child.process.kill()
                child.killed = True

    def _start_missing(self) -> None:
        """Start missing workers, and one more during a rolling restart."""
        wanted = self._policy.workers + bool(self._outdated())
        missing = wanted - sum(not child.draining for child in self._children)
        slots_left = self._policy.workers + 1 - len(self._children)
        if time.monotonic() >= self._not_before:
            for _ in range(min(missing, slots_left)):
                self._start()

    def _outdated(self) -> list[Child]:
        return [child for child in self._children if not child.draining and child.generation < self._generation]

    def _hand_over(self) -> None:
        """Drain an outdated worker once its successor has served long enough for Envoy to know it."""
        outdated = self._outdated()
        now = time.monotonic()
        settled = [c for c in self._children if not c.draining and c.served_for(now) >= self._policy.handover_seconds]
        if outdated and len(settled) > self._policy.workers:
            outdated[0].draining_since = now
            outdated[0].process.send_signal(signal.SIGTERM)

    def _start(self) -> None:
        used = {child.slot for child in self._children}
        slot = next(slot for slot in range(self._policy.workers + 1) if slot not in used)
        reading, writing = os.pipe()
        # In logs, answers and traces. It is random, so that callers learn no address from it.
        worker_id = secrets.token_hex(4)
        # In its own process group, so that Ctrl-C at a terminal reaches the supervisor alone.
        process = subprocess.Popen(  # noqa: S603 - the same interpreter, and a module of this package
            self._command(slot, writing, worker_id), pass_fds=[writing], stdin=subprocess.DEVNULL, process_group=0
        )
        os.close(writing)
        child = Child(slot, worker_id, self._generation, process, reading)
        self._children.append(child)
        self._selector.register(reading, selectors.EVENT_READ, child)
        log.info("worker started", extra=_about(child))


def _about(child: Child, **more: object) -> dict[str, object]:
    return {"worker": child.worker_id, "slot": child.slot, "pid": child.process.pid, **more}
