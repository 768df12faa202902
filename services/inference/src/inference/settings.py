"""The settings of the inference service: the only place that reads the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AliasChoices, BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from inference.process.cgroup import available_cpus, available_memory

# Envoy lists the ports of so many workers a host, and one more for the successor during a rolling restart.
MAX_WORKERS = 16
# What a worker takes for the worst picture that was found, with room: see docs/detector.md.
WORKER_BYTES = 1.5 * 1024**3


class Settings(BaseSettings):
    """Each field is the variable FACET_ + its name in capitals."""

    model_config = SettingsConfigDict(
        env_prefix="FACET_", env_ignore_empty=True, frozen=True, use_attribute_docstrings=True
    )

    workers: int | None = Field(None, ge=1, le=MAX_WORKERS)
    """Worker processes, 1 to 16. Left open: one per CPU that the cgroup grants, and per 1.5 GiB of memory."""
    host: str = "0.0.0.0"  # noqa: S104 - containers listen on all their addresses; `make serve` on loopback
    """Address to listen on."""
    port: int = Field(50051, ge=1, le=65535)
    """The port that all workers share (SO_REUSEPORT), for direct clients and for Kubernetes' probe."""
    worker_port: int = Field(50061, ge=1, le=65535 - MAX_WORKERS)
    """The first of the ports that belong to one worker each; Envoy's endpoints."""
    metrics_host: str = ""
    """Address of /metrics, or a name for it: of its addresses the one of this machine. Left open: FACET_HOST."""
    metrics_port: int = Field(50052, ge=1, le=65535)
    """Port of the workers' and the supervisor's /metrics, for Prometheus alone."""
    engine: str = "openvino"
    """What computes: openvino, onnxruntime, or tensorflow (the mtcnn package itself). The faces are the same."""
    weights: Path | None = None
    """A directory with your own three networks, see docs/weights.md. Left open: those of the mtcnn package."""
    onnxruntime_provider: str = ""
    """An accelerator for the engine onnxruntime, such as CUDAExecutionProvider. Left open, or not present: the CPU."""

    max_body_bytes: int = Field(10 * 1024 * 1024, ge=1024)
    """The largest request body, and so the largest image, in bytes. Envoy has its own limit of 10 MiB."""
    max_pixels: int = Field(40_000_000, ge=1)
    """The largest picture in pixels, checked before it is decoded."""
    max_side: int = Field(16384, ge=1)
    """The longest side of a picture in pixels."""

    min_face_size: int = Field(20, ge=12, le=16384)
    """The smallest face that is looked for, in pixels, when a request does not say. Larger is faster."""
    scale_factor: float = Field(0.709, ge=0.1, le=0.95)
    """How much smaller each level of the image pyramid is than the one before."""
    pnet_threshold: float = Field(0.6, ge=0, le=1)
    """Candidates of the first network below this score are dropped."""
    rnet_threshold: float = Field(0.7, ge=0, le=1)
    """The same for the second network."""
    onet_threshold: float = Field(0.8, ge=0, le=1)
    """The same for the third: the lowest confidence of an answer."""

    deadline_seconds: float = Field(15.0, gt=0)
    """The longest that a request may take, however much more its caller would allow."""
    queue_places: int = Field(48, ge=0)
    """Requests that may wait at one worker, with 160 MiB of images; more are refused as busy."""
    queue_seconds: float = Field(5.0, gt=0)
    """The longest that one may wait there before it is refused as busy."""
    max_streams: int = Field(8, ge=0)
    """Open PredictStream calls per worker; more are refused as busy."""

    drain_seconds: float = Field(3.0, ge=0)
    """How long a stopping worker says NOT_SERVING before it closes: above Envoy's health interval x threshold."""
    grace_seconds: float = Field(25.0, gt=0)
    """The longest that stopping may take, draining included; then processes are killed."""
    start_seconds: float = Field(120.0, gt=0)
    """A worker that is not serving after so long is killed."""
    stall_seconds: float = Field(20.0, gt=0)
    """A worker whose running inference is older says NOT_SERVING until it ends."""
    hang_seconds: float = Field(30.0, gt=0)
    """A worker whose running inference is older, or whose event loop is silent for so long, is killed and replaced."""

    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    """DEBUG, INFO, WARNING or ERROR."""

    otlp_endpoint: str = Field(
        "", validation_alias=AliasChoices("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    )
    """Where `make serve` sends traces: http://host:4317. Compose: make up TRACES=on; Kubernetes: components/traces."""
    otlp_protocol: Annotated[Literal["grpc"], BeforeValidator(str.lower)] = Field(
        "grpc", validation_alias=AliasChoices("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    )
    """How traces are sent; with another word than this one the services do not start."""
    traces_exporter: Annotated[Literal["", "none", "otlp"], BeforeValidator(str.lower)] = Field(
        "", validation_alias="OTEL_TRACES_EXPORTER"
    )
    """none switches traces off; otlp switches them on without an address, for http://localhost:4317."""
    otel_disabled: str = Field("", validation_alias="OTEL_SDK_DISABLED")
    """true switches traces off, whatever else is set."""

    @property
    def traces(self) -> bool:
        """Whether traces are made, by OpenTelemetry's own variables."""
        wanted = bool(self.otlp_endpoint or self.traces_exporter)
        return wanted and self.traces_exporter != "none" and self.otel_disabled.lower() != "true"

    @property
    def worker_count(self) -> int:
        """The number of workers that run."""
        by_memory = max(1.0, available_memory() / WORKER_BYTES)
        return self.workers or int(min(MAX_WORKERS, available_cpus(), by_memory))


def complaints(error: ValidationError) -> str:
    """Say in a line for each wrong variable what is wrong with it."""
    return "\n".join(f"{_variable(str(fault['loc'][0]))}: {fault['msg']}" for fault in error.errors())


def _variable(name: str) -> str:
    return name if name.startswith("OTEL_") else f"FACET_{name.upper()}"
