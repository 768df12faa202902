"""Where the records go: standard output, or a file that a later run can go on with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from facet.command.records import Form


class OutputFile:
    """A file of records. Each record is one write, so that of a run that was killed only the last can be cut off."""

    def __init__(self, path: Path, form: Form) -> None:
        self.path = path
        self._form = form

    def resume(self, still_holds: Callable[[str], bool]) -> set[str]:
        """Keep the records of an earlier run that are whole, without an error, and still hold; give their paths.

        Raises `records.NotOurs`.
        """
        if not self.path.exists():
            return set()
        kept: set[str] = set()
        part = self.path.with_name(f".{self.path.name}.part")
        try:
            with _open(self.path, "r") as old, _open(part, "w") as new:
                new.write(self._form.header)
                for path, lines in self._form.good(old):
                    if path not in kept and still_holds(path):
                        kept.add(path)
                        new.write(lines)
            part.replace(self.path)
        finally:
            part.unlink(missing_ok=True)
        return kept

    @contextmanager
    def appending(self) -> Iterator[Callable[[str], None]]:
        """Open it, and give what writes whole records at once."""
        with _open(self.path, "a") as file:

            def write(text: str) -> None:
                file.write(text)
                file.flush()

            if not self.path.stat().st_size:
                write(self._form.header)
            yield write


def _open(path: Path, mode: str) -> IO[str]:
    """Open a file of records; a path in it may hold any bytes, which are written as they are."""
    return path.open(mode, encoding="utf-8", errors="surrogateescape", newline="\n")


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that is there as a whole or not at all. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    part.replace(path)
