"""The image pyramid, and how its levels are packed onto canvases for P-Net.

P-Net finds faces of one size, so it runs on ever smaller levels of the image (Zhang et al. 2016, section II-A). Each
level would be another shape for the runtime to compile, and the largest would take a gigabyte. Instead, levels are cut
into tiles, and tiles are packed onto canvases of a few fixed sizes: each is compiled once, memory is bounded, and small
levels share a call.

A level has pixels. Its features are the output of P-Net's first layer (3x3 convolution, 2x2 pooling), half as many per
side. A cell is one output of P-Net and sees 5x5 features. Canvases and tiles are measured in features.
"""

import math
from dataclasses import dataclass, replace

from inference.mtcnn.detector import SMALLEST_FACE

# Small enough for the second-level cache. For images of 0.25, 1 and 12 megapixels P-Net computes 1.21, 1.08 and 1.03
# times the cells that the levels have; a side of 64 gives the same, 128 and more give more.
CANVAS_SIDE = 96
# A canvas that is not full has the smallest height that holds its tiles.
CANVAS_HEIGHTS = (16, 32, 48, 64, 80, 96)
# Two 3x3 convolutions without padding: a tile has this many fewer cells than features per side. Tiles overlap by it.
MARGIN = 4


@dataclass(frozen=True, slots=True)
class Level:
    """The image scaled by `scale`; sides in pixels."""

    scale: float
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Tile:
    """A rectangle of a level's features, and its position on a canvas."""

    level: int
    top: int
    left: int
    rows: int
    columns: int
    canvas_y: int = 0
    canvas_x: int = 0


@dataclass(frozen=True, slots=True)
class Canvas:
    """An input of P-Net with tiles on it, CANVAS_SIDE features wide."""

    height: int
    tiles: list[Tile]


@dataclass(slots=True)
class _Shelf:
    """A strip of a canvas, filled from the left. Its first tile is the highest."""

    tiles: list[Tile]  # of the whole canvas
    y: int
    x: int = 0


def build_pyramid(height: int, width: int, min_face_size: int, factor: float) -> list[Level]:
    """List the levels of an image, largest first. The count and the sizes are rounded as in the mtcnn package.

    Source: mtcnn 1.0.0, utils/images.py, build_scale_pyramid and scale_images.
    """
    count = max(0, round(-(math.log(min(height, width) / SMALLEST_FACE) / math.log(factor) + 1)))
    scales = [SMALLEST_FACE / min_face_size * factor**step for step in range(count)]
    levels = [Level(scale, int(height * scale), int(width * scale)) for scale in scales]
    return [level for level in levels if min(level.height, level.width) >= SMALLEST_FACE]


def feature_side(side: int) -> int:
    """Give the number of features that the first layer makes of `side` pixels."""
    return (side - 1) // 2


def lay_out(levels: list[Level]) -> list[Canvas]:
    """Cut the levels into tiles and pack them on shelves, the highest first (first fit by decreasing height)."""
    tiles = [tile for number, level in enumerate(levels) for tile in _cut(number, level)]
    tiles.sort(key=lambda tile: (tile.rows, tile.columns), reverse=True)
    canvases: list[list[Tile]] = []
    shelves: list[_Shelf] = []
    top = CANVAS_SIDE  # where the free part of the last canvas begins
    for tile in tiles:
        shelf = next((shelf for shelf in shelves if shelf.x + tile.columns <= CANVAS_SIDE), None)
        if shelf is None:
            if top + tile.rows > CANVAS_SIDE:
                canvases.append([])
                top = 0
            shelf = _Shelf(canvases[-1], top)
            shelves.append(shelf)
            top += tile.rows
        shelf.tiles.append(replace(tile, canvas_y=shelf.y, canvas_x=shelf.x))
        shelf.x += tile.columns
        if shelf.x > CANVAS_SIDE - MARGIN:
            shelves.remove(shelf)
    return [Canvas(_height(placed), placed) for placed in canvases]


def _cut(number: int, level: Level) -> list[Tile]:
    rows, columns = feature_side(level.height), feature_side(level.width)
    step = CANVAS_SIDE - MARGIN
    return [
        Tile(number, top, left, min(CANVAS_SIDE, rows - top), min(CANVAS_SIDE, columns - left))
        for top in range(0, rows - MARGIN, step)
        for left in range(0, columns - MARGIN, step)
    ]


def _height(tiles: list[Tile]) -> int:
    used = max(tile.canvas_y + tile.rows for tile in tiles)
    return next(height for height in CANVAS_HEIGHTS if height >= used)
