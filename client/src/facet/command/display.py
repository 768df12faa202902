"""What a person sees while a command runs: a progress bar on a terminal, and lines above it."""

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


class Display:
    """A progress bar, shown on a terminal only. `total` is None if it is unknown."""

    def __init__(self, total: int | None, *, what: str, quiet: bool, done: int = 0) -> None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="surrogateescape")  # a path may hold any bytes
        # When the output and the bar share the terminal, one console must write both.
        self._console = Console(stderr=not sys.stdout.isatty())
        self._quiet = quiet
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[failures]}", style="red"),
            console=self._console,
            disable=quiet or not sys.stderr.isatty(),
            redirect_stdout=False,
            redirect_stderr=False,
            transient=True,
        )
        self._task = self._bar.add_task(what, total=total, completed=done, failures="")
        self._failed = 0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def expect(self, total: int | None) -> None:
        self._bar.update(self._task, total=total)

    def advance(self, *, failed: bool = False) -> None:
        self._failed += failed
        self._bar.update(self._task, advance=1, failures=f"{self._failed} failed" if self._failed else "")

    def write(self, text: str) -> None:
        """Write a result to standard output, unchanged."""
        if sys.stdout.isatty():
            self._console.print(text, end="", markup=False, highlight=False, emoji=False, soft_wrap=True)
        else:
            sys.stdout.write(text)
            sys.stdout.flush()

    def remark(self, text: str, *, always: bool = False) -> None:
        """Write a line to standard error; with --quiet only if `always`."""
        if self._quiet and not always:
            return
        if self._bar.disable:
            sys.stderr.write(f"{text}\n")
        else:
            self._console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)
