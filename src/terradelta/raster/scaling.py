"""Raw values of a pair to what a network was trained on: the card says how, and everything that predicts asks here.

Most networks take values as they are stored. Those that have seen nothing but 8-bit pictures ask for a stretch of
images that are not 8 bit (`ModelCard.stretch`).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from terradelta.errors import BandError, RasterError
from terradelta.geo.windows import picked_positions
from terradelta.raster.pair import Pair

if TYPE_CHECKING:
    from terradelta.card import ModelCard

__all__ = ["Scaling", "choose_scaling", "range_warnings", "scaled_dates", "scaling_of"]

_PREVIEW_SIDE = 1024
_FAR = 6.0
"""Standard deviations of the training data from its mean, beyond which the mean of a pair's band is suspicious."""


@dataclass(frozen=True)
class Scaling:
    """A linear mapping per band: ``low`` becomes 0, ``high`` becomes ``scale``.

    A band whose ``low`` equals its ``high`` becomes 0.
    """

    low: tuple[float, ...]
    """Raw sensor value of each band that becomes 0."""
    high: tuple[float, ...]
    """Raw sensor value of each band that becomes ``scale``; not below ``low``."""
    scale: float = 255.0
    """Upper end of the result, above 0."""
    clip: bool = True
    """Whether values beyond ``low`` and ``high`` are clipped."""

    def apply(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Raw sensor values to the range 0 to ``scale``.

        Args:
            values: ``(..., C, H, W)``, any real dtype; NaN becomes 0.

        Returns:
            ``(..., C, H, W)`` float32.

        Raises:
            BandError: if C differs from the number of bands here.
        """
        if values.ndim < 3 or values.shape[-3] != len(self.low):
            raise BandError(
                f"this scaling is for {len(self.low)} bands, but the array has shape {values.shape}; "
                f"expected (..., {len(self.low)}, H, W)"
            )
        low, high = (np.asarray(ends, np.float64)[:, None, None] for ends in (self.low, self.high))
        with np.errstate(over="ignore"):  # a range beyond float64 gets the gain 0
            gain = np.divide(self.scale, high - low, out=np.zeros_like(low), where=high > low)
            # float64 up to the clip: float32 would merge neighbouring values of 32-bit integers far from 0.
            stretched = ((np.clip(values, low, high) if self.clip else values) - low) * gain
        result: NDArray[np.float32] = np.nan_to_num(stretched, copy=False, nan=0.0).astype(np.float32)
        return result

    def lines(self, bands: tuple[str, ...]) -> list[str]:
        """One plain sentence for each band; one for all where nothing is clipped.

        Args:
            bands: names of the bands.
        """
        if not self.clip:
            return [f"The model takes reflectance times {self.scale:g}, so both dates were multiplied by it."]
        return [
            f"Band {name}: raw values {low:g} to {high:g} were stretched to 0 to {self.scale:g} on both dates."
            for name, low, high in zip(bands, self.low, self.high, strict=True)
        ]


def scaling_of(pair: Pair, card: "ModelCard") -> Scaling | None:
    """How an open pair's values become those that a model takes.

    - The card asks for a stretch and the images are not 8 bit: see `choose_scaling`, from the pair's preview.
    - It does not, but the dates were made reflectance because their stored values mean different things: reflectance
      of 1 becomes the card's ``scale``.
    - Otherwise None: values stay as they are.

    Raises:
        RasterError: if a stretch is needed and the preview has no valid pixel.
    """
    if card.stretch is None:
        if not any(source.conversion for source in pair.sources):
            return None
        return Scaling((0.0,) * pair.count, (1.0,) * pair.count, card.scale, clip=False)
    if _is_eight_bit(pair.dtypes, card):
        return None
    preview = pair.preview
    if not preview.valid.any():
        raise RasterError(
            f"no pixel in the preview of {' and '.join(pair.paths)} is valid on both dates, so no stretch can be "
            "chosen; give an area of interest around the valid part"
        )
    return choose_scaling(preview.before, preview.after, preview.valid, card)


def choose_scaling(
    before: NDArray[Any], after: NDArray[Any], valid: NDArray[np.bool_] | None, card: "ModelCard"
) -> Scaling | None:
    """How two arrays of raw values become those that a model takes.

    Where the card asks for a stretch, both dates get the same one, so that a real change of brightness stays one: the
    card's percentiles of the valid pixels of both dates, band by band, become 0 and ``scale``. Where these are equal,
    the lowest and the highest value do. Arrays with a side above 1024 pixels are thinned as the preview of a pair is.

    Args:
        before: ``(C, H, W)`` raw values of the first date.
        after: the same of the second date.
        valid: ``(H, W)``, False where a date has no data; None: valid everywhere.
        card: the model's.

    Returns:
        The stretch, or None where the card asks for none, both dates are 8-bit images for a model of these, or no
        pixel is valid: values stay as they are.
    """
    if card.stretch is None or _is_eight_bit((before.dtype.name, after.dtype.name), card):
        return None
    factor = min(1.0, _PREVIEW_SIDE / max(before.shape[1:]))  # as the preview of a pair has it
    rows, cols = (picked_positions(side, max(1, round(side * factor))) for side in before.shape[1:])
    kept = np.ones((len(rows), len(cols)), bool) if valid is None else valid[np.ix_(rows, cols)]
    if not kept.any():
        return None
    ranges = []
    for one, other in zip(before, after, strict=True):
        values = np.concatenate([date[np.ix_(rows, cols)][kept].astype(np.float64) for date in (one, other)])
        low, high = np.percentile(values, card.stretch)
        ranges.append((low, high) if high > low else (values.min(), values.max()))
    return Scaling(tuple(float(low) for low, _ in ranges), tuple(float(high) for _, high in ranges), card.scale)


def scaled_dates(
    dates: tuple[NDArray[Any], NDArray[Any]],
    valid: NDArray[np.bool_] | None,
    scaling: Scaling | None,
    fill: NDArray[np.float32],
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Both dates as `Predictor.predict` takes them: scaled, with pixels that no date has filled in.

    Args:
        dates: ``(C, H, W)`` raw values each.
        valid: ``(H, W)``, False where a date has no data; None: valid everywhere.
        scaling: see `scaling_of`.
        fill: ``(2, C)`` values for pixels that are not valid, so that nothing looks changed there.
    """
    before, after = dates if scaling is None else (scaling.apply(date) for date in dates)
    if valid is None or valid.all():
        return before, after
    first, second = fill[:, :, None, None]
    return np.where(valid, before, first), np.where(valid, after, second)


def range_warnings(pair: Pair, card: "ModelCard") -> list[str]:
    """A sentence where a pair's values, taken as they are stored, lie far from what a network was trained on."""
    valid = pair.preview.valid
    if not valid.any():
        return []
    scaling = scaling_of(pair, card)
    for date, values in zip(("first", "second"), (pair.preview.before, pair.preview.after), strict=True):
        known = card.normalise(values if scaling is None else scaling.apply(values))[:, valid]
        means = known.mean(axis=1, dtype=np.float64)
        worst = int(np.abs(means).argmax())
        if not np.abs(means[worst]) <= _FAR:
            raw = (means[worst] * card.std[worst] + card.mean[worst]) * card.scale
            trained = card.mean[worst] * card.scale
            return [
                f"Warning: values of {pair.bands[worst]} on the {date} date are {raw:.4g} on average, but the model "
                f"was trained on values around {trained:.4g} (its scale is {card.scale:g}): it was made for other "
                "images, or the values mean something else; see --values."
            ]
    return []


def _is_eight_bit(dtypes: tuple[str, str], card: "ModelCard") -> bool:
    return dtypes == ("uint8", "uint8") and card.scale == 255.0
