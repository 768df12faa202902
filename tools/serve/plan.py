"""What `make serve` runs and where each part listens."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOGS = ROOT / ".serve"
LOOPBACK = "127.0.0.1"


class CannotServe(Exception):
    """The stack cannot start; the message says why and what to do."""


@dataclass(frozen=True)
class Ports:
    """The port of each listener; the defaults are those of the containers."""

    edge: int = 8080
    web: int = 8000
    web_metrics: int = 8001
    internal: int = 50050
    shared: int = 50051
    admin: int = 9901
    inference_metrics: int = 50052
    envoy_metrics: int = 9902
    worker: int = 50061
    """That of the first worker; the others follow."""

    @classmethod
    def from_base(cls, edge: int, base: int) -> Ports:
        """Put all listeners but the edge on `base` and the 23 ports above it, in this order, for a second stack."""
        return cls(edge, *range(base, base + 8))


@dataclass(frozen=True)
class Plan:
    """One stack. A replica stands for a container; the first listens on 127.0.0.1, the second on 127.0.0.2, ..."""

    ports: Ports = field(default_factory=Ports)
    workers: int | None = None
    inference_replicas: int = 1
    web_replicas: int = 1
    logs: Path = LOGS
    inference: str = "inference"
    keys: Path | None = None
    rate_limit: Path | None = None
    edge_tls: Path | None = None

    @property
    def scheme(self) -> str:
        return "https" if self.edge_tls else "http"


def addresses(count: int) -> list[str]:
    """Return loopback addresses, one for each replica."""
    return [f"127.0.0.{1 + index}" for index in range(count)]
