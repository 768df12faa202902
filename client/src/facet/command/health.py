"""`facet health`."""

import typer

from facet.command import options
from facet.errors import WrongAddress
from facet.grpc_client import GrpcClient
from facet.http_client import Client
from facet.http_messages import DEFAULT_URL


def health(context: typer.Context, *, url: options.Url = DEFAULT_URL, grpc: options.Grpc = None) -> None:
    """Check whether the service is alive and ready, and how fast it answers.

    \b
    facet health
    facet health --url http://faces.example.org
    until facet health --grpc localhost:8080; do sleep 1; done

    The exit code is 0 when the service is ready, and 3 when it is not.
    """  # noqa: D301 - click keeps the line breaks of a paragraph that begins with a backspace
    options.check_target(context, grpc=grpc)
    try:
        with GrpcClient(grpc) if grpc else Client(url) as client:
            found = client.health()
    except WrongAddress as error:
        raise options.usage_error(str(error)) from None
    state = "ready" if found.ready else f"{'alive, but not ready' if found.alive else 'not reachable'}: {found.message}"
    typer.echo(f"{grpc or url} is {state} ({found.milliseconds:.1f} ms)")
    raise typer.Exit(0 if found.ready else options.EXIT_NO_SERVICE)
