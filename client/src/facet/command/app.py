"""The command line of `facet`: its commands."""

from __future__ import annotations

import typer

from facet.command.bench import bench
from facet.command.detect import detect
from facet.command.health import health
from facet.command.stream import stream

app = typer.Typer(
    help="Find faces in pictures, with a facet service or without.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # so that examples keep their lines
)
app.command()(detect)
app.command()(stream)
app.command()(health)
app.command()(bench)
