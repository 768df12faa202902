"""What a worker asks of the operating system: shared ports, and an end together with the supervisor."""

import asyncio
import ctypes
import os
import signal
import sys

import grpc


class CannotStart(Exception):
    """The worker cannot serve on this system or with these settings. The message says why."""


async def prove_reuse_port() -> None:
    """Check with an ephemeral port that two servers can share one. Raises CannotStart.

    A gRPC built without SO_REUSEPORT accepts the option, and then all but one worker get no connections.
    """
    options = [("grpc.so_reuseport", 1)]
    first, second = grpc.aio.server(options=options), grpc.aio.server(options=options)
    port = first.add_insecure_port("127.0.0.1:0")
    try:
        second.add_insecure_port(f"127.0.0.1:{port}")
    except RuntimeError as error:
        raise CannotStart(
            "workers cannot share a port: this system or this build of grpcio has no SO_REUSEPORT"
        ) from error
    finally:
        await asyncio.gather(first.stop(None), second.stop(None))


def die_with(supervisor: int) -> None:
    """Let the kernel kill this process when the supervisor ends for any reason (prctl(2), PR_SET_PDEATHSIG)."""
    pr_set_pdeathsig = 1
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != supervisor:
        sys.exit("the supervisor has ended")  # before prctl took effect
