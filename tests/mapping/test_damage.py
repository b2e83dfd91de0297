"""Files with blocks that cannot be read."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio

from terradelta.errors import RasterError
from terradelta.geo.grid import Tile
from terradelta.mapping.damage import TolerantPair
from terradelta.mapping.run import MapOptions, map_change
from terradelta.predict.classical import load_method
from terradelta.raster.pair import open_pair

from .conftest import PixelPredictor, Writer

SMALL = MapOptions(tile=64, overlap=16, min_area_m2=0)
SKIP = MapOptions(tile=64, overlap=16, min_area_m2=0, skip_damaged=True)


def damaged_tiff(path: Path, values: np.ndarray, block: tuple[int, int], write_tiff: Writer) -> Path:
    """A tiled TIFF with one 128-pixel block overwritten."""
    options = {"tiled": True, "blockxsize": 128, "blockysize": 128, "compress": "deflate", "interleave": "pixel"}
    made = write_tiff(path.name, values, **options)
    with rasterio.open(made) as source:
        offset = int(source.get_tag_item(f"BLOCK_OFFSET_{block[1]}_{block[0]}", "TIFF", bidx=1))
    content = bytearray(made.read_bytes())
    content[offset : offset + 200] = b"\x55" * 200
    made.write_bytes(content)
    return made


@pytest.fixture
def damaged(tmp_path, write_tiff: Writer, pair_values) -> tuple[Path, Path]:
    before = write_tiff("a.tif", pair_values[0])
    after = damaged_tiff(tmp_path / "b.tif", pair_values[1], (1, 2), write_tiff)
    with rasterio.open(after) as source, pytest.raises(rasterio.errors.RasterioIOError):
        source.read()
    return before, after


def test_a_damaged_block_ends_the_run_and_says_how_to_skip_it(tmp_path, damaged):
    with pytest.raises(RasterError, match=r"b\.tif.*count such pixels as no data \(--skip-damaged\)"):
        map_change(*damaged, tmp_path / "out", PixelPredictor(), SMALL)


def test_a_damaged_block_can_be_skipped_and_is_recorded(tmp_path, damaged, pair_values):
    made = map_change(*damaged, tmp_path / "out", PixelPredictor(), SKIP)
    lost = np.zeros((300, 420), bool)
    lost[128:256, 256:384] = True
    with rasterio.open(made.change) as source:
        assert ((source.read(1) == 255) == lost).all()
    recorded = np.zeros_like(lost)
    for each in json.loads((made.folder / "receipt.json").read_text())["damaged"]:
        recorded[each["row"] : each["row"] + each["height"], each["col"] : each["col"] + each["width"]] = True
        assert "b.tif" in each["reason"]
    assert (recorded == lost).all()


def test_a_window_that_is_lost_altogether_has_no_valid_pixel(damaged):
    with open_pair(*damaged) as pair:
        window, damage = TolerantPair.like(pair).read_noting(Tile(140, 260, 50, 60))
    assert not window.valid.any()
    assert window.before.shape == (3, 50, 60)
    assert [(d.row, d.col, d.height, d.width) for d in damage] == [(140, 260, 50, 60)]


def test_a_thinned_view_goes_around_damage(damaged, write_tiff: Writer, pair_values):
    whole = write_tiff("c.tif", pair_values[1])
    with open_pair(damaged[0], whole) as pair:
        expected = pair.read_decimated(100)
    with open_pair(*damaged) as pair:
        found = TolerantPair.like(pair).read_decimated(100)
    lost = ~found.valid
    assert found.grid == expected.grid
    assert 0.9 < lost.mean() * 300 * 420 / 128**2 < 1.1
    assert np.array_equal(found.before[:, ~lost], expected.before[:, ~lost])
    assert np.array_equal(found.after[:, ~lost], expected.after[:, ~lost])


def test_a_method_is_fitted_around_damage(tmp_path, damaged):
    options = MapOptions(skip_damaged=True)
    made = map_change(*damaged, tmp_path / "out", load_method("cva"), options)
    assert made.receipt.result.valid_px == 300 * 420 - 128**2
    with pytest.raises(RasterError, match="--skip-damaged"):
        map_change(*damaged, tmp_path / "strict", load_method("cva"))


def test_a_sound_pair_is_read_as_ever(write_tiff: Writer, pair_values):
    paths = [write_tiff(f"{n}.tif", v) for n, v in zip("ab", pair_values, strict=True)]
    with open_pair(*paths) as pair:
        window, damage = TolerantPair.like(pair).read_noting(Tile(3, 5, 70, 90))
        expected = pair.read(Tile(3, 5, 70, 90))
    assert damage == []
    assert np.array_equal(window.after, expected.after)
    assert window.grid == expected.grid
