"""What a worker asks of the system before it starts: a shared port, and an end together with the supervisor."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys

import grpc


class CannotStart(Exception):
    """The worker cannot serve as it is set up; the text says why and what to do."""


async def prove_reuse_port() -> None:
    """Show that two servers can share a port, on an ephemeral one. Raises CannotStart.

    A gRPC built without SO_REUSEPORT would accept the option and leave all but one worker deaf.
    """
    options = [("grpc.so_reuseport", 1)]
    first, second = grpc.aio.server(options=options), grpc.aio.server(options=options)
    port = first.add_insecure_port("127.0.0.1:0")
    try:
        second.add_insecure_port(f"127.0.0.1:{port}")
    except RuntimeError as error:
        raise CannotStart(
            "this system or this build of grpcio has no SO_REUSEPORT: workers cannot share a port"
        ) from error
    finally:
        await asyncio.gather(first.stop(None), second.stop(None))


def die_with(supervisor: int) -> None:
    """Have the kernel kill this process when the supervisor ends, however it ends (prctl(2), PR_SET_PDEATHSIG)."""
    pr_set_pdeathsig = 1
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != supervisor:
        sys.exit("the supervisor is gone")  # it ended before the kernel was told
