"""What `detect_change` takes for a date, as a source that the pair can be opened from, and its coordinates."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union, cast

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS

from terradelta.errors import InputError, needs
from terradelta.geo.grid import Grid
from terradelta.raster.array_source import ArraySource, array_source

if TYPE_CHECKING:
    import xarray

__all__ = ["Coordinates", "Image", "as_input", "coordinates_of", "need_xarray"]

Image: TypeAlias = Union[str, Path, "xarray.DataArray", NDArray[Any]]
"""A path or URL; ``(band, y, x)`` or ``(y, x)`` of xarray, with a CRS by rioxarray, or of numpy or dask, without."""

_SAME_PX = 1e-3
_X, _Y = ("x", "longitude", "lon"), ("y", "latitude", "lat")
_MOST_CHANNELS = 4


@dataclass(frozen=True)
class Coordinates:
    """Names and values of the two spatial dimensions."""

    y: str
    x: str
    values: tuple[NDArray[Any], NDArray[Any]] | None
    """``(H,)`` and ``(W,)``: of the centres of rows and columns; None where rows do not follow an axis of the CRS."""


def need_xarray() -> None:
    """Raise MissingExtraError unless the extra ``[xarray]`` is there."""
    with needs("xarray", "working with arrays"):
        import rioxarray  # noqa: F401  registers the accessor .rio
        import xarray  # noqa: F401


def as_input(image: Image, label: str) -> str | Path | ArraySource:
    """An image as `terradelta.raster.pair.open_pair` takes it.

    Args:
        image: a path or URL, or an array.
        label: what messages call an array that does not name its file.

    Raises:
        InputError: if it is none of these, or its dimensions are not known.
        RasterError: if its values are no integers or real floats.
    """
    if isinstance(image, str | os.PathLike):
        return Path(image) if isinstance(image, os.PathLike) else image
    if hasattr(image, "dims") and hasattr(image, "rio"):
        return _of_xarray(cast("xarray.DataArray", image), label)
    if not (hasattr(image, "dtype") and hasattr(image, "shape")):
        raise InputError(
            f"{label} is a {type(image).__name__}; give a path, an xarray.DataArray, or an array of numpy or dask"
        )
    values = _three_dimensional(image, label)
    grid = Grid(None, Affine.identity(), (values.shape[1], values.shape[2]))
    return array_source(values, grid, label=label, dtype=np.dtype(values.dtype).name)


def _three_dimensional(values: Any, label: str) -> Any:  # noqa: ANN401  an array of numpy or dask
    if values.ndim == 3 and values.shape[2] <= _MOST_CHANNELS < values.shape[0]:
        raise InputError(
            f"{label} has shape {tuple(values.shape)}, with the bands last; give (band, y, x): "
            "numpy.moveaxis(image, -1, 0)"
        )
    if values.ndim not in (2, 3):
        raise InputError(f"{label} has {values.ndim} dimensions; give (band, y, x), or (y, x) for one band")
    return values[None] if values.ndim == 2 else values


def _of_xarray(image: "xarray.DataArray", label: str) -> ArraySource:
    y, x = _spatial(image, label)
    image = _in_order(image, y, x, label).rio.set_spatial_dims(x, y)
    crs = image.rio.crs
    shape = (image.sizes[y], image.sizes[x])
    place = Affine.identity() if crs is None else _transform(image, y, x)
    source = image.encoding.get("source")
    return array_source(
        image.data,
        Grid(None if crs is None else CRS.from_user_input(crs), place, shape),
        label=f"{label} ({source})" if isinstance(source, str) else label,
        dtype=image.dtype.name,
        nodata=_nodata(image),
        names=_names(image),
        tags={name: value for name, value in image.attrs.items() if isinstance(value, str)},
        scaled=(float(image.attrs.get("scale_factor", 1.0)), float(image.attrs.get("add_offset", 0.0))),
    )


def _spatial(image: "xarray.DataArray", label: str) -> tuple[str, str]:
    """Names of the dimensions along columns and rows."""
    found = [next((name for name in names if name in image.dims), None) for names in (_Y, _X)]
    if found[0] is None or found[1] is None:
        raise InputError(f"{label} has the dimensions {tuple(image.dims)}; give (band, y, x), or (y, x) for one band")
    return found[0], found[1]


def _in_order(image: "xarray.DataArray", y: str, x: str, label: str) -> "xarray.DataArray":
    """The image with the dimensions band, y, x."""
    others = [name for name in image.dims if name not in (y, x)]
    if len(others) > 1:
        raise InputError(
            f"{label} has the dimensions {tuple(image.dims)}; give one date with (band, y, x), e.g. image.isel(time=0)"
        )
    image = image if others else image.expand_dims("band")
    return image.transpose(others[0] if others else "band", y, x)


def _transform(image: "xarray.DataArray", y: str, x: str) -> Affine:
    """Where pixels lie: as stored with the CRS, unless the coordinates say otherwise, as after a selection."""
    stored, counted = image.rio.transform(), image.rio.transform(recalc=True)
    if y not in image.coords or x not in image.coords or stored.b or stored.d:
        return Affine(*stored[:6])
    corners = [(0, 0), (image.sizes[x], image.sizes[y])]
    apart = [np.subtract(~counted @ (stored @ corner), corner) for corner in corners]
    return Affine(*(stored if np.abs(apart).max() <= _SAME_PX else counted)[:6])


def _nodata(image: "xarray.DataArray") -> float | None:
    """The value that means no data; of real numbers NaN is none anyway."""
    value = image.rio.nodata
    if value is None or np.isnan(value):
        return None
    return int(value) if np.dtype(image.dtype).kind in "iu" else float(value)


def _names(image: "xarray.DataArray") -> tuple[str, ...]:
    """Names of the bands: coordinates that are texts, else the descriptions of the file; empty: there are none."""
    band = image.dims[0]
    if band in image.coords and image.coords[band].dtype.kind in "UTO":
        return tuple(str(name) for name in image.coords[band].values)
    described = image.attrs.get("long_name", ())
    described = (described,) if isinstance(described, str) else described
    return tuple(map(str, described)) if len(described) == image.sizes[band] else ()


def coordinates_of(image: Image, grid: Grid, reference: Grid) -> Coordinates:
    """The coordinates of a grid, which is a part of the first date's.

    Those of the first date where it is an xarray.DataArray, so that results align with it; else those of the grid:
    of images without a CRS the centres of rows and columns, counted from 0.

    Args:
        image: the first date.
        grid: the common grid.
        reference: the first date's.
    """
    (row, col), t = grid.offset_in(reference) or (0, 0), reference.transform
    rows, cols = row + np.arange(grid.height) + 0.5, col + np.arange(grid.width) + 0.5
    counted = (t.f + t.e * rows, t.c + t.a * cols)
    if not (hasattr(image, "coords") and hasattr(image, "sizes")):
        return Coordinates("y", "x", None if t.b or t.d else counted)
    image = cast("xarray.DataArray", image)
    y, x = _spatial(image, "the first date")
    if y not in image.coords or x not in image.coords or image.coords[y].ndim != 1 or image.coords[x].ndim != 1:
        return Coordinates(y, x, None if t.b or t.d else counted)
    own = (image.coords[y].values[row : row + grid.height], image.coords[x].values[col : col + grid.width])
    is_moved = grid.crs is not None and abs(own[1][0] - counted[1][0]) > abs(t.a)  # longitudes beyond 180
    return Coordinates(y, x, counted if is_moved else own)
