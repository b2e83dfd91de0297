"""What is kept of an image that went by in strips: a thumbnail and a hash."""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.transform import resize

__all__ = ["DESCRIPTOR_SIDE", "Portrait", "band_pass", "shrink"]

THUMB_SIDE = 64
DESCRIPTOR_SIDE = 16
_BLUR_PX = 6.0
_CONTRAST = 0.004


class Portrait:
    """An image's grey thumbnail and hash, from strips of whole rows in order.

    Args:
        shape: (height, width) of the image.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self._shape = shape
        self._hash = hashlib.blake2b(repr(shape).encode(), digest_size=16)
        self._sums = np.zeros((THUMB_SIDE, THUMB_SIDE))
        self._small: list[NDArray[np.float64]] = []
        self._row = 0
        self.low, self.high = np.inf, -np.inf

    def add(self, strip: NDArray[Any]) -> None:
        """Add the next rows ``(C, h, W)``."""
        self._hash.update(np.ascontiguousarray(strip).tobytes())
        self.low, self.high = min(self.low, float(strip.min())), max(self.high, float(strip.max()))
        grey = strip.mean(axis=0, dtype=np.float64)
        if min(self._shape) < THUMB_SIDE:
            self._small.append(grey)
            return
        rows = (np.arange(self._row, self._row + len(grey)) * THUMB_SIDE) // self._shape[0]
        starts = -(-np.arange(THUMB_SIDE) * self._shape[1] // THUMB_SIDE)  # ceil: where each column of bins begins
        np.add.at(self._sums, rows, np.add.reduceat(grey, starts, axis=1))
        self._row += len(grey)

    @property
    def digest(self) -> bytes:
        """Equal for equal pixels of equal size."""
        return self._hash.digest()

    @property
    def constant(self) -> bool:
        """Whether all pixels have one value."""
        return not self.high > self.low

    def descriptor(self) -> NDArray[np.float32] | None:
        """``(16, 16)`` of mean 0 and norm 1: the image without its broad brightness; None if there is nothing on it."""
        fine = band_pass(self._thumb(), _BLUR_PX)
        size = THUMB_SIDE // DESCRIPTOR_SIDE
        coarse = fine.reshape(DESCRIPTOR_SIDE, size, DESCRIPTOR_SIDE, size).mean(axis=(1, 3))
        coarse -= coarse.mean()
        norm = float(np.linalg.norm(coarse))
        level = float(np.abs(self._thumb()).mean())
        if norm / DESCRIPTOR_SIDE <= _CONTRAST * max(level, 1e-9):
            return None
        unit: NDArray[np.float32] = (coarse / norm).astype(np.float32)
        return unit

    def _thumb(self) -> NDArray[np.float64]:
        if self._small:
            return shrink(np.concatenate(self._small), THUMB_SIDE)
        height, width = (np.bincount((np.arange(n) * THUMB_SIDE) // n, minlength=THUMB_SIDE) for n in self._shape)
        means: NDArray[np.float64] = self._sums / np.outer(height, width)
        return means


def shrink(grey: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """A square thumbnail ``(side, side)`` of ``(H, W)``; enlarged where the image is smaller."""
    order = np.asarray(grey, np.float64)
    small: NDArray[np.float64] = resize(order, (side, side), order=1, anti_aliasing=True)
    return small


def band_pass(grey: NDArray[np.float64], blur_px: float) -> NDArray[np.float64]:
    """``(H, W)`` without its broad brightness."""
    detail: NDArray[np.float64] = grey - gaussian_filter(grey, blur_px, mode="nearest")
    return detail
