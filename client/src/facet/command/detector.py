"""The detector that a command uses: a service over HTTP or gRPC, or the detector in this process."""

import asyncio
from typing import Any, Unpack

from facet.closing import AsyncClosing
from facet.grpc_client import AsyncGrpcClient
from facet.http_client import AsyncClient
from facet.messages import DetectOptions, DrawOptions, ImageSource
from facet.results import Annotated, Detection


class LocalSetupError(Exception):
    """The settings in the environment do not allow the detector to run in this process."""


class AsyncLocalClient(AsyncClosing):
    """The detector in this process, run in threads. Raises LocalSetupError, or ImportError if it is not installed."""

    def __init__(self) -> None:
        from facet.local import LocalClient  # noqa: PLC0415 - an extra, slow to import

        try:
            self._local = LocalClient()
        except Exception as error:
            # The errors of `inference` and of its settings, by name: only `facet.local` may import their modules.
            if type(error).__module__.partition(".")[0] not in ("inference", "pydantic_core"):
                raise
            raise LocalSetupError(_sentence(error)) from error

    async def detect(self, image: ImageSource, **options: Unpack[DetectOptions]) -> Detection:
        return await asyncio.to_thread(self._local.detect, image, **options)

    async def annotate(self, image: ImageSource, **options: Unpack[DrawOptions]) -> Annotated:
        return await asyncio.to_thread(self._local.annotate, image, **options)


def _sentence(error: Any) -> str:
    if not hasattr(error, "errors"):  # those of pydantic have it
        return str(error)
    return "; ".join(f"FACET_{each['loc'][0].upper()}: {each['msg']}" for each in error.errors())


Detector = AsyncClient | AsyncGrpcClient | AsyncLocalClient


def open_detector(
    url: str, grpc: str | None, *, key: str | None, local: bool = False, timeout: float, retries: int
) -> Detector:
    """Return the client that the options choose. Raises WrongAddress, LocalSetupError or ImportError."""
    if local:
        return AsyncLocalClient()
    if grpc:
        return AsyncGrpcClient(grpc, timeout=timeout, retries=retries, key=key)
    return AsyncClient(url, timeout=timeout, retries=retries, key=key)
