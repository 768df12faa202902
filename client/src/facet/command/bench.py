"""`facet bench`."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from facet.command.detector import open_detector
from facet.command.display import Display
from facet.command.inputs import list_inputs, read_stdin
from facet.command.latency_report import as_text, check_plot, draw
from facet.command.load import Request, open_loop, report
from facet.command.options import (
    EXIT_BROKEN_OFF,
    EXIT_NO_SERVICE,
    EXIT_SOME_FAILED,
    Grpc,
    Key,
    MinFaceSize,
    Quiet,
    Timeout,
    Url,
    check_where,
    wrong,
)
from facet.errors import FacetError, InvalidOption, ServiceUnavailable, WrongAddress
from facet.http_messages import DEFAULT_URL
from facet.messages import Options
from facet.retries import DEFAULT_TIMEOUT

MOST_BYTES = 256_000_000

Paths = Annotated[list[str], typer.Argument(metavar="PATH...", help="Pictures, which are sent in turn.")]
Rate = Annotated[float, typer.Option(min=0.01, help="Requests a second.")]
Duration = Annotated[float, typer.Option(min=0.1, help="Seconds that are measured.")]
WarmUp = Annotated[float, typer.Option(min=0.0, help="Seconds before them that are not.")]
InFlight = Annotated[int, typer.Option(min=1, help="Requests under way at a time, at most.")]
AsJson = Annotated[bool, typer.Option("--json", help="The figures as one JSON object.")]
Plot = Annotated[Path | None, typer.Option(metavar="FILE", help="Draw them: FILE.png or FILE.svg.")]


def bench(
    context: typer.Context,
    paths: Paths,
    *,
    rate: Rate = 10.0,
    duration: Duration = 10.0,
    warm_up: WarmUp = 1.0,
    in_flight: InFlight = 256,
    url: Url = DEFAULT_URL,
    grpc: Grpc = None,
    key: Key = None,
    min_face_size: MinFaceSize = None,
    timeout: Timeout = DEFAULT_TIMEOUT,
    as_json: AsJson = False,
    plot: Plot = None,
    quiet: Quiet = False,
) -> None:
    """Measure latency at a given rate: requests leave when planned, whether or not the service keeps up.

    \b
    facet bench photo.jpg --rate 50 --duration 30
    facet bench photos --rate 20 --grpc localhost:8080 --json
    facet bench photo.jpg --rate 80 --plot latency.svg

    Latency counts from the time at which a request was to leave, so that the waiting of those behind a slow one is
    not left out, nor that of those who waited in vain. Nothing is tried twice. Raise the rate until the high
    percentiles run away: that is what the service bears.

    The exit code is 0 when all pictures were examined, 1 when some were not, 2 when the command line is wrong, 3
    without a service, and 130 after Ctrl-C, which ends the measuring: the figures are those until then.
    """  # noqa: D301 - click keeps the lines of a paragraph that begins with a backspace
    check_where(context, grpc=grpc)
    if plot:
        check_plot(plot)
    pictures = _read(paths)
    options: Options = {"min_face_size": min_face_size}

    async def run(after_each: Callable[[Request], None]) -> None:
        async with open_detector(url, grpc, key=key, timeout=timeout, retries=0) as detector:
            await detector.detect(pictures[0], **options)  # or there is nothing to measure
            turns = itertools.cycle(pictures)
            await open_loop(
                lambda: detector.detect(next(turns), **options),
                rate=rate,
                seconds=warm_up + duration,
                in_flight=in_flight,
                send_within=timeout,
                after_each=after_each,
            )

    requests: list[Request] = []
    with Display(round(rate * (warm_up + duration)), what="bench", quiet=quiet) as display:

        def count(request: Request) -> None:
            requests.append(request)
            display.advance(failed=bool(request.code))

        end = _measure(run(count))
    measured = [request for request in requests if request.planned >= warm_up] or requests
    if not measured:
        raise typer.Exit(end)
    found = report(measured, rate)
    typer.echo(json.dumps(asdict(found)) if as_json else as_text(found, measured))
    if plot:
        try:
            draw(plot, measured, found)
        except OSError as error:
            typer.echo(f"facet: {plot}: {error.strerror}", err=True)
            end = end or EXIT_SOME_FAILED
    raise typer.Exit(end or (EXIT_SOME_FAILED if found.errors else 0))


def _measure(run: Coroutine[Any, Any, None]) -> int:
    """Run it to its end, or to Ctrl-C; give the exit code that this means."""
    try:
        asyncio.run(run)
    except (InvalidOption, WrongAddress) as error:
        raise wrong(str(error)) from None
    except FacetError as error:
        typer.echo(f"facet: {error}", err=True)
        raise typer.Exit(EXIT_NO_SERVICE if isinstance(error, ServiceUnavailable) else EXIT_SOME_FAILED) from None
    except KeyboardInterrupt:
        return EXIT_BROKEN_OFF
    return 0


def _read(paths: list[str]) -> list[bytes]:
    pictures = [*map(read_stdin, list_inputs(paths, [], None))]
    if not pictures:
        raise wrong(f"there is no picture in {', '.join(paths)}")
    contents: list[bytes] = []
    room = MOST_BYTES
    for picture in pictures:
        try:
            contents.append(picture.read())
        except OSError as error:
            raise wrong(f"{picture.path}: {error.strerror}") from None
        room -= len(contents[-1])
        if room < 0:
            raise wrong(f"at most {MOST_BYTES // 1_000_000} MB of pictures are kept in memory; name fewer")
    return contents
