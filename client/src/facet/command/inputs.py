"""The images that a command line names: files, folders, patterns, lists and standard input."""

import glob
import itertools
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

# The formats that the service accepts, by their usual file names. A file that is named directly may have any name.
SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp")
STDIN = "-"


@dataclass(frozen=True, slots=True)
class Input:
    """An image: its path as shown, `-` for standard input, and its path relative to the folder of the arguments."""

    path: str
    relative_path: str
    content: bytes | OSError | None = field(default=None, repr=False)
    """The bytes, or the error of reading them, if it was read already."""

    def read(self) -> bytes:
        """Return the bytes. Raises OSError."""
        if isinstance(self.content, OSError):
            raise self.content
        return Path(self.path).read_bytes() if self.content is None else self.content


def read_stdin(image: Input) -> Input:
    """Read the image if it is standard input; return any other unchanged.

    Call it before the event loop starts: Ctrl-C could not interrupt a loop that waits for input.
    """
    if image.path != STDIN:
        return image
    try:
        return replace(image, content=sys.stdin.buffer.read())
    except OSError as error:
        return replace(image, content=error)


def list_inputs(arguments: Iterable[str], listed: Iterable[str], exclude: Path | None) -> list[Input]:
    """List the images of the arguments, then those of a list, each once, except those in the folder `exclude`.

    Folders are searched with their subfolders in the order of their names; links to folders are not followed. A folder
    that cannot be read is in the list, and its `read` raises the error.
    """
    arguments, listed = list(arguments), list(listed)
    files = [*filter(_is_file, arguments), *listed]
    folders = [Path(os.path.abspath(file)).parent for file in files]  # noqa: PTH100 - Path.resolve would follow links
    common = os.path.commonpath(folders) if folders else "."
    found: dict[str, Input] = {}
    for argument in arguments:
        found |= _below(common, [argument]) if _is_file(argument) else _expand(argument)
    found |= _below(common, listed)
    hidden = f"{exclude.resolve()}{os.sep}" if exclude else None
    return [each for each in found.values() if not hidden or not os.path.realpath(each.path).startswith(hidden)]


def _is_file(argument: str) -> bool:
    """Whether an argument names one file, which may not exist."""
    path = Path(argument)
    return argument != STDIN and not path.is_dir() and (path.exists() or not glob.has_magic(argument))


def _expand(argument: str) -> dict[str, Input]:
    if argument == STDIN:
        return {STDIN: Input(STDIN, "stdin")}
    if Path(argument).is_dir():
        return _search(argument)
    matches = sorted(glob.iglob(argument, recursive=True))  # noqa: PTH207 - a Path would drop a leading ./
    return _below(_fixed_part(argument), filter(_is_image, matches))


def _search(folder: str) -> dict[str, Input]:
    errors: list[OSError] = []
    paths: list[str] = []
    for parent, folders, names in os.walk(folder, onerror=errors.append):
        folders.sort()
        paths += [os.path.join(parent, name) for name in sorted(names)]  # noqa: PTH118 - a Path would drop a leading ./
    found = _below(folder, filter(_is_image, paths))
    for error in errors:
        found[error.filename] = Input(error.filename, os.path.relpath(error.filename, folder), error)
    return found


def _is_image(path: str) -> bool:
    return path.lower().endswith(SUFFIXES) and Path(path).is_file()


def _below(folder: str, paths: Iterable[str]) -> dict[str, Input]:
    return {path: Input(path, os.path.relpath(path, folder)) for path in paths}


def _fixed_part(pattern: str) -> str:
    """Return the folder that a pattern begins with: photos for photos/**/*.jpg."""
    return str(Path(*itertools.takewhile(lambda part: not glob.has_magic(part), Path(pattern).parts)))
