import os
import resource
import subprocess
import sys
import warnings

import numpy as np
import pytest
import rasterio
import tifffile
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning
from rio_cogeo import cog_validate

from terradelta.errors import InputError, OutputError, ShapeError
from terradelta.geo.grid import Grid
from terradelta.products.cog import (
    CHANGE_COLOURS,
    PROBABILITY_STEP,
    CogWriter,
    change_writer,
    probability_writer,
    quantise,
)

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
    assert cog_validate(path, strict=True) == (True, [], [])
    np.testing.assert_allclose(read(path), values, atol=PROBABILITY_STEP / 2 + 1e-7)
    with rasterio.open(path) as file:
        assert (file.crs, file.transform, file.shape) == (UTM, place.transform, place.shape)
        assert (file.dtypes, file.descriptions) == (("float32",), ("probability of change",))
        assert np.isnan(file.nodata)
        assert file.tags()["model"] == "a <b>"
        assert file.block_shapes == [(512, 512)]
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.compression.name == "deflate"
        assert file.overviews(1) == [2, 4]
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


def test_overviews_go_down_to_one_block(tmp_path):
    write(change_writer(tmp_path / "c.tif", grid(2100, 30)), np.zeros((2100, 30), np.uint8))
    assert [read(tmp_path / "c.tif", level).shape for level in range(3)] == [(1050, 15), (525, 7), (262, 3)]


def test_nodata_reaches_the_smallest_overview(tmp_path):
    values = np.full((2100, 2100), 0.5, np.float32)
    values[:1050, :1050] = np.nan
    write(probability_writer(tmp_path / "p.tif", grid(2100, 2100)), values)
    smallest = read(tmp_path / "p.tif", 2)
    assert smallest.shape == (262, 262)
    assert np.isnan(smallest[:130, :130]).all()
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
    assert cog_validate(path, strict=True) == (True, [], [])


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


@pytest.fixture
def limited():
    """Limits the size of files, in place of a full disk, from its call to the end of the test."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (int(size), hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def assert_reported(caught, folder):
    assert str(caught.value).startswith(f"{folder / 'p.tif'} was not written (")
    assert f"In {folder} " in str(caught.value)
    assert "MB are free; at most 5 MB are needed. Make room, or write elsewhere" in str(caught.value)
    assert os.listdir(folder) == []


@pytest.mark.parametrize("share", [0, 0.5, 0.9999])
def test_a_full_disk_while_rows_are_written_is_reported_and_leaves_nothing(tmp_path, limited, share):
    place, values = grid(700, 700), probabilities((700, 700), missing=False)
    limited(values.nbytes * share)
    with pytest.raises(OutputError) as caught:
        write(probability_writer(tmp_path / "p.tif", place), values)
    assert_reported(caught, tmp_path)


# Parts of the finished file's size: overviews are made first, and the file's end is written last.
@pytest.mark.parametrize("share", [0, 0.1, 0.3, 0.7, 0.95, 0.9999])
def test_a_full_disk_at_the_end_is_reported_and_leaves_nothing(tmp_path, limited, share):
    place, values = grid(700, 700), probabilities((700, 700), missing=False)
    write(probability_writer(tmp_path / "whole.tif", place), values)
    size = (tmp_path / "whole.tif").stat().st_size
    folder = tmp_path / "full"
    folder.mkdir()
    writer = probability_writer(folder / "p.tif", place)
    writer.write(0, values)
    limited(size * share)
    with pytest.raises(OutputError) as caught:
        writer.close()
    assert_reported(caught, folder)


def test_temporary_files_lie_where_they_are_wanted(tmp_path):
    product, scratch = tmp_path / "product", tmp_path / "scratch"
    product.mkdir()
    scratch.mkdir()
    with probability_writer(product / "p.tif", grid(600, 600), scratch=scratch) as writer:
        writer.write(0, probabilities((600, 600)))
        assert os.listdir(product) == []
        assert len(os.listdir(scratch)) == 1
    assert (os.listdir(product), os.listdir(scratch)) == (["p.tif"], [])


def test_equal_rows_in_any_strips_give_equal_files(tmp_path):
    values = probabilities((700, 900))
    for name, strip in (("a.tif", 100), ("b.tif", 333)):
        write(probability_writer(tmp_path / name, grid(700, 900), {"model": "x"}), values, strip)
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()


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


def test_another_reader_finds_the_same(tmp_path):
    values = np.random.default_rng(0).choice(np.array([0, 1, 255], np.uint8), (1300, 1501))
    write(change_writer(tmp_path / "c.tif", grid(1300, 1501)), values, 77)
    with tifffile.TiffFile(tmp_path / "c.tif") as file:
        pages = [file.pages[0], *file.pages[1:]]
        assert [page.shape for page in pages] == [(1300, 1501), (650, 750), (325, 375)]
        assert [page.subfiletype for page in pages] == [0, 1, 1]
        np.testing.assert_array_equal(pages[0].asarray(), values)
        assert pages[0].tags["GDAL_NODATA"].value == "255"
        assert "ModelPixelScaleTag" not in pages[1].tags
