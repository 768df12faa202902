"""Which pictures a command line means: files, folders, patterns, lists, and standard input."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

# What the service accepts, by the names that cameras and browsers give it. A file that is named itself may have any.
SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp")
STDIN = "-"


@dataclass(frozen=True, slots=True)
class Input:
    """A picture: its path as it is shown, `-` for standard input, and where its drawn one stands in a folder."""

    path: str
    mirror: str
    content: bytes | OSError | None = field(default=None, repr=False)
    """What reading it has given, where that is done already."""

    def read(self) -> bytes:
        """Give its bytes. Raises OSError."""
        if isinstance(self.content, OSError):
            raise self.content
        return Path(self.path).read_bytes() if self.content is None else self.content


def read_stdin(picture: Input) -> Input:
    """Read a picture on standard input; leave another one for later.

    This is for the main thread, before there is an event loop: Ctrl-C would have to wait for one that waits for input.
    """
    if picture.path != STDIN:
        return picture
    try:
        return replace(picture, content=sys.stdin.buffer.read())
    except OSError as error:
        return replace(picture, content=error)


def list_inputs(arguments: Iterable[str], listed: Iterable[str], leave_out: Path | None) -> list[Input]:
    """List the pictures of the arguments, then those of a list, each once, but none below the folder `leave_out`.

    Folders are searched with all that is below them, in the order of their names; links to folders are not followed. A
    folder that cannot be read stands in the list, too, and raises what reading it did.
    """
    arguments, listed = list(arguments), list(listed)
    files = [*filter(_is_file, arguments), *listed]
    common = os.path.commonpath([_absolute(file).parent for file in files]) if files else "."
    found: dict[str, Input] = {}
    for argument in arguments:
        found |= _below(common, [argument]) if _is_file(argument) else _expand(argument)
    found |= _below(common, listed)
    hidden = f"{leave_out.resolve()}{os.sep}" if leave_out else None
    return [each for each in found.values() if not hidden or not os.path.realpath(each.path).startswith(hidden)]


def _is_file(argument: str) -> bool:
    """Whether an argument means one file, which perhaps does not exist."""
    path = Path(argument)
    return argument != STDIN and not path.is_dir() and (path.exists() or not glob.has_magic(argument))


def _absolute(path: str) -> Path:
    """Give a path without `..`, whose links are still links."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - a Path would keep the one or lose the other


def _expand(argument: str) -> dict[str, Input]:
    if argument == STDIN:
        return {STDIN: Input(STDIN, "stdin")}
    if Path(argument).is_dir():
        return _search(argument)
    matches = sorted(glob.iglob(argument, recursive=True))  # noqa: PTH207 - a Path would drop a leading ./
    return _below(_fixed_part(argument), filter(_is_picture, matches))


def _search(folder: str) -> dict[str, Input]:
    errors: list[OSError] = []
    found = _below(folder, _walk(folder, errors.append))
    for error in errors:
        found[error.filename] = Input(error.filename, os.path.relpath(error.filename, folder), error)
    return found


def _walk(folder: str, on_error: Callable[[OSError], None]) -> Iterator[str]:
    for parent, folders, names in os.walk(folder, onerror=on_error):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(parent, name)  # noqa: PTH118 - a Path would drop the leading ./ of a path as given
            if _is_picture(path):
                yield path


def _is_picture(path: str) -> bool:
    return path.lower().endswith(SUFFIXES) and Path(path).is_file()


def _below(folder: str, paths: Iterable[str]) -> dict[str, Input]:
    return {path: Input(path, os.path.relpath(path, folder)) for path in paths}


def _fixed_part(pattern: str) -> str:
    """Give the folder that a pattern begins with: photos of photos/**/*.jpg."""
    parts: list[str] = []
    for part in Path(pattern).parts:
        if glob.has_magic(part):
            break
        parts.append(part)
    return str(Path(*parts))
