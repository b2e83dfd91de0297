"""What is wrong with the values of a label, and what it would be if mended."""

import enum
import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terradelta.lab.data.images import Image
from terradelta.lab.data.labels import LabelCoding, decode_label, resolve_palette
from terradelta.lab.data.pairs import PairFiles

__all__ = ["CUT", "LabelKind", "LabelTally", "mended"]

CUT = 128
"""The value from which a blurred label means change."""
_NEAR = 64
_MOST = 0.98
_KEPT_VALUES = 1000
_CLASSES = 32


class LabelKind(enum.Enum):
    """What the values of a label are; the text stands in tables."""

    FULL_RANGE = "0 and 255"
    ONE = "0 and 1"
    EMPTY = "0 only"
    FULL = "changed everywhere"
    BLURRED = "blurred around 0 and 255"
    COLOURED = "coloured"
    CLASSES = "classes"
    CODED = "as the archive codes them"
    OTHER = "other values"

    @property
    def readable(self) -> bool:
        """Whether the label can be read as it is."""
        return self not in (LabelKind.BLURRED, LabelKind.COLOURED, LabelKind.CLASSES, LabelKind.OTHER)

    @property
    def mendable(self) -> bool:
        """Whether it is clear what the label says."""
        return self not in (LabelKind.CLASSES, LabelKind.OTHER)


_PLAIN = (
    ({0}, LabelKind.EMPTY),
    ({1}, LabelKind.FULL),
    ({255}, LabelKind.FULL),
    ({0, 1}, LabelKind.ONE),
    ({0, 255}, LabelKind.FULL_RANGE),
)


@dataclass
class LabelTally:
    """Counts of the values of one label, filled strip by strip."""

    files: PairFiles
    """The pair whose label it is."""
    values: Counter[float] = field(default_factory=Counter)
    differing: bool = False
    """Whether bands differ."""
    palette: bool = False
    total: int = 0
    _changed: dict[int, int] = field(default_factory=lambda: {1: 0, CUT: 0})
    _digests: dict[int, Any] = field(default_factory=lambda: {k: hashlib.blake2b(digest_size=16) for k in (1, CUT)})

    def add(self, strip: Image) -> None:
        """Count a strip.

        Raises:
            DataError: if the values are not those of the archive's coding.
        """
        values = resolve_palette(strip)
        self.palette |= strip.palette is not None
        self.differing |= bool(len(values) > 1 and (values != values[:1]).any())
        found, counts = np.unique(values[0], return_counts=True)
        if len(self.values) < _KEPT_VALUES:
            self.values.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
        coded = self.files.coding is not LabelCoding.BINARY
        for limit in self._changed:
            change = decode_label(strip, self.files.label, self.files.coding) if coded else mended(strip, limit)
            self._changed[limit] += int(change.sum())
            self._digests[limit].update(np.packbits(change).tobytes())
        self.total += int(values[0].size)

    @property
    def limit(self) -> int:
        """The value from which the label means change: 1 where it goes no higher, else 128."""
        return 1 if max(self.values, default=0) <= 1 and not self.differing else CUT

    @property
    def changed(self) -> int:
        """Pixels that are changed, once the label is mended."""
        return self._changed[self.limit]

    @property
    def digest(self) -> bytes:
        """Of what the label says, whatever its values are."""
        return bytes(self._digests[self.limit].digest())

    def kind(self) -> LabelKind:
        """What the values are; those of a coded archive are not judged by their numbers."""
        found = set(self.values)
        if self.files.coding is not LabelCoding.BINARY:
            return LabelKind.CODED
        if self.differing:
            return LabelKind.COLOURED
        for values, kind in _PLAIN:
            if found == values:
                return kind
        if self._share_near_the_ends() >= _MOST and max(found) > CUT:
            return LabelKind.BLURRED
        small = all(float(value).is_integer() and 0 <= value < _CLASSES for value in found)
        return LabelKind.CLASSES if small else LabelKind.OTHER

    def _share_near_the_ends(self) -> float:
        near = sum(n for value, n in self.values.items() if 0 <= value <= _NEAR or 255 - _NEAR <= value <= 255)
        return near / max(sum(self.values.values()), 1)

    def shown_values(self) -> str:
        """The commonest values, for a message."""
        common = sorted(value for value, _ in self.values.most_common(8))
        more = ", ..." if len(self.values) > len(common) else ""
        return ", ".join(f"{value:g}" for value in common) + more


def mended(label: Image, limit: int) -> NDArray[np.bool_]:
    """``(H, W)``, True where a band, alpha left out, is at least ``limit``: what a label that can be mended says."""
    values: NDArray[Any] = resolve_palette(label)
    seen = values[:3] if len(values) > 2 else values[:1]
    return np.asarray((seen >= limit).any(axis=0))
