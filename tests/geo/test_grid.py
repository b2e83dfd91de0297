"""Grids and tiles: positions against pyproj and hand-computed numbers."""

import numpy as np
import pyproj
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.crs import CRS

from terradelta.errors import GridError, ShapeError
from terradelta.geo.grid import Grid, Tile

UTM = CRS.from_epsg(32614)
NORTH_UP = Grid(UTM, Affine(5, 0, 500000, 0, -5, 5200000), (40, 60))


def test_tile_slices_and_stops():
    tile = Tile(2, 3, 4, 5)
    assert (tile.stop_row, tile.stop_col) == (6, 8)
    assert np.zeros((20, 20))[tile.slices].shape == (4, 5)


def test_tile_refuses_to_be_empty():
    with pytest.raises(ShapeError, match="above 0, not 0 x 5"):
        Tile(0, 0, 0, 5)


def test_grid_refuses_no_pixels_and_no_area():
    with pytest.raises(GridError, match="above 0, not 0 x 3"):
        Grid(UTM, Affine.identity(), (0, 3))
    with pytest.raises(GridError, match="onto a line"):
        Grid(UTM, Affine(0, 0, 0, 0, 0, 0), (1, 1))
    for value in (np.nan, np.inf):
        with pytest.raises(GridError, match="is not finite"):
            Grid(UTM, Affine(1, 0, value, 0, -1, 0), (1, 1))


def test_transforms_that_overflow_together():
    huge, tiny = (Grid(UTM, Affine(side, 0, 0, 0, -side, 0), (4, 4)) for side in (1e200, 1e-150))
    with pytest.raises(GridError, match="overflow"):
        huge.offset_in(tiny)


def test_bounds_of_a_rotated_grid_hold_every_corner():
    # A 3 x 4 unit rectangle turned by 90 degrees: x takes -rows, y takes columns.
    west, south, east, north = Grid(UTM, Affine.rotation(90), (3, 4)).bounds
    np.testing.assert_allclose([west, south, east, north], [-3, 0, 0, 4], atol=1e-12)


def test_pixel_size_is_height_then_width_whatever_the_rotation():
    grid = Grid(UTM, Affine.rotation(30) @ Affine.scale(2, -7), (3, 4))
    np.testing.assert_allclose(grid.pixel_size, (7, 2))


def test_crop_then_resize_keeps_the_ground():
    cropped = NORTH_UP.crop(Tile(10, 20, 8, 12))
    assert cropped.bounds == (500100, 5199910, 500160, 5199950)
    thin = cropped.resized((2, 3))
    assert thin.bounds == cropped.bounds
    assert thin.pixel_size == (20, 20)


@pytest.mark.parametrize(("max_side", "shape"), [(1000, (40, 60)), (60, (40, 60)), (30, (20, 30)), (1, (1, 1))])
def test_shape_within(max_side, shape):
    assert NORTH_UP.shape_within(max_side) == shape


def test_shape_within_refuses_nothing():
    with pytest.raises(ShapeError, match="1 or more, not 0"):
        NORTH_UP.shape_within(0)


def test_lonlat_bounds_agree_with_pyproj():
    to_lonlat = pyproj.Transformer.from_crs(32614, 4326, always_xy=True)
    np.testing.assert_allclose(NORTH_UP.lonlat_bounds(), to_lonlat.transform_bounds(*NORTH_UP.bounds), atol=1e-9)


def test_lonlat_bounds_need_a_crs():
    with pytest.raises(GridError, match="assign a CRS first"):
        Grid(None, Affine.identity(), (2, 2)).lonlat_bounds()


def test_map_to_another_crs_agrees_with_pyproj():
    lonlat = Grid(CRS.from_epsg(4326), Affine(1e-4, 0, -99.01, 0, -1e-4, 47.0), (10, 10))
    rows, cols = NORTH_UP.map_to(lonlat, [0, 40], [0, 60])
    x, y = pyproj.Transformer.from_crs(32614, 4326, always_xy=True).transform([500000, 500300], [5200000, 5199800])
    np.testing.assert_allclose(cols, (np.array(x) + 99.01) / 1e-4, atol=1e-4)
    np.testing.assert_allclose(rows, (47.0 - np.array(y)) / 1e-4, atol=1e-4)


def test_map_to_names_what_cannot_be_mapped():
    plain = Grid(None, Affine.identity(), (2, 2))
    with pytest.raises(GridError, match="assign a CRS to both"):
        NORTH_UP.map_to(plain, [0], [0])
    with pytest.raises(GridError, match="have no place in EPSG:4326"):
        NORTH_UP.map_to(Grid(CRS.from_epsg(4326), Affine.identity(), (1, 1)), [1e9], [1e9])


@given(
    row=st.integers(-(10**5), 10**5),
    col=st.integers(-(10**5), 10**5),
    size=st.sampled_from([0.3, 5.0, 30.0, 0.0008084837557075694]),
    angle=st.sampled_from([0.0, 17.0, 180.0]),
)
def test_whole_pixel_offsets_are_found_in_the_right_direction(row, col, size, angle):
    other = Grid(UTM, Affine.translation(485899.7, 5209246.3) @ Affine.rotation(angle) @ Affine.scale(size), (50, 70))
    moved = Grid(UTM, other.transform @ Affine.translation(col, row), (20, 30))
    assert moved.offset_in(other) == (row, col)


@pytest.mark.parametrize(
    "change",
    [
        Affine.translation(0.002, 0),
        Affine.translation(0, 0.5),
        Affine.scale(1.0001),
        Affine.scale(1, -1),
        Affine.rotation(0.01),
        Affine.rotation(90),
    ],
)
def test_anything_but_a_whole_shift_does_not_coincide(change):
    assert Grid(UTM, NORTH_UP.transform @ change, (40, 60)).offset_in(NORTH_UP) is None


def test_a_thousandth_of_a_pixel_is_forgiven_and_another_crs_is_not():
    near = Grid(UTM, NORTH_UP.transform @ Affine.translation(3.0009, -2.0009), (40, 60))
    assert near.offset_in(NORTH_UP) == (-2, 3)
    assert Grid(CRS.from_epsg(32613), NORTH_UP.transform, (40, 60)).offset_in(NORTH_UP) is None


def test_a_tile_moves_and_is_found_in_another():
    tile, other = Tile(4, 6, 3, 2), Tile(2, 5, 8, 4)
    assert tile.moved(-1, 2) == Tile(3, 8, 3, 2)
    assert tile.within(other) == (slice(2, 5), slice(1, 3))
    assert tile.shared(other) == tile
    assert other.shared(Tile(8, 8, 9, 9)) == Tile(8, 8, 2, 1)
    assert tile.shared(Tile(7, 6, 1, 2)) is None
    assert tile.grown(5, (20, 10)) == Tile(0, 1, 12, 9)
