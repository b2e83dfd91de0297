"""Boundary F1: how well the outlines of the changes agree, within a tolerance in pixels.

G. Csurka, D. Larlus & F. Perronnin, "What is a good evaluation measure for semantic segmentation?", British Machine
Vision Conference 2013. Deviation: the paper averages over images; here the pixels of all images are counted together,
as in the global confusion matrix.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, distance_transform_edt

from terradelta.errors import ShapeError
from terradelta.receipt.evaluation_record import BoundaryRecord

__all__ = ["BoundaryScores", "boundary"]

Mask = NDArray[np.bool_]


def boundary(mask: Mask) -> Mask:
    """The changed pixels ``(H, W)`` with an unchanged one among their four neighbours; beyond the image nothing is."""
    inside: Mask = binary_erosion(mask, border_value=1)
    return np.asarray(mask & ~inside)


class BoundaryScores:
    """Precision, recall and F1 of boundary pixels, added up over images.

    A boundary pixel of the prediction is right if one of the label lies within the tolerance, and one of the label is
    found if one of the prediction does. Distances are Euclidean, between centres of pixels.

    Args:
        tolerances_px: the tolerances, pixels.
    """

    def __init__(self, tolerances_px: tuple[float, ...] = (1, 2, 4)) -> None:
        self.tolerances_px = tolerances_px
        self._predicted = self._label = 0
        self._right = np.zeros(len(tolerances_px), np.int64)
        self._found = np.zeros(len(tolerances_px), np.int64)

    def add(self, predicted: Mask, label: Mask, known: Mask | None = None) -> None:
        """Count the boundaries of one image.

        Args:
            predicted: ``(H, W)``.
            label: ``(H, W)``.
            known: ``(H, W)``, False where the label says nothing: a boundary pixel there, or with a neighbour there,
                does not count. None: known everywhere.

        Raises:
            ShapeError: if the shapes differ.
        """
        if predicted.shape != label.shape:
            raise ShapeError(f"prediction {predicted.shape} and label {label.shape} must have one shape")
        edges = boundary(predicted), boundary(label)
        if known is not None:
            inside = binary_erosion(known, border_value=1)
            edges = edges[0] & inside, edges[1] & inside
        self._predicted += int(edges[0].sum())
        self._label += int(edges[1].sum())
        if edges[0].any() and edges[1].any():
            self._right += self._near(*edges)
            self._found += self._near(*edges[::-1])

    def _near(self, edge: Mask, other: Mask) -> NDArray[np.int64]:
        """How many pixels of a boundary have one of the other within each tolerance."""
        distance = distance_transform_edt(~other)[edge]
        return np.array([(distance <= tolerance).sum() for tolerance in self.tolerances_px], np.int64)

    def rows(self) -> tuple[BoundaryRecord, ...]:
        """The scores within each tolerance."""
        rows = []
        for tolerance, right, found in zip(self.tolerances_px, self._right, self._found, strict=True):
            precision, recall = float(right) / max(self._predicted, 1), float(found) / max(self._label, 1)
            f1 = 2 * precision * recall / (precision + recall) if right and found else 0.0
            rows.append(BoundaryRecord(float(tolerance), precision, recall, f1))
        return tuple(rows)
