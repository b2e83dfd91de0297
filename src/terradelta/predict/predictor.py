"""What every predictor does around its network: normalise, pad, calibrate, crop."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from terradelta.card import ModelCard
from terradelta.errors import BandError, ModelError, ShapeError
from terradelta.geo.grid import Grid
from terradelta.geo.metres import ground_sampling_m

__all__ = ["Predictor", "pad_reflect", "resolution_warnings", "sigmoid"]

RESOLUTION_SLACK = 1.5
RESOLUTION_LIMIT = 4.0
"""Pixels more times larger or smaller than those of the training data show other things: a model stops there."""


class Predictor(ABC):
    """Two dates in, probability of change out; a subclass runs the network.

    Example:
        >>> import numpy as np, terradelta as td
        >>> before = np.full((1, 3, 64, 64), 90, np.uint8)
        >>> td.load_model("default").predict(before, before).shape
        (1, 64, 64)
    """

    fitted: ClassVar[bool] = True
    """False: a method that must be fitted to a pair first, see `terradelta.predict.classical.prepared`."""

    def __init__(self, card: ModelCard) -> None:
        self.card = card

    @property
    def name(self) -> str:
        """Of the weights, or of the method."""
        return self.card.name

    @property
    def wanted(self) -> tuple[str, ...] | None:
        """Names of the bands that it takes, in order; None: whatever bands there are."""
        return self.card.bands

    @property
    def scale(self) -> float | None:
        """Upper end of the raw values that it takes, to which others are stretched; None: it takes any as they are."""
        return self.card.scale

    def remarks(self, grid: Grid, known: Callable[[], Mapping[str, ModelCard]] = dict) -> list[str]:
        """What is to be said of it before a run on a grid, as sentences: what it finds comes first.

        Args:
            grid: of the run.
            known: gives the cards of other weights by name, of which those for such pixels are named where these are
                not; it is called only then.
        """
        said = [self.card.purpose(), *resolution_warnings(self.card, grid, known)]
        return [*said, f"The model {self.name} is run by {self.runtime}."]

    def check_resolution(self, grid: Grid) -> None:
        """Raise ModelError if the pixels differ by more than a factor of 4 from those that it was trained on."""
        side = ground_sampling_m(grid)
        if self.card.gsd_m is None or side is None or _fits(side, self.card.gsd_m, RESOLUTION_LIMIT):
            return
        finds = f" to find {self.card.finds}" if self.card.finds else ""
        raise ModelError(
            f"the pixels are {side:.3g} m wide, but the model {self.name} was trained{finds} on images of "
            f"{self.card.sizes}: its result would mean nothing. Take a method that is fitted to the pair, --method "
            "irmad; or let the model try with --anyway"
        )

    @property
    def identity(self) -> str:
        """What its results depend on, as a hash: the card, and the weights where a subclass adds them."""
        return hashlib.sha256(f"{type(self).__name__} {self.card.to_json()}".encode()).hexdigest()

    @property
    def runtime(self) -> str:
        """What runs the network, and in what precision where a subclass has more than one; for receipts."""
        return type(self).__name__

    @property
    def fill(self) -> NDArray[np.float32]:
        """Raw sensor values ``(2, C)`` of the first and second date for pixels where one date has no data.

        They make such a pixel look unchanged to its neighbours. By default they are the card's means.
        """
        return self.card.fill

    def predict(self, before: NDArray[Any], after: NDArray[Any]) -> NDArray[np.float32]:
        """Probability of change.

        Args:
            before: ``(B, C, H, W)`` raw sensor values of the first date; any H and W of at least one pixel.
            after: the same of the second date.

        Returns:
            ``(B, H, W)`` in [0, 1].

        Raises:
            ShapeError: if the two shapes differ or are not ``(B, C, H, W)``.
            BandError: if C is not what the card says, or a network of 8-bit pictures gets larger integers.
            ModelError: if the network gives another shape than its input's.
        """
        if before.ndim != 4 or before.shape != after.shape or 0 in before.shape:
            raise ShapeError(f"before {before.shape} and after {after.shape} must have one shape (B, C, H, W)")
        self._check_range(before, after)
        height, width = before.shape[2:]
        padded = [pad_reflect(self.card.normalise(x), self.card.stride) for x in (before, after)]
        logits = self.logits(padded[0], padded[1])
        expected = (len(before), 1, *padded[0].shape[2:])
        if logits.shape != expected:
            raise ModelError(f"the network of model {self.card.name!r} gave shape {logits.shape}, not {expected}")
        scaled = logits[:, 0, :height, :width] / np.float32(self.card.temperature)
        scaled += np.float32(self.card.logit_bias)
        return sigmoid(scaled)

    def strangeness(self, before: NDArray[Any], after: NDArray[Any]) -> NDArray[np.float32] | None:
        """How far two images look from those of the training to the network's encoder: ``(2, B)`` of both dates.

        About 1 for images of the training, larger for others; see `terradelta.lab.export.domain`. None: not known.

        Args:
            before: ``(B, C, H, W)`` raw sensor values, as for `predict`; some 256 pixels a side.
            after: the same of the second date.
        """
        return None

    def _check_range(self, *dates: NDArray[Any]) -> None:
        """Raise BandError for integers that must be stretched first; floats are what `Scaling.apply` gives."""
        for values in dates:
            wide = values.dtype.kind in "iu" and values.dtype.itemsize > 1
            if self.card.stretch is not None and wide and values.max() > self.card.scale:
                raise BandError(
                    f"the values reach {values.max()}, but model {self.card.name!r} knows 0 to {self.card.scale:g} "
                    "only: stretch both dates first, as `map` does, with terradelta.raster.scaling.choose_scaling"
                )

    def prepare(self, height: int, width: int, count: int) -> int:
        """Get ready for ``count`` tiles of a size, and say how many of them `predict` best takes at once: 1 by default.

        Args:
            height: of a tile, pixels.
            width: of a tile.
            count: tiles of the whole scene; the answer may depend on it, so that it does not on how a run is divided.

        Returns:
            Tiles for each call of `predict`, 1 or more.
        """
        return 1

    def release(self) -> None:  # noqa: B027  most predictors hold nothing between calls
        """Let go of memory that only a call of `predict` needs; the next one takes it again. By default there is none.

        Call it only while no other thread predicts.
        """

    @abstractmethod
    def logits(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network on normalised, padded arrays: ``(B, C, H, W) x 2 -> (B, 1, H, W)`` float32."""


def resolution_warnings(card: ModelCard, grid: Grid, known: Callable[[], Mapping[str, ModelCard]] = dict) -> list[str]:
    """A sentence if the pixels are much larger or smaller than those that the model was trained on; see `remarks`."""
    side = ground_sampling_m(grid)
    if side is None or card.gsd_m is None:
        return []
    if _fits(side, card.gsd_m, RESOLUTION_SLACK):
        return []
    suited = [
        f"--model {name} was trained to find {other.finds}, and "
        for name, other in known().items()
        if other.finds and not other.quantisation and other.gsd_m and _fits(side, other.gsd_m, RESOLUTION_SLACK)
    ]
    return [
        f"Warning: the pixels are {side:.3g} m wide, but the model was trained on {card.sizes}: its result here is "
        f"untested. For this pixel size, {''.join(suited)}--method irmad finds any change."
    ]


def _fits(side_m: float, gsd_m: tuple[float, float], slack: float) -> bool:
    low, high = gsd_m
    return low / slack <= side_m <= high * slack


def pad_reflect(values: NDArray[np.float32], multiple: int) -> NDArray[np.float32]:
    """Pad ``(..., H, W)`` at the bottom and right by reflection to a multiple of ``multiple`` pixels.

    A side shorter than the padding is reflected more than once (a side of one pixel is repeated).
    """
    rows, cols = (-values.shape[-2] % multiple, -values.shape[-1] % multiple)
    if not rows and not cols:
        return values
    return np.pad(values, [(0, 0)] * (values.ndim - 2) + [(0, rows), (0, cols)], mode="reflect")


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logistic function without overflow, float32."""
    out: NDArray[np.float32] = np.tanh(logits * np.float32(0.5))
    out *= np.float32(0.5)
    out += np.float32(0.5)
    return out
