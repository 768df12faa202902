"""The plan of the pyramid: P-Net computes every cell of every level once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inference.mtcnn.pyramid import CANVAS_HEIGHTS, CANVAS_SIDE, MARGIN, build_pyramid, feature_side, lay_out


def test_the_levels_are_those_of_the_package() -> None:
    """For 512 x 512: ten levels, with sides truncated, not rounded."""
    levels = build_pyramid(512, 512, min_face_size=20, factor=0.709)
    assert [level.height for level in levels] == [307, 217, 154, 109, 77, 55, 39, 27, 19, 13]
    assert levels[1].scale == pytest.approx(0.6 * 0.709)


@pytest.mark.parametrize(("height", "width", "smallest"), [(12, 12, 20), (100, 100, 500), (16, 4000, 80)])
def test_an_image_too_small_for_the_face_has_no_level(height: int, width: int, smallest: int) -> None:
    """It has no canvas either."""
    assert build_pyramid(height, width, smallest, 0.709) == []
    assert lay_out([]) == []


@settings(deadline=None)
@given(
    height=st.integers(12, 3000),
    width=st.integers(12, 3000),
    smallest=st.integers(12, 200),
    factor=st.floats(0.3, 0.9),
)
def test_every_cell_is_on_exactly_one_tile_and_no_tile_on_another(
    height: int, width: int, smallest: int, factor: float
) -> None:
    """For any size, no cell is missed or computed twice, and no tile overwrites another."""
    levels = build_pyramid(height, width, smallest, factor)
    cells = [np.zeros((feature_side(each.height) - MARGIN, feature_side(each.width) - MARGIN), int) for each in levels]
    for canvas in lay_out(levels):
        assert canvas.height in CANVAS_HEIGHTS
        used = np.zeros((canvas.height, CANVAS_SIDE), int)
        for tile in canvas.tiles:
            place = used[tile.canvas_y : tile.canvas_y + tile.rows, tile.canvas_x : tile.canvas_x + tile.columns]
            assert place.shape == (tile.rows, tile.columns), "a tile extends beyond its canvas"
            place += 1
            cells[tile.level][
                tile.top : tile.top + tile.rows - MARGIN, tile.left : tile.left + tile.columns - MARGIN
            ] += 1
        assert used.max() == 1
    assert all((level == 1).all() for level in cells)


def test_features_are_half_a_level() -> None:
    """Convolution and pooling leave ceil((side - 2) / 2)."""
    assert [feature_side(side) for side in (12, 13, 14, 15)] == [5, 6, 6, 7]
