"""Where a magnitude of change parts the changed pixels from the others: a mixture of Gaussians, or Otsu's threshold.

L. Bruzzone & D. Fernandez Prieto, "Automatic analysis of the difference image for unsupervised change detection", IEEE
Transactions on Geoscience and Remote Sensing 38(3), 2000. N. Otsu, "A threshold selection method from gray-level
histograms", IEEE Transactions on Systems, Man and Cybernetics 9(1), 1979.

Shapes: n pixels of a sample; magnitudes to be judged have any shape.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from skimage.filters import threshold_otsu

__all__ = ["Mixture", "Otsu", "Split", "fit_mixture", "fit_split", "otsu"]

OTSU_BINS = 1024


class Split(Protocol):
    """Two classes of magnitudes."""

    def log_odds(self, magnitude: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logarithm of the odds of change, of the shape of ``magnitude``; never falls with it; 0 at the threshold."""

    def record(self) -> dict[str, object]:
        """The numbers for a receipt."""


def fit_split(magnitude: NDArray[np.float64], kind: str) -> Split:
    """Split a sample ``(n,)``, n 1 or more, by ``em`` or ``otsu``."""
    cut, scale = otsu(magnitude)
    return fit_mixture(magnitude, cut) if kind == "em" else Otsu(cut, scale)


@dataclass(frozen=True)
class Otsu:
    """Otsu's threshold as the middle of a logistic function, which is no calibrated probability."""

    threshold: float
    """Magnitude at which the odds are even."""
    scale: float
    """Magnitude that is one unit of the log odds: the standard deviation within the two classes."""

    def log_odds(self, magnitude: NDArray[np.float32]) -> NDArray[np.float32]:
        """(magnitude - threshold) / scale, of the shape of ``magnitude``."""
        return np.asarray((magnitude - self.threshold) / self.scale, np.float32)

    def record(self) -> dict[str, object]:
        """The numbers for a receipt."""
        return {"otsu_threshold": self.threshold, "otsu_scale": self.scale}


def otsu(magnitude: NDArray[np.float64]) -> tuple[float, float]:
    """Otsu's threshold of magnitudes ``(n,)``, and the standard deviation within the two classes, above 0.

    Where all magnitudes are equal nothing stands out: the threshold is then one standard deviation of the bands above
    them.
    """
    low, high = float(magnitude.min()), float(magnitude.max())
    if high - low <= 1e-6 * max(1.0, high):
        return high + 1.0, 0.1
    cut = float(threshold_otsu(magnitude, nbins=OTSU_BINS))
    above = magnitude > cut
    within = sum(float(part.var()) * part.size for part in (magnitude[above], magnitude[~above]) if part.size)
    return cut, max(float(np.sqrt(within / magnitude.size)), 1e-3 * (high - low))


@dataclass(frozen=True)
class Mixture:
    """Two Gaussians; index 0 is unchanged, 1 is changed and has the larger mean."""

    weight: tuple[float, float]
    mean: tuple[float, float]
    std: tuple[float, float]
    iterations: int
    """Iterations of expectation maximisation."""

    def log_odds(self, magnitude: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logarithm of P(changed) / P(unchanged), of the shape of ``magnitude``; it never falls with the magnitude.

        A wide Gaussian wins on both sides of a narrow one. So a magnitude below the unchanged mean counts as that
        mean, and one above the changed mean as that, if the changed class is the narrow one.
        """
        top = self.mean[1] if self.std[1] < self.std[0] else np.inf
        x = np.clip(magnitude.astype(np.float64), self.mean[0], top)
        unchanged, changed = (
            np.log(w / s) - 0.5 * ((x - m) / s) ** 2 for w, m, s in zip(self.weight, self.mean, self.std, strict=True)
        )
        return np.asarray(changed - unchanged, np.float32)

    def threshold(self) -> float:
        """The magnitude at which both classes are equally likely, by bisection; beyond the changed mean if none is."""
        low, high = self.mean[0], self.mean[1] + 8 * self.std[1]
        for _ in range(60):
            middle = (low + high) / 2
            changed = self.log_odds(np.array([middle], np.float64).astype(np.float32))[0] >= 0
            low, high = (low, middle) if changed else (middle, high)
        return high

    def record(self) -> dict[str, object]:
        """The numbers for a receipt."""
        return {
            "em_threshold": self.threshold(),
            "em_weights": list(self.weight),
            "em_means": list(self.mean),
            "em_stds": list(self.std),
            "em_iterations": self.iterations,
        }


def fit_mixture(
    values: NDArray[np.float64], cut: float, *, tolerance: float = 1e-6, max_iterations: int = 500
) -> Mixture:
    """Expectation maximisation of two Gaussians, as in Bruzzone & Fernandez Prieto 2000.

    Args:
        values: ``(n,)``.
        cut: where to split for the first guess; where one side is empty, the split is all that is known.
        tolerance: stop when no mean moves by more than this share of the standard deviation of all values.
        max_iterations: stop at the latest after so many.
    """
    spread = max(float(values.std()), 1e-3)
    floor = 1e-4 * spread**2
    share = (values > cut).astype(np.float64)  # of the changed class in each value
    if not 0 < share.sum() < share.size:
        mean = float(values.mean())
        return Mixture((0.5, 0.5), (mean, max(2 * cut - mean, mean + spread)), (spread, spread), 0)
    means, iteration = np.zeros(2), 0
    while iteration < max_iterations:
        iteration += 1
        total = np.array([share.size - share.sum(), share.sum()])
        sums = np.array([values.sum() - share @ values, share @ values])
        old, means = means, sums / total  # mu_k = sum p_k x / sum p_k
        weights = total / share.size  # P_k = sum p_k / n
        variances = np.array([(1 - share) @ (values - means[0]) ** 2, share @ (values - means[1]) ** 2]) / total
        variances = np.maximum(variances, floor)  # var_k = sum p_k (x - mu_k)^2 / sum p_k
        if iteration > 1 and np.abs(means - old).max() <= tolerance * spread:
            break
        logs = np.log(weights) - 0.5 * np.log(variances) - 0.5 * (values[:, None] - means) ** 2 / variances
        share = 1 / (1 + np.exp(np.clip(logs[:, 0] - logs[:, 1], -700, 700)))
        if not 1e-9 < share.mean() < 1 - 1e-9:  # one class took all: keep the last two
            break
    first, second = (0, 1) if means[0] <= means[1] else (1, 0)
    stds = np.sqrt(variances)
    return Mixture(
        (float(weights[first]), float(weights[second])),
        (float(means[first]), float(means[second])),
        (float(stds[first]), float(stds[second])),
        iteration,
    )
