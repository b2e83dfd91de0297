"""Known disturbances of a pair, in units that one can read: what a robustness card is made of.

Each takes raw sensor values ``(C, H, W)`` of both dates, of any type, and gives the same type back; integers are
rounded and kept within their range. What is random depends on the seed, the kind and the image's name alone, not on the
level: along a curve only the strength changes. The label stays: none of them is a change on the ground.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.transform import resize

from terradelta.card import ModelCard
from terradelta.lab.synthetic.image_bytes import jpeg_round_trip

__all__ = ["KINDS", "Kind", "disturb", "kinds_for"]

Raw = NDArray[Any]
Values = NDArray[np.float64]
Dates = tuple[Values, Values]


@dataclass(frozen=True)
class Disturbed:
    """What a disturbance works on."""

    before: Values
    after: Values
    level: float
    card: ModelCard
    rng: np.random.Generator


@dataclass(frozen=True)
class Kind:
    """One kind of disturbance."""

    name: str
    unit: str
    levels: tuple[float, ...]
    """From mild to severe (signed kinds: from one side to the other), without the undisturbed level."""
    what: str
    """What is done, in one sentence."""
    change: Callable[[Disturbed], Dates]

    def label(self, level: float) -> str:
        """A level with its unit, for people."""
        return f"{level:g} {self.unit}".strip() if self.unit != "-" else self.name


def disturb(kind: Kind, level: float, before: Raw, after: Raw, card: ModelCard, *, key: str) -> tuple[Raw, Raw]:
    """One disturbed pair.

    Args:
        kind: what to do.
        level: how strongly, in the kind's unit.
        before: ``(C, H, W)`` raw values.
        after: the same of the second date.
        card: names the bands and the raw value that counts as 1.
        key: what the randomness depends on, besides the kind: seed and name of the image.
    """
    digest = hashlib.sha256(f"{kind.name} {key}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    first, second = kind.change(Disturbed(before.astype(np.float64), after.astype(np.float64), level, card, rng))
    return _like(first, before), _like(second, after)


def kinds_for(card: ModelCard) -> tuple[tuple[Kind, ...], dict[str, str]]:
    """The kinds that the model's bands allow, and for the others the reason why not."""
    if _vegetation_bands(card) is not None:
        return KINDS, {}
    reason = "needs bands named red and nir, or red, green and blue"
    return tuple(kind for kind in KINDS if kind.name != "season"), {"season": reason}


def _like(values: Values, raw: Raw) -> Raw:
    """Values in the type of the raw ones."""
    if np.issubdtype(raw.dtype, np.integer):
        limits = np.iinfo(raw.dtype)
        return np.clip(np.rint(values), limits.min, limits.max).astype(raw.dtype)
    return values.astype(raw.dtype)


def _misregister(d: Disturbed) -> Dates:
    angle = d.rng.uniform(0, 2 * np.pi)
    shift = (d.level * np.sin(angle), d.level * np.cos(angle))
    return d.before, np.stack([ndimage.shift(band, shift, order=3, mode="reflect") for band in d.after])


def _brighten(d: Disturbed) -> Dates:
    return d.before, d.after * d.level


def _contrast(d: Disturbed) -> Dates:
    mean = d.after.mean(axis=(1, 2), keepdims=True)
    return d.before, mean + d.level * (d.after - mean)


def _haze(d: Disturbed) -> Dates:
    light = np.percentile(d.after, 99, axis=(1, 2), keepdims=True)
    share = d.level / 100
    return d.before, (1 - share) * d.after + share * light


def _vegetation_bands(card: ModelCard) -> tuple[str, ...] | None:
    return next((names for names in (("red", "nir"), ("red", "green", "blue")) if set(names) <= set(card.bands)), None)


def _season(d: Disturbed) -> Dates:
    """Vegetation turns towards straw: by NDVI where there is near infrared, else by the excess of green."""
    names = _vegetation_bands(d.card) or ()
    after = d.after.copy()
    bands = [after[d.card.bands.index(name)] for name in names]
    total = np.maximum(sum(bands), 1e-9)
    if len(names) == 2:
        red, nir = bands
        amount = d.level / 100 * np.clip(((nir - red) / total - 0.2) / 0.3, 0, 1)
        nir *= 1 - 0.4 * amount
        red *= 1 + 0.5 * amount
        return d.before, after
    red, green, blue = bands
    amount = d.level / 100 * np.clip((2 * green - red - blue) / total / 0.1, 0, 1)
    straw = (0.40, 0.36, 0.24)  # shares of the bands in a colour as bright as before
    for name, band, share in zip(names, bands, straw, strict=True):
        after[d.card.bands.index(name)] = band + amount * (share * total - band)
    return d.before, after


def _noise(d: Disturbed) -> Dates:
    sigma = d.level / 100 * d.card.scale
    first, second = (date + sigma * d.rng.standard_normal(date.shape) for date in (d.before, d.after))
    return first, second


def _blur(d: Disturbed) -> Dates:
    return d.before, ndimage.gaussian_filter(d.after, (0, d.level, d.level))


def _jpeg(d: Disturbed) -> Dates:
    return _recoded(d.before, d), _recoded(d.after, d)


def _recoded(values: Values, d: Disturbed) -> Values:
    """As from a JPEG file; values of more than 8 bits are scaled to 0 to 255 between their extremes first."""
    if d.card.scale == 255 and len(values) in (1, 3) and values.min() >= 0 and values.max() <= 255:
        return np.asarray(jpeg_round_trip(np.rint(values).astype(np.uint8), round(d.level)), np.float64)
    low, high = values.min(axis=(1, 2), keepdims=True), values.max(axis=(1, 2), keepdims=True)
    step = np.maximum(high - low, 1e-9) / 255
    bytes_ = np.rint((values - low) / step).astype(np.uint8)
    return np.asarray(low + step * np.concatenate([jpeg_round_trip(band[None], round(d.level)) for band in bytes_]))


def _coarsen(d: Disturbed) -> Dates:
    return _coarser(d.before, d.level), _coarser(d.after, d.level)


def _coarser(values: Values, factor: float) -> Values:
    """Averaged to pixels of ``factor`` times the side, and interpolated back."""
    shape = values.shape[1:]
    small = tuple(max(round(side / factor), 1) for side in shape)
    out = [resize(resize(band, small, order=1, anti_aliasing=True, mode="reflect"), shape, order=1) for band in values]
    return np.stack(out)


def _swap(d: Disturbed) -> Dates:
    return d.after, d.before


def _cast(d: Disturbed) -> Dates:
    gains = np.linspace(1 + d.level / 100, 1 - d.level / 100, len(d.after))
    return d.before, d.after * gains[:, None, None]


KINDS = (
    Kind(
        *("misregistration", "px", (0.5, 1, 2, 3, 5)),
        "The second date is moved by so many pixels in a random direction (cubic interpolation).",
        _misregister,
    ),
    Kind("brightness", "x", (0.6, 0.8, 1.25, 1.6), "The second date is multiplied by this factor.", _brighten),
    Kind(
        *("contrast", "x", (0.5, 0.75, 1.33, 2)),
        "Differences of the second date from its mean of each band are multiplied by this factor.",
        _contrast,
    ),
    Kind(
        *("haze", "%", (10, 25, 50)),
        "So much of the light of the second date comes from haze as bright as its 99th percentile.",
        _haze,
    ),
    Kind("season", "%", (25, 50, 100), "Vegetation of the second date has turned to straw by so much.", _season),
    Kind(
        *("noise", "% of scale", (1, 2, 4, 8)),
        "White Gaussian noise of this standard deviation on both dates; 100 % is the raw value that counts as 1.",
        _noise,
    ),
    Kind("blur", "px", (0.5, 1, 2, 3), "The second date is blurred by a Gaussian of this standard deviation.", _blur),
    Kind("jpeg", "quality", (90, 70, 50, 30, 10), "Both dates are compressed as JPEG of this quality.", _jpeg),
    Kind(
        *("resolution", "x pixel", (1.5, 2, 3, 4)),
        "Both dates are averaged to pixels of so many times the side, and interpolated back.",
        _coarsen,
    ),
    Kind("swapped dates", "-", (1,), "The dates are exchanged.", _swap),
    Kind(
        *("colour cast", "%", (-20, -10, 10, 20)),
        "The first band of the second date is multiplied by 1 + this, the last by 1 - this, those between in steps.",
        _cast,
    ),
)
"""All kinds, in the order of the card."""
