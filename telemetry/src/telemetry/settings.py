"""The base class of both services' settings, with the settings that both read."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AliasChoices, BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict


class ServiceSettings(BaseSettings):
    """Each field is an environment variable: FACET_ and the field's name in capitals."""

    model_config = SettingsConfigDict(
        env_prefix="FACET_", env_ignore_empty=True, frozen=True, use_attribute_docstrings=True
    )

    max_body_bytes: int = Field(10 * 1024 * 1024, ge=1024)
    """The largest request body, and so the largest image, in bytes. Envoy has its own limit of 10 MiB."""
    deadline_seconds: float = Field(15.0, gt=0)
    """The longest that a request may take, however much more its caller would allow."""
    grace_seconds: float = Field(25.0, gt=0)
    """The longest that stopping may take, draining included; then processes are killed."""

    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    """Minimum level of the log: DEBUG, INFO, WARNING or ERROR."""

    otlp_endpoint: str = Field(
        "", validation_alias=AliasChoices("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    )
    """Where `make serve` sends traces: http://host:4317. Compose: make up TRACES=on; Kubernetes: components/traces."""
    otlp_protocol: Annotated[Literal["grpc"], BeforeValidator(str.lower)] = Field(
        "grpc", validation_alias=AliasChoices("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    )
    """Protocol for sending traces. The services reject any other value."""
    traces_exporter: Annotated[Literal["", "none", "otlp"], BeforeValidator(str.lower)] = Field(
        "", validation_alias="OTEL_TRACES_EXPORTER"
    )
    """none turns traces off; otlp turns them on even without an endpoint, for http://localhost:4317."""
    otel_disabled: str = Field("", validation_alias="OTEL_SDK_DISABLED")
    """true turns traces off, whatever else is set."""

    @property
    def traces(self) -> bool:
        """Whether traces are on, according to OpenTelemetry's own variables."""
        wanted = bool(self.otlp_endpoint or self.traces_exporter)
        return wanted and self.traces_exporter != "none" and self.otel_disabled.lower() != "true"

    @classmethod
    def format_errors(cls, error: ValidationError) -> str:
        """Describe each invalid variable in a line."""
        return "\n".join(f"{_variable(str(fault['loc'][0]))}: {fault['msg']}" for fault in error.errors())


def _variable(name: str) -> str:
    return name if name.startswith("OTEL_") else f"FACET_{name.upper()}"
