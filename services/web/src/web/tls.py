"""mTLS with Envoy: how gunicorn takes a connection. The certificate's files are read for each, so new ones count."""

from __future__ import annotations

import errno
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any

from gunicorn.sock import ssl_context

log = logging.getLogger(__name__)

CALLERS = ("envoy", "web")  # the second is the health check of the container itself
HANDSHAKE_SECONDS = 5.0  # for who connects and then says nothing


def only_envoy_but_on(plain_port: int) -> Callable[[socket.socket, Any], socket.socket]:
    """Give what takes the place of gunicorn's `ssl_wrap_socket`: known callers alone, and on one port as it comes.

    gunicorn would encrypt all that it listens on, and Prometheus has no certificate.
    """

    def wrapped(connection: socket.socket, config: Any) -> socket.socket:
        if connection.getsockname()[1] == plain_port:
            return connection
        connection.settimeout(HANDSHAKE_SECONDS)
        try:
            encrypted: ssl.SSLSocket = ssl_context(config).wrap_socket(connection, server_side=True)
        except TimeoutError as error:
            raise _reset("no handshake") from error
        certificate: Any = encrypted.getpeercert()
        names = {name for kind, name in certificate.get("subjectAltName", ()) if kind == "DNS"}
        if not names & set(CALLERS):
            log.warning("refused a certificate", extra={"details": f"for {', '.join(sorted(names))}"})
            encrypted.close()
            raise _reset("not Envoy's certificate")
        encrypted.settimeout(None)
        return encrypted

    return wrapped


def _reset(why: str) -> ConnectionResetError:
    """Give what gunicorn takes for a caller who has gone, and makes no fuss about."""
    return ConnectionResetError(errno.ECONNRESET, why)
