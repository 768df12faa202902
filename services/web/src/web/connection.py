"""The connection that a request came by, as gunicorn hands it down."""

from __future__ import annotations

import socket
import ssl


def has_left(connection: socket.socket) -> bool:
    """Look whether the other end has closed the connection, while it waits for an answer."""
    try:
        # The socket's own method: an encrypted one has another, which cannot only look.
        seen = socket.socket.recv(connection, 1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
    # Envoy has one request at a time on a connection: what comes encrypted meanwhile is its goodbye.
    return seen == b"" or isinstance(connection, ssl.SSLSocket)
