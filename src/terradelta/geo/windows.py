"""Where the tiles of a scene lie.

Every tile starts at a multiple of the network's stride, so that the network's own pooling grid is the same in all
tiles and the tiling leaves no pattern in the result.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from terradelta.errors import ShapeError
from terradelta.geo.grid import Tile

__all__ = ["Span", "TilePlan", "blocks", "fit_tiles", "picked_positions", "plan_axis", "spread_windows"]

SPREAD_PX, SPREAD_PLACES = 256, 3
"""Side of the windows of `spread_windows`, and how many there are along each axis."""


@dataclass(frozen=True)
class Span:
    """Pixels ``start`` to ``stop`` (exclusive) of one axis."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        """Number of pixels."""
        return self.stop - self.start


def blocks(shape: tuple[int, int], side: int) -> Iterator[Tile]:
    """Tiles of ``side`` pixels side by side that cover a (height, width), row by row; the last ones may be smaller."""
    for row in range(0, shape[0], side):
        for col in range(0, shape[1], side):
            yield Tile(row, col, min(side, shape[0] - row), min(side, shape[1] - col))


def picked_positions(length: int, count: int) -> NDArray[np.intp]:
    """Positions of ``count`` pixels of ``length`` that GDAL picks for a thinned image: those in the middle."""
    middles = (np.arange(count) + 0.5) * (length / count) + 1e-10
    picks: NDArray[np.intp] = np.minimum(middles, length - 1).astype(np.intp)
    return picks


def plan_axis(length: int, tile: int, overlap: int, multiple: int) -> tuple[Span, ...]:
    """Cover one axis with spans that start at multiples of ``multiple``.

    All spans but the last have ``tile`` pixels and start ``tile - overlap`` pixels apart. The last one ends at
    ``length``. It overlaps its neighbour by at least ``overlap`` pixels and may be up to ``multiple - 1`` pixels
    shorter than ``tile``. An axis no longer than a tile is one span. At most two spans meet at a pixel, three next
    to the end of the axis.

    Args:
        length: pixels of the axis; above 0.
        tile: pixels of a span; a multiple of ``multiple``.
        overlap: pixels that neighbours share; a multiple of ``multiple``, at most half a tile.
        multiple: the network's stride in pixels; 1 for methods without one.

    Returns:
        Spans in ascending order.

    Raises:
        ShapeError: if a size is out of its range or no multiple.
    """
    _check_sizes(length, tile, overlap, multiple)
    if length <= tile:
        return (Span(0, length),)
    last = -(-length // multiple) * multiple - tile
    starts = [*range(0, last, tile - overlap), last]
    return tuple(Span(start, min(start + tile, length)) for start in starts)


def fit_tiles(shape: tuple[int, int], pixels: int, overlap: int, multiple: int) -> tuple[int, int]:
    """The (height, width) of tiles that cover a scene with the least work and have at most ``pixels`` pixels.

    Tiles of a fixed side leave a remainder at the end of an axis, which the last one computes twice. These divide each
    axis evenly, and are as large as they may be, so that little is computed for the overlap.

    Args:
        shape: (height, width) of the scene in pixels.
        pixels: the most pixels of a tile; at least ``4 * overlap**2`` and ``multiple**2``.
        overlap: as in `plan_axis`.
        multiple: as in `plan_axis`.

    Raises:
        ShapeError: if a size is out of its range or no multiple.
    """
    for length in shape:
        _check_sizes(length, multiple * (2 * abs(overlap) + 1), overlap, multiple)
    least = max(2 * overlap, multiple)
    if pixels < least * least:
        raise ShapeError(f"tiles of {pixels} pixels are too small; with this overlap, {least * least} are the least")
    # Thin tiles have long edges: they never pay.
    least = max(least, math.isqrt(pixels) // 4 // multiple * multiple)
    heights, widths = (
        _even_sides(length, least, pixels // min(least, across), overlap, multiple)
        for length, across in zip(shape, reversed(shape), strict=True)
    )
    # Of equal work the largest tile, of these the squarest: fewest and shortest edges.
    return min(
        (rows * cols, -height * width, abs(height - width), (height, width))
        for height, rows in heights.items()
        for width, cols in widths.items()
        if min(height, shape[0]) * min(width, shape[1]) <= pixels
    )[-1]


def _even_sides(length: int, least: int, most: int, overlap: int, multiple: int) -> dict[int, int]:
    """Sides that divide an axis evenly, from ``least`` to about ``most``; with each, the pixels computed along it.

    Goes through the sides, of which there are few, and not through the numbers of tiles: an axis may be very long.
    """
    found = {}
    for tried in range(least, min(most, max(length, least)) + multiple, multiple):
        count, _ = _along(length, tried, overlap, multiple)
        side = max(-(-(length + (count - 1) * overlap) // (count * multiple)) * multiple, least)
        found[side] = _along(length, side, overlap, multiple)[1]
    return found


def _along(length: int, tile: int, overlap: int, multiple: int) -> tuple[int, int]:
    """How many spans `plan_axis` gives, and the pixels of all of them."""
    if length <= tile:
        return 1, length
    last = -(-length // multiple) * multiple - tile
    before = -(-last // (tile - overlap))
    return before + 1, before * tile + length - last


@dataclass(frozen=True)
class TilePlan:
    """Tiles that cover a scene, row by row.

    Raises:
        ShapeError: if a size is out of its range or no multiple; see `plan_axis`.
    """

    shape: tuple[int, int]
    """(height, width) of the scene in pixels."""
    tile: int | tuple[int, int]
    """Side of a tile in pixels, or its (height, width)."""
    overlap: int
    """Pixels that neighbouring tiles share."""
    multiple: int
    """Every tile starts at a multiple of this."""

    def __post_init__(self) -> None:
        for length, side in zip(self.shape, self.sides, strict=True):
            _check_sizes(length, side, self.overlap, self.multiple)

    @property
    def sides(self) -> tuple[int, int]:
        """(height, width) of a tile in pixels."""
        return (self.tile, self.tile) if isinstance(self.tile, int) else self.tile

    @cached_property
    def row_spans(self) -> tuple[Span, ...]:
        """Rows of each tile row, top to bottom."""
        return plan_axis(self.shape[0], self.sides[0], self.overlap, self.multiple)

    @cached_property
    def col_spans(self) -> tuple[Span, ...]:
        """Columns of each tile column, left to right."""
        return plan_axis(self.shape[1], self.sides[1], self.overlap, self.multiple)

    @property
    def count(self) -> int:
        """Number of tiles."""
        return len(self.row_spans) * len(self.col_spans)

    def rows(self) -> Iterator[list[Tile]]:
        """Tile rows from top to bottom; the tiles of a row from left to right."""
        for number in range(len(self.row_spans)):
            yield self.row(number)

    def row(self, number: int) -> list[Tile]:
        """The tiles of one row from left to right."""
        row = self.row_spans[number]
        return [Tile(row.start, col.start, row.length, col.length) for col in self.col_spans]


def _check_sizes(length: int, tile: int, overlap: int, multiple: int) -> None:
    if length < 1:
        raise ShapeError(f"a scene needs a height and width above 0, not {length}")
    if multiple < 1:
        raise ShapeError(f"multiple is {multiple}; it must be 1 or more")
    if tile < multiple or tile % multiple:
        raise ShapeError(f"tile is {tile}; it must be a multiple of {multiple}: {_nearest(tile, multiple)}")
    if overlap < 0 or overlap % multiple:
        raise ShapeError(
            f"overlap is {overlap}; it must be 0 or a multiple of {multiple}: {_nearest(overlap, multiple)}"
        )
    if 2 * overlap > tile:
        largest = tile // 2 // multiple * multiple
        raise ShapeError(f"overlap is {overlap}; with tiles of {tile} it can be at most {largest}")


def _nearest(value: int, multiple: int) -> str:
    """The allowed values around ``value``, for a message."""
    below = value // multiple * multiple
    return f"use {below} or {below + multiple}" if below > 0 else f"use {multiple}"


def spread_windows(shape: tuple[int, int], multiple: int = 1) -> list[Tile]:
    """Windows that lie evenly over an image: three along each axis, of 256 pixels a side or what there is.

    Args:
        shape: (height, width) of the image.
        multiple: of which height and width of the windows are; empty if the image has not so many pixels.
    """
    height, width = sides = [min(SPREAD_PX, length) // multiple * multiple for length in shape]
    if 0 in sides:
        return []
    row_starts, col_starts = (
        sorted({round(k * (length - side) / (SPREAD_PLACES - 1)) for k in range(SPREAD_PLACES)})
        for length, side in zip(shape, sides, strict=True)
    )
    return [Tile(row, col, height, width) for row in row_starts for col in col_starts]
