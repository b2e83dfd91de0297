"""Small pictures of a pair and its change map, for the report."""

from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling

from terradelta.html.pictures import Quicklooks
from terradelta.products.writer import CHANGE, PROBABILITY
from terradelta.raster.pair import Pair

__all__ = ["display_limits", "quicklooks"]

PERCENTILES = (1, 99)


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


def _pictures(
    before: NDArray[np.generic], after: NDArray[np.generic], valid: NDArray[np.bool_]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    colour = [0, 1, 2] if before.shape[0] >= 3 else [0, 0, 0]
    before, after = before[colour], after[colour]
    limits = display_limits(before, after, valid)
    if limits is None:
        first, second = (np.moveaxis(x.astype(np.uint8), 0, 2) for x in (before, after))
        return first, second
    dates = [np.nan_to_num(x.astype(np.float64)) for x in (before, after)]
    low, high = np.array(limits).T[:, :, None, None]
    with np.errstate(over="ignore"):
        gain = 255 / np.maximum(high - low, 1e-6)
        dates = [(x.clip(low, high) - low) * gain for x in dates]
    first, second = (np.moveaxis(np.nan_to_num(x).clip(0, 255).astype(np.uint8), 0, 2) for x in dates)
    return first, second


def display_limits(
    before: NDArray[np.generic], after: NDArray[np.generic], valid: NDArray[np.bool_]
) -> list[tuple[float, float]] | None:
    """Values of each band of ``(C, H, W)`` that become black and white; None: 8-bit values, which stay as they are."""
    if before.dtype == after.dtype == np.uint8:
        return None
    # float64: values may be beyond float32.
    dates = [np.nan_to_num(x.astype(np.float64)) for x in (before, after)]
    seen = np.concatenate([x[:, valid] for x in dates], axis=1) if valid.any() else np.zeros((len(before), 1))
    low, high = np.percentile(seen, PERCENTILES, axis=1)
    return list(zip(low.tolist(), high.tolist(), strict=True))
