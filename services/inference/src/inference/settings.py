"""The settings of the inference service, read from the environment."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from inference.process.cgroup import available_cpus, available_memory
from telemetry.settings import ServiceSettings

# Envoy lists this many workers' ports per host, and one more for the successor during a rolling restart.
MAX_WORKERS = 16
# Peak memory of a worker for the most expensive image found, with headroom: see docs/detector.md.
WORKER_BYTES = 1.5 * 1024**3


class Settings(ServiceSettings):
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
    """Directory with your own three networks (docs/weights.md). Unset: the weights of the mtcnn package."""
    onnxruntime_provider: str = ""
    """Accelerator for the engine onnxruntime, such as CUDAExecutionProvider. Unset or not available: the CPU."""

    max_pixels: int = Field(40_000_000, ge=1)
    """Maximum number of pixels of an image, checked before it is decoded. Larger images need more than 1.5 GiB per
    worker."""
    max_side: int = Field(16384, ge=1)
    """Maximum width and height of an image in pixels."""

    min_face_size: int = Field(20, ge=12, le=16384)
    """Size of the smallest face to look for, in pixels, if the request does not set it. A larger value is faster."""
    scale_factor: float = Field(0.709, ge=0.1, le=0.95)
    """Ratio between the sizes of two adjacent levels of the image pyramid."""
    pnet_threshold: float = Field(0.6, ge=0, le=1)
    """Minimum score of a candidate in the first network, P-Net."""
    rnet_threshold: float = Field(0.7, ge=0, le=1)
    """Minimum score of a candidate in the second network, R-Net."""
    onet_threshold: float = Field(0.8, ge=0, le=1)
    """Minimum score of a candidate in the third network, O-Net, and so the lowest confidence of a result."""

    queue_places: int = Field(48, ge=0, le=1023)
    """Maximum number of requests waiting at a worker, with at most 160 MiB of images; more are rejected as busy. At
    most 1023, because Envoy allows no more to all workers."""
    queue_seconds: float = Field(5.0, gt=0)
    """Maximum time in seconds that a request may wait at a worker, within its deadline. Requests that wait longer, or
    are expected to, are rejected as busy."""
    max_streams: int = Field(8, ge=0, le=256)
    """Maximum number of open PredictStream calls per worker; more are rejected as busy. At most 256, because Envoy
    allows no more to all workers."""

    start_seconds: float = Field(120.0, gt=0, le=120)
    """Maximum time in seconds until a new worker serves; after that, it is killed. At most 120, because the containers'
    health checks wait no longer."""
    stall_seconds: float = Field(20.0, gt=0)
    """Time in seconds after which a running inference makes its worker report NOT_SERVING, until the inference ends."""
    hang_seconds: float = Field(30.0, gt=0, le=50)
    """Maximum time in seconds of an inference, or of an event loop without a heartbeat; after that, the worker is
    killed and replaced. At most 50, because Kubernetes restarts a silent container after 60 s."""

    @model_validator(mode="after")
    def _refuse_settings_without_effect(self) -> Self:
        if self.stall_seconds >= self.hang_seconds:
            raise ValueError(
                f"FACET_STALL_SECONDS is {self.stall_seconds:g}; it must be below FACET_HANG_SECONDS, "
                f"{self.hang_seconds:g}, at which the worker is killed"
            )
        if "queue_seconds" in self.model_fields_set and self.queue_seconds > self.deadline_seconds:
            raise ValueError(
                f"FACET_QUEUE_SECONDS is {self.queue_seconds:g}; it must not exceed FACET_DEADLINE_SECONDS, "
                f"{self.deadline_seconds:g}, at which a waiting request ends"
            )
        if self.onnxruntime_provider and self.engine != "onnxruntime":
            raise ValueError(
                f"FACET_ONNXRUNTIME_PROVIDER is {self.onnxruntime_provider}, which the engine {self.engine} does not "
                "use; unset it, or set FACET_ENGINE=onnxruntime"
            )
        return self

    @model_validator(mode="after")
    def _refuse_overlapping_ports(self) -> Self:
        own = range(self.worker_port, self.worker_port + (self.workers or MAX_WORKERS) + 1)
        for name, port in (("FACET_PORT", self.port), ("FACET_METRICS_PORT", self.metrics_port)):
            if port in own:
                raise ValueError(
                    f"{name} is {port}, one of the workers' own ports, {own[0]} to {own[-1]}; "
                    "set another port, or another FACET_WORKER_PORT"
                )
        if self.port == self.metrics_port:
            raise ValueError(f"FACET_PORT and FACET_METRICS_PORT are both {self.port}; set different ports")
        return self

    @property
    def worker_count(self) -> int:
        by_memory = max(1.0, available_memory() / WORKER_BYTES)
        return self.workers or int(min(MAX_WORKERS, available_cpus(), by_memory))
