"""Fixtures for the tests of the detector: a photograph and the engines."""

from importlib.resources import files
from typing import Any

import pytest
from inference.mtcnn.detector import Detector
from inference.mtcnn.engines import EngineSettings, load_detector
from PIL import Image


@pytest.fixture(scope="session")
def admiral() -> Image.Image:
    """The US Navy's portrait of Grace Hopper, 512 x 600, one face. It ships with matplotlib."""
    with files("matplotlib").joinpath("mpl-data/sample_data/grace_hopper.jpg").open("rb") as file:
        return Image.open(file).convert("RGB")


@pytest.fixture(scope="session")
def reference() -> Detector:
    """The engine that runs the mtcnn package."""
    return load_detector("tensorflow", EngineSettings())


@pytest.fixture(scope="session")
def package(reference: Detector) -> Any:
    """The mtcnn package itself, after the reference engine has configured TensorFlow."""
    from mtcnn import MTCNN  # noqa: PLC0415 - it imports TensorFlow, which takes seconds in each process that collects

    assert reference.engine == "tensorflow"
    return MTCNN()


@pytest.fixture(scope="session")
def openvino() -> Detector:
    return load_detector("openvino", EngineSettings())


@pytest.fixture(scope="session")
def onnxruntime() -> Detector:
    return load_detector("onnxruntime", EngineSettings())
