"""`change_polygons`: what `detect_change` found, as a GeoDataFrame with the fields of ``change.gpkg``."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Unpack

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS

from terradelta.arrays.detect import DetectOptions, checked_options, opened_pair
from terradelta.arrays.inputs import Image, need_xarray
from terradelta.errors import InputError, needs
from terradelta.geo.grid import Grid, Tile
from terradelta.mapping.evidence import Evidence
from terradelta.mapping.plan import MapOptions
from terradelta.products.gpkg import polygon_columns
from terradelta.products.polygons import ChangePolygon, PolygonStream
from terradelta.registration.align import align

if TYPE_CHECKING:
    import geopandas
    import xarray

__all__ = ["change_polygons"]

_TILE = 1024


def change_polygons(
    ds: "xarray.Dataset",
    min_area_m2: float | None = None,
    *,
    simplify_m: float = 0.0,
    before: Image | None = None,
    after: Image | None = None,
    **options: Unpack[DetectOptions],
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
        before: the first date that ``ds`` was made from, for the fields that say what both images show.
        after: the second date.
        **options: those that `detect_change` got with them, such as ``bands`` or ``aoi``.

    Returns:
        Polygons from the top to the bottom, in the CRS of ``ds``, with the fields ``id`` (from 1), ``area_m2``,
        ``perimeter_m``, ``mean_probability``, ``max_probability`` and ``pixels``. With both dates, also all other
        fields of ``change.gpkg``: the means of the bands on both dates, NDVI, the strength of the outline as an edge,
        and whether the shift between the dates, which is measured then, could explain the polygon.

    Raises:
        InputError: if ``ds`` is no such result, a size is negative, or the dates are not those of ``ds``.
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
    with needs("xarray", "a GeoDataFrame"):
        import geopandas

    grid = _grid(ds)
    least_area, least_px = MapOptions(min_area_m2=min_area_m2).smallest(grid)
    stream = PolygonStream(grid, min_area_m2=least_area, min_px=least_px, simplify_m=simplify_m)
    with _evidence(ds, grid, (before, after), checked_options("change_polygons", options)) as evidence:
        found: list[ChangePolygon] = []
        for tile, change, probability in _tiles(ds, grid):
            mask = change == 1
            values = evidence.values(tile, mask) if evidence is not None and mask.any() else []
            found += stream.push(tile, mask, probability, values)
    found.sort(key=lambda polygon: polygon.first)
    columns = polygon_columns(found, 0, "px" if grid.crs is None else "m")
    if evidence is not None:
        rows = [evidence.of(polygon) for polygon in found]
        for i, (name, kind) in enumerate(evidence.fields.items()):
            columns[name] = np.array([row[i] for row in rows], np.float64 if kind is float else object)
    shapes = np.array([polygon.geometry for polygon in found], object)
    known = None if grid.crs is None else grid.crs.to_authority()  # EPSG:32614 rather than a page of WKT
    crs = ":".join(known) if known else None if grid.crs is None else grid.crs.to_wkt()
    return geopandas.GeoDataFrame(columns, geometry=shapes, crs=crs)


@contextlib.contextmanager
def _evidence(
    ds: "xarray.Dataset", grid: Grid, dates: tuple[Image | None, Image | None], options: MapOptions
) -> Iterator[Evidence | None]:
    """What both images show, while they are open; None without images."""
    if dates[0] is None or dates[1] is None:
        if dates[0] is not None or dates[1] is not None or options != MapOptions():
            raise InputError("change_polygons needs both before and after, or neither and no options of theirs")
        yield None
        return
    with opened_pair(dates[0], dates[1], tuple(ds.attrs.get("bands", ())) or None, options) as pair:
        if pair.grid.shape != grid.shape or pair.grid.on_map.offset_in(grid) != (0, 0):
            raise InputError(
                "before and after do not lie on the grid of ds; give those, and the aoi, that it was made from"
            )
        if list(pair.bands) != list(ds.attrs.get("bands", pair.bands)):
            raise InputError(
                f"ds was made from the bands {', '.join(ds.attrs['bands'])}, but these are {', '.join(pair.bands)}; "
                "give the same bands"
            )
        yield Evidence(pair, align(pair, options.coregister).mapped, pair.read, grid)


def _grid(ds: "xarray.Dataset") -> Grid:
    names = {"probability", "change"}
    if not (hasattr(ds, "data_vars") and names <= set(ds.data_vars) and ds["change"].ndim == 2):
        raise InputError("change_polygons takes what detect_change gives: a dataset with probability and change (y, x)")
    (y, x), (height, width) = ds["change"].dims, ds["change"].shape
    crs, place = ds.rio.crs, ds.rio.set_spatial_dims(x, y).rio.transform(recalc=True)
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
