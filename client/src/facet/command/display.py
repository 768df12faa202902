"""What a person sees while it runs: a bar on a terminal, and lines that do not tear it."""

from __future__ import annotations

import io
import sys
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f}/s" if speed else "-/s", style="progress.data.speed")


class _Failures(ProgressColumn):
    def render(self, task: Task) -> Text:
        failed = task.fields["failed"]
        return Text(f"{failed} failed", style="red") if failed else Text("")


class Display:
    """A progress bar where a terminal is; in a pipe there is none. `total` is None where nobody knows it."""

    def __init__(self, total: int | None, *, what: str, quiet: bool, done: int = 0) -> None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="surrogateescape")  # a path may hold any bytes
        # Where output and bar share the terminal, one console has to know of both.
        self._console = Console(stderr=not sys.stdout.isatty())
        self._quiet = quiet
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
            _Failures(),
            console=self._console,
            disable=quiet or not sys.stderr.isatty(),
            redirect_stdout=False,
            redirect_stderr=False,
            transient=True,
        )
        self._task = self._bar.add_task(what, total=total, completed=done, failed=0)
        self._failed = 0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def expect(self, total: int | None) -> None:
        """Say how many there are to be, if anybody knows."""
        self._bar.update(self._task, total=total)

    def advance(self, *, failed: bool = False) -> None:
        """Count one more."""
        self._failed += failed
        self._bar.update(self._task, advance=1, failed=self._failed)

    def write(self, text: str) -> None:
        """Write a result, as it is, to standard output."""
        if sys.stdout.isatty():
            self._console.print(text, end="", markup=False, highlight=False, emoji=False, soft_wrap=True)
        else:
            sys.stdout.write(text)
            sys.stdout.flush()

    def remark(self, text: str, *, always: bool = False) -> None:
        """Say something on standard error, unless it is to be quiet and it need not be said."""
        if self._quiet and not always:
            return
        if self._bar.disable:
            sys.stderr.write(f"{text}\n")
        else:
            self._console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)
