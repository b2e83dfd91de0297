import os
import resource
import subprocess
import sys
import warnings

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import tifffile
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning

from terradelta.errors import InputError, OutputError, ShapeError
from terradelta.geo.grid import Grid
from terradelta.products.cog import (
    CHANGE_COLOURS,
    PROBABILITY_STEP,
    CogWriter,
    change_writer,
    probability_writer,
    quantise,
    validate_cog,
)
from terradelta.products.tiff import read_tags

UTM = CRS.from_epsg(32633)


def grid(height, width, crs=UTM):
    return Grid(crs, Affine(2, 0, 500_000, 0, -2, 5_000_000), (height, width))


def probabilities(shape, seed=0, missing=True):
    values = np.random.default_rng(seed).random(shape, np.float32)
    if missing:
        values[: shape[0] // 3, : shape[1] // 2] = np.nan
    return values


def write(writer, values, strip=100):
    with writer:
        for first in range(0, len(values), strip):
            writer.write(first, values[first : first + strip])


def read(path, level=None):
    with rasterio.open(path, **({} if level is None else {"overview_level": level})) as file:
        return file.read(1)


def test_a_probability_product_holds_what_was_written(tmp_path):
    path, place, values = tmp_path / "p.tif", grid(1300, 1501), probabilities((1300, 1501))
    write(probability_writer(path, place, {"model": "a <b>"}), values)
    validate_cog(path)
    np.testing.assert_allclose(read(path), values, atol=PROBABILITY_STEP / 2 + 1e-7)
    with rasterio.open(path) as file:
        assert (file.crs, file.transform, file.shape) == (UTM, place.transform, place.shape)
        assert (file.dtypes, file.descriptions) == (("float32",), ("probability of change",))
        assert np.isnan(file.nodata)
        assert file.tags()["model"] == "a <b>"
        assert file.block_shapes == [(512, 512)]
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.compression.name == "deflate"
    assert os.listdir(tmp_path) == ["p.tif"]


def test_a_change_product_holds_classes_nodata_and_colours(tmp_path):
    path = tmp_path / "c.tif"
    values = np.random.default_rng(0).choice(np.array([0, 1, 255], np.uint8), (700, 900))
    write(change_writer(path, grid(700, 900)), values)
    np.testing.assert_array_equal(read(path), values)
    np.testing.assert_array_equal(read(path, 0), values[::2, ::2])
    with rasterio.open(path) as file:
        assert (file.dtypes, file.nodata, file.descriptions) == (("uint8",), 255, ("change",))
        palette = file.colormap(1)
    assert {value: palette[value][:3] for value in CHANGE_COLOURS} == CHANGE_COLOURS
    assert palette[255][3] == 0


def test_a_boolean_strip_is_written_as_classes(tmp_path):
    write(change_writer(tmp_path / "c.tif", grid(20, 30)), np.eye(20, 30, dtype=bool))
    np.testing.assert_array_equal(read(tmp_path / "c.tif"), np.eye(20, 30))


@pytest.mark.parametrize("shape", [(1300, 1502), (1030, 701), (1031, 700), (521, 3)])
def test_overviews_are_those_that_gdal_averages(tmp_path, shape):
    path, plain = tmp_path / "p.tif", tmp_path / "plain.tif"
    values = quantise(probabilities(shape))
    write(probability_writer(path, grid(*shape)), values)
    # GDAL stretches overviews of odd sizes; a row or column without data makes them even.
    even = np.pad(values, ((0, shape[0] % 2), (0, shape[1] % 2)), constant_values=np.nan)
    profile = {"driver": "GTiff", "count": 1, "dtype": "float32", "nodata": np.nan, "transform": Affine.scale(2)}
    with rasterio.open(plain, "w", height=even.shape[0], width=even.shape[1], **profile) as file:
        file.write(even, 1)
    with rasterio.open(plain, "r+") as file:
        file.build_overviews([2], Resampling.average)
    np.testing.assert_allclose(read(path, 0), read(plain, 0), atol=PROBABILITY_STEP / 2 + 1e-6)


def test_overviews_go_down_to_one_block(tmp_path):
    write(change_writer(tmp_path / "c.tif", grid(2100, 30)), np.zeros((2100, 30), np.uint8))
    assert [read(tmp_path / "c.tif", level).shape for level in range(3)] == [(1050, 15), (525, 8), (263, 4)]


def test_nodata_reaches_the_smallest_overview(tmp_path):
    values = np.full((2100, 2100), 0.5, np.float32)
    values[:1050, :1050] = np.nan
    write(probability_writer(tmp_path / "p.tif", grid(2100, 2100)), values)
    smallest = read(tmp_path / "p.tif", 2)
    assert smallest.shape == (263, 263)
    assert np.isnan(smallest[:131, :131]).all()
    assert (smallest[132:, 132:] == 0.5).all()


@settings(max_examples=12, deadline=None)
@given(
    st.integers(1, 1100),
    st.integers(1, 700),
    st.integers(1, 600),
    st.sampled_from([UTM, CRS.from_epsg(4326), None]),
)
def test_any_size_and_any_strips_give_a_valid_file(tmp_path_factory, height, width, strip, crs):
    path = tmp_path_factory.mktemp("cog") / "p.tif"
    place = grid(height, width, crs) if crs else Grid(None, Affine.identity(), (height, width))
    values = quantise(probabilities((height, width)))
    write(probability_writer(path, place), values, strip)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        np.testing.assert_array_equal(read(path), values)
        with rasterio.open(path) as file:
            assert (file.crs, file.transform) == (place.crs, place.transform)


@given(st.floats(0, 1, width=32))
def test_quantised_values_are_exact_multiples_next_to_the_value(value):
    result = quantise(np.array([value, np.nan], np.float32))
    assert abs(result[0] - value) <= PROBABILITY_STEP / 2
    assert (float(result[0]) / PROBABILITY_STEP).is_integer()
    assert np.isnan(result[1])
    assert result.dtype == np.float32


def test_nothing_is_there_before_the_end_and_an_old_file_stays(tmp_path):
    path = tmp_path / "p.tif"
    path.write_text("old")
    with probability_writer(path, grid(600, 600)) as writer:
        writer.write(0, probabilities((600, 600)))
        assert path.read_text() == "old"
    validate_cog(path)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interruption_leaves_nothing(tmp_path, error):
    def interrupted():
        with probability_writer(tmp_path / "p.tif", grid(600, 600)) as writer:
            writer.write(0, probabilities((300, 600)))
            raise error

    with pytest.raises(error):
        interrupted()
    assert os.listdir(tmp_path) == []


def test_missing_rows_are_reported_and_leave_nothing(tmp_path):
    writer = probability_writer(tmp_path / "p.tif", grid(600, 600))
    writer.write(0, probabilities((300, 600)))
    with pytest.raises(OutputError, match=r"p\.tif was not written: only 300 of 600 rows were given; write all"):
        writer.close()
    assert os.listdir(tmp_path) == []


# Parts of the finished file's size at which a write fails: at once, while streaming, while copying, at the very end.
@pytest.mark.parametrize("share", [0, 0.3, 0.7, 0.95, 0.9999])
def test_a_full_disk_is_reported_and_leaves_nothing(tmp_path, share):
    place, values = grid(700, 700), probabilities((700, 700), missing=False)
    write(probability_writer(tmp_path / "whole.tif", place), values)
    size = (tmp_path / "whole.tif").stat().st_size
    folder = tmp_path / "full"
    folder.mkdir()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(size * share), hard))
    try:
        with pytest.raises(OutputError) as caught:
            write(probability_writer(folder / "p.tif", place), values)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(caught.value).startswith(f"{folder / 'p.tif'} was not written (")
    assert f"In {folder} " in str(caught.value)
    assert "MB are free; at most 5 MB are needed. Make room, or write elsewhere" in str(caught.value)
    assert os.listdir(folder) == []


def test_a_folder_that_does_not_exist_is_reported(tmp_path):
    path = tmp_path / "none" / "p.tif"
    with pytest.raises(OutputError, match=r"p\.tif was not written \(.*No such file.*the folder cannot be used"):
        probability_writer(path, grid(10, 10))


def test_strips_that_do_not_fit_are_refused(tmp_path):
    with probability_writer(tmp_path / "p.tif", grid(10, 20)) as writer:
        with pytest.raises(ShapeError, match="the strip begins at row 3, but row 0 is next; write top-down"):
            writer.write(3, np.zeros((2, 20), np.float32))
        with pytest.raises(ShapeError, match=r"has shape \(2, 19\); expected at most 10 rows of 20 pixels"):
            writer.write(0, np.zeros((2, 19), np.float32))
        with pytest.raises(ShapeError, match=r"has shape \(11, 20\); expected at most 10 rows of 20 pixels"):
            writer.write(0, np.zeros((11, 20), np.float32))
        with pytest.raises(ShapeError, match="the strip is float64, the product float32; convert the strip first"):
            writer.write(0, np.zeros((10, 20)))
        writer.write(0, np.zeros((10, 20), np.float32))


@pytest.mark.parametrize(
    ("dtype", "nodata", "colours", "message"),
    [
        ("int16", 0, None, "cannot write int16; products are float32 .probabilities. or uint8 .classes."),
        ("float32", -1, None, "nodata of a float32 product must be NaN, not -1"),
        ("float32", float("nan"), CHANGE_COLOURS, "colours are for uint8 products; a float32 product has none"),
        ("uint8", 256, None, "nodata of a uint8 product must be a whole number from 0 to 255, not 256"),
        ("uint8", float("nan"), None, "from 0 to 255, not nan"),
    ],
)
def test_products_that_cannot_be_written_are_refused(tmp_path, dtype, nodata, colours, message):
    with pytest.raises(InputError, match=message):
        CogWriter(tmp_path / "p.tif", grid(10, 10), dtype, nodata, colours=colours)
    assert os.listdir(tmp_path) == []


def plain_tiff(path, **options):
    profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "transform": Affine.scale(2), **options}
    with rasterio.open(path, "w", height=1100, width=1100, **profile) as file:
        file.write(np.random.default_rng(0).integers(0, 99, (1100, 1100), np.uint8), 1)
    return path


def test_files_that_are_no_cogs_are_found_out(tmp_path):
    tiles = {"tiled": True, "blockxsize": 512, "blockysize": 512}
    striped = plain_tiff(tmp_path / "striped.tif")
    bare = plain_tiff(tmp_path / "bare.tif", **tiles)
    added = plain_tiff(tmp_path / "added.tif", **tiles)
    with rasterio.open(added, "r+") as file:
        file.build_overviews([2, 4], Resampling.nearest)
    text = tmp_path / "text.tif"
    text.write_text("no raster")
    sparse = plain_tiff(tmp_path / "sparse.tif", driver="COG", BLOCKSIZE=512)
    with rasterio.open(sparse) as file:
        rasterio.shutil.copy(file, tmp_path / "png.png", driver="PNG")
    problems = {
        striped: "it is not tiled",
        bare: "it has no overviews, which 1100 x 1100 pixels need",
        added: "its header does not say LAYOUT=COG",
        text: "it cannot be read",
        tmp_path / "none.tif": "it cannot be read",
        tmp_path / "png.png": "it is a PNG file",
    }
    for path, problem in problems.items():
        with pytest.raises(OutputError, match=f"{path.name} is no valid Cloud Optimised GeoTIFF: {problem}.*again"):
            validate_cog(path)
    validate_cog(sparse)


def test_a_cog_changed_later_is_found_out(tmp_path):
    path = plain_tiff(tmp_path / "cog.tif", driver="COG", BLOCKSIZE=512)
    with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:
        file.build_overviews([2, 4], Resampling.average)
        file.update_tags(later="x" * 500)
    with pytest.raises(OutputError, match="is no valid Cloud Optimised GeoTIFF"):
        validate_cog(path)


def test_missing_blocks_are_found_out(tmp_path):
    plain = tmp_path / "plain.tif"
    options = {"tiled": True, "blockxsize": 512, "blockysize": 512, "SPARSE_OK": True, "nodata": 0}
    with rasterio.open(
        plain,
        "w",
        driver="GTiff",
        count=1,
        dtype="uint8",
        height=1100,
        width=1100,
        transform=Affine.scale(2),
        **options,
    ) as file:
        file.write(np.ones((512, 512), np.uint8), 1, window=((0, 512), (0, 512)))
    rasterio.shutil.copy(plain, tmp_path / "cog.tif", driver="COG", SPARSE_OK="YES")
    with pytest.raises(OutputError, match="blocks are missing"):
        validate_cog(tmp_path / "cog.tif")


@pytest.mark.parametrize("share", [0.2, 0.9])
def test_a_truncated_cog_is_found_out(tmp_path, share):
    path = plain_tiff(tmp_path / "cog.tif", driver="COG", BLOCKSIZE=512)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(OutputError, match="it cannot be read"):
        validate_cog(path)


PEAK = """
import resource, sys
import numpy as np
from affine import Affine
from pathlib import Path
from terradelta.products import cog
from terradelta.geo.grid import Grid
height, width = int(sys.argv[1]), int(sys.argv[2])
strip = np.random.default_rng(0).random((4, width), np.float32)
with cog.probability_writer(Path(sys.argv[3]) / "p.tif", Grid(None, Affine.scale(2), (height, width))) as writer:
    for first in range(0, height, 4):
        writer.write(first, strip)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.parametrize("shape", [(20480, 1024), (512, 40960)])
def test_memory_does_not_grow_with_the_scene(tmp_path, shape):
    def peak_kib(height, width):
        command = [sys.executable, "-c", PEAK, str(height), str(width), str(tmp_path)]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    # The larger scenes hold 80 MiB.
    assert peak_kib(*shape) - peak_kib(512, 1024) < 12 * 1024


@pytest.fixture
def product(tmp_path):
    values = quantise(probabilities((1300, 1501)))
    write(probability_writer(tmp_path / "p.tif", grid(1300, 1501), {"model": "x"}), values, 77)
    return tmp_path / "p.tif", values


def test_another_reader_finds_the_same(product):
    path, values = product
    with tifffile.TiffFile(path) as file:
        pages = [file.pages[0], *file.pages[1:]]
        assert [page.shape for page in pages] == [(1300, 1501), (650, 751), (325, 376)]
        assert [page.subfiletype for page in pages] == [0, 1, 1]
        np.testing.assert_array_equal(pages[0].asarray(), values)
        assert pages[0].tags["GDAL_NODATA"].value == "nan"
        assert "ModelPixelScaleTag" not in pages[1].tags
        # Every block lies between its size and its last four bytes.
        content = path.read_bytes()
        for page in pages:
            for at, size in zip(page.dataoffsets, page.databytecounts, strict=True):
                assert content[at - 4 : at] == size.to_bytes(4, "little")
                assert content[at + size : at + size + 4] == content[at + size - 4 : at + size]


def test_the_header_is_the_one_of_gdals_driver(tmp_path, product):
    path, _ = product
    with rasterio.open(path) as file:
        rasterio.shutil.copy(file, tmp_path / "gdal.tif", driver="COG", COMPRESS="DEFLATE", BLOCKSIZE=512)
    ghost = slice(8, 8 + 43 + 140)
    assert path.read_bytes()[ghost] == (tmp_path / "gdal.tif").read_bytes()[ghost]
    assert b"KNOWN_INCOMPATIBLE_EDITION=NO" in path.read_bytes()[ghost]


def test_a_large_file_is_a_bigtiff(tmp_path, monkeypatch):
    monkeypatch.setattr("terradelta.products.tiff._CLASSIC_LIMIT", 100_000)
    values = quantise(probabilities((1300, 1501)))
    path = tmp_path / "p.tif"
    write(probability_writer(path, grid(1300, 1501), {"model": "x"}), values)
    assert path.read_bytes()[:4] == b"II+\0"
    validate_cog(path)
    np.testing.assert_array_equal(read(path), values)
    np.testing.assert_array_equal(tifffile.imread(path), values)
    with rasterio.open(path) as file:
        assert (file.crs, file.transform, file.tags()["model"]) == (UTM, grid(1300, 1501).transform, "x")
        assert file.overviews(1) == [2, 4]


def test_tags_of_another_kind_of_file_are_refused():
    for content in (b"", b"MM\0*" + bytes(20), b"II+\0" + bytes(20)):
        with pytest.raises(OutputError, match="no little-endian classic TIFF files; unset GDAL's options"):
            read_tags(content)
