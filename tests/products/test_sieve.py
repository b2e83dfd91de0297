"""A sieve of strips gives what a sieve of the whole mask gives."""

import numpy as np
import pytest
import rasterio.features
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from terradelta.errors import InputError
from terradelta.products.sieve import Sieve


def sieved(mask: np.ndarray, least: int, cuts: list[int]) -> np.ndarray:
    """The mask pushed in strips that end at ``cuts``; values must come out beside their pixels."""
    sieve, values = Sieve(least), np.arange(mask.size, dtype=np.float32).reshape(mask.shape)
    ends = sorted({*cuts, len(mask)} - {0})
    parts, rows, waiting = [], 0, 0
    for start, stop in zip([0, *ends], ends, strict=False):
        parts.append(sieve.push(mask[start:stop], values[start:stop]))
        rows += len(parts[-1][0])
        waiting = max(waiting, stop - rows)
    rest = sieve.finish()
    parts += [] if rest is None else [rest]
    assert np.array_equal(np.concatenate([part[1] for part in parts]), values)
    found = np.concatenate([part[0] for part in parts])
    assert waiting < max(least, 1)
    assert sieve.removed == (mask & ~found).sum()
    return found


def whole(mask: np.ndarray, least: int) -> np.ndarray:
    labels, _ = ndimage.label(mask)
    return mask & (np.bincount(labels.ravel())[labels] >= least)


@given(
    st.integers(0, 2**32 - 1), st.tuples(st.integers(1, 20), st.integers(1, 9)), st.integers(0, 12),
    st.floats(0.1, 0.9), st.lists(st.integers(1, 19), max_size=8),
)  # fmt: skip
def test_strips_give_what_the_whole_gives(seed, shape, least, share, cuts):
    mask = np.random.default_rng(seed).random(shape) < share
    assert np.array_equal(sieved(mask, least, [cut for cut in cuts if cut < shape[0]]), whole(mask, least))


@pytest.mark.parametrize("cuts", [[], [1, 2, 3, 4], [3]])
def test_arms_that_meet_below_or_above_are_one_group(cuts):
    cup = np.array([[1, 0, 1], [1, 0, 1], [1, 0, 1], [1, 1, 1], [0, 0, 0]], bool)
    for mask in (cup, cup[::-1]):
        assert np.array_equal(sieved(mask, 9, cuts), mask)
        assert not sieved(mask, 10, cuts).any()


def test_specks_on_a_ground_are_those_of_gdal():
    mask = np.zeros((12, 14), bool)
    mask[1:3, 1:3] = mask[5, 2:5] = mask[8:11, 6:12] = mask[0, 13] = True
    gdal = rasterio.features.sieve(mask.astype(np.uint8), 4).astype(bool)
    assert np.array_equal(sieved(mask, 4, [2, 6, 9]), gdal)


@pytest.mark.parametrize("least", [-1, 1001])
def test_what_is_no_size(least):
    with pytest.raises(InputError, match=f"sieve is {least} pixels; it must be 0 to 1000"):
        Sieve(least)
