"""Arrays are read as files of the same content are, to the last bit, whichever part is asked for."""

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.warp import transform_bounds
from scipy import ndimage

from terradelta.errors import RasterError, ShapeError
from terradelta.geo.grid import Grid, Tile
from terradelta.geo.shift import ShiftField
from terradelta.raster.array_source import ArrayLayer, array_source
from terradelta.raster.pair import open_pair

UTM = "EPSG:32614"
PLACE = Affine(0.5, 0, 600000, 0, -0.5, 3400000)


def smooth(height: int, width: int, dtype: str = "uint8") -> np.ndarray:
    values = ndimage.gaussian_filter(np.random.default_rng(height).normal(size=(3, height, width)), (0, 2, 2))
    return (np.interp(values, (values.min(), values.max()), (1, 250))).astype(dtype)


def second(kind: str) -> tuple[np.ndarray, str, Affine]:
    if kind == "coarser":
        return smooth(300, 400), UTM, Affine(0.6, 0, 600010, 0, -0.6, 3399990)
    if kind == "finer":
        return smooth(1100, 1300), UTM, Affine(0.25, 0, 599950, 0, -0.25, 3400050)
    if kind == "degrees":
        west, south, east, north = transform_bounds(UTM, "EPSG:4326", 600000, 3399820, 600225, 3400000)
        step = Affine((east - west) / 450, 0, west, 0, -(north - south) / 400, north)
        return smooth(400, 450, "uint16"), "EPSG:4326", step
    values = smooth(360, 440, "float32")
    values[:, 100:150, 100:300] = np.nan
    return values, UTM, Affine(0.5, 0, 600003.5, 0, -0.5, 3399995.5)


@pytest.fixture
def both(tmp_path):
    """A pair from files and one from arrays of the same content."""

    def open_both(kind: str):
        files, sources = [], []
        first = smooth(380, 470)
        first[:, 50:90, 60:300] = 0
        for name, (values, crs, place), nodata in (("a", (first, UTM, PLACE), 0), ("b", second(kind), None)):
            files.append(tmp_path / f"{name}.tif")
            sides = {"height": values.shape[1], "width": values.shape[2], "transform": place, "crs": crs}
            profile = {"count": 3, "dtype": values.dtype.name, "nodata": nodata, "photometric": "MINISBLACK", **sides}
            with rasterio.open(files[-1], "w", driver="GTiff", **profile) as target:
                target.write(values)
            grid = Grid(CRS.from_string(crs), place, values.shape[1:])
            sources.append(array_source(values, grid, label=name, dtype=values.dtype.name, nodata=nodata))
        return open_pair(*files), open_pair(*sources)

    return open_both


def same(one, other) -> None:
    np.testing.assert_array_equal(one.valid, other.valid)
    for first, second in ((one.before, other.before), (one.after, other.after)):
        assert first.dtype == second.dtype
        np.testing.assert_array_equal(first[:, one.valid], second[:, one.valid])


@pytest.mark.parametrize("kind", ["coarser", "finer", "degrees", "shifted"])
def test_any_window_is_that_of_a_file(both, kind):
    files, arrays = both(kind)
    with files, arrays:
        assert files.grid == arrays.grid
        assert files.preflight.placements == arrays.preflight.placements
        height, width = files.grid.shape
        places = [Tile(row, col, 128, 100) for row in range(0, height - 128, 77) for col in range(0, width - 100, 93)]
        for tile in (*places, files.grid.tile, Tile(0, 0, 3, 5), Tile(height - 40, width - 30, 40, 30)):
            same(files.read(tile), arrays.read(tile))
        for side in (50, 111, 300, 1024):
            same(files.read_decimated(side), arrays.read_decimated(side))


@pytest.mark.parametrize("bends", [False, True])
def test_a_moved_date_is_that_of_a_file(both, bends):
    files, arrays = both("coarser")
    with files, arrays:
        nodes = np.random.default_rng(1).uniform(-3, 3, (2, 4, 4)) if bends else np.full((2, 2, 2), 1.3)
        field = ShiftField(files.grid.shape, nodes)
        files.coregister(field)
        arrays.coregister(field)
        for tile in (Tile(40, 60, 60, 50), Tile(120, 0, 64, 64)):
            same(files.read(tile), arrays.read(tile))
        same(files.read_decimated(99), arrays.read_decimated(99))


def test_a_read_fetches_no_more_than_it_needs():
    asked = []

    class Counted:
        shape = (3, 4000, 4000)

        def __getitem__(self, key):
            asked.append(tuple(part.stop - part.start for part in key[1:]))
            return np.zeros((3, *asked[-1]), np.uint8)

    grid = Grid(CRS.from_string(UTM), PLACE, (4000, 4000))
    source = array_source(Counted(), grid, label="a", dtype="uint8")
    layer = ArrayLayer(source, (1, 2, 3), grid, rasterio.enums.Resampling.bilinear)
    assert layer.read(Tile(1000, 1000, 30, 40))[0].shape == (3, 30, 40)
    moved = Grid(grid.crs, grid.transform @ Affine.translation(0.3, 0.3), (3900, 3900))
    ArrayLayer(source, (1,), moved, rasterio.enums.Resampling.bilinear).read(Tile(1000, 1050, 30, 40))
    assert asked[0] == (30, 40)
    assert max(asked[1]) < 600  # a block that GDAL warps at once, and what it reads around it


def test_an_image_around_the_earth_is_cut_open():
    values = np.tile(np.arange(36, dtype=np.uint8)[None, None] + 1, (1, 18, 1))
    world = Grid(CRS.from_epsg(4326), Affine(10, 0, -180, 0, -10, 90), (18, 36))
    pacific = Grid(CRS.from_epsg(4326), Affine(10, 0, 170, 0, -10, 40), (4, 3))
    one = array_source(np.zeros((1, 4, 3), np.uint8), pacific, label="a", dtype="uint8")
    with open_pair(one, array_source(values, world, label="b", dtype="uint8")) as pair:
        assert pair.read(pair.grid.tile).after[0, 0].tolist() == [36, 1, 2]


def test_values_that_are_no_real_numbers_and_other_shapes_are_refused():
    grid = Grid(None, Affine.identity(), (4, 5))
    with pytest.raises(RasterError, match="a holds complex64 values; only integers and real floats"):
        array_source(np.zeros((1, 4, 5), np.complex64), grid, label="a", dtype="complex64")
    with pytest.raises(ShapeError, match=r"a has shape \(1, 5, 4\); give \(bands, height, width\)"):
        array_source(np.zeros((1, 5, 4)), grid, label="a", dtype="float64")


@pytest.mark.parametrize("dtype", ["bool", "float16", ">u2", "int8", "uint64"])
def test_dtypes_that_gdal_does_not_know_are_held_by_others(dtype):
    values = (np.arange(20).reshape(1, 4, 5) % 2).astype(dtype)
    source = array_source(values, Grid(None, Affine.identity(), (4, 5)), label="a", dtype=values.dtype.name)
    with open_pair(source, source) as pair:
        np.testing.assert_array_equal(pair.read(pair.grid.tile).before, values.astype(pair.dtypes[0]))
