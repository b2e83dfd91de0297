"""Is a file a complete Cloud Optimised GeoTIFF?"""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from terradelta.errors import OutputError

__all__ = ["BLOCK", "CACHE_BYTES", "quiet", "validate_cog"]

BLOCK = 512
"""Side of a block of the file, in pixels; also the longest side that needs no overview."""

CACHE_BYTES = 16 << 20
"""GDAL's cache while products are written and checked, which it hardly uses."""


def validate_cog(path: Path) -> None:
    """Check that a file is a complete Cloud Optimised GeoTIFF.

    It has to be tiled, to have overviews if a side is longer than 512 pixels, and to hold, in this order: all
    directories, the overviews from small to large, the full image. No block may be missing; the first and the last
    one of each resolution must be readable.

    Raises:
        OutputError: if not; the message says what is wrong.
    """
    try:
        with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES), quiet(), rasterio.open(path) as file:
            problem = _header_problem(file) or _layout_problem(file)
    except (RasterioError, CPLE_BaseError) as error:
        problem = f"it cannot be read ({error})"
    if problem:
        raise OutputError(f"{path} is no valid Cloud Optimised GeoTIFF: {problem}; write it again")


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
def quiet() -> Iterator[None]:
    """Images without georeference are allowed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield
