"""What tells whether an input is still the same one: all that GDAL would read for it, by size, date and some bytes.

Files beside an image count as much as the image: a mask, overviews, or a nodata value in an ``.aux.xml`` change what is
read. So do those that are not there, as they may appear. Statistics in an ``.aux.xml`` do not count: programs that draw
an image, such as QGIS, leave them there at any time. The bytes are the first, the last, and blocks at places that
depend on the size alone; they show most changes that leave size and date as they were.
"""

import hashlib
import os
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from terradelta.errors import RasterError
from terradelta.raster.access import beside
from terradelta.raster.remote import RemoteFile, probe
from terradelta.raster.source import Source

__all__ = ["file_stamp", "input_stamp"]

_END, _BLOCK, _BLOCKS = 1 << 16, 1 << 14, 16
_STATISTICS = re.compile(
    r'<MDI key="STATISTICS_\w+">[^<]*</MDI>|<Histograms>(?:(?!<Histograms>).)*</Histograms>'
    r'|<Metadata>\s*</Metadata>|<PAMRasterBand band="\d+">\s*</PAMRasterBand>',
    re.DOTALL,
)
_NO_AUX = ("", "<PAMDataset/>", "<PAMDataset></PAMDataset>")
_AUX_BYTES = 1 << 20
"""A larger ``.aux.xml`` counts as it is."""
_MANY = 64
"""Of more files than this, only the ends are looked at."""


def input_stamp(source: Source, *, ask: bool = False) -> list[Any]:
    """What tells whether an input is still the same one, as JSON-ready values; first its path.

    Args:
        source: the input.
        ask: ask servers again about files behind URLs, in place of what they said when the input was opened.

    Raises:
        RasterError: if a file has vanished.
    """
    remotes = [probe(remote.url) if ask else remote for remote in source.remotes]
    blocks = _BLOCKS if len(source.files) <= _MANY else 0
    files = [file_stamp(file, blocks) for file in source.files]
    near = [_beside_stamp(file, blocks) for image in source.files for file in beside(image) if os.path.isfile(file)]
    files += [stamp for stamp in near if stamp is not None]
    return [source.path, *files, *[_remote(each) for each in remotes]]


def _remote(remote: RemoteFile) -> list[Any]:
    return [remote.name, remote.size, remote.etag, remote.modified, remote.sample]


def _beside_stamp(file: str, blocks: int) -> list[Any] | None:
    """As `file_stamp`, but of an ``.aux.xml`` what it says beside statistics; None if that is nothing."""
    try:
        if file.lower().endswith(".aux.xml") and os.path.getsize(file) <= _AUX_BYTES:
            text = Path(file).read_text("utf-8")
            for _ in range(3):  # statistics, then the metadata that held nothing else, then the band
                text = _STATISTICS.sub("", text)
            kept = "".join(text.split())
            return None if kept in _NO_AUX else [file, hashlib.sha256(kept.encode()).hexdigest()]
    except (OSError, UnicodeError):
        pass  # it counts as it is, or has vanished
    return file_stamp(file, blocks)


def file_stamp(file: str, blocks: int = _BLOCKS) -> list[Any]:
    """Path, bytes, time of the last change in nanoseconds, and a hash of the ends and so many blocks between.

    Raises:
        RasterError: if the file has vanished or cannot be read.
    """
    try:
        found = os.stat(file)
        with Path(file).open("rb") as stream:
            digest = hashlib.sha256()
            for start, size in _places(found.st_size, blocks):
                stream.seek(start)
                digest.update(stream.read(size))
    except OSError as error:
        raise RasterError(f"{file} was there when the run began, but is no more ({error.strerror})") from error
    return [file, found.st_size, found.st_mtime_ns, digest.hexdigest()]


def _places(size: int, blocks: int) -> Sequence[tuple[int, int]]:
    """(start, bytes) of what is hashed of a file."""
    if size <= 2 * _END + blocks * _BLOCK:
        return [(0, size)]
    chosen = random.Random(size)
    starts = sorted(chosen.randrange(_END, size - _END - _BLOCK) for _ in range(blocks))
    return [(0, _END), *((start, _BLOCK) for start in starts), (size - _END, _END)]
