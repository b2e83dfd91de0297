"""Join overlapping tiles into strips of a scene, without seams and without a scene in memory.

Between two neighbouring tiles a ramp falls from 1 to 0. A tile's weight is its left ramp minus its right one, so the
weights of all tiles add up to 1 at every pixel and no accumulator of weights is needed. The scheme is separable.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from terradelta.errors import ShapeError
from terradelta.geo.grid import Tile
from terradelta.geo.windows import Span, TilePlan

__all__ = ["RowBlender", "axis_weights"]


def axis_weights(spans: Sequence[Span], trim: float = 0.25) -> tuple[NDArray[np.float32], ...]:
    """Weights of the spans along one axis: 0 or more, with sum 1 at every pixel (to 1e-6).

    In an overlap, the share ``trim`` next to the inner edge of either tile has weight 0: a network sees too little
    surroundings there. Between them runs a raised cosine. There is no ramp at the border of the scene.

    Args:
        spans: spans of `plan_axis`, ascending.
        trim: share of an overlap without weight, at each of its ends; from 0 to below 0.5.

    Returns:
        One float32 vector a span, of the span's length.

    Raises:
        ShapeError: if ``trim`` is out of its range.
    """
    if not 0 <= trim < 0.5:
        raise ShapeError(f"trim is {trim}; it must be at least 0 and below 0.5")
    weights = []
    for i, span in enumerate(spans):
        centres = np.arange(span.start, span.stop, dtype=np.float64) + 0.5
        weight: NDArray[np.float64] = np.ones(span.length) if i == 0 else _ramp(centres, spans[i - 1], span, trim)
        if i + 1 < len(spans):
            weight = weight - _ramp(centres, span, spans[i + 1], trim)
        weights.append(weight.astype(np.float32))
    return tuple(weights)


def _ramp(centres: NDArray[np.float64], left: Span, right: Span, trim: float) -> NDArray[np.float64]:
    """Rises from 0 to 1 where ``left`` hands over to ``right``; a step where they only touch."""
    overlap = left.stop - right.start
    begin, end = right.start + trim * overlap, left.stop - trim * overlap
    if end <= begin:
        return (centres >= begin).astype(np.float64)
    return 0.5 - 0.5 * np.cos(np.pi * np.clip((centres - begin) / (end - begin), 0.0, 1.0))


class RowBlender:
    """Blend tiles in the order of a plan and hand out finished rows of the scene.

    Holds one tile row of float32, tile x width, and nothing else of that width. Add the tiles of a row from left to
    right, then call `finish_row`, once for every row of the plan. A tile without a valid pixel need not be added; its
    weight is then missing from the result, so its pixels are to be masked.

    Args:
        plan: where the tiles lie.
        trim: see `axis_weights`.

    Raises:
        ShapeError: if ``trim`` is out of its range.
    """

    def __init__(self, plan: TilePlan, trim: float = 0.25) -> None:
        self._plan = plan
        self._row_weights = axis_weights(plan.row_spans, trim)
        self._col_weights = dict(zip(plan.col_spans, axis_weights(plan.col_spans, trim), strict=True))
        self._row = 0
        self._next_col = 0
        self._buffer = np.zeros((plan.row_spans[0].length, plan.shape[1]), np.float32)
        self._done = 0  # rows at the buffer's top that were handed out and wait to be dropped

    def add(self, tile: Tile, values: NDArray[np.float32]) -> None:
        """Add one tile of the present row.

        Args:
            tile: a tile of the plan, right of the last one added.
            values: ``(tile.height, tile.width)``. A NaN stays in its pixel.

        Raises:
            ShapeError: if the tile is not one of the present row, is out of order, or ``values`` has another shape.
        """
        self._drop_done()
        weight = self._weight_of(tile)
        if values.shape != weight.shape:
            raise ShapeError(f"values have shape {values.shape}, but the tile is {tile.height} x {tile.width}")
        self._buffer[: tile.height, tile.col : tile.stop_col] += values * weight
        self._next_col = tile.col + 1

    def finish_row(self) -> tuple[int, NDArray[np.float32]]:
        """End the present tile row.

        Returns:
            The first row of the strip, and the strip ``(rows, width)``: the rows that no later tile touches. Strips
            follow one another without gaps, top to bottom. A strip is a view that holds until the next call of `add`
            or `finish_row`: copy what has to last longer.

        Raises:
            ShapeError: if all rows of the plan are finished.
        """
        self._drop_done()
        span = self._present_span()
        self._row += 1
        self._next_col = 0
        last = self._row == len(self._plan.row_spans)
        self._done = (span.stop if last else self._plan.row_spans[self._row].start) - span.start
        return span.start, self._buffer[: self._done]

    def _drop_done(self) -> None:
        """Move the rows that later tiles reach to the top, in pieces that do not overlap, and clear the rest."""
        done, self._done = self._done, 0
        if not done:
            return
        carried = len(self._buffer) - done
        for start in range(0, carried, done):
            stop = min(start + done, carried)
            self._buffer[start:stop] = self._buffer[start + done : stop + done]
        self._buffer[carried:] = 0

    def _present_span(self) -> Span:
        if self._row == len(self._plan.row_spans):
            raise ShapeError(f"all {self._row} tile rows of the plan are finished")
        return self._plan.row_spans[self._row]

    def _weight_of(self, tile: Tile) -> NDArray[np.float32]:
        rows, cols = self._present_span(), Span(tile.col, tile.stop_col)
        if Span(tile.row, tile.stop_row) != rows or cols not in self._col_weights:
            raise ShapeError(
                f"{tile} is not in tile row {self._row} of the plan (rows {rows.start} to {rows.stop}); "
                "add the tiles of TilePlan.rows() in their order and call finish_row after each row"
            )
        if tile.col < self._next_col:
            raise ShapeError(f"{tile} comes too late: add the tiles of a row from left to right, each once")
        return self._row_weights[self._row][:, None] * self._col_weights[cols]
