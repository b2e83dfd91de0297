"""How sure a score is: bootstrap intervals over images, and a permutation test between two models.

B. Efron, "Better bootstrap confidence intervals", Journal of the American Statistical Association 82(397), 1987 (BCa).
B. Phipson & G. K. Smyth, "Permutation P-values should never be zero", Statistical Applications in Genetics and
Molecular Biology 9(1), 2010.

The image is the unit: pixels of one image are far from independent. Every score here is a function of sums over images
(counts of pixels), so that one resample serves all scores.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri  # the normal distribution, without the long import of scipy.stats

from terradelta.errors import ShapeError

__all__ = ["RESAMPLES", "Interval", "bootstrap", "permutation_test"]

RESAMPLES = 9999
"""Resamples by default."""
_BLOCK = 1 << 18  # entries drawn at once
_EXACT_IMAGES = 13  # up to so many images all 2^n exchanges are tried

Values = NDArray[np.float64]
Statistics = Callable[[Values], dict[str, Values]]
"""From sums over images ``(..., K)`` to named scores ``(...)``."""


@dataclass(frozen=True)
class Interval:
    """A confidence interval of a score."""

    low: float
    high: float


def bootstrap(
    rows: Values, statistics: Statistics, *, resamples: int = RESAMPLES, seed: int = 0, level: float = 0.95
) -> dict[str, Interval]:
    """BCa intervals; the percentile interval where all resamples lie on one side of the score.

    Args:
        rows: ``(n, K)``: what is summed, for each image.
        statistics: the scores of such sums.
        resamples: how often n images are drawn with replacement.
        seed: of the draws.
        level: of confidence, between 0 and 1.

    Returns:
        An interval for each score; none at all for fewer than two images.
    """
    if len(rows) < 2:
        return {}
    total = rows.sum(axis=0)
    found, drawn, left_out = (statistics(sums) for sums in (total, _resample(rows, resamples, seed), total - rows))
    return {name: _bca(float(found[name]), drawn[name], left_out[name], level) for name in found}


def _resample(rows: Values, resamples: int, seed: int) -> Values:
    """Sums ``(resamples, K)`` of n images drawn with replacement."""
    rng, n = np.random.default_rng(seed), len(rows)
    blocks = [rows[rng.integers(0, n, (size, n))].sum(axis=1) for size in _blocks(resamples, n)]
    return np.concatenate(blocks)


def _blocks(resamples: int, n: int) -> Iterator[int]:
    """Sizes that add up to ``resamples``, so that memory does not grow with it."""
    step = max(_BLOCK // n, 1)
    yield from (min(step, resamples - start) for start in range(0, resamples, step))


def _bca(found: float, drawn: Values, left_out: Values, level: float) -> Interval:
    """Bias-corrected and accelerated interval; Efron 1987, Eq. (4.2)-(4.4), acceleration by the jackknife."""
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    below = ((drawn < found).mean() + (drawn <= found).mean()) / 2
    if 0 < below < 1:
        bias = ndtri(below)
        away = left_out.mean() - left_out
        spread = 6 * (away**2).sum() ** 1.5
        acceleration = (away**3).sum() / spread if spread else 0.0
        z = bias + ndtri(tails)
        tails = ndtr(bias + z / (1 - acceleration * z))
    low, high = np.quantile(drawn, tails)
    return Interval(float(low), float(high))


def permutation_test(
    first: Values,
    second: Values,
    statistic: Callable[[Values], Values],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> float:
    """Two-sided p-value of a difference between two models on the same images.

    If the models are alike, exchanging their results on any image changes nothing. Up to 13 images all exchanges are
    tried; with more, random ones, and the p-value counts the exchange that was found (Phipson & Smyth 2010).

    Args:
        first: ``(n, K)``: what is summed, for each image, of one model.
        second: the same of the other model.
        statistic: the score of such sums ``(..., K)``.
        resamples: how many random exchanges.
        seed: of the exchanges.

    Raises:
        ShapeError: if the shapes differ, or there is no image.
    """
    if first.shape != second.shape or not len(first):
        raise ShapeError(f"counts of two models must have one shape (images, K): {first.shape} and {second.shape}")
    both, gap, n = first + second, second - first, len(first)
    found = _difference(both, gap, np.ones((1, n)), statistic)[0] - 1e-12
    if n <= _EXACT_IMAGES:
        signs = np.asarray(1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1), np.float64)
        return float((_difference(both, gap, signs, statistic) >= found).mean())
    rng = np.random.default_rng(seed)
    more = 0
    for size in _blocks(resamples, n):
        signs = rng.choice(np.array([-1.0, 1.0]), (size, n))
        more += int((_difference(both, gap, signs, statistic) >= found).sum())
    return (more + 1) / (resamples + 1)


def _difference(both: Values, gap: Values, signs: Values, statistic: Callable[[Values], Values]) -> Values:
    """Absolute difference of the score where the results of images with sign -1 are exchanged."""
    total, moved = both.sum(axis=0), signs @ gap
    return np.abs(statistic((total + moved) / 2) - statistic((total - moved) / 2))
