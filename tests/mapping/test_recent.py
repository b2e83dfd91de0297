"""What was read a moment ago stands in for reading it again, and nobody can tell."""

from pathlib import Path

import numpy as np
import pytest

from terradelta.errors import OutputError
from terradelta.geo.grid import Tile
from terradelta.geo.windows import TilePlan
from terradelta.mapping.recent import RecentTiles
from terradelta.mapping.run import MapOptions, map_change
from terradelta.raster.pair import Pair, open_pair

from .conftest import PixelPredictor, Writer


@pytest.fixture
def paths(write_tiff: Writer) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    before = rng.integers(1, 200, (3, 130, 150)).astype(np.uint8)
    after = rng.integers(0, 999, (3, 130, 150)).astype(np.uint16)
    return write_tiff("a.tif", before, nodata=7), write_tiff("b.tif", after)


@pytest.fixture
def reads(monkeypatch) -> list[Tile]:
    """The windows that pairs are read in from now on."""
    seen: list[Tile] = []
    read = Pair.read

    def noting(self: Pair, tile: Tile):
        seen.append(tile)
        return read(self, tile)

    monkeypatch.setattr(Pair, "read", noting)
    return seen


WINDOWS = [Tile(0, 0, 130, 150), Tile(5, 9, 1, 1), Tile(20, 30, 77, 101), Tile(129, 149, 1, 1)]


@pytest.mark.parametrize("window", WINDOWS)
def test_a_window_of_kept_tiles_is_that_of_the_pair(tmp_path, paths, reads, window):
    with open_pair(*paths) as pair:
        recent = RecentTiles(pair, tmp_path)
        plan = TilePlan(pair.grid.shape, 48, 16, 16)
        for tile in (tile for row in plan.rows() for tile in row):
            recent.keep(tile, pair.read(tile))
        expected = pair.read(window)
        reads.clear()
        found = recent.read(window)
        assert reads == []
        for name in ("before", "after", "valid"):
            one, other = getattr(found, name), getattr(expected, name)
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype
        assert found.grid == expected.grid
        kept = sum(path.stat().st_size for path in tmp_path.glob("*.raw"))
        assert kept == 130 * 150 * (3 * 1 + 3 * 2 + 1)  # no pixel is kept twice


def test_what_is_not_kept_or_forgotten_is_read_again(tmp_path, paths, reads):
    with open_pair(*paths) as pair:
        recent = RecentTiles(pair, tmp_path)
        for tile in (Tile(0, 0, 64, 150), Tile(48, 0, 64, 150)):
            recent.keep(tile, pair.read(tile))
        reads.clear()
        recent.read(Tile(0, 0, 112, 150))
        assert reads == []
        recent.forget(63)
        recent.read(Tile(0, 0, 112, 150))
        assert reads == []
        recent.forget(64)
        found = recent.read(Tile(60, 0, 52, 150))
        assert reads == [Tile(60, 0, 52, 150)]
        np.testing.assert_array_equal(found.before, pair.read(Tile(60, 0, 52, 150)).before)
        recent.forget(112)
    assert list(tmp_path.glob("*.raw")) == []


def test_a_folder_that_is_gone_is_reported(tmp_path, paths):
    with open_pair(*paths) as pair:
        recent = RecentTiles(pair, tmp_path / "none")
        tile = Tile(0, 0, 64, 64)
        with pytest.raises(OutputError, match=r"0_0\.raw cannot be written"):
            recent.keep(tile, pair.read(tile))
        (tmp_path / "none").mkdir()
        recent.keep(tile, pair.read(tile))
        (tmp_path / "none" / "0_0.raw").write_bytes(b"short")
        with pytest.raises(
            OutputError, match=r"0_0\.raw cannot be read \(it is too short\); run the same command again"
        ):
            recent.read(tile)


def test_evidence_does_not_read_the_images_again(tmp_path, write_tiff, pair_values, reads):
    paths = [write_tiff(f"{n}.tif", values) for n, values in zip("ab", pair_values, strict=True)]
    options = MapOptions(tile=64, overlap=32)
    made = map_change(*paths, tmp_path / "out", PixelPredictor(), options)
    assert made.receipt.result.polygons == 1
    # Evidence is measured in one window, the whole; the one time it is read, a valid pixel is looked for.
    assert reads.count(Tile(0, 0, 300, 420)) == 1
