"""Which bands of two images belong together: by number, by name, or all of them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from terradelta.errors import BandError

__all__ = ["NEAREST", "Band", "BandSelection", "band_code", "match_bands", "select_bands"]

_ALIASES = {
    "r": "red",
    "g": "green",
    "b": "blue",
    "near infrared": "nir",
    "near infra red": "nir",
    "red edge": "rededge",
    "coastal aerosol": "coastal",
    "swir1": "swir16",
    "swir 1": "swir16",
    "swir2": "swir22",
    "swir 2": "swir22",
    "panchromatic": "pan",
}
NEAREST = {"nir": "nir08", "nir08": "nir"}
"""What stands for a part of the spectrum that a sensor has under another name only."""
# Colour interpretations that name no part of the spectrum.
_NO_COLOUR = {"undefined", "gray", "palette", "alpha"}


@dataclass(frozen=True)
class Band:
    """One image band of a file, as the file describes it."""

    index: int
    """Number in the file, from 1."""
    dtype: str
    description: str = ""
    colour: str = ""
    """Colour interpretation (``red``, ``nir``, ...); may be any word GDAL knows."""
    common: str = ""
    """The part of the spectrum by the sensor's own band code, where the sensor is known; STAC's common name."""

    @property
    def names(self) -> frozenset[str]:
        """Lower-case names that the band answers to.

        For a description such as ``B4 Red (665 nm)``: the whole text, ``b4`` and ``red``. The colour interpretation
        counts only where the description names nothing, because GDAL marks the first three bands of many files as
        red, green and blue whatever they hold.
        """
        return frozenset({self.description.strip().lower(), _parse(self.description)[0], self.spectral} - {""})

    @property
    def spectral(self) -> str:
        """The part of the spectrum that the file says the band shows (``red``); empty where it says nothing."""
        name = _parse(self.description)[1] or self.common
        return name if name or self.colour in _NO_COLOUR else _parse(self.colour)[1]

    @property
    def code(self) -> str:
        """The sensor's own code in the description, lower case without leading zeros (``b4``); may be empty."""
        return band_code(self.description)

    @property
    def label(self) -> str:
        """How to call the band in a message: its description, its spectrum, its colour, or ``band N``."""
        if self.description.strip() or self.common:
            return self.description.strip() or self.common
        return self.colour if self.colour and self.colour not in _NO_COLOUR else f"band {self.index}"


@dataclass(frozen=True)
class BandSelection:
    """The bands to read from each date, in matching order."""

    before: tuple[int, ...]
    """Numbers in the first file, from 1."""
    after: tuple[int, ...]
    """Numbers in the second file, from 1."""
    names: tuple[str, ...]
    """Names of the selected bands."""
    warnings: tuple[str, ...] = ()
    """Sentences about choices that may be wrong."""


def _parse(text: str) -> tuple[str, str]:
    """A description's band code (``b4``) and its name (``red``); either may be empty."""
    text = re.sub(r"\([^)]*\)", " ", text.lower())
    text = " ".join(re.split(r"[\s_:,-]+", text)).strip()
    code = re.match(r"(?:b|band) ?0*(\d+[a-z]?)\b", text)
    name = text[code.end() :].strip() if code else text
    return (f"b{code[1]}" if code else ""), _ALIASES.get(name, name)


def band_code(text: str) -> str:
    """A sensor's own band code in a name, lower case without leading zeros (``b4``); empty where there is none."""
    return _parse(text)[0]


def match_bands(available: Sequence[Band], wanted: Sequence[str]) -> tuple[int, ...] | None:
    """Find bands by name; case does not matter.

    Args:
        available: the image bands of a file.
        wanted: band names, e.g. ``("red", "green", "blue")``.

    Returns:
        Band numbers from 1 in the order of ``wanted``, or None unless each name fits exactly one band.
    """
    found = [_find(available, name) for name in wanted]
    return tuple(numbers[0] for numbers in found) if all(len(numbers) == 1 for numbers in found) else None


def _find(available: Sequence[Band], name: str) -> list[int]:
    exact = [band.index for band in available if band.description.strip().lower() == name.strip().lower()]
    if len(exact) == 1:
        return exact
    code, spectral = _parse(name)
    asked = {name.strip().lower(), spectral or code} - {""}
    found = [band.index for band in available if asked & band.names]
    return found or [band.index for band in available if band.common and band.common == NEAREST.get(spectral)]


def select_bands(
    before: tuple[str, Sequence[Band]],
    after: tuple[str, Sequence[Band]],
    bands: Sequence[int | str] | None = None,
    wanted: Sequence[str] | None = None,
) -> BandSelection:
    """Choose the same bands from both dates.

    - ``bands`` given: these, by number (from 1, the same number in both files) or by name.
    - else ``wanted`` given (a model's bands): by name where both files name them, otherwise the first bands.
    - else: all bands; by the first file's names where both files have the same, otherwise in file order.

    Args:
        before: path, for messages, and image bands of the first date.
        after: the same of the second date.
        bands: numbers or names.
        wanted: names of the bands that a model takes.

    Raises:
        BandError: if a band does not exist, a name is ambiguous, or the dates differ in their number of bands.
    """
    if bands is not None:
        return _selected(before, after, bands, wanted)
    if wanted is not None:
        return _for_model(before, after, wanted)
    return _all(before, after)


def _selected(
    before: tuple[str, Sequence[Band]],
    after: tuple[str, Sequence[Band]],
    bands: Sequence[int | str],
    wanted: Sequence[str] | None,
) -> BandSelection:
    if isinstance(bands, str) or not bands:
        raise BandError(f"bands={bands!r} selects nothing; give a list of numbers from 1 or names, e.g. [1, 2, 3]")
    if wanted is not None and len(bands) != len(wanted):
        raise BandError(
            f"the model takes {len(wanted)} bands ({', '.join(wanted)}), but bands= selects {len(bands)}; "
            f"give {len(wanted)} in the model's order"
        )
    first = tuple(_pick(*before, key) for key in bands)
    second = tuple(_pick(*after, key) for key in bands)
    names, others = _labels(before[1], first), _labels(after[1], second)
    clashes = [
        f"band {key} is {a!r} in the first date and {b!r} in the second; band numbers were taken as given"
        for key, a, b in zip(bands, names, others, strict=True)
        if isinstance(key, int) and not a.startswith("band ") and not b.startswith("band ") and a.lower() != b.lower()
    ]
    return BandSelection(first, second, names, tuple(clashes))


def _pick(path: str, available: Sequence[Band], key: int | str) -> int:
    found = _find(available, key) if isinstance(key, str) else [b.index for b in available if b.index == key]
    if len(found) == 1:
        return found[0]
    problem = f"bands {', '.join(map(str, found))} of {path} are all called {key!r}" if found else ""
    problem = problem or f"{path} has no image band {key!r}"
    raise BandError(f"{problem}; it has {_listing(available)}; choose by number or by name (alpha bands do not count)")


def _for_model(
    before: tuple[str, Sequence[Band]], after: tuple[str, Sequence[Band]], wanted: Sequence[str]
) -> BandSelection:
    n = len(wanted)
    first, second = match_bands(before[1], wanted), match_bands(after[1], wanted)
    if first and second:
        return BandSelection(first, second, tuple(wanted))
    for path, available in (before, after):
        if len(available) < n:
            raise BandError(
                f"the model takes {n} bands ({', '.join(wanted)}), but {path} has {_listing(available)}; "
                "use images with these bands, or a model for the bands at hand"
            )
    by_position = tuple(band.index for band in before[1][:n])
    names = _labels(before[1], by_position)
    warning = (
        f"the files do not both name the bands {', '.join(wanted)}, so the first {n} bands were taken in their place "
        f"({', '.join(names)}); choose others with --bands (Python: bands=)"
    )
    return BandSelection(by_position, tuple(band.index for band in after[1][:n]), names, (warning,))


def _all(before: tuple[str, Sequence[Band]], after: tuple[str, Sequence[Band]]) -> BandSelection:
    if len(before[1]) != len(after[1]):
        raise BandError(
            f"{before[0]} has {_listing(before[1])} but {after[0]} has {_listing(after[1])}; "
            "choose the same number from both with bands=, e.g. bands=[1, 2, 3] or bands=['red', 'green', 'blue']"
        )
    first = tuple(band.index for band in before[1])
    names = _labels(before[1], first)
    in_order = tuple(band.index for band in after[1])
    if not all(band.names for band in (*before[1], *after[1])):
        return BandSelection(first, in_order, names)
    second = _same_names(before[1], after[1])
    if second is not None:
        return BandSelection(first, second, names)
    if names == _labels(after[1], in_order):  # several bands of one name, in the same places
        return BandSelection(first, in_order, names)
    warning = (
        f"the dates name their bands differently ({', '.join(names)}; {', '.join(_labels(after[1], in_order))}), "
        "so they were matched by position"
    )
    return BandSelection(first, in_order, names, (warning,))


def _same_names(before: Sequence[Band], after: Sequence[Band]) -> tuple[int, ...] | None:
    """For each band of the first date the one band of the second with the same name; None unless one to one.

    Parts of the spectrum count before band codes: B4 is red on one satellite and near infrared on another.
    """
    for name_them in (lambda band: {band.spectral} - {""}, lambda band: band.names):
        found = [[other.index for other in after if name_them(other) & name_them(band)] for band in before]
        numbers = [candidates[0] for candidates in found if len(candidates) == 1]
        if len(numbers) == len(before) == len(set(numbers)):
            return tuple(numbers)
    return None


def _labels(available: Sequence[Band], numbers: Sequence[int]) -> tuple[str, ...]:
    by_number = {band.index: band.label for band in available}
    return tuple(by_number[number] for number in numbers)


def _listing(available: Sequence[Band]) -> str:
    count = f"{len(available)} image band" + ("" if len(available) == 1 else "s")
    return f"{count} ({', '.join(f'{band.index}: {band.label}' for band in available)})"
