"""Predictors that need no training: what a network must beat before its score means anything."""

import numpy as np
from numpy.typing import NDArray

from terradelta.card import NO_LIMIT, ModelCard
from terradelta.predict.classical.split import fit_split
from terradelta.predict.classical.statistics import Dates, Moments
from terradelta.predict.predictor import Predictor

__all__ = ["AllChanged", "ChangeVector"]


def _card(name: str, bands: int) -> ModelCard:
    names = tuple(f"band {k + 1}" for k in range(bands))
    zeros, ones = (0.0,) * bands, (1.0,) * bands
    return ModelCard(name, name, names, zeros, ones, scale=1.0, stride=1, licence=NO_LIMIT)


class AllChanged(Predictor):
    """Calls every pixel changed: of all constants the one with the highest F1, 2p / (1 + p) at a share p of change."""

    def __init__(self, bands: int) -> None:
        super().__init__(_card("all changed", bands))

    def logits(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        """``(B, C, H, W) x 2 -> (B, 1, H, W)``, all 20."""
        return np.full((len(before), 1, *before.shape[2:]), 20.0, np.float32)


class ChangeVector(Predictor):
    """Change vector analysis (CVA), each pair standardised by itself, as ``map --method cva`` does.

    Args:
        bands: bands of one date.
        tuned: False: the odds of a mixture of two Gaussians fitted to each pair (EM), so 0.5 is its own threshold.
            True: a rising function of the magnitude that is the same for all pairs, for a threshold chosen on labelled
            pairs.
    """

    def __init__(self, bands: int, *, tuned: bool) -> None:
        super().__init__(_card("CVA, tuned" if tuned else "CVA", bands))
        self.tuned = tuned

    def logits(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        """Log odds of change: ``(B, C, H, W) x 2 -> (B, 1, H, W)``."""
        return np.stack([self._pair(*pair)[None] for pair in zip(before, after, strict=True)])

    def _pair(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        moments = Moments()
        moments.add(np.stack([date.reshape(len(date), -1) for date in (before, after)]))
        std = moments.std
        magnitude = Dates(moments.mean, np.where(std > 0, std, 1.0)).magnitude(before, after)
        if self.tuned:
            return np.log(np.maximum(magnitude, 1e-6))  # the sigmoid of which is m / (1 + m)
        return fit_split(magnitude.ravel().astype(np.float64), "em").log_odds(magnitude)
