"""What the commands ask: a service over HTTP or gRPC, or a detector in this process."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol, Self, Unpack

from facet.grpc_client import AsyncGrpcClient
from facet.http_client import AsyncClient
from facet.messages import DetectOptions, DrawOptions, ImageSource
from facet.results import Annotated, Detection


class Detector(Protocol):
    """What the clients have in common."""

    async def __aenter__(self) -> Self:
        """Open it."""

    async def __aexit__(self, *_: object) -> None:
        """Close it."""

    async def detect(self, image: ImageSource, **options: Unpack[DetectOptions]) -> Detection:
        """Find the faces in a picture."""

    async def annotate(self, image: ImageSource, **options: Unpack[DrawOptions]) -> Annotated:
        """Give the picture back with its faces drawn or blurred."""


class WrongSetUp(Exception):
    """The detector cannot run in this process as the environment sets it up; the text says why."""


class AsyncLocalClient:
    """The detector in this process, in threads. Raises WrongSetUp, or ImportError when it is not installed."""

    def __init__(self) -> None:
        from facet.local import LocalClient  # noqa: PLC0415 - takes seconds, and may not be installed

        try:
            self._local = LocalClient()
        except Exception as error:
            # Its own errors and those of its settings; by name, since `facet.local` alone may import what defines them.
            if type(error).__module__.partition(".")[0] not in ("inference", "pydantic_core"):
                raise
            raise WrongSetUp(_in_a_sentence(error)) from error

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def detect(self, image: ImageSource, **options: Unpack[DetectOptions]) -> Detection:
        """Find the faces in a picture."""
        return await asyncio.to_thread(self._local.detect, image, **options)

    async def annotate(self, image: ImageSource, **options: Unpack[DrawOptions]) -> Annotated:
        """Give the picture back with its faces drawn or blurred."""
        return await asyncio.to_thread(self._local.annotate, image, **options)


def _in_a_sentence(error: Any) -> str:
    if not hasattr(error, "errors"):  # which pydantic's have
        return str(error)
    return "; ".join(f"FACET_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors())


def open_detector(
    url: str, grpc: str | None, *, key: str | None, local: bool = False, timeout: float, retries: int
) -> Detector:
    """Make the client that the options ask for. Raises WrongAddress; locally WrongSetUp or ImportError."""
    if local:
        return AsyncLocalClient()
    if grpc:
        return AsyncGrpcClient(grpc, timeout=timeout, retries=retries, key=key)
    return AsyncClient(url, timeout=timeout, retries=retries, key=key)
