"""A region grown from a point: what hangs together with it in the map's probability, from a threshold on."""

import math
from dataclasses import dataclass

import numpy as np
import rasterio.features
import shapely
import shapely.geometry
from numpy.typing import NDArray
from scipy import ndimage

from terradelta.errors import InputError
from terradelta.geo.grid import Grid, Tile
from terradelta.view.probability import Probability

__all__ = ["REACH_PX", "Grown", "grow"]

REACH_PX = 1024
"""How far from the point it may reach, in pixels along each axis."""


@dataclass(frozen=True)
class Grown:
    """A grown region."""

    shape: shapely.Geometry
    """Outline of its pixels, a polygon in the CRS of the scene."""
    pixels: int
    cut: bool
    """Whether it ends at `REACH_PX` rather than where the probability falls below the threshold."""


def grow(probability: Probability, x: float, y: float, threshold: float) -> Grown | str:
    """The pixels from a threshold on that hang together, by their edges, with the one at a point.

    Args:
        probability: of the map.
        x: of the point, in the CRS of the scene.
        y: of the point.
        threshold: above 0, at most 1.

    Returns:
        The region; or, in a sentence, why none grows there.

    Raises:
        InputError: if the threshold is none, or the point lies off the map.
    """
    if not 0 < threshold <= 1:
        raise InputError(f"the threshold is {threshold:g}; it must be above 0 and at most 1")
    grid = probability.grid
    row, col = _pixel(grid, x, y)
    top, left = max(0, row - REACH_PX), max(0, col - REACH_PX)
    bottom, right = min(grid.height, row + REACH_PX + 1), min(grid.width, col + REACH_PX + 1)
    tile = Tile(top, left, bottom - top, right - left)
    values = probability.read(tile)
    here = values[row - top, col - left]
    if not here >= threshold:  # also NaN
        if np.isnan(here):
            return "The map has no data there."
        return f"The probability there is {here:.3f}, below the threshold {threshold:g}; lower it, or draw the outline."
    with np.errstate(invalid="ignore"):
        labels, _ = ndimage.label(values >= threshold)
    region: NDArray[np.bool_] = labels == labels[row - top, col - left]
    at_edge = (region[0].any() and top > 0) or (region[-1].any() and bottom < grid.height)
    at_edge = at_edge or (region[:, 0].any() and left > 0) or (region[:, -1].any() and right < grid.width)
    outlines = rasterio.features.shapes(region.view(np.uint8), mask=region, transform=grid.crop(tile).transform)
    shape = shapely.union_all([shapely.geometry.shape(outline) for outline, _ in outlines])
    return Grown(shape, int(region.sum()), bool(at_edge))


def _pixel(grid: Grid, x: float, y: float) -> tuple[int, int]:
    t = ~grid.transform
    col, row = t.a * x + t.b * y + t.c, t.d * x + t.e * y + t.f
    if not (math.isfinite(col) and math.isfinite(row) and 0 <= row < grid.height and 0 <= col < grid.width):
        raise InputError(f"x {x:.12g}, y {y:.12g} lies off the map, whose extent is {grid.bounds}")
    return math.floor(row), math.floor(col)
