"""Pictures for the report: the changes from near, the histogram, and CVA beside the map."""

import re
import tracemalloc

import numpy as np
import pytest
import rasterio
from affine import Affine

from terradelta.geo.grid import Grid
from terradelta.mapping.plan import MapOptions
from terradelta.mapping.quicklooks import BINS, CHIP_PX, _difference, quicklooks
from terradelta.mapping.run import map_change
from terradelta.predict.classical.cva import Cva
from terradelta.predict.classical.statistics import Dates
from terradelta.raster.pair import PairWindow, open_pair


@pytest.fixture
def made(write_tiff, pair_values, tmp_path):
    """Quicklooks of a map with a change of 60 x 80 pixels at row 100, column 200, and one of 4 x 4 at 10, 10."""
    paths = [write_tiff(f"{name}.tif", values) for name, values in zip("ab", pair_values, strict=True)]
    product = map_change(*paths, tmp_path / "out", Cva(), MapOptions(min_area_m2=1))
    with open_pair(*paths) as pair:
        return quicklooks(pair, product.folder), product, pair_values


def test_largest_changes_come_first_with_their_outline(made):
    found, _, (before, after) = made
    assert [round(each.size, 1) for each in found.largest] == sorted(
        (round(each.size, 1) for each in found.largest), reverse=True
    )
    chip = found.largest[0]
    assert chip.before.shape == chip.after.shape == (128, 128, 3)  # 1.6 times 80 pixels
    # The middle of the change, (130, 240), lies in the middle of the picture.
    assert (chip.before == np.moveaxis(before[:, 66:194, 176:304], 0, 2)).all()
    assert (chip.after == np.moveaxis(after[:, 66:194, 176:304], 0, 2)).all()
    points = np.array(re.findall(r"([\d.]+) ([\d.]+)", chip.outline), float)
    assert points.min(0) == pytest.approx([24, 34], abs=3)
    assert points.max(0) == pytest.approx([104, 94], abs=3)


def test_a_change_at_the_border_is_shown_within_the_image(made):
    chip = made[0].largest[1]
    assert chip.before.shape == (CHIP_PX[0], CHIP_PX[0], 3)
    assert (chip.before == np.moveaxis(made[2][0][:, :96, :96], 0, 2)).all()


def test_what_is_shown_as_large_is_not_shown_as_doubtful(made):
    found = made[0]
    assert not {each.id for each in found.largest} & {each.id for each in found.doubtful}


def test_the_histogram_counts_every_valid_pixel(made):
    found, product, _ = made
    with rasterio.open(product.probability) as source:
        values = source.read(1)
    assert len(found.histogram) == BINS
    assert found.histogram == tuple(np.histogram(values, BINS, (0, 1))[0])


def test_cva_stands_beside_networks_alone(made, write_tiff, pair_values):
    found, product, _ = made
    assert found.difference is not None
    changed = np.zeros(found.difference.shape, bool)
    changed[100:160, 200:280] = changed[10:14, 10:14] = True
    assert found.difference[changed].min() > found.difference[~changed].max()
    paths = [write_tiff(f"{name}2.tif", values) for name, values in zip("ab", pair_values, strict=True)]
    with open_pair(*paths) as pair:
        assert quicklooks(pair, product.folder, weightless=True).difference is None


def test_a_large_change_is_thinned_and_cut(write_tiff, tmp_path):
    before = np.full((3, 1300, 1600), 80, np.uint8)
    after = before.copy()
    after[:, 20:650, 30:880] = 220
    paths = [write_tiff(f"{name}.tif", values) for name, values in (("a", before), ("b", after))]
    product = map_change(*paths, tmp_path / "out", Cva())
    with open_pair(*paths) as pair:
        chip = quicklooks(pair, product.folder).largest[0]
    assert chip.after.shape == (224, 224, 3)
    assert (chip.after == 220).all()


def test_16_bits_are_stretched_as_the_overview(write_tiff, pair_values, tmp_path):
    paths = [write_tiff(f"{n}.tif", v.astype(np.uint16) * 40) for n, v in zip("ab", pair_values, strict=True)]
    product = map_change(*paths, tmp_path / "out", Cva())
    with open_pair(*paths) as pair:
        found = quicklooks(pair, product.folder)
    assert (found.largest[0].after == found.after[66:194, 176:304]).all()


def test_the_difference_is_that_of_cva_and_needs_little_memory():
    rng = np.random.default_rng(0)
    before, after = rng.integers(0, 4000, (2, 4, 128, 160)).astype(np.uint16)
    before[3] = 7  # a band that is the same everywhere
    valid = rng.random((128, 160)) > 0.2
    preview = PairWindow(before, after, valid, Grid(None, Affine.identity(), valid.shape))
    tracemalloc.start()
    found = _difference(preview, valid)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 8 * 8 * valid.size  # eight planes of float64; both dates at once would take many more
    seen = np.stack([before[:, valid], after[:, valid]]).astype(np.float64)
    std = seen.std(axis=2)
    expected = Dates(seen.mean(axis=2), np.where(std > 0, std, 1)).magnitude(before.astype("f4"), after.astype("f4"))
    np.testing.assert_allclose(found[valid], expected[valid], rtol=1e-4)
    assert (found[~valid] == 0).all()
    assert not _difference(preview, np.zeros_like(valid)).any()
