"""Intervals against scipy's bootstrap; p-values against all exchanges and against a sign test by hand."""

import itertools

import numpy as np
import pytest
from scipy import stats

from terradelta.errors import ShapeError
from terradelta.lab.metrics import Interval, bootstrap, metrics_of, permutation_test

RNG = np.random.default_rng(3)
COUNTS = RNG.integers(1, 2000, (25, 4)).astype(float)


def f1(sums: np.ndarray) -> np.ndarray:
    return metrics_of(sums)["f1"]


def test_intervals_are_those_of_scipy() -> None:
    found = bootstrap(COUNTS, metrics_of, resamples=20_000)

    def direct(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray, axis: int = -1) -> np.ndarray:
        return 2 * tp.sum(axis) / (2 * tp.sum(axis) + fp.sum(axis) + fn.sum(axis))

    expected = stats.bootstrap(
        tuple(COUNTS[:, :3].T), direct, paired=True, vectorized=True, n_resamples=20_000, method="BCa", rng=1
    ).confidence_interval
    width = expected.high - expected.low
    assert found["f1"].low == pytest.approx(expected.low, abs=0.03 * width)
    assert found["f1"].high == pytest.approx(expected.high, abs=0.03 * width)


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    """The mean of 20 draws from a gamma distribution: skewed, as scores are."""
    rng, hits = np.random.default_rng(0), 0
    for seed in range(200):
        rows = np.stack([rng.gamma(4, 0.25, 20), np.ones(20)], axis=1)
        interval = bootstrap(rows, lambda s: {"mean": s[..., 0] / s[..., 1]}, resamples=999, seed=seed)["mean"]
        hits += interval.low <= 1 <= interval.high
    assert 0.89 <= hits / 200 <= 0.99


def test_the_seed_decides() -> None:
    first, again, other = (bootstrap(COUNTS, metrics_of, resamples=500, seed=s) for s in (5, 5, 6))
    assert first == again
    assert first != other


def test_memory_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bootstrap(COUNTS, metrics_of, resamples=300)
    monkeypatch.setattr("terradelta.lab.metrics.resampling._BLOCK", 100)
    assert bootstrap(COUNTS, metrics_of, resamples=300) == whole


def test_alike_images_leave_no_doubt_and_one_image_no_interval() -> None:
    alike = np.tile([[30.0, 10, 10, 50]], (5, 1))
    assert bootstrap(alike, metrics_of, resamples=99)["f1"] == Interval(0.75, 0.75)
    assert bootstrap(alike[:1], metrics_of) == {}


def test_all_exchanges_of_few_images() -> None:
    a, b = COUNTS[:6], COUNTS[6:12]
    observed = abs(f1(b.sum(0)) - f1(a.sum(0)))
    gaps = []
    for swapped in itertools.product((False, True), repeat=6):
        mask = np.array(swapped)[:, None]
        gaps.append(abs(f1(np.where(mask, a, b).sum(0)) - f1(np.where(mask, b, a).sum(0))))
    assert permutation_test(a, b, f1) == pytest.approx(np.mean(np.array(gaps) >= observed - 1e-12))


def test_a_model_that_is_always_better_by_hand() -> None:
    """Two of the 2^n exchanges are as far apart as the models: none exchanged, and all."""
    a = np.tile([[10.0, 5, 5, 80]], (8, 1))
    b = np.tile([[12.0, 3, 3, 82]], (8, 1))
    assert permutation_test(a, b, f1) == 2 / 2**8


def test_many_images_are_exchanged_at_random() -> None:
    a = RNG.integers(100, 200, (40, 4)).astype(float)
    assert permutation_test(a, a, f1) == 1
    assert permutation_test(a, a + np.array([30, 0, 0, 0]), f1, resamples=999) == 1 / 1000
    mixed = permutation_test(a, a[::-1], f1, resamples=999)
    assert mixed == 1  # the same images in another order: the sums are equal


def test_random_exchanges_agree_with_all(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = COUNTS[:10], COUNTS[10:20]
    exact = permutation_test(a, b, f1)
    monkeypatch.setattr("terradelta.lab.metrics.resampling._EXACT_IMAGES", 0)
    assert permutation_test(a, b, f1) == pytest.approx(exact, abs=0.02)


def test_shapes_must_fit() -> None:
    for a, b in ((COUNTS, COUNTS[:3]), (COUNTS[:0], COUNTS[:0])):
        with pytest.raises(ShapeError, match=r"counts of two models must have one shape \(images, K\)"):
            permutation_test(a, b, f1)
