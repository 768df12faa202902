"""Which pictures a command line means: files, folders, patterns, lists, and standard input."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

# What the service accepts, by the names that cameras and browsers give it. A file that is named itself may have any.
SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp")
STDIN = "-"


@dataclass(frozen=True, slots=True)
class Input:
    """A picture: its path as it is shown, `-` for standard input, and where its drawn one stands in a folder."""

    path: str
    mirror: str

    def read(self) -> bytes:
        """Read its bytes. Raises OSError."""
        return sys.stdin.buffer.read() if self.path == STDIN else Path(self.path).read_bytes()


def list_inputs(arguments: Iterable[str], listed: Iterable[str], leave_out: Path | None) -> list[Input]:
    """List the pictures of the arguments, then those of a list, each once, but none below the folder `leave_out`.

    Folders are searched with all that is below them, in the order of their names.
    """
    arguments, listed = list(arguments), list(listed)
    files = [*filter(_is_file, arguments), *listed]
    common = os.path.commonpath([Path(file).absolute().parent for file in files]) if files else "."
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


def _expand(argument: str) -> dict[str, Input]:
    if argument == STDIN:
        return {STDIN: Input(STDIN, "stdin")}
    if Path(argument).is_dir():
        return _below(argument, _walk(argument))
    matches = sorted(glob.iglob(argument, recursive=True))  # noqa: PTH207 - a Path would drop a leading ./
    return _below(_fixed_part(argument), filter(_is_picture, matches))


def _walk(folder: str) -> Iterator[str]:
    for parent, folders, names in os.walk(folder):
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
