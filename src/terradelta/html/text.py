"""Numbers and places as a reader wants them. Every function takes what JSON may hold and never fails on it."""

import math
import re
from html import escape
from typing import Any

__all__ = [
    "area",
    "area_range",
    "finite",
    "fraction",
    "integer",
    "metres",
    "number",
    "place",
    "seconds",
    "sentence",
    "text",
]

_MISSING = "–"
_OPTION = re.compile(r"(?<!\S)\(?--[a-z-]+\)?")


def finite(value: Any) -> float | None:  # noqa: ANN401  from JSON
    """A number as a float; None for anything else, also for infinity and NaN."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def text(value: Any) -> str:  # noqa: ANN401  from JSON
    """Any value as escaped text; a dash for None."""
    return _MISSING if value is None else escape(str(value))


def sentence(value: Any) -> str:  # noqa: ANN401  from JSON
    """As `text`, for the body of a page: no line ends within an option such as ``--draw``."""
    return _OPTION.sub(lambda found: f'<span class="nobreak">{found[0]}</span>', text(value))


def number(value: Any, digits: int = 2) -> str:  # noqa: ANN401  from JSON
    """A number with thousands separated by commas."""
    amount = finite(value)
    return _MISSING if amount is None else f"{amount:,.{digits}f}"


def integer(value: Any) -> str:  # noqa: ANN401  from JSON
    """A whole number with thousands separated by commas."""
    return number(value, 0)


def metres(value: Any) -> str:  # noqa: ANN401  from JSON
    """A length in whole metres."""
    return _MISSING if finite(value) is None else f"{integer(value)} m"


def fraction(value: Any) -> str:  # noqa: ANN401  from JSON
    """A share of 1 in per cent, with two significant digits below 10 %."""
    amount = finite(value)
    if amount is None:
        return _MISSING
    percent = 100 * amount
    digits = 1 if abs(percent) >= 10 or percent == 0 else min(1 - math.floor(math.log10(abs(percent))), 6)
    return f"{percent:.{digits}f} %"


def area(value: Any) -> str:  # noqa: ANN401  from JSON
    """Square metres in the unit that reads best: m² up to 1 ha, ha up to 1 km², then km²."""
    amount = finite(value)
    if amount is None:
        return _MISSING
    if abs(amount) < 1e4:
        return f"{amount:,.0f} m²"
    return f"{amount / 1e4:,.2f} ha" if abs(amount) < 1e6 else f"{amount / 1e6:,.2f} km²"


def area_range(low: Any, high: Any) -> str:  # noqa: ANN401  from JSON
    """Two areas; the unit once where it is the same."""
    ends = [area(low), area(high)]
    unit = ends[1].rpartition(" ")[2]
    if finite(low) is not None and ends[0].endswith(f" {unit}"):
        ends[0] = ends[0].removesuffix(f" {unit}")
    return " to ".join(ends)


def seconds(value: Any) -> str:  # noqa: ANN401  from JSON
    """A duration: seconds, from two minutes on minutes and seconds."""
    amount = finite(value)
    if amount is None:
        return _MISSING
    if amount < 120:
        return f"{amount:.2f} s" if amount < 10 else f"{amount:.0f} s"
    return f"{int(amount // 60)} min {int(amount % 60)} s"


def place(lon: Any, lat: Any) -> str:  # noqa: ANN401  from JSON
    """Degrees with five decimals, about one metre: latitude first."""
    x, y = finite(lon), finite(lat)
    if x is None or y is None:
        return _MISSING
    return f"{abs(y):.5f}° {'N' if y >= 0 else 'S'}, {abs(x):.5f}° {'E' if x >= 0 else 'W'}"
