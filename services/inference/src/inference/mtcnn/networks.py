"""The three networks, whatever computes them: which files they are in, what goes in and what comes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from inference.mtcnn.kernels import BUILT, FirstLayer
from inference.mtcnn.pyramid import CANVAS_HEIGHTS, CANVAS_SIDE, MARGIN

Floats = NDArray[np.float32]
# A dimension that a file leaves open is None.
Shape = tuple[int | None, ...]

# The weights of the mtcnn package, converted when this package was built.
OWN_WEIGHTS = BUILT
# How many crops one call takes: each size is compiled once, and any number is made of them without waste.
RNET_BATCHES = (16, 4, 1)
ONET_BATCHES = (4, 1)


class BadWeights(Exception):
    """A file of weights is missing, unreadable or not the network it should be; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of a network: its shape, and float32 or another type by its ONNX name."""

    shape: Shape
    type: str = "float32"

    def __str__(self) -> str:
        return f"{self.type} ({', '.join('any' if side is None else str(side) for side in self.shape)})"


class Program(Protocol):
    """A network for one shape: write into `input`, call it, read what it gives before the next call."""

    input: Floats

    def __call__(self) -> Floats:
        """Compute."""


class Model(Protocol):
    """A file of weights that a runtime has read; `device` says where it computes."""

    device: str
    inputs: dict[str, Port]
    outputs: dict[str, Port]

    def compile(self, output: str, shape: tuple[int, ...]) -> Program:
        """Make a program that computes one output from an input of this shape."""


@dataclass(frozen=True, slots=True)
class _File:
    """What a file must offer."""

    name: str
    inputs: dict[str, Shape]
    outputs: dict[str, Shape]


# P-Net begins after its first layer, which is computed with the resize: its weights are outputs.
FIRST_LAYER: dict[str, Shape] = {"first_weight": (10, 3, 3, 3), "first_bias": (10,), "first_slope": (10,)}
PNET = _File("pnet.onnx", {"features": (1, 10, None, None)}, {"cells": (1, 5, None, None)} | FIRST_LAYER)
RNET = _File("rnet.onnx", {"crops": (None, 3, 24, 24)}, {"faces": (None, 5)})
ONET = _File("onet.onnx", {"crops": (None, 3, 48, 48)}, {"faces": (None, 15)})


@dataclass(frozen=True, slots=True)
class Networks:
    """The three networks, compiled; `device` says what computes them.

    The first number that each gives is the difference of the two logits, face minus no face; the next four are the
    regression of x1, y1, x2, y2; O-Net adds the landmarks' five x and five y.
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
    pnet, rnet, onet = (_Opened(read, directory / file.name, file) for file in (PNET, RNET, ONET))
    side, cells = CANVAS_SIDE, CANVAS_SIDE - MARGIN
    return Networks(
        pnet.model.device,
        # They do not depend on the input, so its size does not matter.
        FirstLayer.of(*(pnet.compile(name, (1, 10, side, side), shape)() for name, shape in FIRST_LAYER.items())),
        {rows: pnet.compile("cells", (1, 10, rows, side), (1, 5, rows - MARGIN, cells)) for rows in CANVAS_HEIGHTS},
        {count: rnet.compile("faces", (count, 3, 24, 24), (count, 5)) for count in RNET_BATCHES},
        {count: onet.compile("faces", (count, 3, 48, 48), (count, 15)) for count in ONET_BATCHES},
    )


class _Opened:
    """A file that offers what it must."""

    def __init__(self, read: Callable[[Path], Model], path: Path, file: _File) -> None:
        if not path.is_file():
            raise BadWeights(f"there is no file {path}; the weights are {PNET.name}, {RNET.name} and {ONET.name}")
        self._path = path
        self.model = read(path)
        _check(path, "input", self.model.inputs, file.inputs)
        _check(path, "output", self.model.outputs, file.outputs)

    def compile(self, output: str, shape: tuple[int, ...], wanted: Shape) -> Program:
        """Compile, and try once: what a file says of its shapes may be open, or wrong."""
        try:
            program = self.model.compile(output, shape)
            found = program().shape
        except Exception as error:  # the runtimes' own errors share no base
            raise BadWeights(f"{self._path} cannot be computed for an input of {shape}") from error
        if found != wanted:
            raise BadWeights(f"{self._path}: for an input of {shape}, {output!r} is {found}, and should be {wanted}")
        return program


def _check(path: Path, kind: str, found: dict[str, Port], wanted: dict[str, Shape]) -> None:
    for name, shape in wanted.items():
        if name not in found:
            raise BadWeights(f"{path} has no {kind} {name!r}; it has: {', '.join(found) or 'none'}")
        port = found[name]
        if port.type != "float32" or not _fits(port.shape, shape):
            raise BadWeights(f"{path}: the {kind} {name!r} is {port}, and should be {Port(shape)}")
    if extra := found.keys() - wanted.keys():
        raise BadWeights(f"{path} has an {kind} too many: {', '.join(sorted(extra))}")


def _fits(found: Shape, wanted: Shape) -> bool:
    """Compare side by side. What is open in the file fits whatever is wanted; what must be open has to be."""
    return len(found) == len(wanted) and all(
        have is None or have == need for have, need in zip(found, wanted, strict=True)
    )
