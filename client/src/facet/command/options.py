"""What several commands take, and the codes they end with."""

from __future__ import annotations

from typing import Annotated

import typer

from facet.command.records import Csv, Form, JsonLines

EXIT_SOME_FAILED = 1
EXIT_USAGE = 2
EXIT_NO_SERVICE = 3
EXIT_BROKEN_OFF = 130

Url = Annotated[str, typer.Option(help="Where the service answers HTTP.", envvar="FACET_URL")]
Grpc = Annotated[str | None, typer.Option(metavar="ADDRESS", help="Ask over gRPC instead: host:port.")]
Key = Annotated[
    str | None, typer.Option(help="An API key, if the service asks for one.", envvar="FACET_API_KEY", show_envvar=True)
]
Local = Annotated[bool, typer.Option("--local", help="Ask no service: the detector runs in this process.")]
Timeout = Annotated[float, typer.Option(min=0.001, help="Seconds that a picture may take, with all tries.")]
Retries = Annotated[int, typer.Option(min=0, help="Tries after the first while the service is busy or away.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No bar, no remarks, no summary; errors alone.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON Lines: an object per picture.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="CSV: a row per face, at least one per picture.")]
MinFaceSize = Annotated[int | None, typer.Option(help="The smallest face to look for, in pixels; larger is faster.")]
MinConfidence = Annotated[float | None, typer.Option(help="Leave out faces below it, 0 to 1.")]
MaxFaces = Annotated[int | None, typer.Option(help="Keep so many faces, the largest first; 0 keeps all.")]


def wrong(message: str) -> typer.Exit:
    """Say what is wrong with the command line; raise what this gives."""
    typer.echo(f"facet: {message}", err=True)
    return typer.Exit(EXIT_USAGE)


def check_where(context: typer.Context, *, grpc: str | None, local: bool = False) -> None:
    """Refuse options that name two places to ask. FACET_URL is for all commands, and gives way."""
    url = context.get_parameter_source("url")
    given = {"--local": local, "--grpc": grpc is not None, "--url": url is not None and url.name == "COMMANDLINE"}
    named = [option for option, is_given in given.items() if is_given]
    if len(named) > 1:
        raise wrong(f"{' and '.join(named)} say different places to ask; choose one")


def chosen_form(*keys: str, as_json: bool, as_csv: bool) -> Form | None:
    """Give the form of output that is asked for, None for lines that people read."""
    if as_json and as_csv:
        raise wrong("--json and --csv are two forms of the same; choose one")
    return JsonLines(*keys) if as_json else Csv(*keys) if as_csv else None
