"""Calibration: whether of the pixels with a probability of 0.3 three in ten have changed, and what mends it.

C. Guo, G. Pleiss, Y. Sun & K. Q. Weinberger, "On calibration of modern neural networks", ICML 2017: reliability
diagram, expected calibration error (ECE, Eq. 3), temperature scaling. J. Platt, "Probabilistic outputs for support
vector machines", 1999: a bias beside the temperature.

Probabilities are counted in narrow bins of their logit, so memory is constant and nothing is sampled. A bin keeps the
sums of the logits of its changed and unchanged pixels; within a bin of 0.02 the mean stands for all of them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terradelta.errors import DataError, ShapeError
from terradelta.receipt.evaluation_record import ReliabilityRecord

__all__ = ["RELIABILITY_BINS", "LogitHistogram", "LogitScaling"]

RELIABILITY_BINS = 15
"""Bins of the reliability diagram, of equal width in probability; as in Guo et al."""
_LIMIT, _STEP = 16.0, 0.02  # float32 probabilities near 1 know no larger logit
_SLOPES, _BIASES = (0.01, 100.0), (-20.0, 20.0)

Values = NDArray[np.float64]


@dataclass(frozen=True)
class LogitScaling:
    """New logit = ``slope`` * logit + ``bias``; a temperature is 1 / slope."""

    slope: float = 1.0
    bias: float = 0.0

    def apply(self, probability: float) -> float:
        """A probability in (0, 1), or a threshold, on the new scale."""
        return float(_sigmoid(self.slope * _logit(np.array(probability)) + self.bias))


class LogitHistogram:
    """How many changed and unchanged pixels have which logit, in constant memory.

    Logits are kept within -16 and 16; a probability that is not a number is left out.
    """

    def __init__(self) -> None:
        fine = np.arange(-_LIMIT, _LIMIT + _STEP / 2, _STEP)
        borders = np.arange(1, RELIABILITY_BINS) / RELIABILITY_BINS
        self._edges = np.union1d(fine, _logit(borders))  # so that each fine bin lies in one of the diagram's
        self._counts = np.zeros((2, len(self._edges) + 1), np.int64)  # (unchanged | changed, bins)
        self._sums = np.zeros(self._counts.shape)  # of logits

    def add(self, probability: NDArray[Any], label: NDArray[np.bool_]) -> None:
        """Count the pixels of one image: probabilities in [0, 1] and label, both ``(H, W)``.

        Raises:
            ShapeError: if the shapes differ.
        """
        if probability.shape != label.shape:
            raise ShapeError(f"probability {probability.shape} and label {label.shape} must have one shape")
        known = ~np.isnan(probability)
        logit, changed = _logit(probability[known].astype(np.float64)), label[known]
        cell = np.searchsorted(self._edges, logit, side="right")
        for row, mask in enumerate((~changed, changed)):
            self._counts[row] += np.bincount(cell[mask], minlength=self._counts.shape[1])
            self._sums[row] += np.bincount(cell[mask], logit[mask], minlength=self._counts.shape[1])

    @property
    def total(self) -> int:
        """Number of pixels."""
        return int(self._counts.sum())

    def _logits(self, scaling: LogitScaling) -> Values:
        """Mean logit ``(2, bins)`` of the unchanged and changed pixels of each bin, after the scaling."""
        mean = np.divide(self._sums, self._counts, out=np.zeros_like(self._sums), where=self._counts > 0)
        return np.asarray(scaling.slope * mean + scaling.bias)

    def reliability(self, scaling: LogitScaling = LogitScaling()) -> tuple[ReliabilityRecord, ...]:
        """The reliability diagram: one record for each bin that has pixels."""
        probability = _sigmoid(self._logits(scaling))
        cell = np.minimum((probability * RELIABILITY_BINS + 1e-9).astype(np.int64), RELIABILITY_BINS - 1)
        pixels, sums = np.zeros((2, RELIABILITY_BINS)), np.zeros(RELIABILITY_BINS)
        for row in range(2):
            np.add.at(pixels[row], cell[row], self._counts[row])
            np.add.at(sums, cell[row], self._counts[row] * probability[row])
        rows = []
        for k in np.flatnonzero(pixels.sum(axis=0)):
            count = pixels[:, k].sum()
            rows.append(
                ReliabilityRecord(
                    at_least=float(k / RELIABILITY_BINS),
                    below=float((k + 1) / RELIABILITY_BINS),
                    pixels=int(count),
                    mean_probability=float(sums[k] / count),
                    changed=float(pixels[1, k] / count),
                )
            )
        return tuple(rows)

    def scores(self, scaling: LogitScaling = LogitScaling()) -> dict[str, float]:
        """``ece``, ``brier``, ``nll`` (nats a pixel), and the shares ``mean_probability`` and ``changed``."""
        total = max(self.total, 1)
        rows = self.reliability(scaling)
        logits = self._logits(scaling)
        probability, truth = _sigmoid(logits), np.array([[0.0], [1.0]])
        return {
            "ece": sum(row.pixels * abs(row.mean_probability - row.changed) for row in rows) / total,
            "brier": float((self._counts * (probability - truth) ** 2).sum() / total),
            "nll": float((self._counts * np.logaddexp(0, (1 - 2 * truth) * logits)).sum() / total),
            "mean_probability": float((self._counts * probability).sum() / total),
            "changed": float(self._counts[1].sum() / total),
        }

    def precision_recall(self) -> NDArray[np.float64]:
        """The precision-recall curve ``(points, 3)``: threshold, recall, precision; from the highest threshold down."""
        tp, fp = (self._counts[row, ::-1].cumsum() for row in (1, 0))
        kept = self._counts.sum(axis=0)[::-1] > 0
        lower = np.concatenate([[0.0, 0.0], _sigmoid(self._edges[1:])])[::-1]  # what was clipped begins at 0
        recall, precision = tp / max(int(self._counts[1].sum()), 1), tp / np.maximum(tp + fp, 1)
        return np.asarray(np.stack([lower, recall, precision], axis=1)[kept])

    def average_precision(self) -> float:
        """Area under the precision-recall curve, as the sum of precision times the step of recall."""
        curve = self.precision_recall()
        return float((np.diff(curve[:, 1], prepend=0.0) * curve[:, 2]).sum())

    def fit(self, *, with_bias: bool = True) -> LogitScaling:
        """The scaling of the smallest negative log-likelihood: temperature and bias, or the temperature alone.

        Raises:
            DataError: if not both classes are there, or the probabilities do not rise with the share of change.
        """
        if not self._counts.sum(axis=1).all():
            raise DataError(
                "calibration needs changed and unchanged pixels; this split has only one kind. Use another split"
            )
        from scipy.optimize import minimize  # slow to import, and mapping needs none of it

        logits, sign, weight = self._logits(LogitScaling()), np.array([[1.0], [-1.0]]), self._counts / self.total

        def loss(parameters: Values) -> tuple[float, Values]:
            slope, bias = parameters
            margin = sign * (slope * logits + bias)
            pull = weight * sign * _sigmoid(margin)
            return float((weight * np.logaddexp(0, margin)).sum()), np.array([(pull * logits).sum(), pull.sum()])

        bounds = [_SLOPES, _BIASES if with_bias else (0.0, 0.0)]
        found = minimize(
            loss, (1.0, 0.0), jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-15, "gtol": 1e-9}
        )
        slope, bias = map(float, found.x)
        if slope <= _SLOPES[0] * 1.001:
            raise DataError(
                "the model's probabilities do not rise with the share of changed pixels on this split, so no "
                "temperature can calibrate them; train the model, or calibrate on data like its own"
            )
        return LogitScaling(slope, bias)


def _logit(probability: Values) -> Values:
    """Logit of probabilities in [0, 1], kept within the limit."""
    edge = 1 / (1 + np.exp(_LIMIT))
    inside = np.clip(probability, edge, 1 - edge)
    return np.log(inside) - np.log1p(-inside)


def _sigmoid(logit: Values) -> Values:
    return np.asarray(0.5 * np.tanh(0.5 * logit) + 0.5)
