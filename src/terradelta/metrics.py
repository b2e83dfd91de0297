"""Scores of the changed class from one global confusion matrix, and the histogram that gives them at any threshold."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from terradelta.errors import ShapeError

__all__ = ["Confusion", "ProbabilityHistogram", "confusion"]


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else 0.0


@dataclass(frozen=True)
class Confusion:
    """Counts of pixels; positive = changed. A ratio with nothing below the line is 0."""

    tp: int = 0
    fp: int = 0
    fn: int = 0
    tn: int = 0

    def __add__(self, other: "Confusion") -> "Confusion":
        return Confusion(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.tn + other.tn)

    @property
    def total(self) -> int:
        """Number of pixels."""
        return self.tp + self.fp + self.fn + self.tn

    @property
    def precision(self) -> float:
        """TP / (TP + FP)."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """TP / (TP + FN)."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall of the changed class."""
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def iou_changed(self) -> float:
        """Intersection over union of the changed class; MCCRNet Eq. (20)."""
        return _ratio(self.tp, self.tp + self.fp + self.fn)

    @property
    def miou(self) -> float:
        """Mean of the IoU of both classes: what the tables of MCCRNet print as mIOU."""
        return (self.iou_changed + _ratio(self.tn, self.tn + self.fp + self.fn)) / 2

    @property
    def oa(self) -> float:
        """Overall accuracy: the share of pixels that are right."""
        return _ratio(self.tp + self.tn, self.total)

    @property
    def kappa(self) -> float:
        """Cohen's kappa."""
        if not self.total:
            return 0.0
        changed = (self.tp + self.fp) * (self.tp + self.fn)
        unchanged = (self.tn + self.fp) * (self.tn + self.fn)
        chance = (changed + unchanged) / self.total**2
        return _ratio(self.oa - chance, 1 - chance)

    def metrics(self) -> dict[str, float]:
        """The scores under their receipt names, as fractions."""
        names = ("precision", "recall", "f1", "iou_changed", "miou", "oa", "kappa")
        return {name: getattr(self, name) for name in names}


def confusion(
    predicted: NDArray[np.bool_], label: NDArray[np.bool_], valid: NDArray[np.bool_] | None = None
) -> Confusion:
    """Count the pixels of two masks of one shape; pixels that are not ``valid`` do not count.

    Raises:
        ShapeError: if the shapes differ.
    """
    if predicted.shape != label.shape or (valid is not None and valid.shape != label.shape):
        raise ShapeError(f"prediction {predicted.shape}, label {label.shape} and valid mask must have one shape")
    if valid is not None:
        predicted, label = predicted[valid], label[valid]
    counts = np.bincount((2 * label.astype(np.uint8) + predicted).ravel(), minlength=4)
    tn, fp, fn, tp = (int(n) for n in counts)
    return Confusion(tp, fp, fn, tn)


class ProbabilityHistogram:
    """How many changed and unchanged pixels have which probability: all thresholds at once, in constant memory.

    Thresholds are multiples of ``1 / bins``; a pixel counts as changed from the threshold on, exactly as in
    ``probability >= threshold``. A probability that is not a number never does.
    """

    def __init__(self, bins: int = 1000) -> None:
        self.bins = bins
        self._thresholds = (np.arange(1, bins + 1) / bins).astype(np.float32)
        self._counts = np.zeros((2, bins + 1), np.int64)  # (unchanged | changed, thresholds reached)

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

    def best_threshold(self) -> float:
        """The threshold in (0, 1) of the highest F1; the one nearest 0.5 among equals."""
        cuts = np.arange(1, self.bins)
        tp = self._counts[1, ::-1].cumsum()[::-1][cuts]
        fp = self._counts[0, ::-1].cumsum()[::-1][cuts]
        fn = self._counts[1].sum() - tp
        f1 = 2 * tp / np.maximum(2 * tp + fp + fn, 1)
        best = cuts[f1 >= f1.max() - 1e-12]
        return float(best[np.abs(best - self.bins / 2).argmin()] / self.bins)
