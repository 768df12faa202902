"""The engines: one cascade on different model runtimes. Only the chosen one is imported."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from inference.mtcnn.cascade import Cascade
from inference.mtcnn.detector import CascadeSettings, Detector, Engine
from inference.mtcnn.kernels import load_kernels
from inference.mtcnn.networks import OWN_WEIGHTS, BadWeights, load_networks


class UnknownEngine(Exception):
    """There is no engine of that name. The message lists the engines."""


class EngineNotInstalled(Exception):
    """The engine's packages are missing. The message says how to install them."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """The settings of an engine.

    `weights` is a directory with a user's own three ONNX files, `provider` an accelerator of ONNX Runtime.
    """

    cascade: CascadeSettings = field(default_factory=CascadeSettings)
    weights: Path | None = None
    provider: str = ""


def _openvino(settings: EngineSettings) -> Engine:
    from inference.mtcnn.engines.openvino import OpenVinoModel  # noqa: PLC0415 - only when chosen

    networks = load_networks(OpenVinoModel, settings.weights or OWN_WEIGHTS)
    return Cascade("openvino", load_kernels(), networks, settings.cascade)


def _onnxruntime(settings: EngineSettings) -> Engine:
    from inference.mtcnn.engines.onnxruntime import OnnxRuntimeModel  # noqa: PLC0415 - only when chosen

    networks = load_networks(lambda path: OnnxRuntimeModel(path, settings.provider), settings.weights or OWN_WEIGHTS)
    return Cascade("onnxruntime", load_kernels(), networks, settings.cascade)


def _tensorflow(settings: EngineSettings) -> Engine:
    if settings.weights:
        raise BadWeights("the engine 'tensorflow' has fixed weights; FACET_WEIGHTS needs another engine")
    with _quiet_stderr():
        from inference.mtcnn.engines.tensorflow import TensorFlowEngine  # noqa: PLC0415 - takes seconds and 300 MB

        return TensorFlowEngine(settings.cascade)


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Discard stderr. TensorFlow's C++ code writes to it while it is imported, whatever the settings."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


ENGINES: dict[str, Callable[[EngineSettings], Engine]] = {
    "openvino": _openvino,
    "onnxruntime": _onnxruntime,
    "tensorflow": _tensorflow,
}


def load_detector(engine: str, settings: EngineSettings) -> Detector:
    """Load an engine by its name.

    Raises UnknownEngine, EngineNotInstalled, `networks.BadWeights` or `kernels.KernelsMissing`.
    """
    if engine not in ENGINES:
        raise UnknownEngine(f"there is no engine {engine!r}; FACET_ENGINE can be: {', '.join(ENGINES)}")
    try:
        return Detector(ENGINES[engine](settings))
    except ModuleNotFoundError as error:
        raise EngineNotInstalled(
            f"the engine {engine!r} needs the package {error.name!r}: pip install 'facet-inference[{engine}]'"
        ) from error
