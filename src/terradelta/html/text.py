"""Numbers and places as a reader wants them; a dash for what is not known."""

import math
import re
from datetime import UTC, datetime

from markupsafe import Markup, escape

from terradelta.receipt import finite
from terradelta.strangers import printable

__all__ = [
    "area",
    "area_both",
    "area_range",
    "count",
    "fraction",
    "integer",
    "metres",
    "moment",
    "number",
    "place",
    "seconds",
    "sentence",
    "shown",
]

_MISSING = "–"
_OPTION = re.compile(r"(?<!\S)\(?--[a-z-]+\)?")


def shown(value: object) -> object:
    """What a page shows of a value: a dash for None, text as `printable` makes it; markup as it is."""
    if value is None:
        return _MISSING
    return value if hasattr(value, "__html__") else printable(str(value))


def sentence(value: object) -> Markup:
    """As `shown`, for the body of a page: no line ends within an option such as ``--draw``."""
    escaped = str(escape(shown(value)))
    return Markup(_OPTION.sub(lambda found: f'<span class="nobreak">{found[0]}</span>', escaped))


def number(value: float | None, digits: int = 2) -> str:
    """A number with thousands separated by commas."""
    amount = finite(value)
    return _MISSING if amount is None else f"{amount:,.{digits}f}"


def integer(value: float | None) -> str:
    """A whole number with thousands separated by commas."""
    return number(value, 0)


def metres(value: float | None) -> str:
    """A length in whole metres."""
    return _MISSING if finite(value) is None else f"{integer(value)} m"


def fraction(value: float | None) -> str:
    """A share of 1 in per cent, with two significant digits below 10 %."""
    amount = finite(value)
    if amount is None:
        return _MISSING
    percent = 100 * amount
    digits = 1 if abs(percent) >= 10 or percent == 0 else min(1 - math.floor(math.log10(abs(percent))), 6)
    return f"{percent:.{digits}f} %"


def area(value: float | None) -> str:
    """Square metres in the unit that reads best: m² up to 1 ha, ha up to 1 km², then km²."""
    amount = finite(value)
    if amount is None:
        return _MISSING
    if abs(amount) < 1e4:
        return f"{amount:,.0f} m²"
    return f"{amount / 1e4:,.2f} ha" if abs(amount) < 1e6 else f"{amount / 1e6:,.2f} km²"


def area_both(value: float | None) -> str:
    """As `area`, with the square metres beside it where the unit is another."""
    amount, words = finite(value), area(value)
    return words if amount is None or abs(amount) < 1e4 else f"{words} ({amount:,.0f} m²)"


def count(number: float | None, name: str) -> str:
    """A number of things: ``1 pixel``, ``2 pixels``."""
    return f"{integer(number)} {name}{'' if number == 1 else 's'}"


def area_range(low: float | None, high: float | None) -> str:
    """Two areas; the unit once where it is the same."""
    ends = [area(low), area(high)]
    unit = ends[1].rpartition(" ")[2]
    if finite(low) is not None and ends[0].endswith(f" {unit}"):
        ends[0] = ends[0].removesuffix(f" {unit}")
    return " to ".join(ends)


def seconds(value: float | None) -> str:
    """A duration: seconds, from two minutes on minutes and seconds."""
    amount = finite(value)
    if amount is None:
        return _MISSING
    if amount < 120:
        return f"{amount:.2f} s" if amount < 10 else f"{amount:.0f} s"
    return f"{int(amount // 60)} min {int(amount % 60)} s"


def moment(text: str) -> str:
    """A time of ISO 8601 in UTC to the minute; as it is where it is none."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return text


def place(lon: float | None, lat: float | None) -> str:
    """Degrees with five decimals, about one metre: latitude first."""
    x, y = finite(lon), finite(lat)
    if x is None or y is None:
        return _MISSING
    return f"{abs(y):.5f}° {'N' if y >= 0 else 'S'}, {abs(x):.5f}° {'E' if x >= 0 else 'W'}"
