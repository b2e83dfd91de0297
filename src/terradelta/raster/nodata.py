"""Which values are no data: what the user says of them, in which bands they must stand, and fills that nobody declared.

A nodata value that a band may as well have measured (0, or the largest of an integer type) takes a pixel out only where
all bands that are compared hold it, as GDAL's dataset mask has it: dark blue is no hole. Any other value (-9999) is no
measurement, so one band is enough.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from terradelta.errors import InputError

__all__ = ["NODATA_BANDS", "NODATA_HELP", "Fill", "NodataBands", "Told", "find_fill", "in_all_bands", "parse_nodata"]

NodataBands = Literal["auto", "all", "any"]
NODATA_BANDS: tuple[NodataBands, ...] = ("auto", "all", "any")
NODATA_HELP = (
    "Value that means no data: auto (as the file says), none, a number; or one of these for each date: -9999,none"
)

_LEAST_SHARE, _LEAST_SPIKE = 0.002, 0.01
"""Share of the pixels that a fill far from all other values has, and one beside them that fills a border."""
_GAP = 0.25
"""Distance from a fill to the nearest other value, in units of the range of the others, that no sensor leaves."""


@dataclass(frozen=True)
class Told:
    """What a user says of a file's nodata value, in place of what the file says."""

    value: float | None
    """None: there is none."""

    def fits(self, dtype: str) -> bool:
        """Whether a band of a dtype can hold the value. NaN needs no saying: it is no data anyhow."""
        if self.value is None or math.isnan(self.value):
            return False
        if np.dtype(dtype).kind not in "iu":
            return True
        limits = np.iinfo(dtype)
        return float(self.value).is_integer() and limits.min <= self.value <= limits.max


def parse_nodata(text: str) -> tuple[Told | None, Told | None]:
    """What a user says of both dates.

    Args:
        text: ``auto``, ``none`` or a number, for both dates, or two of these with a comma between.

    Returns:
        For each date what it says; None: as the file says.

    Raises:
        InputError: if it is none of these.
    """
    parts = [part.strip().lower() for part in text.split(",")]
    try:
        if len(parts) > 2:
            raise ValueError(text)
        first, second = (_told(part) for part in (parts * 2)[:2])
    except ValueError as error:
        raise InputError(f"--nodata {text!r:.100} is not understood. {NODATA_HELP}") from error
    return first, second


def _told(text: str) -> Told | None:
    if text == "auto":
        return None
    return Told(None if text == "none" else float(text))


def in_all_bands(value: float, dtype: str, rule: NodataBands) -> bool:
    """Whether a pixel is no data only where all bands hold the value (True), or where one does."""
    if rule != "auto":
        return rule == "all" and not math.isnan(value)
    kind = np.dtype(dtype)
    return value == 0 or (kind.kind in "iu" and value == np.iinfo(kind).max)


@dataclass(frozen=True)
class Fill:
    """A value that seems to stand for no data."""

    value: float
    share: float
    """Of the valid pixels, 0 to 1."""
    collar: bool
    """Whether it lies along the border; otherwise it lies far from all other values."""


def find_fill(values: NDArray[Any], valid: NDArray[np.bool_]) -> Fill | None:
    """A fill among pixels that count as valid: the same extreme value in all bands.

    It is one if no other value comes near it, or if it reaches in from the border as a collar.

    Args:
        values: ``(C, h, w)`` raw values of one date.
        valid: ``(h, w)``.
    """
    if not valid.any():
        return None
    known = values[:, valid]
    for value in dict.fromkeys((known.min().item(), known.max().item())):
        inside = (values == value).all(axis=0) & valid
        share = float(inside.sum() / valid.sum())
        if share < _LEAST_SHARE or share == 1:
            continue
        rest = values[:, valid & ~inside].astype(np.float64)
        others = rest[rest != value]
        if not others.size:
            continue
        gap = np.abs(others - value).min()
        if gap > 1 and gap > _GAP * max(float(np.ptp(others)), 1.0):
            return Fill(value, share, collar=False)
        collar = _from_border(inside)
        if collar / valid.sum() >= _LEAST_SPIKE:
            return Fill(value, share, collar=True)
    return None


def _from_border(inside: NDArray[np.bool_]) -> int:
    """Pixels of the regions that hold a corner of the image, or half of one of its sides."""
    labels, count = ndimage.label(inside)
    wide = {int(labels[i, j]) for i in (0, -1) for j in (0, -1)}
    for side in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        wide |= set(np.flatnonzero(np.bincount(side, minlength=count + 1) * 2 >= len(side)).tolist())
    return int(np.isin(labels, sorted(wide - {0})).sum())
