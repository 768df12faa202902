"""Somebody who only wants pictures examined, while the service is attacked."""

from __future__ import annotations

import threading
import time
from typing import Any

import httpx


class Innocent:
    """Posts a good picture again and again beside an attack; each answer is as before it."""

    def __init__(self, url: str, picture: bytes) -> None:
        self.slowest = 0.0  # seconds
        self.answered = 0
        self._url = url
        self._picture = picture
        self._others: list[Any] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._go_on)

    def __enter__(self) -> Innocent:
        self._before = self._ask()
        assert self._before[0] == 200
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        assert self._others == [], self._others[:3]
        assert self._ask() == self._before

    def _go_on(self) -> None:
        while not self._stop.is_set():
            started = time.monotonic()
            answer = self._ask()
            self.slowest = max(self.slowest, time.monotonic() - started)
            self.answered += 1
            if answer != self._before:
                self._others.append(answer)

    def _ask(self) -> Any:
        headers = {"Content-Type": "image/png"}
        response = httpx.post(f"{self._url}/predict", content=self._picture, headers=headers, timeout=60)
        return response.status_code, response.json().get("results", response.text)
