"""`facet detect`."""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Literal

import typer

from facet.command.batch import Drawn, Job, ServiceGone
from facet.command.detector import WrongSetUp, open_detector
from facet.command.display import Display
from facet.command.inputs import read_stdin
from facet.command.options import (
    EXIT_BROKEN_OFF,
    EXIT_NO_SERVICE,
    EXIT_SOME_FAILED,
    AsCsv,
    AsJson,
    Grpc,
    Key,
    Local,
    MaxFaces,
    MinConfidence,
    MinFaceSize,
    Quiet,
    Retries,
    Timeout,
    Url,
    check_where,
    chosen_form,
    wrong,
)
from facet.command.output import OutputFile, Unwritable
from facet.command.results import Outcome, Summary, recorder
from facet.command.worklist import list_pictures, what_is_left
from facet.errors import InvalidOption, WrongAddress
from facet.http_messages import DEFAULT_URL
from facet.messages import DrawOptions, Options
from facet.retries import DEFAULT_RETRIES, DEFAULT_TIMEOUT

Paths = Annotated[list[str] | None, typer.Argument(metavar="PATH...", help="Files, folders, patterns; - for stdin.")]


def detect(
    context: typer.Context,
    paths: Paths = None,
    *,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    annotate: Annotated[Path | None, typer.Option(metavar="DIR", help="Write the drawn pictures below DIR.")] = None,
    style: Annotated[Literal["boxes", "blur"], typer.Option(help="What is drawn; blur hides the faces.")] = "boxes",
    labels: Annotated[bool, typer.Option(help="Draw confidences beside the boxes.")] = True,
    form: Annotated[Literal["jpeg", "png"], typer.Option("--format", help="Of the drawn pictures.")] = "jpeg",
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write records here.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an earlier run broke off.")] = False,
    files_from: Annotated[str | None, typer.Option(metavar="FILE", help="Also the files it lists; -: stdin.")] = None,
    url: Url = DEFAULT_URL,
    grpc: Grpc = None,
    key: Key = None,
    local: Local = False,
    concurrency: Annotated[int, typer.Option("--concurrency", "-c", min=1, help="Pictures under way at a time.")] = 4,
    min_face_size: MinFaceSize = None,
    min_confidence: MinConfidence = None,
    max_faces: MaxFaces = None,
    timeout: Timeout = DEFAULT_TIMEOUT,
    retries: Retries = DEFAULT_RETRIES,
    quiet: Quiet = False,
) -> None:
    """Find the faces in pictures: files, folders with all that is below them, patterns.

    \b
    facet detect photo.jpg
    facet detect photos --csv -o faces.csv             # a folder, with a bar
    facet detect photos --csv -o faces.csv --resume    # after Ctrl-C, or for what is new
    facet detect 'photos/**/*.png' --json | jq -c .faces
    facet detect photos --annotate hidden --style blur
    facet detect --local - --json < photo.jpg          # without a service

    Links to folders are not followed. A picture that cannot be examined has an error of its own; the others go on.
    Records come in the order of the pictures. Nothing is overwritten: with --resume, what FILE or DIR already has is
    kept and not asked again; what failed or is new is done, and its records come behind.

    \b
    Exit codes:
      0    all pictures were examined
      1    some picture was not
      2    the command line is wrong
      3    the service cannot be reached, or ten pictures in a row had no answer
      130  broken off with Ctrl-C
    """  # noqa: D301 - click keeps the lines of a paragraph that begins with a backspace
    options: Options = {"min_face_size": min_face_size, "min_confidence": min_confidence, "max_faces": max_faces}
    drawing = DrawOptions(style=style, labels=labels, format=form, **options)
    drawn = Drawn(annotate, drawing, resume=resume) if annotate else None
    records = chosen_form("path", as_json=as_json, as_csv=as_csv)
    check_where(context, grpc=grpc, local=local)
    if output and not (records and output.parent.is_dir()):
        raise wrong("--output needs --json or --csv, and a folder that exists")
    if resume and not (output or drawn):
        raise wrong("--resume needs --output FILE or --annotate DIR, where it finds what is done")
    pictures = list_pictures(paths or [], files_from, annotate)
    file = OutputFile(output, records) if output and records else None
    left = what_is_left(pictures, file, drawn, resume=resume)
    job = Job(options, drawn, want_faces=records is not None)
    skipped = len(pictures) - len(left)

    async def run(record: Callable[[Outcome], None]) -> Summary:
        detector = open_detector(url, grpc, key=key, local=local, timeout=timeout, retries=retries)
        return await job.run(detector, left, concurrency, record)

    with (
        Display(len(pictures), what="detect", quiet=quiet, done=skipped) as display,
        _sentences(display, resumable=bool(file or drawn)),
        file.appending() if file else nullcontext(display.write) as write,
    ):
        if records and not file:
            write(records.header)
        left = [*map(read_stdin, left)]
        summary = asyncio.run(run(recorder(records, write, display)))
    display.remark(f"{summary}" + (f"; {skipped:,} had been done before" if skipped else ""))
    raise typer.Exit(EXIT_SOME_FAILED if summary.failed else 0)


@contextmanager
def _sentences(display: Display, *, resumable: bool) -> Iterator[None]:
    """End the command with a sentence for whatever ends a run early."""
    try:
        yield
    except (InvalidOption, WrongAddress, WrongSetUp, ImportError) as error:
        raise wrong(str(error)) from None
    except ServiceGone as error:
        raise _end(display, str(error), EXIT_NO_SERVICE, resumable=resumable) from None
    except KeyboardInterrupt:
        raise _end(display, "broken off", EXIT_BROKEN_OFF, resumable=resumable) from None
    except Unwritable as error:
        raise _end(display, str(error), EXIT_SOME_FAILED, resumable=resumable) from None
    except BrokenPipeError:  # whoever read the output has seen enough
        raise
    except OSError as error:
        raise _end(display, error.strerror or str(error), EXIT_SOME_FAILED, resumable=resumable) from None


def _end(display: Display, why: str, code: int, *, resumable: bool) -> typer.Exit:
    """Say how to go on."""
    again = ["facet", *sys.argv[1:]] + ([] if "--resume" in sys.argv else ["--resume"])
    display.remark(f"facet: {why}" + (f"; to go on: {shlex.join(again)}" if resumable else ""), always=True)
    return typer.Exit(code)
