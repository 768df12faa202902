"""mTLS with Envoy: how gunicorn takes a connection. New certificates count as soon as their files are there."""

from __future__ import annotations

import logging
import socket
import ssl
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

from gunicorn.sock import ssl_context
from gunicorn.workers import gthread

log = logging.getLogger(__name__)

CALLERS = ("envoy", "web")  # the second is the health check of the container itself
HANDSHAKE_SECONDS = 5.0  # from the begin of the connection on


class OnlyEnvoy(gthread.ThreadWorker):  # type: ignore[misc] # gunicorn has no types
    """gunicorn's threaded worker, for known callers alone.

    Its own waits for a handshake in a thread: as many silent connections as there are threads would stop the gateway.
    Here they wait where connections wait between two requests, and a thread only does the next step.
    """

    plain_port = 0  # taken as it comes: gunicorn would encrypt all, and Prometheus has no certificate

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._context = newest([self.cfg.certfile, self.cfg.keyfile, self.cfg.ca_certs], self._load)

    def _load(self) -> ssl.SSLContext:
        context: ssl.SSLContext = ssl_context(self.cfg)
        context.num_tickets = 0  # each connection shows its certificate
        return context

    def handle(self, conn: Any) -> Any:
        """Do what can be done now, in a thread of the pool."""
        if not conn.initialized:
            try:
                if not self._has_begun(conn):
                    return gthread._DEFER  # noqa: SLF001 - what has a connection wait
            except OSError as error:
                log.debug("no handshake", extra={"details": str(error)})
                return _shut(conn.sock)
        return super().handle(conn)

    def finish_request(self, conn: Any, fs: Future[Any]) -> None:
        """Have a connection that is not known yet end in time, whatever trickles in."""
        super().finish_request(conn, fs)
        if conn.timeout and not conn.initialized:
            conn.timeout = conn.begun + HANDSHAKE_SECONDS

    def _has_begun(self, conn: Any) -> bool:
        """Whether the other end has said who it is, on the plain port anything. Raises OSError if it is a stranger."""
        conn.begun = getattr(conn, "begun", time.monotonic())
        if conn.sock.getsockname()[1] == self.plain_port:
            return conn.data_ready or bool(conn.wait_for_data(0))
        if not isinstance(conn.sock, ssl.SSLSocket):
            conn.sock = self._context().wrap_socket(conn.sock, server_side=True, do_handshake_on_connect=False)
        try:
            conn.sock.do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        _check_name(conn.sock)
        conn.data_ready = True
        return True


def newest(files: list[str], load: Callable[[], ssl.SSLContext]) -> Callable[[], ssl.SSLContext]:
    """Give what gives the context of the files as they are, and raises OSError if they never were as they should be.

    While a key and a certificate are being replaced, one after the other, they do not fit: it is the last that did.
    """
    last: tuple[list[int], ssl.SSLContext] | None = None

    def context() -> ssl.SSLContext:
        nonlocal last
        try:
            written = [Path(file).stat().st_mtime_ns for file in files]
            if last is None or last[0] != written:
                last = written, load()
        except OSError as error:  # SSLError is one
            log.warning("cannot read the certificate", extra={"details": str(error)})
            if last is None:
                raise
        return last[1]

    return context


def _check_name(encrypted: ssl.SSLSocket) -> None:
    certificate: Any = encrypted.getpeercert()
    names = {name for kind, name in certificate.get("subjectAltName", ()) if kind == "DNS"}
    if not names & set(CALLERS):
        log.warning("refused a certificate", extra={"details": f"for {', '.join(sorted(names))}"})
        raise ConnectionRefusedError


def _shut(connection: socket.socket) -> bool:
    """End a connection; gunicorn's main thread would wait up to two seconds for the other end to do so."""
    with suppress(OSError):  # it has left
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
    return False
