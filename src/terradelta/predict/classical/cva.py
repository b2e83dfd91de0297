"""Change vector analysis (CVA): how far a pixel moved in the space of its bands.

W. A. Malila, "Change vector analysis: an approach for detecting forest changes with Landsat", Purdue LARS Symposia,
1980. The threshold is L. Bruzzone & D. Fernandez Prieto, "Automatic analysis of the difference image for unsupervised
change detection", IEEE Transactions on Geoscience and Remote Sensing 38(3), 2000, or N. Otsu, 1979.

Shapes: C bands, n pixels of a sample, (B, H, W) a batch of tiles. A magnitude has no unit: it is counted in standard
deviations of the bands.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from terradelta.card import ModelCard
from terradelta.errors import InputError
from terradelta.predict.classical.method import FittedMethod, Method
from terradelta.predict.classical.split import Split, fit_split
from terradelta.predict.classical.statistics import Dates

__all__ = ["Cva", "FittedCva"]


@dataclass(frozen=True)
class Cva(Method):
    """Length of the change vector of standardised bands, against a threshold found in its distribution.

    Raises:
        InputError: if ``threshold`` is neither ``em`` nor ``otsu``.
    """

    threshold: Literal["em", "otsu"] = "em"
    """``em``: the posterior of a mixture of two Gaussians, so 0.5 is Bayes' decision. ``otsu``: a logistic function
    of the distance to Otsu's threshold in units of the standard deviation within the two classes, which is no
    calibrated probability."""

    name: ClassVar[str] = "cva"
    year: ClassVar[int] = 2000
    summary: ClassVar[str] = "change vector analysis: length of the spectral change, threshold by EM"
    paper: ClassVar[str] = (
        "L. Bruzzone and D. Fernandez Prieto, Automatic analysis of the difference image for unsupervised change "
        "detection, IEEE TGRS 38(3), 2000, doi:10.1109/36.843009; change vectors after W. A. Malila, 1980"
    )

    def __post_init__(self) -> None:
        if self.threshold not in ("em", "otsu"):
            raise InputError(f"threshold is {self.threshold!r}; CVA takes 'em' or 'otsu'")

    def feature_count(self, bands: int) -> int:
        """One: the magnitude."""
        return 1

    def features(self, dates: Dates, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        """Magnitude: ``(C, h, w) x 2 -> (h, w, 1)``."""
        return dates.magnitude(before, after)[:, :, None]

    def learn(self, card: ModelCard, dates: Dates, sample: NDArray[np.float32]) -> "FittedCva":
        """Find the two classes in a sample ``(n, 1)`` of magnitudes."""
        magnitude = sample[:, 0].astype(np.float64)
        split = fit_split(magnitude, self.threshold)
        training = {**card.training, "sample_px": len(magnitude), **split.record()}
        return FittedCva(card.replace(training=training), dates, split)


class FittedCva(FittedMethod):
    """CVA with its threshold.

    Args:
        card: see `FittedMethod`.
        dates: see `FittedMethod`.
        split: where the magnitude parts the classes.
    """

    def __init__(self, card: ModelCard, dates: Dates, split: Split) -> None:
        super().__init__(card, dates)
        self._split = split

    def log_odds(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        """Log odds of change: ``(B, C, H, W) x 2 -> (B, 1, H, W)``."""
        return self._split.log_odds(self.dates.magnitude(before, after)[:, None])
