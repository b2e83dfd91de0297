"""The histogram of probabilities that gives the scores at any threshold."""

from typing import Self

import numpy as np
from numpy.typing import NDArray

from terradelta.errors import ShapeError
from terradelta.lab.metrics.confusion import Confusion, metrics_of

__all__ = ["ProbabilityHistogram"]


class ProbabilityHistogram:
    """How many changed and unchanged pixels have which probability: all thresholds at once, in constant memory.

    Thresholds are multiples of ``1 / bins``; a pixel counts as changed from the threshold on, exactly as in
    ``probability >= threshold``. A probability that is not a number never does.
    """

    def __init__(self, bins: int = 1000) -> None:
        self.bins = bins
        self._thresholds = (np.arange(1, bins + 1) / bins).astype(np.float32)
        self._counts = np.zeros((2, bins + 1), np.int64)  # (unchanged | changed, thresholds reached)

    @classmethod
    def of(cls, pixels: NDArray[np.integer]) -> Self:
        """The histogram that has these `pixels`, ``(2, bins + 1)``."""
        made = cls(pixels.shape[1] - 1)
        made._counts = pixels.astype(np.int64)
        return made

    @property
    def pixels(self) -> NDArray[np.int64]:
        """Numbers of pixels, unchanged and changed, by how many thresholds their probability reaches."""
        return self._counts.copy()

    def __add__(self, other: "ProbabilityHistogram") -> "ProbabilityHistogram":
        if self.bins != other.bins:
            raise ShapeError(f"histograms of {self.bins} and {other.bins} bins cannot be added")
        return ProbabilityHistogram.of(self._counts + other._counts)

    def add(
        self, probability: NDArray[np.float32], label: NDArray[np.bool_], valid: NDArray[np.bool_] | None = None
    ) -> None:
        """Count the pixels of one image.

        Args:
            probability: ``(H, W)``, in [0, 1].
            label: ``(H, W)``.
            valid: ``(H, W)``; pixels that are False do not count.

        Raises:
            ShapeError: if the shapes differ.
        """
        if probability.shape != label.shape or (valid is not None and valid.shape != label.shape):
            raise ShapeError(f"probability {probability.shape}, label {label.shape} and valid mask must have one shape")
        if valid is not None:
            probability, label = probability[valid], label[valid]
        cell = np.searchsorted(self._thresholds, np.nan_to_num(probability, nan=-1.0).ravel(), side="right")
        label = label.ravel()
        for row, mask in enumerate((~label, label)):
            self._counts[row] += np.bincount(cell[mask], minlength=self.bins + 1)

    def confusion(self, threshold: float) -> Confusion:
        """The confusion matrix at a threshold, rounded to the next multiple of ``1 / bins``."""
        cut = round(threshold * self.bins)
        (tn, fp), (fn, tp) = ((int(row[:cut].sum()), int(row[cut:].sum())) for row in self._counts)
        return Confusion(tp, fp, fn, tn)

    def best_threshold(self, metric: str = "f1") -> float:
        """The threshold in (0, 1) of the highest score; the one nearest 0.5 among equals.

        Args:
            metric: one of `METRICS`. That of F1 is also that of the IoU of the changed class, which rises with it.
        """
        scores = metrics_of(self.counts())[metric][:-1]
        best = np.arange(1, self.bins)[scores >= scores.max() - 1e-12]
        return float(best[np.abs(best - self.bins / 2).argmin()] / self.bins)

    def threshold_at(self, metric: str, least: float) -> float | None:
        """The threshold in (0, 1) of the highest F1 among those where ``metric`` is ``least`` or more; None if none is.

        Args:
            metric: ``precision`` or ``recall``.
            least: what it must reach, a fraction.
        """
        scores = {name: values[:-1] for name, values in metrics_of(self.counts()).items()}
        reached = (scores[metric] >= least) & (scores["f1"] > 0)
        if not reached.any():
            return None
        return float((np.where(reached, scores["f1"], -1).argmax() + 1) / self.bins)

    def counts(self) -> NDArray[np.int64]:
        """Confusion matrices ``(bins, 4)`` TP, FP, FN, TN at the thresholds ``1 / bins, 2 / bins, ..., 1``."""
        reached = self._counts[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]
        (fp, tp), (unchanged, changed) = reached, self._counts.sum(axis=1)
        return np.stack([tp, fp, changed - tp, unchanged - fp], axis=1)
