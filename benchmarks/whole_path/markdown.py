"""Formats tables and paragraphs in Markdown."""

import textwrap


def lay_out(head: list[str], rows: list[list[str]]) -> str:
    """Return a table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def paragraph(text: str) -> str:
    """Wrap a text."""
    return textwrap.fill(" ".join(text.split()), 120, break_long_words=False, break_on_hyphens=False)
