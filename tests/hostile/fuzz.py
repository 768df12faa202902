"""The fuzz: `make fuzz N=100000`, and its short form in the tests.

    python -m tests.hostile.fuzz --cases 100000 --seed 7
    python -m tests.hostile.fuzz --seed 7 --case 4711

It starts a stack, sends it what cases.py makes from the seed, and looks at each answer, at the processes and at their
logs. Cases that went wrong are in a folder, as the bytes that were sent.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import re
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from grpc import StatusCode

from tests.conftest import IMAGES
from tests.hostile.cases import Case, make_case
from tests.hostile.http2 import Connection
from tests.stack.running import ROOT, RunningStack, running_stack

CALLERS = 8
TOGETHER = 250  # cases between two looks at the control pictures
PATIENCE = 0.3  # seconds for an answer to what may be half a request; then the sender leaves
GIVE_UP = 60  # seconds
SLOWEST = 5.0  # seconds that an answer may take
# Of these every gRPC service may make use: none says that something went wrong inside.
GRPC_STATUSES = {
    StatusCode.OK,
    StatusCode.INVALID_ARGUMENT,
    StatusCode.NOT_FOUND,
    StatusCode.RESOURCE_EXHAUSTED,
    StatusCode.UNIMPLEMENTED,
    StatusCode.DEADLINE_EXCEEDED,
}
# What gRPC itself answers to a message that it cannot unpack; the protocol wants it so.
GRPC_REFUSALS = ("Compression bit set but no encoding configured", "Decompression failed")
PROTOCOL_ERROR = 1  # of HTTP/2
GRPC_CODES = {status.value[0]: status for status in StatusCode}


def documented() -> tuple[set[int], set[str]]:
    """The statuses and codes in the table of docs/api.md."""
    rows = re.findall(r"^\| ([\d, ]+) \| (.*) \|$", (ROOT / "docs/api.md").read_text(), re.MULTILINE)
    statuses = {int(status) for row, _ in rows for status in row.split(", ")}
    return statuses | {200, 207}, {code for _, codes in rows for code in re.findall(r"`([A-Z_]+)`", codes)}


@dataclass
class Outcome:
    """What became of a case: in a word, how long it took, and what is wrong with that, if anything."""

    case: Case
    seconds: float
    word: str
    fault: str = ""


@dataclass
class Report:
    """What became of all of them."""

    seed: int
    seconds: float = 0.0
    slowest: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)
    faults: list[Outcome] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)  # with the stack, not with one case

    def add(self, outcome: Outcome) -> None:
        self.kinds[outcome.case.kind] += 1
        self.words[outcome.word] += 1
        self.slowest = max(self.slowest, outcome.seconds)
        if outcome.fault:
            self.faults.append(outcome)

    def figures(self) -> dict[str, Any]:
        """What the report says in numbers."""
        cases = self.kinds.total()
        return {
            "seed": self.seed,
            "cases": cases,
            "cases_per_second": round(cases / self.seconds, 1),
            "slowest_answer_s": round(self.slowest, 2),
            "kinds": dict(sorted(self.kinds.items())),
            "answers": dict(sorted(self.words.items())),
            "wrong_answers": len(self.faults),
            "troubles": self.troubles,
        }


class Fuzz:
    """Cases for one stack, which may take so many seconds for an answer."""

    def __init__(self, stack: RunningStack, slowest: float = SLOWEST) -> None:
        self._stack = stack
        self._slowest = slowest
        host, _, port = stack.edge.partition(":")
        self._address = (host, int(port))
        self._statuses, self._codes = documented()
        self._control = (IMAGES / "astronaut.webp").read_bytes()

    def run(self, seed: int, numbers: Sequence[int]) -> Report:
        """Send them, and see that the stack is as before."""
        report = Report(seed)
        before, pids = self._faces(), self._pids()
        started = time.monotonic()
        with ThreadPoolExecutor(CALLERS) as callers:
            for start in range(0, len(numbers), TOGETHER):
                together = numbers[start : start + TOGETHER]
                for outcome in callers.map(lambda number: self.send(make_case(seed, number)), together):
                    report.add(outcome)
                if self._faces() != before:
                    report.troubles.append(f"the control picture has another answer after case {together[-1]}")
        report.seconds = time.monotonic() - started
        if self._pids() != pids:
            report.troubles.append("a process has died or was replaced")
        report.troubles += self._complaints()
        return report

    def send(self, case: Case) -> Outcome:
        """Send a case and judge what comes back."""
        started = time.monotonic()
        with socket.create_connection(self._address, timeout=GIVE_UP) as connection:
            with suppress(OSError):  # it may have been closed upon what came first
                connection.sendall(case.wire)
            if not case.whole:
                connection.settimeout(PATIENCE)
            try:
                word, fault = (self._http2 if case.http2 else self._http1)(case, connection)
            except TimeoutError:  # whoever sends half a request leaves
                word, fault = ("hangs", f"no answer in {GIVE_UP} s") if case.whole else ("none", "")
        seconds = time.monotonic() - started
        return Outcome(case, seconds, word, fault or (f"after {seconds:.1f} s" if seconds > self._slowest else ""))

    def _http1(self, case: Case, connection: socket.socket) -> tuple[str, str]:
        response = http.client.HTTPResponse(connection, method="HEAD" if case.wire.startswith(b"HEAD ") else "POST")
        try:
            response.begin()
            body = response.read()
        except (ConnectionError, http.client.HTTPException) as error:
            return "closed", repr(error) if case.whole else ""
        return f"{response.status}", self._judge(response.status, response.headers.get_content_type(), body, response)

    def _judge(self, status: int, kind: str, body: bytes, response: Any = None) -> str:
        """Say what is wrong with an answer over HTTP."""
        if status not in self._statuses or status >= 500:
            return f"the status is {status}: {body[:200]!r}"
        if status < 400 or (response is not None and response._method == "HEAD"):
            return ""
        try:
            error = json.loads(body)
            if sorted(error) != ["code", "message", "requestId"] or error["code"] not in self._codes:
                return f"the error of {status} is {error}"
        except ValueError:
            return f"the error of {status} has no JSON but {kind}: {body[:200]!r}"
        return ""

    def _http2(self, case: Case, connection: socket.socket) -> tuple[str, str]:
        try:
            answer = Connection(connection).answer()
        except ConnectionError:
            return "closed", "closed" if case.whole else ""
        if "grpc-status" in answer.headers:
            status = GRPC_CODES[int(answer.headers["grpc-status"])]
            message = answer.headers.get("grpc-message", "")
            refused = status is StatusCode.INTERNAL and message.startswith(GRPC_REFUSALS)
            return status.name, "" if refused or status in GRPC_STATUSES else f"{status.name}: {message}"
        if ":status" in answer.headers:
            http_status = int(answer.headers[":status"])
            return f"{http_status}", self._judge(http_status, answer.headers.get("content-type", ""), answer.body)
        if answer.reset is not None:
            fault = (
                case.whole and answer.reset != PROTOCOL_ERROR
            )  # a content-length, say, that the message does not have
            return "reset", f"reset with code {answer.reset}" if fault else ""
        return ("goaway" if answer.gone else "closed"), "no answer" if case.whole and not answer.gone else ""

    def _faces(self) -> Any:
        """The answer to the control picture, bare and in a form, but for times and the worker's name."""
        answers = []
        for request in (
            {"content": self._control, "headers": {"Content-Type": "image/webp"}},
            {"files": {"image": self._control}},
        ):
            response = httpx.post(f"{self._stack.url}/predict", timeout=GIVE_UP, **request)
            answers.append((response.status_code, response.json().get("results")))
        return answers

    def _pids(self) -> set[int]:
        return {process.pid for process in self._stack.processes()}

    def _complaints(self) -> list[str]:
        """What the parts' logs have of errors."""
        lines = [(self._stack.logs / f"{part}.log").read_text().splitlines() for part in ("inference", "web", "envoy")]
        return sorted({line[:1000] for part in lines for line in part if _is_complaint(line)})[:100]


def _is_complaint(line: str) -> bool:
    try:
        entry = json.loads(line)
    except ValueError:
        return True
    return entry.get("level", "").upper() in ("ERROR", "CRITICAL") or "exc_info" in entry


def main() -> int:
    """Fuzz a stack of its own; the exit code says whether all was well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--case", type=int, help="only the case of this number")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="facet-fuzz-"))
    print(f"seed {arguments.seed}; logs and cases that went wrong are in {folder}", file=sys.stderr, flush=True)
    numbers = range(arguments.cases) if arguments.case is None else [arguments.case]
    with running_stack(
        folder / "logs", "--workers=2"
    ) as stack:  # with fewer places, batches of 8 callers would be too many
        report = Fuzz(stack).run(arguments.seed, numbers)
    for outcome in report.faults:
        (folder / f"{outcome.case.name}.bin").write_bytes(outcome.case.wire)
        print(f"{outcome.case.name} ({outcome.case.kind}): {outcome.fault}", file=sys.stderr)
    print(json.dumps(report.figures(), indent=1))
    return 1 if report.faults or report.troubles else 0


if __name__ == "__main__":
    sys.exit(main())
