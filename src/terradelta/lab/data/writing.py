"""Images, labels and folders of them as files that appear whole or not at all."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

from terradelta.files import whole_file
from terradelta.geo.grid import Grid
from terradelta.raster.access import GDAL_ERRORS

__all__ = ["image_suffix", "tiff_profile", "write_image", "write_label"]

_PNG_BANDS = (1, 3)
_BLOCK = 256


def image_suffix(dtype: np.dtype[Any], bands: int, grid: Grid | None) -> str:
    """``.png`` where that holds everything, else ``.tif``: more bands, more bits, or a place on the ground."""
    return ".png" if grid is None and dtype == np.uint8 and bands in _PNG_BANDS else ".tif"


def write_image(path: Path, values: NDArray[Any], grid: Grid | None = None) -> None:
    """Write ``(C, H, W)`` without loss, as PNG or deflated GeoTIFF by the suffix; folders are made.

    Args:
        path: ends in ``.png`` or ``.tif``.
        values: of any dtype that the format takes.
        grid: where the image lies; its shape is ``(H, W)``.

    Raises:
        OutputError: if the file cannot be written.
    """
    bands, height, width = values.shape
    profile = {"driver": "PNG", "count": bands, "height": height, "width": width, "dtype": values.dtype}
    if path.suffix != ".png":
        profile = tiff_profile((bands, height, width), values.dtype, grid)
    with whole_file(path, failures=GDAL_ERRORS, make_folder=True) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(temporary, "w", **profile) as target:
            target.write(values)


def write_label(path: Path, label: NDArray[np.bool_], grid: Grid | None = None) -> None:
    """Write a label ``(H, W)``: 0 unchanged, 255 changed; otherwise as `write_image`."""
    write_image(path, label[None] * np.uint8(255), grid)


def tiff_profile(shape: tuple[int, int, int], dtype: np.dtype[Any], grid: Grid | None) -> dict[str, Any]:
    """Options of `rasterio.open` for a deflated GeoTIFF of ``(C, H, W)``, tiled unless it is small."""
    bands, height, width = shape
    profile: dict[str, Any] = {"driver": "GTiff", "count": bands, "height": height, "width": width, "dtype": dtype}
    profile |= {"compress": "deflate", "predictor": 3 if dtype.kind == "f" else 2, "bigtiff": "if_safer"}
    profile["photometric"] = "RGB" if bands == 3 and dtype == np.uint8 else "MINISBLACK"
    if max(height, width) > _BLOCK:
        profile |= {"tiled": True, "blockxsize": _BLOCK, "blockysize": _BLOCK}
    if grid is not None:
        profile |= {"crs": grid.crs, "transform": grid.transform}
    return profile
