"""How much changed, with an interval: areas and accuracies from a map's strata and a sample of the truth.

P. Olofsson, G. M. Foody, M. Herold, S. V. Stehman, C. E. Woodcock, M. A. Wulder, "Good practices for estimating area
and assessing accuracy of land change", Remote Sensing of Environment 148, 42-57, 2014, doi:10.1016/j.rse.2014.02.015.
Numbers of equations are those of that paper.

The area of a map's class is biased by the map's errors. The sample says, for each class of the map, which share is what
in truth; weighted with the classes' areas, these shares give the true areas without bias.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri  # quantiles, without the long import of scipy.stats

from terradelta.errors import InputError, ShapeError

__all__ = ["AreaEstimate", "Estimate", "allocate", "estimate_areas"]

Array = NDArray[np.float64]

_LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number, its standard error, and its 95 % interval."""

    value: float
    error: float
    """Standard error."""
    quantile: float = float(ndtri(0.5 + _LEVEL / 2))
    """Standard errors to either side of the interval."""

    @property
    def low(self) -> float:
        """Lower end of the interval; it may be below 0 where the sample says little."""
        return self.value - self.quantile * self.error

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.value + self.quantile * self.error


@dataclass(frozen=True, eq=False)
class AreaEstimate:
    """What a stratified sample says of a map with q classes."""

    counts: NDArray[np.int64]
    """``(q, q)``: samples by class of the map (rows) and of the truth (columns)."""
    areas: Array
    """``(q,)``: mapped area of each class."""
    proportions: Array
    """``(q, q)``: share of the whole area by class of the map and of the truth, Eq. (4)."""
    area: tuple[Estimate, ...]
    """True area of each class, in the unit of ``areas``, Eq. (9) to (11)."""
    users: tuple[Estimate, ...]
    """User's accuracy of each class: the share of the mapped area that is right, Eq. (2) and (6)."""
    producers: tuple[Estimate, ...]
    """Producer's accuracy of each class: the share of the true area that was mapped, Eq. (3) and (7)."""
    overall: Estimate
    """Overall accuracy, Eq. (1) and (5)."""


def estimate_areas(counts: ArrayLike, areas: ArrayLike) -> AreaEstimate:
    """Areas and accuracies from a sample that is random within each class of the map.

    Args:
        counts: ``(q, q)`` samples by class of the map (rows) and of the truth (columns).
        areas: ``(q,)`` mapped area of each class, any unit.

    Raises:
        ShapeError: if the shapes do not fit.
        InputError: if a count or area is negative, nothing was mapped, or a mapped class has fewer than two samples.
    """
    n, mapped = np.asarray(counts, np.int64), np.asarray(areas, np.float64)
    _check(n, mapped)
    weights = mapped / mapped.sum()
    totals = n.sum(axis=1)
    shares = n / np.maximum(totals, 1)[:, None]
    proportions = weights[:, None] * shares  # Eq. (4)
    variances = shares * (1 - shares) / np.maximum(totals - 1, 1)[:, None]  # of each share, within its stratum
    truth = proportions.sum(axis=0)  # Eq. (9)
    users = np.diag(shares)
    right = np.diag(proportions)
    producers = np.divide(right, truth, out=np.zeros_like(truth), where=truth > 0)  # Eq. (3)
    truth_error = np.sqrt((weights[:, None] ** 2 * variances).sum(axis=0))  # Eq. (10)
    own = weights**2 * (1 - producers) ** 2 * np.diag(variances)
    others = (weights[:, None] ** 2 * variances).sum(axis=0) - weights**2 * np.diag(variances)
    spread = own + producers**2 * others  # Eq. (7)
    producers_error = np.sqrt(np.divide(spread, truth**2, out=np.zeros_like(truth), where=truth > 0))
    overall_error = math.sqrt(float((weights**2 * np.diag(variances)).sum()))  # Eq. (5)
    return AreaEstimate(
        n,
        mapped,
        proportions,
        _estimates(truth * mapped.sum(), truth_error * mapped.sum()),
        _estimates(users, np.sqrt(np.diag(variances))),
        _estimates(producers, producers_error),
        Estimate(float(right.sum()), overall_error),
    )


def allocate(areas: ArrayLike, total: int, least: int = 50) -> NDArray[np.int64]:
    """How many samples each class gets: at least ``least`` in a class, the rest by area (section 5.1.2 of the paper).

    With few samples in all, the least is an equal share. Classes without area get none.

    Args:
        areas: ``(q,)`` mapped areas.
        total: number of samples.
        least: fewest samples of a class.

    Raises:
        InputError: if there are fewer than two samples for a class.
    """
    mapped = np.asarray(areas, np.float64)
    there = mapped > 0
    if total < 2 * there.sum():
        raise InputError(f"{total} samples are too few for {there.sum()} classes; draw at least {2 * there.sum()}")
    least = min(least, total // max(int(there.sum()), 1))
    counts = np.where(there, least, 0)
    spare = total - counts.sum()
    # What a class has beyond its share is not taken away; the rest is dealt to those below theirs.
    wish = np.maximum(total * mapped / mapped.sum() - counts, 0)
    extra = np.floor(spare * wish / wish.sum()) if wish.sum() else np.zeros_like(wish)
    counts = counts + extra.astype(np.int64)
    counts[int(np.argmax(mapped))] += total - counts.sum()
    return np.asarray(counts, np.int64)


def _check(counts: NDArray[np.int64], areas: Array) -> None:
    q = len(areas)
    if areas.ndim != 1 or counts.shape != (q, q):
        raise ShapeError(f"{areas.shape} areas and samples of shape {counts.shape}; give q areas and q x q samples")
    if counts.min(initial=0) < 0 or not (areas >= 0).all() or not 0 < areas.sum() < math.inf:
        raise InputError("samples and areas must be 0 or more, and the areas finite and not all 0")
    few = [i for i in range(q) if areas[i] > 0 and counts[i].sum() < 2]
    if few:
        raise InputError(
            f"class {few[0]} of the map has {counts[few[0]].sum()} samples; label at least two in each mapped class"
        )


def _estimates(values: Array, errors: Array) -> tuple[Estimate, ...]:
    return tuple(Estimate(float(value), float(error)) for value, error in zip(values, errors, strict=True))
