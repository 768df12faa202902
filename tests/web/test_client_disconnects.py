"""Who leaves while waiting is noticed; who stays, and who comes after on the same number, is not taken for one."""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack
from functools import partial

from web.client_disconnects import ClientDisconnects


def test_who_closes_the_connection_has_left() -> None:
    """At once, also who had left before; each is told once, and nobody else is."""
    leavers, gone = ClientDisconnects(), threading.Event()
    here, there = socket.socketpair()
    other, stays = socket.socketpair()
    bystanders: list[str] = []
    with here, other, stays, leavers.told(other, lambda: bystanders.append("told")):
        with leavers.told(here, gone.set):
            there.close()
            assert gone.wait(60)
        left_before = threading.Event()
        with leavers.told(here, left_before.set):
            assert left_before.wait(60)
        assert bystanders == []


def test_what_a_caller_sends_meanwhile_is_no_farewell() -> None:
    """The next request on a connection may come early."""
    leavers, gone = ClientDisconnects(), threading.Event()
    here, there = socket.socketpair()
    with here, there, leavers.told(here, gone.set):
        there.sendall(b"the next request")
        assert not gone.wait(0.2)
        assert here.recv(100) == b"the next request"


def test_a_number_is_looked_after_anew_for_each_request() -> None:
    """Hundreds of connections come and go under few numbers: exactly those are told whose other end was closed."""
    leavers = ClientDisconnects()
    wrong: list[int] = []
    for turn in range(300):
        with ExitStack() as stack:
            here, there = (stack.enter_context(end) for end in socket.socketpair())
            gone = threading.Event()
            if turn % 2:
                with leavers.told(here, gone.set):
                    there.close()
                    assert gone.wait(60)
            else:
                with leavers.told(here, partial(wrong.append, turn)):
                    pass
    assert wrong == []
