"""IR-MAD: iteratively reweighted multivariate alteration detection.

A. A. Nielsen, "The regularized iteratively reweighted MAD method for change detection in multi- and hyperspectral
data", IEEE Transactions on Image Processing 16(2), 2007; after A. A. Nielsen, K. Conradsen & J. J. Simpson,
"Multivariate alteration detection (MAD) and MAF postprocessing", Remote Sensing of Environment 64, 1998.

Canonical correlation pairs up the bands of both dates: the differences of the pairs, the MAD variates, are
uncorrelated, and their sum of squares follows a chi-square distribution where nothing changed. Pixels that look
changed lose weight, and the correlation is computed anew. Gain, offset and any mixture of the bands of a date leave
the result as it is.

Regularisation: directions whose variance is below a millionth of the largest, among standardised bands, are left
out. Unlike a penalty this keeps the invariance where no band is redundant.

Shapes: C bands, K pairs of canonical variates, n pixels of a sample, (B, H, W) a batch of tiles.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from terradelta.card import ModelCard
from terradelta.errors import InputError, RasterError
from terradelta.predict.classical.method import FittedMethod, Method
from terradelta.predict.classical.split import Split, fit_split
from terradelta.predict.classical.statistics import Dates

__all__ = ["FittedIrMad", "IrMad", "IrMadFit", "Mad", "fit_irmad", "fit_mad"]

REDUNDANT = 1e-6
SMALLEST_VARIANCE = 1e-6
"""Of a MAD variate: that of two equal dates is 0 but for rounding."""
PIXELS_A_BAND = 10
PIECE_PX = 1 << 14
"""Pixels that are transformed at once: they stay in the cache."""


@dataclass(frozen=True)
class IrMad(Method):
    """Change that no linear mapping of the bands explains.

    Raises:
        InputError: if a parameter is out of its range.
    """

    threshold: Literal["em", "otsu", "significance"] = "em"
    """How change is told from the square root of chi-square. ``em`` and ``otsu`` as for CVA. ``significance``: where
    p, the probability of so large a value without change, is at most ``significance``; the output is
    ``significance / (significance + p)``, which is no calibrated probability of change. Real noise has longer tails
    than Gaussian noise, so a significance marks much of a scene where the other two adapt."""
    significance: float = 1e-8
    """See ``threshold``; above 0 and below 1."""
    smallest_share: float = 0.05
    """Iteration ends before the mean weight falls below this: the correlation would rest on ever fewer pixels, which
    in the end are equal on both dates, and call all others changed."""
    tolerance: float = 1e-3
    """Stop when no canonical correlation moves by more than this."""
    max_iterations: int = 50
    """Stop at the latest after so many canonical correlations; 1 is MAD without reweighting."""

    name: ClassVar[str] = "irmad"
    year: ClassVar[int] = 2007
    summary: ClassVar[str] = "iteratively reweighted MAD: change that no linear mapping of the bands explains"
    paper: ClassVar[str] = (
        "A. A. Nielsen, The regularized iteratively reweighted MAD method for change detection in multi- and "
        "hyperspectral data, IEEE TIP 16(2), 2007, doi:10.1109/TIP.2006.888195"
    )

    def __post_init__(self) -> None:
        if self.threshold not in ("em", "otsu", "significance"):
            raise InputError(f"threshold is {self.threshold!r}; IR-MAD takes 'em', 'otsu' or 'significance'")
        if not (0 < self.significance < 1 and 0 <= self.smallest_share < 1):
            raise InputError(
                f"significance is {self.significance} and smallest_share {self.smallest_share}; "
                "both must be below 1, the first above 0, the second 0 or more"
            )
        if self.tolerance <= 0 or self.max_iterations < 1:
            raise InputError(
                f"tolerance is {self.tolerance} and max_iterations {self.max_iterations}; "
                "the tolerance must be above 0, and 1 iteration or more"
            )

    @property
    def splits(self) -> bool:
        """Not by ``significance``, which is a test of its own."""
        return self.threshold != "significance"

    def feature_count(self, bands: int) -> int:
        """2 C: all bands of both dates."""
        return 2 * bands

    def features(self, dates: Dates, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        """All bands of both dates: ``(C, h, w) x 2 -> (h, w, 2 C)``."""
        return np.moveaxis(np.concatenate([before, after]), 0, 2)

    def learn(self, card: ModelCard, dates: Dates, sample: NDArray[np.float32]) -> "FittedIrMad":
        """Iterate on a sample ``(n, 2 C)``.

        Raises:
            RasterError: if there are fewer than 20 C pixels, or no band varies on one date.
        """
        bands = sample.shape[1] // 2
        if len(sample) < PIXELS_A_BAND * 2 * bands:
            raise RasterError(
                f"IR-MAD of {bands} bands needs {PIXELS_A_BAND * 2 * bands} valid pixels or more, but the pair has "
                f"{len(sample)}; give a larger area, fewer bands, or another method"
            )
        x, y = sample[:, :bands].astype(np.float64), sample[:, bands:].astype(np.float64)
        fit = fit_irmad(x, y, self)
        freedom = len(fit.mad.rho)
        split = (
            Significance(self.significance, freedom)
            if self.threshold == "significance"
            else fit_split(np.sqrt(fit.mad.chi_square(x, y)), self.threshold)
        )
        record = {
            "sample_px": len(sample),
            "canonical_correlations": fit.mad.rho.tolist(),
            "first_canonical_correlations": fit.first_rho.tolist(),
            "degrees_of_freedom": freedom,
            "iterations": fit.iterations,
            "ended": fit.ended,
            "mean_weight": fit.mean_weight,
            **split.record(),
        }
        return FittedIrMad(card.replace(training={**card.training, **record}), dates, fit.mad, split)


class FittedIrMad(FittedMethod):
    """IR-MAD with its canonical vectors.

    Args:
        card: see `FittedMethod`.
        dates: see `FittedMethod`.
        mad: the last MAD transformation.
        split: where the square root of chi-square parts the classes.
    """

    def __init__(self, card: ModelCard, dates: Dates, mad: "Mad", split: Split) -> None:
        super().__init__(card, dates)
        self._mad, self._split = mad, split

    def log_odds(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        """Log odds of change: ``(B, C, H, W) x 2 -> (B, 1, H, W)``."""
        shape = (len(before), 1, *before.shape[2:])
        x, y = (values.reshape(*values.shape[:2], -1) for values in (before, after))
        return self._split.log_odds(np.stack([self._mad.root(*each) for each in zip(x, y, strict=True)]).reshape(shape))


@dataclass(frozen=True)
class Significance:
    """A significance level of chi-square as even odds; a `Split` of the square root of chi-square."""

    level: float
    """Probability p at which the odds are even."""
    freedom: int
    """Degrees of freedom, K."""

    def log_odds(self, magnitude: NDArray[np.float32]) -> NDArray[np.float32]:
        """log(level) - log(p), of the shape of ``magnitude``."""
        log_p = log_no_change(np.square(magnitude.astype(np.float64)), self.freedom)
        return np.asarray(np.log(self.level) - log_p, np.float32)

    def record(self) -> dict[str, object]:
        """The numbers for a receipt."""
        return {"chi_square_threshold": float(chi2.isf(self.level, self.freedom))}


def log_no_change(chi_square: NDArray[np.float64], freedom: int) -> NDArray[np.float64]:
    """Logarithm of P(chi-square with so many degrees of freedom > value), of the same shape; 0 or less.

    Values above freedom + 1000 count as that, whose probability is still a number above 0.
    """
    return np.asarray(np.log(chi2.sf(np.minimum(chi_square, freedom + 1000), freedom)), np.float64)


@dataclass(frozen=True, eq=False)
class Mad:
    """One MAD transformation: M = aᵀ(x - mean x) - bᵀ(y - mean y)."""

    a: NDArray[np.float64]
    """``(C, K)`` canonical vectors of the first date, by falling correlation."""
    b: NDArray[np.float64]
    """``(C, K)`` of the second date."""
    mean_x: NDArray[np.float64]
    """``(C,)`` weighted mean."""
    mean_y: NDArray[np.float64]
    """``(C,)``"""
    rho: NDArray[np.float64]
    """``(K,)`` canonical correlations in [0, 1], falling."""

    def variates(self, x: NDArray[np.floating], y: NDArray[np.floating]) -> NDArray[np.float64]:
        """MAD variates: pixels ``(n, C) x 2 -> (n, K)``."""
        return np.asarray((x - self.mean_x) @ self.a - (y - self.mean_y) @ self.b, np.float64)

    def root(self, x: NDArray[np.floating], y: NDArray[np.floating]) -> NDArray[np.float32]:
        """Square root of `chi_square` for bands one after the other: ``(C, n) x 2 -> (n,)``."""
        weight = 1 / np.sqrt(np.maximum(2 * (1 - self.rho), SMALLEST_VARIANCE))
        a, b = self.a.T * weight[:, None], self.b.T * weight[:, None]
        found = np.empty(x.shape[1], np.float32)
        for start in range(0, x.shape[1], PIECE_PX):
            piece = np.s_[:, start : start + PIECE_PX]
            # Not by BLAS, which wakes all cores for so little and lets them wait for the next piece.
            variates = np.einsum("kc,cn->kn", a, x[piece] - self.mean_x[:, None])
            variates -= np.einsum("kc,cn->kn", b, y[piece] - self.mean_y[:, None])
            found[start : start + PIECE_PX] = np.sqrt(np.einsum("kn,kn->n", variates, variates))
        return found

    def chi_square(self, x: NDArray[np.floating], y: NDArray[np.floating]) -> NDArray[np.float64]:
        """Sum of the variates' squares over their variance 2 (1 - rho): ``(n, C) x 2 -> (n,)``."""
        variance = np.maximum(2 * (1 - self.rho), SMALLEST_VARIANCE)
        return np.asarray((self.variates(x, y) ** 2 / variance).sum(axis=1), np.float64)


def fit_mad(x: NDArray[np.float64], y: NDArray[np.float64], weights: NDArray[np.float64]) -> Mad:
    """Canonical correlation of weighted pixels.

    Args:
        x: ``(n, C)`` bands of the first date.
        y: ``(n, C)`` bands of the second.
        weights: ``(n,)``, 0 or more.

    Raises:
        RasterError: if no band varies on one date.
    """
    share = (weights / weights.sum())[:, None]
    mean_x, mean_y = (share * x).sum(axis=0), (share * y).sum(axis=0)
    x, y = x - mean_x, y - mean_y
    white_x, white_y = _whitening(x.T @ (share * x)), _whitening(y.T @ (share * y))
    # Whitened, the generalised eigenproblem Sxy Syy^-1 Syx a = rho^2 Sxx a is a singular value decomposition.
    u, rho, vt = np.linalg.svd(white_x.T @ (x.T @ (share * y)) @ white_y, full_matrices=False)
    return Mad(white_x @ u, white_y @ vt.T, mean_x, mean_y, np.clip(rho, 0.0, 1.0))


def _whitening(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(C, K)`` with ``wᵀ covariance w = 1``; redundant directions are left out."""
    variance = np.diag(covariance)
    varies = variance > 0
    if not varies.any():
        raise RasterError(
            "every band is constant on one date, so IR-MAD has nothing to correlate; check the images, or use cva"
        )
    inverse = np.divide(1.0, np.sqrt(variance), out=np.zeros_like(variance), where=varies)
    values, vectors = np.linalg.eigh(covariance * np.outer(inverse, inverse))
    kept = values > REDUNDANT * values[-1]
    return np.asarray(inverse[:, None] * vectors[:, kept] / np.sqrt(values[kept]), np.float64)


@dataclass(frozen=True, eq=False)
class IrMadFit:
    """How the iteration went."""

    mad: Mad
    """The last transformation."""
    first_rho: NDArray[np.float64]
    """``(K,)`` canonical correlations without weights."""
    iterations: int
    """Canonical correlations that were computed."""
    mean_weight: float
    """Mean weight of the pixels in the last of them."""
    ended: str
    """``converged``, ``smallest share`` or ``iterations``."""


def fit_irmad(x: NDArray[np.float64], y: NDArray[np.float64], method: IrMad) -> IrMadFit:
    """Repeat MAD with each pixel weighted by its probability of no change.

    Args:
        x: ``(n, C)`` bands of the first date.
        y: ``(n, C)`` bands of the second.
        method: when to end.

    Raises:
        RasterError: if no band varies on one date.
    """
    mad, share, ended = fit_mad(x, y, np.ones(len(x))), 1.0, "iterations"
    first_rho, iterations = mad.rho, 1
    while iterations < method.max_iterations:
        weights = np.exp(log_no_change(mad.chi_square(x, y), len(mad.rho)))
        if weights.mean() < max(method.smallest_share, 2 * PIXELS_A_BAND * x.shape[1] / len(x)):
            ended = "smallest share"
            break
        old, mad, share = mad.rho, fit_mad(x, y, weights), float(weights.mean())
        iterations += 1
        if len(old) == len(mad.rho) and np.abs(mad.rho - old).max() <= method.tolerance:
            ended = "converged"
            break
    return IrMadFit(mad, first_rho, iterations, share, ended)
