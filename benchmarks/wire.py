"""Load over HTTP/1.1 that costs little CPU time, since it shares the CPUs with what it measures.

A request is encoded once. Open-loop load is sent at random times that do not depend on the answers (a Poisson
process: many independent users); closed-loop load sends the next request after the last answer.
"""

import asyncio
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from facet.command.load import Request

TIMEOUT = 30.0  # seconds, above facet's deadline


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer. The names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


Judge = Callable[[Answer], str]
"""Returns what is wrong with an answer, or nothing if it is right."""


def post(path: str, body: bytes, content_type: str, **headers: str) -> bytes:
    """Encode a request."""
    lines = [f"POST {path} HTTP/1.1", "Host: facet", f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def same_results(expected: object) -> Judge:
    """Return a judge that accepts a 200 with exactly these results."""

    def judge(answer: Answer) -> str:
        if answer.status != 200:  # noqa: PLR2004
            return f"{answer.status} {_code(answer.body)}"
        return "" if json.loads(answer.body)["results"] == expected else "other faces"

    return judge


def _code(body: bytes) -> str:
    try:
        return str(json.loads(body)["code"])
    except (ValueError, KeyError, TypeError):
        return repr(body[:80])


class _Connection(asyncio.Protocol):
    """A keep-alive connection with one request at a time. It reads answers with a Content-Length."""

    def __init__(self) -> None:
        self.open = False
        self._transport: asyncio.Transport
        self._received = bytearray()
        self._answer: asyncio.Future[Answer]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type checker
        self._transport = transport
        self.open = True
        self._answer = asyncio.get_running_loop().create_future()
        self._answer.cancel()  # there is no request yet

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        if not self._answer.done():
            self._answer.set_exception(exc or ConnectionError("closed before the answer"))

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, rest = self._received.partition(b"\r\n\r\n")
        if not separator:
            return
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        if len(rest) < int(headers["content-length"]):
            return
        self._received.clear()
        if headers.get("connection") == "close":
            self.close()
        if not self._answer.done():
            self._answer.set_result(Answer(int(status.split(" ")[1]), headers, bytes(rest)))

    async def ask(self, request: bytes) -> Answer:
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        self.open = False
        self._transport.close()


class Wire:
    """Connections to one address, one for each request in flight. For one event loop."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "", parts.port or 80)
        self._idle: list[_Connection] = []

    async def ask(self, request: bytes) -> Answer:
        """Send a request and return its answer. Raises OSError when there is none."""
        connection = await self._connection()
        try:
            answer = await connection.ask(request)
        except BaseException:
            connection.close()
            raise
        if connection.open:
            self._idle.append(connection)
        return answer

    async def judged(self, request: bytes, judge: Judge) -> str:
        """Send a request and return what is wrong with its answer."""
        try:
            async with asyncio.timeout(TIMEOUT):
                return judge(await self.ask(request))
        except TimeoutError:
            return f"no answer in {TIMEOUT:g} s"
        except OSError as error:
            return f"no answer: {error}"
        except (ValueError, KeyError, TypeError) as error:  # not an answer of facet
            return f"unreadable: {error!r}"

    async def _connection(self) -> _Connection:
        while self._idle:
            if (connection := self._idle.pop()).open:
                return connection
        _, made = await asyncio.get_running_loop().create_connection(_Connection, *self._address)
        return made

    def close(self) -> None:
        """Close the idle connections."""
        for connection in self._idle:
            connection.close()


@dataclass
class OpenLoad:
    """Sends `rate` requests per second on average while its block runs, and waits for the last answers at the end.

    They are sent at random times, or with `even` at regular ones, so that fewer coincide.
    """

    url: str
    request: bytes
    judge: Judge
    rate: float
    seed: int = 1
    even: bool = False
    requests: list[Request] = field(default_factory=list)
    """One for each finished request; its `code` is the verdict of the judge."""

    def __enter__(self) -> Self:
        self._running = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        self._running.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    @property
    def wrong(self) -> Counter[str]:
        """The faults, and their counts."""
        return Counter(request.code for request in self.requests if request.code)

    def since(self, moment: float) -> list[Request]:
        """Return the requests planned after this time of time.monotonic()."""
        return [request for request in self.requests if self._began + request.planned >= moment]

    async def _run(self) -> None:
        gaps = random.Random(self.seed)  # noqa: S311 - no secret
        wire, planned = Wire(self.url), 0.0
        self._loop, self._stop, self._began = asyncio.get_running_loop(), asyncio.Event(), time.monotonic()
        self._running.set()
        async with asyncio.TaskGroup() as tasks:
            while not await self._over(planned := planned + self._gap(gaps)):
                tasks.create_task(self._one(wire, planned))
        wire.close()

    def _gap(self, gaps: random.Random) -> float:
        return 1 / self.rate if self.even else gaps.expovariate(self.rate)

    async def _over(self, planned: float) -> bool:
        """Wait for the next request or the end; return True at the end."""
        try:
            async with asyncio.timeout(self._began + planned - time.monotonic()):
                await self._stop.wait()
        except TimeoutError:
            return False
        return True

    async def _one(self, wire: Wire, planned: float) -> None:
        late = time.monotonic() - self._began - planned
        code = await wire.judged(self.request, self.judge)
        self.requests.append(Request(planned, late, time.monotonic() - self._began - planned, code))


def closed_load(url: str, request: bytes, judge: Judge, *, callers: int, seconds: float) -> list[Request]:
    """Let callers send requests for this many seconds, at least one each, and return the finished requests."""

    async def caller(wire: Wire, began: float) -> list[Request]:
        done: list[Request] = []
        while (sent := time.monotonic()) < began + seconds or not done:
            code = await wire.judged(request, judge)
            done.append(Request(sent - began, 0.0, time.monotonic() - sent, code))
        return done

    async def run() -> list[Request]:
        wire, began = Wire(url), time.monotonic()
        by_caller = await asyncio.gather(*(caller(wire, began) for _ in range(callers)))
        wire.close()
        return [each for done in by_caller for each in done]

    return asyncio.run(run())


def capacity(url: str, request: bytes, judge: Judge, *, callers: int = 8, seconds: float = 5.0) -> float:
    """Measure the requests per second under constant load. Raises ValueError."""
    requests = closed_load(url, request, judge, callers=callers, seconds=seconds)
    if wrong := Counter(each.code for each in requests if each.code):
        raise ValueError(f"wrong answers: {wrong}")
    return len(requests) / max(each.planned + each.latency for each in requests)
