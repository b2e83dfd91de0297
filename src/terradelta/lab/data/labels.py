"""What the values of a label mean: True where something changed."""

import enum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terradelta.errors import DataError
from terradelta.lab.data.images import Image

__all__ = ["UNKNOWN", "LabelCoding", "decode_label", "resolve_palette", "split_unknown"]

_CHANGED_VALUES = ({0, 255}, {0, 1})
_THRESHOLD = 128
UNKNOWN = 255
"""Value of `LabelCoding.MASKED` that says nothing."""


class LabelCoding(enum.Enum):
    """How a data set writes its labels."""

    BINARY = "binary"
    """0 is unchanged; 255, or 1, is changed; nothing else."""
    LOSSY = "lossy"
    """Saved as JPEG, which blurs 0 and 255: changed from 128 on."""
    ONE_TWO = "one-two"
    """1 is unchanged, 2 is changed."""
    NONZERO = "nonzero"
    """Changed wherever a band but alpha is not 0: labels that are pictures, or that name the kind of change."""
    MASKED = "masked"
    """0 is unchanged, 1 is changed, 255 is not known; nothing else."""


def split_unknown(label: Image, coding: LabelCoding) -> tuple[Image, NDArray[np.bool_] | None]:
    """A label with unchanged where it says nothing, and ``(H, W)`` where it says something; None: everywhere.

    A label says nothing at its nodata value, if that is not 0, and at 255 where that is the coding.
    """
    values = label.values[0]
    known = values != UNKNOWN if coding is LabelCoding.MASKED else np.ones(values.shape, np.bool_)
    if label.nodata:
        known &= values != label.nodata
    if known.all():
        return label, None
    unchanged = 1 if coding is LabelCoding.ONE_TWO else 0
    return Image(np.where(known, label.values, unchanged).astype(label.values.dtype), label.palette), known


def decode_label(label: Image, path: Path, coding: LabelCoding) -> NDArray[np.bool_]:
    """``(H, W)``, True where changed.

    Args:
        label: the label's image, of which `split_unknown` took what is not known.
        path: its file, for messages.
        coding: what its values mean.

    Raises:
        DataError: if the values are not those of the coding.
    """
    values = resolve_palette(label)
    if coding is LabelCoding.NONZERO:
        opaque = values[:3] if values.shape[0] > 2 else values[:1]
        return np.asarray((opaque != 0).any(axis=0))
    if values.shape[0] > 1 and not (values == values[:1]).all():
        raise DataError(f"{path}: a label with {values.shape[0]} differing bands; it must have one band, 0 = unchanged")
    if coding is LabelCoding.LOSSY:
        return np.asarray(values[0] >= _THRESHOLD)
    if coding is LabelCoding.MASKED:
        return _masked(values[0], path)
    if coding is LabelCoding.ONE_TWO:
        return _one_two(values[0], path)
    return _binary(values[0], path)


def resolve_palette(label: Image) -> NDArray[Any]:
    """The values ``(C, H, W)``; grey levels in place of indices where a colour table shows black and white."""
    if label.palette is None:
        return label.values
    used = [int(value) for value in np.unique(label.values[0])]
    colours = [label.palette.get(value, (value,) * 3) for value in used]
    greys = {colour[0] for colour in colours}
    if not (all(len(set(colour[:3])) == 1 for colour in colours) and greys <= _CHANGED_VALUES[0]):
        return label.values
    table = np.zeros(max(used) + 1, np.uint8)
    table[used] = [colour[0] for colour in colours]
    return np.asarray(table[label.values[:1]])


def _one_two(values: NDArray[Any], path: Path) -> NDArray[np.bool_]:
    found = set(np.unique(values).tolist())
    if not found <= {1, 2}:
        raise DataError(f"{path}: label values {sorted(found)[:8]}; allowed are 1 (unchanged) and 2 (changed)")
    return np.asarray(values == 2)


def _masked(values: NDArray[Any], path: Path) -> NDArray[np.bool_]:
    found = set(np.unique(values).tolist())
    if not found <= {0, 1}:
        raise DataError(
            f"{path}: label values {sorted(found | {UNKNOWN})[:8]}; allowed are 0 (unchanged), 1 (changed) and "
            f"{UNKNOWN} (not known)"
        )
    return np.asarray(values == 1)


def _binary(values: NDArray[Any], path: Path) -> NDArray[np.bool_]:
    found = set(np.unique(values).tolist())
    if not any(found <= allowed for allowed in _CHANGED_VALUES):
        raise DataError(
            f"{path}: label values {sorted(found)[:8]}; allowed are 0 and 255, or 0 and 1 (0 = unchanged). "
            "For 0, 1 and 255 = not known, write masked into the column coding of a CSV file of pairs. A label saved "
            "as JPEG has values between: threshold it at 128 and save it as PNG (`terradelta data check DIR --fix OUT` "
            "does)"
        )
    return np.asarray(values > 0)
