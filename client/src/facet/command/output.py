"""Where the records go: standard output, or a file that a later run can go on with."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from facet.command.records import Form


class Unwritable(Exception):
    """The file of records cannot be written; the text says which and why."""


class OutputFile:
    """A file of records. Each record is one write, so that of a run that was killed only the last can be cut off."""

    def __init__(self, path: Path, form: Form) -> None:
        self.path = path
        self._form = form
        self._mode = "x"  # a file that somebody else makes meanwhile is not written to

    def resume(self, still_holds: Callable[[str], bool]) -> set[str]:
        """Keep the records of an earlier run that are whole, without an error, and still hold; give their paths.

        Raises `records.NotOurs`, and then leaves the file as it is.
        """
        kept: set[str] = set()
        part = _part(self.path)
        try:
            with _open(self.path, "r") as old, _open(part, "w") as new:
                new.write(self._form.header)
                for path, lines in self._form.good(old):
                    if path not in kept and still_holds(path):
                        kept.add(path)
                        new.write(lines)
                _to_disk(new)
            part.replace(self.path)
        finally:
            part.unlink(missing_ok=True)
        self._mode = "a"
        return kept

    @contextmanager
    def appending(self) -> Iterator[Callable[[str], None]]:
        """Open it, and give what writes whole records at once. Both raise Unwritable."""
        with self._blamed():
            file = _open(self.path, self._mode)

        def write(text: str) -> None:
            with self._blamed():
                file.write(text)
                file.flush()

        try:
            if self._mode == "x":
                write(self._form.header)
            yield write
        finally:
            with suppress(OSError):  # it has been said by `write`
                file.close()

    @contextmanager
    def _blamed(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise Unwritable(f"{self.path}: {error.strerror}") from error


def _open(path: Path, mode: str) -> IO[str]:
    """Open a file of records; a path in it may hold any bytes, which are written as they are."""
    return path.open(mode, encoding="utf-8", errors="surrogateescape", newline="\n")


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that is there as a whole or not at all, even after a crash. Raises OSError; none is overwritten."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _part(path)
    try:
        with part.open("wb") as file:
            file.write(data)
            _to_disk(file)
        if not _is_empty(path):
            path.touch(exist_ok=False)  # or there is one already
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def is_there(path: Path) -> bool:
    """Whether a file that `write_whole` writes is there: one that is empty was not finished."""
    return path.exists() and not _is_empty(path)


def _is_empty(path: Path) -> bool:
    return path.exists() and path.stat().st_size == 0


def _part(path: Path) -> Path:
    """Give the name that a file has until it is finished."""
    return path.with_name(f".{path.name}.part")


def _to_disk(file: IO[str] | IO[bytes]) -> None:
    """See to it that a crash after the file has got its name finds its content."""
    file.flush()
    os.fsync(file.fileno())
