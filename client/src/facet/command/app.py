"""The command line of `facet`."""

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
    rich_markup_mode=None,  # keeps the line breaks of examples
)


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it
    if wanted:
        typer.echo(f"facet {version('facet-client')}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
]


@app.callback()
def main(*, _: Version = False) -> None:
    """Find faces in images, with or without a facet service."""


for command in (detect, stream, health, bench):
    app.command()(command)
