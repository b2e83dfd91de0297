"""`Grid` and `Tile`: where the pixels are."""

import math
from dataclasses import dataclass

import numpy as np
import pyproj
import rasterio
import rasterio.warp
from affine import Affine
from numpy.typing import ArrayLike, NDArray
from rasterio.crs import CRS

from terradelta.errors import GridError, ShapeError

__all__ = ["Grid", "Tile", "is_local"]

_ALIGNED_PX = 1e-3
_LONLAT = CRS.from_epsg(4326)


@dataclass(frozen=True)
class Tile:
    """A window of a grid, in pixels; may be of any size but not empty."""

    row: int
    col: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if self.height <= 0 or self.width <= 0:
            raise ShapeError(f"a tile needs a height and width above 0, not {self.height} x {self.width}")

    @property
    def stop_row(self) -> int:
        """First row below the tile."""
        return self.row + self.height

    @property
    def stop_col(self) -> int:
        """First column right of the tile."""
        return self.col + self.width

    @property
    def slices(self) -> tuple[slice, slice]:
        """(row, col) slices into an array of the grid's shape."""
        return slice(self.row, self.stop_row), slice(self.col, self.stop_col)

    def moved(self, rows: int, cols: int) -> "Tile":
        """The tile so many rows lower and so many columns further right."""
        return Tile(self.row + rows, self.col + cols, self.height, self.width)

    def within(self, other: "Tile") -> tuple[slice, slice]:
        """(row, col) slices of this tile in an array of the other's shape, which must hold it."""
        return self.moved(-other.row, -other.col).slices

    def shared(self, other: "Tile") -> "Tile | None":
        """Where two tiles overlap; None where they do not."""
        row, col = max(self.row, other.row), max(self.col, other.col)
        height, width = min(self.stop_row, other.stop_row) - row, min(self.stop_col, other.stop_col) - col
        return Tile(row, col, height, width) if height > 0 and width > 0 else None

    def grown(self, margin: int, shape: tuple[int, int]) -> "Tile":
        """The tile with a margin on all sides, as far as a grid of a (height, width) reaches."""
        row, col = max(0, self.row - margin), max(0, self.col - margin)
        bottom, right = min(shape[0], self.stop_row + margin), min(shape[1], self.stop_col + margin)
        return Tile(row, col, bottom - row, right - col)


@dataclass(frozen=True)
class Grid:
    """CRS, affine transform and shape (height, width): one value, never taken apart.

    ``crs`` is None for images without georeference; the transform is then the identity and one unit is one pixel, but
    for products, see `on_map`.
    The transform maps (col, row) pixel corners to (x, y) in the CRS's units, as rasterio does.

    Example:
        >>> import terradelta as td
        >>> with td.open_pair("before.tif", "after.tif") as pair:
        ...     grid = pair.grid
        >>> grid.shape, grid.bounds
        ((128, 160), (600000.0, 3399936.0, 600080.0, 3400000.0))
    """

    crs: CRS | None
    transform: Affine
    shape: tuple[int, int]

    def __post_init__(self) -> None:
        if min(self.shape) <= 0:
            raise GridError(f"a grid needs a height and width above 0, not {self.shape[0]} x {self.shape[1]}")
        if not all(map(math.isfinite, self.transform)):
            raise GridError(f"the transform {tuple(self.transform)[:6]} is not finite; georeference the image again")
        if self.transform.is_degenerate:
            raise GridError(
                f"the transform {tuple(self.transform)[:6]} maps the plane onto a line; no pixel has an area"
            )

    @property
    def height(self) -> int:
        """Number of rows."""
        return self.shape[0]

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.shape[1]

    @property
    def tile(self) -> Tile:
        """The tile that covers the whole grid."""
        return Tile(0, 0, *self.shape)

    @property
    def pixel_size(self) -> tuple[float, float]:
        """Height and width of a pixel in the CRS's units (metres, degrees, ...), both above 0."""
        t = self.transform
        return math.hypot(t.b, t.e), math.hypot(t.a, t.d)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """(x_min, y_min, x_max, y_max) in the CRS's units: the box around the four corners."""
        corners = [self.transform @ (col, row) for row in (0, self.height) for col in (0, self.width)]
        x, y = zip(*corners, strict=True)
        return min(x), min(y), max(x), max(y)

    def lonlat_bounds(self) -> tuple[float, float, float, float]:
        """(west, south, east, north) in degrees (EPSG:4326).

        Raises:
            GridError: without a CRS, or where the CRS has no inverse to longitude and latitude.
        """
        if self.crs is None:
            raise GridError("an image without a CRS has no longitude and latitude; assign a CRS first")
        try:
            with rasterio.Env():
                west, south, east, north = rasterio.warp.transform_bounds(self.crs, _LONLAT, *self.bounds)
        except Exception as error:  # GDAL's errors here share no public class
            raise GridError(
                f"the extent {self.bounds} in {self.crs} has no longitude and latitude ({error})"
            ) from error
        return west, south, east, north

    @property
    def on_map(self) -> "Grid":
        """Where GIS programs draw it: row r of an image without georeference at y = -r, any other grid where it is."""
        return self if self.crs is not None else Grid(None, Affine.scale(1, -1) @ self.transform, self.shape)

    def crop(self, tile: Tile) -> "Grid":
        """The grid of one tile."""
        return Grid(self.crs, self.transform @ Affine.translation(tile.col, tile.row), (tile.height, tile.width))

    def resized(self, shape: tuple[int, int]) -> "Grid":
        """The grid of the same extent with another (height, width)."""
        scale = Affine.scale(self.width / shape[1], self.height / shape[0])
        return Grid(self.crs, self.transform @ scale, shape)

    def shape_within(self, max_side: int) -> tuple[int, int]:
        """(height, width) with the same proportions and at most ``max_side`` pixels a side; never larger than here.

        Raises:
            ShapeError: if ``max_side`` is below 1.
        """
        if max_side < 1:
            raise ShapeError(f"max_side must be 1 or more, not {max_side}")
        factor = min(1.0, max_side / max(self.shape))
        return max(1, round(self.height * factor)), max(1, round(self.width * factor))

    def map_to(
        self, other: "Grid", rows: ArrayLike, cols: ArrayLike
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Where points of this grid lie on another grid.

        Positions are continuous: (0, 0) is the outer corner of the first pixel, (0.5, 0.5) its centre. They may lie
        outside either grid.

        Args:
            other: the grid to map to.
            rows: ``(N,)`` positions in pixels.
            cols: ``(N,)`` positions in pixels.

        Returns:
            ``(N,)`` rows and ``(N,)`` columns on ``other``.

        Raises:
            GridError: if one grid has a CRS and the other none, or a point has no place in the other CRS.
        """
        rows, cols = np.asarray(rows, np.float64), np.asarray(cols, np.float64)
        if self.crs == other.crs:
            # One matrix for both steps: the large CRS coordinates cancel before they can cost digits.
            with np.errstate(over="ignore", invalid="ignore"):
                moved = _apply(~other.transform @ self.transform, rows, cols)
            if not np.isfinite(moved).all():
                raise GridError(f"the transforms {tuple(self.transform)[:6]} and {tuple(other.transform)[:6]} overflow")
            return moved
        if self.crs is None or other.crs is None:
            raise GridError("one grid has a CRS and the other has none; assign a CRS to both, or to neither")
        y, x = _apply(self.transform, rows, cols)
        try:
            with rasterio.Env():
                xs, ys = rasterio.warp.transform(self.crs, other.crs, x, y)
        except Exception as error:  # GDAL's errors here share no public class
            raise GridError(f"points in {self.crs} have no place in {other.crs} ({error})") from error
        mapped = np.asarray(ys, np.float64), np.asarray(xs, np.float64)
        if not np.isfinite(mapped).all():
            raise GridError(f"points in {self.crs} have no place in {other.crs}")
        return _apply(~other.transform, *mapped)

    def offset_in(self, other: "Grid") -> tuple[int, int] | None:
        """The pixel (row, col) of ``other`` that this grid's first pixel is, if the pixels of both coincide.

        Pixels coincide when all four corners of this grid lie within 0.001 pixel of the same whole-pixel shift: the
        same CRS, size of pixel and orientation. The offset may be negative, and the grids need not overlap.

        Returns:
            The offset in pixels, or None where the grids do not coincide.
        """
        if self.crs != other.crs:
            return None
        rows = np.array([0, 0, self.height, self.height], np.float64)
        cols = np.array([0, self.width, 0, self.width], np.float64)
        on_rows, on_cols = self.map_to(other, rows, cols)
        row, col = round(float(on_rows[0])), round(float(on_cols[0]))
        error = np.abs([on_rows - rows - row, on_cols - cols - col]).max()
        return (row, col) if error <= _ALIGNED_PX else None


def is_local(crs: CRS) -> bool:
    """Whether a CRS is a local plane (engineering CRS) without a place on the Earth."""
    return bool(pyproj.CRS.from_wkt(crs.to_wkt()).is_engineering)


def _apply(
    transform: Affine, rows: NDArray[np.float64], cols: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(row, col) or (y, x) through a transform that takes (col, row)."""
    t = transform
    return t.d * cols + t.e * rows + t.f, t.a * cols + t.b * rows + t.c
