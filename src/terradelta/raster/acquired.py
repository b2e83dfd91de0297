"""When an image was taken: as its metadata say, or its name."""

import datetime
import os
import re
from dataclasses import dataclass

from terradelta.raster.source import Source

__all__ = ["Acquired", "acquired"]

_IN_NAME = re.compile(
    r"(?<!\d)(19[7-9]\d|20\d\d)([-_]?)(0[1-9]|1[0-2])\2([0-2]\d|3[01])(?:[T_]?([01]\d|2[0-3])([0-5]\d)([0-5]\d))?(?!\d)"
)
"""Year, month and day without signs between them or with the same one, and hours, minutes and seconds."""


@dataclass(frozen=True)
class Acquired:
    """A time, in UTC."""

    first: datetime.datetime
    """The earliest that it can be."""
    last: datetime.datetime
    """The latest: for a date, the end of the day."""
    known_from: str
    """``metadata``, or ``file name``."""


def acquired(source: Source) -> Acquired | None:
    """When an image was taken; None where neither its metadata nor its name say so.

    Metadata are those of a STAC item, or what GDAL knows from a product's (``ACQUISITIONDATETIME``). In a name, the
    first date counts, which in names of Landsat and Sentinel-2 is that of acquisition.
    """
    known = _parsed(source.acquired)
    if known is not None:
        return Acquired(known, known, "metadata")
    match = _IN_NAME.search(os.path.basename(source.path))
    if match is None:
        return None
    year, _, month, day, hour, minute, second = match.groups()
    try:
        date = datetime.datetime(int(year), int(month), int(day), tzinfo=datetime.UTC)
    except ValueError:  # 31 June
        return None
    if hour is None:
        return Acquired(date, date + datetime.timedelta(days=1, seconds=-1), "file name")
    exact = date.replace(hour=int(hour), minute=int(minute), second=int(second))
    return Acquired(exact, exact, "file name")


def _parsed(text: str) -> datetime.datetime | None:
    """A time of ISO 8601, in UTC where it names no zone; to the second."""
    try:
        found = datetime.datetime.fromisoformat(text.strip())
        found = found if found.tzinfo is not None else found.replace(tzinfo=datetime.UTC)
        return found.astimezone(datetime.UTC).replace(microsecond=0)
    except (ValueError, OverflowError):
        return None
