"""What one pass over a pair leaves behind: exact moments, and a uniform sample of its pixels.

Both are mergeable and do not depend on the order of the tiles. Steps that iterate (reweighting, expectation
maximisation, k-means) work on the sample: a pass over the files for every iteration would cost minutes each, while
262,144 pixels give a covariance to a few parts in a thousand. A scene with no more valid pixels is used whole.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terradelta.errors import ShapeError

__all__ = ["Dates", "Moments", "PixelSample", "pixel_keys"]


_LEVELS = np.arange(256, dtype=np.float64)
_CHUNK = 2**18


class Moments:
    """Mean and standard deviation of each band over all that was added (Chan, Golub & LeVeque 1983).

    Bands may lie along several axes, such as dates and bands; all that is added has the same.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean: NDArray[np.float64] = np.zeros(0)
        self._squares: NDArray[np.float64] = np.zeros(0)

    def add(self, values: NDArray[Any]) -> None:
        """Add the pixels of ``(..., n)`` finite values; n may be 0."""
        n = values.shape[-1]
        if values.dtype == np.uint8 and n:
            counts = np.stack([np.bincount(band, minlength=_LEVELS.size) for band in values.reshape(-1, n)])
            mean = counts @ _LEVELS / n
            squares = (counts * np.square(_LEVELS - mean[:, None])).sum(axis=1)
            self._join(n, mean.reshape(values.shape[:-1]), squares.reshape(values.shape[:-1]))
            return
        for start in range(0, n, _CHUNK):
            part = values[..., start : start + _CHUNK].astype(np.float64)
            mean = part.mean(axis=-1)
            self._join(part.shape[-1], mean, np.square(part - mean[..., None]).sum(axis=-1))

    def merge(self, other: "Moments") -> None:
        """Add all that was added to other moments of as many bands."""
        if other.count:
            self._join(other.count, other.mean, other._squares)

    def _join(self, count: int, mean: NDArray[np.float64], squares: NDArray[np.float64]) -> None:
        if not self.count:
            self.count, self.mean, self._squares = count, mean, squares
            return
        gap, total = mean - self.mean, self.count + count
        self._squares = self._squares + (squares + gap**2 * (self.count * count / total))
        self.mean = self.mean + gap * (count / total)
        self.count = total

    @property
    def std(self) -> NDArray[np.float64]:
        """Standard deviation of each band over all pixels, divided by n."""
        return np.sqrt(self._squares / max(self.count, 1))


@dataclass(frozen=True, eq=False)
class Dates:
    """Standards of two dates: how each band of each date is brought to mean 0 and standard deviation 1.

    This takes out differences of gain and offset between the dates, as long as most of the scene did not change.
    """

    mean: NDArray[np.float64]
    """``(2, C)``."""
    std: NDArray[np.float64]
    """``(2, C)``; above 0."""

    def magnitude(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        """Length of the change vector of standardised bands: ``(..., C, H, W) x 2 -> (..., H, W)``, 0 or more."""
        first, second = (
            (values - mean[:, None, None].astype(np.float32)) / std[:, None, None].astype(np.float32)
            for values, mean, std in zip((before, after), self.mean, self.std, strict=True)
        )
        squares: NDArray[np.float32] = np.square(second - first).sum(axis=-3)
        return np.sqrt(squares)


def pixel_keys(rows: NDArray[np.int64], cols: NDArray[np.int64], width: int, seed: int) -> NDArray[np.uint64]:
    """A pseudo-random number for each pixel of a scene, no two alike (the finaliser of SplitMix64, a bijection).

    Args:
        rows: rows in the scene.
        cols: columns in the scene.
        width: columns of the scene.
        seed: which numbers.
    """
    key = (rows * width + cols).astype(np.uint64) + np.uint64(seed + 1) * np.uint64(0x9E3779B97F4A7C15 >> 8)
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return key ^ (key >> np.uint64(31))


class PixelSample:
    """The ``limit`` pixels with the smallest keys: a uniform sample without replacement, whatever their order.

    Args:
        limit: pixels to keep; above 0.
        features: values a pixel has.

    Raises:
        ShapeError: if ``limit`` is below 1.
    """

    def __init__(self, limit: int, features: int) -> None:
        if limit < 1:
            raise ShapeError(f"limit is {limit}; a sample needs room for 1 pixel or more")
        self._limit = limit
        self._keys = np.zeros(0, np.uint64)
        self._values = np.zeros((0, features), np.float32)

    def wanted(self, keys: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Which of the pixels with these keys have a place in the sample as it is: a mask of the keys' shape."""
        if len(self._keys) < self._limit:
            return np.ones(keys.shape, np.bool_)
        return np.asarray(keys < self._keys[-1], np.bool_)

    def add(self, keys: NDArray[np.uint64], values: NDArray[np.float32]) -> None:
        """Offer pixels: keys ``(n,)`` and values ``(n, features)``."""
        joined = np.concatenate([self._keys, keys])
        order = np.argsort(joined, kind="stable")[: self._limit]
        self._keys = joined[order]
        self._values = np.concatenate([self._values, values])[order]

    @property
    def values(self) -> NDArray[np.float32]:
        """``(n, features)``, in the order of the keys; n is at most ``limit``."""
        return self._values
