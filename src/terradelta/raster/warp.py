"""One date of a pair on the common grid: read as it is where the pixels coincide, warped on the fly elsewhere.

A date that is to be moved by a field of shifts is warped onto the moved grid: one resampling for both. Where the field
bends, it is followed by small cells, each with the affine field that fits there.
"""

import functools
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.io import DatasetReader
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from terradelta.errors import RasterError, RemoteError
from terradelta.geo.grid import Grid, Tile
from terradelta.geo.shift import ShiftField
from terradelta.geo.windows import picked_positions
from terradelta.raster.access import GDAL_ERRORS, open_image
from terradelta.raster.overlap import footprint, pixel_ratio
from terradelta.raster.source import Source
from terradelta.receipt.map_record import PlacementRecord

__all__ = ["LARGEST", "PLANE", "Layer"]

# GDAL approximates the transform between sample points; 0.125 px by default, which would show between tiles.
_WARP_TOLERANCE_PX = 0.01
_SAME_SHIFT_PX = 0.01
LARGEST = 1e38
"""Values from here on are no data, as NaN is: networks and statistics count in float32, which ends at 3.4e38, and its
lowest number is a common fill value."""
PLANE = CRS.from_epsg(3857)  # GDAL warps nothing without a CRS; here both sides have the same plane, whichever it is
_PICKED_ROWS, _PICKED_PX = 512, 1 << 21
"""Rows, and pixels, that are read at once where single pixels are picked."""


class Layer:
    """An open date on a grid.

    Not safe to use from two threads at once.

    Args:
        source: the file.
        selected: numbers of the bands to read, in order.
        grid: the common grid; must lie inside the file's extent where its pixels coincide with the file's.
        resampling: interpolation where they do not.
    """

    def __init__(self, source: Source, selected: tuple[int, ...], grid: Grid, resampling: Resampling) -> None:
        self.source = source
        self.selected = selected
        self.grid = grid
        self.resampling = resampling
        self.ratio = pixel_ratio(grid, source.grid)
        self._files = ExitStack()
        self.move(None)

    def move(self, field: ShiftField | None) -> None:
        """Read the date moved by a field from now on.

        Args:
            field: where the date shows what lies at a pixel of the grid; None: where its georeference says.

        Raises:
            RasterError: if the file cannot be opened.
        """
        self._files.close()
        self.field = field
        self.offset = None if field is not None else self.grid.offset_in(self.source.grid)
        with self._reporting(self.grid.tile):
            self._dataset = self._open(self._files)

    def _open(self, files: ExitStack) -> DatasetReader:
        """The file itself, the file on the grid, or, for a field that bends, a view that cells are warped from."""
        if self.offset is not None:
            return files.enter_context(self.source.open())
        view = files.enter_context(self._view(1))
        return view if self._bends else self._warp(files, view, self._moved(self.grid.tile))

    def _view(self, factor: int) -> DatasetReader:
        return open_image(self.source.view(self.selected, factor), ("VRT",))

    @property
    def _bends(self) -> bool:
        return self.field is not None and self.field.cell < max(self.grid.shape)

    def _moved(self, tile: Tile) -> Grid:
        """Where a tile lies on this date."""
        return self.grid.crop(tile) if self.field is None else self.field.moved(self.grid, tile)

    def _warp(self, files: ExitStack, view: DatasetReader, grid: Grid) -> DatasetReader:
        """A view of the source, of any resolution, on a grid."""
        rows, cols = pixel_ratio(grid, self.source.grid.resized(view.shape))
        return files.enter_context(
            WarpedVRT(
                view,
                src_crs=self.source.grid.crs or PLANE,
                crs=grid.crs or PLANE,
                transform=grid.transform,
                height=grid.height,
                width=grid.width,
                resampling=self.resampling,
                tolerance=_WARP_TOLERANCE_PX,
                # GDAL would guess the scale chunk by chunk, and see a rotation as a reduction, which blurs.
                YSCALE=1 / rows,
                XSCALE=1 / cols,
            )
        )

    def read(self, tile: Tile) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Values ``(C, h, w)`` and validity ``(h, w)`` of a tile.

        Raises:
            RasterError: if the file cannot be read there.
        """
        with self._reporting(tile):
            if self._bends:
                return self._read_cells(tile)
            return self._read(self._dataset, tile, (tile.height, tile.width))

    def read_decimated(self, shape: tuple[int, int]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Values ``(C, *shape)`` and validity ``shape`` of the whole grid, thinned out.

        Raises:
            RasterError: if the file cannot be read.
        """
        if self.offset is None:
            # Warping a thinned view costs one pass over the file; thinning a warped one would cost a full warp.
            return self.read_view(shape, self.thinning(shape))
        tile = self.grid.tile
        with self._reporting(tile):
            return self._picked(shape) if self._picks_well(shape) else self._read(self._dataset, tile, shape)

    def thinning(self, shape: tuple[int, int]) -> int:
        """Of every so many pixels of the file, one is enough for the whole grid in a (height, width)."""
        step = min(self.grid.height / shape[0], self.grid.width / shape[1]) * min(self.ratio)
        return max(1, math.floor(step))

    def read_view(self, shape: tuple[int, int], factor: int = 1) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """What `read_decimated` gives of a date that is warped, from every ``factor``-th pixel of the file.

        Raises:
            RasterError: if the file cannot be read.
        """
        with self._reporting(self.grid.tile), ExitStack() as files:
            view = files.enter_context(self._view(factor))
            small = self._warp(files, view, self._moved(self.grid.tile).resized(shape))
            return self._converted(*self._read_warped(small, Tile(0, 0, *shape), shape))

    def read_resized(self, tile: Tile, shape: tuple[int, int]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Values ``(C, *shape)`` and validity ``shape`` of a tile, thinned out or repeated: for pictures.

        GDAL takes overviews where the file has them. A field that bends is taken as affine within the tile.

        Raises:
            RasterError: if the file cannot be read there.
        """
        with self._reporting(tile), ExitStack() as files:
            if self.offset is not None:
                return self._read(self._dataset, tile, shape)
            step = min(tile.height / shape[0], tile.width / shape[1]) * min(self.ratio)
            view = files.enter_context(self._view(max(1, math.floor(step))))
            return self._read(self._warp(files, view, self._moved(tile).resized(shape)), Tile(0, 0, *shape), shape)

    @functools.cached_property
    def has_overviews(self) -> bool:
        """Whether the file itself has overviews, without which thinning it out decodes all of it.

        Raises:
            RasterError: if the file cannot be opened.
        """
        with self._reporting(self.grid.tile), self.source.open() as file:
            return bool(file.overviews(self.selected[0]))

    @contextmanager
    def _reporting(self, tile: Tile) -> Iterator[None]:
        """GDAL's options for the file; its failures in our words."""
        try:
            with rasterio.Env(**self.source.settings):
                yield
        except GDAL_ERRORS as error:
            place = (
                f"{self.source.path} cannot be read at rows {tile.row} to {tile.stop_row - 1}, columns {tile.col} to "
                f"{tile.stop_col - 1} of the common grid ({self.source.reason(error)})"
            )
            if self.source.remotes:  # no damage, which may be skipped
                raise RemoteError(f"{place}; the server failed: run the same command again later") from error
            raise RasterError(
                f"{place}; the file is truncated or damaged: fetch it again, or count such pixels as no data "
                "(--skip-damaged)"
            ) from error

    def _read(
        self, dataset: DatasetReader, tile: Tile, shape: tuple[int, int]
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        read = self._read_warped if self.offset is None else self._read_plain
        return self._converted(*read(dataset, tile, shape))

    def _converted(self, values: NDArray[Any], valid: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        values = self.source.convert(values)
        if values.dtype.kind == "f":
            held = (values > -LARGEST) & (values < LARGEST)  # False for NaN
            if not held.all():
                valid &= held.all(axis=0)
                values[np.abs(values) >= LARGEST] = np.inf  # which float32 holds as well
        return values, valid

    def _read_plain(
        self, file: DatasetReader, tile: Tile, shape: tuple[int, int]
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        row, col = self.offset or (0, 0)
        window = Window(tile.col + col, tile.row + row, tile.width, tile.height)
        if len({file.dtypes[number - 1] for number in self.selected}) == 1:
            values = file.read(list(self.selected), window=window, out_shape=(len(self.selected), *shape))
        else:
            values = np.stack([file.read(n, window=window, out_shape=shape) for n in self.selected])
        source, valid = self.source, np.ones(shape, np.bool_)
        shared, by_value = source.shared_nodata(self.selected), source.by_value(self.selected)
        known: dict[int, NDArray[np.bool_]] = {}  # where bands hold something else than their nodata values
        for number in source.mask_bands(self.selected):
            if source.told or number not in by_value:
                mask = file.read_masks(number, window=window, out_shape=shape) > 0
                if number in shared and not source.told:
                    known[number] = mask
                else:
                    valid &= mask
        for number, nodata in by_value.items():  # comparing spares a second pass over the blocks
            known[number] = values[self.selected.index(number)] != nodata
        for number, each in known.items():
            if number not in shared:
                valid &= each
        if shared:
            valid &= np.logical_or.reduce([known[number] for number in shared])
        for number in source.alpha:
            valid &= file.read(number, window=window, out_shape=shape) > 0
        return values, valid

    def _picks_well(self, shape: tuple[int, int]) -> bool:
        """Whether thinning to a shape needs all blocks of the file itself, and these are of a handy size."""
        height, width = self.source.block
        step = self.grid.height / shape[0]
        return 1 < step <= height and height * width <= _PICKED_PX and not self._dataset.overviews(self.selected[0])

    def _picked(self, shape: tuple[int, int]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """The pixels that GDAL would pick, from one pass over the blocks; GDAL decodes all of them for every band."""
        rows, cols = (picked_positions(length, count) for length, count in zip(self.grid.shape, shape, strict=True))
        values, valid = np.empty((len(self.selected), *shape), self._file_dtype), np.empty(shape, np.bool_)
        row, col = self.offset or (0, 0)
        height, width = self.source.block
        height *= max(1, _PICKED_ROWS // height)
        width *= max(1, _PICKED_PX // (height * width))
        for above, below in _cuts(self.grid.height, height, row):
            for left, right in _cuts(self.grid.width, width, col):
                i, j = (np.searchsorted(picks, ends) for picks, ends in ((rows, (above, below)), (cols, (left, right))))
                if i[0] == i[1] or j[0] == j[1]:
                    continue
                part = Tile(above, left, below - above, right - left)
                read, known = self._read_plain(self._dataset, part, (part.height, part.width))
                into = np.s_[slice(*i), slice(*j)]
                down, across = rows[into[0], None] - above, cols[into[1]] - left
                values[:, *into], valid[into] = read[:, down, across], known[down, across]
        return self._converted(values, valid)

    @property
    def _file_dtype(self) -> np.dtype[Any]:
        return self.source.dtype(self.selected)

    def _read_warped(
        self, warped: DatasetReader, tile: Tile, shape: tuple[int, int]
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        n = len(self.selected)
        window = Window(tile.col, tile.row, tile.width, tile.height)
        values = warped.read(list(range(1, n + 1)), window=window, out_shape=(n, *shape))
        return values, warped.read(n + 1, window=window, out_shape=shape) > 0

    def _read_cells(self, tile: Tile) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """A tile from cells with an affine field each. A pixel does not depend on the tile that it is read in."""
        assert self.field is not None
        values = np.empty((len(self.selected), tile.height, tile.width), self._file_dtype)
        valid = np.empty((tile.height, tile.width), np.bool_)
        for cell, part in self.field.cells(tile):
            own, (rows, cols) = part.moved(-cell.row, -cell.col), part.within(tile)
            with ExitStack() as files:
                warped = self._warp(files, self._dataset, self._moved(cell))
                values[:, rows, cols], valid[rows, cols] = self._read(warped, own, (own.height, own.width))
        return values, valid

    def placement(self) -> PlacementRecord:
        """How the date was put on the grid."""
        covered = footprint(self.grid, self.source.grid).area
        return PlacementRecord(
            warped=self.offset is None,
            shift_px=self._shift(),
            pixel_ratio=math.sqrt(self.ratio[0] * self.ratio[1]),
            coverage=covered / (self.source.grid.height * self.source.grid.width),
            resampling=None if self.offset is not None else self.resampling.name,
        )

    def _shift(self) -> tuple[float, float] | None:
        """(row, col) of the grid's first pixel in the file; None where the two differ by more than a shift."""
        if self.offset is not None:
            return float(self.offset[0]), float(self.offset[1])
        corners = np.array([[0, 0], [0, self.grid.width], [self.grid.height, 0]], np.float64)
        shifts = np.column_stack(self.grid.map_to(self.source.grid, corners[:, 0], corners[:, 1])) - corners
        if self.grid.crs != self.source.grid.crs or np.abs(shifts - shifts[0]).max() > _SAME_SHIFT_PX:
            return None
        return float(shifts[0, 0]), float(shifts[0, 1])

    def close(self) -> None:
        """Close the file."""
        with rasterio.Env(**self.source.settings):
            self._files.close()


def _cuts(length: int, step: int, offset: int) -> Iterator[tuple[int, int]]:
    """Parts of ``0 .. length`` that end at multiples of ``step`` when ``offset`` is added."""
    start = 0
    while start < length:
        stop = min(length, start + step - (start + offset) % step)
        yield start, stop
        start = stop
