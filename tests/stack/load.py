"""Closed-loop load: each caller posts the same image as soon as its last request is answered."""

import threading
from collections import Counter
from collections.abc import Callable
from typing import Self

import grpc
import httpx

from protos import infer_pb2, infer_pb2_grpc
from tests.stack.running import wait_for

Answer = tuple[int, str, int]
"""The status, the worker or the error message, and the number of faces."""


class Load:
    """Callers over HTTP. They run during their block, whatever the answers are."""

    def __init__(self, url: str, image: bytes, callers: int) -> None:
        self.answers: Counter[Answer] = Counter()
        self._url = url
        self._image = image
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call) for _ in range(callers)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def count(self) -> int:
        return self.answers.total()

    def wait_for_more(self, count: int) -> None:
        """Wait for this many more answers."""
        target = self.count + count
        wait_for(lambda: self.count >= target, f"{count} more answers")

    def by_worker(self) -> Counter[str]:
        """Count the answers per worker."""
        with self._lock:
            answers = self.answers.copy()
        counts: Counter[str] = Counter()
        for (_, worker, _), count in answers.items():
            counts[worker] += count
        return counts

    def lost(self) -> dict[Answer, int]:
        """Return all answers other than 200 with one face."""
        return {answer: count for answer, count in self.answers.items() if (answer[0], answer[2]) != (200, 1)}

    def _call(self) -> None:
        with httpx.Client(timeout=60) as http:
            self._repeat(lambda: self._post(http))

    def _repeat(self, ask: Callable[[], Answer]) -> None:
        while not self._stop.is_set():
            answer = ask()
            with self._lock:
                self.answers[answer] += 1

    def _post(self, http: httpx.Client) -> Answer:
        try:
            response = http.post(f"{self._url}/predict", content=self._image, headers={"Content-Type": "image/png"})
            body = response.json()
        except (httpx.HTTPError, ValueError) as error:
            return (0, repr(error), 0)
        if response.status_code != 200:
            return (response.status_code, body["message"], 0)
        return (200, body["metaData"]["worker"], len(body["results"]))


class GrpcLoad(Load):
    """Callers over gRPC with a channel each; OK counts as 200. The URL is a gRPC target."""

    def _call(self) -> None:
        with grpc.insecure_channel(self._url) as channel:
            stub = infer_pb2_grpc.InferenceStub(channel)
            self._repeat(lambda: self._predict(stub))

    def _predict(self, stub: infer_pb2_grpc.InferenceStub) -> Answer:
        try:
            answer = stub.Predict(infer_pb2.Image(raw_data=self._image), timeout=30)
        except grpc.RpcError as error:
            return (0, f"{error.code().name}: {error.details()}", 0)
        return (200, answer._meta_data.worker, len(answer.results))
