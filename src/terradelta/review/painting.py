"""Verdicts to labels: what changed, what did not and what nobody looked at, pixel by pixel, in windows of the map.

A verdict is about its area, and whoever gave it saw what lies around: a box of some pixels beyond it counts as seen and
unchanged, but for polygons of the map that nobody judged. Everything else is unknown.
"""

import math
from collections.abc import Sequence

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize

from terradelta.geo.grid import Grid, Tile
from terradelta.review.reading import Review
from terradelta.review.verdicts import VerdictRow

__all__ = ["SEEN_PX", "WINDOW_PX", "label_windows", "near_together", "paint"]

SEEN_PX = 32
"""How far around a judged area its surroundings count as seen."""
WINDOW_PX = 256
"""Side of a window of labels."""
_UNCHANGED, _CHANGED, _UNKNOWN = 0, 1, 255

Mask = NDArray[np.bool_]


def paint(review: Review, grid: Grid, window: Tile, *, seen_px: int = SEEN_PX) -> tuple[Mask, Mask]:
    """Label, and where it is known, both ``(h, w)``, in a window of a map.

    A pixel belongs to an area if its centre lies inside. Verdicts are painted in the order in which they were given.

    Args:
        review: the verdicts.
        grid: of the map.
        window: a part of it.
        seen_px: how far around a judged area is unchanged unless something else is said of it.
    """
    part = grid.crop(window)
    values = np.full(part.shape, _UNKNOWN, np.uint8)
    for row in review.rows:
        top, left, bottom, right = _box(row.geometry, part)
        rows = slice(max(math.floor(top) - seen_px, 0), max(math.ceil(bottom) + seen_px, 0))
        values[rows, max(math.floor(left) - seen_px, 0) : max(math.ceil(right) + seen_px, 0)] = _UNCHANGED
    values[_inside(review.unjudged, part)] = _UNKNOWN
    for row in review.rows:
        values[_inside([row.geometry], part)] = _value(row)
    return values == _CHANGED, values != _UNKNOWN


def label_windows(review: Review, grid: Grid, *, side: int = WINDOW_PX, seen_px: int = SEEN_PX) -> list[Tile]:
    """Windows of a map that hold all judged areas and what was seen around them.

    A window is centred on a judged area that no window before it holds; areas larger than a window get as many as it
    takes to hold them.
    """
    side_rows, side_cols = min(side, grid.height), min(side, grid.width)
    windows: list[Tile] = []
    for row in review.rows:
        top, left, bottom, right = _box(row.geometry, grid)
        top, left = max(math.floor(top), 0), max(math.floor(left), 0)
        bottom, right = min(math.ceil(bottom), grid.height), min(math.ceil(right), grid.width)
        if bottom <= top or right <= left or any(_holds(w, top, left, bottom, right, seen_px, grid) for w in windows):
            continue
        for first in _starts(top, bottom, side_rows, grid.height):
            for second in _starts(left, right, side_cols, grid.width):
                window = Tile(first, second, side_rows, side_cols)
                if window not in windows and _touches(row.geometry, grid.crop(window)):
                    windows.append(window)
    return windows


def near_together(boxes: Sequence[tuple[float, float, float, float]], reach: float) -> list[int]:
    """A number for each box ``(left, bottom, right, top)``, the same for those that are linked by gaps below ``reach``.

    Numbers count from 0 in the order of the boxes.
    """
    group = list(range(len(boxes)))
    for i, one in enumerate(boxes):
        for k in range(i):
            other = boxes[k]
            gap = max(one[0] - other[2], other[0] - one[2], one[1] - other[3], other[1] - one[3])
            if gap < reach and group[k] != group[i]:
                low, high = sorted((group[i], group[k]))
                group = [low if each == high else each for each in group]
    order = list(dict.fromkeys(group))
    return [order.index(each) for each in group]


def _value(row: VerdictRow) -> int:
    if row.kind == "erased":
        return _UNCHANGED
    return {"accept": _CHANGED, "reject": _UNCHANGED, "unsure": _UNKNOWN}[row.verdict]


def _box(shape: shapely.Geometry, grid: Grid) -> tuple[float, float, float, float]:
    """(top, left, bottom, right) of a geometry in pixels of a grid."""
    x, y = shapely.get_coordinates(shape).T
    to_pixels = ~grid.transform
    cols = to_pixels.a * x + to_pixels.b * y + to_pixels.c
    rows = to_pixels.d * x + to_pixels.e * y + to_pixels.f
    return float(np.min(rows)), float(np.min(cols)), float(np.max(rows)), float(np.max(cols))


def _inside(shapes: Sequence[shapely.Geometry], grid: Grid) -> Mask:
    """Pixels whose centre lies in one of the areas."""
    near = [shape for shape in shapes if not shape.is_empty and _overlap(_box(shape, grid), grid)]
    if not near:
        return np.zeros(grid.shape, np.bool_)
    return np.asarray(rasterize(near, out_shape=grid.shape, transform=grid.transform, dtype=np.uint8) > 0)


def _overlap(box: tuple[float, float, float, float], grid: Grid) -> bool:
    top, left, bottom, right = box
    return top < grid.height and left < grid.width and bottom > 0 and right > 0


def _touches(shape: shapely.Geometry, grid: Grid) -> bool:
    """Whether a geometry has something inside a grid, also where it is finer than a pixel."""
    corners = [grid.transform @ at for at in ((0, 0), (grid.width, 0), (grid.width, grid.height), (0, grid.height))]
    return bool(shapely.intersects(shape, shapely.Polygon(corners)))


def _holds(window: Tile, top: int, left: int, bottom: int, right: int, seen_px: int, grid: Grid) -> bool:
    """Whether a window holds an area and what was seen around it, as far as the map goes."""
    return (
        window.row <= max(top - seen_px, 0)
        and window.col <= max(left - seen_px, 0)
        and window.stop_row >= min(bottom + seen_px, grid.height)
        and window.stop_col >= min(right + seen_px, grid.width)
    )


def _starts(first: int, stop: int, side: int, length: int) -> list[int]:
    """Where windows start along one axis, so that they hold ``first`` to ``stop`` evenly on both sides."""
    count = math.ceil((stop - first) / side)
    start = (first + stop - count * side) // 2
    return list(dict.fromkeys(min(max(start + k * side, 0), length - side) for k in range(count)))
