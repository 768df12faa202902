"""The command `facet`."""

from facet.command.app import app as main

__all__ = ["main"]
