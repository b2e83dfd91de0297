"""The same numbers through every door: files of `map`, paths, xarray, numpy and dask."""

import pickle
from pathlib import Path

import dask
import dask.array
import numpy as np
import pytest
import rasterio
import rioxarray
import xarray
from affine import Affine
from rasterio.warp import transform_bounds
from tests.mapping.conftest import BoxPredictor, PixelPredictor, Writer

from terradelta.arrays.detect import detect_change
from terradelta.errors import BandError, DoubtWarning, GridError, InputError, ModelError, NoDataError, RasterError
from terradelta.mapping.run import MapOptions, map_change
from terradelta.predict.classical import load_method
from terradelta.predict.load import load_predictor

SMALL = {"tile": 160, "overlap": 64, "sieve_px": 0}
DOORS = ("paths", "xarray", "dask")
pytestmark = pytest.mark.filterwarnings("ignore::terradelta.errors.DoubtWarning")


def opened(path: Path, door: str):
    """An image as a door takes it; the chunks of dask are cut askew to the tiles."""
    if door == "paths":
        return path
    return rioxarray.open_rasterio(path, chunks={"y": 130, "x": 70} if door == "dask" else None)


def product(folder: Path) -> tuple[np.ndarray, np.ndarray, rasterio.Affine]:
    with rasterio.open(folder / "probability.tif") as one, rasterio.open(folder / "change.tif") as other:
        return one.read(1), other.read(1), one.transform


def agree(dataset: xarray.Dataset, folder: Path) -> None:
    probability, change, place = product(folder)
    assert dataset.change.dtype == np.uint8
    assert dataset.probability.dtype == np.float32
    np.testing.assert_array_equal(dataset.change.values, change)
    np.testing.assert_array_equal(dataset.probability.values, probability)
    assert dataset.rio.transform().almost_equals(place, 1e-6)


@pytest.fixture
def second(write_tiff: Writer, pair_values):
    """The second date as a file on some grid: the same, a shifted one, a coarser one, or one in degrees."""

    def write(kind: str) -> Path:
        values = pair_values[1]
        if kind == "degrees":
            west, south, east, north = transform_bounds("EPSG:32614", "EPSG:4326", 600000, 3399850, 600210, 3400000)
            step = Affine((east - west) / 420, 0, west, 0, -(north - south) / 300, north)
            return write_tiff("b.tif", values, crs="EPSG:4326", transform=step)
        place = {
            "same": Affine(0.5, 0, 600000, 0, -0.5, 3400000),
            "shifted": Affine(0.5, 0, 600003.5, 0, -0.5, 3399996),
            "coarser": Affine(0.6, 0, 599990, 0, -0.6, 3400010),
        }[kind]
        return write_tiff("b.tif", values, transform=place)

    return write


@pytest.mark.parametrize("kind", ["same", "shifted", "coarser", "degrees"])
def test_every_door_gives_the_numbers_of_map(tmp_path, write_tiff, pair_values, second, kind):
    before, after = write_tiff("a.tif", pair_values[0]), second(kind)
    map_change(before, after, tmp_path / "out", BoxPredictor(), MapOptions(**SMALL))
    assert (product(tmp_path / "out")[1] == 1).any()
    for door in DOORS:
        agree(detect_change(opened(before, door), opened(after, door), BoxPredictor(), **SMALL), tmp_path / "out")


@pytest.mark.parametrize("method", ["cva", "irmad", "pca-kmeans"])
def test_a_method_is_fitted_to_the_same_numbers(tmp_path, write_tiff, pair_values, second, method):
    before = write_tiff("a.tif", pair_values[0][:, 60:200, 150:320], transform=Affine(0.5, 0, 600075, 0, -0.5, 3399970))
    after = second("coarser")
    map_change(before, after, tmp_path / "out", load_method(method))
    for door in DOORS:
        agree(detect_change(opened(before, door), opened(after, door), method=method), tmp_path / "out")


def test_a_stretch_and_nodata_are_those_of_map(tmp_path, write_tiff, pair_values):
    before, after = (values.astype(np.uint16) * 40 + 500 for values in pair_values)
    before[:, 20:40, 30:90] = 0
    before[0, 250:, 200:] = 0  # in one band of three: a value
    files = [write_tiff(f"{name}.tif", values, nodata=0) for name, values in (("a", before), ("b", after))]
    map_change(*files, tmp_path / "out", BoxPredictor(), MapOptions(**SMALL))
    assert (product(tmp_path / "out")[1] == 255).sum() == 20 * 60
    for door in DOORS:
        agree(detect_change(*(opened(file, door) for file in files), BoxPredictor(), **SMALL), tmp_path / "out")


def test_a_correction_of_the_shift_is_that_of_map(tmp_path, write_tiff):
    rng = np.random.default_rng(3)
    texture = np.kron(rng.integers(0, 200, (3, 40, 40)), np.ones((1, 8, 8))).astype(np.uint8)
    files = [write_tiff("a.tif", texture[:, 8:308, 8:308]), write_tiff("b.tif", texture[:, 6:306, 5:305])]
    options = {**SMALL, "coregister": True}
    made = map_change(*files, tmp_path / "out", PixelPredictor(), MapOptions(**options))
    assert made.receipt.registration.corrected
    for door in DOORS:
        agree(detect_change(*(opened(file, door) for file in files), PixelPredictor(), **options), tmp_path / "out")


def test_an_area_a_threshold_and_a_sieve_are_those_of_map(tmp_path, write_tiff, pair_values):
    files = [write_tiff(f"{name}.tif", values) for name, values in zip("ab", pair_values, strict=True)]
    area = transform_bounds("EPSG:32614", "EPSG:4326", 600002, 3399880, 600150, 3399998)
    options = {**SMALL, "aoi": area, "threshold": 0.9, "sieve_px": 20}
    map_change(*files, tmp_path / "out", PixelPredictor(), MapOptions(**options))
    assert 0 < (product(tmp_path / "out")[1] == 1).sum() < 60 * 80 + 16
    for door in ("paths", "xarray"):
        agree(detect_change(*(opened(file, door) for file in files), PixelPredictor(), **options), tmp_path / "out")
    with pytest.raises(InputError, match="sieve_px needs the whole image, but arrays of dask come in tiles"):
        detect_change(*(opened(file, "dask") for file in files), PixelPredictor(), **options)


def test_arrays_without_a_crs_count_in_pixels(tmp_path, write_tiff, pair_values):
    found = detect_change(*pair_values, PixelPredictor(), **SMALL)
    assert found.rio.crs is None
    assert found.y.values[[0, -1]].tolist() == [0.5, 299.5]
    assert int((found.change == 1).sum()) == 60 * 80 + 16
    lazy = detect_change(*(dask.array.from_array(values, (3, 99, 99)) for values in pair_values), PixelPredictor())
    np.testing.assert_array_equal(lazy.change.values, found.change.values)
    gray = detect_change(pair_values[0][0], pair_values[1][0], method="cva")
    assert gray.change.shape == (300, 420)


def test_a_result_aligns_with_the_first_date(write_tiff, pair_values, second):
    before = rioxarray.open_rasterio(write_tiff("a.tif", pair_values[0]))
    part = before.isel(y=slice(10, 200), x=slice(20, 300))  # rioxarray keeps the transform of the whole
    found = detect_change(part, second("same"), PixelPredictor(), **SMALL)
    assert found.sizes == {"y": 190, "x": 280}
    xarray.align(found, part, join="exact")
    assert found.rio.crs == before.rio.crs
    assert found.rio.transform() == Affine(0.5, 0, 600010, 0, -0.5, 3399995)
    whole = detect_change(before, second("same"), PixelPredictor(), **SMALL)
    np.testing.assert_array_equal(found.change, whole.change.isel(y=slice(10, 200), x=slice(20, 300)))


def test_a_result_says_what_made_it_and_can_be_written(tmp_path, write_tiff, pair_values, second):
    found = detect_change(write_tiff("a.tif", pair_values[0]), second("same"), PixelPredictor(), threshold=0.6)
    assert found.attrs["model"] == "box"
    assert found.attrs["threshold"] == 0.6
    assert found.attrs["bands"] == ["red", "green", "blue"]
    found.change.rio.to_raster(tmp_path / "c.tif")
    with rasterio.open(tmp_path / "c.tif") as file:
        assert (file.nodata, file.crs.to_epsg()) == (255, 32614)
        np.testing.assert_array_equal(file.read(1), found.change.values)
    assert np.isnan(found.probability.rio.nodata)


def test_dask_computes_a_tile_from_the_part_that_it_needs(pair_values):
    seen = []

    def look(block: np.ndarray, block_info=None) -> np.ndarray:
        seen.append(tuple(start for start, _ in block_info[0]["array-location"][1:]))
        return block

    arrays = [dask.array.from_array(v, (3, 48, 48)).map_blocks(look, dtype=v.dtype, meta=v[:0]) for v in pair_values]
    with dask.config.set(scheduler="synchronous"):
        found = detect_change(*arrays, BoxPredictor(), tile=96, overlap=32)
        assert seen == []  # 8-bit images need no stretch
        assert found.change.chunks[0] == (64, 64, 64, 16, 92)
        corner = found.change[:40, :40].compute()
    assert set(seen) == {(row, col) for row in (0, 48) for col in (0, 48)}
    assert corner.shape == (40, 40)


def test_dask_computes_what_a_method_learns_from_at_once(pair_values):
    seen = []

    def look(block: np.ndarray) -> np.ndarray:
        seen.append(block.shape)
        return block

    arrays = [dask.array.from_array(v, (3, 300, 420)).map_blocks(look, dtype=v.dtype, meta=v[:0]) for v in pair_values]
    with dask.config.set(scheduler="synchronous"):
        found = detect_change(*arrays, method="cva")
    assert seen
    assert found.change.chunks is not None


def test_tiles_travel_to_other_processes(pair_values):
    arrays = [dask.array.from_array(values, (3, 150, 210)) for values in pair_values]
    found = detect_change(*arrays, load_predictor("default", threads=1), tile=160, overlap=64)
    expected = detect_change(*pair_values, load_predictor("default", threads=1), tile=160, overlap=64)
    graph = pickle.loads(pickle.dumps(found.change.data))
    np.testing.assert_array_equal(graph.compute(scheduler="synchronous"), expected.change.values)


@pytest.mark.parametrize("side", [320, pytest.param(None, marks=pytest.mark.slow)])
def test_real_images_give_the_same_through_every_door(tmp_path, shared_data, side):
    """The NAIP pair, a part of it and the whole; the second date is moved by some pixels, so that it is warped."""
    folder = shared_data / "geo_pairs" / "naip_nd"
    if not folder.is_dir():
        pytest.skip("the NAIP pair is not here")
    files = []
    for name in ("naip_2009-08-18.tif", "naip_2020-08-31.tif"):
        image = rioxarray.open_rasterio(folder / name).isel(
            y=slice(200, side and 200 + side), x=slice(200, side and 200 + side)
        )
        moved = image.assign_coords(x=image.x + 1.7 * len(files)).drop_vars("spatial_ref").rio.write_crs(image.rio.crs)
        files.append(tmp_path / name)
        moved.rio.to_raster(files[-1])
    options = {"anyway": True, "tile": 224, "overlap": 64}
    map_change(*files, tmp_path / "out", load_predictor("default"), MapOptions(**options))
    for door in DOORS:
        agree(detect_change(*(opened(file, door) for file in files), **options), tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda a, b: ((a, b[:, :100]), {}), GridError, "must have the same size"),
        (lambda a, b: ((np.moveaxis(a, 0, -1), b), {}), InputError, r"bands last; give \(band, y, x\)"),
        (lambda a, b: ((a[None], b), {}), InputError, "the first date has 4 dimensions"),
        (lambda a, b: ((a, [1, 2]), {}), InputError, "the second date is a list; give a path, an xarray.DataArray"),
        (lambda a, b: ((a.astype(complex), b), {}), RasterError, "holds complex128 values; only integers and real"),
        (lambda a, b: ((a, b), {"bands": (1, 2, 7)}), BandError, "7"),
        (lambda a, b: ((a, b), {"model": "cva", "method": "irmad"}), InputError, "exclude each other"),
        (lambda a, b: ((a, b), {"model": BoxPredictor(), "method": "irmad"}), InputError, "exclude each other"),
        (lambda a, b: ((a, b), {"min_area_m2": 3}), InputError, "has no option min_area_m2; it has bands, aoi"),
        (lambda a, b: ((a, b), {"model": "gone"}), ModelError, "there is no model 'gone'"),
        (lambda a, b: ((a * np.nan, b), {}), RasterError, "no pixel is valid on both dates"),
    ],
)
def test_what_cannot_be_used_is_refused(pair_values, change, error, message):
    dates, options = change(*pair_values)
    with pytest.raises(error, match=message):
        detect_change(*dates, **options)


def test_dimensions_that_are_not_known_are_refused(pair_values):
    date = xarray.DataArray(pair_values[0], dims=("band", "row", "col"))
    with pytest.raises(InputError, match=r"the first date has the dimensions \('band', 'row', 'col'\)"):
        detect_change(date, pair_values[1])
    many = xarray.DataArray(pair_values[0][None], dims=("time", "band", "y", "x"))
    with pytest.raises(InputError, match=r"give one date with \(band, y, x\)"):
        detect_change(many, pair_values[1])


def test_an_array_of_dask_and_a_file_are_refused(write_tiff, pair_values, second):
    lazy = opened(write_tiff("a.tif", pair_values[0]), "dask")
    with pytest.raises(InputError, match="one date is an array of dask and the other a file"):
        detect_change(lazy, second("same"), PixelPredictor())


def test_a_large_image_without_a_valid_pixel_is_refused(pair_values, monkeypatch):
    monkeypatch.setattr("terradelta.raster.pair._SCAN_LIMIT_PX", 0)
    with pytest.raises(NoDataError, match="no pixel is valid on both dates"):
        detect_change(pair_values[0] * 0, pair_values[1], PixelPredictor(), nodata="0,none")


@pytest.mark.filterwarnings("default::terradelta.errors.DoubtWarning")
def test_doubts_are_warnings(pair_values):
    with pytest.warns(DoubtWarning, match="bands"):
        detect_change(*pair_values, PixelPredictor())


def test_bands_are_found_by_name(pair_values):
    names = ["nir", "blue", "green", "red"]
    dates = [
        xarray.DataArray(np.concatenate([v[:1] * 0, v[::-1]]), dims=("band", "y", "x"), coords={"band": names})
        for v in pair_values
    ]
    found = detect_change(*dates, PixelPredictor(), **SMALL)
    expected = detect_change(*pair_values, PixelPredictor(), **SMALL)
    np.testing.assert_array_equal(found.probability.values, expected.probability.values)
    described = [date.drop_vars("band").assign_attrs(long_name=tuple(names)) for date in dates]
    again = detect_change(*described, PixelPredictor(), **SMALL)
    np.testing.assert_array_equal(again.probability.values, expected.probability.values)
