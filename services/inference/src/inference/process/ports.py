"""Are the ports free? Asked before the first worker is started, so that the answer is one line."""

from __future__ import annotations

import socket
from collections.abc import Sequence


class PortInUse(Exception):
    """A port that the service needs is taken; the text names it."""


def own_address(name: str, port: int) -> str:
    """Give the address of a name that is this machine's, where the name stands for several. Raises PortInUse."""
    try:
        found = socket.getaddrinfo(name.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise PortInUse(f"cannot listen on {name}:{port}: {error.strerror}") from error
    reason = ""
    for family, _, _, _, (address, *_) in found:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError as error:
                reason = error.strerror or ""
            else:
                return str(address)
    raise PortInUse(f"cannot listen on {name}:{port}: {reason}")


def check_ports(host: str, ports: Sequence[int]) -> None:
    """See that each TCP port can be listened on. Raises PortInUse with the first that cannot."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in ports:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # Connections of an earlier run in TIME_WAIT do not matter; a listener does.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host.strip("[]"), port))
            except OSError as error:
                raise PortInUse(f"cannot listen on {host}:{port}: {error.strerror}") from error
