"""`facet bench`."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from facet.command.display import Display
from facet.command.inputs import list_inputs
from facet.command.load import Report, Shot, histogram, open_loop, percentile, report
from facet.command.options import (
    EXIT_BROKEN_OFF,
    EXIT_NO_SERVICE,
    EXIT_SOME_FAILED,
    Grpc,
    MinFaceSize,
    Quiet,
    Timeout,
    Url,
    check_where,
    wrong,
)
from facet.command.service import open_detector
from facet.errors import FacetError, ServiceUnavailable, WrongAddress
from facet.http_client import DEFAULT_TIMEOUT, DEFAULT_URL
from facet.messages import Options

BAR = 40  # characters of the histogram's longest bar

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
    not left out. Nothing is tried twice. Raise the rate until the high percentiles run away: that is what the
    service bears.

    The exit code is 0 when all pictures were examined, 1 when some were not, 3 without a service.
    """  # noqa: D301 - click keeps the lines of a paragraph that begins with a backspace
    check_where(context, grpc=grpc)
    pictures = _read(paths)
    options: Options = {"min_face_size": min_face_size}

    async def run(display: Display) -> list[Shot]:
        async with open_detector(url, grpc, timeout=timeout, retries=0) as detector:
            await detector.detect(pictures[0], **options)  # or there is nothing to measure
            turns = itertools.cycle(pictures)
            return await open_loop(
                lambda: detector.detect(next(turns), **options),
                rate=rate,
                seconds=warm_up + duration,
                in_flight=in_flight,
                patience=timeout,
                after_each=lambda shot: display.advance(failed=bool(shot.code)),
            )

    try:
        with Display(round(rate * (warm_up + duration)), what="bench", quiet=quiet) as display:
            shots = asyncio.run(run(display))
    except WrongAddress as error:
        raise wrong(str(error)) from None
    except FacetError as error:
        typer.echo(f"facet: {error}", err=True)
        raise typer.Exit(EXIT_NO_SERVICE if isinstance(error, ServiceUnavailable) else EXIT_SOME_FAILED) from None
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_BROKEN_OFF) from None
    measured = [shot for shot in shots if shot.planned >= warm_up] or shots
    found = report(measured, rate)
    typer.echo(json.dumps(asdict(found)) if as_json else as_text(found, measured))
    if plot:
        draw(plot, measured, found)
    raise typer.Exit(EXIT_SOME_FAILED if found.errors else 0)


def _read(paths: list[str]) -> list[bytes]:
    pictures = list_inputs(paths, [], None)
    if not pictures:
        raise wrong(f"there is no picture in {', '.join(paths)}")
    try:
        return [picture.read() for picture in pictures]
    except OSError as error:
        raise wrong(f"{error.filename}: {error.strerror}") from None


def as_text(found: Report, shots: Sequence[Shot]) -> str:
    """Put the figures and a histogram into lines."""
    rates = f"{found.achieved_rate:g} of {found.rate:g} a second"
    lines = [f"{found.examined} of {found.requests} pictures examined, {rates}"]
    lines += [f"{count} x {code}" for code, count in found.errors.items()]
    good = [shot.latency for shot in shots if not shot.code]
    if good:
        lines += ["", "percentile  latency"]
        lines += [f"{percent:>10}  {ms:.1f} ms" for percent, ms in found.latency_ms.items()]
        counted = histogram(good)
        longest = max(count for _, _, count in counted)
        lines += ["", *(_bar(low, high, count, longest) for low, high, count in counted)]
    if not found.kept_up:
        half, most = found.late_ms["50"], found.late_ms["99"]
        lines += ["", f"requests left late, half of them by {half:.1f} ms or more, one in a hundred by {most:.1f} ms:"]
        lines += ["there was no CPU left here, or no place among --in-flight"]
    return "\n".join(lines)


def _bar(low: float, high: float, count: int, longest: int) -> str:
    return f"{1000 * low:8.1f} - {1000 * high:8.1f} ms {'█' * max(count > 0, round(BAR * count / longest))} {count}"


def draw(path: Path, shots: Sequence[Shot], found: Report) -> None:
    """Draw latency over time and by percentile."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - an extra, and takes a second
    except ModuleNotFoundError:
        raise wrong("--plot needs matplotlib: pip install './client[plot]' in a clone of facet") from None
    figure = Figure(figsize=(10, 4), layout="constrained")
    over_time, by_percentile = figure.subplots(1, 2)
    good, failed = [s for s in shots if not s.code], [s for s in shots if s.code]
    for some, style, label in ((good, ".", "examined"), (failed, "x", "failed")):
        if some:
            over_time.plot([s.planned for s in some], [1000 * s.latency for s in some], style, label=label)
    over_time.set(xlabel="planned time, s", ylabel="latency, ms", ylim=(0, None))
    over_time.legend()
    ordered = sorted(s.latency for s in good)
    if ordered:
        shares = [100 - 100 / 10 ** (step / 20) for step in range(61)]  # 0 to 99.9 %, as many points for each nine
        by_percentile.plot([100 / (100 - p) for p in shares], [1000 * percentile(ordered, p) for p in shares])
    by_percentile.set(xscale="log", xlabel="percentile", ylabel="latency, ms", ylim=(0, None))
    by_percentile.set_xticks([1, 2, 10, 100, 1000], ["0", "50", "90", "99", "99.9"])
    figure.suptitle(f"{found.rate:g} requests a second, {found.examined} of {found.requests} examined")
    figure.savefig(path)
