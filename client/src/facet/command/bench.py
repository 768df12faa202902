"""`facet bench`."""

import asyncio
import itertools
import json
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from facet.command import options
from facet.command.detector import open_detector
from facet.command.display import Display
from facet.command.inputs import list_inputs, read_stdin
from facet.command.latency_report import as_text, check_plot, draw
from facet.command.load import Request, open_loop, report
from facet.errors import FacetError, InvalidOption, WrongAddress
from facet.http_messages import DEFAULT_URL
from facet.messages import Options
from facet.retries import DEFAULT_TIMEOUT

MAX_BYTES = 256_000_000

Paths = Annotated[list[str], typer.Argument(metavar="PATH...", help="The images; they are sent in turn.")]
Rate = Annotated[float, typer.Option(min=0.01, help="Requests per second.")]
Duration = Annotated[float, typer.Option(min=0.1, help="Seconds to measure.")]
WarmUp = Annotated[float, typer.Option(min=0.0, help="Seconds of load before the measurement.")]
InFlight = Annotated[int, typer.Option(min=1, help="Maximum number of requests in flight.")]
AsJson = Annotated[bool, typer.Option("--json", help="Write the figures as one JSON object.")]
Plot = Annotated[Path | None, typer.Option(metavar="FILE", help="Plot the figures to FILE.png or FILE.svg.")]


def bench(
    context: typer.Context,
    paths: Paths,
    *,
    rate: Rate = 10.0,
    duration: Duration = 10.0,
    warm_up: WarmUp = 1.0,
    in_flight: InFlight = 256,
    url: options.Url = DEFAULT_URL,
    grpc: options.Grpc = None,
    key: options.Key = None,
    min_face_size: options.MinFaceSize = None,
    timeout: options.Timeout = DEFAULT_TIMEOUT,
    as_json: AsJson = False,
    plot: Plot = None,
    quiet: options.Quiet = False,
) -> None:
    """Measure latency at a given rate: requests are sent on schedule, whether or not the service keeps up.

    \b
    facet bench photo.jpg --rate 50 --duration 30
    facet bench photos --rate 20 --grpc localhost:8080 --json
    facet bench photo.jpg --rate 80 --plot latency.svg

    Latency counts from the scheduled time of a request, so it includes the wait behind slow requests. Requests that
    timed out count too. Nothing is retried. To find the capacity of the service, raise the rate until the high
    percentiles keep growing.

    The exit code is 0 when every image was examined, 1 when one was not, 2 when the command line is wrong, and 3
    without a service. Ctrl-C ends the measurement early and shows its figures; the exit code is then 130.
    """  # noqa: D301 - click keeps the line breaks of a paragraph that begins with a backspace
    options.check_target(context, grpc=grpc)
    if plot:
        check_plot(plot)
    images = _read(paths)
    chosen: Options = {"min_face_size": min_face_size}

    async def run(after_each: Callable[[Request], None]) -> None:
        async with open_detector(url, grpc, key=key, timeout=timeout, retries=0) as detector:
            await detector.detect(images[0], **chosen)  # end here if the service does not answer
            turns = itertools.cycle(images)
            await open_loop(
                lambda: detector.detect(next(turns), **chosen),
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
            end = end or options.EXIT_SOME_FAILED
    raise typer.Exit(end or (options.EXIT_SOME_FAILED if found.errors else 0))


def _measure(run: Coroutine[Any, Any, None]) -> int:
    """Run until the end or Ctrl-C, and return the exit code."""
    try:
        asyncio.run(run)
    except (InvalidOption, WrongAddress) as error:
        raise options.usage_error(str(error)) from None
    except FacetError as error:
        typer.echo(f"facet: {error}", err=True)
        raise typer.Exit(options.exit_code(error)) from None
    except KeyboardInterrupt:
        return options.EXIT_INTERRUPTED
    return 0


def _read(paths: list[str]) -> list[bytes]:
    contents: list[bytes] = []
    for image in map(read_stdin, list_inputs(paths, [], None)):
        try:
            contents.append(image.read())
        except OSError as error:
            raise options.usage_error(f"{image.path}: {error.strerror}") from None
        if sum(map(len, contents)) > MAX_BYTES:
            raise options.usage_error(f"the images exceed {MAX_BYTES // 1_000_000} MB of memory; name fewer")
    if not contents:
        raise options.usage_error(f"there is no image in {', '.join(paths)}")
    return contents
