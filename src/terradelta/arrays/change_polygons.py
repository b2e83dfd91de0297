"""`change_polygons`: what `detect_change` found, as a GeoDataFrame with the fields of ``change.gpkg``."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS

from terradelta.arrays.inputs import need_xarray
from terradelta.errors import InputError, MissingExtraError
from terradelta.geo.grid import Grid, Tile
from terradelta.mapping.plan import MapOptions
from terradelta.products.gpkg import polygon_columns
from terradelta.products.polygons import ChangePolygon, PolygonStream

if TYPE_CHECKING:
    import geopandas
    import xarray

__all__ = ["change_polygons"]

_TILE = 1024


def change_polygons(
    ds: "xarray.Dataset", min_area_m2: float | None = None, *, simplify_m: float = 0.0
) -> "geopandas.GeoDataFrame":
    """The changed areas of a result of `detect_change`, one polygon each: pixels that share edges belong together.

    Areas and perimeters are measured on the ellipsoid of the CRS, before simplification. Without a CRS they are in
    pixels (``area_px``, ``perimeter_px``), and row r lies at y = -r, as in the products of `map`. A lazy result is
    computed in strips; load it first (``ds.load()``) if it fits into memory and is used again.

    Args:
        ds: with ``probability`` and ``change``.
        min_area_m2: smaller polygons are left out; pixels without a CRS. None: those of fewer than 4 pixels or, on the
            ground, of less than 10 m², as `map` does.
        simplify_m: tolerance for simpler outlines, metres (pixels without a CRS); 0: outlines follow the pixels.

    Returns:
        Polygons from the top to the bottom, in the CRS of ``ds``, with the fields ``id`` (from 1), ``area_m2``,
        ``perimeter_m``, ``mean_probability``, ``max_probability`` and ``pixels``.

    Raises:
        InputError: if ``ds`` is no such result, or a size is negative.
        GridError: if areas cannot be measured in its CRS.
        MissingExtraError: without the extra ``[xarray]``.

    Example:
        >>> import terradelta as td
        >>> ds = td.detect_change("before.tif", "after.tif", method="cva")
        >>> gdf = td.change_polygons(ds, min_area_m2=20)
        >>> list(gdf.columns)[:3], bool((gdf.area_m2 >= 20).all())
        (['id', 'area_m2', 'perimeter_m'], True)
    """
    need_xarray()
    try:
        import geopandas
    except ModuleNotFoundError as error:
        raise MissingExtraError("a GeoDataFrame", "xarray") from error

    grid = _grid(ds)
    least_area, least_px = MapOptions(min_area_m2=min_area_m2).smallest(grid)
    stream = PolygonStream(grid, min_area_m2=least_area, min_px=least_px, simplify_m=simplify_m)
    found: list[ChangePolygon] = []
    for tile, change, probability in _tiles(ds, grid):
        found += stream.push(tile, change == 1, probability)
    found.sort(key=lambda polygon: polygon.first)
    columns = polygon_columns(found, 0, "px" if grid.crs is None else "m")
    shapes = np.array([polygon.geometry for polygon in found], object)
    return geopandas.GeoDataFrame(columns, geometry=shapes, crs=None if grid.crs is None else grid.crs.to_wkt())


def _grid(ds: "xarray.Dataset") -> Grid:
    names = {"probability", "change"}
    if not (hasattr(ds, "data_vars") and names <= set(ds.data_vars) and ds["change"].ndim == 2):
        raise InputError("change_polygons takes what detect_change gives: a dataset with probability and change (y, x)")
    height, width = ds["change"].shape
    crs, place = ds.rio.crs, ds.rio.transform(recalc=True)
    if crs is None:
        return Grid(None, Affine.identity(), (height, width)).on_map
    return Grid(CRS.from_user_input(crs), Affine(*place[:6]), (height, width))


def _tiles(ds: "xarray.Dataset", grid: Grid) -> Iterator[tuple[Tile, NDArray[np.uint8], NDArray[np.float32]]]:
    """Tiles row by row with change and probability; of a lazy result, a strip is computed at once."""
    for row in range(0, grid.height, _TILE):
        strip = ds[["change", "probability"]].isel({ds["change"].dims[0]: slice(row, row + _TILE)}).compute()
        change, probability = (strip[name].values for name in ("change", "probability"))
        for col in range(0, grid.width, _TILE):
            part = np.s_[:, col : col + _TILE]
            tile = Tile(row, col, len(change), min(_TILE, grid.width - col))
            yield tile, change[part], probability[part]
