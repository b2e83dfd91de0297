"""A finished change map, read tile by tile."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

from terradelta.errors import RasterError
from terradelta.geo.grid import Grid, Tile
from terradelta.geo.windows import blocks
from terradelta.raster.access import GDAL_ERRORS, SMALL_CACHE, open_image

__all__ = ["CLASSES", "NO_DATA", "ChangeRaster"]

CLASSES = ("unchanged", "changed")
"""Classes of ``change.tif``, by their values."""
NO_DATA = 255
_TILE = 1024


class ChangeRaster:
    """A ``change.tif``, read tile by tile; a context manager.

    Args:
        path: the file.

    Raises:
        RasterError: if it cannot be read or is no map of 0, 1 and 255.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with rasterio.Env():  # registers GDAL's drivers
                self._file = open_image(str(path), ("GTiff",))
        except GDAL_ERRORS as error:
            raise RasterError(f"{path} cannot be opened ({error}); give a folder that `terradelta map` made") from error
        if self._file.count != 1 or self._file.dtypes[0] != "uint8":
            self._file.close()
            raise RasterError(f"{path} is no change map (one band of bytes); give one that `terradelta map` made")
        self.grid = Grid(self._file.crs, self._file.transform, self._file.shape)

    def read(self, tile: Tile) -> NDArray[np.uint8]:
        """Classes ``(h, w)`` of a tile: 0, 1, or 255 where there is no data.

        Raises:
            RasterError: if the file cannot be read there, or holds other values.
        """
        window = Window(tile.col, tile.row, tile.width, tile.height)
        try:
            with rasterio.Env(**SMALL_CACHE):
                values: NDArray[np.uint8] = self._file.read(1, window=window)
        except GDAL_ERRORS as error:
            raise RasterError(f"{self.path} cannot be read ({error.__cause__ or error}); map again") from error
        if ((values > 1) & (values != NO_DATA)).any():
            raise RasterError(f"{self.path} holds other values than 0, 1 and 255; give one that `terradelta map` made")
        return values

    def tiles(self) -> Iterator[Tile]:
        """Tiles of 1024 pixels that cover the map, row by row."""
        return blocks(self.grid.shape, _TILE)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> "ChangeRaster":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
