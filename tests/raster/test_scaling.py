"""The common stretch of both dates, against numpy on the whole images."""

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS

from terradelta.card import STRETCH, ModelCard
from terradelta.errors import BandError, RasterError
from terradelta.raster.pair import Reading, open_pair
from terradelta.raster.scaling import Scaling, choose_scaling, range_warnings, scaled_dates, scaling_of


def card(bands=2, scale=255.0, stretch=STRETCH):
    names = tuple(f"band {number}" for number in range(bands))
    return ModelCard("m", "n", names, (0.5,) * bands, (0.25,) * bands, scale=scale, stretch=stretch)


def write(path, values, **profile):
    count, height, width = values.shape
    profile = {"count": count, "height": height, "width": width, "dtype": values.dtype, **profile}
    place = {"transform": Affine(5, 0, 500000, 0, -5, 5200000), "crs": CRS.from_epsg(32614)}
    with rasterio.open(path, "w", driver="GTiff", **place, **profile) as file:
        file.write(values)
    return path


def noise(seed, low, high, dtype="uint16", shape=(2, 60, 70)):
    return np.random.default_rng(seed).integers(low, high, shape).astype(dtype)


def test_eight_bit_images_stay_as_they_are(tmp_path):
    path = write(tmp_path / "a.tif", noise(0, 0, 255, "uint8"))
    with open_pair(path, path) as pair:
        assert scaling_of(pair, card()) is None
        assert scaling_of(pair, card(scale=1.0)).scale == 1.0


def test_both_dates_share_the_percentiles_of_their_valid_pixels(tmp_path):
    before, after = noise(0, 100, 3000), noise(1, 2000, 9000)
    before[:, :20] = 0
    first, second = write(tmp_path / "a.tif", before, nodata=0), write(tmp_path / "b.tif", after, nodata=0)
    with open_pair(first, second) as pair:
        scaling = scaling_of(pair, card())
    both = np.concatenate([before[:, 20:], after[:, 20:]], axis=1).reshape(2, -1)
    np.testing.assert_allclose(scaling.low, np.percentile(both, 1, axis=1))
    np.testing.assert_allclose(scaling.high, np.percentile(both, 99, axis=1))
    # The second date is brighter, and stays so.
    assert scaling.apply(after).mean() > scaling.apply(before).mean() + 80


def test_a_nearly_constant_band_uses_its_extremes_and_a_constant_one_becomes_zero(tmp_path):
    values = np.full((2, 60, 70), 500, "uint16")
    values[0, 3, 4] = 700
    path = write(tmp_path / "a.tif", values)
    with open_pair(path, path) as pair:
        scaling = scaling_of(pair, card())
    assert (scaling.low, scaling.high) == ((500.0, 500.0), (700.0, 500.0))
    stretched = scaling.apply(values)
    assert stretched[0, 3, 4] == 255
    assert np.count_nonzero(stretched) == 1


def test_a_preview_without_a_valid_pixel(tmp_path):
    values = np.zeros((1, 1100, 1100), "uint16")
    picked = np.floor((np.arange(1024) + 0.5) * 1100 / 1024)
    row = int(np.setdiff1d(np.arange(1100), picked)[3])
    values[0, row, row] = 1
    path = write(tmp_path / "a.tif", values, nodata=0)
    with open_pair(path, path) as pair, pytest.raises(RasterError, match=r"no pixel in the preview .*area of interest"):
        scaling_of(pair, card(1))


def test_the_stretch_is_linear_and_clipped():
    scaling = Scaling((100.0, -1.0), (300.0, 1.0), scale=10.0)
    values = np.array([[[0, 100, 200, 300, 999]], [[-9, -1, 0, 1, 9]]], "int16")
    stretched = scaling.apply(values)
    assert stretched.dtype == np.float32
    np.testing.assert_allclose(stretched, [[[0, 0, 5, 10, 10]], [[0, 0, 5, 10, 10]]])
    batch = scaling.apply(np.stack([values, values]))
    np.testing.assert_array_equal(batch[1], stretched)


def test_what_is_no_number_becomes_zero():
    values = np.array([[[np.nan, -np.inf, np.inf, 0.5]]], "float32")
    np.testing.assert_allclose(Scaling((0.0,), (1.0,)).apply(values), [[[0, 0, 255, 127.5]]])


def test_large_integers_keep_their_differences():
    values = np.array([[[2**31, 2**31 + 1, 2**31 + 2]]], "uint32")
    np.testing.assert_allclose(Scaling((2.0**31,), (2.0**31 + 2,), 2.0).apply(values), [[[0, 1, 2]]])


@pytest.mark.parametrize("shape", [(3, 4, 4), (4, 4)])
def test_a_wrong_number_of_bands(shape):
    with pytest.raises(BandError, match=r"for 2 bands, but the array has shape .*expected \(..., 2, H, W\)"):
        Scaling((0.0, 0.0), (1.0, 1.0)).apply(np.zeros(shape))


def test_the_sentences():
    assert Scaling((12.0,), (3456.5,)).lines(("red",)) == [
        "Band red: raw values 12 to 3456.5 were stretched to 0 to 255 on both dates."
    ]


def test_a_card_without_a_stretch_takes_values_as_they_are_stored(tmp_path):
    path = write(tmp_path / "a.tif", noise(0, 100, 3000))
    with open_pair(path, path) as pair:
        assert scaling_of(pair, card(scale=10000.0, stretch=None)) is None


def test_arrays_and_files_get_the_same_stretch(tmp_path):
    """Also beyond 1024 pixels, where both are thinned."""
    before, after = noise(0, 100, 3000, shape=(1, 40, 1500)), noise(1, 2000, 9000, shape=(1, 40, 1500))
    first, second = write(tmp_path / "a.tif", before, nodata=150), write(tmp_path / "b.tif", after)
    with open_pair(first, second) as pair:
        assert scaling_of(pair, card(1)) == choose_scaling(before, after, before[0] != 150, card(1))


def test_nothing_valid_in_an_array_needs_no_stretch():
    values = noise(0, 100, 3000)
    assert choose_scaling(values, values, np.zeros((60, 70), bool), card()) is None


def test_pixels_without_data_are_filled():
    values = np.array([[[1.0, 2.0]]], np.float32)
    fill = np.array([[7.0], [9.0]], np.float32)
    before, after = scaled_dates((values, values), np.array([[True, False]]), Scaling((0.0,), (2.0,), 100.0), fill)
    np.testing.assert_array_equal(before, [[[50, 7]]])
    np.testing.assert_array_equal(after, [[[50, 9]]])


@pytest.mark.parametrize(("values", "far"), [(4000, False), (400, False), (60000, True)])
def test_values_far_from_the_training_data_are_named(tmp_path, values, far):
    first, second = (write(tmp_path / f"{v}.tif", noise(0, v - 9, v + 9)) for v in (4001, values))
    with open_pair(first, second, bands=[2, 1], reading=Reading(values="raw")) as pair:
        found = range_warnings(pair, card(scale=10000.0, stretch=None))
    assert len(found) == far
    if far:
        assert "on the second date are 6e+04 on average, but the model was" in found[0]
        assert "trained on values around 5000 (its scale is 10000)" in found[0]
