"""What stored values mean: reflectance is ``gain * value + offset``, with numbers that differ by sensor and by year.

The classical trap is Sentinel-2: since processing baseline 04.00 (25 January 2022; older images are being processed
anew) 1000 is added to every value, so that two dates differ by 0.1 of reflectance where nothing changed. What is known
of a file is taken, in this order, from a STAC item, from the scale and offset in the file, from the tags that GDAL
copies from a Sentinel-2 product, and from product names in the path.

Sources: Sentinel-2 Products Specification Document, BOA_ADD_OFFSET and RADIO_ADD_OFFSET (-1000, quantification 10000);
Landsat Collection 2 Level 2 Science Product Guides, surface reflectance (scale 2.75e-5, offset -0.2).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from terradelta.errors import InputError, RasterError

__all__ = ["VALUES_HELP", "Meaning", "agree", "band_names", "parse_values", "recognise", "sentinel_meaning", "told"]

_OFFSET_BASELINE = 400
_STEP = 1e-4
_SAME = 1e-9
_SENTINEL = "Sentinel-2"
_LANDSAT = "Landsat"

_S2_PRODUCT = re.compile(r"S2[A-D]_MSIL(?:1C|2A)_\d{8}T\d{6}_N(\d{4})_R\d{3}_T\d{2}[A-Z]{3}_\d{8}T\d{6}")
_S2_NAME = re.compile(
    r"(?:^|[/_])T?\d{2}[A-Z]{3}_\d{8}(?:T\d{6})?_|S2[A-D]_(?:MSIL(?:1C|2A)_\d{8}|\d{2}[A-Z]{3}_\d{8})"
)
_LANDSAT_NAME = re.compile(r"L[COTEM]0?([45789])_?_L[12](\w{2})_\d{6}_\d{8}_\d{8}_02_(?:T1|T2|RT|A1)")
_BAND_CODE = re.compile(r"_B(\d{1,2}|8A)(?:_\d{2}m)?(?:\.|$)", re.IGNORECASE)

_SENTINEL_BANDS = {
    **{"b1": "coastal", "b2": "blue", "b3": "green", "b4": "red", "b5": "rededge071", "b6": "rededge075"},
    **{"b7": "rededge078", "b8": "nir", "b8a": "nir08", "b9": "nir09", "b10": "cirrus", "b11": "swir16"},
    "b12": "swir22",
}
_OLI_BANDS = {
    **{"b1": "coastal", "b2": "blue", "b3": "green", "b4": "red", "b5": "nir", "b6": "swir16", "b7": "swir22"},
    **{"b8": "pan", "b9": "cirrus", "b10": "lwir11", "b11": "lwir12"},
}
_TM_BANDS = {
    **{"b1": "blue", "b2": "green", "b3": "red", "b4": "nir", "b5": "swir16", "b6": "lwir", "b7": "swir22"},
    "b8": "pan",
}

_KINDS = {"s2": (_STEP, 0.0), "s2-offset": (_STEP, -0.1), "landsat-c2": (2.75e-5, -0.2)}
VALUES_HELP = (
    "What stored values mean: auto; raw; or for each date one of raw, s2, s2-offset, landsat-c2, GAIN:OFFSET, "
    "e.g. s2,s2-offset."
)


@dataclass(frozen=True)
class Meaning:
    """What a file's values mean: reflectance (or another quantity) is ``gain * value + offset``."""

    origin: str
    """How it is known, for people."""
    gain: tuple[float, ...] = ()
    """Of each image band of the file; empty where the sensor is known but not what its values mean."""
    offset: tuple[float, ...] = ()
    sensor: str = ""
    """``Sentinel-2``, ``Landsat``, or empty."""

    def of(self, positions: Sequence[int]) -> tuple[tuple[float, float], ...]:
        """(gain, offset) of some bands, by their position in the file from 0."""
        return tuple((self.gain[i], self.offset[i]) for i in positions)


def recognise(
    path: str, tags: Mapping[str, str], scaled: Sequence[tuple[float, float]], dtypes: Sequence[str]
) -> Meaning | None:
    """What is known of a file's values.

    Args:
        path: the file's path or URL.
        tags: its metadata.
        scaled: (scale, offset) that the file gives for each image band.
        dtypes: dtype of each image band.

    Returns:
        None where nothing is known: no sensor's name, or values that are no longer the sensor's (8-bit pictures, real
        numbers).
    """
    count = len(dtypes)
    if any(abs(gain - 1) > _SAME or abs(offset) > _SAME for gain, offset in scaled):
        gains, offsets = zip(*scaled, strict=True)
        return Meaning("scale and offset in the file", gains, offsets)
    if any(dtype not in ("uint16", "int16", "uint32", "int32") for dtype in dtypes):
        return None
    tagged, product = tags.get("PROCESSING_BASELINE", ""), _S2_PRODUCT.search(path)
    if re.fullmatch(r"\d{2}\.\d{2}", tagged):
        return sentinel_meaning(int(tagged.replace(".", "")), "the tag PROCESSING_BASELINE", count)
    if product is not None:
        return sentinel_meaning(int(product[1]), "the product's name", count)
    landsat = _LANDSAT_NAME.search(path)
    if landsat is not None:
        known = landsat[2] in ("SP", "SR")
        gain, offset = _KINDS["landsat-c2"]
        return Meaning("the product's name", (gain,) * count * known, (offset,) * count * known, _LANDSAT)
    return Meaning("its name", sensor=_SENTINEL) if _S2_NAME.search(path) else None


def sentinel_meaning(baseline: int, origin: str, count: int) -> Meaning:
    """The meaning of Sentinel-2's values by processing baseline (400 for 04.00), for some bands."""
    offset = _KINDS["s2-offset" if baseline >= _OFFSET_BASELINE else "s2"][1]
    words = f"{origin}, processing baseline {baseline // 100:02d}.{baseline % 100:02d}"
    return Meaning(words, (_STEP,) * count, (offset,) * count, _SENTINEL)


def band_names(path: str, codes: Sequence[str]) -> tuple[str, ...]:
    """The part of the spectrum that each band shows, from the sensor's own names.

    Args:
        path: the file's path or URL: the product's name in it tells the sensor.
        codes: lower-case code of each band without leading zeros, e.g. ``b4``; empty where the file has none. The only
            band of a file may have its code in the file's name.

    Returns:
        STAC's common names (``red``); empty where unknown.
    """
    landsat = _LANDSAT_NAME.search(path)
    if landsat is not None:
        table = _OLI_BANDS if landsat[1] in "89" else _TM_BANDS
    elif _S2_PRODUCT.search(path) or _S2_NAME.search(path) or "b8a" in codes:
        table = _SENTINEL_BANDS
    else:
        return ("",) * len(codes)
    own = _BAND_CODE.search(path)
    if own is not None and list(codes) == [""]:
        codes = ["b" + own[1].lstrip("0").lower()]
    return tuple(table.get(code, "") for code in codes)


Conversion = tuple[tuple[float, float], ...] | None
"""(gain, offset) of each selected band; None: values stay as they are."""


def agree(
    meanings: tuple[Meaning | None, Meaning | None],
    positions: tuple[Sequence[int], Sequence[int]],
    paths: tuple[str, str],
    values: str = "auto",
) -> tuple[tuple[Conversion, Conversion], tuple[str, ...]]:
    """How to make both dates' values mean the same.

    Values whose meaning is the same on both dates stay as they are. Where both meanings are known and differ, both
    dates become reflectance.

    Args:
        meanings: what is known of the first and the second file.
        positions: positions of the selected bands in each file, from 0.
        paths: for messages.
        values: ``auto``, ``raw``, or two kinds, see `parse_values`.

    Returns:
        The conversion of each date, and warnings.

    Raises:
        RasterError: if both are Sentinel-2 images and only one's processing baseline is known.
        InputError: if ``values`` is not understood.
    """
    chosen = parse_values(values)
    if chosen is not None:
        return _as_told(chosen, (len(positions[0]), len(positions[1]))), ()
    first, second = meanings
    if first is not None and second is not None and first.gain and second.gain:
        before, after = first.of(positions[0]), second.of(positions[1])
        return ((None, None) if _equal(before, after) else (before, after)), ()
    known = [bool(meaning and meaning.gain) for meaning in meanings]
    if not any(known):
        return (None, None), _two_sentinels(meanings)
    one, other = (0, 1) if known[0] else (1, 0)
    if all(meaning is not None and meaning.sensor == _SENTINEL for meaning in meanings):
        raise RasterError(
            f"{paths[other]} is a Sentinel-2 image of unknown processing baseline: 1000 may have been added to its "
            f"values or not, and {paths[one]} says which it is (it is known from {_origin(meanings[one])}). "
            "Say it for both dates with --values, e.g. --values s2,s2-offset, or --values raw"
        )
    return (None, None), (
        f"what the values of {paths[one]} mean is known ({_origin(meanings[one])}), those of {paths[other]} not: they "
        "were compared as they are stored; say what they mean with --values",
    )


def _origin(meaning: Meaning | None) -> str:
    return meaning.origin if meaning is not None else ""


def _two_sentinels(meanings: tuple[Meaning | None, Meaning | None]) -> tuple[str, ...]:
    if not all(meaning is not None and meaning.sensor == _SENTINEL for meaning in meanings):
        return ()
    return (
        "both dates are Sentinel-2 images of unknown processing baseline: if 1000 was added to one date's values only "
        "(since baseline 04.00), everything looks changed; say it with --values, e.g. --values s2,s2-offset",
    )


def _equal(before: Sequence[tuple[float, float]], after: Sequence[tuple[float, float]]) -> bool:
    pairs = zip(before, after, strict=True)
    return all(abs(a[0] - b[0]) <= _SAME * abs(a[0]) and abs(a[1] - b[1]) <= _SAME for a, b in pairs)


def parse_values(text: str) -> tuple[tuple[float, float] | None, tuple[float, float] | None] | None:
    """What a user says that stored values mean.

    Args:
        text: ``auto``; ``raw``; or two of ``raw``, ``s2``, ``s2-offset``, ``landsat-c2`` and ``GAIN:OFFSET``, for the
            first and the second date, with a comma between.

    Returns:
        None for ``auto``; else (gain, offset) for each date, None for raw.

    Raises:
        InputError: if it is none of these.
    """
    if text == "auto":
        return None
    kinds = ["raw", "raw"] if text == "raw" else [part.strip() for part in text.split(",")]
    try:
        first, second = (_kind(part) for part in kinds)
    except ValueError as error:
        raise InputError(f"--values {text!r:.100} is not understood. {VALUES_HELP}") from error
    if (first is None) != (second is None):
        raise InputError(f"--values {text!r:.100}: if one date is raw, the other must be too; give its GAIN:OFFSET")
    return first, second


def _kind(text: str) -> tuple[float, float] | None:
    if text == "raw":
        return None
    if text in _KINDS:
        return _KINDS[text]
    gain, offset = (float(part) for part in text.split(":"))
    if not (0 < abs(gain) < float("inf") and abs(offset) < float("inf")):
        raise ValueError(text)
    return gain, offset


def told(kind: tuple[float, float] | None, count: int) -> Meaning | None:
    """What the user says that the values of so many bands mean; None for raw values."""
    return None if kind is None else Meaning("--values", (kind[0],) * count, (kind[1],) * count)


def _as_told(chosen: tuple[Any, Any], counts: tuple[int, int]) -> tuple[Conversion, Conversion]:
    first, second = (None if kind is None else (kind,) * count for kind, count in zip(chosen, counts, strict=True))
    return (None, None) if first == second else (first, second)
