"""Checks that the ports are free before the first worker starts, so that the error is one line."""

import socket
from collections.abc import Sequence


class PortInUse(Exception):
    """The service cannot listen on one of its ports. The message names it."""


def own_address(name: str, port: int) -> str:
    """Give the first address of a name that this machine can listen on. Raises PortInUse."""
    try:
        found = socket.getaddrinfo(name.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise PortInUse(f"cannot listen on {name}:{port}: {error.strerror}") from error
    reason = None
    for family, _, _, _, (address, *_) in found:
        try:
            _bind(family, str(address), port)
        except OSError as error:
            reason = error.strerror
        else:
            return str(address)
    raise PortInUse(f"cannot listen on {name}:{port}: {reason}")


def check_ports(host: str, ports: Sequence[int]) -> None:
    """Check that this machine can listen on each TCP port. Raises PortInUse."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in ports:
        try:
            _bind(family, host.strip("[]"), port)
        except OSError as error:
            raise PortInUse(f"cannot listen on {host}:{port}: {error.strerror}") from error


def _bind(family: int, address: str, port: int) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # Ignores connections of an earlier run in TIME_WAIT, but not a listener.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((address, port))
