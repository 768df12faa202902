"""`facet detect`."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Literal

import typer

from facet.command.display import Display
from facet.command.examining import Drawn, Job, ServiceGone
from facet.command.inputs import STDIN, Input, list_inputs
from facet.command.options import (
    EXIT_BROKEN_OFF,
    EXIT_NO_SERVICE,
    EXIT_SOME_FAILED,
    AsCsv,
    AsJson,
    Grpc,
    Local,
    MaxFaces,
    MinConfidence,
    MinFaceSize,
    Quiet,
    Retries,
    Timeout,
    Url,
    chosen_form,
    wrong,
)
from facet.command.outcomes import Summary, recorder
from facet.command.output import OutputFile
from facet.command.records import NotOurs
from facet.command.service import open_detector
from facet.errors import InvalidOption, WrongAddress
from facet.http_client import DEFAULT_RETRIES, DEFAULT_TIMEOUT, DEFAULT_URL
from facet.messages import DrawOptions, Options

Paths = Annotated[list[str] | None, typer.Argument(metavar="PATH...", help="Files, folders, patterns; - for stdin.")]


def detect(
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

    A picture that cannot be examined has an error of its own; the others go on. Records come in the order of the
    pictures. No file is ever overwritten; with --resume, what FILE or DIR already has is not asked again, but what
    failed is.

    \b
    Exit codes:
      0    all pictures were examined
      1    some picture was not
      2    the command line is wrong
      3    the service cannot be reached
      130  broken off with Ctrl-C
    """  # noqa: D301 - click keeps the lines of a paragraph that begins with a backspace
    options: Options = {"min_face_size": min_face_size, "min_confidence": min_confidence, "max_faces": max_faces}
    drawn = Drawn(annotate, DrawOptions(style=style, labels=labels, format=form, **options)) if annotate else None
    records = chosen_form("path", as_json=as_json, as_csv=as_csv)
    if output and not (records and output.parent.is_dir()):
        raise wrong("--output needs --json or --csv, and a folder that exists")
    if resume and not (output or drawn):
        raise wrong("--resume needs --output FILE or --annotate DIR, where it finds what is done")
    pictures = _pictures(paths or [], files_from, annotate)
    file = OutputFile(output, records) if output and records else None
    left = _left(pictures, file, drawn, resume=resume)
    job = Job(options, drawn, want_faces=records is not None)
    skipped = len(pictures) - len(left)
    with Display(len(pictures), what="detect", quiet=quiet, done=skipped) as display:
        try:
            with file.appending() if file else nullcontext(display.write) as write:
                if records and not file:
                    write(records.header)
                record = recorder(records, write, display)

                async def run() -> Summary:
                    detector = open_detector(url, grpc, local=local, timeout=timeout, retries=retries)
                    return await job.run(detector, left, concurrency, record)

                summary = asyncio.run(run())
        except (InvalidOption, WrongAddress, ImportError) as error:
            raise wrong(str(error)) from None
        except ServiceGone as error:
            raise _end(display, str(error), EXIT_NO_SERVICE, resumable=bool(file or drawn)) from None
        except KeyboardInterrupt:
            raise _end(display, "broken off", EXIT_BROKEN_OFF, resumable=bool(file or drawn)) from None
        except OSError as error:
            if file is None:  # a closed pipe
                raise
            raise _end(display, f"{output}: {error.strerror}", EXIT_SOME_FAILED, resumable=True) from None
    display.remark(f"{summary}" + (f"; {skipped:,} had been done before" if skipped else ""))
    raise typer.Exit(EXIT_SOME_FAILED if summary.failed else 0)


def _pictures(paths: list[str], files_from: str | None, leave_out: Path | None) -> list[Input]:
    """List the pictures, of which there is at least one."""
    if leave_out and any(Path(path).resolve() == leave_out.resolve() for path in paths):
        raise wrong(f"{leave_out} holds the pictures themselves; choose another folder for --annotate")
    if STDIN in paths and files_from == STDIN:
        raise wrong("standard input is either a picture or a list")
    try:
        listed = (
            (sys.stdin.buffer.read() if files_from == STDIN else Path(files_from).read_bytes()) if files_from else b""
        )
    except OSError as error:
        raise wrong(f"{files_from}: {error.strerror}") from None
    pictures = list_inputs(paths, filter(None, os.fsdecode(listed).splitlines()), leave_out)
    if not pictures:
        raise wrong(f"there is no picture in {', '.join(paths)}" if paths else "name a picture, a folder or a pattern")
    return pictures


def _left(pictures: list[Input], file: OutputFile | None, drawn: Drawn | None, *, resume: bool) -> list[Input]:
    """Say which pictures are still to be done, and see to it that nothing is overwritten."""
    targets = _targets(pictures, drawn, resume=resume) if drawn else {}
    if file is None:
        return [picture for picture in pictures if not (resume and drawn and targets[picture.path].exists())]
    if file.path.exists() and not (resume and file.path.is_file()):
        raise wrong(f"{file.path} exists; --resume goes on with a file of records, or choose another name")
    try:
        done = file.resume(lambda path: path not in targets or targets[path].exists())
    except (NotOurs, OSError) as error:
        raise wrong(f"{file.path} cannot be gone on with: {error}") from None
    return [picture for picture in pictures if picture.path not in done]


def _targets(pictures: list[Input], drawn: Drawn, *, resume: bool) -> dict[str, Path]:
    """Say for each picture where its drawn one goes, which is no place that is taken."""
    sources = {Path(picture.path).resolve() for picture in pictures}
    targets: dict[str, Path] = {}
    owners: dict[Path, str] = {}
    for picture in pictures:
        target = targets[picture.path] = drawn.target(picture)
        if target.resolve() in sources:
            raise wrong(f"{target} is one of the pictures themselves; choose another folder for --annotate")
        if (other := owners.setdefault(target, picture.path)) != picture.path:
            raise wrong(f"{target} would be written for {other} and for {picture.path}; draw them one after the other")
        if target.exists() and not resume:
            raise wrong(f"{target} exists; --resume skips what is done, or choose another folder")
    return targets


def _end(display: Display, why: str, code: int, *, resumable: bool) -> typer.Exit:
    """Say how to go on."""
    again = ["facet", *sys.argv[1:]] + ([] if "--resume" in sys.argv else ["--resume"])
    display.remark(f"facet: {why}" + (f"; to go on: {shlex.join(again)}" if resumable else ""), always=True)
    return typer.Exit(code)
