"""The gRPC server of each process, with the `mtcnn` package."""

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
from mtcnn import MTCNN
from PIL import Image

from protos import infer_pb2, infer_pb2_grpc


class InferenceServicer(infer_pb2_grpc.InferenceServicer):
    """The service `Inference` of infer.proto, without its options."""

    def __init__(self) -> None:
        self._detector = MTCNN()

    def Predict(self, request: infer_pb2.Image, context: grpc.ServicerContext) -> infer_pb2.InferResults:  # noqa: N802
        """Find the faces of an image."""
        del context
        pixels = np.asarray(Image.open(io.BytesIO(request.raw_data)).convert("RGB"))
        faces = self._detector.detect_faces(pixels, box_format="xyxy")
        return infer_pb2.InferResults(image_id=request.image_id, results=[result(face) for face in faces])

    def PredictStream(  # noqa: N802
        self, request_iterator: Iterator[infer_pb2.Image], context: grpc.ServicerContext
    ) -> Iterator[infer_pb2.InferResults]:
        """Find the faces of one image after another."""
        for request in request_iterator:
            yield self.Predict(request, context)


def result(face: dict[str, Any]) -> infer_pb2.Result:
    """Convert a face of the package into the contract's message."""
    left, top, right, bottom = face["box"]
    points = face["keypoints"]
    names = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
    return infer_pb2.Result(
        box=infer_pb2.Box(up_left=point((left, top)), lower_right=point((right, bottom))),
        landmarks=infer_pb2.Landmarks(**{name: point(points[name]) for name in names}),
        confidence=face["confidence"],
    )


def point(place: tuple[float, float]) -> infer_pb2.Point:
    """Convert a pair into the contract's message."""
    return infer_pb2.Point(x=place[0], y=place[1])


def serve(port: int) -> None:
    """Serve until the process ends."""
    server = grpc.server(ThreadPoolExecutor(max_workers=10), options=[("grpc.so_reuseport", 1)])
    infer_pb2_grpc.add_InferenceServicer_to_server(InferenceServicer(), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()
