"""Disturbances against their definitions, on any type of raw values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from terradelta.card import ModelCard
from terradelta.lab.evaluation.perturbations import KINDS, Kind, disturb, kinds_for

CARD = ModelCard("w", "none", ("red", "green", "blue"), (0.0,) * 3, (1.0,) * 3)
BY_NAME = {kind.name: kind for kind in KINDS}
RNG = np.random.default_rng(0)
SMOOTH = ndimage.gaussian_filter(RNG.normal(size=(3, 64, 60)), (0, 3, 3))
BEFORE = np.rint(120 + 400 * SMOOTH).clip(20, 220).astype(np.uint8)
AFTER = BEFORE[:, ::-1].copy()


def applied(name: str, level: float, card: ModelCard = CARD, key: str = "0 a", **dates: np.ndarray) -> tuple:
    before, after = dates.get("before", BEFORE), dates.get("after", AFTER)
    return disturb(BY_NAME[name], level, before, after, card, key=key)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_type_and_shape_stay_and_the_key_decides(kind: Kind, dtype: type) -> None:
    factor = 1 if dtype == np.uint8 else 40
    card = CARD.replace(scale=255.0 * factor)
    dates = [(date.astype(np.float64) * factor).astype(dtype) for date in (BEFORE, AFTER)]
    copies = [date.copy() for date in dates]
    for level in kind.levels:
        found, again = (disturb(kind, level, *dates, card, key="3 x") for _ in range(2))
        for new, same, old, copy in zip(found, again, dates, copies, strict=True):
            assert new.dtype == dtype
            assert new.shape == old.shape
            np.testing.assert_array_equal(new, same)
            np.testing.assert_array_equal(old, copy)
        assert any((new != old).any() for new, old in zip(found, dates, strict=True))


def test_values_stay_in_the_range_of_their_type() -> None:
    _, after = applied("brightness", 1.6, after=np.full((3, 4, 4), 200, np.uint8))
    assert (after == 255).all()
    _, after = applied("contrast", 2, after=np.array([[[0, 100]]] * 3, np.uint8))
    np.testing.assert_array_equal(after[0], [[0, 150]])


@pytest.mark.parametrize("level", [0.5, 1, 2, 5])
def test_misregistration_moves_by_its_distance(level: float) -> None:
    """Found again as the shift of the peak of the cross-correlation, on a smooth image."""
    wide = np.rint(120 + 400 * ndimage.gaussian_filter(RNG.normal(size=(1, 96, 96)), (0, 4, 4))).clip(0, 255)
    card = CARD.replace(bands=("grey",), mean=(0.0,), std=(1.0,))
    _, after = disturb(BY_NAME["misregistration"], level, wide, wide, card, key="1 q")
    inner = np.s_[0, 12:-12, 12:-12]
    rows, cols = np.gradient(wide[0])
    # Best shift in the sense of least squares of the first-order expansion, iterated: Lucas & Kanade.
    shift = np.zeros(2)
    for _ in range(30):
        moved = ndimage.shift(wide[0], shift, order=3, mode="reflect")[12:-12, 12:-12]
        gap = (after[inner] - moved).ravel()
        slopes = np.stack([-rows[12:-12, 12:-12].ravel(), -cols[12:-12, 12:-12].ravel()], 1)
        shift += np.linalg.lstsq(slopes, gap, rcond=None)[0]
    assert np.hypot(*shift) == pytest.approx(level, abs=0.05)


def test_the_direction_is_the_images_own_and_that_of_all_levels() -> None:
    spot = np.zeros((3, 64, 64), np.float32)
    spot[:, 32, 32] = 1000

    def offset(key: str, level: float) -> np.ndarray:
        _, after = applied("misregistration", level, before=spot, after=spot, key=key)
        return np.array(ndimage.center_of_mass(np.clip(after[0], 0, None))) - 32

    small, large, other = offset("0 a", 3), offset("0 a", 5), offset("0 b", 5)
    np.testing.assert_allclose(small / 3, large / 5, atol=0.1)
    assert np.abs(large - other).max() > 0.5


@given(st.sampled_from([0.6, 0.8, 1.25, 1.6]))
def test_brightness_is_a_factor(level: float) -> None:
    before, after = applied("brightness", level)
    np.testing.assert_array_equal(before, BEFORE)
    np.testing.assert_array_equal(after, np.rint(AFTER * level).clip(0, 255))


def test_contrast_keeps_the_mean() -> None:
    values = AFTER.astype(np.float64)
    _, after = applied("contrast", 0.5, after=values)
    np.testing.assert_allclose(after.mean(axis=(1, 2)), values.mean(axis=(1, 2)))
    np.testing.assert_allclose(after.std(axis=(1, 2)), values.std(axis=(1, 2)) / 2)


def test_haze_by_formula() -> None:
    _, after = applied("haze", 25, after=AFTER.astype(np.float64))
    light = np.percentile(AFTER, 99, axis=(1, 2))[:, None, None]
    np.testing.assert_allclose(after, 0.75 * AFTER + 0.25 * light)


def test_season_turns_green_to_straw_and_leaves_grey() -> None:
    colours = np.array([[60, 100, 50], [90, 90, 90], [120, 80, 70]], np.float64).T[:, :, None]  # grass, road, roof
    _, after = applied("season", 100, before=colours, after=colours)
    np.testing.assert_allclose(after[:, 0, 0], 210 * np.array([0.40, 0.36, 0.24]))
    np.testing.assert_allclose(after[:, 1:], colours[:, 1:])
    _, half = applied("season", 50, before=colours, after=colours)
    np.testing.assert_allclose(half, (after + colours) / 2)


def test_season_by_near_infrared() -> None:
    card = CARD.replace(bands=("nir", "red", "swir"))
    meadow, soil = [400.0, 100, 150], [120.0, 100, 150]
    values = np.array([meadow, soil]).T[:, :, None]
    _, after = applied("season", 100, card, before=values, after=values)
    np.testing.assert_allclose(after[:, 0, 0], [400 * 0.6, 100 * 1.5, 150])
    np.testing.assert_allclose(after[:, 1, 0], soil)


def test_bands_without_vegetation_have_no_season() -> None:
    kinds, skipped = kinds_for(CARD.replace(bands=("a", "b", "c")))
    assert "season" not in {kind.name for kind in kinds}
    assert skipped == {"season": "needs bands named red and nir, or red, green and blue"}
    assert kinds_for(CARD) == (KINDS, {})


@pytest.mark.parametrize("scale", [255.0, 10_000.0])
def test_noise_has_its_standard_deviation_on_both_dates(scale: float) -> None:
    flat = np.full((3, 200, 200), 0.5 * scale)
    before, after = applied("noise", 2, CARD.replace(scale=scale), before=flat, after=flat)
    for date in (before, after):
        assert (date - flat).std() == pytest.approx(0.02 * scale, rel=0.02)
    assert abs(np.corrcoef((before - flat).ravel(), (after - flat).ravel())[0, 1]) < 0.02


def test_blur_is_a_gaussian_of_its_standard_deviation() -> None:
    spot = np.zeros((3, 41, 41))
    spot[:, 20, 20] = 1
    _, after = applied("blur", 2, before=spot, after=spot)
    where = np.arange(41) - 20
    assert np.sqrt((after[0].sum(0) * where**2).sum()) == pytest.approx(2, rel=0.02)


def test_jpeg_is_nearer_the_better_its_quality() -> None:
    gaps = [np.abs(applied("jpeg", q)[1].astype(float) - AFTER).mean() for q in (90, 50, 10)]
    assert 0 < gaps[0] < gaps[1] < gaps[2] < 20


def test_jpeg_of_reflectance_in_any_number_of_bands() -> None:
    values = np.rint(AFTER[[0, 1, 2, 0]] * 40.0).astype(np.uint16)
    card = CARD.replace(bands=("red", "green", "blue", "nir"), mean=(0.0,) * 4, std=(1.0,) * 4, scale=1e4)
    _, after = applied("jpeg", 90, card, before=values, after=values)
    assert 0 < np.abs(after.astype(float) - values).mean() < 40 * 5
    flat = np.full_like(values, 7)
    np.testing.assert_array_equal(applied("jpeg", 50, card, before=flat, after=flat)[1], flat)


@pytest.mark.parametrize("factor", [1.5, 2, 4])
def test_coarser_pixels_keep_the_mean_and_lose_detail(factor: float) -> None:
    fine = RNG.normal(100, 10, (3, 48, 60))
    before, after = applied("resolution", factor, before=fine, after=fine)
    np.testing.assert_array_equal(before, after)
    assert after.mean() == pytest.approx(fine.mean(), abs=0.3)
    assert after.std() < 10 / factor * 1.2


def test_swapped_dates() -> None:
    before, after = applied("swapped dates", 1)
    np.testing.assert_array_equal(before, AFTER)
    np.testing.assert_array_equal(after, BEFORE)
    assert BY_NAME["swapped dates"].label(1) == "swapped dates"
    assert BY_NAME["blur"].label(0.5) == "0.5 px"


def test_colour_cast_by_hand() -> None:
    _, after = applied("colour cast", 20, after=np.full((3, 2, 2), 100.0))
    np.testing.assert_allclose(after[:, 0, 0], [120, 100, 80])
    grey = CARD.replace(bands=("grey",), mean=(0.0,), std=(1.0,))
    _, after = applied("colour cast", -10, grey, before=np.full((1, 2, 2), 100.0), after=np.full((1, 2, 2), 100.0))
    np.testing.assert_allclose(after, 90)
