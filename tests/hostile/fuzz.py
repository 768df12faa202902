"""The fuzz test: `make fuzz N=100000`, and a short form in the tests.

    python -m tests.hostile.fuzz --cases 100000 --seed 7
    python -m tests.hostile.fuzz --seed 7 --case 4711

It starts a stack, sends the cases that cases.py generates from the seed, and checks each answer, the processes and
their logs. The bytes of failed cases are saved in a folder.
"""

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
BATCH = 250  # cases between two checks of the control image
PATIENCE = 0.3  # seconds to wait for an answer to a possibly incomplete request
TIMEOUT = 60  # seconds
MAX_SECONDS = 5.0  # for an answer, in the long form
# Statuses that are no sign of a fault inside the service.
GRPC_STATUSES = {
    StatusCode.OK,
    StatusCode.INVALID_ARGUMENT,
    StatusCode.NOT_FOUND,
    StatusCode.RESOURCE_EXHAUSTED,
    StatusCode.UNIMPLEMENTED,
    StatusCode.DEADLINE_EXCEEDED,
}
# INTERNAL with these messages is what the gRPC protocol requires for a message that cannot be decompressed.
GRPC_REJECTIONS = ("Compression bit set but no encoding configured", "Decompression failed")
PROTOCOL_ERROR = 1  # of HTTP/2
GRPC_CODES = {status.value[0]: status for status in StatusCode}


def documented() -> tuple[set[int], set[str]]:
    """Read the statuses and codes from the table in docs/api.md."""
    rows = re.findall(r"^\| ([\d, ]+) \| (.*) \|$", (ROOT / "docs/api.md").read_text(), re.MULTILINE)
    statuses = {int(status) for row, _ in rows for status in row.split(", ")}
    return statuses | {200, 207}, {code for _, codes in rows for code in re.findall(r"`([A-Z_]+)`", codes)}


@dataclass
class Outcome:
    """The result of a case: its status in a word, its duration, and what is wrong with it, if anything."""

    case: Case
    seconds: float
    word: str
    fault: str = ""


@dataclass
class Report:
    """The results of all cases."""

    seed: int
    seconds: float = 0.0
    slowest: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)
    faults: list[Outcome] = field(default_factory=list)
    stack_faults: list[str] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        self.kinds[outcome.case.kind] += 1
        self.words[outcome.word] += 1
        self.slowest = max(self.slowest, outcome.seconds)
        if outcome.fault:
            self.faults.append(outcome)

    def figures(self) -> dict[str, Any]:
        """Return the report as numbers."""
        cases = self.kinds.total()
        return {
            "seed": self.seed,
            "cases": cases,
            "cases_per_second": round(cases / self.seconds, 1),
            "slowest_answer_s": round(self.slowest, 2),
            "kinds": dict(sorted(self.kinds.items())),
            "answers": dict(sorted(self.words.items())),
            "wrong_answers": len(self.faults),
            "stack_faults": self.stack_faults,
        }


class Fuzz:
    """Sends cases to a stack. An answer may take `max_seconds`."""

    def __init__(self, stack: RunningStack, max_seconds: float = MAX_SECONDS) -> None:
        self._stack = stack
        self._max_seconds = max_seconds
        host, _, port = stack.edge.partition(":")
        self._address = (host, int(port))
        self._statuses, self._codes = documented()
        self._control = (IMAGES / "astronaut.webp").read_bytes()

    def run(self, seed: int, numbers: Sequence[int]) -> Report:
        """Send cases, and check the stack afterwards."""
        report = Report(seed)
        before, pids = self._faces(), self._pids()
        started = time.monotonic()
        with ThreadPoolExecutor(CALLERS) as callers:
            for start in range(0, len(numbers), BATCH):
                batch = numbers[start : start + BATCH]
                for outcome in callers.map(lambda number: self.send(make_case(seed, number)), batch):
                    report.add(outcome)
                if self._faces() != before:
                    report.stack_faults.append(f"the control image has another answer after case {batch[-1]}")
        report.seconds = time.monotonic() - started
        if self._pids() != pids:
            report.stack_faults.append("a process has died or was replaced")
        report.stack_faults += self._logged_errors()
        return report

    def send(self, case: Case) -> Outcome:
        """Send a case and check the answer."""
        started = time.monotonic()
        with socket.create_connection(self._address, timeout=TIMEOUT) as connection:
            with suppress(OSError):  # the server may close after the first bytes
                connection.sendall(case.wire)
            if not case.whole:
                connection.settimeout(PATIENCE)
            try:
                word, fault = (self._http2 if case.http2 else self._http1)(case, connection)
            except TimeoutError:
                word, fault = ("hangs", f"no answer in {TIMEOUT} s") if case.whole else ("none", "")
        seconds = time.monotonic() - started
        return Outcome(case, seconds, word, fault or (f"after {seconds:.1f} s" if seconds > self._max_seconds else ""))

    def _http1(self, case: Case, connection: socket.socket) -> tuple[str, str]:
        response = http.client.HTTPResponse(connection, method="HEAD" if case.wire.startswith(b"HEAD ") else "POST")
        try:
            response.begin()
            body = response.read()
        except (ConnectionError, http.client.HTTPException) as error:
            return "closed", repr(error) if case.whole else ""
        return f"{response.status}", self._fault(response.status, response.headers.get_content_type(), body, response)

    def _fault(self, status: int, kind: str, body: bytes, response: Any = None) -> str:
        """Describe what is wrong with an answer over HTTP, if anything."""
        if status not in self._statuses or status >= 500:
            return f"the status is {status}: {body[:200]!r}"
        if status < 400 or (response is not None and response._method == "HEAD"):
            return ""
        try:
            error = json.loads(body)
            if sorted(error) != ["code", "message", "requestId"] or error["code"] not in self._codes:
                return f"the error of {status} is {error}"
        except ValueError:
            return f"the error of {status} is {kind} instead of JSON: {body[:200]!r}"
        return ""

    def _http2(self, case: Case, connection: socket.socket) -> tuple[str, str]:
        try:
            answer = Connection(connection).answer()
        except ConnectionError:
            return "closed", "closed" if case.whole else ""
        if "grpc-status" in answer.headers:
            status = GRPC_CODES[int(answer.headers["grpc-status"])]
            message = answer.headers.get("grpc-message", "")
            refused = status is StatusCode.INTERNAL and message.startswith(GRPC_REJECTIONS)
            return status.name, "" if refused or status in GRPC_STATUSES else f"{status.name}: {message}"
        if ":status" in answer.headers:
            http_status = int(answer.headers[":status"])
            return f"{http_status}", self._fault(http_status, answer.headers.get("content-type", ""), answer.body)
        if answer.reset is not None:
            fault = (
                case.whole and answer.reset != PROTOCOL_ERROR
            )  # a content-length, say, that the message does not have
            return "reset", f"reset with code {answer.reset}" if fault else ""
        return ("goaway" if answer.gone else "closed"), "no answer" if case.whole and not answer.gone else ""

    def _faces(self) -> Any:
        """Return the faces in the control image, sent as it is and in a form."""
        answers = []
        for request in (
            {"content": self._control, "headers": {"Content-Type": "image/webp"}},
            {"files": {"image": self._control}},
        ):
            response = httpx.post(f"{self._stack.url}/predict", timeout=TIMEOUT, **request)
            answers.append((response.status_code, response.json().get("results")))
        return answers

    def _pids(self) -> set[int]:
        return {process.pid for process in self._stack.processes()}

    def _logged_errors(self) -> list[str]:
        """Return the errors in the logs of all parts."""
        lines = [(self._stack.logs / f"{part}.log").read_text().splitlines() for part in ("inference", "web", "envoy")]
        return sorted({line[:1000] for part in lines for line in part if _is_error(line)})[:100]


def _is_error(line: str) -> bool:
    try:
        entry = json.loads(line)
    except ValueError:
        return True
    return entry.get("level", "").upper() in ("ERROR", "CRITICAL") or "exc_info" in entry


def main() -> int:
    """Start a stack and fuzz it; exit with 1 if there are faults."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--case", type=int, help="send only the case with this number")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="facet-fuzz-"))
    print(f"seed {arguments.seed}; logs and failed cases are in {folder}", file=sys.stderr, flush=True)
    numbers = range(arguments.cases) if arguments.case is None else [arguments.case]
    with running_stack(folder / "logs", "--workers=2") as stack:  # one worker would reject batches of 8 callers as busy
        report = Fuzz(stack).run(arguments.seed, numbers)
    for outcome in report.faults:
        (folder / f"{outcome.case.name}.bin").write_bytes(outcome.case.wire)
        print(f"{outcome.case.name} ({outcome.case.kind}): {outcome.fault}", file=sys.stderr)
    print(json.dumps(report.figures(), indent=1))
    return 1 if report.faults or report.stack_faults else 0


if __name__ == "__main__":
    sys.exit(main())
