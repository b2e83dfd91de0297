"""Small pictures of a result, as data URIs that an HTML page can hold."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_dilation

from terradelta.errors import ShapeError

__all__ = [
    "CHANGE_COLOUR",
    "RAMP",
    "Chip",
    "Picture",
    "Quicklooks",
    "change_picture",
    "data_uri",
    "difference_picture",
    "file_content",
    "probability_picture",
    "thumbnail",
]

CHANGE_COLOUR = (213, 94, 0)
"""Vermilion of the Okabe-Ito palette: told apart from grey with every kind of colour vision."""
RAMP = ((0, 34, 78), (53, 69, 108), (102, 105, 112), (149, 143, 120), (200, 184, 102), (254, 232, 56))
"""Evenly spaced colours of cividis, from 0 to 1."""
_INVALID_COLOUR = (188, 188, 188)

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Chip:
    """One change from near, on both dates; pictures of one size."""

    id: int
    """In the GeoPackage."""
    size: float
    """Its area, m², or pixels where the images have no ground units."""
    probability: float
    """Mean over the polygon, 0 to 1."""
    before: Picture
    """(h, w, 3) red, green, blue."""
    after: Picture
    outline: str
    """SVG path of the polygon, in pixels of the pictures."""


@dataclass(frozen=True)
class Quicklooks:
    """Reduced arrays of one result, all of the same (H, W); about 1000 pixels wide is enough for a page."""

    before: Picture
    """(H, W, 3) red, green, blue."""
    after: Picture
    """(H, W, 3) red, green, blue."""
    probability: NDArray[np.floating]
    """(H, W) probability of change in [0, 1]; anything where not valid."""
    change: NDArray[np.bool_]
    """(H, W) True where changed."""
    valid: NDArray[np.bool_]
    """(H, W) True where both images have data."""
    difference: NDArray[np.floating] | None = None
    """(H, W) length of the change vector of the standardised bands (CVA), 0 or more; None: not shown."""
    histogram: tuple[int, ...] = ()
    """Valid pixels of the whole map in equal steps of the probability from 0 to 1."""
    largest: tuple[Chip, ...] = ()
    """The largest changes."""
    doubtful: tuple[Chip, ...] = ()
    """Those whose mean probability is the lowest."""

    def __post_init__(self) -> None:
        shape = self.before.shape[:2]
        expected = {"before": (*shape, 3), "after": (*shape, 3), "probability": shape, "change": shape, "valid": shape}
        for name, wanted in expected.items():
            given = getattr(self, name).shape
            if given != wanted or 0 in given:
                raise ShapeError(f"quicklook {name!r} has shape {given}; give {wanted}, with no side of 0")

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        height, width = self.change.shape
        return height, width


def change_picture(quicklooks: Quicklooks) -> Picture:
    """The later image in grey with changed areas filled and outlined: ``(H, W, 3)``."""
    # A paler grey keeps the colour of the change the strongest thing on the picture.
    grey = 90 + np.float32(0.55) * quicklooks.after.mean(axis=2, keepdims=True, dtype=np.float32)
    out = np.repeat(grey, 3, axis=2)
    changed = quicklooks.change & quicklooks.valid
    colour = np.array(CHANGE_COLOUR, np.float32)
    out[changed] += 0.55 * (colour - out[changed])
    out[binary_dilation(changed) & ~changed] = colour
    return _mask(out, quicklooks.valid)


def probability_picture(quicklooks: Quicklooks) -> Picture:
    """The probability in the colours of `RAMP`: ``(H, W, 3)``."""
    return _ramped(quicklooks.probability, quicklooks.valid)


def difference_picture(quicklooks: Quicklooks) -> Picture:
    """The difference in the colours of `RAMP`, up to what all but 1 % of the pixels have: ``(H, W, 3)``."""
    difference, valid = quicklooks.difference, quicklooks.valid
    assert difference is not None
    most = float(np.percentile(difference[valid], 99)) if valid.any() else 1.0
    return _ramped(difference / (most or 1.0), valid)


def _ramped(values: NDArray[np.floating], valid: NDArray[np.bool_]) -> Picture:
    """Values from 0 to 1 in the colours of `RAMP`."""
    value = np.clip(np.nan_to_num(values), 0, 1)
    stops = np.linspace(0, 1, len(RAMP))
    out = np.empty((*value.shape, 3), np.float32)
    for number, channel in enumerate(zip(*RAMP, strict=True)):
        out[..., number] = np.interp(value, stops, channel)
    return _mask(out, valid)


def _mask(picture: NDArray[np.floating], valid: NDArray[np.bool_]) -> Picture:
    """Diagonal stripes where there is no data."""
    out = picture.round().astype(np.uint8)
    rows, cols = np.nonzero(~valid)
    stripe = np.where((rows + cols) % 12 < 2, 0.85, 1.0)[:, None] * np.array(_INVALID_COLOUR, float)
    out[rows, cols] = stripe.round().astype(np.uint8)
    return out


def thumbnail(quicklooks: Quicklooks, side: int) -> bytes:
    """`change_picture` as a JPEG of at most ``side`` pixels a side; a change of one pixel is not lost."""
    step = -(-max(quicklooks.shape) // side)
    rows, cols = (range(0, length, step) for length in quicklooks.shape)
    change = np.logical_or.reduceat(np.logical_or.reduceat(quicklooks.change, rows, axis=0), cols, axis=1)
    thin = np.s_[::step, ::step]
    smaller = Quicklooks(
        quicklooks.before[thin],
        quicklooks.after[thin],
        quicklooks.probability[thin],
        change,
        np.asarray(quicklooks.valid[thin] | change, bool),
    )
    return encoded(change_picture(smaller), lossless=False)


def data_uri(picture: Picture, lossless: bool = False) -> str:
    """A picture ``(H, W, 3)`` as a ``data:`` address, see `encoded`."""
    content = base64.b64encode(encoded(picture, lossless)).decode("ascii")
    return f"data:image/{'png' if lossless else 'jpeg'};base64,{content}"


def encoded(picture: Picture, lossless: bool) -> bytes:
    """A picture ``(H, W, 3)`` as a JPEG (quality 88) or, if lossless, a PNG."""
    return file_content(picture, "PNG") if lossless else file_content(picture, "JPEG", quality=88)


def file_content(picture: Picture, kind: str, **options: int) -> bytes:
    """A picture ``(H, W, C)``, C 1 to 4 (the last of 2 and 4 is opacity), as a file.

    Safe to use from several threads, unlike GDAL's drivers: their warning of a lacking georeference can be kept quiet
    for the whole process only.

    Args:
        picture: of at least a pixel.
        kind: Pillow's name of the format, such as ``WEBP``.
        options: of the format, see Pillow.
    """
    content = io.BytesIO()
    Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture).save(content, kind, **options)
    return content.getvalue()
