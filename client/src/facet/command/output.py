"""Files of records, which a later run can continue, and files written atomically."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from facet.command.records import Form


class OutputFailed(Exception):
    """The file of records cannot be written."""


class OutputFile:
    """A file of records. Each record is one write, so a killed run can leave only its last record incomplete."""

    def __init__(self, path: Path, form: Form) -> None:
        self.path = path
        self._form = form
        self._mode = "x"  # do not write to a file that appears meanwhile

    def resume(self, still_valid: Callable[[str], bool]) -> set[str]:
        """Keep the records of an earlier run that are complete, without an error and still valid; return their paths.

        Raises `records.UnknownFile`, and then does not change the file.
        """
        kept: set[str] = set()
        part = _part(self.path)
        try:
            with _open(self.path, "r") as old, _open(part, "w") as new:
                new.write(self._form.header)
                for path, lines in self._form.complete(old):
                    if path not in kept and still_valid(path):
                        kept.add(path)
                        new.write(lines)
                _sync(new)
            part.replace(self.path)
        finally:
            part.unlink(missing_ok=True)
        self._mode = "a"
        return kept

    @contextmanager
    def appending(self) -> Iterator[Callable[[str], None]]:
        """Open the file and return a function that writes records. Both raise OutputFailed."""
        with self._naming_file():
            file = _open(self.path, self._mode)

        def write(text: str) -> None:
            with self._naming_file():
                file.write(text)
                file.flush()

        try:
            if self._mode == "x":
                write(self._form.header)
            yield write
        finally:
            with suppress(OSError):  # `write` has reported it
                file.close()

    @contextmanager
    def _naming_file(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputFailed(f"{self.path}: {error.strerror}") from error


def _open(path: Path, mode: str) -> IO[str]:
    """Open a file of records. A path in a record may hold any bytes, which are written unchanged."""
    return path.open(mode, encoding="utf-8", errors="surrogateescape", newline="\n")


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file completely or not at all, even after a crash. Raises OSError; overwrites no file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _part(path)
    try:
        with part.open("wb") as file:
            file.write(data)
            _sync(file)
        if is_complete(path) or not path.exists():
            path.touch(exist_ok=False)  # fails if there is a file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def is_complete(path: Path) -> bool:
    """Whether `write_atomically` has finished a file: an empty one is not finished."""
    return path.exists() and path.stat().st_size > 0


def _part(path: Path) -> Path:
    """Return the name that a file has until it is finished."""
    return path.with_name(f".{path.name}.part")


def _sync(file: IO[str] | IO[bytes]) -> None:
    """Write the content to the disk before the file gets its name, so that it survives a crash."""
    file.flush()
    os.fsync(file.fileno())
