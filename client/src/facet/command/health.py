"""`facet health`."""

from __future__ import annotations

import typer

from facet.command.options import EXIT_NO_SERVICE, Grpc, Url, check_where, wrong
from facet.errors import WrongAddress
from facet.grpc_client import GrpcClient
from facet.http_client import Client
from facet.http_messages import DEFAULT_URL


def health(context: typer.Context, *, url: Url = DEFAULT_URL, grpc: Grpc = None) -> None:
    """Say whether the service answers, whether it would examine a picture, and how fast it says so.

    \b
    facet health
    facet health --url http://faces.example.org
    until facet health --grpc localhost:8080; do sleep 1; done

    The exit code is 0 when it is ready, and 3 when it is not.
    """  # noqa: D301 - click keeps the lines of a paragraph that begins with a backspace
    check_where(context, grpc=grpc)
    try:
        with GrpcClient(grpc) if grpc else Client(url) as client:
            found = client.health()
    except WrongAddress as error:
        raise wrong(str(error)) from None
    words = "ready" if found.ready else f"{'alive, but not ready' if found.alive else 'not there'}: {found.message}"
    typer.echo(f"{grpc or url} is {words} ({found.milliseconds:.1f} ms)")
    raise typer.Exit(0 if found.ready else EXIT_NO_SERVICE)
