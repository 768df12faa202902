"""The base class of both services' settings, with the settings that both read."""

import os
import re
from difflib import get_close_matches
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AliasChoices,
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from telemetry.variables import VARIABLES

PREFIX = "FACET_"
# Python also reads 1_0 as 10, and digits of other scripts.
NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")


class ServiceSettings(BaseSettings):
    """Each field is an environment variable: FACET_ and the field's name in capitals."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, use_attribute_docstrings=True
    )

    max_body_bytes: int = Field(10 * 1024 * 1024, ge=1024, le=10 * 1024 * 1024)
    """Maximum size of a request body, and so of an image, in bytes. At most 10485760, because Envoy rejects larger
    bodies."""
    deadline_seconds: float = Field(15.0, gt=0, le=15)
    """Maximum time in seconds of a request, even if its client allows more. At most 15, because Envoy ends a request
    after 16 s."""
    drain_seconds: float = Field(3.0, ge=0)
    """Time in seconds that a stopping worker or gateway fails its health check before it closes. Envoy needs 2 s to
    notice, and must retry any request that it sends to a closed one."""
    grace_seconds: float = Field(25.0, gt=0, le=28)
    """Maximum time in seconds of a shutdown; after that, the remaining processes are killed. At most 28, because
    containers are killed after 30 s."""

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
    """none turns traces off. otlp turns them on; without an endpoint, they go to http://localhost:4317."""
    otel_disabled: str = Field("", validation_alias="OTEL_SDK_DISABLED")
    """true turns traces off, whatever else is set."""

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_other_digits(cls, value: Any, info: ValidationInfo) -> Any:
        numeric = cls.model_fields[info.field_name or ""].annotation in (int, float, int | None)
        if numeric and isinstance(value, str) and not NUMBER.fullmatch(value.strip()):
            raise ValueError(f"{value!r} is not a number; write it with the digits 0 to 9")
        return value

    @model_validator(mode="after")
    def _refuse_a_drain_beyond_the_grace(self) -> Self:
        if self.drain_seconds >= self.grace_seconds:
            raise ValueError(
                f"FACET_DRAIN_SECONDS is {self.drain_seconds:g}; it must be below FACET_GRACE_SECONDS, "
                f"{self.grace_seconds:g}, at which the processes are killed"
            )
        return self

    @property
    def traces(self) -> bool:
        """Whether traces are on, according to OpenTelemetry's own variables."""
        wanted = bool(self.otlp_endpoint or self.traces_exporter)
        return wanted and self.traces_exporter != "none" and self.otel_disabled.lower() != "true"

    @classmethod
    def format_errors(cls, error: ValidationError) -> str:
        """Describe each invalid variable in a line: what is wrong, and what the setting means."""
        return "\n".join(cls._format(fault["msg"], *fault["loc"][:1]) for fault in error.errors())

    @classmethod
    def _format(cls, message: str, name: int | str = "") -> str:
        message = message.removeprefix("Value error, ")
        if not name:  # by a validator of several settings, whose message is a whole sentence
            return message
        described = (
            field.description or ""
            for field_name, field in cls.model_fields.items()
            if name == field_name or name in getattr(field.validation_alias, "choices", [field.validation_alias])
        )
        variable = f"{PREFIX}{str(name).upper()}" if name in cls.model_fields else name
        return f"{variable}: {message}. {' '.join(next(described).split())}"


def unknown_variables() -> list[str]:
    """Write a sentence about each FACET_ variable in the environment that no part of facet reads."""
    sentences = []
    known = {name.removeprefix(PREFIX) for name in VARIABLES}
    for name in sorted(os.environ):
        if name.upper().startswith(PREFIX) and name.upper() not in VARIABLES:
            close = get_close_matches(name.upper().removeprefix(PREFIX), known, n=1)
            hint = f"did you mean {PREFIX}{close[0]}?" if close else "docs/settings.md lists the settings"
            sentences.append(f"{name} is not a setting of facet and has no effect; {hint}")
    return sentences
