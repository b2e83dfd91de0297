import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.crs import CRS

from terradelta.geo.grid import Grid
from terradelta.view.tile_grid import SIDE, TileGrid, display_grid

UTM = CRS.from_epsg(32614)


def test_a_grid_that_is_north_up_and_square_is_shown_as_it_is():
    grid = Grid(UTM, Affine(0.5, 0, 600000, 0, -0.5, 3400000), (300, 420))
    assert display_grid(grid) is grid
    assert display_grid(Grid(None, Affine.scale(1, -1), (3, 4))).transform == Affine.scale(1, -1)


@pytest.mark.parametrize(
    "transform",
    [
        Affine(0.5, 0, 600000, 0, -0.25, 3400000),
        Affine(0.5, 0, 600000, 0, 0.5, 3400000),
        Affine(0.5, 0, 600000, 0, -0.5, 3400000) @ Affine.rotation(30),
        Affine(-0.5, 0, 600000, 0, -0.5, 3400000),
    ],
)
def test_any_other_grid_is_shown_on_one_over_its_extent(transform: Affine):
    grid = Grid(UTM, transform, (300, 420))
    shown = display_grid(grid)
    t = shown.transform
    assert (t.b, t.d) == (0, 0)
    assert t.a == -t.e == min(grid.pixel_size)
    x_min, y_min, x_max, y_max = grid.bounds
    left, bottom, right, top = shown.bounds
    assert (left, top) == (x_min, y_max)
    assert x_max <= right + 1e-6 < x_max + t.a + 2e-6
    assert y_min - t.a - 2e-6 < bottom - 1e-6 <= y_min


@given(height=st.integers(1, 5000), width=st.integers(1, 5000))
def test_tiles_of_every_level_cover_the_scene_once(height: int, width: int):
    tiles = TileGrid(Grid(None, Affine.scale(2, -2), (height, width)))
    assert len(tiles.resolutions) == tiles.levels
    assert tiles.resolutions[-1] == 2
    assert all(a == 2 * b for a, b in zip(tiles.resolutions, tiles.resolutions[1:], strict=False))
    assert tiles.window(0, 0, 0) is not None
    assert tiles.window(0, 1, 0) is tiles.window(0, 0, 1) is tiles.window(tiles.levels, 0, 0) is None
    for level in range(tiles.levels):
        reach = SIDE * tiles.factor(level)
        rows, cols = -(-height // reach), -(-width // reach)
        assert tiles.window(level, cols, 0) is tiles.window(level, 0, rows) is None
        covered = np.zeros((rows, cols), int)
        for y in {0, rows // 2, rows - 1}:
            for x in {0, cols // 2, cols - 1}:
                window, shape = tiles.window(level, x, y)
                assert (window.row, window.col) == (y * reach, x * reach)
                assert window.stop_row == min(height, (y + 1) * reach)
                assert window.stop_col == min(width, (x + 1) * reach)
                assert max(shape) <= SIDE
                assert abs(shape[0] - window.height / tiles.factor(level)) <= 0.5 or shape[0] == 1
                covered[y, x] += 1
        assert covered.max() == 1
