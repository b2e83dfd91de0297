"""Turn a mask that arrives tile by tile into polygons with measures.

What is kept of a connected component is its corners, in pixel coordinates, where all arithmetic is exact. A component
that touches the right or lower edge of what has arrived stays open. When no further tile can add to it, its corners,
sorted along rows and along columns, are the ends of its edges, and these are chained to rings: time and memory are
linear in the corners, however tangled a component is. Areas and lengths are those on the ellipsoid of the CRS.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from scipy import ndimage, sparse

from terradelta.errors import GridError, InputError, ShapeError
from terradelta.geo.grid import Grid, Tile

__all__ = ["ChangePolygon", "PolygonStream", "check_measurable", "ellipsoid_areas"]

_LONGEST_EDGE_M = 1000.0
"""Longer edges get vertices in between before they are measured: a straight line of a projection is no geodesic."""
_RIGHT, _DOWN, _ALONG = 1, 2, 4
"""Of a corner: its edges lead right and down (else left and up); with the component on the right hand, one walks along
the row from here (else along the column)."""

SIZES = 64
"""Polygons are counted by their number of pixels, up to this."""

Polygons = NDArray[np.object_]
Integers = NDArray[np.intp]


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
    first: int = 0
    """Number of its first pixel, counted row by row from the grid's first."""
    last_row: int = 0
    """The lowest row that it has a pixel in."""
    sums: tuple[float, ...] = ()
    """Sums over its pixels of the values that the stream was given."""


class PolygonStream:
    """Vectorise a mask that is pushed in tiles, row by row, from left to right.

    Pixels that share an edge belong together; pixels that only touch at a corner do not. Memory is that of a tile, of
    a row of pixels, and of the components that have not ended yet.

    ``dropped`` and ``dropped_area`` count the polygons below the smallest area, and their area; ``sizes`` counts all
    polygons by their pixels, the last place those of as many or more.

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
        self.sizes = np.zeros(SIZES, np.int64)
        self.dropped = 0
        self.dropped_area = 0.0
        self._row = self._col = self._height = 0
        self._open = _Components.none()
        # The component, from 1, at each pixel above, left of and in the last row of the present row of tiles; 0: none.
        self._above, self._below = np.zeros((2, grid.width), np.int32)
        self._left = np.zeros(0, np.int32)

    def push(
        self,
        tile: Tile,
        mask: NDArray[np.bool_],
        probability: NDArray[np.float32],
        values: Iterable[NDArray[np.float64]] = (),
    ) -> list[ChangePolygon]:
        """Take the next tile.

        Args:
            tile: follows the last one to the right or, where that ended a row, begins the next row of tiles.
            mask: ``(h, w)``, true where something changed.
            probability: ``(h, w)``, finite where the mask is true.
            values: ``(N,)`` each, at the N pixels where the mask is true, row by row; their sums go into the polygons.
                Every tile with such pixels has as many.

        Returns:
            The polygons that no further tile can add to.

        Raises:
            ShapeError: if the tile does not follow the last one, or a shape is wrong.
        """
        self._check(tile, mask, probability)
        labels, count = ndimage.label(mask)
        opened = self._open
        nodes = np.where(labels > 0, labels + len(opened), 0)
        new = _Components.measured(tile, self._grid.width, labels[mask] - 1, (mask, probability[mask], values), count)
        framed = self._framed(tile, nodes)
        groups, group = self._connect(framed, len(opened) + count)
        corners = _corners(framed, tile)
        self._advance(tile, nodes)
        is_open = np.zeros(groups + 1, bool)
        for frontier in (self._above[max(self._col - 1, 0) :], self._below, self._left):
            is_open[group[frontier]] = True
        is_open[0] = False
        if tile.stop_row == self._grid.height and tile.stop_col == self._grid.width:
            is_open[:] = False
        return self._split(opened, new, corners, group, is_open)

    def _framed(self, tile: Tile, nodes: NDArray[np.int32]) -> NDArray[np.int32]:
        """The tile's components with those left of it and above, and nothing beyond the grid's edges."""
        height, width = self._grid.shape
        beyond = int(tile.stop_row == height), int(tile.stop_col == width)
        framed = np.zeros((tile.height + 1 + beyond[0], tile.width + 1 + beyond[1]), np.int32)
        framed[1 : tile.height + 1, 1 : tile.width + 1] = nodes
        framed[0, 1 : tile.width + 1] = self._above[tile.col : tile.stop_col]
        if tile.col:
            framed[0, 0] = self._above[tile.col - 1]
            framed[1 : tile.height + 1, 0] = self._left
        return framed

    def _connect(self, framed: NDArray[np.int32], count: int) -> tuple[int, NDArray[np.int32]]:
        """How many groups the components form that touch along the tile's edges; from each to its group, from 1."""
        pairs = np.concatenate(
            [np.stack([framed[0, 1:], framed[1, 1:]]), np.stack([framed[1:, 0], framed[1:, 1]])], axis=1
        )
        ends = pairs[:, (pairs > 0).all(axis=0)] - 1
        graph = sparse.coo_array((np.ones(ends.shape[1], bool), (ends[0], ends[1])), (count, count))
        groups, numbers = sparse.csgraph.connected_components(graph, directed=False)
        return groups, np.concatenate([[0], numbers + 1]).astype(np.int32)

    def _advance(self, tile: Tile, nodes: NDArray[np.int32]) -> None:
        self._below[tile.col : tile.stop_col] = nodes[-1]
        self._left = nodes[:, -1].copy()
        self._col, self._height = tile.stop_col, tile.height
        if tile.stop_col == self._grid.width:
            self._row, self._col = tile.stop_row, 0
            self._above, self._below = self._below, np.zeros_like(self._below)
            self._left = np.zeros(0, np.int32)

    def _split(
        self,
        opened: "_Components",
        new: "_Components",
        corners: tuple[Integers, NDArray[np.int32]],
        group: NDArray[np.int32],
        is_open: NDArray[np.bool_],
    ) -> list[ChangePolygon]:
        """Keep what is open still; make polygons of the rest."""
        owner = group[corners[0]]
        numbers = np.zeros(len(is_open), np.int32)  # among the open groups from 1, or among the ended ones from 0
        numbers[is_open] = np.arange(1, is_open.sum() + 1)
        numbers[~is_open] = np.arange(-1, (~is_open).sum() - 1)
        merged = opened.joined(new, group[1:] - 1, len(is_open) - 1)
        parts = [(numbers[owner[~is_open[owner]]], corners[1][~is_open[owner]])]
        kept: list[list[NDArray[np.int32]]] = [[] for _ in range(int(is_open.sum()))]
        for node, chunks in enumerate(opened.corners, 1):
            number = numbers[group[node]]
            if is_open[group[node]]:
                big, small = sorted((kept[number - 1], chunks), key=len, reverse=True)
                big.extend(small)
                kept[number - 1] = big
            else:
                parts += [(np.full(len(chunk), number, np.int32), chunk) for chunk in chunks]
        staying = is_open[owner]
        order = np.argsort(numbers[owner[staying]], kind="stable")
        sizes = np.bincount(numbers[owner[staying]], minlength=len(kept) + 1)[1:]
        ends, chosen = np.cumsum(sizes).tolist(), corners[1][staying][order]
        for chunks, (start, stop) in zip(kept, pairwise((0, *ends)), strict=True):
            if stop > start:
                chunks.append(chosen[start:stop].copy())
        self._open = merged.chosen(is_open[1:], kept)
        renumbered = np.where(is_open, numbers, 0)[group]
        self._above, self._below, self._left = (renumbered[each] for each in (self._above, self._below, self._left))
        owners, found = (np.concatenate(each) for each in zip(*parts, strict=True))
        return self._finished(merged.chosen(~is_open[1:], []), owners, found)

    def _finished(self, ended: "_Components", owner: Integers, corners: NDArray[np.int32]) -> list[ChangePolygon]:
        if not len(ended):
            return []
        # Simplification depends on where a ring begins: let it begin at the same pixel however the tiles are cut.
        outlines = shapely.normalize(_outlines(owner, corners, len(ended)))
        a, b, c, d, e, f, *_ = self._grid.transform
        shapes = shapely.transform(outlines, lambda points: points @ [[a, d], [b, e]] + (c, f))
        areas, perimeters = self._ground.measure(shapes)
        self.sizes += np.bincount(np.minimum(ended.pixels, SIZES - 1).astype(np.int64), minlength=SIZES)
        # Written so that NaN stays.
        small = (areas < self._min_area) | (ended.pixels < self._min_px)
        self.dropped += int(small.sum())
        self.dropped_area += float(areas[small].sum())
        keep = np.flatnonzero(~small)
        shapes = shapes[keep]
        if self._tolerance > 0:
            shapes = self._ground.simplify(shapes, self._tolerance)
        return [
            ended.record(i, shape, (float(areas[i]), float(perimeters[i])), self._ground.unit)
            for i, shape in zip(keep.tolist(), shapes, strict=True)
        ]

    def _check(self, tile: Tile, mask: NDArray[Any], probability: NDArray[Any]) -> None:
        height, width = self._grid.shape
        if (tile.row, tile.col) != (self._row, self._col) or (tile.col and tile.height != self._height):
            raise ShapeError(
                f"the tile begins at row {tile.row}, column {tile.col}, but row {self._row}, column {self._col} is "
                "next; push row by row, from left to right, tiles of one height in a row"
            )
        if min(tile.height, tile.width) < 1 or tile.stop_row > height or tile.stop_col > width:
            raise ShapeError(
                f"the tile has {tile.height} x {tile.width} pixels; expected 1 to {height - tile.row} rows and 1 to "
                f"{width - tile.col} columns"
            )
        if not mask.shape == probability.shape == (tile.height, tile.width):
            raise ShapeError(
                f"the tile has shape {(tile.height, tile.width)}, the mask {mask.shape}, the probabilities "
                f"{probability.shape}; they must agree"
            )


def check_measurable(grid: Grid) -> None:
    """Raise GridError if areas on a grid are not known: before the work, not after it."""
    if grid.crs is not None:
        _Ellipsoid(grid)


def ellipsoid_areas(grid: Grid, shapes: Polygons) -> NDArray[np.float64]:
    """Areas in m² of polygons in the CRS of a grid, on its ellipsoid; NaN where PROJ knows no place.

    Raises:
        GridError: if the CRS has no ellipsoid.
    """
    return _Ellipsoid(grid).measure(shapes)[0]


@dataclass(frozen=True)
class _Components:
    """What is known so far of some connected components; all arrays have one entry a component."""

    pixels: NDArray[Any]
    total: NDArray[Any]
    peak: NDArray[Any]
    first: NDArray[Any]
    last_row: NDArray[Any]
    sums: NDArray[Any]
    """``(components, values)``."""
    corners: list[list[NDArray[np.int32]]] = field(default_factory=list)
    """Of each component, ``(n, 3)`` arrays of column, row and flags."""

    @classmethod
    def none(cls) -> "_Components":
        none, whole = np.zeros(0), np.zeros(0, np.int64)
        return cls(none, none, none, whole, whole, np.zeros((0, 0)))

    @classmethod
    def measured(
        cls,
        tile: Tile,
        scene_width: int,
        ids: NDArray[np.int32],
        pixels: tuple[NDArray[np.bool_], NDArray[np.float32], Iterable[NDArray[np.float64]]],
        count: int,
    ) -> "_Components":
        """Those of a tile: ``ids``, from 0, are those of its masked pixels, as are probabilities and values."""
        mask, probability, values = pixels
        if not count:
            return cls.none()
        rows, cols = np.nonzero(mask)
        at, last_row, peak = np.zeros(count, np.intp), np.zeros(count, np.int64), np.full(count, -np.inf)
        at[ids[::-1]] = np.arange(len(ids))[::-1]  # of several values for one place the last stays
        first = (rows[at] + tile.row) * scene_width + cols[at] + tile.col
        last_row[ids] = rows + tile.row
        np.maximum.at(peak, ids, probability)
        sums = [np.bincount(ids, each, count) for each in values]
        return cls(
            np.bincount(ids, minlength=count).astype(np.float64),
            np.bincount(ids, probability.astype(np.float64), count),
            peak,
            first,
            last_row,
            np.stack(sums, axis=1) if sums else np.zeros((count, 0)),
        )

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def columns(self) -> tuple[NDArray[Any], ...]:
        """All but the corners."""
        return self.pixels, self.total, self.peak, self.first, self.last_row, self.sums

    def joined(self, new: "_Components", group: NDArray[np.int32], groups: int) -> "_Components":
        """These and new ones, by their groups; without corners."""
        parts = [each.columns for each in (self, new) if len(each)] or [self.columns]
        pixels, total, peak, first, last_row, sums = (np.concatenate(each) for each in zip(*parts, strict=True))
        highest, earliest, lowest = np.full(groups, -np.inf), np.full(groups, np.iinfo(np.int64).max), np.zeros(groups)
        np.maximum.at(highest, group, peak)
        np.minimum.at(earliest, group, first)
        np.maximum.at(lowest, group, last_row)
        added = np.zeros((groups, sums.shape[1]))
        np.add.at(added, group, sums)
        counts, totals = (np.bincount(group, each, groups) for each in (pixels, total))
        return _Components(counts, totals, highest, earliest, lowest.astype(np.int64), added)

    def chosen(self, which: NDArray[np.bool_], corners: list[list[NDArray[np.int32]]]) -> "_Components":
        """Some of them, with their corners."""
        pixels, total, peak, first, last_row, sums = (column[which] for column in self.columns)
        return _Components(pixels, total, peak, first, last_row, sums, corners)

    def record(
        self, i: int, shape: shapely.Polygon, measures: tuple[float, float], unit: Literal["m", "px"]
    ) -> ChangePolygon:
        """Number ``i`` as a finished polygon, with its area and perimeter."""
        return ChangePolygon(
            shape,
            *measures,
            float(self.total[i] / self.pixels[i]),
            float(self.peak[i]),
            int(self.pixels[i]),
            unit,
            int(self.first[i]),
            int(self.last_row[i]),
            tuple(self.sums[i].tolist()),
        )


def _corners(framed: NDArray[np.int32], tile: Tile) -> tuple[Integers, NDArray[np.int32]]:
    """The corners of components at the upper left ends of a framed tile's pixels: their components, and ``(n, 3)``.

    Between four pixels there is a corner if one or three of them are set, and two if it is two across from each other.
    """
    quads = (framed[:-1, :-1], framed[:-1, 1:], framed[1:, :-1], framed[1:, 1:])
    # Bits: pixels above left, above right, below left, below right.
    code = np.zeros(quads[0].shape, np.uint8)
    for bit, quad in enumerate(quads):
        code |= (quad > 0).view(np.uint8) << np.uint8(bit)
    halves = code ^ (code >> np.uint8(2))
    odd = (halves ^ (halves >> np.uint8(1))) & np.uint8(1)
    rows, cols = np.nonzero(odd.view(bool) | (code == 0b0110) | (code == 0b1001))
    codes = code[rows, cols]
    # Flags of the corner that a single pixel has there; three pixels have that of the missing one, walked backwards.
    flags = (_ALONG, _RIGHT, _DOWN, _RIGHT | _DOWN | _ALONG)
    owners, found = [], []
    for bit, (quad, flag) in enumerate(zip(quads, flags, strict=True)):
        across = (1 << bit) | (8 >> bit)
        for wanted, turned in ((1 << bit, flag), (15 ^ (1 << bit), flag ^ _ALONG), (across, flag)):
            here = codes == wanted
            row, col = rows[here], cols[here]
            owner = quad if wanted != 15 ^ (1 << bit) else quads[3 - bit]
            owners.append(owner[row, col])
            found.append(np.stack([col + tile.col, row + tile.row, np.full_like(row, turned)], 1).astype(np.int32))
    return np.concatenate(owners).astype(np.intp), np.concatenate(found)


def _outlines(owner: Integers, corners: NDArray[np.int32], count: int) -> Polygons:
    """Polygon ``i`` of ``count`` from the corners ``(n, 3)`` of owner ``i``."""
    col, row, flags = corners.astype(np.int64).T
    width, height = (int(each.max()) + 1 for each in (col, row))
    order = np.argsort(((owner * height + row) * width + col) * 2 + (flags & _RIGHT), kind="stable")
    owner, col, row, flags = owner[order], col[order], row[order], flags[order]
    n = len(order)
    # Where a component touches itself, the two corners exchange their edges along the column: rings that touch are
    # valid, one that touches itself is not.
    twice = np.flatnonzero((owner[1:] == owner[:-1]) & (row[1:] == row[:-1]) & (col[1:] == col[:-1]))
    down = (flags & _DOWN) // _DOWN
    down[twice] ^= 1
    down[twice + 1] ^= 1
    following = np.arange(n) ^ 1  # along the row, ends of edges stand side by side
    along = np.argsort(((owner * width + col) * height + row) * 2 + down, kind="stable")
    by_column = np.empty(n, np.intp)
    by_column[along] = along[np.arange(n) ^ 1]
    following = np.where(flags & _ALONG, following, by_column)
    ring, order = _chains(following)
    points = np.stack([col, row], axis=1)[order].astype(np.float64)
    lines = shapely.linearrings(points, indices=ring[order])
    # A component's first corner is on its shell, and rings are numbered by their first corners.
    starts = np.flatnonzero(np.diff(ring[order], prepend=-1))
    made: Polygons = shapely.polygons(lines, indices=owner[order[starts]])
    assert len(made) == count
    return made


def _chains(following: Integers) -> tuple[NDArray[np.int32], Integers]:
    """Each element's cycle in a permutation, numbered by their first elements, and all elements, cycle by cycle."""
    n = len(following)
    steps = sparse.csr_array((np.ones(n, np.int8), following, np.arange(n + 1)), (n, n))
    _, cycle = sparse.csgraph.connected_components(steps, directed=True, connection="weak")
    _, firsts = np.unique(cycle, return_index=True)
    before = np.empty(n, np.intp)
    before[following] = np.arange(n)
    path = following.copy()
    path[before[firsts]] = np.append(firsts[1:], before[firsts[-1]])  # the end of a cycle leads to the next one's start
    steps = sparse.csr_array((np.ones(n, np.int8), path, np.arange(n + 1)), (n, n))
    return cycle, sparse.csgraph.breadth_first_order(steps, 0, return_predecessors=False)


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
        rings, owner = shapely.get_rings(shapes, return_index=True)
        west, south, east, north = shapely.bounds(rings).T
        wide = np.hypot(east - west, north - south) > longest  # else no edge is longer
        rings[wide] = shapely.segmentize(rings[wide], longest)
        longitude, latitude = self._lonlat(shapely.get_coordinates(rings))
        ends = np.cumsum(shapely.get_num_coordinates(rings))
        areas, perimeters = np.zeros(len(shapes)), np.zeros(len(shapes))
        for ring, (start, stop) in enumerate(pairwise((0, *ends.tolist()))):
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
