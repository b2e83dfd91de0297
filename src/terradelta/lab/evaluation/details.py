"""What is counted beside the confusion matrices: calibration, sizes, boundaries, and the images to look at."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from terradelta.geo.grid import Grid
from terradelta.geo.metres import ground_sampling_m
from terradelta.lab.data.pairs import LabelledPair
from terradelta.lab.metrics import BoundaryScores, Confusion, LogitHistogram, SizeScores, confusion
from terradelta.lab.metrics.objects import SIZES_M2
from terradelta.receipt.evaluation_record import CurveRecord, ProbabilitiesRecord, SizesRecord

__all__ = ["Details", "Example"]

_CURVE_POINTS = 100


@dataclass(frozen=True)
class Example:
    """One image to look at."""

    pair: LabelledPair
    predicted: NDArray[np.bool_]
    """``(H, W)`` True where the model finds change."""
    counts: Confusion


class Details:
    """Collects more about each image while `evaluate` runs; memory does not grow with their number.

    Args:
        examples: how many of the best images, and how many of the worst, to keep for looking at.
    """

    def __init__(self, examples: int = 0) -> None:
        self.logits = LogitHistogram()
        self.sizes_px = SizeScores()
        self.sizes_m2: SizeScores | None = SizeScores(SIZES_M2)
        """None once an image had no size on the ground."""
        self.boundary = BoundaryScores()
        self.best: list[Example] = []
        """By F1, best first; only images with change in the label."""
        self.worst: list[Example] = []
        """By the number of wrong pixels, most first; only images with errors."""
        self._examples = examples

    def add(self, pair: LabelledPair, probability: NDArray[np.float32], threshold: float, grid: Grid | None) -> None:
        """Count one image.

        Args:
            pair: the pair with its label.
            probability: ``(H, W)``.
            threshold: probability from which a pixel counts as changed.
            grid: where the pair lies, which says how large a pixel is; None if that is not known.
        """
        predicted = probability >= threshold
        counted = pair.counted
        if counted is None:
            self.logits.add(probability, pair.label)
        else:
            predicted &= counted
            self.logits.add(probability[counted], pair.label[counted])
        self.boundary.add(predicted, pair.label, pair.known)
        self.sizes_px.add(predicted, pair.label)
        area = _pixel_area_m2(grid) if self.sizes_m2 else None
        if self.sizes_m2 and area:
            self.sizes_m2.add(predicted, pair.label, area)
        else:
            self.sizes_m2 = None
        if self._examples:
            self._keep(Example(pair, predicted, confusion(predicted, pair.label, counted)))

    def _keep(self, example: Example) -> None:
        counts = example.counts
        if counts.tp + counts.fn:
            self.best = sorted([*self.best, example], key=lambda e: -e.counts.f1)[: self._examples]
        if counts.fp + counts.fn:
            most = sorted([*self.worst, example], key=lambda e: -e.counts.fp - e.counts.fn)
            self.worst = most[: self._examples]

    def curve(self) -> CurveRecord:
        """The precision-recall curve, thinned to about 100 points."""
        curve = self.logits.precision_recall()
        step = max(math.ceil(len(curve) / _CURVE_POINTS), 1)
        points = tuple(tuple(float(f"{value:.6g}") for value in point) for point in curve[::step])
        return CurveRecord(("threshold", "recall", "precision"), points)

    def probabilities(self) -> ProbabilitiesRecord:
        """Whether the probabilities mean what they say."""
        found = self.logits.scores()
        return ProbabilitiesRecord(
            found["ece"],
            found["brier"],
            found["nll"],
            found["mean_probability"],
            found["changed"],
            self.logits.reliability(),
        )

    def by_size(self) -> SizesRecord:
        """Scores by the size of the change."""
        known = self.sizes_m2 is not None and self.logits.total
        return SizesRecord(self.sizes_px.rows(), self.sizes_m2.rows() if known and self.sizes_m2 else None)


def _pixel_area_m2(grid: Grid | None) -> float | None:
    """Area of a pixel on the ground; None where the pair has no place."""
    side = None if grid is None else ground_sampling_m(grid)
    return None if side is None else side**2
