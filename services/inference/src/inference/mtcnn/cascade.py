"""The MTCNN cascade: pyramid, three networks, boxes (Zhang et al. 2016, Joint Face Detection and Alignment, fig. 1).

Each step and each rounding is that of the mtcnn package, so the faces are the same.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from inference.mtcnn import boxes
from inference.mtcnn.boxes import Candidates, Cells, Floats
from inference.mtcnn.detector import RGB, Box, CascadeSettings, Face, Landmarks, Point
from inference.mtcnn.kernels import Kernels
from inference.mtcnn.networks import Networks, Program
from inference.mtcnn.pyramid import MARGIN, Canvas, Level, build_pyramid, lay_out
from inference.mtcnn.steps import Steps

# How far boxes may overlap, of their union: within a level, over all levels, after R-Net; of the smaller, after O-Net.
# Source: mtcnn 1.0.0, the defaults of its three stages.
NMS_LEVEL = 0.5
NMS_PYRAMID = 0.7
NMS_RNET = 0.7
NMS_ONET = 0.7


class Cascade:
    """The engine over our own kernels and any runtime's networks. See `detector.Engine`."""

    def __init__(self, name: str, kernels: Kernels, networks: Networks, settings: CascadeSettings) -> None:
        self.name = name
        self.device = networks.device
        self._kernels = kernels
        self._networks = networks
        self._settings = settings

    def find_faces(self, picture: RGB, min_face_size: int, steps: Steps) -> list[Face]:
        """See `detector.Engine`."""
        picture = np.ascontiguousarray(picture)
        with np.errstate(over="ignore", invalid="ignore"):  # a score of 0, and what strange weights may give
            candidates = self._propose(picture, min_face_size, steps)
            candidates = self._refine(picture, candidates, steps)
            return self._finish(picture, candidates, steps)

    def _propose(self, picture: RGB, min_face_size: int, steps: Steps) -> Candidates:
        """P-Net: find candidates of every size."""
        height, width = picture.shape[:2]
        # 1. Plan the pyramid, and lay its levels side by side on canvases.
        with steps("pyramid"):
            levels = build_pyramid(height, width, min_face_size, self._settings.scale_factor)
            canvases = lay_out(levels)
        # 2. Look at one canvas after the other, and keep the cells that may hold a face.
        found: list[list[Cells]] = [[] for _ in levels]
        for canvas in canvases:
            for number, cells in self._look(picture, canvas, levels, steps):
                found[number].append(cells)
        # 3. Of those that overlap keep the best: first within each level, then over all.
        kept = []
        for level in levels:
            with steps("boxes"):
                candidates = boxes.from_cells(found.pop(0), level.scale)
            kept.append(self._suppress(candidates, NMS_LEVEL, steps))
        return self._suppress(boxes.join(kept), NMS_PYRAMID, steps)

    def _look(self, picture: RGB, canvas: Canvas, levels: list[Level], steps: Steps) -> list[tuple[int, Cells]]:
        """Give the likely cells of the tiles on a canvas, each with the number of its level."""
        pnet = self._networks.pnet[canvas.height]
        with steps("pyramid"):
            for tile in canvas.tiles:
                self._kernels.first_layer(picture, levels[tile.level], tile, self._networks.first_layer, pnet.input[0])
        with steps("pnet"):
            cells = pnet()[0]
        found = []
        with steps("boxes"):
            likely = cells[0] > _logit(self._settings.pnet_threshold)
            for tile in canvas.tiles:
                # Cells that see two tiles belong to none.
                rows = slice(tile.canvas_y, tile.canvas_y + tile.rows - MARGIN)
                columns = slice(tile.canvas_x, tile.canvas_x + tile.columns - MARGIN)
                y, x = np.nonzero(likely[rows, columns])
                if len(y):
                    places = (y + tile.top).astype(np.int32), (x + tile.left).astype(np.int32)
                    found.append((tile.level, Cells(*places, cells[:, rows, columns][:, y, x])))
        return found

    def _refine(self, picture: RGB, candidates: Candidates, steps: Steps) -> Candidates:
        """R-Net: drop most candidates, and move the boxes of the rest."""
        # 1. Ask the network about the square around each candidate.
        with steps("boxes"):
            squares = boxes.make_square(candidates.corners)
        outputs = self._ask(self._networks.rnet, "rnet", picture, squares, steps)
        # 2. Keep the likely ones where it moves them to.
        with steps("boxes"):
            refined = Candidates(boxes.regress(squares, outputs[:, 1:5]), boxes.face_score(outputs[:, 0]))
            refined = refined.take(refined.scores > self._settings.rnet_threshold)
        # 3. Of those that overlap keep the best.
        return self._suppress(refined, NMS_RNET, steps)

    def _finish(self, picture: RGB, candidates: Candidates, steps: Steps) -> list[Face]:
        """O-Net: decide, and place the landmarks."""
        # 1. Ask the network about the square around each candidate.
        with steps("boxes"):
            squares = boxes.make_square(candidates.corners)
        outputs = self._ask(self._networks.onet, "onet", picture, squares, steps)
        # 2. Keep the likely ones where it moves them to.
        with steps("boxes"):
            landmarks = boxes.place_landmarks(squares, outputs[:, 5:])
            final = Candidates(boxes.regress(squares, outputs[:, 1:5]), boxes.face_score(outputs[:, 0]))
            likely = np.flatnonzero(final.scores > self._settings.onet_threshold)
            final, landmarks = final.take(likely), landmarks[likely]
        # 3. Of those that overlap keep the best.
        kept = boxes.suppress(final, NMS_ONET, self._kernels, steps, by_smaller=True)
        with steps("boxes"):
            corners = boxes.clip(final.corners[kept], *picture.shape[:2])
            return [_face(*face) for face in zip(corners, final.scores[kept], landmarks[kept], strict=True)]

    def _suppress(self, candidates: Candidates, limit: float, steps: Steps) -> Candidates:
        return candidates.take(boxes.suppress(candidates, limit, self._kernels, steps))

    def _ask(
        self, programs: dict[int, Program], name: str, picture: RGB, squares: NDArray[np.float64], steps: Steps
    ) -> Floats:
        """Run all squares through a network, in the batches it was compiled for, the largest first."""
        order = np.argsort(squares[:, 1])  # from top to bottom: neighbours share what is in the cache
        squares = squares[order]
        answers: list[Floats] = []
        done = 0
        for size, program in programs.items():
            while len(squares) - done >= size:
                with steps("crops"):
                    self._kernels.crop(picture, squares[done : done + size], program.input)
                with steps(name):
                    answers.append(program().copy())
                done += size
        if not answers:
            return np.empty((0, 15), np.float32)
        found = np.concatenate(answers)
        ordered = np.empty_like(found)
        ordered[order] = found
        return ordered


def _logit(score: float) -> float:
    """Turn a threshold of the softmax into one of the logits' difference, which needs no exponential per cell."""
    return math.log(score / (1 - score)) if 0 < score < 1 else math.copysign(math.inf, score - 0.5)


def _face(corners: NDArray[np.float64], score: float, landmarks: Floats) -> Face:
    x1, y1, x2, y2 = map(float, corners)
    points = [Point(float(x), float(y)) for x, y in zip(landmarks[:5], landmarks[5:], strict=True)]
    return Face(Box(Point(x1, y1), Point(x2, y2)), Landmarks(*points), float(score))
