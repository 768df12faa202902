"""The Python client of facet: finds the faces in images over HTTP, over gRPC, or without a service.

>>> with Client("http://localhost:8080") as facet:  # doctest: +SKIP
...     facet.detect("photo.jpg").faces
"""

from facet.errors import FacetError, ImageRefused, InvalidOption, KeyRefused, ServiceUnavailable, TimedOut, WrongAddress
from facet.grpc_client import AsyncGrpcClient, GrpcClient
from facet.http_client import AsyncClient, Client
from facet.messages import ImageSource
from facet.results import Annotated, Box, Detection, Face, Health, Landmarks, Point

__all__ = [
    "Annotated",
    "AsyncClient",
    "AsyncGrpcClient",
    "Box",
    "Client",
    "Detection",
    "Face",
    "FacetError",
    "GrpcClient",
    "Health",
    "ImageRefused",
    "ImageSource",
    "InvalidOption",
    "KeyRefused",
    "Landmarks",
    "Point",
    "ServiceUnavailable",
    "TimedOut",
    "WrongAddress",
]
