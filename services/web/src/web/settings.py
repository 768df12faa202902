"""The settings of the gateway: the only place that reads the environment."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AliasChoices, BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Each field is the variable FACET_ + its name in capitals."""

    model_config = SettingsConfigDict(
        env_prefix="FACET_", env_ignore_empty=True, frozen=True, use_attribute_docstrings=True
    )

    web_host: str = "0.0.0.0"  # noqa: S104 - containers listen on all their addresses; `make serve` on loopback
    """Address to listen on."""
    web_port: int = Field(8000, ge=1, le=65535)
    """Port of the HTTP API, for Envoy."""
    web_metrics_port: int = Field(8001, ge=1, le=65535)
    """Port of /metrics, for Prometheus alone; the edge does not lead there."""
    web_processes: int = Field(2, ge=1)
    """gunicorn processes. The gateway computes little: two keep it answering while one is replaced."""
    web_threads: int = Field(128, ge=8)
    """Requests that one process handles at a time; each thread mostly waits for a worker. Above it: 503 BUSY."""
    inference_target: str = "envoy:50050"
    """Where the workers are called: Envoy's internal listener, host:port."""

    max_body_bytes: int = Field(10 * 1024 * 1024, ge=1024)
    """The largest request body, and so the largest image, in bytes. Envoy has its own limit of 10 MiB."""
    deadline_seconds: float = Field(15.0, gt=0)
    """The longest that a request may take, however much more its caller would allow."""
    max_batch_images: int = Field(32, ge=1)
    """Images in one /predict/batch."""
    batch_concurrency: int = Field(4, ge=1)
    """Images of one batch that are examined at the same time; more would take all places at the workers."""
    grace_seconds: float = Field(25.0, gt=0)
    """The longest that stopping may take; then processes are killed."""

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


def complaints(error: ValidationError) -> str:
    """Say in a line for each wrong variable what is wrong with it."""
    return "\n".join(f"{_variable(str(fault['loc'][0]))}: {fault['msg']}" for fault in error.errors())


def _variable(name: str) -> str:
    return name if name.startswith("OTEL_") else f"FACET_{name.upper()}"
