"""The MTCNN cascade: pyramid, three networks, boxes (Zhang et al. 2016, Joint Face Detection and Alignment, fig. 1).

Every step rounds as the mtcnn package does, so the faces are the same.
"""

import math

import numpy as np
from numpy.typing import NDArray

from inference.mtcnn import boxes
from inference.mtcnn.boxes import Candidates, Cells, Floats
from inference.mtcnn.detector import RGB, CascadeSettings, Face
from inference.mtcnn.kernels import Kernels
from inference.mtcnn.networks import Networks, Program
from inference.mtcnn.pyramid import MARGIN, Canvas, Level, build_pyramid, lay_out
from inference.mtcnn.steps import Steps

# The overlap above which the worse of two boxes is dropped: a share of their union within a level, over all levels and
# after R-Net, and a share of the smaller box after O-Net. Source: the defaults of the stages of mtcnn 1.0.0.
NMS_LEVEL = 0.5
NMS_PYRAMID = 0.7
NMS_RNET = 0.7
NMS_ONET = 0.7


class Cascade:
    """The engine that runs the compiled kernels and the networks of any runtime. See `detector.Engine`."""

    def __init__(self, name: str, kernels: Kernels, networks: Networks, settings: CascadeSettings) -> None:
        self.name = name
        self.device = networks.device
        self._kernels = kernels
        self._networks = networks
        self._settings = settings

    def find_faces(self, pixels: RGB, min_face_size: int, steps: Steps) -> list[Face]:
        pixels = np.ascontiguousarray(pixels)
        with np.errstate(over="ignore", invalid="ignore"):  # scores near 0 overflow; a user's weights may give NaN
            candidates = self._propose(pixels, min_face_size, steps)
            candidates = self._refine(pixels, candidates, steps)
            return self._finish(pixels, candidates, steps)

    def _propose(self, pixels: RGB, min_face_size: int, steps: Steps) -> Candidates:
        """P-Net: find candidates of every size."""
        height, width = pixels.shape[:2]
        # 1. Plan the pyramid and pack its levels onto canvases.
        with steps("pyramid"):
            levels = build_pyramid(height, width, min_face_size, self._settings.scale_factor)
            canvases = lay_out(levels)
        # 2. Run P-Net on each canvas and keep the cells that may hold a face.
        found: list[list[Cells]] = [[] for _ in levels]
        for canvas in canvases:
            for number, cells in self._scan(pixels, canvas, levels, steps):
                found[number].append(cells)
        # 3. Keep the best of overlapping candidates, first within each level and then over all levels.
        kept = []
        for level in levels:
            with steps("boxes"):
                candidates = boxes.from_cells(found.pop(0), level.scale)
            kept.append(self._suppress(candidates, NMS_LEVEL, steps))
        return self._suppress(boxes.join(kept), NMS_PYRAMID, steps)

    def _scan(self, pixels: RGB, canvas: Canvas, levels: list[Level], steps: Steps) -> list[tuple[int, Cells]]:
        """Run P-Net on a canvas. Give the likely cells of each tile with the number of the tile's level."""
        pnet = self._networks.pnet[canvas.height]
        with steps("pyramid"):
            for tile in canvas.tiles:
                self._kernels.first_layer(pixels, levels[tile.level], tile, self._networks.first_layer, pnet.input[0])
        with steps("pnet"):
            cells = pnet()[0]
        found = []
        with steps("boxes"):
            likely = cells[0] > _logit(self._settings.pnet_threshold)
            for tile in canvas.tiles:
                # Cells at the margin see two tiles and are ignored.
                rows = slice(tile.canvas_y, tile.canvas_y + tile.rows - MARGIN)
                columns = slice(tile.canvas_x, tile.canvas_x + tile.columns - MARGIN)
                y, x = np.nonzero(likely[rows, columns])
                if len(y):
                    positions = (y + tile.top).astype(np.int32), (x + tile.left).astype(np.int32)
                    found.append((tile.level, Cells(*positions, cells[:, rows, columns][:, y, x])))
        return found

    def _refine(self, pixels: RGB, candidates: Candidates, steps: Steps) -> Candidates:
        """R-Net: drop most candidates and move the boxes of the rest."""
        # 1. Run the network on the square around each candidate.
        squares, outputs = self._run(self._networks.rnet, "rnet", pixels, candidates, steps)
        # 2. Move the boxes by the regression and keep the likely ones.
        with steps("boxes"):
            refined = Candidates(boxes.regress(squares, outputs[:, 1:5]), boxes.face_score(outputs[:, 0]))
            refined = refined.take(refined.scores > self._settings.rnet_threshold)
        # 3. Keep the best of overlapping boxes.
        return self._suppress(refined, NMS_RNET, steps)

    def _finish(self, pixels: RGB, candidates: Candidates, steps: Steps) -> list[Face]:
        """O-Net: decide, and place the landmarks."""
        # 1. Run the network on the square around each candidate.
        squares, outputs = self._run(self._networks.onet, "onet", pixels, candidates, steps)
        # 2. Move the boxes by the regression and keep the likely ones.
        with steps("boxes"):
            landmarks = boxes.place_landmarks(squares, outputs[:, 5:])
            final = Candidates(boxes.regress(squares, outputs[:, 1:5]), boxes.face_score(outputs[:, 0]))
            likely = np.flatnonzero(final.scores > self._settings.onet_threshold)
            final, landmarks = final.take(likely), landmarks[likely]
        # 3. Keep the best of overlapping boxes.
        kept = boxes.suppress(final, NMS_ONET, self._kernels, steps, by_smaller=True)
        with steps("boxes"):
            corners = boxes.clip(final.corners[kept], *pixels.shape[:2])
            return [boxes.make_face(*face) for face in zip(corners, final.scores[kept], landmarks[kept], strict=True)]

    def _suppress(self, candidates: Candidates, limit: float, steps: Steps) -> Candidates:
        return candidates.take(boxes.suppress(candidates, limit, self._kernels, steps))

    def _run(
        self, programs: dict[int, Program], name: str, pixels: RGB, candidates: Candidates, steps: Steps
    ) -> tuple[NDArray[np.float64], Floats]:
        """Run a network on the square around each candidate, in batches. Give the squares and the outputs."""
        with steps("boxes"):
            squares = boxes.make_square(candidates.corners)
        order = np.argsort(squares[:, 1])  # from top to bottom, so that neighbors share the cache
        sorted_squares = squares[order]
        outputs: list[Floats] = []
        done = 0
        for size, program in programs.items():  # the largest batch first
            while len(order) - done >= size:
                with steps("crops"):
                    self._kernels.crop(pixels, sorted_squares[done : done + size], program.input)
                with steps(name):
                    outputs.append(program().copy())
                done += size
        if not outputs:
            return squares, np.empty((0, 15), np.float32)
        in_order = np.concatenate(outputs)
        results = np.empty_like(in_order)
        results[order] = in_order
        return squares, results


def _logit(score: float) -> float:
    """Turn a threshold of the softmax into one of the difference of the logits, which saves an exponential per cell."""
    return math.log(score / (1 - score)) if 0 < score < 1 else math.copysign(math.inf, score - 0.5)
