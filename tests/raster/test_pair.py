"""`open_pair`: placement, warping and tiles, against analytic images and plain rasterio reads."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio
import shapely
import skimage.io
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.warp import reproject
from rasterio.windows import Window
from scipy.ndimage import binary_erosion

from terradelta.errors import RasterError, ShapeError
from terradelta.geo.grid import Grid, Tile
from terradelta.raster.pair import Reading, cache_bytes, open_pair
from terradelta.raster.remote import RemoteFile
from terradelta.raster.source import Source, read_source
from terradelta.raster.warp import Layer

UTM = CRS.from_epsg(32614)
ZONE_13 = "EPSG:32613"
X0, Y0 = 500000.0, 5200000.0


def write(path, values, transform=None, crs=UTM, **profile):
    count, height, width = values.shape
    transform = Affine(5, 0, X0, 0, -5, Y0) if transform is None else transform
    profile = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": values.dtype, **profile}
    with rasterio.open(path, "w", transform=transform, crs=crs, **profile) as file:
        file.write(values)
    return path


def noise(*shape, dtype="uint8", seed=0):
    return np.random.default_rng(seed).integers(1, 255, shape).astype(dtype)


def centres(grid):
    """(x, y) of every pixel centre, computed without the package."""
    rows, cols = np.mgrid[: grid.shape[0], : grid.shape[1]] + 0.5
    t = grid.transform
    return t.a * cols + t.b * rows + t.c, t.d * cols + t.e * rows + t.f


def hills(x, y):
    """A smooth image: at most 0.05 of slope a metre, waves of 600 m."""
    return (10 * np.sin(2 * np.pi * (x - X0) / 600) + 10 * np.cos(2 * np.pi * (y - Y0) / 600) + 50).astype("float32")


def grid_over(crs, bounds, shape):
    """Transform of a north-up grid in another CRS over UTM bounds (west, south, east, north)."""
    west, south, east, north = pyproj.Transformer.from_crs(32614, crs, always_xy=True).transform_bounds(*bounds)
    return Affine((east - west) / shape[1], 0, west, 0, (south - north) / shape[0], north)


def read_all(pair):
    return pair.read(pair.grid.tile)


# --- placement without warping


@pytest.mark.parametrize(("drow", "dcol"), [(0, 0), (7, 3), (-7, 3), (7, -3), (-7, -3)])
def test_whole_pixel_offsets_are_read_bit_by_bit(tmp_path, drow, dcol):
    ground = noise(2, 80, 90)
    first = write(tmp_path / "a.tif", ground[:, 10:60, 10:70])
    r, c = 10 + drow, 10 + dcol
    second = write(
        tmp_path / "b.tif", ground[:, r : r + 50, c : c + 60], Affine(5, 0, X0 + 5 * dcol, 0, -5, Y0 - 5 * drow)
    )
    with open_pair(first, second) as pair:
        window = read_all(pair)
        placed = [place.warped for place in pair.preflight.placements]
    assert pair.grid.shape == (50 - abs(drow), 60 - abs(dcol))
    assert pair.grid.bounds[0] == X0 + 5 * max(0, dcol)
    assert pair.grid.bounds[3] == Y0 - 5 * max(0, drow)
    assert placed == [False, False]
    top, left = 10 + max(0, drow), 10 + max(0, dcol)
    expected = ground[:, top : top + pair.grid.height, left : left + pair.grid.width]
    np.testing.assert_array_equal(window.before, expected)
    np.testing.assert_array_equal(window.after, expected)
    assert window.valid.all()


def test_tiles_are_windows_of_the_whole(tmp_path):
    first = write(tmp_path / "a.tif", noise(3, 40, 50))
    second = write(tmp_path / "b.tif", noise(3, 45, 55, seed=1), Affine(5, 0, X0 + 2, 0, -5, Y0 + 3))
    with open_pair(first, second) as pair:
        whole = read_all(pair)
        for tile in (Tile(0, 0, 10, 10), Tile(3, 7, 20, 30), Tile(pair.grid.height - 1, pair.grid.width - 1, 1, 1)):
            part = pair.read(tile)
            np.testing.assert_array_equal(part.before, whole.before[:, *tile.slices])
            np.testing.assert_array_equal(part.after, whole.after[:, *tile.slices])
            assert part.grid == pair.grid.crop(tile)


@pytest.mark.parametrize("tile", [Tile(-1, 0, 2, 2), Tile(0, 39, 2, 2), Tile(29, 0, 2, 2)])
def test_tiles_beyond_the_grid_are_refused(tmp_path, tile):
    path = write(tmp_path / "a.tif", noise(1, 30, 40))
    with open_pair(path, path) as pair, pytest.raises(ShapeError, match="beyond the grid of 30 x 40 pixels"):
        pair.read(tile)


def test_a_south_up_image_is_its_own_grid(tmp_path):
    values = noise(1, 20, 30)
    first = write(tmp_path / "a.tif", values[:, ::-1], Affine(5, 0, X0, 0, 5, Y0 - 100))
    second = write(tmp_path / "b.tif", values)
    with open_pair(first, second) as pair:
        window = read_all(pair)
    np.testing.assert_array_equal(window.before, window.after)
    assert window.valid.all()


def test_plain_images_are_compared_pixel_by_pixel(tmp_path):
    first, second = tmp_path / "a.png", tmp_path / "b.jpg"
    skimage.io.imsave(first, np.moveaxis(noise(3, 20, 30), 0, -1))
    skimage.io.imsave(second, np.full((20, 30, 3), 99, "uint8"), check_contrast=False)
    with open_pair(first, second, wanted=("red", "green", "blue")) as pair:
        window = read_all(pair)
        assert any("no CRS" in line for line in pair.preflight.lines())
    assert pair.grid == Grid(None, Affine.identity(), (20, 30))
    np.testing.assert_array_equal(window.before, noise(3, 20, 30))
    np.testing.assert_allclose(window.after, 99, atol=2)


def test_one_pixel_is_enough(tmp_path):
    path = write(tmp_path / "a.tif", noise(1, 1, 1))
    with open_pair(path, path) as pair:
        assert read_all(pair).before.shape == (1, 1, 1)
        assert pair.read_decimated(100).valid.all()


def test_band_order_and_mixed_dtypes(tmp_path):
    values = noise(3, 10, 12)
    first = write(tmp_path / "a.tif", values, photometric="RGB")
    second = write(tmp_path / "b.tif", values[::-1])
    with rasterio.open(second, "r+") as file:
        file.descriptions = ("B2 Blue", "B3 Green", "B4 Red")
    with open_pair(first, second) as pair:
        assert pair.bands == ("red", "green", "blue")
        window = read_all(pair)
    np.testing.assert_array_equal(window.after, values)
    with open_pair(first, second, bands=["blue", "red"]) as pair:
        assert (pair.count, pair.dtypes) == (2, ("uint8", "uint8"))
        np.testing.assert_array_equal(read_all(pair).before, values[[2, 0]])


def test_bands_of_different_dtypes_in_one_file_are_promoted(tmp_path):
    source = write(tmp_path / "a.tif", noise(2, 10, 12))
    mixed = tmp_path / "mixed.vrt"
    bands = "".join(
        f'<VRTRasterBand dataType="{kind}" band="{i}"><SimpleSource><SourceFilename>{source}</SourceFilename>'
        f"<SourceBand>{i}</SourceBand></SimpleSource></VRTRasterBand>"
        for i, kind in ((1, "Byte"), (2, "Int16"))
    )
    mixed.write_text(
        f'<VRTDataset rasterXSize="12" rasterYSize="10"><SRS>EPSG:32614</SRS>'
        f"<GeoTransform>{X0},5,0,{Y0},0,-5</GeoTransform>{bands}</VRTDataset>"
    )
    with open_pair(mixed, source) as pair:
        assert pair.dtypes == ("int16", "uint8")
        window = read_all(pair)
        assert "different dtypes (int16 and uint8)" in " ".join(pair.preflight.warnings)
    np.testing.assert_array_equal(window.before, noise(2, 10, 12))


# --- warping against an analytic image


def warped_date(path, crs, transform, shape):
    """`hills` sampled on another grid, with pyproj doing the projection."""
    x, y = centres(Grid(CRS.from_user_input(crs), transform, shape))
    x, y = pyproj.Transformer.from_crs(crs, 32614, always_xy=True).transform(x, y)
    return write(path, hills(x, y)[None], transform, CRS.from_user_input(crs))


@pytest.mark.parametrize("crs", ["EPSG:32613", "EPSG:4326", "EPSG:3857", "EPSG:32614"])
@pytest.mark.parametrize("pixel_m", [5.0, 2.5, 12.0])
def test_an_analytic_image_agrees_across_crs_and_resolution(tmp_path, crs, pixel_m):
    first = warped_date(tmp_path / "a.tif", "EPSG:32614", Affine(5, 0, X0, 0, -5, Y0), (120, 150))
    shape = (int(596 / pixel_m), int(746 / pixel_m))
    transform = grid_over(crs, (X0 + 1.3, Y0 - 598, X0 + 748, Y0 - 2.1), shape)
    second = warped_date(tmp_path / "b.tif", crs, transform, shape)
    with open_pair(first, second) as pair:
        window = read_all(pair)
        fraction = pair.preflight.valid_fraction
    # The slope is about 0.1 a metre: a shift of half a pixel would show as 0.25.
    error = np.abs(window.after - window.before)[0]
    inner = window.valid.copy()
    inner[:4], inner[-4:], inner[:, :4], inner[:, -4:] = False, False, False, False
    inner = inner & (eroded(window.valid, 4))
    assert inner.mean() > 0.5
    assert error[inner].max() < {5.0: 0.03, 2.5: 0.06, 12.0: 0.12}[pixel_m]
    assert fraction > 0.85


def eroded(mask, pixels):
    return binary_erosion(mask, iterations=pixels)


@settings(max_examples=40, deadline=None)
@given(
    shift=st.tuples(st.floats(-60, 60), st.floats(-60, 60)),
    size=st.tuples(st.integers(8, 40), st.integers(8, 40)),
    pixel=st.sampled_from([2.0, 5.0, 5.0, 8.0]),
    angle=st.sampled_from([0.0, 0.0, 20.0, 90.0, -135.0]),
)
def test_any_two_grids_meet_where_both_are(tmp_path_factory, shift, size, pixel, angle):
    folder = tmp_path_factory.mktemp("pair")
    before = Grid(UTM, Affine(5, 0, X0, 0, -5, Y0), (40, 50))
    middle = Affine.translation(X0 + 125 + shift[0], Y0 - 100 + shift[1])
    turned = middle @ Affine.rotation(angle) @ Affine.scale(pixel, -pixel)
    after = Grid(UTM, turned @ Affine.translation(-size[1] / 2, -size[0] / 2), size)
    # A plane is kept exactly by bilinear interpolation, so any shift shows.
    plane = [(0.2 * (x - X0) + 0.05 * (y - Y0)).astype("float32")[None] for x, y in map(centres, (before, after))]
    first = write(folder / "a.tif", plane[0], before.transform)
    second = write(folder / "b.tif", plane[1], after.transform)
    with open_pair(first, second) as pair:
        window = read_all(pair)
    x, y = centres(window.grid)
    assert shapely.box(*before.bounds).buffer(1e-6).covers(shapely.box(*window.grid.bounds))
    outline = shapely.Polygon([after.transform @ p for p in ((0, 0), (size[1], 0), size[::-1], (0, size[0]))])
    assert shapely.box(*outline.bounds).buffer(0.01).covers(shapely.box(*window.grid.bounds))
    inside, well_inside = (shapely.contains_xy(outline.buffer(by), x, y) for by in (0.05, -0.05))
    assert not (window.valid & ~inside).any()
    assert not (well_inside & ~window.valid).any()
    np.testing.assert_allclose(window.before[0], 0.2 * (x - X0) + 0.05 * (y - Y0), atol=1e-3)
    smooth = shapely.contains_xy(outline.buffer(-1.5 * max(5, pixel) - 5), x, y)
    np.testing.assert_allclose(window.after[0][smooth], window.before[0][smooth], atol=0.02)


def test_a_given_grid_puts_both_dates_on_it(tmp_path):
    first = warped_date(tmp_path / "a.tif", "EPSG:32614", Affine(5, 0, X0, 0, -5, Y0), (120, 150))
    bounds = (X0, Y0 - 600, X0 + 750, Y0)
    second = warped_date(tmp_path / "b.tif", ZONE_13, grid_over(ZONE_13, bounds, (120, 150)), (120, 150))
    given_grid = Grid(UTM, Affine(10, 0, X0 + 101, 0, -10, Y0 - 99), (30, 40))
    with open_pair(first, second, grid=given_grid) as pair:
        window = read_all(pair)
        assert [place.warped for place in pair.preflight.placements] == [True, True]
    assert pair.grid == given_grid
    expected = hills(*centres(given_grid))
    # Half a pixel would be 0.5.
    np.testing.assert_allclose(window.before[0], expected, atol=0.1)
    np.testing.assert_allclose(window.after[0], expected, atol=0.1)


def test_a_rotated_first_date_is_the_grid(tmp_path):
    rotated = Affine.translation(X0 + 300, Y0 - 100) @ Affine.rotation(-30) @ Affine.scale(5, -5)
    first = warped_date(tmp_path / "a.tif", "EPSG:32614", rotated, (60, 60))
    second = warped_date(tmp_path / "b.tif", "EPSG:32614", Affine(5, 0, X0, 0, -5, Y0), (160, 160))
    with open_pair(first, second) as pair:
        window = read_all(pair)
    assert pair.grid == Grid(UTM, rotated, (60, 60))
    np.testing.assert_allclose(window.after, window.before, atol=0.03)


def test_a_global_image_meets_a_utm_scene(tmp_path):
    world = Affine(0.5, 0, -180, 0, -0.5, 90)
    second = write(tmp_path / "b.tif", noise(1, 360, 720), world, CRS.from_epsg(4326))
    first = write(tmp_path / "a.tif", noise(1, 60, 60), Affine(5000, 0, 400000, 0, -5000, 5300000))
    for one, other in ((first, second), (second, first)):
        with open_pair(one, other) as pair:
            window = read_all(pair)
            assert window.valid.mean() > 0.7
            np.testing.assert_allclose(pair.grid.lonlat_bounds(), (-100.4, 45.0, -96.3, 47.9), atol=0.6)


def test_a_curved_scan_line_is_followed_to_a_fraction_of_a_pixel(tmp_path):
    # Over 60 km a parallel departs from a UTM row by about half of these pixels of 100 m.
    utm, shape = Grid(UTM, Affine(100, 0, X0 - 90000, 0, -100, Y0), (60, 600)), (50, 500)
    lonlat = Grid(CRS.from_epsg(4326), grid_over("EPSG:4326", utm.bounds, shape), shape)
    northing = pyproj.Transformer.from_crs(4326, 32614, always_xy=True).transform(*centres(lonlat))[1]
    first = write(tmp_path / "a.tif", (centres(utm)[1] / 100)[None])
    with rasterio.open(first, "r+") as file:
        file.transform = utm.transform
    second = write(tmp_path / "b.tif", (northing / 100)[None], lonlat.transform, lonlat.crs)
    with open_pair(first, second) as pair:
        window = read_all(pair)
    error_px = np.abs(window.after - window.before)[0][eroded(window.valid, 3)]
    assert error_px.size > 20000
    assert error_px.max() < 0.03


@pytest.mark.parametrize("angle", [0, 30])
def test_a_finer_date_is_averaged_along_both_axes(tmp_path, angle):
    first = write(tmp_path / "a.tif", np.zeros((1, 40, 40), "float32"))
    turned = Affine.translation(X0 + 100, Y0 - 100) @ Affine.rotation(angle) @ Affine.scale(1.25, -1.25)
    fine = np.random.default_rng(0).normal(size=(1, 200, 200)).astype("float32")
    second = write(tmp_path / "b.tif", fine, turned @ Affine.translation(-100, -100))
    with open_pair(first, second) as pair:
        window = read_all(pair)
    inner = eroded(window.valid, 3)
    assert inner.sum() > 400
    # A triangle of 8 x 8 pixels leaves 1/6 of the noise; averaging along one axis only would leave 1/3 or more.
    np.testing.assert_allclose(window.after[0][inner].std(), 1 / 6, rtol=0.15)


def test_the_resampling_can_be_chosen(tmp_path):
    first = write(tmp_path / "a.tif", noise(1, 20, 20))
    second = write(tmp_path / "b.tif", noise(1, 20, 20, seed=1), Affine(5, 0, X0 + 2, 0, -5, Y0))
    with open_pair(first, second, reading=Reading(resampling=Resampling.nearest)) as pair:
        # The first whole pixel in common is column 1; its centre, 7.5 m from the left, lies in column 1 of the file.
        np.testing.assert_array_equal(read_all(pair).after, noise(1, 20, 20, seed=1)[:, :, 1:])


# --- reading as a whole


def test_decimated_values_and_validity_come_from_the_same_pixels(tmp_path):
    values = noise(2, 500, 700, dtype="uint16")
    values[:, np.random.default_rng(2).random((500, 700)) < 0.3] = 0
    first = write(tmp_path / "a.tif", values, nodata=0)
    second = write(tmp_path / "b.tif", noise(2, 510, 700, dtype="uint16"), Affine(5, 0, X0, 0, -5, Y0 + 50))
    with open_pair(first, second) as pair:
        window = pair.read_decimated(97)
    assert window.valid.shape == window.grid.shape == (69, 97)
    np.testing.assert_array_equal(window.valid, (window.before != 0).all(axis=0))
    assert 0.6 < window.valid.mean() < 0.8
    np.testing.assert_allclose(window.grid.bounds, pair.grid.bounds)


@pytest.mark.parametrize("crs", ["EPSG:32614", "EPSG:32613"])
def test_decimated_dates_lie_on_one_another(tmp_path, crs):
    first = warped_date(tmp_path / "a.tif", "EPSG:32614", Affine(5, 0, X0, 0, -5, Y0), (400, 500))
    transform = grid_over(crs, (X0 + 1, Y0 - 1999, X0 + 2499, Y0 - 1), (800, 1000))
    second = warped_date(tmp_path / "b.tif", crs, transform, (800, 1000))
    with open_pair(first, second) as pair:
        window = pair.read_decimated(50)
    # The shift that explains the difference best, in metres, from the slope of the image.
    x, y = centres(window.grid)
    slopes = [hills(x + 1, y) - hills(x - 1, y), hills(x, y + 1) - hills(x, y - 1)]
    design = np.stack([slope[window.valid] / 2 for slope in slopes], axis=1)
    shift_m = np.linalg.lstsq(design, (window.after - window.before)[0][window.valid])[0]
    # One pixel of the result is 50 m; both files are picked to within their own pixel of 5 and 2.5 m.
    assert np.abs(shift_m).max() < 4
    assert np.abs(window.after - window.before)[0][window.valid].max() < 1.5


def test_a_decimated_warp_reads_a_thinned_file(tmp_path, monkeypatch):
    first = write(tmp_path / "a.tif", noise(1, 400, 400))
    second = write(tmp_path / "b.tif", noise(1, 1000, 1000), Affine(2, 0, X0, 0, -2, Y0))
    factors, view = [], Source.view

    def noted(source, selected, factor=1):
        factors.append(factor)
        return view(source, selected, factor)

    with open_pair(first, second) as pair:
        monkeypatch.setattr(Source, "view", noted)
        pair.read_decimated(40)
    assert factors == [25]


@pytest.mark.parametrize("layout", [{"tiled": True, "blockxsize": 64, "blockysize": 32}, {"blockysize": 40}])
@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_thinning_block_by_block_picks_what_gdal_picks(tmp_path, monkeypatch, layout, interleave, dtype):
    monkeypatch.setattr("terradelta.raster.warp._PICKED_ROWS", 64)
    monkeypatch.setattr("terradelta.raster.warp._PICKED_PX", 64 * 400)
    values = noise(3, 311, 523, dtype=dtype)
    values[1, 100:170, 200:333] = 9
    first = write(tmp_path / "a.tif", values, nodata=9, interleave=interleave, **layout)
    offset = (0, 0) if dtype == "uint8" else (11, 7)
    second = write(
        tmp_path / "b.tif",
        noise(3, 311, 523, seed=1, dtype=dtype),
        Affine(5, 0, X0 + 5 * offset[1], 0, -5, Y0 - 5 * offset[0]),
        interleave=interleave,
        **layout,
    )
    reads, read = [], Layer._read_plain

    def noted(layer, dataset, tile, shape):
        reads.append(tile)
        return read(layer, dataset, tile, shape)

    monkeypatch.setattr(Layer, "_read_plain", noted)
    with open_pair(first, second) as pair:
        reads.clear()
        for side in (29, 97, 301):
            window = pair.read_decimated(side)
            height, width = pair.grid.shape
            at = Window(*offset[::-1], width, height)
            with rasterio.open(first) as file:
                np.testing.assert_array_equal(window.before, file.read(window=at, out_shape=(3, *window.valid.shape)))
                mask = [file.read_masks(n, window=at, out_shape=window.valid.shape) for n in (1, 2, 3)]
            np.testing.assert_array_equal(window.valid, np.all(mask, axis=0))
            with rasterio.open(second) as file:
                there = Window(0, 0, width, height)
                np.testing.assert_array_equal(window.after, file.read(window=there, out_shape=(3, *window.valid.shape)))
        assert len(reads) > 3 * 2 * 4  # in parts, that is
        assert max(tile.height * tile.width for tile in reads) <= 64 * 400


def test_overviews_serve_decimated_reads(tmp_path):
    path = write(tmp_path / "a.tif", noise(1, 512, 512), tiled=True, blockxsize=128, blockysize=128)
    with rasterio.open(path, "r+") as file:
        file.build_overviews([8], Resampling.average)
    with open_pair(path, path) as pair:
        # The average of 64 noisy pixels varies 8 times less than the pixels do.
        assert pair.read_decimated(64).before.std() < 15
        assert read_all(pair).before.std() > 60


def test_any_thread_may_read(tmp_path):
    first = write(tmp_path / "a.tif", noise(3, 200, 200), tiled=True, blockxsize=64, blockysize=64)
    second = write(tmp_path / "b.tif", noise(3, 200, 200, seed=1), Affine(5, 0, X0 + 1, 0, -5, Y0 - 1))
    with open_pair(first, second) as pair:
        expected = read_all(pair)
        results = {}

        def work(number):
            for row in range(0, 192, 24):
                window = pair.read(Tile(row, 0, 24, 190))
                results[number, row] = window

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(results) == 32
    for (_, row), window in results.items():
        np.testing.assert_array_equal(window.before, expected.before[:, row : row + 24, :190])
        np.testing.assert_array_equal(window.after, expected.after[:, row : row + 24, :190])


def test_one_window_is_read_at_a_time(tmp_path, monkeypatch):
    path = write(tmp_path / "a.tif", noise(1, 20, 20))
    plain_read, inside, seen = Layer.read, [], []

    def slow_read(layer, tile):
        inside.append(1)
        seen.append(len(inside))
        time.sleep(0.005)
        result = plain_read(layer, tile)
        inside.pop()
        return result

    with open_pair(path, path) as pair:
        monkeypatch.setattr(Layer, "read", slow_read)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(pair.read, [Tile(0, 0, 5, 5)] * 8))
    assert seen == [1] * 16


def test_the_cache_holds_a_row_of_blocks_only_where_fetching_them_again_costs_much(tmp_path):
    sizes = []
    for width in (4096, 8192, 16384):
        profile = {"height": 4096, "width": width, "count": 3, "dtype": "uint8", "crs": UTM, "sparse_ok": True}
        blocks = {"tiled": True, "blockxsize": 512, "blockysize": 512, "transform": Affine(5, 0, X0, 0, -5, Y0)}
        with rasterio.open(tmp_path / f"{width}.tif", "w", driver="GTiff", **profile, **blocks):
            pass
        source = read_source(tmp_path / f"{width}.tif")
        remote = replace(source, remotes=(RemoteFile("https://example.org/a.tif", 1, "", ""),))
        sizes.append([cache_bytes(source, source), cache_bytes(remote, remote)])
        many = replace(source, bands=(source.bands[0],) * 12)
        assert cache_bytes(many) == 4 * 4 * 512 * 512 * 12
    tile = 2 * (4 * 512) ** 2 * 3
    assert sizes == [[tile, 2 * 4 * 512 * 4096 * 3], [tile, 2 * 4 * 512 * 8192 * 3], [tile, tile]]


def test_the_cache_grows_with_strips_only(tmp_path):
    tiled = write(tmp_path / "t.tif", noise(3, 64, 64), tiled=True, blockxsize=16, blockysize=16)
    assert cache_bytes(read_source(tiled)) == 16 * 2**20
    wide = {"height": 700, "width": 90000, "count": 3, "dtype": "uint8", "crs": UTM, "sparse_ok": True}
    for name, rows in (("strips", 8), ("one_strip", 700)):
        with rasterio.open(
            tmp_path / f"{name}.tif",
            "w",
            driver="GTiff",
            blockysize=rows,
            transform=Affine(5, 0, X0, 0, -5, Y0),
            **wide,
        ):
            pass
    strips = cache_bytes(read_source(tmp_path / "strips.tif"))
    assert 1504 * 90000 * 3 <= strips <= 1520 * 90000 * 3
    both = [read_source(tmp_path / f"{name}.tif") for name in ("strips", "one_strip")]
    assert cache_bytes(*both, *both) == 512 * 2**20


# --- real images


def test_naip_dates_differ_by_a_fifth_of_a_pixel(shared_data: Path):
    folder = shared_data / "geo_pairs" / "naip_nd"
    first, second = folder / "naip_2009-08-18.tif", folder / "naip_2020-08-31.tif"
    with open_pair(first, second) as pair:
        window = read_all(pair)
        before, after = pair.preflight.placements
    assert pair.grid.shape == (722, 933)
    assert (before.warped, before.shift_px) == (False, (1.0, 0.0))
    assert after.warped
    np.testing.assert_allclose(after.shift_px, (0.8, 0.2), atol=1e-6)
    with rasterio.open(second) as file:
        values = file.read().astype(float)
    # Bilinear by hand: the common grid's pixel (0, 0) has its centre at row 1.3, column 0.7 of the file.
    rows = 0.2 * values[:, :-1] + 0.8 * values[:, 1:]
    by_hand = 0.8 * rows[:, :, :-1] + 0.2 * rows[:, :, 1:]
    error = np.abs(by_hand[:, :722, :933] - window.after)
    assert np.median(error) < 0.5
    assert error[:, window.valid].max() <= 6


@pytest.mark.parametrize("name", ["EPSG:26913", "EPSG:4326"])
def test_naip_against_itself_in_another_crs(shared_data: Path, tmp_path, name):
    path = shared_data / "geo_pairs" / "naip_nd" / "naip_2009-08-18.tif"
    with rasterio.open(path) as file:
        values, placed = file.read(2), {"src_crs": file.crs, "src_transform": file.transform}
        target = grid_over(name, file.bounds, (760, 990))
    out = np.zeros((1, 760, 990), "uint8")
    reproject(values, out[0], **placed, dst_transform=target, dst_crs=name, resampling=Resampling.bilinear, tolerance=0)
    crs = CRS.from_user_input(name)
    second = write(tmp_path / "b.tif", np.repeat(out, 2, axis=0), target, crs, nodata=0)
    with open_pair(path, second, bands=[2]) as pair:
        window = read_all(pair)
        assert pair.preflight.placements[1].shift_px is None
    assert window.valid.sum() > 0.97 * values.size

    def difference(drow, dcol):
        """Mean difference of the dates with the second moved by whole pixels."""
        moved = np.roll(window.after, (drow, dcol), axis=(1, 2)).astype(int)
        return np.abs(moved - window.before)[:, window.valid].mean()

    moves = {(r, c): difference(r, c) for r in (-1, 0, 1) for c in (-1, 0, 1)}
    assert min(moves, key=moves.get) == (0, 0)
    assert moves[0, 0] < 0.6 * min(value for move, value in moves.items() if move != (0, 0))
    # Moving one way is as wrong as moving the other way: no rest of half a pixel.
    np.testing.assert_allclose(moves[1, 0], moves[-1, 0], rtol=0.1)
    np.testing.assert_allclose(moves[0, 1], moves[0, -1], rtol=0.1)


def test_taizhou_bands_come_by_name(shared_data: Path):
    folder = shared_data / "geo_pairs" / "landsat_taizhou"
    with open_pair(folder / "taizhou_2000.tif", folder / "taizhou_2003.tif", wanted=("red", "green", "blue")) as pair:
        window = read_all(pair)
    with rasterio.open(folder / "taizhou_2003.tif") as file:
        np.testing.assert_array_equal(window.after, file.read([3, 2, 1]))


def test_more_bands_than_any_sensor_has_are_refused(tmp_path):
    path = write(tmp_path / "a.tif", np.ones((1025, 2, 2), "uint8"))
    with pytest.raises(RasterError, match="has 1,025 bands; at most 1,024 are compared: extract some with gdal_trans"):
        read_source(path)
    assert len(read_source(write(tmp_path / "b.tif", np.ones((1024, 2, 2), "uint8"))).bands) == 1024


def test_blocks_that_no_cache_holds_are_refused(tmp_path):
    side = 16384
    shape = {"width": 2 * side, "height": 2 * side, "count": 1, "blockxsize": side, "blockysize": side, "tiled": True}
    shape |= {"crs": "EPSG:32614", "transform": Affine(5, 0, X0, 0, -5, Y0)}
    for name, dtype in (("a.tif", "float32"), ("b.tif", "uint8")):
        with rasterio.open(tmp_path / name, "w", "GTiff", dtype=dtype, SPARSE_OK=True, **shape):
            pass
    with pytest.raises(
        RasterError, match=r"blocks of 16384 x 16384 pixels, each of which takes 1,074 MB to read.* TILED=YES"
    ):
        read_source(tmp_path / "a.tif")
    assert read_source(tmp_path / "b.tif").block == (side, side)
