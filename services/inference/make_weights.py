"""Convert the weights of the mtcnn package into the three ONNX files that the engines load.

    python services/inference/make_weights.py DIRECTORY

It runs when the package is built, and never at run time, because the source files are pickles: they are opened only if
their hashes match. docs/weights.md describes the results.
"""

import hashlib
import io
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

# SHA-256 of the files of mtcnn 1.0.0.
SOURCES = {
    "pnet": "ea6b0c3e685ebee3165326ad6484acc95f2ef78f1c94fbf40a55704fa989f7b5",
    "rnet": "cb00e6460f3c98b0bfafaba3c0a0ded4bdf6e62cee7174d969e8670d7e757fee",
    "onet": "94f6ea2f4cf985275ee958cdd762d17b6009348a4fb9d8c6be39ba73ffd22ca3",
}
# SHA-256 of the results, with the versions in requirements/build.txt.
RESULTS = {
    "pnet": "840eb410b06fd9fbd61e6bc731010fd839f8482f6321f393f3740d535f22d2a7",
    "rnet": "7ebc1dbe3d8e85be939cc2b5600626576a936a7e7fc51bb1b4e70f28bd0e1bea",
    "onet": "1695f07f377fcf5cd9031345118df9156cbafddfb621a57190492c8843139fca",
}
OPSET = 17
Arrays = Iterator[NDArray[np.float32]]


class UnknownWeights(Exception):
    """The mtcnn package is missing, or its files or their conversions do not have the known hashes."""


def read(name: str) -> Arrays:
    """Read a network's arrays in the order of Keras. It does not import mtcnn, which would import TensorFlow."""
    package = find_spec("mtcnn")
    if package is None or package.origin is None:
        raise UnknownWeights("the package mtcnn is not installed: pip install -r requirements/build.txt")
    file = Path(package.origin).parent / "assets/weights" / f"{name}.lz4"
    content = file.read_bytes()
    if hashlib.sha256(content).hexdigest() != SOURCES[name]:
        raise UnknownWeights(f"{file} is not the file of mtcnn 1.0.0, so it is not unpickled; install mtcnn==1.0.0")
    return iter([np.asarray(array, np.float32) for array in joblib.load(io.BytesIO(content))])


class Graph:
    """An ONNX graph, built layer by layer. Tensors are (n, channels, height, width)."""

    def __init__(self, name: str, source: str, shape: tuple[int | str, ...]) -> None:
        self._name = name
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._input = helper.make_tensor_value_info(source, TensorProto.FLOAT, shape)
        self._last = source

    def convolution(self, arrays: Arrays) -> None:
        """Add a convolution without padding. Keras stores the weights as (height, width, in, out)."""
        self._add("Conv", next(arrays).transpose(3, 2, 0, 1), next(arrays))

    def prelu(self, arrays: Arrays) -> None:
        """Add a PReLU with one slope per channel."""
        self._add("PRelu", next(arrays).reshape(-1, 1, 1))

    def pool(self, side: int, padding: str) -> None:
        """Add max pooling with stride 2. Keras pads "same" below and to the right."""
        auto_pad = {"same": "SAME_UPPER", "valid": "VALID"}[padding]
        self._add("MaxPool", kernel_shape=[side, side], strides=[2, 2], auto_pad=auto_pad)

    def flatten_and_connect(self, arrays: Arrays, side: int) -> None:
        """Add a fully connected layer for side x side features, which the package flattens with the width first."""
        weight = next(arrays)
        weight = weight.reshape(side, side, -1, weight.shape[1]).transpose(2, 1, 0, 3).reshape(weight.shape)
        self._add("Flatten")
        self._add("Gemm", weight, next(arrays))
        self._add("PRelu", next(arrays))

    def heads(self, arrays: Arrays, output: str, shape: tuple[int | str, ...]) -> None:
        """Add the heads as one layer. The two logits become their difference, on which alone the softmax depends."""
        *others, class_weight, class_bias = list(arrays)
        weights = [class_weight[..., 1:] - class_weight[..., :1], *others[::2]]
        biases = [class_bias[1:] - class_bias[:1], *others[1::2]]
        weight, bias = np.concatenate(weights, axis=-1), np.concatenate(biases)
        if weight.ndim == 4:  # noqa: PLR2004 - a convolution
            self._add("Conv", weight.transpose(3, 2, 0, 1), bias)
        else:
            self._add("Gemm", weight, bias)
        self._nodes[-1].output[0] = output
        self._outputs.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, shape))

    def constant(self, name: str, value: NDArray[np.float32]) -> None:
        """Add a constant output."""
        tensor = numpy_helper.from_array(np.ascontiguousarray(value), f"{name}_value")
        self._nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape))

    def save(self, directory: Path) -> None:
        """Check the graph and write it to the directory."""
        graph = helper.make_graph(self._nodes, self._name, [self._input], self._outputs, self._constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        (directory / f"{self._name}.onnx").write_bytes(model.SerializeToString(deterministic=True))

    def _add(self, kind: str, *constants: NDArray[np.float32], **attributes: Any) -> None:
        name = f"{kind.lower()}_{len(self._nodes)}"
        inputs = [self._last]
        for number, value in enumerate(constants):
            inputs.append(f"{name}_{number}")
            self._constants.append(numpy_helper.from_array(np.ascontiguousarray(value), inputs[-1]))
        self._nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        self._last = name


def make_pnet(directory: Path, arrays: Arrays) -> None:
    """Write P-Net without its first layer, which the kernels compute; the weights of that layer are outputs."""
    graph = Graph("pnet", "features", (1, 10, "height", "width"))
    graph.constant("first_weight", next(arrays).transpose(3, 2, 0, 1))
    graph.constant("first_bias", next(arrays))
    graph.constant("first_slope", next(arrays).ravel())
    for _ in range(2):
        graph.convolution(arrays)
        graph.prelu(arrays)
    graph.heads(arrays, "cells", (1, 5, "cell_rows", "cell_columns"))
    graph.save(directory)


def make_crop_network(
    directory: Path, arrays: Arrays, name: str, side: int, poolings: list[tuple[int, str] | None], outputs: int
) -> None:
    """Write R-Net or O-Net: convolutions, each with its pooling if any, a fully connected layer and the heads."""
    graph = Graph(name, "crops", ("n", 3, side, side))
    for pooling in poolings:
        graph.convolution(arrays)
        graph.prelu(arrays)
        if pooling:
            graph.pool(*pooling)
    graph.flatten_and_connect(arrays, side=3)
    graph.heads(arrays, "faces", ("n", outputs))
    graph.save(directory)


def make_weights(directory: Path) -> None:
    """Write pnet.onnx, rnet.onnx and onet.onnx. Raises UnknownWeights."""
    directory.mkdir(parents=True, exist_ok=True)
    make_pnet(directory, read("pnet"))
    make_crop_network(directory, read("rnet"), "rnet", 24, [(3, "same"), (3, "valid"), None], 5)
    make_crop_network(directory, read("onet"), "onet", 48, [(3, "same"), (3, "valid"), (2, "same"), None], 15)
    for name, wanted in RESULTS.items():
        found = hashlib.sha256((directory / f"{name}.onnx").read_bytes()).hexdigest()
        if found != wanted:
            raise UnknownWeights(
                f"{name}.onnx differs from the known result: its SHA-256 is {found}; if a new onnx version wrote it, "
                "check that `make test` finds the same faces and update the hash in make_weights.py"
            )


if __name__ == "__main__":
    if len(sys.argv) != 2:  # noqa: PLR2004
        sys.exit(__doc__)
    try:
        make_weights(Path(sys.argv[1]))
    except UnknownWeights as error:
        sys.exit(str(error))
