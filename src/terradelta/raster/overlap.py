"""Where two images and an area of interest meet on one grid.

Shapely geometries here hold pixel positions (col, row) on the grid that the function names, not coordinates.
"""

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import shapely
import shapely.affinity
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.features import geometry_mask
from shapely.geometry.base import BaseGeometry

from terradelta.errors import GridError
from terradelta.geo.grid import Grid, Tile

__all__ = ["Aoi", "Area", "AreaOfInterest", "aoi_record", "area_of_interest", "footprint", "pixel_ratio", "tile_within"]


@dataclass(frozen=True)
class Area:
    """A shapely polygon or multipolygon in a CRS; (x, y) = (east, north), or (longitude, latitude) in degrees."""

    shape: BaseGeometry
    crs: CRS | str = "EPSG:4326"


Aoi: TypeAlias = tuple[float, float, float, float] | BaseGeometry | Area
"""A box (west, south, east, north) or a shapely polygon in degrees (EPSG:4326), or an `Area` in any CRS."""

_SEGMENTS = 64  # vertices along a side: a curved side is followed to well below a pixel for scenes of 100 km
_SLACK_PX = 1e-3
_HALF_TURN = 180.0


def footprint(of: Grid, on: Grid) -> BaseGeometry:
    """The part of grid ``on`` that grid ``of`` covers.

    Args:
        of: the grid whose extent is wanted.
        on: the grid to express it on.

    Returns:
        A polygon, empty where the two do not meet.

    Raises:
        GridError: if neither extent can be expressed in the other's CRS.
    """
    if of.crs == on.crs:
        return _moved(_outline(of), of, on).intersection(_outline(on))
    # A large extent may have no finite outline in the other CRS (the poles in a UTM zone), so the smaller one moves.
    if _lonlat_area(of) <= _lonlat_area(on):
        return _moved(_dense(_outline(of)), of, on).intersection(_outline(on))
    covered = _moved(_dense(_outline(on)), on, of).intersection(_outline(of))
    return covered if covered.is_empty else _moved(_dense(covered), of, on).intersection(_outline(on))


def tile_within(area: BaseGeometry, grid: Grid) -> Tile | None:
    """The whole pixels inside the bounding box of an area; None where there is not one.

    Args:
        area: polygon in pixels of ``grid``.
        grid: the grid that limits the tile.
    """
    if area.is_empty:
        return None
    left, top, right, bottom = area.bounds
    row, col = max(0, math.ceil(top - _SLACK_PX)), max(0, math.ceil(left - _SLACK_PX))
    stop_row = min(grid.height, math.floor(bottom + _SLACK_PX))
    stop_col = min(grid.width, math.floor(right + _SLACK_PX))
    if stop_row <= row or stop_col <= col:
        return None
    return Tile(row, col, stop_row - row, stop_col - col)


def pixel_ratio(grid: Grid, other: Grid) -> tuple[float, float]:
    """How many rows and columns of ``other`` one step of a pixel of ``grid`` crosses, at the centre of ``grid``.

    Steps along both axes of ``grid`` count together, so a rotation alone gives (1, 1).
    """
    row, col = grid.height / 2, grid.width / 2
    rows, cols = grid.map_to(other, [row, row + 1, row], [col, col, col + 1])
    return math.hypot(*(rows[1:] - rows[0])), math.hypot(*(cols[1:] - cols[0]))


@dataclass(frozen=True)
class AreaOfInterest:
    """An area on a grid; pixels count as inside when their centre is."""

    area: BaseGeometry
    """Polygon in pixels (col, row) of ``grid``."""
    grid: Grid

    def crop(self, tile: Tile) -> Tile | None:
        """The part of a tile that the area's bounding box touches; None where they do not meet."""
        if self.area.is_empty:
            return None
        left, top, right, bottom = self.area.bounds
        row, col = max(tile.row, math.floor(top)), max(tile.col, math.floor(left))
        stop_row, stop_col = min(tile.stop_row, math.ceil(bottom)), min(tile.stop_col, math.ceil(right))
        if stop_row <= row or stop_col <= col:
            return None
        return Tile(row, col, stop_row - row, stop_col - col)

    def within(self, tile: Tile) -> "AreaOfInterest":
        """The same area on the grid of a tile."""
        moved = shapely.transform(self.area, lambda points: points - [tile.col, tile.row])
        return AreaOfInterest(moved, self.grid.crop(tile))

    def inside(self, tile: Tile, shape: tuple[int, int] | None = None) -> NDArray[np.bool_]:
        """Which pixels of a tile lie inside.

        Args:
            tile: window of the grid.
            shape: (height, width) to sample the tile at; its own by default.

        Returns:
            ``(h, w)`` boolean.
        """
        height, width = shape or (tile.height, tile.width)
        to_pixels = Affine.translation(tile.col, tile.row) @ Affine.scale(tile.width / width, tile.height / height)
        inside: NDArray[np.bool_] = geometry_mask([self.area], (height, width), to_pixels, invert=True)
        return inside


def aoi_record(aoi: Aoi | None) -> Any:  # noqa: ANN401  any JSON value
    """An area of interest as a JSON-ready value: a list of four degrees, or WKT with the CRS in front."""
    if aoi is None or isinstance(aoi, tuple):
        return aoi and list(aoi)
    area = aoi if isinstance(aoi, Area) else Area(aoi)
    crs = area.crs if isinstance(area.crs, str) else area.crs.to_string()
    return area.shape.wkt if crs == "EPSG:4326" else f"{crs};{area.shape.wkt}"


def area_of_interest(aoi: Aoi, grid: Grid) -> AreaOfInterest:
    """Express an area of interest on a grid.

    Args:
        aoi: box or polygon in degrees, or an `Area`.
        grid: the grid to express it on.

    Raises:
        GridError: if the area is empty or malformed, its CRS is unknown, or the grid has no CRS.
    """
    if grid.crs is None:
        raise GridError("an area of interest needs images with a CRS; these have none: crop them beforehand instead")
    crs = aoi.crs if isinstance(aoi, Area) else "EPSG:4326"
    geometry = _as_geometry(aoi.shape if isinstance(aoi, Area) else aoi)
    try:
        plane = Grid(CRS.from_user_input(crs), Affine.identity(), (1, 1))
    except CRSError as error:
        raise GridError(f"the area of interest's CRS {crs!r} is unknown ({error}); give e.g. 'EPSG:4326'") from error
    if plane.crs is not None and plane.crs.is_geographic and grid.crs.is_geographic and grid.bounds[2] > _HALF_TURN:
        # The grid counts longitudes from 0 to 360, people from -180 to 180.
        geometry = geometry.union(shapely.affinity.translate(geometry, 2 * _HALF_TURN))
    nearby = _near(geometry, _moved(_dense(_outline(grid)), grid, plane))
    return AreaOfInterest(nearby if nearby.is_empty else _moved(_dense(nearby), plane, grid), grid)


def _near(geometry: BaseGeometry, extent: BaseGeometry) -> BaseGeometry:
    """The part of a geometry around an extent: what is far away may have no place in the extent's CRS."""
    left, bottom, right, top = extent.bounds
    margin = 0.1 * max(right - left, top - bottom)
    return geometry.intersection(shapely.box(left - margin, bottom - margin, right + margin, top + margin))


def _as_geometry(aoi: tuple[float, float, float, float] | BaseGeometry) -> BaseGeometry:
    if not isinstance(aoi, BaseGeometry):
        if len(aoi) != 4 or not all(map(math.isfinite, aoi)) or not aoi[0] < aoi[2] or not aoi[1] < aoi[3]:
            raise GridError(
                f"the area of interest {aoi!r} is no box; give (west, south, east, north), west < east, south < north"
            )
        return shapely.box(*aoi)
    if not aoi.is_valid or aoi.area == 0:
        raise GridError(
            f"the area of interest is {'an empty' if aoi.is_empty else 'an unusable'} {aoi.geom_type}; "
            "give a valid polygon or multipolygon (shapely.make_valid may repair it)"
        )
    return aoi


def _outline(grid: Grid) -> BaseGeometry:
    return shapely.box(0, 0, grid.width, grid.height)


def _dense(area: BaseGeometry) -> BaseGeometry:
    """The same area with vertices close enough together to follow its curved image in another CRS."""
    left, top, right, bottom = area.bounds
    return shapely.segmentize(area, max(right - left, bottom - top) / _SEGMENTS)


def _moved(area: BaseGeometry, of: Grid, on: Grid) -> BaseGeometry:
    """An area in pixels of one grid, in pixels of another."""

    def move(points: NDArray[np.float64]) -> NDArray[np.float64]:
        rows, cols = of.map_to(on, points[:, 1], points[:, 0])
        return np.column_stack([cols, rows])

    moved = shapely.transform(area, move)
    return moved if moved.is_valid else shapely.make_valid(moved)


def _lonlat_area(grid: Grid) -> float:
    """Square degrees that a grid's extent covers; infinite where it has no finite longitude and latitude."""
    try:
        west, south, east, north = grid.lonlat_bounds()
    except GridError:
        return math.inf
    return ((east - west) % 360 or 360) * (north - south)
