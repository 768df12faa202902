"""Disconnected clients are noticed; connected ones, and later ones on the same descriptor, are left alone."""

import socket
import threading
from contextlib import ExitStack
from functools import partial

from web.client_disconnects import ClientDisconnects


def test_a_closed_connection_is_noticed() -> None:
    """At once, also when it was closed before; each callback runs for its own connection alone."""
    disconnects, gone = ClientDisconnects(), threading.Event()
    here, there = socket.socketpair()
    other, stays = socket.socketpair()
    mistaken: list[str] = []
    with here, other, stays, disconnects.watch(other, lambda: mistaken.append("other")):
        with disconnects.watch(here, gone.set):
            there.close()
            assert gone.wait(60)
        closed_before = threading.Event()
        with disconnects.watch(here, closed_before.set):
            assert closed_before.wait(60)
        assert mistaken == []


def test_data_is_not_a_disconnect() -> None:
    """The next request on a connection may arrive early."""
    disconnects, gone = ClientDisconnects(), threading.Event()
    here, there = socket.socketpair()
    with here, there, disconnects.watch(here, gone.set):
        there.sendall(b"the next request")
        assert not gone.wait(0.2)
        assert here.recv(100) == b"the next request"


def test_a_descriptor_is_watched_anew_for_each_request() -> None:
    """Hundreds of connections reuse a few descriptors: callbacks run exactly where the other end closed."""
    disconnects = ClientDisconnects()
    mistaken: list[int] = []
    for turn in range(300):
        with ExitStack() as stack:
            here, there = (stack.enter_context(end) for end in socket.socketpair())
            gone = threading.Event()
            if turn % 2:
                with disconnects.watch(here, gone.set):
                    there.close()
                    assert gone.wait(60)
            else:
                with disconnects.watch(here, partial(mistaken.append, turn)):
                    pass
    assert mistaken == []
