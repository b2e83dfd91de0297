"""Read what can be read of a window with damaged blocks."""

from dataclasses import asdict, dataclass

import numpy as np

from terradelta.errors import RasterError
from terradelta.geo.grid import Tile
from terradelta.geo.raster import Pair, PairWindow

__all__ = ["Damage", "read_around_damage"]

SMALLEST = 64
"""Side of a window that is not cut further: if it cannot be read, all of it is lost."""


@dataclass(frozen=True)
class Damage:
    """A window of the scene that could not be read."""

    tile: Tile
    reason: str

    def record(self) -> dict[str, int | str]:
        """As JSON-ready values."""
        return {**asdict(self.tile), "reason": self.reason}


def read_around_damage(pair: Pair, tile: Tile) -> tuple[PairWindow, list[Damage]]:
    """Read a tile of which a part is damaged: it is quartered until the pieces can be read or are small.

    Returns:
        The tile, without a valid pixel where it could not be read, and what was lost.
    """
    pieces, damage = _pieces(pair, tile)
    shape = (tile.height, tile.width)
    read = pieces[0][1] if pieces else None
    types = (np.float32, np.float32) if read is None else (read.before.dtype, read.after.dtype)
    before, after = (np.zeros((len(pair.bands), *shape), dtype) for dtype in types)
    valid = np.zeros(shape, bool)
    for part, window in pieces:
        rows = slice(part.row - tile.row, part.stop_row - tile.row)
        cols = slice(part.col - tile.col, part.stop_col - tile.col)
        before[:, rows, cols], after[:, rows, cols] = window.before, window.after
        valid[rows, cols] = window.valid
    return PairWindow(before, after, valid, pair.grid.crop(tile)), damage


def _pieces(pair: Pair, tile: Tile) -> tuple[list[tuple[Tile, PairWindow]], list[Damage]]:
    try:
        return [(tile, pair.read(tile))], []
    except RasterError as error:
        if max(tile.height, tile.width) <= SMALLEST:
            return [], [Damage(tile, str(error))]
    pieces, damage = [], []
    for part in _quarters(tile):
        found, lost = _pieces(pair, part)
        pieces += found
        damage += lost
    return pieces, damage


def _quarters(tile: Tile) -> list[Tile]:
    """Up to four parts, cut at multiples of `SMALLEST` of the scene, as the blocks of files are."""
    rows, cols = _cut(tile.row, tile.stop_row), _cut(tile.col, tile.stop_col)
    return [Tile(top, left, bottom - top, right - left) for top, bottom in rows for left, right in cols]


def _cut(start: int, stop: int) -> list[tuple[int, int]]:
    if stop - start <= SMALLEST:
        return [(start, stop)]
    middle = (start + stop) // 2 // SMALLEST * SMALLEST
    middle = middle if middle > start else (start // SMALLEST + 1) * SMALLEST
    return [(start, middle), (middle, stop)]
