"""Notices callers who leave while they wait, so that nothing is computed for nobody."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

CLOSED = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR


class ClientDisconnects:
    """One thread that looks after the connections of all requests that wait. Make it after the fork."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._waiting: dict[int, tuple[socket.socket, Callable[[], None]]] = {}
        threading.Thread(target=self._look, name="leavers", daemon=True).start()

    @contextmanager
    def told(self, connection: socket.socket | None, leave: Callable[[], None]) -> Iterator[None]:
        """Have `leave` called, in another thread, when the other end of the connection closes it meanwhile."""
        if connection is None:  # there is none in a test
            yield
            return
        number = connection.fileno()
        self._waiting[number] = connection, leave
        self._epoll.register(number, CLOSED | select.EPOLLONESHOT)
        try:
            yield
        finally:
            self._epoll.unregister(number)
            del self._waiting[number]

    def _look(self) -> None:
        while True:
            for number, _ in self._epoll.poll():
                waiting = self._waiting.get(number)
                if waiting and _has_left(waiting[0]):  # the number may be somebody else's by now
                    waiting[1]()


def _has_left(connection: socket.socket) -> bool:
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
