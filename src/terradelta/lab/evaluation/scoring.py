"""What a network sees at once when it is scored: the whole image, patches of it, or patches that overlap.

Published scores differ by this choice, so it is part of every receipt. Each pixel of an image counts once in all three.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terradelta.errors import InputError
from terradelta.predict.predictor import Predictor
from terradelta.raster.scaling import choose_scaling, scaled_dates

__all__ = ["PROTOCOLS", "WHOLE", "Scoring"]

PROTOCOLS = ("whole", "patches", "overlap")
_PIXELS_AT_ONCE = 1 << 18
_LEAST_PX = 16


@dataclass(frozen=True)
class Scoring:
    """How the images of a split are predicted."""

    name: str = "whole"
    """``whole``: images as they are. ``patches``: squares side by side, each predicted alone; the last of a row or
    column is moved inwards where the side is no multiple, and only its new pixels count. ``overlap``: squares at every
    half side; a pixel's probability is the mean of all squares that hold it."""
    patch_px: int = 256
    """Side of a patch; an image with a smaller side is predicted in one piece along it."""

    def __post_init__(self) -> None:
        if self.name not in PROTOCOLS:
            raise InputError(f"there is no protocol {self.name!r}; give one of {', '.join(PROTOCOLS)}")
        if self.patch_px < _LEAST_PX:
            raise InputError(f"a patch of {self.patch_px} pixels is too small; give {_LEAST_PX} or more")

    @property
    def text(self) -> str:
        """The protocol in words, as in receipts."""
        side = f"{self.patch_px} x {self.patch_px}"
        how = {
            "whole": "whole images",
            "patches": f"patches of {side} pixels side by side",
            "overlap": f"patches of {side} pixels at every {self.patch_px // 2}, probabilities averaged",
        }
        return f"{how[self.name]}, one global confusion matrix over all pixels"

    def predict(
        self,
        predictor: Predictor,
        before: NDArray[Any],
        after: NDArray[Any],
        valid: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.float32]:
        """Probability of change ``(H, W)`` of one pair ``(C, H, W)`` of raw values, scaled as `map_change` does.

        Args:
            predictor: whose card says how values are scaled.
            before: ``(C, H, W)`` raw values of the first date.
            after: the same of the second date.
            valid: ``(H, W)``, False where a date has no data; None: valid everywhere.
        """
        scaling = choose_scaling(before, after, valid, predictor.card)
        before, after = scaled_dates((before, after), valid, scaling, predictor.fill)
        if self.name == "whole":
            return np.asarray(predictor.predict(before[None], after[None])[0])
        height, width = before.shape[1:]
        rows, cols = (_starts(side, self.patch_px, self._step) for side in (height, width))
        places = [(row, col) for row in rows for col in cols]
        total = np.zeros((height, width), np.float32)
        hits = np.zeros((height, width), np.float32)
        at_once = max(_PIXELS_AT_ONCE // self.patch_px**2, 1)
        for first in range(0, len(places), at_once):
            group = places[first : first + at_once]
            windows = [(slice(r, r + self.patch_px), slice(c, c + self.patch_px)) for r, c in group]
            found = predictor.predict(*(np.stack([date[:, *window] for window in windows]) for date in (before, after)))
            for window, probability in zip(windows, found, strict=True):
                new = hits[window] == 0 if self.name == "patches" else np.ones_like(probability, bool)
                total[window][new] += probability[new]
                hits[window][new] += 1
        total /= hits
        return total

    @property
    def _step(self) -> int:
        return self.patch_px if self.name == "patches" else self.patch_px // 2


def _starts(side: int, patch: int, step: int) -> list[int]:
    """Where patches start along a side: at every step, the last one where it still fits."""
    return [*range(0, side - patch, step), max(side - patch, 0)]


WHOLE = Scoring()
"""Whole images: the protocol by default."""
