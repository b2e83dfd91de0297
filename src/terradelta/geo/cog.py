"""Write a single-band product as a Cloud Optimised GeoTIFF (COG), strip by strip.

The strips and their overviews go to temporary tiled files, which GDAL's COG driver puts into their final order at
the end. Making the overviews while the strips pass takes two thirds of the time that GDAL needs with its own.
Files are compressed with DEFLATE, which every TIFF reader knows; ZSTD is faster but less widely read, so only the
temporary files have it.
"""

import contextlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from xml.etree import ElementTree

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from terradelta.errors import InputError, OutputError, ShapeError
from terradelta.geo.grid import Grid

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

BLOCK = 512
"""Side of a block of the file, in pixels; also the longest side that needs no overview."""

PROBABILITY_STEP = 1 / 1024
"""Probabilities are stored as multiples of this: exact in float32, and a quarter of the bytes or less."""

CHANGE_COLOURS = {0: (255, 255, 255), 1: (255, 0, 0)}
"""Red, green, blue of unchanged and changed pixels. A TIFF palette has no opacity: only nodata is transparent."""

_CACHE_BYTES = 64 << 20
_ROWS = 128
"""Height of a block of a temporary file: a low one keeps memory small and the arithmetic in the processor's cache."""
_TEMPORARY = {"compress": "zstd", "zstd_level": 1, "tiled": True, "blockxsize": BLOCK, "blockysize": _ROWS}
_FINAL = {"COMPRESS": "DEFLATE", "LEVEL": "1", "BLOCKSIZE": str(BLOCK), "NUM_THREADS": "ALL_CPUS"}


def quantise(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Round to the nearest multiple of `PROBABILITY_STEP`; NaN stays NaN. Any shape."""
    rounded = values * np.float32(1 / PROBABILITY_STEP)
    np.rint(rounded, out=rounded)
    rounded *= np.float32(PROBABILITY_STEP)
    return rounded


class CogWriter:
    """Write strips from top to bottom; the finished file appears under its name at the end, or not at all.

    Use it as a context manager, or call `close`. Memory is that of two rows of blocks. Two types of product exist:

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
        self._path = Path(path)
        self._grid = grid
        self._dtype = np.dtype(dtype)
        self._rows = 0
        self._files = contextlib.ExitStack()
        with self._guarded():
            folder = tempfile.TemporaryDirectory(prefix=f".{self._path.name}.", dir=self._path.parent)
            self._folder = Path(self._files.enter_context(folder))
            self._pyramid = _Level(self._folder, 0, grid, self._dtype, nodata)
            self._files.callback(self._pyramid.close)
            self._pyramid.describe(description, tags or {}, colours)

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
        with self._guarded():
            self._pyramid.close()
            finished = self._folder / "cog.tif"
            _assemble(self._folder, finished)
            validate_cog(finished)
            os.replace(finished, self._path)
        self.discard()

    def discard(self) -> None:
        """Remove everything temporary. What was written is lost unless `close` has finished."""
        # A file that could not be written cannot be flushed either; the first error is the one to report.
        with contextlib.suppress(OSError, RasterioError, CPLE_BaseError):
            self._files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """On any error remove what is temporary; tell of failed writing in our words."""
        try:
            with rasterio.Env(GDAL_CACHEMAX=_CACHE_BYTES):
                yield
        except (OSError, RasterioError, CPLE_BaseError, OutputError) as error:
            self.discard()
            raise OutputError(_failure(self._path, self._bytes_needed(), error)) from error
        except BaseException:
            self.discard()
            raise

    def _bytes_needed(self) -> int:
        """At most: two uncompressed copies, each with overviews."""
        return self._grid.height * self._grid.width * self._dtype.itemsize * 8 // 3

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


def validate_cog(path: Path) -> None:
    """Check that a file is a complete Cloud Optimised GeoTIFF.

    It has to be tiled, to have overviews if a side is longer than 512 pixels, and to hold, in this order: all
    directories, the overviews from small to large, the full image. No block may be missing; the first and the last
    one of each resolution must be readable.

    Raises:
        OutputError: if not; the message says what is wrong.
    """
    try:
        with rasterio.Env(GDAL_CACHEMAX=_CACHE_BYTES), _quiet(), rasterio.open(path) as file:
            problem = _header_problem(file) or _layout_problem(file)
    except (RasterioError, CPLE_BaseError) as error:
        problem = f"it cannot be read ({error})"
    if problem:
        raise OutputError(f"{path} is no valid Cloud Optimised GeoTIFF: {problem}; write it again")


class _Level:
    """One resolution: gathers rows until a row of blocks is full, writes it, hands half the resolution on."""

    def __init__(self, folder: Path, number: int, grid: Grid, dtype: np.dtype[Any], nodata: float) -> None:
        self._shape = grid.shape
        self._buffer = np.empty((min(_ROWS, grid.height), grid.width), dtype)
        self._filled = 0
        self._written = 0
        profile = {"count": 1, "dtype": dtype, "nodata": nodata, "BIGTIFF": "IF_SAFER", **_TEMPORARY}
        place = {"crs": grid.crs, "transform": grid.transform, "height": grid.height, "width": grid.width}
        with _quiet():
            self._file = rasterio.open(folder / f"{number}.tif", "w", driver="GTiff", **profile, **place)
        self._coarser: _Level | None = None
        if max(grid.shape) > BLOCK:
            half = (-(-grid.height // 2), -(-grid.width // 2))
            self._coarser = _Level(folder, number + 1, Grid(grid.crs, grid.transform, half), dtype, nodata)

    def describe(
        self, description: str, tags: Mapping[str, str], colours: Mapping[int, tuple[int, int, int]] | None
    ) -> None:
        """Set what the finished file says about itself."""
        self._file.set_band_description(1, description)
        self._file.update_tags(**tags)
        if colours:
            self._file.write_colormap(1, {value: (*colour, 255) for value, colour in colours.items()})

    def push(self, strip: NDArray[Any]) -> None:
        """Take the next rows ``(rows, width)``."""
        while len(strip):
            room = len(self._buffer) - self._filled
            part, strip = strip[:room], strip[room:]
            target = self._buffer[self._filled : self._filled + len(part)]
            target[:] = quantise(part) if target.dtype == np.float32 else part
            self._filled += len(part)
            if self._filled == len(self._buffer):
                self._flush()

    def close(self) -> None:
        """Write what is left and close the file; again does nothing."""
        try:
            self._flush()
        finally:
            self._file.close()
            if self._coarser:
                self._coarser.close()

    def _flush(self) -> None:
        if not self._filled or self._file.closed:
            return
        rows = self._buffer[: self._filled]
        stop = self._written + self._filled
        self._file.write(rows, 1, window=((self._written, stop), (0, self._shape[1])))
        self._written, self._filled = stop, 0
        if self._coarser:
            self._coarser.push(_average(rows) if rows.dtype == np.float32 else rows[::2, ::2])


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


def _assemble(folder: Path, target: Path) -> None:
    """Copy ``0.tif`` with the overviews ``1.tif``, ``2.tif``, ... into one COG, by way of a virtual raster."""
    virtual = folder / "levels.vrt"
    with _quiet():
        rasterio.shutil.copy(folder / "0.tif", virtual, driver="VRT")
        tree = ElementTree.parse(virtual)
        band = tree.find("VRTRasterBand")
        assert band is not None
        for number in range(1, len(list(folder.glob("*.tif")))):
            overview = ElementTree.SubElement(band, "Overview")
            ElementTree.SubElement(overview, "SourceFilename", relativeToVRT="1").text = f"{number}.tif"
            ElementTree.SubElement(overview, "SourceBand").text = "1"
        tree.write(virtual)
        rasterio.shutil.copy(
            virtual, target, driver="COG", OVERVIEWS="FORCE_USE_EXISTING", BIGTIFF="IF_SAFER", **_FINAL
        )


def _header_problem(file: Any) -> str:  # noqa: ANN401  rasterio has no types
    """What is missing in a dataset; empty if nothing is."""
    if file.driver != "GTiff":
        return f"it is a {file.driver} file"
    rows, cols = file.block_shapes[0]
    if rows != cols or rows % 16:
        return f"it is not tiled (blocks of {rows} x {cols} pixels)"
    if not file.overviews(1) and max(file.shape) > BLOCK:
        return f"it has no overviews, which {file.height} x {file.width} pixels need"
    if file.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") != "COG":
        return "its header does not say LAYOUT=COG"
    return ""


def _layout_problem(file: Any) -> str:  # noqa: ANN401  rasterio has no types
    """What is wrong with the order of a dataset's parts; empty if nothing is."""
    levels = [None, *range(len(file.overviews(1)))]
    directories = [_tiff_item(file, "IFD_OFFSET", level) for level in levels]
    blocks = [_block_offsets(file, level) for level in levels]
    if any(0 in offsets for offsets in blocks):
        return "blocks are missing"
    data = [offsets[0] for offsets in reversed(blocks)]
    if [*directories, *data] != sorted({*directories, *data}):
        return "its directories, overviews and image are not in this order"
    return ""


def _block_offsets(file: Any, level: int | None) -> list[int]:  # noqa: ANN401  rasterio has no types
    """Where the blocks of a resolution begin in the file, 0 if missing; reads the first and the last of them."""
    options = {} if level is None else {"overview_level": level}
    with rasterio.open(file.name, **options) as resolution:
        blocks = [block for block, _ in resolution.block_windows(1)]
        for block in (blocks[0], blocks[-1]):
            resolution.read(1, window=resolution.block_window(1, *block))
    return [_tiff_item(file, f"BLOCK_OFFSET_{col}_{row}", level) for row, col in blocks]


def _tiff_item(file: Any, name: str, level: int | None) -> int:  # noqa: ANN401  rasterio has no types
    return int(file.get_tag_item(name, "TIFF", bidx=1, ovr=level) or 0)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Images without georeference are allowed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def _check_product(dtype: str, nodata: float, colours: Mapping[int, tuple[int, int, int]] | None) -> None:
    if dtype not in ("float32", "uint8"):
        raise InputError(f"cannot write {dtype}; products are float32 (probabilities) or uint8 (classes)")
    if dtype == "float32" and not np.isnan(nodata):
        raise InputError(f"nodata of a float32 product must be NaN, not {nodata}")
    if dtype == "float32" and colours:
        raise InputError("colours are for uint8 products; a float32 product has none")
    if dtype == "uint8" and nodata not in range(256):
        raise InputError(f"nodata of a uint8 product must be a whole number from 0 to 255, not {nodata}")


def _failure(path: Path, needed: int, error: BaseException) -> str:
    try:
        free = f"{shutil.disk_usage(path.parent).free / 1e6:,.0f} MB are free"
    except OSError:
        free = "the folder cannot be used"
    return (
        f"{path} was not written ({error}). In {path.parent} {free}; at most {needed / 1e6:,.0f} MB are needed. "
        "Make room, or write elsewhere"
    )
