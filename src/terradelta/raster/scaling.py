"""Brightness scaling of images that are not 8 bit, the same for both dates."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terradelta.errors import BandError, RasterError
from terradelta.raster.pair import Pair, PairWindow

__all__ = ["Scaling", "choose_scaling"]

_PERCENTILES = (1.0, 99.0)


@dataclass(frozen=True)
class Scaling:
    """A linear stretch per band: ``low`` becomes 0, ``high`` becomes ``scale``, values beyond are clipped.

    A band whose ``low`` equals its ``high`` becomes 0.
    """

    low: tuple[float, ...]
    """Raw sensor value of each band that becomes 0."""
    high: tuple[float, ...]
    """Raw sensor value of each band that becomes ``scale``; not below ``low``."""
    scale: float = 255.0
    """Upper end of the result, above 0."""

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
            stretched = (np.clip(values, low, high) - low) * gain
        result: NDArray[np.float32] = np.nan_to_num(stretched, copy=False, nan=0.0).astype(np.float32)
        return result

    def lines(self, bands: tuple[str, ...]) -> list[str]:
        """One plain sentence for each band.

        Args:
            bands: names of the bands.
        """
        return [
            f"Band {name}: raw values {low:g} to {high:g} were stretched to 0 to {self.scale:g} on both dates."
            for name, low, high in zip(bands, self.low, self.high, strict=True)
        ]


def choose_scaling(pair: Pair, scale: float = 255.0) -> Scaling | None:
    """The stretch that a model of 8-bit images needs, from the preview of both dates together.

    Both dates get the same stretch, so that a real change of brightness stays one: from the 1st to the 99th
    percentile of the valid pixels of both dates, band by band. Where these are equal, from the lowest to the highest
    value.

    Args:
        pair: the open pair.
        scale: upper end of the range that the model takes.

    Returns:
        The stretch, or None where both dates are 8-bit images and ``scale`` is 255: values stay as they are.

    Raises:
        RasterError: if the preview has no valid pixel.
    """
    if pair.dtypes == ("uint8", "uint8") and scale == 255.0:
        return None
    if not pair.preview.valid.any():
        raise RasterError(
            f"no pixel in the preview of {' and '.join(pair.paths)} is valid on both dates, so no stretch can be "
            "chosen; give an area of interest around the valid part"
        )
    ranges = [_range(pair.preview, band) for band in range(pair.count)]
    return Scaling(tuple(low for low, _ in ranges), tuple(high for _, high in ranges), scale)


def _range(window: PairWindow, band: int) -> tuple[float, float]:
    values = np.concatenate([date[band][window.valid].astype(np.float64) for date in (window.before, window.after)])
    low, high = np.percentile(values, _PERCENTILES)
    return (float(low), float(high)) if high > low else (float(values.min()), float(values.max()))
