"""Colours of the four outcomes, and pictures of raw values."""

import numpy as np
import pytest

from terradelta.errors import ShapeError
from terradelta.lab.evaluation.error_maps import OUTCOMES, PAPER, SAFE, error_map, shrink, to_rgb

PREDICTED = np.array([[False, True], [False, True]])
LABEL = np.array([[False, False], [True, True]])


def test_the_papers_colours() -> None:
    found = error_map(PREDICTED, LABEL)
    black, red, green, white = (0, 0, 0), (255, 0, 0), (0, 255, 0), (255, 255, 255)
    np.testing.assert_array_equal(found, [[black, red], [green, white]])
    assert OUTCOMES == ("TN", "FP", "FN", "TP")


def luminance(colour: tuple[int, int, int]) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in colour)]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def test_the_safe_colours_differ_in_blue_and_yellow_not_only_in_red_and_green() -> None:
    (_, fp, fn, _) = SAFE
    assert abs(fp[2] - fn[2]) > 150  # blue is seen with every common kind of colour vision
    assert PAPER[1][2] == PAPER[2][2] == 0
    assert 0.1 < luminance(fp) < 0.9
    assert 0.1 < luminance(fn) < 0.9


def test_no_data_is_grey() -> None:
    found = error_map(PREDICTED, LABEL, np.array([[True, False], [True, True]]), SAFE)
    np.testing.assert_array_equal(found[0, 1], (128, 128, 128))
    np.testing.assert_array_equal(found[1, 0], SAFE[2])


def test_shapes_must_fit() -> None:
    with pytest.raises(ShapeError, match=r"prediction \(1, 2\), label \(2, 2\) and valid mask must have one shape"):
        error_map(PREDICTED[:1], LABEL)
    with pytest.raises(ShapeError, match="must have one shape"):
        error_map(PREDICTED, LABEL, LABEL[0])


def test_bytes_are_shown_as_they_are() -> None:
    values = np.arange(2 * 4 * 3).reshape(4, 2, 3).astype(np.uint8)
    before, after = to_rgb((values, values + 1))
    np.testing.assert_array_equal(before, np.moveaxis(values[:3], 0, 2))
    np.testing.assert_array_equal(after, before + 1)
    grey, _ = to_rgb((values[:1], values[:1]))
    assert grey.shape == (2, 3, 3)
    assert (grey == grey[..., :1]).all()


def test_reflectance_is_stretched_on_one_scale_for_both_dates() -> None:
    rng = np.random.default_rng(0)
    values = rng.uniform(1000, 3000, (3, 50, 50))
    before, after = to_rgb((values.astype(np.uint16), (values / 2).astype(np.uint16)))
    assert before.dtype == np.uint8
    assert before.mean() > after.mean() + 50
    low, high = np.percentile(np.concatenate([values[0], values[0] / 2]), (2, 98))
    expected = np.clip((values[0] - low) / (high - low), 0, 1) * 255
    assert np.abs(before[..., 0] - expected).max() <= 2
    flat, _ = to_rgb((np.full((3, 2, 2), np.nan, np.float32), np.full((3, 2, 2), 5, np.float32)))
    assert (flat == 0).all()


def test_shrinking_averages_pictures_and_picks_from_maps() -> None:
    picture = np.zeros((10, 6, 3), np.uint8)
    picture[::2] = 200
    assert shrink(picture, 10) is picture
    mixed, picked = shrink(picture, 5), shrink(picture, 5, mix=False)
    assert mixed.shape == picked.shape == (5, 3, 3)
    assert (mixed == 100).all()
    assert set(np.unique(picked)) <= {0, 200}
    assert shrink(picture, 3).shape == (2, 1, 3)
