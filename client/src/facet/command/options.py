"""The options that several commands share, and their exit codes."""

from typing import Annotated, Literal

import typer

from facet.command.records import Csv, Form, JsonLines
from facet.errors import FacetError, ServiceUnavailable

EXIT_SOME_FAILED = 1
EXIT_USAGE = 2
EXIT_NO_SERVICE = 3
EXIT_INTERRUPTED = 130

Url = Annotated[str, typer.Option(help="The service's address for HTTP.", envvar="FACET_URL")]
Grpc = Annotated[str | None, typer.Option(metavar="ADDRESS", help="Use gRPC at this host:port instead.")]
Key = Annotated[
    str | None, typer.Option(help="The API key, if the service asks for one.", envvar="FACET_API_KEY", show_envvar=True)
]
Timeout = Annotated[float, typer.Option(min=0.001, help="Seconds for each image, including retries.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress and no summary, only errors.")]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON Lines: one object for each image.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="Write CSV: one row for each face, at least one for each image.")]
Style = Annotated[Literal["boxes", "blur"], typer.Option(help="What to draw; blur hides the faces.")]
MinFaceSize = Annotated[int | None, typer.Option(help="The smallest face to find, in pixels; larger is faster.")]
MinConfidence = Annotated[float | None, typer.Option(help="Omit faces with a lower confidence, 0 to 1.")]
MaxFaces = Annotated[int | None, typer.Option(help="Keep at most this many faces, the largest first; 0 keeps all.")]


def usage_error(message: str) -> typer.Exit:
    """Print what is wrong with the command line, and return the exception to raise."""
    typer.echo(f"facet: {message}", err=True)
    return typer.Exit(EXIT_USAGE)


def exit_code(error: FacetError) -> int:
    return EXIT_NO_SERVICE if isinstance(error, ServiceUnavailable) else EXIT_SOME_FAILED


def check_target(context: typer.Context, *, grpc: str | None, local: bool = False) -> None:
    """Reject options that name two services. FACET_URL is for all commands, so any option overrides it."""
    url = context.get_parameter_source("url")
    given = {"--local": local, "--grpc": grpc is not None, "--url": url is not None and url.name == "COMMANDLINE"}
    named = [option for option, is_given in given.items() if is_given]
    if len(named) > 1:
        raise usage_error(f"{' and '.join(named)} name different services; choose one")


def chosen_form(*keys: str, as_json: bool, as_csv: bool) -> Form | None:
    """Return the form of the records, or None for lines that people read."""
    if as_json and as_csv:
        raise usage_error("--json and --csv exclude each other; choose one")
    return JsonLines(*keys) if as_json else Csv(*keys) if as_csv else None
