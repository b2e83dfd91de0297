"""Areas of a change map's classes on the ellipsoid, over the whole map and in regions, tile by tile."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

from terradelta.errors import InputError
from terradelta.geo.grid import Grid, Tile
from terradelta.products.change import CLASSES, NO_DATA, ChangeRaster
from terradelta.products.polygons import ellipsoid_areas
from terradelta.raster.access import sealed_vectors, vector_name
from terradelta.raster.overlap import Area, AreaOfInterest, area_of_interest

__all__ = ["PixelAreas", "Region", "ZonalAreas", "read_layer", "read_regions", "zonal_areas"]


_LATTICE_PX, _MOST_POINTS = 256, 512
_PATCH_M = 2000.0
"""Side of the squares whose area is measured: large enough that the geodesic's rounding does not matter."""


class PixelAreas:
    """Areas of a grid's pixels: m² on the ellipsoid, or 1 for a grid without a CRS.

    The area of a pixel changes smoothly over a grid. It is measured at points some 256 pixels apart (at most 512
    along a side), on squares of about 2 km around them, and a cubic spline goes through these.

    Raises:
        GridError: if the CRS has no ellipsoid.
    """

    def __init__(self, grid: Grid) -> None:
        from scipy.interpolate import RectBivariateSpline, RegularGridInterpolator  # slow to import

        self.unit: Literal["m", "px"] = "px" if grid.crs is None else "m"
        self._grid = grid
        counts = [min(max(4, math.ceil(side / _LATTICE_PX) + 1), _MOST_POINTS) for side in grid.shape]
        self._axes = [np.linspace(0, side, count) for side, count in zip(grid.shape, counts, strict=True)]
        values = np.ones(counts) if grid.crs is None else self._measure().reshape(counts)
        # Where PROJ knows no place at some points, the others still serve.
        known = np.isfinite(values)
        self._known = known.all()
        if self._known:
            self._between = RectBivariateSpline(*self._axes, values)
        else:
            self._between = RegularGridInterpolator(self._axes, np.where(known, values, np.nan))

    def on(self, tile: Tile) -> NDArray[np.float64]:
        """Areas of a tile's pixels ``(h, w)``; NaN where PROJ knows no place."""
        rows = np.arange(tile.row, tile.stop_row) + 0.5
        cols = np.arange(tile.col, tile.stop_col) + 0.5
        if self._grid.crs is None:
            return np.ones((tile.height, tile.width))
        return np.asarray(self._between(rows, cols) if self._known else self._between((rows[:, None], cols[None, :])))

    def _measure(self) -> NDArray[np.float64]:
        rows, cols = (axis.ravel() for axis in np.meshgrid(*self._axes, indexing="ij"))
        unit = 111_000.0 if self._grid.crs is not None and self._grid.crs.is_geographic else 1.0
        side = max(self._grid.pixel_size) * unit
        # Not beyond a third of the grid: the next lattice point may have no place.
        reach = max(0.5, min(_PATCH_M / side, max(self._grid.shape) / 3) / 2)
        boxes = shapely.box(cols - reach, rows - reach, cols + reach, rows + reach)
        a, b, c, d, e, f, *_ = self._grid.transform
        shapes = shapely.transform(boxes, lambda points: points @ [[a, d], [b, e]] + (c, f))
        return ellipsoid_areas(self._grid, shapes) / (2 * reach) ** 2


@dataclass(frozen=True)
class Region:
    """A named area on a grid."""

    name: str
    area: AreaOfInterest


@dataclass
class ZonalAreas:
    """Mapped pixels and areas of one region, by class."""

    name: str
    unit: Literal["m", "px"]
    pixels: NDArray[np.int64]
    """``(2,)``: unchanged, changed."""
    areas: NDArray[np.float64]
    """``(2,)``: m² or pixels."""
    no_data_px: int = 0


def zonal_areas(change: ChangeRaster, regions: Sequence[Region] = ()) -> list[ZonalAreas]:
    """Areas by class: of the whole map first, then of each region. A pixel is inside if its centre is.

    Raises:
        RasterError: if the file cannot be read.
        GridError: if the CRS has no ellipsoid.
    """
    areas = PixelAreas(change.grid)
    names = ("whole map", *(region.name for region in regions))
    found = [ZonalAreas(name, areas.unit, np.zeros(2, np.int64), np.zeros(2)) for name in names]
    index = shapely.STRtree([region.area.area for region in regions])
    for tile in change.tiles():
        values, weights = change.read(tile), areas.on(tile)
        _add(found[0], values.ravel(), weights.ravel())
        box = shapely.box(tile.col, tile.row, tile.stop_col, tile.stop_row)
        for number in sorted(index.query(box, predicate="intersects").tolist()):
            inside = regions[number].area.inside(tile)
            _add(found[1 + number], values[inside], weights[inside])
    return found


def read_regions(path: Path, grid: Grid) -> list[Region]:
    """Polygons of a vector file, on a grid; named by a field ``name``, else by the first text field, else by number.

    Args:
        path: GeoPackage, GeoJSON, Shapefile, ...; in any CRS (that of the grid if the file names none).
        grid: the grid to put them on.

    Raises:
        InputError: if the file cannot be read or holds no polygon.
        GridError: if the polygons have no place on the grid.
    """
    meta, shapes, fields = read_layer(path, "polygons", "a GeoPackage, GeoJSON or Shapefile")
    if shapes is None:  # a table
        raise InputError(f"{path} holds no polygon; give a layer of polygons")
    geometries = shapely.from_wkb(shapes)
    names = _names(list(meta["fields"]), fields, len(geometries))
    regions = [
        Region(name, _placed(geometry, meta["crs"], grid))
        for name, geometry in zip(names, geometries, strict=True)
        if geometry is not None and geometry.geom_type in ("Polygon", "MultiPolygon") and not geometry.is_empty
    ]
    if not regions:
        raise InputError(f"{path} holds no polygon; give a layer of polygons")
    return regions


def read_layer(path: Path, kind: str, allowed: str) -> tuple[dict[str, Any], NDArray[Any] | None, list[NDArray[Any]]]:
    """The first layer of a vector file: what pyogrio says of it, WKB or None, and its fields.

    Raises:
        InputError: if it cannot be read; it says what ``kind`` of shapes was wanted and which files are ``allowed``.
    """
    import pyogrio.raw  # slow to import
    from pyogrio.errors import DataLayerError, DataSourceError

    try:
        with sealed_vectors(), vector_name(path) as name:
            meta, _, shapes, fields = pyogrio.raw.read(name)
    except (DataSourceError, DataLayerError, OSError) as error:
        raise InputError(f"{path} cannot be read as {kind} ({error}); give {allowed}") from error
    return meta, shapes, fields


def _names(columns: list[str], fields: Sequence[NDArray[Any]], count: int) -> list[str]:
    texts = [i for i, values in enumerate(fields) if values.dtype.kind == "O"]
    named = [i for i, column in enumerate(columns) if column.lower() == "name"] or texts
    if not named:
        return [f"region {number}" for number in range(1, count + 1)]
    return [str(value) if value is not None else f"region {i}" for i, value in enumerate(fields[named[0]], 1)]


def _placed(geometry: Any, crs: str | None, grid: Grid) -> AreaOfInterest:  # noqa: ANN401  a shapely geometry
    """A polygon in pixels of the grid."""
    geometry = geometry if geometry.is_valid else shapely.make_valid(geometry)
    if grid.crs is not None:
        return area_of_interest(Area(geometry, crs or grid.crs.to_wkt()), grid)
    if crs is not None and not pyproj.CRS.from_user_input(crs).is_engineering:
        raise InputError("the regions have a CRS, but the map has none; give regions in pixels, without a CRS")
    return AreaOfInterest(geometry, grid)


def _add(found: ZonalAreas, values: NDArray[np.uint8], weights: NDArray[np.float64]) -> None:
    for number in range(len(CLASSES)):
        chosen = values == number
        found.pixels[number] += int(chosen.sum())
        found.areas[number] += float(weights[chosen].sum())
    found.no_data_px += int((values == NO_DATA).sum())
