"""A well-behaved client during an attack."""

from __future__ import annotations

import threading
import time
from typing import Any

import httpx


class Bystander:
    """Posts one image repeatedly during its block, and fails unless each response equals the one before the attack."""

    def __init__(self, url: str, image: bytes) -> None:
        self.slowest = 0.0  # seconds
        self.answered = 0
        self._url = url
        self._image = image
        self._different: list[Any] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._repeat)

    def __enter__(self) -> Bystander:
        self._before = self._post()
        assert self._before[0] == 200
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        assert self._different == [], self._different[:3]
        assert self._post() == self._before

    def _repeat(self) -> None:
        while not self._stop.is_set():
            started = time.monotonic()
            answer = self._post()
            self.slowest = max(self.slowest, time.monotonic() - started)
            self.answered += 1
            if answer != self._before:
                self._different.append(answer)

    def _post(self) -> Any:
        headers = {"Content-Type": "image/png"}
        response = httpx.post(f"{self._url}/predict", content=self._image, headers=headers, timeout=60)
        return response.status_code, response.json().get("results", response.text)
