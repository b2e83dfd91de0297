"""Arrays as inputs: a date that lies in memory, or is computed by dask when it is asked for, read as files are.

Of an array only the part that a window needs is fetched. It is put where GDAL can read it, in a view as large as the
whole image, so that warping, masks, nodata values and conversions are those of files, and so are their numbers.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.io import MemoryFile

from terradelta.errors import RasterError, ShapeError
from terradelta.geo.grid import Grid, Tile
from terradelta.geo.shift import ShiftField
from terradelta.geo.windows import picked_positions
from terradelta.raster.access import SEALED
from terradelta.raster.bands import Band
from terradelta.raster.overlap import footprint
from terradelta.raster.source import Source, gdal_type
from terradelta.raster.values import band_names, recognise
from terradelta.raster.warp import Layer

__all__ = ["ArrayLayer", "ArraySource", "array_source", "layer_of"]

_BLOCK = (256, 256)
_STORED = {"bool": "uint8", "float16": "float32"}
"""Dtypes that GDAL does not know, and those that hold their values."""


class Values(Protocol):
    """An array of numpy or dask."""

    @property
    def shape(self) -> tuple[int, ...]:
        """``(C, H, W)``."""

    def __getitem__(self, key: Any) -> Any:  # noqa: ANN401  as in numpy and dask
        """A part."""


@dataclass(frozen=True)
class ArraySource(Source):
    """A `Source` whose pixels are those of an array; see `array_source`."""

    values: Values | None = field(default=None, repr=False, compare=False)
    """``(C, h, w)``, of numpy or dask; None where only the description is needed."""
    origin: tuple[int, int] = (0, 0)
    """Row and column of the grid that the array's first pixel lies at; (0, 0) where the array is the whole image."""

    @property
    def lazy(self) -> bool:
        """Whether the values are computed when they are asked for."""
        return hasattr(self.values, "__dask_graph__")

    def part(self, window: Tile) -> Any:  # noqa: ANN401  an array of the kind of ``values``
        """``(C, h, w)`` of a window of the grid, of the array's own kind."""
        assert self.values is not None
        row, col = window.row - self.origin[0], window.col - self.origin[1]
        return self.values[:, row : row + window.height, col : col + window.width]

    def holding(self, window: Tile | None, values: Values | None) -> Self:
        """The same image with nothing but the values of a window; without a window, its description alone."""
        origin = (0, 0) if window is None else (window.row, window.col)
        return dataclasses.replace(self, values=values, origin=origin)

    def thinned(self, shape: tuple[int, int], window: Tile | None = None) -> Self:
        """The same image, or a window of it, with so many rows and columns: the pixels that GDAL would pick."""
        assert self.values is not None
        tile = self.grid.tile if window is None else window
        rows, cols = (picked_positions(side, few) for side, few in zip((tile.height, tile.width), shape, strict=True))
        values = self.values[:, rows + tile.row, :][:, :, cols + tile.col]
        return dataclasses.replace(self, values=values, origin=(0, 0), grid=self.grid.crop(tile).resized(shape))

    def rolled(self, columns: int) -> Self:
        """The same image with its first columns moved behind the last one; `grid` stays."""
        assert self.values is not None
        parts = [self.values[:, :, columns:], self.values[:, :, :columns]]
        return dataclasses.replace(self, values=np.concatenate(parts, axis=2))

    @contextmanager
    def in_gdal(self, window: Tile) -> Iterator[Source]:
        """A source that GDAL can read inside a window, as large as the whole image; elsewhere it has no values."""
        values = np.asarray(self.part(window))
        with ExitStack() as stack:
            with rasterio.Env(**SEALED):
                memory = stack.enter_context(MemoryFile(ext=".tif"))
                profile: dict[str, Any] = {"count": len(values), "height": window.height, "width": window.width}
                dtype = self.bands[0].dtype
                # Where it lies is said by the view of the whole; rasterio warns of files that lie nowhere.
                layout = {
                    "driver": "GTiff",
                    "transform": Affine.scale(2),
                    "photometric": "MINISBLACK",
                    "interleave": "band",
                }
                with memory.open(dtype=dtype, bigtiff="if_safer", **layout, **profile) as target:
                    target.write(values.astype(dtype, copy=False))
            own = {one.name: getattr(self, one.name) for one in dataclasses.fields(Source)}
            yield Source(**{**own, "name": self._placed(memory.name, window), "driver": "VRT"})

    def _placed(self, file: str, window: Tile) -> str:
        """XML of a VRT of the whole image with a file's pixels at a window."""
        rect = (
            f'<SrcRect xOff="0" yOff="0" xSize="{window.width}" ySize="{window.height}"/>'
            f'<DstRect xOff="{window.col}" yOff="{window.row}" xSize="{window.width}" ySize="{window.height}"/>'
        )
        bands = "".join(
            f'<VRTRasterBand dataType="{gdal_type(band.dtype)}">'
            f"{'' if mask != 'nodata' else f'<NoDataValue>{value!r}</NoDataValue>'}"
            f'<SimpleSource><SourceFilename relativeToVRT="0">{file}</SourceFilename>'
            f"<SourceBand>{band.index}</SourceBand>{rect}</SimpleSource></VRTRasterBand>"
            for band, value, mask in zip(self.bands, self.nodata, self.masks, strict=True)
        )
        height, width = self.grid.shape
        return f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}">{bands}</VRTDataset>'


def array_source(
    values: Values,
    grid: Grid,
    *,
    label: str,
    dtype: str,
    nodata: float | None = None,
    names: Sequence[str] = (),
    tags: Mapping[str, str] | None = None,
    scaled: tuple[float, float] = (1.0, 0.0),
) -> ArraySource:
    """Describe an array as a raster file is described.

    Args:
        values: ``(C, H, W)`` raw sensor values, of numpy or dask; a bool counts as 0 or 1.
        grid: where it lies; its shape is ``(H, W)``.
        label: what messages call it; a product's name in it tells the sensor, as in a file's path.
        dtype: of the values.
        nodata: value that means no data; None: there is none. NaN is none anyway.
        names: of the bands, as a file's descriptions; empty: they have none.
        tags: metadata as a file has, for what the values mean.
        scaled: scale and offset that the array declares for its values.

    Raises:
        ShapeError: if the array has not the grid's shape.
        RasterError: if its values are no integers or real floats.
    """
    if len(values.shape) != 3 or tuple(values.shape[1:]) != grid.shape or 0 in values.shape:
        raise ShapeError(f"{label} has shape {tuple(values.shape)}; give (bands, height, width), all above 0")
    stored = _STORED.get(dtype, dtype)
    try:
        gdal_type(stored)
    except KeyError:
        raise RasterError(
            f"{label} holds {dtype} values; only integers and real floats can be compared: convert it first"
        ) from None
    count = values.shape[0]
    named = [names[i] if i < len(names) else "" for i in range(count)]
    bands = tuple(Band(i, stored, name) for i, name in enumerate(named, 1))
    commons = band_names(label, [band.code for band in bands])
    return ArraySource(
        path=label,
        address=label,
        name=label,
        grid=grid,
        bands=tuple(dataclasses.replace(b, common=common) for b, common in zip(bands, commons, strict=True)),
        alpha=(),
        nodata=(nodata,) * count,
        masks=("all_valid" if nodata is None else "nodata",) * count,
        driver="VRT",
        block=_BLOCK,
        palette=False,
        meaning=recognise(label, tags or {}, [scaled] * count, [stored] * count),
        values=values,
    )


class ArrayLayer(Layer):
    """A `Layer` of an array: of a read, no more is fetched than it needs."""

    source: ArraySource

    def move(self, field: ShiftField | None) -> None:
        """Read the date moved by a field from now on; None: where its georeference says."""
        self.field = field
        self.offset = None if field is not None else self.grid.offset_in(self.source.grid)

    def read(self, tile: Tile) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Values ``(C, h, w)`` and validity ``(h, w)`` of a tile."""
        with self.source.in_gdal(self.reach(tile)) as source, closing(self._layer(source)) as layer:
            return layer.read(tile)

    def read_decimated(self, shape: tuple[int, int]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Values ``(C, *shape)`` and validity ``shape`` of the whole grid, thinned out."""
        if self.offset is not None:
            own = Tile(self.offset[0], self.offset[1], *self.grid.shape)
            thin, grid = self.source.thinned(shape, own), self.grid.resized(shape)
            with (
                thin.in_gdal(thin.grid.tile) as source,
                closing(Layer(source, self.selected, grid, self.resampling)) as layer,
            ):
                return layer.read(grid.tile)
        factor = self.thinning(shape)
        height, width = (max(1, round(side / factor)) for side in self.source.grid.shape)
        thin = self.source.thinned((height, width)) if factor > 1 else self.source
        with thin.in_gdal(thin.grid.tile) as source, closing(self._layer(source)) as layer:
            return layer.read_view(shape)

    def reach(self, tile: Tile) -> Tile:
        """The window of the array that a tile of the grid is made from."""
        height, width = self.source.grid.shape
        if self.offset is not None:
            return tile.moved(*self.offset)
        cell, moved = (1, 0.0) if self.field is None else (self.field.cell, float(np.abs(self.field.nodes).max()))
        whole = _in_blocks(tile, tuple(max(side, cell) for side in _WARPED), self.grid.shape)
        area = footprint(self.grid.crop(whole), self.source.grid)
        margin = math.ceil((_KERNELS + 2 * moved) * max(*self.ratio, 1.0)) + _EXTRA_PX
        left, top, right, bottom = (0.0,) * 4 if area.is_empty else area.bounds
        row, col = (min(max(0, math.floor(at) - margin), side - 1) for at, side in ((top, height), (left, width)))
        stop_row, stop_col = min(height, math.ceil(bottom) + margin), min(width, math.ceil(right) + margin)
        return Tile(row, col, max(1, stop_row - row), max(1, stop_col - col))

    def close(self) -> None:
        """Nothing: nothing is open between reads."""

    def _layer(self, source: Source) -> Layer:
        layer = Layer(source, self.selected, self.grid, self.resampling)
        if self.field is not None:
            layer.move(self.field)
        return layer


_WARPED = (128, 512)
"""(height, width) of the blocks that GDAL warps at once. It rounds in another way where not all of what it reads for a
block is valid, so that each gets all that it would get of a file."""
_KERNELS, _EXTRA_PX = 3, 16
"""How far around a block it reads: in pixels of the coarser grid (bilinear needs 1), and in those of the image."""


def _in_blocks(tile: Tile, block: tuple[int, ...], shape: tuple[int, int]) -> Tile:
    """The blocks of a grid that a tile touches, as one tile."""
    row, col = tile.row // block[0] * block[0], tile.col // block[1] * block[1]
    stop_row, stop_col = (
        min(-(-stop // side) * side, end)
        for stop, side, end in zip((tile.stop_row, tile.stop_col), block, shape, strict=True)
    )
    return Tile(row, col, stop_row - row, stop_col - col)


def layer_of(source: Source, selected: tuple[int, ...], grid: Grid, resampling: Resampling) -> Layer:
    """The layer of a source: of an array where it is one, else of a file."""
    kind = ArrayLayer if isinstance(source, ArraySource) else Layer
    return kind(source, selected, grid, resampling)
