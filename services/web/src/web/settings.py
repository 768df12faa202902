"""The settings of the gateway, read from the environment."""

from typing import Self

from pydantic import Field, model_validator

from telemetry.settings import ServiceSettings

# Threads of all processes together; the container's limit for processes and threads also holds those of gRPC.
MAX_THREADS = 320


class Settings(ServiceSettings):
    """The settings of gunicorn and of the application."""

    web_host: str = "0.0.0.0"  # noqa: S104 - containers listen on all their addresses; `make serve` on loopback
    """Address to listen on."""
    web_port: int = Field(8000, ge=1, le=65535)
    """Port of the HTTP API. Envoy calls the gateway there."""
    web_metrics_port: int = Field(8001, ge=1, le=65535)
    """Port of /metrics for Prometheus. The edge does not route to it."""
    web_processes: int = Field(2, ge=1)
    """Number of gunicorn processes. The gateway computes little; with two, one serves while the other is replaced."""
    web_threads: int = Field(128, ge=8)
    """Maximum number of simultaneous requests per process, one thread each; more get 503 BUSY. At most 320 in all
    processes together, because the container's number of threads is limited."""
    inference_target: str = "envoy:50050"
    """Address of Envoy's internal listener, host:port, through which the gateway calls the workers."""

    max_batch_images: int = Field(32, ge=1)
    """Maximum number of images in a request to /predict/batch."""
    batch_concurrency: int = Field(4, ge=1)
    """Number of images of a batch that are processed at the same time. More would let one batch fill the queues."""

    @model_validator(mode="after")
    def _refuse_too_many_threads(self) -> Self:
        if self.web_processes * self.web_threads > MAX_THREADS:
            raise ValueError(
                f"FACET_WEB_PROCESSES x FACET_WEB_THREADS is {self.web_processes} x {self.web_threads}; it must be at "
                f"most {MAX_THREADS}, which the container's limit of threads allows; run more gateways instead"
            )
        return self

    @model_validator(mode="after")
    def _refuse_equal_ports(self) -> Self:
        if self.web_port == self.web_metrics_port:
            raise ValueError(f"FACET_WEB_PORT and FACET_WEB_METRICS_PORT are both {self.web_port}; set different ports")
        return self
