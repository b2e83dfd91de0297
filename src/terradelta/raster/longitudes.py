"""Longitudes that count from 0 to 360 in place of -180 to 180, and images that go all around the Earth."""

import dataclasses

from affine import Affine

from terradelta.errors import GridError
from terradelta.geo.grid import Grid
from terradelta.raster.source import Source

__all__ = ["around", "eastward", "in_degrees"]

_TURN = 360.0
_WHOLE_PX = 0.01
"""How far from a whole number of columns the Earth's circumference may be."""


def in_degrees(grid: Grid) -> bool:
    """Whether x is a longitude in degrees and rows follow parallels."""
    crs = grid.crs
    return crs is not None and crs.is_geographic and grid.transform.b == grid.transform.d == 0


def eastward(grid: Grid) -> Grid:
    """The same place, named from -180 to 180 where all of it lies beyond 180."""
    west = grid.bounds[0]
    return _moved(grid, -1) if in_degrees(grid) and 180 <= west < _TURN else grid


def around(source: Source, reference: Grid) -> Source:
    """The same image with longitudes that meet a reference grid's, by whole turns.

    An image that goes all around the Earth is cut open where the reference begins.
    """
    grid = source.grid
    if not in_degrees(grid):
        return source
    try:
        west, _, east, _ = reference.bounds if in_degrees(reference) else reference.lonlat_bounds()
    except GridError:
        return source
    east += _TURN * (east < west)
    columns = _TURN / abs(grid.transform.a)
    if grid.width == round(columns) and abs(columns - grid.width) <= _WHOLE_PX and _can_be_cut(source):
        return _cut_open(source, west if east - west > _TURN / 2 else (west + east - _TURN) / 2)
    left, _, right, _ = grid.bounds
    turns = (0, 1, -1)
    overlaps = [min(east, right + _TURN * k) - max(west, left + _TURN * k) for k in turns]
    best = turns[overlaps.index(max(overlaps))] if max(overlaps) > 0 else 0
    return dataclasses.replace(source, grid=_moved(grid, best)) if best else source


def _moved(grid: Grid, turns: int) -> Grid:
    return Grid(grid.crs, Affine.translation(_TURN * turns, 0) @ grid.transform, grid.shape)


def _can_be_cut(source: Source) -> bool:
    return not {"mask", "band_mask"} & set(source.masks) and source.grid.transform.a > 0


def _cut_open(source: Source, west: float) -> Source:
    """The image from the last column that begins at or west of a longitude on, once around."""
    grid = source.grid
    step, left = grid.transform.a, grid.bounds[0]
    first = int((west - left) / step // 1)
    if abs((west - left) / step - (first + 1)) < _WHOLE_PX:  # rounding
        first += 1
    if first % grid.width == 0:
        return dataclasses.replace(source, grid=_moved(grid, first // grid.width))
    moved = Grid(grid.crs, grid.transform @ Affine.translation(first, 0), grid.shape)
    return dataclasses.replace(source.rolled(first % grid.width), grid=moved)
