"""Turn a mask that arrives strip by strip into polygons with measures.

Connected components are traced in pixel coordinates, where all arithmetic is exact. A component that touches the
lower edge of a strip stays open; its pieces are joined once, when no further strip can add to it. Areas and lengths
are those on the ellipsoid of the CRS.
"""

import itertools
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyproj
import rasterio.features
import shapely
from affine import Affine
from numpy.typing import NDArray
from scipy import ndimage, sparse

from terradelta.errors import GridError, InputError, ShapeError
from terradelta.geo.grid import Grid

__all__ = ["ChangePolygon", "PolygonStream", "ellipsoid_areas"]

_LONGEST_EDGE_M = 1000.0
"""Longer edges get vertices in between before they are measured: a straight line of a projection is no geodesic."""

Polygons = NDArray[np.object_]


@dataclass(frozen=True, slots=True)
class ChangePolygon:
    """One connected area of change."""

    geometry: shapely.Polygon
    """Outline with its holes, in the CRS of the grid."""
    area: float
    """Area before simplification: m² on the ellipsoid, or pixels where the grid has no CRS."""
    perimeter: float
    """Length of the outline and its holes before simplification: metres on the ellipsoid, or pixels."""
    mean_probability: float
    """Mean over its pixels."""
    max_probability: float
    """Largest of its pixels."""
    pixels: int
    """Number of pixels."""
    unit: Literal["m", "px"] = "m"
    """Unit of ``perimeter``; ``area`` is in its square."""


class PolygonStream:
    """Vectorise a mask that is pushed in strips from top to bottom.

    Pixels that share an edge belong together; pixels that only touch at a corner do not. Memory is that of a strip
    and of the components that have not ended yet.

    ``dropped`` and ``dropped_area`` count the polygons below the smallest area, and their area.

    Areas that PROJ cannot place on the ellipsoid (pixels beyond the projection's domain) are NaN; such polygons are
    kept whatever the smallest area, and ``dropped_area`` is NaN if one has too few pixels.

    Args:
        grid: place and size of the whole mask.
        min_area_m2: polygons with a smaller area are dropped; square pixels where the grid has no CRS.
        min_px: polygons of fewer pixels are dropped, too.
        simplify_m: tolerance of the simplification, in metres on the ground in any CRS, or in pixels where the grid has
            none. Outlines move by about this much. 0 keeps the outlines of the pixels.

    Raises:
        GridError: if the CRS has no ellipsoid (a local or engineering CRS), or is geocentric.
        InputError: if a size is negative or no number.
    """

    def __init__(self, grid: Grid, *, min_area_m2: float = 0.0, min_px: int = 0, simplify_m: float = 0.0) -> None:
        for name, value in (("min_area_m2", min_area_m2), ("simplify_m", simplify_m)):
            if not 0 <= value < np.inf:
                raise InputError(f"{name} is {value}; it must be 0 or more")
        self._grid = grid
        self._ground = _Pixels() if grid.crs is None else _Ellipsoid(grid)
        self._min_area, self._min_px = min_area_m2, min_px
        self._tolerance = simplify_m
        self.dropped = 0
        self.dropped_area = 0.0
        self._rows = 0
        self._open: list[_Component] = []
        # For each pixel of the last row: the index of its component in _open, or -1.
        self._bottom = np.full(grid.width, -1)

    def push(self, first_row: int, mask: NDArray[np.bool_], probability: NDArray[np.float32]) -> list[ChangePolygon]:
        """Take the next rows.

        Args:
            first_row: row of the grid at which the strip begins: the number of rows pushed so far.
            mask: ``(rows, width)``, true where something changed.
            probability: ``(rows, width)``, finite where the mask is true.

        Returns:
            The polygons that no further strip can add to.

        Raises:
            ShapeError: if the strip does not follow the last one, or its shape is wrong.
        """
        self._check_strip(first_row, mask, probability)
        self._rows += mask.shape[0]
        labels, count = ndimage.label(mask)
        nodes = [*self._open, *_components(labels, count, probability, first_row)]
        group = self._connect(labels[0], count)
        merged: dict[int, _Component] = {}
        for number, node in zip(group.tolist(), nodes, strict=True):
            merged[number] = merged[number].join(node) if number in merged else node
        bottom = np.where(labels[-1] > 0, group[labels[-1] + len(self._open) - 1], -1) if nodes else self._bottom
        still_open = np.unique(bottom[bottom >= 0])
        self._open = [merged.pop(number) for number in still_open.tolist()]
        self._bottom = np.where(bottom >= 0, np.searchsorted(still_open, bottom), -1)
        return self._finished(list(merged.values()))

    def finish(self) -> list[ChangePolygon]:
        """End the mask and return the remaining polygons."""
        components, self._open = self._open, []
        self._bottom = np.full(self._grid.width, -1)
        return self._finished(components)

    def _connect(self, top: NDArray[np.int32], count: int) -> NDArray[np.int32]:
        """Group numbers of the open components, followed by those of the strip's own ``count``."""
        opened = len(self._open)
        touching = (self._bottom >= 0) & (top > 0)
        above, below = self._bottom[touching], top[touching] + opened - 1
        size = opened + count
        graph = sparse.coo_array((np.ones(len(above), bool), (above, below)), (size, size))
        numbers: NDArray[np.int32] = sparse.csgraph.connected_components(graph, directed=False)[1]
        return numbers

    def _finished(self, components: list["_Component"]) -> list[ChangePolygon]:
        if not components:
            return []
        # Simplification depends on where a ring begins: let it begin at the same pixel however the strips are cut.
        outlines = shapely.normalize(np.array([component.outline() for component in components], object))
        a, b, c, d, e, f, *_ = self._grid.transform
        shapes = shapely.transform(outlines, lambda points: points @ [[a, d], [b, e]] + (c, f))
        areas, perimeters = self._ground.measure(shapes)
        # Written so that NaN stays.
        small = (areas < self._min_area) | (np.array([each.pixels for each in components]) < self._min_px)
        self.dropped += int(small.sum())
        self.dropped_area += float(areas[small].sum())
        keep = np.flatnonzero(~small)
        shapes = shapes[keep]
        if self._tolerance > 0:
            shapes = self._ground.simplify(shapes, self._tolerance)
        return [
            components[i].record(shape, float(areas[i]), float(perimeters[i]), self._ground.unit)
            for i, shape in zip(keep.tolist(), shapes, strict=True)
        ]

    def _check_strip(self, first_row: int, mask: NDArray[Any], probability: NDArray[Any]) -> None:
        height, width = self._grid.shape
        if first_row != self._rows:
            raise ShapeError(f"the strip begins at row {first_row}, but row {self._rows} is next; push top-down")
        rows = mask.shape[0] if mask.ndim == 2 else 0
        if not 0 < rows <= height - first_row or mask.shape[1] != width:
            raise ShapeError(
                f"the mask has shape {mask.shape}; expected 1 to {height - first_row} rows of {width} pixels"
            )
        if mask.shape != probability.shape:
            raise ShapeError(f"the mask has shape {mask.shape}, the probabilities {probability.shape}; they must agree")


def ellipsoid_areas(grid: Grid, shapes: Polygons) -> NDArray[np.float64]:
    """Areas in m² of polygons in the CRS of a grid, on its ellipsoid; NaN where PROJ knows no place.

    Raises:
        GridError: if the CRS has no ellipsoid.
    """
    return _Ellipsoid(grid).measure(shapes)[0]


@dataclass(slots=True)
class _Component:
    """What is known so far of one connected component; pieces are polygons of (col, row) pixel corners."""

    pieces: list[shapely.Polygon]
    pixels: int
    total: float
    peak: float

    def join(self, other: "_Component") -> "_Component":
        """The two as one. The longer list takes in the shorter one, so that no piece moves often."""
        big, small = (self, other) if len(self.pieces) >= len(other.pieces) else (other, self)
        big.pieces.extend(small.pieces)
        big.pixels += small.pixels
        big.total += small.total
        big.peak = max(big.peak, small.peak)
        return big

    def outline(self) -> shapely.Polygon:
        """All pieces joined, without vertices on straight edges."""
        if len(self.pieces) == 1:
            return self.pieces[0]
        return _without_straight_vertices(shapely.union_all(self.pieces))

    def record(self, shape: shapely.Polygon, area: float, perimeter: float, unit: Literal["m", "px"]) -> ChangePolygon:
        """The finished polygon."""
        return ChangePolygon(shape, area, perimeter, self.total / self.pixels, self.peak, self.pixels, unit)


def _components(
    labels: NDArray[np.int32], count: int, probability: NDArray[np.float32], first_row: int
) -> list[_Component]:
    """The components of one strip, in the order of their labels."""
    if not count:
        return []
    inside = labels > 0
    ids, values = labels[inside] - 1, probability[inside].astype(np.float64)
    pixels = np.bincount(ids, minlength=count)
    totals = np.bincount(ids, values, minlength=count)
    peaks = np.full(count, -np.inf)
    np.maximum.at(peaks, ids, values)
    rings: list[Any] = []
    owners: list[int] = []
    # One pixel beside: for the identity rasterio would have to silence a warning, which is not safe in threads.
    shift = Affine.translation(1, first_row)
    for shape, label in rasterio.features.shapes(labels, mask=inside, connectivity=4, transform=shift):
        rings += shape["coordinates"]
        owners += [int(label) - 1] * len(shape["coordinates"])
    pieces = _polygons(rings, np.array(owners), count)
    return [
        _Component([piece], number, total, peak)
        for piece, number, total, peak in zip(
            pieces.tolist(), pixels.tolist(), totals.tolist(), peaks.tolist(), strict=True
        )
    ]


def _polygons(rings: list[Any], owners: NDArray[np.intp], count: int) -> Polygons:
    """Polygon ``i`` of ``count`` from the rings of owner ``i``, its shell first; all at once, which is far quicker."""
    order = np.argsort(owners, kind="stable")
    rings = [rings[i] for i in order.tolist()]
    points = np.array(list(itertools.chain.from_iterable(rings))) - (1, 0)
    lines = shapely.linearrings(points, indices=np.repeat(np.arange(len(rings)), [len(ring) for ring in rings]))
    made: Polygons = shapely.polygons(lines, indices=owners[order])
    assert len(made) == count
    return made


def _without_straight_vertices(polygon: shapely.Polygon) -> shapely.Polygon:
    """Drop the vertices where an outline of horizontal and vertical edges does not turn."""
    rings = []
    for ring in (polygon.exterior, *polygon.interiors):
        points = shapely.get_coordinates(ring)[:-1]
        before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
        rings.append(points[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]])
    return shapely.Polygon(rings[0], rings[1:])


class _Pixels:
    """Measures in pixels, for images without a CRS; their transform is the identity."""

    unit: Literal["m", "px"] = "px"

    def measure(self, shapes: Polygons) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Areas and perimeters."""
        return shapely.area(shapes), shapely.length(shapes)

    def simplify(self, shapes: Polygons, tolerance: float) -> Polygons:
        """Outlines with fewer vertices."""
        return _simplified(shapes, tolerance)


class _Ellipsoid:
    """Measures on the ellipsoid of a CRS."""

    unit: Literal["m", "px"] = "m"

    def __init__(self, grid: Grid) -> None:
        assert grid.crs is not None
        crs = pyproj.CRS.from_wkt(grid.crs.to_wkt(version="WKT2_2019")).to_2d()
        geographic, geod = crs.geodetic_crs, crs.get_geod()
        if geographic is None or geod is None or crs.is_geocentric:
            raise GridError(
                f"the CRS {crs.name!r} has no {'plane' if crs.is_geocentric else 'ellipsoid'}, so areas are unknown; "
                "assign a geographic or projected CRS to the images, or none"
            )
        self._geod = geod
        self._to_geographic = pyproj.Transformer.from_crs(crs, geographic, always_xy=True)
        self._degrees = np.degrees(geographic.axis_info[0].unit_conversion_factor)
        unit = crs.axis_info[0].unit_conversion_factor
        self._unit_m = unit * geod.a if crs.is_geographic else unit

    def measure(self, shapes: Polygons) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Areas in m² and perimeters in metres."""
        longest = _LONGEST_EDGE_M / self._unit_m
        west, south, east, north = shapely.bounds(shapes).T
        if np.any(np.hypot(east - west, north - south) > longest):  # else no edge is longer
            shapes = shapely.segmentize(shapes, longest)
        rings, owner = shapely.get_rings(shapes, return_index=True)
        longitude, latitude = self._lonlat(shapely.get_coordinates(rings))
        ends = np.cumsum(shapely.get_num_coordinates(rings))
        areas, perimeters = np.zeros(len(shapes)), np.zeros(len(shapes))
        for ring, (start, stop) in enumerate(itertools.pairwise((0, *ends.tolist()))):
            area, perimeter = self._measure_ring(longitude[start:stop], latitude[start:stop])
            outer = ring == 0 or owner[ring] != owner[ring - 1]
            areas[owner[ring]] += area if outer else -area
            perimeters[owner[ring]] += perimeter
        return areas, perimeters

    def simplify(self, shapes: Polygons, tolerance: float) -> Polygons:
        """Outlines with fewer vertices, simplified in metres east and north of each polygon's centre."""
        to_metres = self._metres_per_unit(shapely.get_coordinates(shapely.centroid(shapes)))
        # Where PROJ knows no place, or at a pole, the outline stays as it is.
        usable = np.linalg.matrix_rank(np.nan_to_num(to_metres, posinf=0, neginf=0)) == 2
        local = _transform_each(shapes[usable], to_metres[usable])
        result = shapes.copy()
        result[usable] = _transform_each(_simplified(local, tolerance), np.linalg.inv(to_metres[usable]))
        return result

    def _lonlat(self, points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(x, y), ``(N, 2)``, to longitudes and latitudes in degrees; infinite where PROJ knows no place."""
        longitude, latitude = self._to_geographic.transform(points[:, 0], points[:, 1])
        return longitude * self._degrees, latitude * self._degrees

    def _measure_ring(self, longitude: NDArray[np.float64], latitude: NDArray[np.float64]) -> tuple[float, float]:
        if not (np.isfinite(longitude).all() and np.isfinite(latitude).all()):
            return np.nan, np.nan
        area, perimeter = self._geod.polygon_area_perimeter(longitude, latitude)
        return abs(area), perimeter

    def _metres_per_unit(self, centres: NDArray[np.float64]) -> NDArray[np.float64]:
        """Matrices ``(N, 2, 2)`` that take small steps in (x, y) to metres (east, north)."""
        step = 1.0 / self._unit_m
        origin = self._lonlat(centres)
        columns = []
        for offset in ((step, 0.0), (0.0, step)):
            azimuth, _, metres = self._geod.inv(*origin, *self._lonlat(centres + offset))
            radians = np.radians(azimuth)
            columns.append(np.stack([np.sin(radians), np.cos(radians)], axis=-1) * np.asarray(metres)[:, None] / step)
        return np.stack(columns, axis=-1)


def _transform_each(shapes: Polygons, matrices: NDArray[np.float64]) -> Polygons:
    """Apply to each polygon its own matrix, ``(N, 2, 2)``."""
    points, owner = shapely.get_coordinates(shapes, return_index=True)
    return np.asarray(shapely.set_coordinates(shapes.copy(), np.einsum("nij,nj->ni", matrices[owner], points)))


def _simplified(shapes: Polygons, tolerance: float) -> Polygons:
    """With fewer vertices; a polygon that would not stay a valid one is left alone."""
    result = shapely.simplify(shapes, tolerance, preserve_topology=True)
    sound = shapely.is_valid(result) & (shapely.area(result) > 0)
    return np.asarray(np.where(sound, result, shapes))
