"""The command line of `facet`: its commands."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from facet.command.bench import bench
from facet.command.detect import detect
from facet.command.health import health
from facet.command.stream import stream

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # so that examples keep their lines
)


def _say_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it
    if wanted:
        typer.echo(f"facet {version('facet-client')}")
        raise typer.Exit


@app.callback()
def main(
    *,
    _: Annotated[bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say it and end.")] = False,
) -> None:
    """Find faces in pictures, with a facet service or without."""


app.command()(detect)
app.command()(stream)
app.command()(health)
app.command()(bench)
