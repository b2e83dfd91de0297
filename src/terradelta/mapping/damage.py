"""Read what can be read of files with damaged blocks."""

from collections.abc import Callable

import numpy as np

from terradelta.errors import RasterError
from terradelta.geo.grid import Tile
from terradelta.geo.windows import blocks, picked_positions
from terradelta.raster.pair import Pair, PairWindow
from terradelta.receipt.map_record import DamageRecord

__all__ = ["TolerantPair"]

SMALLEST = 64
"""A window is cut at multiples of this; what lies between two of them is lost if it cannot be read."""
PICK_TILE = 1024
"""Side of the windows that a thinned view of a damaged file is picked from."""


class TolerantPair(Pair):
    """A pair whose pixels count as no data where a file cannot be read; see `open_pair`."""

    def read(self, tile: Tile) -> PairWindow:
        """As `Pair.read`, but without a RasterError: what cannot be read is not valid."""
        return self.read_noting(tile)[0]

    def read_noting(self, tile: Tile) -> tuple[PairWindow, list[DamageRecord]]:
        """What `read` gives, and which windows were lost.

        A tile of which a part is damaged is quartered until the pieces can be read or are no longer cut.

        Raises:
            ShapeError: if the tile reaches beyond the grid.
        """
        pieces, damage = _pieces(super().read, tile)
        if not damage:
            return pieces[0][1], []
        window = self._empty((tile.height, tile.width), tile)
        for part, found in pieces:
            rows, cols = part.within(tile)
            window.before[:, rows, cols], window.after[:, rows, cols] = found.before, found.after
            window.valid[rows, cols] = found.valid
        return window, damage

    def read_decimated(self, max_side: int) -> PairWindow:
        """As `Pair.read_decimated`; if a file is damaged, pixels are picked tile by tile."""
        try:
            return super().read_decimated(max_side)
        except RasterError:
            return self._picked(self.grid.shape_within(max_side))

    def _picked(self, shape: tuple[int, int]) -> PairWindow:
        window = self._empty(shape, self.grid.tile)
        rows, cols = (picked_positions(many, few) for few, many in zip(shape, self.grid.shape, strict=True))
        for tile in blocks(self.grid.shape, PICK_TILE):
            found = self.read(tile)
            down, across = (
                slice(*np.searchsorted(picks, (part.start, part.stop)).tolist())
                for picks, part in zip((rows, cols), tile.slices, strict=True)
            )
            taken = np.ix_(rows[down] - tile.row, cols[across] - tile.col)
            window.valid[down, across] = found.valid[taken]
            for target, values in ((window.before, found.before), (window.after, found.after)):
                target[:, down, across] = values[:, taken[0], taken[1]]
        return window

    def _empty(self, shape: tuple[int, int], tile: Tile) -> PairWindow:
        before, after = (np.zeros((self.count, *shape), dtype) for dtype in self.dtypes)
        return PairWindow(before, after, np.zeros(shape, np.bool_), self.grid.crop(tile).resized(shape))


def _pieces(read: Callable[[Tile], PairWindow], tile: Tile) -> tuple[list[tuple[Tile, PairWindow]], list[DamageRecord]]:
    """The parts of a tile that can be read, and those that cannot."""
    try:
        return [(tile, read(tile))], []
    except RasterError as error:
        parts = _quarters(tile)
        if len(parts) == 1:
            return [], [DamageRecord(tile.row, tile.col, tile.height, tile.width, str(error))]
    pieces, damage = [], []
    for part in parts:
        found, lost = _pieces(read, part)
        pieces += found
        damage += lost
    return pieces, damage


def _quarters(tile: Tile) -> list[Tile]:
    """Up to four parts, cut at multiples of `SMALLEST` of the scene, as the blocks of files are."""
    rows, cols = _cut(tile.row, tile.stop_row), _cut(tile.col, tile.stop_col)
    return [Tile(top, left, bottom - top, right - left) for top, bottom in rows for left, right in cols]


def _cut(start: int, stop: int) -> list[tuple[int, int]]:
    first, last = start // SMALLEST, (stop - 1) // SMALLEST
    if first == last:
        return [(start, stop)]
    middle = (first + last + 1) // 2 * SMALLEST
    return [(start, middle), (middle, stop)]
