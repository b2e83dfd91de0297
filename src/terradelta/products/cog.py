"""Write a single-band product as a Cloud Optimised GeoTIFF (COG), strip by strip.

Rows go into a plain file, which GDAL reads by a VRT; at the end its COG driver makes overviews and product of it. So
nothing that grows with the scene is held, and GDAL's cache is left to those who read meanwhile. Blocks are compressed
with DEFLATE, which every TIFF reader knows.
"""

import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from terradelta.errors import InputError, OutputError, ShapeError
from terradelta.geo.grid import Grid, Tile
from terradelta.products.staged import StagedWriter

__all__ = [
    "BLOCK",
    "CHANGE_COLOURS",
    "PROBABILITY_STEP",
    "CogWriter",
    "change_writer",
    "probability_writer",
    "quantise",
]

BLOCK = 512
"""Side of a block of the file, in pixels; also the longest side that needs no overview."""

PROBABILITY_STEP = 1 / 1024
"""Probabilities are stored as multiples of this: exact in float32, and a quarter of the bytes or less."""

CHANGE_COLOURS = {0: (255, 255, 255), 1: (255, 0, 0)}
"""Red, green, blue of unchanged and changed pixels. A TIFF palette has no opacity: only nodata is transparent."""

_CACHE_BYTES = 16 << 20
_ROWS = "rows"
_GDAL_TYPES, _OVERVIEWS = {"float32": "Float32", "uint8": "Byte"}, {"float32": "AVERAGE", "uint8": "NEAREST"}


def quantise(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Round to the nearest multiple of `PROBABILITY_STEP`; NaN stays NaN. Any shape."""
    rounded = values * np.float32(1 / PROBABILITY_STEP)
    np.rint(rounded, out=rounded)
    rounded *= np.float32(PROBABILITY_STEP)
    return rounded


class CogWriter(StagedWriter):
    """Write strips from top to bottom; the finished file appears under its name at the end, or not at all.

    Use it as a context manager, or call `close`. Memory is that of a strip, and at the end some 50 MB. Two types of
    product exist:

    - ``float32``: probabilities. They are rounded by `quantise`, NaN is nodata, and an overview pixel is the average
      of its valid pixels.
    - ``uint8``: classes. An overview pixel is one of its pixels, so the shares of the classes stay right.

    Args:
        path: where to write; a file there is replaced.
        grid: place and size of the product.
        dtype: ``float32`` or ``uint8``.
        nodata: value of pixels without data; NaN for ``float32``.
        description: name of the band.
        tags: metadata of the file.
        colours: (red, green, blue), each 0 to 255, by class; only for ``uint8``.
        scratch: folder for temporary files, on the file system of ``path``; by default the folder of ``path``.

    Raises:
        InputError: if dtype, nodata and colours do not fit one another.
        OutputError: if the folder cannot be written to.
    """

    def __init__(
        self,
        path: Path,
        grid: Grid,
        dtype: str,
        nodata: float,
        *,
        description: str = "",
        tags: Mapping[str, str] | None = None,
        colours: Mapping[int, tuple[int, int, int]] | None = None,
        scratch: Path | None = None,
    ) -> None:
        _check_product(dtype, nodata, colours)
        self._grid = grid
        self._dtype = np.dtype(dtype)
        self._next = 0
        needed = grid.height * grid.width * self._dtype.itemsize * 8 // 3  # plain, overviews, and the product of both
        super().__init__(path, (RasterioError, CPLE_BaseError), needed, scratch)
        with self._guarded():
            self._rows = self._files.enter_context((self._folder / _ROWS).open("wb"))
            self._written = self._files.enter_context((self._folder / _ROWS).open("rb", buffering=0))
            self._vrt = self._folder / "rows.vrt"
            self._vrt.write_bytes(_vrt(grid, dtype, nodata, (description, tags or {}), colours))

    def write(self, first_row: int, strip: NDArray[Any]) -> None:
        """Write the next rows.

        Args:
            first_row: row of the grid at which the strip begins: the number of rows written so far.
            strip: ``(rows, width)``, of a type that converts to the product's without loss.

        Raises:
            ShapeError: if the strip does not follow the last one, is too wide, too long or of another type.
            OutputError: if writing failed; nothing is left behind then.
        """
        self._check_strip(first_row, strip)
        values = quantise(strip) if self._dtype == np.float32 else strip.astype(self._dtype, copy=False)
        with self._guarded():
            self._rows.write(np.ascontiguousarray(values).data.cast("B"))
        self._next += strip.shape[0]

    def read(self, tile: Tile) -> NDArray[Any]:
        """What was written there: ``(h, w)`` of a tile that lies in the rows written so far.

        Raises:
            OutputError: if the rows cannot be read; nothing is left behind then.
        """
        values = np.empty((tile.height, tile.width), self._dtype)
        with self._guarded():
            self._rows.flush()
            for number, row in enumerate(values, tile.row):
                self._written.seek((number * self._grid.width + tile.col) * self._dtype.itemsize)
                if self._written.readinto(row.data.cast("B")) != row.nbytes:
                    raise OSError(f"its rows are gone at row {number}")
        return values

    def close(self) -> None:
        """Finish the file, check it and put it in place.

        Raises:
            OutputError: if rows are missing, or writing or the check failed; nothing is left behind then.
        """
        if self._next < self._grid.height:
            self.discard()
            raise OutputError(
                f"{self._path} was not written: only {self._next} of {self._grid.height} rows were given; write all"
            )
        super().close()

    def _finish(self) -> Path:
        self._rows.close()
        finished = self._folder / "cog.tif"
        options = {"COMPRESS": "DEFLATE", "LEVEL": 1, "PREDICTOR": "YES", "BLOCKSIZE": BLOCK, "BIGTIFF": "IF_SAFER"}
        with rasterio.Env(GDAL_CACHEMAX=_CACHE_BYTES), warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            rasterio.shutil.copy(
                self._vrt,
                finished,
                driver="COG",
                OVERVIEW_RESAMPLING=_OVERVIEWS[self._dtype.name],
                NUM_THREADS=1,
                **options,
            )
            _read_end(finished, self._grid)
        return finished

    def _check_strip(self, first_row: int, strip: NDArray[Any]) -> None:
        height, width = self._grid.shape
        if first_row != self._next:
            raise ShapeError(f"the strip begins at row {first_row}, but row {self._next} is next; write top-down")
        if strip.ndim != 2 or strip.shape[1] != width or first_row + strip.shape[0] > height:
            raise ShapeError(
                f"the strip has shape {strip.shape}; expected at most {height - first_row} rows of {width} pixels"
            )
        if not np.can_cast(strip.dtype, self._dtype):
            raise ShapeError(f"the strip is {strip.dtype}, the product {self._dtype}; convert the strip first")


def probability_writer(
    path: Path, grid: Grid, tags: Mapping[str, str] | None = None, scratch: Path | None = None
) -> CogWriter:
    """Writer of ``probability.tif``: float32 in [0, 1], NaN where there is no data. Raises what `CogWriter` does."""
    name = "probability of change"
    return CogWriter(path, grid, "float32", float("nan"), description=name, tags=tags, scratch=scratch)


def change_writer(
    path: Path, grid: Grid, tags: Mapping[str, str] | None = None, scratch: Path | None = None
) -> CogWriter:
    """Writer of ``change.tif``: 0 unchanged, 1 changed, 255 no data. Raises what `CogWriter` does."""
    colours = CHANGE_COLOURS
    return CogWriter(path, grid, "uint8", 255, description="change", tags=tags, colours=colours, scratch=scratch)


def _vrt(
    grid: Grid,
    dtype: str,
    nodata: float,
    says: tuple[str, Mapping[str, str]],
    colours: Mapping[int, tuple[int, int, int]] | None,
) -> bytes:
    """The description of the rows for GDAL; ``says`` is the band's name and the metadata."""
    height, width = grid.shape
    size = np.dtype(dtype).itemsize
    dataset = ElementTree.Element("VRTDataset", rasterXSize=str(width), rasterYSize=str(height))

    def add(parent: ElementTree.Element, name: str, text: object = None, **attributes: str) -> ElementTree.Element:
        element = ElementTree.SubElement(parent, name, attributes)
        element.text = None if text is None else str(text)
        return element

    if grid.crs is not None:
        add(dataset, "SRS", grid.crs.to_wkt())
    add(dataset, "GeoTransform", ",".join(map(repr, grid.transform.to_gdal())))
    description, tags = says
    metadata = add(dataset, "Metadata")
    for key, value in tags.items():
        add(metadata, "MDI", value, key=key)
    band = add(dataset, "VRTRasterBand", dataType=_GDAL_TYPES[dtype], band="1", subClass="VRTRawRasterBand")
    add(band, "Description", description)
    add(band, "NoDataValue", nodata)
    if colours:
        add(band, "ColorInterp", "Palette")
        table = add(band, "ColorTable")
        for each in range(max(colours) + 1):
            red, green, blue = map(str, colours.get(each, (0, 0, 0)))
            add(table, "Entry", c1=red, c2=green, c3=blue)
    add(band, "SourceFilename", _ROWS, relativeToVRT="1")
    add(band, "ImageOffset", 0)
    add(band, "PixelOffset", size)
    add(band, "LineOffset", size * width)
    add(band, "ByteOrder", "LSB" if sys.byteorder == "little" else "MSB")
    return ElementTree.tostring(dataset)


def _read_end(path: Path, grid: Grid) -> None:
    """Read the block at the end of a new file: GDAL does not always say that it could not be written."""
    height, width = grid.shape
    row, col = (height - 1) // BLOCK * BLOCK, (width - 1) // BLOCK * BLOCK
    with rasterio.open(path) as file:
        file.read(1, window=Window(col, row, width - col, height - row))


def _check_product(dtype: str, nodata: float, colours: Mapping[int, tuple[int, int, int]] | None) -> None:
    if dtype not in ("float32", "uint8"):
        raise InputError(f"cannot write {dtype}; products are float32 (probabilities) or uint8 (classes)")
    if dtype == "float32" and not np.isnan(nodata):
        raise InputError(f"nodata of a float32 product must be NaN, not {nodata}")
    if dtype == "float32" and colours:
        raise InputError("colours are for uint8 products; a float32 product has none")
    if dtype == "uint8" and nodata not in range(256):
        raise InputError(f"nodata of a uint8 product must be a whole number from 0 to 255, not {nodata}")
