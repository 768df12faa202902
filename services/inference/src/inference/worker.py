"""One worker: one detector and one gRPC service with health, in a process of its own that the supervisor starts.

    python -m inference.worker --slot 0 --heartbeat-fd 5 --supervisor 4711

It writes a byte to the file descriptor every half second from the moment it serves.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.resources import files

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from inference import logs
from inference.image import ImageLimits, decode
from inference.mtcnn.detector import CascadeSettings, DetectOptions, Detector
from inference.mtcnn.engines import EngineNotInstalled, UnknownEngine, load_detector
from inference.mtcnn.steps import Steps
from inference.servicer import InferenceServicer
from inference.settings import Settings
from inference.slot import InferenceSlot
from protos import infer_pb2, infer_pb2_grpc

log = logging.getLogger(__name__)

SERVICE = infer_pb2.DESCRIPTOR.services_by_name["Inference"].full_name
HEALTH_NAMES = ("", SERVICE)
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
HEARTBEAT_SECONDS = 0.5
# Beside the image a message holds a few fields; a limit below the image's own would look like overload to the caller.
MESSAGE_OVERHEAD = 1024 * 1024

EXIT_CANNOT_START = 3
EXIT_HUNG = 4


Load = Callable[[Settings, ImageLimits], Detector]


class CannotStart(Exception):
    """The worker cannot serve as it is set up; the text says why and what to do."""


class Worker:
    """The life of a worker: listen, load and warm up, serve, drain, stop."""

    def __init__(self, settings: Settings, slot: int, load: Load, heartbeat_fd: int) -> None:
        self.address = f"{settings.host}:{settings.worker_port + slot}"
        self._settings = settings
        self._load = load
        self._heartbeat_fd = heartbeat_fd
        self._slot = InferenceSlot(settings.queue_places, settings.queue_seconds)
        self._health = health.aio.HealthServicer()
        self._limits = ImageLimits(settings.max_body_bytes, settings.max_pixels, settings.max_side)
        self._servicer = InferenceServicer(
            self._slot,
            self._limits,
            defaults=DetectOptions(min_face_size=settings.min_face_size),
            deadline=settings.deadline_seconds,
            max_streams=settings.max_streams,
            worker=self.address,
        )
        self._stopping = asyncio.Event()

    @property
    def waiting(self) -> int:
        """How many callers stand in line for an inference."""
        return self._slot.waiting

    def stop(self) -> None:
        """Begin to drain."""
        self._stopping.set()

    async def run(self) -> None:
        """Serve until told to stop, then drain. Raises CannotStart, EngineNotInstalled or UnknownEngine."""
        await self._say(NOT_SERVING)  # the health service would say SERVING of itself
        await prove_reuse_port()
        # Two servers, since SO_REUSEPORT is a property of a server: on the own port it would hide a double start.
        servers = [
            self._server(self.address, reuse_port=False),
            self._server(f"{self._settings.host}:{self._settings.port}", reuse_port=True),
        ]
        for server in servers:
            await server.start()
        # In a thread, so that health answers "not yet" meanwhile.
        loading = asyncio.create_task(asyncio.to_thread(self._load, self._settings, self._limits))
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait([loading, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not stopping.done():
            self._servicer.detector = loading.result()
            await self._say(SERVING)
            log.info("serving", extra={"address": self.address})
            watchdog = asyncio.create_task(self._watch())
            await stopping
            await self._drain()
            watchdog.cancel()
        left = self._settings.grace_seconds - self._settings.drain_seconds
        await asyncio.gather(*(server.stop(max(left - 1, 0)) for server in servers))
        log.info("stopped")

    def _server(self, address: str, *, reuse_port: bool) -> grpc.aio.Server:
        server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", int(reuse_port)),
                ("grpc.max_receive_message_length", self._settings.max_body_bytes + MESSAGE_OVERHEAD),
                ("grpc.max_send_message_length", -1),
            ]
        )
        infer_pb2_grpc.add_InferenceServicer_to_server(self._servicer, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        try:
            server.add_insecure_port(address)
        except RuntimeError as error:
            raise CannotStart(f"cannot listen on {address}: is another program using it?") from error
        return server

    async def _say(self, status: int) -> None:
        for name in HEALTH_NAMES:
            await self._health.set(name, status)

    async def _watch(self) -> None:
        """Beat while all is well; step back while an inference is too slow; end the process when one hangs."""
        stalled, busy_for, before = False, 0.0, None
        while True:
            # Reckoned in beats, so that time for which the whole process was stopped does not count.
            running = self._slot.running_since
            busy_for = busy_for + HEARTBEAT_SECONDS if running is not None and running == before else 0.0
            before = running
            if busy_for > self._settings.hang_seconds:
                log.critical("the inference hangs, ending this worker", extra={"seconds": busy_for})
                logging.shutdown()
                os._exit(EXIT_HUNG)  # the hanging thread cannot be ended in another way
            if stalled != (busy_for > self._settings.stall_seconds):
                stalled = not stalled
                log.warning("the inference stalls" if stalled else "the inference has ended, serving again")
                await self._say(NOT_SERVING if stalled else SERVING)
            with suppress(BlockingIOError):  # the pipe is full: that tells the supervisor as much as one byte more
                os.write(self._heartbeat_fd, b".")
            await asyncio.sleep(HEARTBEAT_SECONDS)

    async def _drain(self) -> None:
        """Let traffic leave before the ports close: with an immediate stop a balancer still sends requests here."""
        log.info("draining")
        await self._health.enter_graceful_shutdown()
        await asyncio.sleep(self._settings.drain_seconds)


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


def load(settings: Settings, limits: ImageLimits) -> Detector:
    """Load the engine of the settings and examine one picture with it, so that SERVING means ready.

    The picture has a face, so all of the cascade is warm after it; one that is not found is a fault in the set-up.
    """
    cascade = CascadeSettings(
        settings.scale_factor, settings.pnet_threshold, settings.rnet_threshold, settings.onet_threshold
    )
    detector = load_detector(settings.engine, cascade)
    picture = decode(files("inference").joinpath("warm_up.webp").read_bytes(), limits)
    if not detector.detect(picture.rgb, DetectOptions(), Steps()):
        log.warning("no face in the warm-up picture, which has one: look at the thresholds and the weights")
    return detector


def main() -> None:
    """Run the worker that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slot", type=int, required=True)
    parser.add_argument("--heartbeat-fd", type=int, required=True)
    parser.add_argument("--supervisor", type=int, required=True)
    arguments = parser.parse_args()
    die_with(arguments.supervisor)
    os.set_blocking(arguments.heartbeat_fd, False)
    settings = Settings()
    logs.configure(settings.log_level, f"worker {arguments.slot}")
    try:
        asyncio.run(_run(settings, arguments.slot, arguments.heartbeat_fd))
    except (CannotStart, EngineNotInstalled, UnknownEngine) as error:
        log.critical(str(error))
        sys.exit(EXIT_CANNOT_START)


async def _run(settings: Settings, slot: int, heartbeat_fd: int) -> None:
    worker = Worker(settings, slot, load, heartbeat_fd)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
    await worker.run()
    logging.shutdown()
    os._exit(0)  # all calls are answered; what an abandoned thread still computes is not waited for


if __name__ == "__main__":
    main()
