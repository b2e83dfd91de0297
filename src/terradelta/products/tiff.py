"""The bytes of a Cloud Optimised GeoTIFF: directories, then the compressed blocks of each resolution.

Sources: TIFF 6.0 (Adobe, 1992), section 2; BigTIFF (Aware Systems); the "ghost area" after the header, by which GDAL
tells how the blocks are laid out (GDAL's COG driver, "Header ghost area").
"""

import shutil
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from terradelta.errors import OutputError

__all__ = ["BLOCK_FRAME", "Resolution", "Tag", "frame_block", "read_tags", "write_cog"]

_LAYOUT = (
    b"LAYOUT=IFDS_BEFORE_DATA\nBLOCK_ORDER=ROW_MAJOR\nBLOCK_LEADER=SIZE_AS_UINT4\n"
    b"BLOCK_TRAILER=LAST_4_BYTES_REPEATED\nKNOWN_INCOMPATIBLE_EDITION=NO\n "
)
_GHOST = b"GDAL_STRUCTURAL_METADATA_SIZE=%06d bytes\n" % len(_LAYOUT) + _LAYOUT
BLOCK_FRAME = 4
"""Bytes before and after each block: its size, and its last bytes again."""

_CLASSIC_LIMIT = 2**32
_SHORT, _LONG, _LONG8 = 3, 4, 16
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 16: 8, 17: 8, 18: 8}
_SUBFILE, _WIDTH, _HEIGHT, _OFFSETS, _BYTE_COUNTS = 254, 256, 257, 324, 325
_OF_THE_FILE = frozenset({33550, 33922, 34264, 34735, 34736, 34737, 42112})
"""Tags that say where the image lies and what it is; overviews leave them out."""


@dataclass(frozen=True)
class Tag:
    """The value of one tag: TIFF's number of its type, how many values, and their bytes, little-endian."""

    kind: int
    count: int
    content: bytes


@dataclass(frozen=True)
class Resolution:
    """The blocks of one resolution, compressed and framed by `frame_block`, in row-major order in a file."""

    shape: tuple[int, int]
    """(height, width) in pixels."""
    blocks: Path
    sizes: Sequence[int]
    """Compressed bytes of each block, without its frame."""


def frame_block(block: bytes) -> bytes:
    """A compressed block with its size before it and its last four bytes repeated after it."""
    return struct.pack("<I", len(block)) + block + block[-BLOCK_FRAME:].rjust(BLOCK_FRAME, b"\0")


def read_tags(content: bytes) -> dict[int, Tag]:
    """The tags of the first image of a classic little-endian TIFF file, as GDAL writes small ones.

    Raises:
        OutputError: if it is another kind of file.
    """
    if content[:4] != b"II*\0":
        raise OutputError("this GDAL writes no little-endian classic TIFF files; unset GDAL's options for TIFF files")
    (offset,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, offset)
    tags = {}
    for entry in range(offset + 2, offset + 2 + 12 * count, 12):
        code, kind, number = struct.unpack_from("<HHI", content, entry)
        size = _SIZES[kind] * number
        start = entry + 8 if size <= 4 else struct.unpack_from("<I", content, entry + 8)[0]
        tags[code] = Tag(kind, number, content[start : start + size])
    return tags


def write_cog(target: Path, tags: Mapping[int, Tag], resolutions: Sequence[Resolution]) -> None:
    """Put directories and blocks into their final order.

    Args:
        target: where to write.
        tags: what `read_tags` read from a file that has all but the size and the blocks in common with the one to make.
        resolutions: the image, followed by its overviews from large to small.
    """
    size = sum(sum(each.sizes) + 2 * BLOCK_FRAME * len(each.sizes) for each in resolutions)
    big = size + sum(24 * len(each.sizes) + 10_000 for each in resolutions) >= _CLASSIC_LIMIT
    start = 16 if big else 8
    directories_at = start + len(_GHOST) + len(_GHOST) % 2
    # Offsets do not change how long directories are, so a first pass with none finds where the blocks begin.
    empty = _directories(tags, resolutions, [0] * len(resolutions), directories_at, big)
    data_at, firsts = directories_at + len(empty), []
    for each in reversed(resolutions):  # the smallest overview comes first in the file
        firsts.append(data_at)
        data_at += sum(each.sizes) + 2 * BLOCK_FRAME * len(each.sizes)
    header = (
        struct.pack("<2sHHHQ", b"II", 43, 8, 0, directories_at)
        if big
        else struct.pack("<2sHI", b"II", 42, directories_at)
    )
    with target.open("wb") as file:
        file.write((header + _GHOST).ljust(directories_at, b"\0"))
        file.write(_directories(tags, resolutions, firsts[::-1], directories_at, big))
        for each in reversed(resolutions):
            _append(each.blocks, file)


def _append(source: Path, file: IO[bytes]) -> None:
    with source.open("rb") as blocks:
        shutil.copyfileobj(blocks, file, 1 << 20)


def _directories(
    tags: Mapping[int, Tag], resolutions: Sequence[Resolution], firsts: Sequence[int], start: int, big: bool
) -> bytes:
    """All directories, one after the other, each followed by the values that it points to."""
    content = b""
    for number, (each, first) in enumerate(zip(resolutions, firsts, strict=True)):
        own = _tags_of(tags, each, first, overview=number > 0, big=big)
        content += _directory(own, start + len(content), number + 1 == len(resolutions), big)
    return content


def _tags_of(
    tags: Mapping[int, Tag], resolution: Resolution, first: int, *, overview: bool, big: bool
) -> dict[int, Tag]:
    offsets, at = [], first
    for size in resolution.sizes:
        offsets.append(at + BLOCK_FRAME)
        at += size + 2 * BLOCK_FRAME
    height, width = resolution.shape
    own = {code: tag for code, tag in tags.items() if not (overview and code in _OF_THE_FILE)}
    own[_WIDTH], own[_HEIGHT] = _integers(_LONG, [width]), _integers(_LONG, [height])
    own[_OFFSETS] = _integers(_LONG8 if big else _LONG, offsets)
    own[_BYTE_COUNTS] = _integers(_LONG, resolution.sizes)
    if overview:
        own[_SUBFILE] = _integers(_LONG, [1])
    return dict(sorted(own.items()))


def _integers(kind: int, values: Sequence[int]) -> Tag:
    letter = {_SHORT: "H", _LONG: "I", _LONG8: "Q"}[kind]
    return Tag(kind, len(values), struct.pack(f"<{len(values)}{letter}", *values))


def _directory(tags: Mapping[int, Tag], start: int, last: bool, big: bool) -> bytes:
    """One directory and its values; the next one follows at once."""
    room, entry = (8, "<HHQ") if big else (4, "<HHI")
    count, pointer = ("<Q", "<Q") if big else ("<H", "<I")
    length = struct.calcsize(count) + len(tags) * (struct.calcsize(entry) + room) + room
    entries, values = b"", b""
    for code, tag in tags.items():
        entries += struct.pack(entry, code, tag.kind, tag.count)
        if len(tag.content) <= room:
            entries += tag.content.ljust(room, b"\0")
        else:
            entries += struct.pack(pointer, start + length + len(values))
            values += tag.content.ljust(len(tag.content) + len(tag.content) % 2, b"\0")
    padding = (length + len(values)) % 2
    following = 0 if last else start + length + len(values) + padding
    return struct.pack(count, len(tags)) + entries + struct.pack(pointer, following) + values + bytes(padding)
