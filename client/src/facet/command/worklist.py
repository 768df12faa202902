"""Which images `facet detect` is to examine, and which of them are already done. It asks no service."""

import os
import sys
from pathlib import Path

from facet.command.batch import DrawnFolder
from facet.command.inputs import STDIN, Input, list_inputs
from facet.command.options import usage_error
from facet.command.output import OutputFile, is_complete
from facet.command.records import UnknownFile


def list_images(paths: list[str], files_from: str | None, drawn_folder: Path | None) -> list[Input]:
    """List the images; there is at least one. Those in the folder of the drawn images are excluded."""
    if drawn_folder and any(Path(path).resolve() == drawn_folder.resolve() for path in paths):
        raise usage_error(f"{drawn_folder} holds the original images; choose another folder for --annotate")
    if STDIN in paths and files_from == STDIN:
        raise usage_error("standard input can be an image or a list, not both")
    try:
        listed = b""
        if files_from:
            listed = sys.stdin.buffer.read() if files_from == STDIN else Path(files_from).read_bytes()
    except OSError as error:
        raise usage_error(f"{files_from}: {error.strerror}") from None
    images = list_inputs(paths, filter(None, os.fsdecode(listed).splitlines()), drawn_folder)
    if not images:
        raise usage_error(
            f"there is no image in {', '.join(paths)}" if paths else "name an image, a folder or a pattern"
        )
    return images


def remaining(images: list[Input], file: OutputFile | None, drawn: DrawnFolder | None, *, resume: bool) -> list[Input]:
    """Return the images that are not done yet, and check that nothing would be overwritten."""
    targets = _targets(images, drawn) if drawn else {}
    if file is None:
        return [image for image in images if not (drawn and drawn.is_done(image))]
    if not file.path.exists():
        return images
    if not (resume and file.path.is_file()):
        raise usage_error(f"{file.path} exists; use --resume to continue a file of records, or choose another name")
    try:
        done = file.resume(lambda path: path not in targets or is_complete(targets[path]))
    except (UnknownFile, OSError) as error:
        raise usage_error(f"{file.path} cannot be continued: {error}") from None
    return [image for image in images if image.path not in done]


def _targets(images: list[Input], drawn: DrawnFolder) -> dict[str, Path]:
    """Return the path of each drawn image. No two images share one, and none is taken."""
    sources = {Path(image.path).resolve() for image in images}
    targets: dict[str, Path] = {}
    owners: dict[Path, str] = {}
    for image in images:
        if Path(image.relative_path).is_relative_to(os.pardir):
            raise usage_error(f"{image.path} is outside the folder of its pattern; name its own folder")
        target = targets[image.path] = drawn.target(image)
        if target.resolve() in sources:
            raise usage_error(f"{target} is one of the original images; choose another folder for --annotate")
        if (other := owners.setdefault(target, image.path)) != image.path:
            raise usage_error(f"{target} would be written for {other} and for {image.path}; draw them separately")
        if target.exists() and not drawn.resume:
            raise usage_error(f"{target} exists; use --resume to skip it, or choose another folder")
    return targets
