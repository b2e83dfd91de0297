"""Sizes on the ground."""

import math

import numpy as np
from pyproj import Geod, Transformer
from pyproj.exceptions import ProjError
from rasterio.crs import CRS

from terradelta.geo.grid import Grid

__all__ = ["ground_sampling_m", "lonlat_transformer"]


def ground_sampling_m(grid: Grid) -> float | None:
    """Side in metres, on the ellipsoid, of a square as large as the grid's middle pixel; None without a CRS.

    Also None where the CRS has no place on an ellipsoid there.
    """
    if grid.crs is None:
        return None
    row, col = grid.height // 2, grid.width // 2
    corners = [grid.transform @ (col + dx, row + dy) for dx, dy in ((0, 0), (1, 0), (1, 1), (0, 1))]
    to_lonlat = lonlat_transformer(grid.crs)
    if to_lonlat is None:
        return None
    lon, lat = to_lonlat.transform(*np.array(corners).T)
    if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
        return None
    area = abs(Geod(ellps="WGS84").polygon_area_perimeter(lon, lat)[0])
    return math.sqrt(area) if 0 < area < math.inf else None


def lonlat_transformer(crs: CRS) -> Transformer | None:
    """From (x, y) in a CRS to (longitude, latitude) in degrees; None where the CRS has no place on the earth."""
    try:
        return Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    except ProjError:
        return None
