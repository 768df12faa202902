"""Notices clients that disconnect while they wait, so that no work is done for them."""

import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

CLOSED = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR


class ClientDisconnects:
    """One thread that watches the connections of all waiting requests. Create it after the fork."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, tuple[socket.socket, Callable[[], None]]] = {}
        threading.Thread(target=self._run, name="client-disconnects", daemon=True).start()

    @contextmanager
    def watch(self, connection: socket.socket | None, on_disconnect: Callable[[], None]) -> Iterator[None]:
        """Call `on_disconnect`, in another thread, if the client closes its connection in the meantime."""
        if connection is None:  # under a WSGI server other than gunicorn, as in tests
            yield
            return
        descriptor = connection.fileno()
        self._watched[descriptor] = connection, on_disconnect
        self._epoll.register(descriptor, CLOSED | select.EPOLLONESHOT)
        try:
            yield
        finally:
            self._epoll.unregister(descriptor)
            del self._watched[descriptor]

    def _run(self) -> None:
        while True:
            for descriptor, _ in self._epoll.poll():
                watched = self._watched.get(descriptor)
                if watched and _is_closed(watched[0]):  # another connection may have the descriptor by now
                    watched[1]()


def _is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
