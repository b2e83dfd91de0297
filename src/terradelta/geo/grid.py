"""`Grid` and `Tile`: where the pixels are."""

from dataclasses import dataclass

from affine import Affine
from rasterio.crs import CRS

from terradelta.errors import GridError, ShapeError

__all__ = ["Grid", "Tile"]


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


@dataclass(frozen=True)
class Grid:
    """CRS, affine transform and shape (height, width): one value, never taken apart.

    ``crs`` is None for images without georeference; the transform is then the identity and one unit is one pixel.
    The transform maps (col, row) pixel corners to (x, y) in the CRS's units, as rasterio does.
    """

    crs: CRS | None
    transform: Affine
    shape: tuple[int, int]

    def __post_init__(self) -> None:
        if min(self.shape) <= 0:
            raise GridError(f"a grid needs a height and width above 0, not {self.shape[0]} x {self.shape[1]}")
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

    def crop(self, tile: Tile) -> "Grid":
        """The grid of one tile."""
        return Grid(self.crs, self.transform * Affine.translation(tile.col, tile.row), (tile.height, tile.width))
