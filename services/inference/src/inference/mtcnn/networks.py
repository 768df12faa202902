"""The three networks on any runtime: their files, their inputs and their outputs."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from inference.mtcnn.kernels import BUILT, FirstLayer
from inference.mtcnn.pyramid import CANVAS_HEIGHTS, CANVAS_SIDE, MARGIN

Floats = NDArray[np.float32]
# A dynamic dimension is None.
Shape = tuple[int | None, ...]

# The weights of the mtcnn package, converted when this package was built.
OWN_WEIGHTS = BUILT
# The numbers of crops per call. Each is compiled once, and any number of crops is a sum of them.
RNET_BATCHES = (16, 4, 1)
ONET_BATCHES = (4, 1)


class BadWeights(Exception):
    """A file of weights is missing, unreadable or another network. The message names the file and the reason."""


@dataclass(frozen=True, slots=True)
class TensorType:
    """The shape and the element type, by its NumPy name, of an input or output of a network."""

    shape: Shape
    type: str = "float32"

    def __str__(self) -> str:
        return f"{self.type} ({', '.join('any' if side is None else str(side) for side in self.shape)})"


class Program(Protocol):
    """A network compiled for one shape. Write to `input`, call it, and read the result before the next call."""

    input: Floats

    def __call__(self) -> Floats:
        """Run the network on `input`. The next call overwrites the result."""


class Model(Protocol):
    """A network that a runtime has read from its file. `device` is the device it computes on."""

    device: str
    inputs: dict[str, TensorType]
    outputs: dict[str, TensorType]

    def compile(self, output: str, shape: tuple[int, ...]) -> Program:
        """Compile the network to compute one output from an input of this shape."""


@dataclass(frozen=True, slots=True)
class _Specification:
    """The inputs and outputs that a file must have."""

    name: str
    inputs: dict[str, Shape]
    outputs: dict[str, Shape]


# The kernels compute P-Net's first layer with the resize, so the file begins after it and has its weights as outputs.
FIRST_LAYER: dict[str, Shape] = {"first_weight": (10, 3, 3, 3), "first_bias": (10,), "first_slope": (10,)}
PNET = _Specification("pnet.onnx", {"features": (1, 10, None, None)}, {"cells": (1, 5, None, None)} | FIRST_LAYER)
RNET = _Specification("rnet.onnx", {"crops": (None, 3, 24, 24)}, {"faces": (None, 5)})
ONET = _Specification("onet.onnx", {"crops": (None, 3, 48, 48)}, {"faces": (None, 15)})


@dataclass(frozen=True, slots=True)
class Networks:
    """The three compiled networks, and the device that they run on.

    The outputs are the difference of the two logits (face minus no face), the regression of x1, y1, x2 and y2 and, from
    O-Net, the five x and five y of the landmarks.
    """

    device: str
    first_layer: FirstLayer
    pnet: dict[int, Program]
    """By canvas height: features (1, 10, height, CANVAS_SIDE) -> cells (1, 5, height - 4, CANVAS_SIDE - 4)."""
    rnet: dict[int, Program]
    """By number of crops: (n, 3, 24, 24) -> (n, 5)."""
    onet: dict[int, Program]
    """By number of crops: (n, 3, 48, 48) -> (n, 15)."""


def load_networks(read: Callable[[Path], Model], directory: Path) -> Networks:
    """Read, check and compile the three files of a directory. Raises BadWeights."""
    pnet, rnet, onet = (_CheckedModel(read, directory / file.name, file) for file in (PNET, RNET, ONET))
    side, cells = CANVAS_SIDE, CANVAS_SIDE - MARGIN
    return Networks(
        pnet.model.device,
        # These outputs are constant, whatever the size of the input.
        FirstLayer.of(*(pnet.compile(name, (1, 10, side, side), shape)() for name, shape in FIRST_LAYER.items())),
        {rows: pnet.compile("cells", (1, 10, rows, side), (1, 5, rows - MARGIN, cells)) for rows in CANVAS_HEIGHTS},
        {count: rnet.compile("faces", (count, 3, 24, 24), (count, 5)) for count in RNET_BATCHES},
        {count: onet.compile("faces", (count, 3, 48, 48), (count, 15)) for count in ONET_BATCHES},
    )


class _CheckedModel:
    """A model whose inputs and outputs match their specification."""

    def __init__(self, read: Callable[[Path], Model], path: Path, file: _Specification) -> None:
        if not path.is_file():
            raise BadWeights(f"there is no file {path}; the weights are {PNET.name}, {RNET.name} and {ONET.name}")
        self._path = path
        self.model = read(path)
        _check(path, "input", self.model.inputs, file.inputs)
        _check(path, "output", self.model.outputs, file.outputs)

    def compile(self, output: str, shape: tuple[int, ...], wanted: Shape) -> Program:
        """Compile and run once, because the shapes that a file declares can be dynamic, or wrong."""
        try:
            program = self.model.compile(output, shape)
            found = program().shape
        except Exception as error:  # the errors of the runtimes share no base class
            raise BadWeights(f"{self._path} cannot be run on an input of {shape}") from error
        if found != wanted:
            raise BadWeights(f"{self._path}: for an input of {shape}, {output!r} is {found}, and should be {wanted}")
        return program


def _check(path: Path, kind: str, found: dict[str, TensorType], wanted: dict[str, Shape]) -> None:
    for name, shape in wanted.items():
        if name not in found:
            raise BadWeights(f"{path} has no {kind} {name!r}; it has: {', '.join(found) or 'none'}")
        tensor = found[name]
        if tensor.type != "float32" or not _fits(tensor.shape, shape):
            raise BadWeights(f"{path}: the {kind} {name!r} is {tensor}, and should be {TensorType(shape)}")
    if extra := found.keys() - wanted.keys():
        raise BadWeights(f"{path} has an unknown {kind}: {', '.join(sorted(extra))}")


def _fits(found: Shape, wanted: Shape) -> bool:
    """Compare dimensions. A dynamic one fits any other, and is the only one to fit a dimension that must be dynamic."""
    return len(found) == len(wanted) and all(
        have is None or have == need for have, need in zip(found, wanted, strict=True)
    )
