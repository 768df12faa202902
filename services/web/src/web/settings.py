"""The settings of the gateway, read from the environment."""

from __future__ import annotations

from pydantic import Field
from telemetry.settings import ServiceSettings


class Settings(ServiceSettings):
    """The settings of gunicorn and of the application."""

    web_host: str = "0.0.0.0"  # noqa: S104 - containers listen on all their addresses; `make serve` on loopback
    """Address to listen on."""
    web_port: int = Field(8000, ge=1, le=65535)
    """Port of the HTTP API. Envoy calls the gateway there."""
    web_metrics_port: int = Field(8001, ge=1, le=65535)
    """Port of /metrics for Prometheus. The edge does not route to it."""
    web_processes: int = Field(2, ge=1)
    """Number of gunicorn processes. The gateway computes little; with two, one answers while the other is replaced."""
    web_threads: int = Field(128, ge=8)
    """Maximum number of simultaneous requests per process, one thread each; more get 503 BUSY."""
    inference_target: str = "envoy:50050"
    """Address of Envoy's internal listener, host:port, through which the gateway calls the workers."""

    max_batch_images: int = Field(32, ge=1)
    """Maximum number of images in a request to /predict/batch."""
    batch_concurrency: int = Field(4, ge=1)
    """Number of images of a batch that are processed at the same time. More would let one batch fill the queues."""
