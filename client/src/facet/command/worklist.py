"""What a run of `facet detect` is to do: which pictures, and what of them is done already. Nothing is asked here."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from facet.command.batch import Drawn
from facet.command.inputs import STDIN, Input, list_inputs
from facet.command.options import wrong
from facet.command.output import OutputFile, is_there
from facet.command.records import NotOurs


def list_pictures(paths: list[str], files_from: str | None, leave_out: Path | None) -> list[Input]:
    """List the pictures, of which there is at least one."""
    if leave_out and any(Path(path).resolve() == leave_out.resolve() for path in paths):
        raise wrong(f"{leave_out} holds the pictures themselves; choose another folder for --annotate")
    if STDIN in paths and files_from == STDIN:
        raise wrong("standard input is either a picture or a list")
    try:
        listed = _read_list(files_from) if files_from else b""
    except OSError as error:
        raise wrong(f"{files_from}: {error.strerror}") from None
    pictures = list_inputs(paths, filter(None, os.fsdecode(listed).splitlines()), leave_out)
    if not pictures:
        raise wrong(f"there is no picture in {', '.join(paths)}" if paths else "name a picture, a folder or a pattern")
    return pictures


def _read_list(files_from: str) -> bytes:
    return sys.stdin.buffer.read() if files_from == STDIN else Path(files_from).read_bytes()


def what_is_left(pictures: list[Input], file: OutputFile | None, drawn: Drawn | None, *, resume: bool) -> list[Input]:
    """Say which pictures are still to be done, and see to it that nothing is overwritten."""
    targets = _targets(pictures, drawn) if drawn else {}
    if file is None:
        return [picture for picture in pictures if not (drawn and drawn.is_done(picture))]
    if not file.path.exists():
        return pictures
    if not (resume and file.path.is_file()):
        raise wrong(f"{file.path} exists; --resume goes on with a file of records, or choose another name")
    try:
        done = file.resume(lambda path: path not in targets or is_there(targets[path]))
    except (NotOurs, OSError) as error:
        raise wrong(f"{file.path} cannot be gone on with: {error}") from None
    return [picture for picture in pictures if picture.path not in done]


def _targets(pictures: list[Input], drawn: Drawn) -> dict[str, Path]:
    """Say for each picture where its drawn one goes, which is no place that is taken."""
    sources = {Path(picture.path).resolve() for picture in pictures}
    targets: dict[str, Path] = {}
    owners: dict[Path, str] = {}
    for picture in pictures:
        if Path(picture.mirror).is_relative_to(os.pardir):
            raise wrong(f"{picture.path} leads out of the folder that it is searched from; name that other folder")
        target = targets[picture.path] = drawn.target(picture)
        if target.resolve() in sources:
            raise wrong(f"{target} is one of the pictures themselves; choose another folder for --annotate")
        if (other := owners.setdefault(target, picture.path)) != picture.path:
            raise wrong(f"{target} would be written for {other} and for {picture.path}; draw them one after the other")
        if target.exists() and not drawn.resume:
            raise wrong(f"{target} exists; --resume skips what is done, or choose another folder")
    return targets
