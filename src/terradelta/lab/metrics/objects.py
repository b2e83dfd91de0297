"""Scores by the size of a change: each connected component of the label is one change.

Components join pixels that share a side (4-connectivity), as the polygons of `terradelta map` do. Every pixel lands in
one bin, so the bins add up to the global confusion matrix:

- TP and FN: the bin of the label's component that the pixel lies in.
- FP: a component of the prediction gives all its FP to the bin of the label's component with which it shares most
  pixels (the larger one among equals). If it shares none, it is a false alarm, and its own size names the bin.

Objects are counted beside the pixels. A change of the label is found if at least half of its pixels are predicted; a
predicted one is right if at least half of its pixels are changed. Recall goes by the size of the label's component,
precision by the size of the predicted one.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from terradelta.errors import ShapeError
from terradelta.receipt.evaluation_record import ObjectsRecord, SizeRecord

__all__ = ["SIZES_M2", "SIZES_PX", "SizeScores"]

SIZES_PX = (64.0, 256.0, 1024.0, 4096.0)
"""Borders between the bins, pixels."""
SIZES_M2 = (16.0, 64.0, 256.0, 1024.0)
"""Borders between the bins, square metres; the same as `SIZES_PX` at half a metre a pixel."""

_PIXELS = ("tp", "fp", "fn")
_OBJECTS = ("changes", "found", "predicted", "right")


class SizeScores:
    """Counts of pixels and objects by the size of the change, added up over images.

    Args:
        borders: sizes between the bins, ascending, in any unit; a size equal to a border belongs above it.
    """

    def __init__(self, borders: tuple[float, ...] = SIZES_PX) -> None:
        self.borders = borders
        self._counts = {name: np.zeros(len(borders) + 1, np.int64) for name in (*_PIXELS, *_OBJECTS)}

    def add(self, predicted: NDArray[np.bool_], label: NDArray[np.bool_], pixel_area: float = 1.0) -> None:
        """Count one image, both ``(H, W)``.

        Args:
            predicted: True where the model finds change.
            label: True where there is change.
            pixel_area: area of a pixel in the unit of the borders.

        Raises:
            ShapeError: if the shapes differ.
        """
        if predicted.shape != label.shape:
            raise ShapeError(f"prediction {predicted.shape} and label {label.shape} must have one shape")
        of_label, size, its_bin = self._components(label, pixel_area)
        of_prediction, predicted_size, own_bin = self._components(predicted, pixel_area)
        hit = np.bincount(of_label[predicted], minlength=len(size))
        right = np.bincount(of_prediction[label], minlength=len(predicted_size))
        hit[0] = right[0] = 0  # the background is no object
        partner = _partner(of_prediction, of_label, size, len(predicted_size))
        fp_bin = np.where(partner > 0, its_bin[partner], own_bin)
        self._add("tp", its_bin, hit)
        self._add("fn", its_bin, size - hit)
        self._add("fp", fp_bin, predicted_size - right)
        self._add("changes", its_bin, size > 0)
        self._add("found", its_bin, (size > 0) & (2 * hit >= size))
        self._add("predicted", own_bin, predicted_size > 0)
        self._add("right", own_bin, (predicted_size > 0) & (2 * right >= predicted_size))

    def _components(
        self, mask: NDArray[np.bool_], pixel_area: float
    ) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
        """Number of the component of each pixel (0: none), and size in pixels and bin of each; entry 0 is empty."""
        numbered, count = ndimage.label(mask)
        size = np.bincount(numbered.ravel(), minlength=count + 1)
        size[0] = 0
        return numbered, size, np.digitize(size * pixel_area, self.borders)

    def _add(self, name: str, bins: NDArray[np.int64], amounts: NDArray[Any]) -> None:
        np.add.at(self._counts[name], bins, amounts.astype(np.int64))

    def rows(self) -> tuple[SizeRecord, ...]:
        """One record a bin, small changes first."""
        lower, upper = (0.0, *self.borders), (*self.borders, None)
        return tuple(self._row(k, *limits) for k, limits in enumerate(zip(lower, upper, strict=True)))

    def _row(self, k: int, at_least: float, below: float | None) -> SizeRecord:
        tp, fp, fn = (int(self._counts[name][k]) for name in _PIXELS)
        changes, found, predicted, right = (int(self._counts[name][k]) for name in _OBJECTS)
        precision, recall, f1 = _scores(_share(tp, tp + fp), _share(tp, tp + fn))
        objects = ObjectsRecord(
            *(changes, found, predicted, right), *_scores(_share(right, predicted), _share(found, changes))
        )
        return SizeRecord(at_least, below, tp, fp, fn, precision, recall, f1, objects)


def _partner(
    of_prediction: NDArray[np.int32], of_label: NDArray[np.int32], size: NDArray[np.int64], predictions: int
) -> NDArray[np.int64]:
    """For each component of the prediction the one of the label that shares most pixels with it; 0 if none does."""
    both = (of_prediction > 0) & (of_label > 0)
    keys, shared = np.unique(of_prediction[both].astype(np.int64) * len(size) + of_label[both], return_counts=True)
    prediction, label = np.divmod(keys, len(size))
    order = np.lexsort((size[label], shared))  # the one that shares most comes last and stays
    partner = np.zeros(predictions, np.int64)
    partner[prediction[order]] = label[order]
    return partner


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _scores(precision: float, recall: float) -> tuple[float, float, float]:
    """Precision, recall and F1."""
    return precision, recall, 2 * precision * recall / (precision + recall) if precision + recall else 0.0
