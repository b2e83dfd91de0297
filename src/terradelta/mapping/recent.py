"""What was read of a pair a moment ago, on disk: what comes after the network need not decode the files again."""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terradelta.errors import OutputError
from terradelta.files import cannot_write
from terradelta.geo.grid import Tile
from terradelta.raster.pair import Pair, PairWindow

__all__ = ["RecentTiles"]


class RecentTiles:
    """Keeps the raw values of tiles in files until they are forgotten, and gives windows of them.

    A pixel has the same value in every window that a `Pair` is read in. So a window is taken from what is kept where
    that covers it, and else read from the pair, and nobody can tell. Safe to use from several threads.

    Args:
        pair: what the tiles are of.
        folder: for the files; they take the raw size of what is kept.
    """

    def __init__(self, pair: Pair, folder: Path) -> None:
        self._pair, self._folder = pair, folder
        self._kept: list[_Kept] = []
        self._lock = threading.Lock()

    def keep(self, tile: Tile, window: PairWindow) -> None:
        """Keep a tile, but for what the tiles above it and left of it hold already; rows of tiles come from the top.

        Raises:
            OutputError: if there is no room.
        """
        with self._lock:
            above = [each.tile.stop_row for each in self._kept if each.columns == (tile.col, tile.stop_col)]
            left = [each.tile.stop_col for each in self._kept if each.row == tile.row]
        top = max([tile.row, *(stop for stop in above if stop < tile.stop_row)])
        side = max([tile.col, *(stop for stop in left if stop < tile.stop_col)])
        part = Tile(top, side, tile.stop_row - top, tile.stop_col - side)
        rows, cols = part.within(tile)
        planes = (window.before[:, rows, cols], window.after[:, rows, cols], window.valid[None, rows, cols])
        path = self._folder / f"{tile.row}_{tile.col}.raw"
        try:
            with path.open("wb") as file:
                for values in planes:
                    file.write(values.tobytes())
        except OSError as error:
            raise cannot_write(path, error) from error
        stored = tuple((len(values), values.dtype) for values in planes)
        with self._lock:
            self._kept.append(_Kept(part, tile.row, (tile.col, tile.stop_col), path, stored))

    def read(self, tile: Tile) -> PairWindow:
        """Both dates in a tile, as `Pair.read` gives them.

        Raises:
            RasterError: if a file of the pair cannot be read there.
            OutputError: if what was kept is gone.
        """
        with self._lock:
            kept = [(each, shared) for each in self._kept if (shared := each.tile.shared(tile))]
        missing = np.ones((tile.height, tile.width), np.bool_)
        for _, shared in kept:
            missing[shared.within(tile)] = False
        if missing.any():
            return self._pair.read(tile)
        planes = [np.empty((count, *missing.shape), dtype) for count, dtype in kept[0][0].stored]
        for each, shared in kept:
            for target, values in zip(planes, each.read(shared), strict=True):
                target[:, *shared.within(tile)] = values
        return PairWindow(planes[0], planes[1], planes[2][0], self._pair.grid.crop(tile))

    def forget(self, row: int) -> None:
        """Remove what lies above a row of the grid."""
        with self._lock:
            gone = [each for each in self._kept if each.tile.stop_row <= row]
            self._kept = [each for each in self._kept if each.tile.stop_row > row]
        for each in gone:
            each.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Kept:
    """A file with a part of a tile: the first date's bands, the second's, and the valid mask."""

    tile: Tile
    """The part that is kept."""
    row: int
    """First row of the whole tile."""
    columns: tuple[int, int]
    """First column of the whole tile, and the one after its last."""
    path: Path
    stored: tuple[tuple[int, np.dtype[Any]], ...]
    """Number of bands and dtype of each of the three."""

    def read(self, window: Tile) -> list[NDArray[Any]]:
        """The three ``(bands, h, w)`` in a window inside the part."""
        found, at = [], 0
        rows, cols = window.within(self.tile)
        try:
            with self.path.open("rb") as file:
                for count, dtype in self.stored:
                    values = np.empty((count, window.height, self.tile.width), dtype)
                    for band in values:
                        file.seek(at + rows.start * self.tile.width * dtype.itemsize)
                        if file.readinto(band.data.cast("B")) != band.nbytes:
                            raise OSError("it is too short")
                        at += self.tile.height * self.tile.width * dtype.itemsize
                    found.append(values[:, :, cols])
        except OSError as error:
            raise OutputError(f"{self.path} cannot be read ({error}); run the same command again") from error
        return found
