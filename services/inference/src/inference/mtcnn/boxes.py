"""Candidate boxes as arrays; no other module uses bare columns. The rules are those of the mtcnn package, 1.0.0.

Corners are (n, 4) float64: x1, y1, x2, y2 in pixels of the image. Regressions and landmarks are a network's outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.mtcnn.detector import Box, Face, Landmarks, Point
from inference.mtcnn.kernels import Kernels
from inference.mtcnn.steps import Steps

# P-Net has a cell every STRIDE pixels of a level, and each cell sees CELL pixels (Zhang et al. 2016, fig. 2).
STRIDE = 2
CELL = 12
# Rows per call of the kernel, so that an image full of candidates can be abandoned between calls.
SUPPRESS_ROWS = 4096

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Candidates:
    """Boxes that may hold a face: corners (n, 4) float64, scores (n,) float64 from 0 to 1."""

    corners: NDArray[np.float64]
    scores: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, which: NDArray[np.generic]) -> Candidates:
        """Select by index or mask."""
        return Candidates(self.corners[which], self.scores[which])


def join(parts: list[Candidates]) -> Candidates:
    if not parts:
        return Candidates(np.empty((0, 4)), np.empty(0))
    return Candidates(np.concatenate([part.corners for part in parts]), np.concatenate([part.scores for part in parts]))


def face_score(difference: Floats) -> NDArray[np.float64]:
    """Turn the difference of the two logits into the softmax of "face", in float32 as the package computes it."""
    return (1 / (1 + np.exp(-difference))).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Cells:
    """Cells of P-Net that may hold a face: their positions in the level, and outputs (5, n) as in `networks.Networks`.

    An image can be made so that all of its ten million cells are likely, so each takes little memory.
    """

    rows: NDArray[np.int32]
    columns: NDArray[np.int32]
    outputs: Floats

    def __len__(self) -> int:
        return len(self.rows)


def from_cells(parts: list[Cells], scale: float) -> Candidates:
    """Turn the cells of one level into candidates. `scale` is the level's size relative to the image."""
    count = sum(map(len, parts))
    candidates = Candidates(np.empty((count, 4)), np.empty(count))
    done = 0
    for part in parts:
        x, y = STRIDE * part.columns + 1, STRIDE * part.rows + 1
        side = CELL - 1
        corners = np.stack([x, y, x + side, y + side], axis=1) + part.outputs[1:].T * np.float64(side)
        candidates.corners[done : done + len(part)] = corners / scale
        candidates.scores[done : done + len(part)] = face_score(part.outputs[0])
        done += len(part)
    return candidates


def regress(corners: NDArray[np.float64], regression: Floats) -> NDArray[np.float64]:
    """Move corners by a regression (n, 4), in units of the box's sides."""
    sides = corners[:, [2, 3]] - corners[:, [0, 1]] + 1
    return corners + regression * np.tile(sides, 2)


def place_landmarks(corners: NDArray[np.float64], landmarks: Floats) -> Floats:
    """Turn landmarks (n, 10: five x, five y, 0 to 1 within the box) into pixels of the image."""
    sides = corners[:, [2, 3]] - corners[:, [0, 1]] + 1
    return (np.repeat(sides, 5, axis=1) * landmarks + np.repeat(corners[:, :2], 5, axis=1) - 1).astype(np.float32)


def make_face(corners: NDArray[np.float64], score: float, landmarks: NDArray[Any]) -> Face:
    """Make a face of its corners (4), its score, and its landmarks (10: five x, five y), in pixels of the image."""
    x1, y1, x2, y2 = map(float, corners)
    points = [Point(float(x), float(y)) for x, y in zip(landmarks[:5], landmarks[5:], strict=True)]
    return Face(Box(Point(x1, y1), Point(x2, y2)), Landmarks(*points), float(score))


def make_square(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Extend each box to a square around its center."""
    sides = corners[:, 2:] - corners[:, :2]
    largest = sides.max(axis=1, keepdims=True)
    up_left = corners[:, :2] + sides * 0.5 - largest * 0.5
    return np.concatenate([up_left, up_left + largest], axis=1)


def clip(corners: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """Move corners to within the image."""
    return np.clip(corners, 0, [width - 1, height - 1, width - 1, height - 1])


def suppress(
    candidates: Candidates, limit: float, kernels: Kernels, steps: Steps, *, by_smaller: bool = False
) -> NDArray[np.int64]:
    """Give the indices of the candidates that no better one overlaps by more than `limit`, best first.

    Unlike greedy suppression, a suppressed box still suppresses others. The overlap is the shared area divided by the
    union, or by the smaller box.
    """
    with steps("nms"):
        order = np.argsort(candidates.scores)[::-1].astype(np.uint32)  # half the memory of int64
        by_x = np.argsort(candidates.corners[order, 0])
        corners = candidates.corners[order[by_x]]
        suppressed = np.zeros(len(order), np.uint8)
    for start in range(0, len(order), SUPPRESS_ROWS):
        with steps("nms"):
            rows = range(start, min(start + SUPPRESS_ROWS, len(order)))
            kernels.suppress(corners, by_x, rows, limit, suppressed, by_smaller=by_smaller)
    kept: NDArray[np.int64] = order[suppressed == 0].astype(np.int64)
    return kept
