"""Error maps: where a prediction is right, and which kind of error it makes elsewhere.

The colours of the papers are black for TN, white for TP, red for FP and green for FN (MCCRNet, Fig. 7 to 12). Red and
green look alike to one reader in twelve, so there is a second palette, from Okabe and Ito.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terradelta.errors import ShapeError

__all__ = ["OUTCOMES", "PAPER", "SAFE", "error_map", "shrink", "to_rgb"]

Colour = tuple[int, int, int]
Picture = NDArray[np.uint8]

OUTCOMES = ("TN", "FP", "FN", "TP")
"""The order of the colours of a palette: rightly unchanged, false alarm, missed, rightly changed."""
PAPER: tuple[Colour, ...] = ((0, 0, 0), (255, 0, 0), (0, 255, 0), (255, 255, 255))
"""The colours of the papers."""
SAFE: tuple[Colour, ...] = ((0, 0, 0), (230, 159, 0), (0, 114, 178), (255, 255, 255))
"""The same for every kind of colour vision, and for print in grey: FP orange, FN blue."""
_NO_DATA: Colour = (128, 128, 128)
_PERCENTILES = (2, 98)


def error_map(
    predicted: NDArray[np.bool_],
    label: NDArray[np.bool_],
    valid: NDArray[np.bool_] | None = None,
    palette: tuple[Colour, ...] = PAPER,
) -> Picture:
    """Paint the four outcomes: ``(H, W, 3)``.

    Args:
        predicted: ``(H, W)``, True where the model finds change.
        label: ``(H, W)``, True where there is change.
        valid: ``(H, W)``, False where there is no data, which is painted grey; None: valid everywhere.
        palette: four colours in the order of `OUTCOMES`.

    Raises:
        ShapeError: if the shapes differ.
    """
    if predicted.shape != label.shape or (valid is not None and valid.shape != label.shape):
        raise ShapeError(f"prediction {predicted.shape}, label {label.shape} and valid mask must have one shape")
    out = np.array(palette, np.uint8)[2 * label.astype(np.uint8) + predicted]
    if valid is not None:
        out[~valid] = _NO_DATA
    return np.asarray(out)


def to_rgb(dates: tuple[NDArray[Any], NDArray[Any]]) -> tuple[Picture, Picture]:
    """Both dates ``(C, H, W)`` of raw values as pictures ``(H, W, 3)``, on one scale.

    The first three bands are red, green and blue; with fewer, the first one is grey. Bytes stay as they are; other
    values are stretched between their 2nd and 98th percentile over both dates.
    """
    shown = [date[:3] if len(date) >= 3 else date[[0, 0, 0]] for date in dates]
    if any(date.dtype != np.uint8 for date in dates):
        both = np.concatenate([date.reshape(3, -1) for date in shown], axis=1).astype(np.float64)
        low, high = np.nanpercentile(both, _PERCENTILES, axis=1)[..., None, None]
        step = np.maximum(high - low, 1e-12)
        shown = [np.nan_to_num((date - low) / step).clip(0, 1) * 255 for date in shown]
    before, after = (np.ascontiguousarray(np.moveaxis(date, 0, 2).round().astype(np.uint8)) for date in shown)
    return before, after


def shrink(picture: Picture, longest_px: int, *, mix: bool = True) -> Picture:
    """A picture ``(H, W, 3)`` with sides of at most ``longest_px`` pixels.

    Args:
        picture: the picture.
        longest_px: largest height and width of the result.
        mix: average the pixels that become one; False: take the middle one, so that no new colour appears.
    """
    height, width = picture.shape[:2]
    step = math.ceil(max(height, width) / longest_px)
    if step <= 1:
        return picture
    if not mix:
        return picture[step // 2 :: step, step // 2 :: step]
    rows, cols = height // step, width // step
    blocks = picture[: rows * step, : cols * step].reshape(rows, step, cols, step, 3)
    return np.asarray(blocks.mean(axis=(1, 3)).round().astype(np.uint8))
