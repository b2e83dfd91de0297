"""Is there a second class at all? Pixels that only noise marks as changed do not lie together; change does.

A threshold splits any magnitudes in two, those of mere sensor noise too. What tells the two apart is not how large the
magnitudes are (an unchanged harbour has ships) but where they lie: among independent pixels, whether a neighbour is
marked does not depend on the pixel; a field, a building or a lake is marked as a whole. The measure is the correlation
of the marks of pixels that share a side, the join count statistic of Moran (The interpretation of statistical maps,
J. R. Stat. Soc. B 10(2), 1948) over its largest value: 0 for independent pixels, 1 for large solid shapes.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["COHERENT", "Coherence"]

COHERENT = 0.5
"""Marks below this are no change that can be told from noise. Measured by ``benchmarks/false_alarms.py``."""


class Coherence:
    """Correlation of the marks of neighbours, added up over windows; pixels without data do not count."""

    def __init__(self) -> None:
        self._pairs = self._first = self._second = self._both = 0

    def add(self, marked: NDArray[np.bool_], valid: NDArray[np.bool_]) -> None:
        """Add a window ``(H, W)`` of marks."""
        for one, other in ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[1:], np.s_[:-1])):
            counted = valid[one] & valid[other]
            first, second = marked[one] & counted, marked[other] & counted
            self._pairs += int(counted.sum())
            self._first += int(first.sum())
            self._second += int(second.sum())
            self._both += int((first & second).sum())

    @property
    def value(self) -> float:
        """In [-1, 1]; 0 where all neighbours are marked or none is."""
        if not self._pairs:
            return 0.0
        first, second, both = (count / self._pairs for count in (self._first, self._second, self._both))
        spread = np.sqrt(first * (1 - first) * second * (1 - second))
        return float((both - first * second) / spread) if spread > 0 else 0.0
