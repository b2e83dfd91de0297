"""Take small groups of pixels out of a mask that arrives strip by strip; the same as of the whole mask at once."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from terradelta.errors import InputError

__all__ = ["LARGEST_SIEVE", "Sieve"]

LARGEST_SIEVE = 1000

Rows = tuple[NDArray[np.bool_], NDArray[np.float32]]


class Sieve:
    """Groups of fewer than ``least_px`` true pixels that share edges become false.

    A group that reaches the last row known may go on, so it waits; but a group of n rows has n pixels or more. So at
    most ``least_px`` - 1 rows are held back. Holes in groups stay.

    ``removed`` counts the pixels that became false.

    Args:
        least_px: pixels of the smallest group that stays; 0 and 1: all stay.

    Raises:
        InputError: if it is negative or above 1000.
    """

    def __init__(self, least_px: int) -> None:
        if not 0 <= least_px <= LARGEST_SIEVE:
            raise InputError(f"sieve is {least_px} pixels; it must be 0 to {LARGEST_SIEVE}")
        self._least = least_px
        self._held: Rows | None = None
        self._above: NDArray[np.bool_] | None = None
        """The last row that was given out; what touches it belongs to a group that stays."""
        self.removed = 0

    def push(self, mask: NDArray[np.bool_], values: NDArray[np.float32]) -> Rows:
        """Take the next rows ``(rows, width)`` of the mask and of values that go along.

        Returns:
            The rows that are decided, from the top: none, fewer or more than were given.
        """
        if self._least < 2:
            return mask, values
        if self._held is not None:
            mask, values = (np.concatenate(pair) for pair in zip(self._held, (mask, values), strict=True))
        mask, undecided = self._sieved(mask)
        stop = len(mask)
        if undecided.any():
            stop = int(np.argmax(undecided.any(axis=1)))
        return self._give(mask, values, stop)

    def finish(self) -> Rows | None:
        """The rows that are left, None if there are none: what waited is not going on."""
        if self._held is None:
            return None
        mask, undecided = self._sieved(self._held[0])
        self.removed += int(undecided.sum())
        rows = mask & ~undecided, self._held[1]
        self._held = None
        return rows

    def _give(self, mask: NDArray[np.bool_], values: NDArray[np.float32], stop: int) -> Rows:
        self._held = (mask[stop:].copy(), values[stop:].copy()) if stop < len(mask) else None
        if stop:
            self._above = mask[stop - 1].copy()
        return mask[:stop], values[:stop]

    def _sieved(self, mask: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """The mask without small groups that have ended, and the pixels of small groups that may go on."""
        labels, count = ndimage.label(mask)
        small = np.bincount(labels.ravel(), minlength=count + 1) < self._least
        if self._above is not None:
            small[labels[0][self._above]] = False
        small[0] = False
        going_on = np.zeros(count + 1, bool)
        going_on[labels[-1]] = True
        ended = (small & ~going_on)[labels]
        self.removed += int(ended.sum())
        return mask & ~ended, (small & going_on)[labels]
