"""`facet stream`."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from facet import results
from facet.command.display import Display
from facet.command.options import (
    EXIT_BROKEN_OFF,
    EXIT_NO_SERVICE,
    EXIT_SOME_FAILED,
    AsCsv,
    AsJson,
    Grpc,
    Key,
    MaxFaces,
    MinConfidence,
    MinFaceSize,
    Quiet,
    Url,
    check_where,
    chosen_form,
    wrong,
)
from facet.command.results import Outcome, Summary, recorder
from facet.errors import FacetError, InvalidOption, ServiceUnavailable, WrongAddress
from facet.grpc_client import GrpcClient
from facet.http_messages import DEFAULT_URL
from facet.messages import Options

if TYPE_CHECKING:
    from facet.command.video import Frame

Source = Annotated[str, typer.Argument(metavar="VIDEO", help="A file, a camera such as /dev/video0, or an address.")]
Every = Annotated[int, typer.Option(min=1, help="Take every so manyeth frame.")]
Fps = Annotated[float | None, typer.Option(min=0.001, help="Take so many frames a second.")]
Out = Annotated[Path | None, typer.Option(metavar="OUT", help="Write drawn frames: OUT.mp4, or a folder of pictures.")]
Style = Annotated[Literal["boxes", "blur"], typer.Option(help="What is drawn; blur hides the faces.")]


def stream(
    context: typer.Context,
    source: Source,
    *,
    every: Every = 1,
    fps: Fps = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    annotate: Out = None,
    style: Style = "boxes",
    url: Url = DEFAULT_URL,
    grpc: Grpc = None,
    key: Key = None,
    min_face_size: MinFaceSize = None,
    min_confidence: MinConfidence = None,
    max_faces: MaxFaces = None,
    quiet: Quiet = False,
) -> None:
    """Find the faces in the frames of a video or a camera, over gRPC.

    \b
    facet stream holiday.mp4 --fps 2 --csv > faces.csv
    facet stream holiday.mp4 --annotate hidden.mp4 --style blur
    facet stream /dev/video0 --json | jq -c '{seconds, faces: (.faces | length)}'

    Of a file no frame is lost; of a camera, or whatever else does not wait, those that come while the service is
    busy are dropped. Ctrl-C ends a camera. When a worker is replaced or lost, the next one goes on with the frame that
    was not answered. Without --grpc the service is asked at --url, which speaks both.

    The exit codes are those of `facet detect`.
    """  # noqa: D301 - click keeps the lines of a paragraph that begins with a backspace
    check_where(context, grpc=grpc)
    _check(every, fps, annotate)
    form = chosen_form("frame", "seconds", as_json=as_json, as_csv=as_csv)
    options: Options = {"min_face_size": min_face_size, "min_confidence": min_confidence, "max_faces": max_faces}
    try:
        from facet.command.video import Newest, Video, drawn_to  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise wrong(str(error)) from None

    video, summary, end = Video(source, every=every, fps=fps), Summary("frame"), 0
    frames: Iterator[Frame] = Newest(iter(video)) if video.live else iter(video)
    with Display(None, what="stream", quiet=quiet) as display:
        try:
            display.expect(video.count())
            if form:
                display.write(form.header)
            record = recorder(form, display.write, display)
            drawing = drawn_to(annotate) if annotate else nullcontext()
            with GrpcClient(grpc or url, key=key) as client, drawing as drawn:
                for frame, answer in _answers(client, frames, options, style if drawn else None):
                    if drawn and isinstance(answer, results.Annotated):
                        drawn.write(frame, answer.picture)
                    record(outcome := _outcome(frame, answer))
                    summary.add(outcome)
        except (InvalidOption, WrongAddress) as error:
            raise wrong(str(error)) from None
        except FacetError as error:
            display.remark(f"facet: {error}", always=True)
            end = EXIT_NO_SERVICE if isinstance(error, ServiceUnavailable) else EXIT_SOME_FAILED
        except KeyboardInterrupt:
            end = 0 if video.live else EXIT_BROKEN_OFF
    dropped = f", {frames.dropped:,} dropped" if isinstance(frames, Newest) else ""
    if summary.count:
        display.remark(f"{summary}{dropped}")
    raise typer.Exit(end or (EXIT_SOME_FAILED if summary.failed else 0))


def _check(every: int, fps: float | None, annotate: Path | None) -> None:
    if every > 1 and fps:
        raise wrong("--every and --fps both choose frames; give one of them")
    if annotate and annotate.exists():
        raise wrong(f"{annotate} exists; choose another name")


Answer = results.Detection | results.Annotated | FacetError


def _answers(
    client: GrpcClient, frames: Iterator[Frame], options: Options, style: Literal["boxes", "blur"] | None
) -> Iterator[tuple[Frame, Answer]]:
    """Give each frame with its answer. Raises InvalidOption when the service takes the options for no frame."""
    sent: deque[Frame] = deque()

    def pictures() -> Iterator[bytes]:
        for frame in frames:
            sent.append(frame)
            yield frame.jpeg()

    answers: Iterator[Answer]
    answers = (
        client.annotate_stream(pictures(), style=style, **options) if style else client.stream(pictures(), **options)
    )
    for answer in answers:
        if isinstance(answer, InvalidOption):
            raise answer
        yield sent.popleft(), answer


def _outcome(frame: Frame, answer: Answer) -> Outcome:
    name, keys = f"frame {frame.number} ({frame.seconds:.2f} s)", (frame.number, round(frame.seconds, 3))
    if isinstance(answer, FacetError):
        return Outcome(name, error=answer, keys=keys)
    detection = answer.detection if isinstance(answer, results.Annotated) else answer
    return Outcome(name, detection, len(detection.faces) if detection else 0, keys=keys)
