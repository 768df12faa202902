"""The detector that a command uses: a service over HTTP or gRPC, or the detector in this process."""

import asyncio
from typing import Unpack

from facet.closing import AsyncClosing
from facet.grpc_client import AsyncGrpcClient
from facet.http_client import AsyncClient
from facet.messages import DetectOptions, DrawOptions, ImageSource
from facet.results import Annotated, Detection


class AsyncLocalClient(AsyncClosing):
    """The detector in this process, run in threads. Raises LocalSetupError, or ImportError if it is not installed."""

    def __init__(self) -> None:
        from facet.local import LocalClient  # noqa: PLC0415 - an extra, slow to import

        self._local = LocalClient()

    async def detect(self, image: ImageSource, **options: Unpack[DetectOptions]) -> Detection:
        return await asyncio.to_thread(self._local.detect, image, **options)

    async def annotate(self, image: ImageSource, **options: Unpack[DrawOptions]) -> Annotated:
        return await asyncio.to_thread(self._local.annotate, image, **options)


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
