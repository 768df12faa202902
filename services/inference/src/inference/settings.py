"""The settings of the inference service, read from the environment."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from telemetry.settings import ServiceSettings

from inference.process.cgroup import available_cpus, available_memory

# Envoy lists this many workers' ports per host, and one more for the successor during a rolling restart.
MAX_WORKERS = 16
# Peak memory of a worker for the most expensive image found, with headroom: see docs/detector.md.
WORKER_BYTES = 1.5 * 1024**3


class Settings(ServiceSettings):
    """The settings of the supervisor and its workers."""

    workers: int | None = Field(None, ge=1, le=MAX_WORKERS)
    """Number of worker processes, 1 to 16. Unset: one per CPU that the cgroup grants and per 1.5 GiB of memory."""
    host: str = "0.0.0.0"  # noqa: S104 - containers listen on all their addresses; `make serve` on loopback
    """Address to listen on."""
    port: int = Field(50051, ge=1, le=65535)
    """Port that all workers share (SO_REUSEPORT), for direct clients and for the Kubernetes probes."""
    worker_port: int = Field(50061, ge=1, le=65535 - MAX_WORKERS)
    """First of the workers' own ports, one per worker and one for a successor. Envoy calls the workers there."""
    metrics_host: str = ""
    """Address of /metrics, or a host name that resolves to one of this machine's addresses. Unset: FACET_HOST."""
    metrics_port: int = Field(50052, ge=1, le=65535)
    """Port of /metrics for Prometheus, with the metrics of the supervisor and of the workers."""
    engine: str = "openvino"
    """Runtime of the networks: openvino, onnxruntime, or tensorflow (the mtcnn package). All find the same faces."""
    weights: Path | None = None
    """Directory with your own three networks, see docs/weights.md. Unset: the weights of the mtcnn package."""
    onnxruntime_provider: str = ""
    """Accelerator of the engine onnxruntime, such as CUDAExecutionProvider. Unset, or if it is missing: the CPU."""

    max_pixels: int = Field(40_000_000, ge=1)
    """Maximum number of pixels of an image, checked before it is decoded."""
    max_side: int = Field(16384, ge=1)
    """Maximum width and height of an image in pixels."""

    min_face_size: int = Field(20, ge=12, le=16384)
    """Size of the smallest face to look for, in pixels, if the request does not set it. A larger value is faster."""
    scale_factor: float = Field(0.709, ge=0.1, le=0.95)
    """Ratio between the sizes of two neighbouring levels of the image pyramid."""
    pnet_threshold: float = Field(0.6, ge=0, le=1)
    """Minimum score of a candidate in the first network, P-Net."""
    rnet_threshold: float = Field(0.7, ge=0, le=1)
    """Minimum score of a candidate in the second network, R-Net."""
    onet_threshold: float = Field(0.8, ge=0, le=1)
    """Minimum score of a candidate in the third network, O-Net, and so the lowest confidence of a result."""

    queue_places: int = Field(48, ge=0)
    """Maximum number of requests waiting at a worker, with at most 160 MiB of images; more are rejected as busy."""
    queue_seconds: float = Field(5.0, gt=0)
    """Maximum time in seconds that a request waits at a worker; then it is rejected as busy."""
    max_streams: int = Field(8, ge=0)
    """Maximum number of open PredictStream calls per worker; more are rejected as busy."""

    drain_seconds: float = Field(3.0, ge=0)
    """Time in seconds that a stopping worker reports NOT_SERVING before it closes, so that Envoy notices."""
    start_seconds: float = Field(120.0, gt=0)
    """Maximum time in seconds until a new worker serves; then it is killed."""
    stall_seconds: float = Field(20.0, gt=0)
    """A worker reports NOT_SERVING while it runs an inference for longer than this, in seconds."""
    hang_seconds: float = Field(30.0, gt=0)
    """Maximum time in seconds of an inference, or of a silent event loop; then the worker is killed and replaced."""

    @property
    def worker_count(self) -> int:
        """The number of workers to run."""
        by_memory = max(1.0, available_memory() / WORKER_BYTES)
        return self.workers or int(min(MAX_WORKERS, available_cpus(), by_memory))
