"""The gateway's certificate while its files are replaced."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from certificates import Authority
from web.tls import newest

FILES = ("tls.crt", "tls.key", "ca.crt")


def contexts(folder: Path) -> Callable[[], ssl.SSLContext]:
    """Give what the gateway asks for each connection."""

    def load() -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=folder / "ca.crt")
        context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
        return context

    return newest([str(folder / name) for name in FILES], load)


def test_between_two_renames_the_last_certificate_counts(tmp_path: Path) -> None:
    """One of the new files does not fit the other of the old; when both are there, they count at once."""
    authority, used, fresh = Authority(tmp_path / "authority"), tmp_path / "used", tmp_path / "fresh"
    for folder in (used, fresh):
        authority.sign(folder, "web")
    context = contexts(used)
    first = context()
    assert context() is first
    for name in FILES[:2]:
        (fresh / name).replace(used / name)
        assert (context() is first) == (name == "tls.crt"), name
    (used / "tls.crt").unlink()
    assert context() not in (first, None)


def test_without_any_certificate_there_is_no_connection(tmp_path: Path) -> None:
    """It is said, and not passed over."""
    with pytest.raises(FileNotFoundError):
        contexts(tmp_path)()
