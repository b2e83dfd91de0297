"""The tiles that a page shows a scene in: square ones, in the scene's own CRS, in steps of two."""

import math
from dataclasses import dataclass

from affine import Affine

from terradelta.geo.grid import Grid, Tile

__all__ = ["SIDE", "TileGrid", "display_grid"]

SIDE = 512
"""Pixels along a tile."""
_SQUARE = 1e-9
"""Share by which the sides of a pixel may differ to count as equal."""


def display_grid(grid: Grid) -> Grid:
    """The grid that a scene is shown on: north up, with square pixels, so that a page need not turn or stretch it.

    It is the scene's own where that is such a grid; otherwise one over its extent, with the shorter side of its pixels.
    """
    t = grid.transform
    if t.b == t.d == 0 and t.a > 0 and abs(t.a + t.e) <= _SQUARE * t.a:
        return grid
    x_min, y_min, x_max, y_max = grid.bounds
    side = min(grid.pixel_size)
    shape = math.ceil((y_max - y_min) / side - 1e-6), math.ceil((x_max - x_min) / side - 1e-6)
    return Grid(grid.crs, Affine(side, 0, x_min, 0, -side, y_max), (max(1, shape[0]), max(1, shape[1])))


@dataclass(frozen=True)
class TileGrid:
    """Tiles of 512 x 512 pixels, anchored at the upper left corner; level 0 shows the whole scene in one tile.

    Each level halves the size of a pixel; the last one shows those of the scene.
    """

    grid: Grid
    """See `display_grid`."""

    @property
    def levels(self) -> int:
        """How many there are."""
        return max(0, math.ceil(math.log2(max(self.grid.shape) / SIDE))) + 1

    @property
    def resolutions(self) -> list[float]:
        """Side of a pixel at each level, in the units of the CRS, largest first."""
        return [self.grid.transform.a * self.factor(level) for level in range(self.levels)]

    def factor(self, level: int) -> int:
        """Pixels of the scene along a pixel of a level."""
        return 1 << (self.levels - 1 - level)

    def window(self, level: int, x: int, y: int) -> tuple[Tile, tuple[int, int]] | None:
        """What a tile shows of the scene, and the (height, width) that it takes in the tile, from its upper left.

        Args:
            level: 0 to ``levels`` - 1.
            x: column of the tile, from the left.
            y: row of the tile, from the top.

        Returns:
            None if there is no such tile.
        """
        if not 0 <= level < self.levels or min(x, y) < 0:
            return None
        factor = self.factor(level)
        reach = SIDE * factor
        row, col = y * reach, x * reach
        height, width = min(reach, self.grid.height - row), min(reach, self.grid.width - col)
        if min(height, width) <= 0:
            return None
        return Tile(row, col, height, width), (max(1, round(height / factor)), max(1, round(width / factor)))
