"""Write a single-band product as a Cloud Optimised GeoTIFF (COG), strip by strip.

Every pixel is compressed once. Rows go into a file of uncompressed blocks until a row of blocks is full; then its
blocks are compressed and appended to the file of their resolution, and half the resolution goes on to the next one. At
the end these files are put one after the other behind the directories. So nothing that grows with the scene is held.
Blocks are compressed with DEFLATE, which every TIFF reader knows.
"""

import contextlib
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import rasterio
from isal import isal_zlib
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile

from terradelta.errors import InputError, OutputError, ShapeError
from terradelta.geo.grid import Grid
from terradelta.products.cog_check import BLOCK, CACHE_BYTES, quiet, validate_cog
from terradelta.products.staged import StagedWriter
from terradelta.products.tiff import Resolution, Tag, frame_block, read_tags, write_cog

__all__ = [
    "BLOCK",
    "CHANGE_COLOURS",
    "PROBABILITY_STEP",
    "CogWriter",
    "change_writer",
    "probability_writer",
    "quantise",
    "validate_cog",
]

PROBABILITY_STEP = 1 / 1024
"""Probabilities are stored as multiples of this: exact in float32, and a quarter of the bytes or less."""

CHANGE_COLOURS = {0: (255, 255, 255), 1: (255, 0, 0)}
"""Red, green, blue of unchanged and changed pixels. A TIFF palette has no opacity: only nodata is transparent."""

_LEVEL = 1


def quantise(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Round to the nearest multiple of `PROBABILITY_STEP`; NaN stays NaN. Any shape."""
    rounded = values * np.float32(1 / PROBABILITY_STEP)
    np.rint(rounded, out=rounded)
    rounded *= np.float32(PROBABILITY_STEP)
    return rounded


class CogWriter(StagedWriter):
    """Write strips from top to bottom; the finished file appears under its name at the end, or not at all.

    Use it as a context manager, or call `close`. Memory is that of a few blocks and strips. Two types of product exist:

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
    ) -> None:
        _check_product(dtype, nodata, colours)
        self._grid = grid
        self._dtype = np.dtype(dtype)
        self._rows = 0
        needed = grid.height * grid.width * self._dtype.itemsize * 8 // 3  # two raw copies, each with overviews
        super().__init__(path, (RasterioError, CPLE_BaseError, OutputError), needed)
        with self._guarded():
            self._tags = _template(grid, self._dtype, nodata, (description, tags or {}), colours)
            self._pyramid = _Level(self._folder, 0, grid.shape, self._dtype, nodata)
            self._files.callback(self._pyramid.close)

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
        with self._guarded():
            self._pyramid.push(strip)
        self._rows += strip.shape[0]

    def close(self) -> None:
        """Finish the file, check it and put it in place.

        Raises:
            OutputError: if rows are missing, or writing or the check failed; nothing is left behind then.
        """
        if self._rows < self._grid.height:
            self.discard()
            raise OutputError(
                f"{self._path} was not written: only {self._rows} of {self._grid.height} rows were given; write all"
            )
        super().close()

    def _finish(self) -> Path:
        resolutions = self._pyramid.finish()
        finished = self._folder / "cog.tif"
        write_cog(finished, self._tags, resolutions)
        validate_cog(finished)
        return finished

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        with super()._guarded(), rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES):
            yield

    def _check_strip(self, first_row: int, strip: NDArray[Any]) -> None:
        height, width = self._grid.shape
        if first_row != self._rows:
            raise ShapeError(f"the strip begins at row {first_row}, but row {self._rows} is next; write top-down")
        if strip.ndim != 2 or strip.shape[1] != width or first_row + strip.shape[0] > height:
            raise ShapeError(
                f"the strip has shape {strip.shape}; expected at most {height - first_row} rows of {width} pixels"
            )
        if not np.can_cast(strip.dtype, self._dtype):
            raise ShapeError(f"the strip is {strip.dtype}, the product {self._dtype}; convert the strip first")


def probability_writer(path: Path, grid: Grid, tags: Mapping[str, str] | None = None) -> CogWriter:
    """Writer of ``probability.tif``: float32 in [0, 1], NaN where there is no data. Raises what `CogWriter` does."""
    return CogWriter(path, grid, "float32", float("nan"), description="probability of change", tags=tags)


def change_writer(path: Path, grid: Grid, tags: Mapping[str, str] | None = None) -> CogWriter:
    """Writer of ``change.tif``: 0 unchanged, 1 changed, 255 no data. Raises what `CogWriter` does."""
    return CogWriter(path, grid, "uint8", 255, description="change", tags=tags, colours=CHANGE_COLOURS)


class _Level:
    """One resolution: gathers rows until a row of blocks is full, compresses it, hands half the resolution on."""

    def __init__(self, folder: Path, number: int, shape: tuple[int, int], dtype: np.dtype[Any], nodata: float) -> None:
        self._shape, self._dtype, self._nodata = shape, dtype, nodata
        self._filled = self._written = 0
        self._path = folder / f"{number}.blocks"
        self._sizes = array("Q")
        self._last: tuple[bytes, bytes] = (b"", b"")
        self._odd = np.empty((0, shape[1]), dtype)
        self._files = contextlib.ExitStack()
        self._blocks = self._files.enter_context(self._path.open("wb"))
        self._rows = self._files.enter_context((folder / f"{number}.rows").open("w+b", buffering=0))
        self._coarser: _Level | None = None
        if max(shape) > BLOCK:
            self._coarser = _Level(folder, number + 1, (-(-shape[0] // 2), -(-shape[1] // 2)), dtype, nodata)
            self._files.callback(self._coarser.close)

    def push(self, strip: NDArray[Any]) -> None:
        """Take the next rows ``(rows, width)``."""
        strip = quantise(strip) if self._dtype == np.float32 else strip.astype(self._dtype, copy=False)
        if self._coarser:
            self._hand_on(strip)
        while len(strip):
            part, strip = strip[: BLOCK - self._filled], strip[BLOCK - self._filled :]
            for col in range(0, self._shape[1], BLOCK):
                piece = np.full((len(part), BLOCK), self._nodata, self._dtype)
                piece[:, : self._shape[1] - col] = part[:, col : col + BLOCK]
                self._rows.seek((col * BLOCK + self._filled * BLOCK) * self._dtype.itemsize)
                _write_all(self._rows, piece.data.cast("B"))
            self._filled += len(part)
            if self._filled == BLOCK:
                self._compress()

    def finish(self) -> list[Resolution]:
        """Compress what is left and close the files; the resolutions from here on."""
        if self._filled:
            self._compress()
        if self._coarser and len(self._odd):
            self._coarser.push(_half(self._odd))
        self._blocks.close()
        return [Resolution(self._shape, self._path, self._sizes), *(self._coarser.finish() if self._coarser else [])]

    def close(self) -> None:
        """Close the files; again does nothing."""
        self._files.close()

    def _hand_on(self, strip: NDArray[Any]) -> None:
        """Give pairs of rows to the coarser resolution; an odd row waits for its partner."""
        assert self._coarser
        rows = np.concatenate([self._odd, strip]) if len(self._odd) else strip
        even = len(rows) // 2 * 2
        self._odd = rows[even:].copy()
        if even:
            self._coarser.push(_half(rows[:even]))

    def _compress(self) -> None:
        self._rows.seek(0)
        unused = np.full((BLOCK - self._filled, BLOCK), self._nodata, self._dtype).tobytes()
        size = BLOCK * BLOCK * self._dtype.itemsize
        for _ in range(0, self._shape[1], BLOCK):
            block = self._rows.read(size)
            block = block[: size - len(unused)] + unused if unused else block
            if block != self._last[0]:  # many blocks are without change, or without data
                self._last = block, isal_zlib.compress(block, _LEVEL)
            self._blocks.write(frame_block(self._last[1]))
            self._sizes.append(len(self._last[1]))
        self._filled = 0


def _write_all(file: IO[bytes], content: memoryview) -> None:
    """Write to an unbuffered file, which may take less than it is given."""
    while content:
        content = content[file.write(content) :]


def _half(rows: NDArray[Any]) -> NDArray[Any]:
    """Half the resolution: probabilities are averaged, of classes one pixel in four is taken."""
    return _average(rows) if rows.dtype == np.float32 else rows[::2, ::2]


def _average(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean of the valid ones of each 2 x 2 pixels, NaN where none is; the last odd row or column stands for two."""
    odd = rows.shape[0] % 2, rows.shape[1] % 2
    padded = np.pad(rows, ((0, odd[0]), (0, odd[1])), mode="edge") if any(odd) else rows
    missing = np.isnan(padded)
    if not missing.any():
        return _sum_of_quads(padded) * np.float32(0.25)
    counts = _sum_of_quads((~missing).astype(np.float32))
    sums = _sum_of_quads(np.where(missing, np.float32(0), padded))
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)


def _sum_of_quads(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    pairs = rows[0::2] + rows[1::2]
    return pairs[:, 0::2] + pairs[:, 1::2]


def _template(
    grid: Grid,
    dtype: np.dtype[Any],
    nodata: float,
    says: tuple[str, Mapping[str, str]],
    colours: Mapping[int, tuple[int, int, int]] | None,
) -> dict[int, Tag]:
    """The tags of the file to make, taken from one that GDAL makes; ``says`` is the band's name and the metadata."""
    description, tags = says
    layout = {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "compress": "deflate", "SPARSE_OK": True}
    profile = {"count": 1, "dtype": dtype, "nodata": nodata, "width": BLOCK, "height": BLOCK, **layout}
    with quiet(), MemoryFile() as memory:
        with memory.open(driver="GTiff", crs=grid.crs, transform=grid.transform, **profile) as file:
            file.set_band_description(1, description)
            file.update_tags(**tags)
            if colours:
                file.write_colormap(1, {value: (*colour, 255) for value, colour in colours.items()})
        return read_tags(memory.read())


def _check_product(dtype: str, nodata: float, colours: Mapping[int, tuple[int, int, int]] | None) -> None:
    if dtype not in ("float32", "uint8"):
        raise InputError(f"cannot write {dtype}; products are float32 (probabilities) or uint8 (classes)")
    if dtype == "float32" and not np.isnan(nodata):
        raise InputError(f"nodata of a float32 product must be NaN, not {nodata}")
    if dtype == "float32" and colours:
        raise InputError("colours are for uint8 products; a float32 product has none")
    if dtype == "uint8" and nodata not in range(256):
        raise InputError(f"nodata of a uint8 product must be a whole number from 0 to 255, not {nodata}")
