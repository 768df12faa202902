"""The worker process: one detector behind a gRPC service with health checks. The supervisor starts it.

    python -m inference.process.worker --slot 0 --id 3f9a1c07 --heartbeat-fd 5 --supervisor 4711

While it serves, it writes a byte to the file descriptor every half second, as a heartbeat.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from importlib.resources import files
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from inference.examination import Options, examine
from inference.imaging.decode import ImageLimits
from inference.mtcnn.detector import CascadeSettings, Detector
from inference.mtcnn.engines import EngineNotInstalled, EngineSettings, UnknownEngine, load_detector
from inference.mtcnn.kernels import KernelsMissing
from inference.mtcnn.networks import BadWeights
from inference.mtcnn.steps import Steps
from inference.process.system import CannotStart, die_with, prove_reuse_port
from inference.process.watchdog import Watchdog
from inference.rpc.interceptors import MessageParser
from inference.rpc.metrics import WorkerMetrics
from inference.rpc.queue import MEMORY, InferenceQueue
from inference.rpc.servicer import InferenceServicer
from inference.settings import Settings
from protos import infer_pb2, infer_pb2_grpc
from telemetry import logs

if TYPE_CHECKING:
    from inference.rpc.traces import Traces

log = logging.getLogger(__name__)

SERVICE = infer_pb2.DESCRIPTOR.services_by_name["Inference"].full_name
HEALTH_NAMES = ("", SERVICE)
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
WARM_UP_LIMITS = ImageLimits(max_bytes=100_000, max_pixels=100_000, max_side=1000)
# A message holds a few fields besides the image.
MESSAGE_OVERHEAD = 1024 * 1024
# gRPC ends a call or a stream with a larger message as RESOURCE_EXHAUSTED, which looks like overload. A worker receives
# up to this multiple of its limit, so that it can refuse an image with a reason and go on with the stream.
RECEIVED_PER_ACCEPTED = 1.5

EXIT_CANNOT_START = 3

Load = Callable[[Settings], Detector]


class Worker:
    """The life cycle of a worker: listen, load and warm up, serve, drain, stop."""

    def __init__(self, settings: Settings, slot: int, worker_id: str, load: Load, heartbeat_fd: int) -> None:
        self.address = f"{settings.host}:{settings.worker_port + slot}"
        self._settings = settings
        # Ends a second before the supervisor kills this process.
        self._grace = max(0.0, settings.grace_seconds - settings.drain_seconds - 1)
        self._load = load
        self._max_message_bytes = settings.max_body_bytes + MESSAGE_OVERHEAD
        memory = max(MEMORY, settings.max_body_bytes)
        self.queue = InferenceQueue(settings.queue_places, settings.queue_seconds, memory=memory)
        self._health = health.aio.HealthServicer()
        self._traces = _traces(settings, worker_id)
        self._servicer = InferenceServicer(
            self.queue,
            ImageLimits(settings.max_body_bytes, settings.max_pixels, settings.max_side),
            max_message_bytes=self._max_message_bytes,
            min_face_size=settings.min_face_size,
            deadline=settings.deadline_seconds,
            max_streams=settings.max_streams,
            worker=worker_id,
            metrics=WorkerMetrics(slot),
            traces=self._traces,
        )
        self._watchdog = Watchdog(
            self.queue,
            heartbeat_fd,
            self._set_serving,
            stall_seconds=settings.stall_seconds,
            hang_seconds=settings.hang_seconds,
        )
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Start draining."""
        self._stopping.set()

    async def run(self) -> None:
        """Serve until `stop` is called, then drain. Raises CannotStart, or what `load` raises."""
        await self._set_serving(serving=False)  # the health service starts with SERVING
        await prove_reuse_port()
        own = self._server(self.address, reuse_port=False)
        await own.start()
        try:
            await self._serve(own)
        except BaseException:
            await own.stop(None)
            raise

    async def _serve(self, own: grpc.aio.Server) -> None:
        # In a thread, so that health checks are answered meanwhile.
        loading = asyncio.create_task(asyncio.to_thread(self._load, self._settings))
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait([loading, stopping], return_when=asyncio.FIRST_COMPLETED)
        if stopping.done():
            await own.stop(None)
            return
        self._servicer.detector = loading.result()
        # A second server, because SO_REUSEPORT applies to all ports of a server, and on the worker's own port it would
        # hide a double start. It starts only now, because the kernel gives connections to every listening worker.
        shared = self._server(f"{self._settings.host}:{self._settings.port}", reuse_port=True)
        await shared.start()
        await self._set_serving(serving=True)
        log.info("serving", extra={"address": self.address})
        watching = asyncio.create_task(self._watchdog.run())
        await stopping
        await self._drain(own, shared)
        watching.cancel()
        if self._traces:
            self._traces.close()
        log.info("stopped")

    async def _drain(self, own: grpc.aio.Server, shared: grpc.aio.Server) -> None:
        """Report NOT_SERVING before the ports close, because a balancer sends requests until its next health check."""
        log.info("draining")
        await self._health.enter_graceful_shutdown()
        self._servicer.drain()
        closing = asyncio.create_task(shared.stop(self._grace))
        await asyncio.sleep(self._settings.drain_seconds)
        await asyncio.gather(closing, own.stop(self._grace))

    def _server(self, address: str, *, reuse_port: bool) -> grpc.aio.Server:
        server = grpc.aio.server(
            interceptors=[MessageParser(self._max_message_bytes)],
            options=[
                ("grpc.so_reuseport", int(reuse_port)),
                ("grpc.max_receive_message_length", int(RECEIVED_PER_ACCEPTED * self._max_message_bytes)),
                ("grpc.max_send_message_length", -1),
                ("grpc.http2.max_ping_strikes", 0),  # Envoy sends a ping every second
            ],
        )
        infer_pb2_grpc.add_InferenceServicer_to_server(self._servicer, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        try:
            server.add_insecure_port(address)
        except RuntimeError as error:
            raise CannotStart(f"cannot listen on {address}; is another program using it?") from error
        return server

    async def _set_serving(self, serving: bool) -> None:  # noqa: FBT001 - its only argument
        for name in HEALTH_NAMES:
            await self._health.set(name, SERVING if serving else NOT_SERVING)


def _traces(settings: Settings, worker_id: str) -> Traces | None:
    if not settings.traces:
        return None
    from inference.rpc.traces import Traces  # noqa: PLC0415 - costs nothing when traces are off

    return Traces(worker_id)


def load(settings: Settings) -> Detector:
    """Load the engine that the settings name and examine one image, so that SERVING means ready.

    The image has a face, so that the whole cascade runs. Raises what `load_detector` raises.
    """
    cascade = CascadeSettings(
        settings.scale_factor, settings.pnet_threshold, settings.rnet_threshold, settings.onet_threshold
    )
    engine = EngineSettings(cascade, settings.weights, settings.onnxruntime_provider)
    detector = load_detector(settings.engine, engine)
    log.info("loaded", extra={"engine": detector.engine, "device": detector.device})
    if settings.onnxruntime_provider not in ("", detector.device):
        log.warning("%s is not available; the networks run on the CPU", settings.onnxruntime_provider)
    image = files("inference").joinpath("warm_up.webp").read_bytes()
    if not examine(image, Options(), detector, WARM_UP_LIMITS, Steps()).faces:
        log.warning("no face found in the warm-up image, which has one: check the thresholds and the weights")
    return detector


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slot", type=int, required=True)
    parser.add_argument("--id", required=True)
    parser.add_argument("--heartbeat-fd", type=int, required=True)
    parser.add_argument("--supervisor", type=int, required=True)
    arguments = parser.parse_args()
    die_with(arguments.supervisor)
    os.set_blocking(arguments.heartbeat_fd, False)
    settings = Settings()
    logs.configure(settings.log_level, tier="inference", part=f"worker {arguments.slot}", worker=arguments.id)
    try:
        asyncio.run(_run(settings, arguments.slot, arguments.id, arguments.heartbeat_fd))
    except (CannotStart, UnknownEngine, EngineNotInstalled, BadWeights, KernelsMissing) as error:
        log.critical(str(error))
        sys.exit(EXIT_CANNOT_START)
    except Exception:
        log.critical("unexpected error; the worker is exiting", exc_info=True)
        sys.exit(EXIT_CANNOT_START)


async def _run(settings: Settings, slot: int, worker_id: str, heartbeat_fd: int) -> None:
    worker = Worker(settings, slot, worker_id, load, heartbeat_fd)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
    await worker.run()
    logging.shutdown()
    os._exit(0)  # all calls are answered; an abandoned thread may still compute


if __name__ == "__main__":
    main()
