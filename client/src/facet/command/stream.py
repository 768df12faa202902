"""`facet stream`."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from facet import results
from facet.command import options
from facet.command.display import Display
from facet.command.results import Result, Summary, recorder
from facet.errors import FacetError, InvalidOption, WrongAddress
from facet.grpc_client import GrpcClient
from facet.http_messages import DEFAULT_URL
from facet.messages import Options

if TYPE_CHECKING:
    from facet.command.video import Frame

Source = Annotated[str, typer.Argument(metavar="VIDEO", help="A file, a camera such as /dev/video0, or an address.")]
Every = Annotated[int, typer.Option(min=1, help="Examine every Nth frame.")]
Fps = Annotated[float | None, typer.Option(min=0.001, help="Examine this many frames per second.")]
Out = Annotated[Path | None, typer.Option(metavar="OUT", help="Write drawn frames to OUT.mp4, or to a folder.")]


def stream(
    context: typer.Context,
    source: Source,
    *,
    every: Every = 1,
    fps: Fps = None,
    as_json: options.AsJson = False,
    as_csv: options.AsCsv = False,
    annotate: Out = None,
    style: options.Style = "boxes",
    url: options.Url = DEFAULT_URL,
    grpc: options.Grpc = None,
    key: options.Key = None,
    min_face_size: options.MinFaceSize = None,
    min_confidence: options.MinConfidence = None,
    max_faces: options.MaxFaces = None,
    quiet: options.Quiet = False,
) -> None:
    """Find the faces in the frames of a video or a camera, over gRPC.

    \b
    facet stream holiday.mp4 --fps 2 --csv > faces.csv
    facet stream holiday.mp4 --annotate hidden.mp4 --style blur
    facet stream /dev/video0 --json | jq -c '{seconds, faces: (.faces | length)}'

    No frame of a file is lost. A camera, a pipe or an address does not wait: frames that arrive while the service is
    busy are dropped. Ctrl-C ends a camera. When a worker is replaced or lost, another one continues with the first
    unanswered frame. Without --grpc, gRPC uses the address in --url.

    The exit codes are those of `facet detect`.
    """  # noqa: D301 - click keeps the line breaks of a paragraph that begins with a backspace
    options.check_target(context, grpc=grpc)
    _check(every, fps, annotate)
    form = options.chosen_form("frame", "seconds", as_json=as_json, as_csv=as_csv)
    chosen: Options = {"min_face_size": min_face_size, "min_confidence": min_confidence, "max_faces": max_faces}
    try:
        from facet.command.video import LatestFrame, Video, drawn_to  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise options.usage_error(str(error)) from None

    video, summary, end = Video(source, every=every, fps=fps), Summary("frame"), 0
    frames: Iterator[Frame] = LatestFrame(iter(video)) if video.live else iter(video)
    with Display(None, what="stream", quiet=quiet) as display:
        try:
            display.expect(video.count())
            if form:
                display.write(form.header)
            record = recorder(form, display.write, display)
            drawing = drawn_to(annotate) if annotate else nullcontext()
            with GrpcClient(grpc or url, key=key) as client, drawing as drawn:
                for frame, answer in _answers(client, frames, chosen, style if drawn else None):
                    if drawn and isinstance(answer, results.Annotated):
                        drawn.write(frame, answer.picture)
                    record(result := _result(frame, answer))
                    summary.add(result)
        except (InvalidOption, WrongAddress) as error:
            raise options.usage_error(str(error)) from None
        except FacetError as error:
            display.remark(f"facet: {error}", always=True)
            end = options.exit_code(error)
        except KeyboardInterrupt:
            end = 0 if video.live else options.EXIT_INTERRUPTED
    dropped = f", {frames.dropped:,} dropped" if isinstance(frames, LatestFrame) else ""
    if summary.count:
        display.remark(f"{summary}{dropped}")
    raise typer.Exit(end or (options.EXIT_SOME_FAILED if summary.failed else 0))


def _check(every: int, fps: float | None, annotate: Path | None) -> None:
    if every > 1 and fps:
        raise options.usage_error("--every and --fps both choose frames; use one of them")
    if annotate and annotate.exists():
        raise options.usage_error(f"{annotate} exists; choose another name")


Answer = results.Detection | results.Annotated | FacetError


def _answers(
    client: GrpcClient, frames: Iterator[Frame], chosen: Options, style: Literal["boxes", "blur"] | None
) -> Iterator[tuple[Frame, Answer]]:
    """Yield each frame with its answer. Raises InvalidOption when an option is invalid for every frame."""
    sent: deque[Frame] = deque()

    def images() -> Iterator[bytes]:
        for frame in frames:
            sent.append(frame)
            yield frame.jpeg()

    answers: Iterator[Answer]
    answers = client.annotate_stream(images(), style=style, **chosen) if style else client.stream(images(), **chosen)
    for answer in answers:
        if isinstance(answer, InvalidOption):
            raise answer
        yield sent.popleft(), answer


def _result(frame: Frame, answer: Answer) -> Result:
    name, keys = f"frame {frame.number} ({frame.seconds:.2f} s)", (frame.number, round(frame.seconds, 3))
    if isinstance(answer, FacetError):
        return Result(name, error=answer, keys=keys)
    detection = answer.detection if isinstance(answer, results.Annotated) else answer
    return Result(name, detection, len(detection.faces) if detection else 0, keys=keys)
