"""The map's probability, as numbers in the pixels of tiles."""

import threading
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.io import DatasetReader
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from terradelta.errors import RasterError
from terradelta.geo.grid import Grid, Tile
from terradelta.raster.access import GDAL_ERRORS, SMALL_CACHE, open_image, settings
from terradelta.raster.warp import PLANE

__all__ = ["Probability"]


class Probability:
    """A ``probability.tif``; safe to use from several threads.

    Args:
        path: the file.
        shown: the grid that tiles are on.

    Raises:
        RasterError: if it cannot be read.
    """

    def __init__(self, path: Path, shown: Grid) -> None:
        self._path, self._lock, self._files = path, threading.Lock(), ExitStack()
        self._settings = {**settings(remote=False), **SMALL_CACHE}
        try:
            with rasterio.Env(**self._settings):
                self._file = self._files.enter_context(open_image(str(path), ("GTiff",)))
                self.grid = Grid(self._file.crs, self._file.transform, self._file.shape)
                self._shown = self._file if shown == self.grid else self._files.enter_context(self._warped(shown))
        except GDAL_ERRORS as error:
            raise RasterError(f"{path} cannot be opened ({error}); map the pair again") from error

    def picture(self, tile: Tile, shape: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """A window of the shown grid: ``(1, *shape)`` probability times 255, rounded, and where there is data.

        Overviews are used; their pixels are averages.
        """
        values = self._read(self._shown, tile, shape)
        valid = ~np.isnan(values)
        return np.rint(np.nan_to_num(values) * 255).clip(0, 255).astype(np.uint8)[None], valid

    def read(self, tile: Tile) -> NDArray[np.float32]:
        """Values ``(h, w)`` in [0, 1] of a tile of `grid`; NaN where there is no data."""
        return self._read(self._file, tile, (tile.height, tile.width))

    def _read(self, dataset: DatasetReader, tile: Tile, shape: tuple[int, int]) -> NDArray[np.float32]:
        window = Window(tile.col, tile.row, tile.width, tile.height)
        try:
            with self._lock, rasterio.Env(**self._settings):
                values: NDArray[np.float32] = dataset.read(1, window=window, out_shape=shape)
        except GDAL_ERRORS as error:
            raise RasterError(f"{self._path} cannot be read ({error}); map the pair again") from error
        return values

    def _warped(self, shown: Grid) -> WarpedVRT:
        crs = shown.crs or PLANE
        place = {"transform": shown.transform, "height": shown.height, "width": shown.width}
        return WarpedVRT(self._file, src_crs=crs, crs=crs, **place, nodata=np.nan, src_nodata=np.nan)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._files.close()
