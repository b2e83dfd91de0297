"""Scores of the changed class from one confusion matrix, or from many at once."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terradelta.errors import ShapeError

__all__ = ["METRICS", "Confusion", "confusion", "metrics_of"]

METRICS = ("precision", "recall", "f1", "iou_changed", "miou", "oa", "kappa")
"""The scores' names in receipts."""


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
        return {name: getattr(self, name) for name in METRICS}

    def as_tuple(self) -> tuple[int, int, int, int]:
        """(TP, FP, FN, TN)."""
        return self.tp, self.fp, self.fn, self.tn


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


def metrics_of(counts: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
    """`Confusion.metrics` of many confusion matrices at once.

    Args:
        counts: ``(..., 4)`` TP, FP, FN, TN in pixels.

    Returns:
        For each name an array of shape ``(...)``, fractions.
    """
    tp, fp, fn, tn = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    total = tp + fp + fn + tn
    oa, iou_changed = _ratios(tp + tn, total), _ratios(tp, tp + fp + fn)
    chance = _ratios((tp + fp) * (tp + fn) + (tn + fp) * (tn + fn), total**2)
    return {
        "precision": _ratios(tp, tp + fp),
        "recall": _ratios(tp, tp + fn),
        "f1": _ratios(2 * tp, 2 * tp + fp + fn),
        "iou_changed": iou_changed,
        "miou": (iou_changed + _ratios(tn, tn + fp + fn)) / 2,
        "oa": oa,
        "kappa": _ratios(oa - chance, np.where(total > 0, 1 - chance, 0)),
    }


def _ratios(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator != 0)
