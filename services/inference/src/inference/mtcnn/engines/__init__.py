"""The engines: one cascade on different model runtimes. Each is imported when it is chosen, and never otherwise."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from inference.mtcnn.detector import CascadeSettings, Detector, Engine


class UnknownEngine(Exception):
    """There is no engine of that name; the text lists those that there are."""


class EngineNotInstalled(Exception):
    """The engine's packages are missing; the text says how to get them."""


def _tensorflow(settings: CascadeSettings) -> Engine:
    with _quiet_stderr():
        from inference.mtcnn.engines.tensorflow import TensorFlowEngine  # noqa: PLC0415 - takes seconds and 300 MB

        return TensorFlowEngine(settings)


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Keep TensorFlow's remarks about itself out of the log; they come from C++ and heed no setting."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


ENGINES: dict[str, Callable[[CascadeSettings], Engine]] = {"tensorflow": _tensorflow}


def load_detector(engine: str, settings: CascadeSettings) -> Detector:
    """Load the networks on the engine of that name. Raises UnknownEngine or EngineNotInstalled."""
    if engine not in ENGINES:
        raise UnknownEngine(f"there is no engine {engine!r}; FACET_ENGINE can be: {', '.join(ENGINES)}")
    try:
        return Detector(ENGINES[engine](settings))
    except ModuleNotFoundError as error:
        raise EngineNotInstalled(
            f"the engine {engine!r} needs the package {error.name!r}: pip install 'facet-inference[{engine}]'"
        ) from error
