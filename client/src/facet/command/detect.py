"""`facet detect`."""

import asyncio
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Literal

import typer

from facet.command import options
from facet.command.batch import Batch, DrawnFolder, ServiceGone
from facet.command.detector import open_detector
from facet.command.display import Display
from facet.command.inputs import read_stdin
from facet.command.output import OutputFailed, OutputFile
from facet.command.results import Result, Summary, recorder
from facet.command.worklist import list_images, remaining
from facet.errors import InvalidOption, LocalSetupError, WrongAddress
from facet.http_messages import DEFAULT_URL
from facet.messages import DrawOptions, Options
from facet.retries import DEFAULT_RETRIES, DEFAULT_TIMEOUT

Paths = Annotated[list[str] | None, typer.Argument(metavar="PATH...", help="Files, folders, patterns, or - for stdin.")]
Annotate = Annotated[Path | None, typer.Option(metavar="DIR", help="Write the drawn images to DIR.")]
Labels = Annotated[bool, typer.Option(help="Write the confidence beside each box.")]
ImageFormat = Annotated[Literal["jpeg", "png"], typer.Option("--format", help="The format of the drawn images.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the records to FILE.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an earlier run.")]
FilesFrom = Annotated[str | None, typer.Option(metavar="FILE", help="Also read the files listed in FILE, or -.")]
Local = Annotated[bool, typer.Option("--local", help="Run the detector in this process, without a service.")]
Concurrency = Annotated[int, typer.Option("--concurrency", "-c", min=1, help="Images examined at the same time.")]
Retries = Annotated[int, typer.Option(min=0, help="Retries while the service is busy or away.")]


def detect(
    context: typer.Context,
    paths: Paths = None,
    *,
    as_json: options.AsJson = False,
    as_csv: options.AsCsv = False,
    annotate: Annotate = None,
    style: options.Style = "boxes",
    labels: Labels = True,
    image_format: ImageFormat = "jpeg",
    output: Output = None,
    resume: Resume = False,
    files_from: FilesFrom = None,
    url: options.Url = DEFAULT_URL,
    grpc: options.Grpc = None,
    key: options.Key = None,
    local: Local = False,
    concurrency: Concurrency = 4,
    min_face_size: options.MinFaceSize = None,
    min_confidence: options.MinConfidence = None,
    max_faces: options.MaxFaces = None,
    timeout: options.Timeout = DEFAULT_TIMEOUT,
    retries: Retries = DEFAULT_RETRIES,
    quiet: options.Quiet = False,
) -> None:
    """Find the faces in images: files, folders with their subfolders, patterns.

    \b
    facet detect photo.jpg
    facet detect photos --csv -o faces.csv             # a folder, with a progress bar
    facet detect photos --csv -o faces.csv --resume    # after Ctrl-C, or for new images
    facet detect 'photos/**/*.png' --json | jq -c .faces
    facet detect photos --annotate hidden --style blur
    facet detect --local - --json < photo.jpg          # without a service

    Links to folders are not followed. An image that cannot be examined gets an error; the others continue. Records
    are in the order of the images. Nothing is overwritten: --resume keeps what FILE or DIR has, examines new and failed
    images, and appends their records.

    \b
    Exit codes:
      0    every image was examined
      1    an image was not examined
      2    the command line is wrong
      3    the service is not reachable, or ten images in a row had no answer
      130  interrupted with Ctrl-C
    """  # noqa: D301 - click keeps the line breaks of a paragraph that begins with a backspace
    chosen: Options = {"min_face_size": min_face_size, "min_confidence": min_confidence, "max_faces": max_faces}
    drawing = DrawOptions(style=style, labels=labels, format=image_format, **chosen)
    drawn = DrawnFolder(annotate, drawing, resume=resume) if annotate else None
    form = options.chosen_form("path", as_json=as_json, as_csv=as_csv)
    options.check_target(context, grpc=grpc, local=local)
    if output and not (form and output.parent.is_dir()):
        raise options.usage_error("--output needs --json or --csv, and a folder that exists")
    if resume and not (output or drawn):
        raise options.usage_error("--resume needs --output FILE or --annotate DIR of the earlier run")
    images = list_images(paths or [], files_from, annotate)
    file = OutputFile(output, form) if output and form else None
    left = remaining(images, file, drawn, resume=resume)
    batch = Batch(chosen, drawn, want_faces=form is not None)
    skipped = len(images) - len(left)

    async def run(record: Callable[[Result], None]) -> Summary:
        detector = open_detector(url, grpc, key=key, local=local, timeout=timeout, retries=retries)
        return await batch.run(detector, left, concurrency, record)

    with (
        Display(len(images), what="detect", quiet=quiet, done=skipped) as display,
        _reported_errors(display, resumable=bool(file or drawn)),
        file.appending() if file else nullcontext(display.write) as write,
    ):
        if form and not file:
            write(form.header)
        left = [*map(read_stdin, left)]
        summary = asyncio.run(run(recorder(form, write, display)))
    display.remark(f"{summary}" + (f"; {skipped:,} already done" if skipped else ""))
    raise typer.Exit(options.EXIT_SOME_FAILED if summary.failed else 0)


@contextmanager
def _reported_errors(display: Display, *, resumable: bool) -> Iterator[None]:
    try:
        yield
    except (InvalidOption, WrongAddress, LocalSetupError, ImportError) as error:
        raise options.usage_error(str(error)) from None
    except ServiceGone as error:
        raise _end(display, str(error), options.EXIT_NO_SERVICE, resumable=resumable) from None
    except KeyboardInterrupt:
        raise _end(display, "interrupted", options.EXIT_INTERRUPTED, resumable=resumable) from None
    except BrokenPipeError:  # the reader of the output has ended
        raise
    except (OutputFailed, OSError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise _end(display, why, options.EXIT_SOME_FAILED, resumable=resumable) from None


def _end(display: Display, why: str, code: int, *, resumable: bool) -> typer.Exit:
    """Report the end, with the command that continues the run."""
    again = ["facet", *sys.argv[1:]] + ([] if "--resume" in sys.argv else ["--resume"])
    display.remark(f"facet: {why}" + (f"; to continue: {shlex.join(again)}" if resumable else ""), always=True)
    return typer.Exit(code)
