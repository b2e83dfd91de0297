"""Small pictures of a pair and its change map, for the report."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling

from terradelta.html.pictures import Quicklooks
from terradelta.products.writer import CHANGE, PROBABILITY
from terradelta.raster.pair import Pair

__all__ = ["Shade", "quicklooks", "shade_of"]

PERCENTILES = (1, 99)

Values = NDArray[np.float64]


def quicklooks(pair: Pair, folder: Path) -> Quicklooks:
    """Pictures of at most 1024 pixels a side, from the pair's preview and the finished products in ``folder``.

    8-bit images keep their brightness; others are stretched, both dates alike. Three bands make a colour picture, fewer
    a grey one, more the first three.
    """
    preview = pair.preview
    shape = (preview.valid.shape[0], preview.valid.shape[1])
    before, after = _pictures(preview.before, preview.after, preview.valid)
    with rasterio.open(folder / PROBABILITY) as source:
        probability = source.read(1, out_shape=shape, resampling=Resampling.average)
    with rasterio.open(folder / CHANGE) as source:
        change = source.read(1, out_shape=shape) == 1
    valid = preview.valid & np.isfinite(probability)
    return Quicklooks(before, after, np.nan_to_num(probability), change & valid, valid)


@dataclass(frozen=True)
class Shade:
    """Which raw values are black and which are white on a picture, for red, green and blue."""

    bands: tuple[int, int, int]
    """Positions of red, green and blue among the bands."""
    low: Values
    """``(3,)`` raw values that are black."""
    high: Values
    """``(3,)`` raw values that are white."""
    stretched: bool
    """False: 8-bit values, which are taken as they are."""

    def picture(self, values: NDArray[np.generic]) -> NDArray[np.uint8]:
        """``(C, ...)`` raw values as ``(3, ...)`` red, green, blue; NaN is black."""
        chosen = values[list(self.bands)]
        if not self.stretched:
            return chosen.astype(np.uint8)
        # float64: values may be beyond float32.
        known = np.nan_to_num(chosen.astype(np.float64))
        low, high = (ends.reshape(3, *[1] * (values.ndim - 1)) for ends in (self.low, self.high))
        with np.errstate(over="ignore"):
            gain = 255 / np.maximum(high - low, 1e-6)
            shaded = (known.clip(low, high) - low) * gain
        return np.nan_to_num(shaded).clip(0, 255).astype(np.uint8)


def shade_of(before: NDArray[np.generic], after: NDArray[np.generic], valid: NDArray[np.bool_]) -> Shade:
    """How both dates of a pair are shown, alike: 8-bit values as they are, others from their 1st to 99th percentile.

    Args:
        before: ``(C, h, w)`` raw values of the first date; a thinned-out view suffices.
        after: the same of the second date.
        valid: ``(h, w)``.
    """
    bands = (0, 1, 2) if before.shape[0] >= 3 else (0, 0, 0)
    if before.dtype == after.dtype == np.uint8:
        return Shade(bands, np.zeros(3), np.full(3, 255.0), stretched=False)
    dates = [np.nan_to_num(x[list(bands)].astype(np.float64)) for x in (before, after)]
    seen = np.concatenate([x[:, valid] for x in dates], axis=1) if valid.any() else np.zeros((3, 1))
    low, high = np.percentile(seen, PERCENTILES, axis=1)
    return Shade(bands, low, high, stretched=True)


def _pictures(
    before: NDArray[np.generic], after: NDArray[np.generic], valid: NDArray[np.bool_]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    shade = shade_of(before, after, valid)
    first, second = (np.moveaxis(shade.picture(x), 0, 2) for x in (before, after))
    return first, second
