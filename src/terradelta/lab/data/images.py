"""Images as they lie in data sets: one file, or a folder with one file for each band; whole or in a window."""

import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.io import DatasetReader
from rasterio.windows import Window

from terradelta.errors import DataError, GridError, LeftOutWarning, RasterError
from terradelta.geo.grid import Grid, Tile
from terradelta.machine import total_memory
from terradelta.raster.access import GDAL_ERRORS, IMAGE_DRIVERS, SEALED, open_image

__all__ = [
    "SUFFIXES",
    "Image",
    "ImageHeader",
    "band_files",
    "by_stem",
    "palette_of",
    "read_grid",
    "read_header",
    "read_image",
]

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
"""Of files that count as images."""

_MEMORY_SHARE = 8
"""An image may take one part in so many of the machine's memory."""
_BAND = re.compile(r"(?:^|_)B(\d+)(A?)$", re.IGNORECASE)  # Sentinel-2 names them B01 to B12, with B8A after B08


@dataclass(frozen=True)
class ImageHeader:
    """What an image says about itself before it is decoded."""

    shape: tuple[int, int]
    """(height, width) in pixels."""
    bands: int
    placed: bool = False
    """Whether it has a CRS."""

    @classmethod
    def of(cls, values: NDArray[Any]) -> Self:
        """The header of an array ``(C, H, W)``."""
        return cls((values.shape[1], values.shape[2]), values.shape[0])

    def __str__(self) -> str:
        return f"{self.bands} band{'s'[: self.bands != 1]} of {self.shape[0]} x {self.shape[1]}"


@dataclass(frozen=True)
class Image:
    """A decoded image or a window of one."""

    values: NDArray[Any]
    """``(C, h, w)`` as they are in the file."""
    palette: Mapping[int, tuple[int, ...]] | None = None
    """Colour (red, green, blue, alpha) of each value of the first band, where the file has a colour table."""
    nodata: float | None = None
    """Value that a TIFF file says stands for no data."""


def by_stem(folder: Path, suffixes: tuple[str, ...] = SUFFIXES) -> dict[str, Path]:
    """The images of a folder by their names without suffix, in sorted order.

    Args:
        folder: the folder; those inside it are left out.
        suffixes: which files count, in small letters.

    Raises:
        DataError: if two images have one name.
    """
    found: dict[str, Path] = {}
    images = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in suffixes]
    hidden = [path for path in images if path.name.startswith(".")]
    if hidden:
        note = f"{folder}: {len(hidden)} hidden files were left out, such as {hidden[0].name}"
        warnings.warn(note, LeftOutWarning, stacklevel=2)
    for path in images:
        if path.name.startswith("."):  # as macOS puts beside every file on other systems' disks
            continue
        if path.stem in found:
            raise DataError(f"{folder} holds both {found[path.stem].name} and {path.name}; keep one image of a name")
        found[path.stem] = path
    return found


def band_files(folder: Path) -> list[Path]:
    """The files of an image that is a folder: in the order of Sentinel-2's bands, or by name.

    Raises:
        DataError: if the folder holds no image.
    """
    files = sorted(by_stem(folder).values(), key=_band_key)
    if not files:
        raise DataError(f"{folder} holds no image ({', '.join(SUFFIXES)}); put one file for each band there")
    return files


def _band_key(path: Path) -> tuple[int, str, str]:
    found = _BAND.search(path.stem)
    return (int(found[1]), found[2].upper(), path.stem) if found else (-1, "", path.stem)


def read_header(path: Path) -> ImageHeader:
    """Size and number of bands.

    Raises:
        DataError: if a file is missing or no image, or the bands of a folder differ in size.
    """
    if not path.is_dir():
        with _opened(path) as source:
            return ImageHeader(source.shape, source.count, source.crs is not None)
    headers = {file: read_header(file) for file in band_files(path)}
    _check_bands(headers)
    first = next(iter(headers.values()))
    return ImageHeader(first.shape, sum(header.bands for header in headers.values()))


def read_grid(path: Path) -> Grid | None:
    """Where an image lies; None without a CRS. Of a folder, where its first band lies.

    Raises:
        DataError: if a file is missing or no image, or its georeference is none.
    """
    with _opened(band_files(path)[0] if path.is_dir() else path) as source:
        if source.crs is None:
            return None
        try:
            return Grid(source.crs, source.transform, source.shape)
        except GridError as error:
            raise DataError(f"{path}: {error}") from error


def read_image(path: Path, window: Tile | None = None) -> Image:
    """The image, or the part of it in a window that lies inside.

    Raises:
        DataError: if a file is missing, damaged, or too large for the machine's memory, or the bands of a folder differ
            in size.
    """
    if path.is_dir():
        parts = {file: read_image(file, window).values for file in band_files(path)}
        _check_bands({file: ImageHeader.of(values) for file, values in parts.items()})
        return Image(np.concatenate(list(parts.values())))
    with _opened(path) as source:
        part = None if window is None else Window(window.col, window.row, window.width, window.height)
        _check_memory(path, source, source.shape if window is None else (window.height, window.width))
        nodata = source.nodata if source.driver == "GTiff" else None
        return Image(source.read(window=part), palette_of(source), nodata)


def _check_memory(path: Path, source: DatasetReader, shape: tuple[int, int]) -> None:
    """Refuse what would not fit beside the other images of a pair and what is made of them."""
    needed = shape[0] * shape[1] * sum(np.dtype(kind).itemsize for kind in source.dtypes)
    memory = total_memory()
    if memory is not None and needed > memory / _MEMORY_SHARE:
        raise DataError(
            f"{path} is {source.height} x {source.width} pixels: {needed / 1e9:.1f} GB in memory, of "
            f"{memory / 1e9:.1f} GB that the machine has; cut the pair into smaller ones"
        )


@contextmanager
def _opened(path: Path) -> Iterator[DatasetReader]:
    try:
        # GDAL's quick way to decode a PNG at once returns noise for a truncated file, without an error.
        options = {**SEALED, "GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO"}
        with rasterio.Env(**options), open_image(str(path), IMAGE_DRIVERS) as source:
            yield source
    except (*GDAL_ERRORS, RasterError) as error:
        cause = error.__cause__ or error
        raise DataError(f"{path} cannot be read ({cause}); replace the file or leave the pair out") from error


def palette_of(source: DatasetReader) -> Mapping[int, tuple[int, ...]] | None:
    """The colour (red, green, blue, alpha) of each value of an open image's first band; None without a colour table."""
    try:
        palette: dict[int, tuple[int, ...]] = source.colormap(1)
    except ValueError:
        return None
    return palette


def _check_bands(headers: Mapping[Path, ImageHeader]) -> None:
    sizes: dict[tuple[int, int], Path] = {}
    for file, header in headers.items():
        sizes.setdefault(header.shape, file)
    if len(sizes) > 1:
        (first, one), (second, other) = list(sizes.items())[:2]
        raise DataError(
            f"{one} is {first[0]} x {first[1]}, but {other} {second[0]} x {second[1]}; the bands of one image must "
            "have one size: resample them (OSCD keeps resampled ones in imgs_1_rect and imgs_2_rect)"
        )
