"""`ShiftField`: how far the second date lies from the first, as a smooth field on a grid.

A thing that the first date shows at p is shown by the second one at p + shift(p). The field is a cubic spline through
a coarse lattice of nodes, so its size does not depend on the scene's. Fitting minimises the squared distances to the
measured shifts plus a penalty on the second differences between nodes. What that penalty leaves free is an affine
field, so the result is affine where the measurements say nothing else. (Penalised splines: Eilers and Marx 1996,
doi:10.1214/ss/1038425655; robust weights: Tukey's biweight.)
"""

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import ArrayLike, NDArray

from terradelta.errors import ShapeError
from terradelta.geo.grid import Grid, Tile

__all__ = ["ShiftField", "fit_field", "robust_spread"]

Array = NDArray[np.float64]

_CELL_TOLERANCE_PX = 0.02
_SMALLEST_CELL = 16
_NODE_DIGITS = 4
_TUKEY = 4.685  # 95 % efficiency on normal noise
_MAD_TO_SIGMA = 1.4826
_FLOOR_PX = 0.02  # noise below it is not believed when outliers are told from the rest
_ROUNDS = 20
_SMOOTHING = tuple(10.0**exponent for exponent in np.arange(-2.0, 4.5, 0.5))
_CONSTANT_BELOW = 12
_NODES_ALONG = 8


@dataclass(frozen=True, eq=False)
class ShiftField:
    """A smooth field of shifts over a grid of ``shape`` pixels."""

    shape: tuple[int, int]
    """(height, width) of the grid in pixels."""
    nodes: Array
    """``(2, m, n)``: shift in rows and in columns, pixels, at m x n nodes from corner to corner.

    m and n are 2, or 4 to 99.
    """

    def __post_init__(self) -> None:
        kind, *sides = self.nodes.shape if self.nodes.ndim == 3 else (0, 0, 0)
        if kind != 2 or any(side not in {2, *range(4, 100)} for side in sides) or not np.isfinite(self.nodes).all():
            raise ShapeError(
                f"the nodes of a shift field have shape {self.nodes.shape}; give finite values of shape (2, m, n), "
                "m and n being 2, or 4 to 99"
            )

    @classmethod
    def constant(cls, shape: tuple[int, int], shift_px: tuple[float, float]) -> "ShiftField":
        """The same shift, (rows, columns) in pixels, everywhere."""
        return cls(shape, np.broadcast_to(np.round(np.array(shift_px)[:, None, None], _NODE_DIGITS), (2, 2, 2)).copy())

    def at(self, rows: ArrayLike, cols: ArrayLike) -> tuple[Array, Array]:
        """Shifts at points: ``(N,)`` rows and columns in pixels, to shifts in rows and in columns, pixels."""
        down, across = self._basis(rows, cols)
        shift = np.einsum("ni,kij,nj->kn", down, self.nodes, across)
        return shift[0], shift[1]

    def on(self, tile: Tile) -> Array:
        """Shifts at the centres of a tile's pixels: ``(2, height, width)``."""
        down, across = self._basis(np.arange(tile.row, tile.stop_row) + 0.5, np.arange(tile.col, tile.stop_col) + 0.5)
        return np.asarray(down @ self.nodes @ across.T)

    def moved(self, grid: Grid, tile: Tile) -> Grid:
        """The grid of a tile, moved to where it lies on the second date by the affine field that fits best there."""
        place = grid.transform @ Affine.translation(tile.col, tile.row) @ self._affine(tile)
        return Grid(grid.crs, place, (tile.height, tile.width))

    @functools.cached_property
    def cell(self) -> int:
        """Side of the square cells, in pixels, in each of which the field is affine within 0.02 pixel."""
        bend = self._bend()
        side = math.sqrt(8 * _CELL_TOLERANCE_PX / bend) if bend > 0 else math.inf
        whole = 1 << (max(self.shape) - 1).bit_length()
        return max(_SMALLEST_CELL, whole if side >= max(self.shape) else 1 << max(0, math.floor(math.log2(side))))

    def cells(self, tile: Tile) -> Iterator[tuple[Tile, Tile]]:
        """Each cell that a tile touches, and the part of the tile in it; cells lie at multiples of `cell`."""
        side = self.cell
        for row in range(tile.row // side * side, tile.stop_row, side):
            for col in range(tile.col // side * side, tile.stop_col, side):
                cell = Tile(row, col, min(side, self.shape[0] - row), min(side, self.shape[1] - col))
                part = cell.shared(tile)
                assert part is not None
                yield cell, part

    def plus(self, other: "ShiftField") -> "ShiftField":
        """The sum of two fields of one shape.

        Raises:
            ShapeError: if the shapes differ.
        """
        if self.shape != other.shape:
            raise ShapeError(f"shift fields of {self.shape} and {other.shape} pixels cannot be added; use one grid")
        big, small = (self, other) if self.nodes.size >= other.nodes.size else (other, self)
        rows, cols = _axis(self.shape[0], big.nodes.shape[1]), _axis(self.shape[1], big.nodes.shape[2])
        down, across = small._basis(rows, cols)
        return ShiftField(self.shape, np.round(big.nodes + down @ small.nodes @ across.T, _NODE_DIGITS))

    def _basis(self, rows: ArrayLike, cols: ArrayLike) -> tuple[Array, Array]:
        down, across = (
            _splines(side, count)(np.clip(np.asarray(p, np.float64), 0, side))
            for p, side, count in zip((rows, cols), self.shape, self.nodes.shape[1:], strict=True)
        )
        return down, across

    def _affine(self, tile: Tile) -> Affine:
        """(x, y) in pixels from the tile's corner to those on the second date: least squares over 5 x 5 points."""
        rows, cols = np.meshgrid(np.linspace(0, tile.height, 5), np.linspace(0, tile.width, 5), indexing="ij")
        down, across = self.at(tile.row + rows.ravel(), tile.col + cols.ravel())
        design = np.column_stack([cols.ravel(), rows.ravel(), np.ones(rows.size)])
        (a, b, c), (d, e, f) = np.linalg.lstsq(design, np.column_stack([across, down]), rcond=None)[0].T.tolist()
        return Affine(1 + a, b, c, d, 1 + e, f)

    def _bend(self) -> float:
        """Largest second derivative of the field, pixels per pixel², summed over both axes and their mixed one."""
        points = [_axis(side, 8 * count) for side, count in zip(self.shape, self.nodes.shape[1:], strict=True)]
        splines = [_splines(side, count) for side, count in zip(self.shape, self.nodes.shape[1:], strict=True)]
        total = 0.0
        for orders in ((2, 0), (1, 1), (1, 1), (0, 2)):
            down, across = (s(p, n) for s, n, p in zip(splines, orders, points, strict=True))
            total = total + np.abs(down @ self.nodes @ across.T).max(0)
        bend = float(np.max(total))
        return bend if bend > 1e-12 else 0.0


def fit_field(shape: tuple[int, int], places: Array, shifts: Array) -> tuple[ShiftField, NDArray[np.bool_]]:
    """The smooth field through measured shifts, of which some are wrong.

    Fewer than 12 measurements, or a strip of them, give their median everywhere. Otherwise the weight of the penalty,
    or the same shift everywhere, is chosen by generalised cross-validation (Craven and Wahba 1979,
    doi:10.1007/BF01404567).

    Args:
        shape: (height, width) of the grid in pixels.
        places: ``(N, 2)`` rows and columns in pixels; N above 0.
        shifts: ``(N, 2)`` shifts in rows and in columns, pixels.

    Returns:
        The field, and ``(N,)`` which measurements it rests on.
    """
    median = np.median(shifts, axis=0)
    weights = _weights(shifts - median)
    if len(shifts) < _CONSTANT_BELOW or not _spread_out(places, shape):
        return ShiftField.constant(shape, (float(median[0]), float(median[1]))), weights > 0
    counts = [max(4, min(_NODES_ALONG, len(np.unique(axis)) + 1)) for axis in places.T]
    design = _design(shape, (counts[0], counts[1]), places)
    penalty = _penalty((counts[0], counts[1]))
    for _ in range(_ROUNDS):
        values = _smoothest(design, penalty, weights, shifts)
        previous, weights = weights, _weights(shifts - design @ values)
        if np.abs(weights - previous).max() < 1e-3:
            break
    nodes = np.round(np.moveaxis(values.reshape(*counts, 2), 2, 0), _NODE_DIGITS)
    return ShiftField(shape, np.ascontiguousarray(nodes)), weights > 0


def robust_spread(values: ArrayLike) -> float:
    """Standard deviation of normal noise with the same median absolute value; 0 for nothing."""
    values = np.abs(np.asarray(values, np.float64))
    return _MAD_TO_SIGMA * float(np.median(values)) if values.size else 0.0


def _axis(length: int, count: int) -> Array:
    return np.linspace(0, length, count)


@functools.lru_cache(maxsize=32)
def _splines(length: int, count: int) -> Any:  # noqa: ANN401  scipy's BSpline
    """The splines that are 1 at one of ``count`` nodes and 0 at the others, all at once."""
    from scipy.interpolate import make_interp_spline  # slow to import

    return make_interp_spline(_axis(length, count), np.eye(count), k=min(3, count - 1))


def _design(shape: tuple[int, int], counts: tuple[int, int], places: Array) -> Array:
    """``(N, nodes)``: what each node adds at each place."""
    down, across = (_splines(side, n)(p) for side, n, p in zip(shape, counts, places.T, strict=True))
    return np.asarray(np.einsum("ni,nj->nij", down, across).reshape(len(places), -1))


def _penalty(counts: tuple[int, int]) -> Array:
    """``(nodes, nodes)``: the quadratic form of all second differences; 0 for affine values."""
    total = np.zeros((math.prod(counts),) * 2)
    for orders, weight in (((2, 0), 1.0), ((1, 1), 2.0), ((0, 2), 1.0)):
        down, across = (np.diff(np.eye(n), order, axis=0) for n, order in zip(counts, orders, strict=True))
        differences = np.kron(down, across)
        total += weight * differences.T @ differences
    return total


def _smoothest(design: Array, penalty: Array, weights: Array, shifts: Array) -> Array:
    """Node values ``(nodes, 2)``: of the smoothness, or the constant, that predicts left-out measurements best."""
    weighted, total = design.T * weights, weights.sum()
    gram, target = weighted @ design, weighted @ shifts

    def score(values: Array, freedom: float) -> float:
        error = float((weights[:, None] * (shifts - design @ values) ** 2).sum())
        # 1.5 in place of 1: few data would be followed into their noise.
        return error / max(float(total) - 1.5 * freedom, 1e-3) ** 2

    best = np.tile(weights @ shifts / total, (len(penalty), 1))
    least = score(best, 1.0)
    for smoothing in _SMOOTHING:
        system = gram + smoothing * total / len(penalty) * penalty + 1e-9 * np.eye(len(penalty))
        solved = np.linalg.solve(system, np.column_stack([target, gram]))
        found = score(solved[:, :2], float(np.trace(solved[:, 2:])))
        if found < least:
            best, least = solved[:, :2], found
    return best


def _weights(residuals: Array) -> Array:
    """Tukey's biweights of ``(N, 2)`` residuals: ``(N,)`` in [0, 1]; 0 for outliers."""
    scale = max(robust_spread(residuals - np.median(residuals, axis=0)), _FLOOR_PX)
    distance = np.hypot(*residuals.T) / (math.sqrt(2) * _TUKEY * scale)
    return np.where(distance < 1, (1 - np.minimum(distance, 1) ** 2) ** 2, 0.0)


def _spread_out(places: Array, shape: tuple[int, int]) -> bool:
    """Whether places lie apart along both axes: by a quarter of the grid, whatever the outermost ones do."""
    low, high = np.percentile(places, (10, 90), axis=0)
    return bool(((high - low) >= 0.25 * np.array(shape)).all())
