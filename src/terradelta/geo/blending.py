"""Join overlapping tiles into a scene, without seams, and without a scene or a row of tiles in memory.

Between two neighbouring tiles a ramp falls from 1 to 0. A tile's weight is its left ramp minus its right one, so the
weights of all tiles add up to 1 at every pixel and no accumulator of weights is needed. The scheme is separable: the
tiles of a row are joined along columns first, each row for itself, and rows are joined later, in pieces of any height.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from terradelta.errors import ShapeError
from terradelta.geo.windows import Span, TilePlan

__all__ = ["RowBlender", "RowJoiner", "axis_weights"]


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
    """Join the tiles of one row of a plan along the columns, and hand out columns once no further tile touches them.

    Holds the columns that the next tile shares, and nothing of the row's width.

    Args:
        plan: where the tiles lie.
        trim: see `axis_weights`.
        first: number of the first tile that is added, where columns that those before it touch are not wanted.

    Raises:
        ShapeError: if ``trim`` is out of its range.
    """

    def __init__(self, plan: TilePlan, trim: float = 0.25, first: int = 0) -> None:
        self._spans = plan.col_spans
        self._weights = axis_weights(plan.col_spans, trim)
        self._next = first
        self._carried: NDArray[np.float32] | None = None

    def add(self, values: NDArray[np.float32]) -> tuple[int, NDArray[np.float32]]:
        """Add the next tile, from left to right.

        Args:
            values: ``(rows, columns)`` of the tile; all tiles of the row have the same rows. A NaN stays in its pixel.

        Returns:
            The first column of the finished ones, and these: ``(rows, n)``. They follow one another without gaps.

        Raises:
            ShapeError: if ``values`` has another shape than the tile, or the row is complete.
        """
        if self._next == len(self._spans):
            raise ShapeError(f"all {self._next} tiles of the row were added; use a new blender for the next row")
        span = self._spans[self._next]
        rows = len(values) if self._carried is None else len(self._carried)
        if values.shape != (rows, span.length):
            raise ShapeError(f"values have shape {values.shape}, but the tile is {rows} x {span.length}")
        joined = values * self._weights[self._next]
        if self._carried is not None:
            joined[:, : self._carried.shape[1]] += self._carried
        self._next += 1
        stop = span.stop if self._next == len(self._spans) else self._spans[self._next].start
        self._carried = joined[:, stop - span.start :].copy()
        return span.start, joined[:, : stop - span.start]


class RowJoiner:
    """Join rows of tiles along the rows: what `RowBlender` made of each, in pieces of any height.

    Args:
        plan: where the tiles lie.
        trim: see `axis_weights`.

    Raises:
        ShapeError: if ``trim`` is out of its range.
    """

    def __init__(self, plan: TilePlan, trim: float = 0.25) -> None:
        self._spans = plan.row_spans
        self._weights = axis_weights(plan.row_spans, trim)

    def pieces(
        self, number: int, read: Callable[[int, Span], NDArray[np.float32]], height: int
    ) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """The rows of the scene that lie above the next row of tiles, and in no piece of an earlier one.

        Args:
            number: which row of tiles.
            read: called with the number of a row of tiles, ``number`` or less, and rows counted from its own top; gives
                ``(rows, width)``.
            height: of a piece, the last one may be lower; above 0.

        Yields:
            The piece's first row in the scene, and the piece ``(rows, width)``.
        """
        first = self._spans[number].start
        last = number + 1 == len(self._spans)
        stop = self._spans[number].stop if last else self._spans[number + 1].start
        for top in range(first, stop, height):
            yield top, self._join(number, Span(top, min(top + height, stop)), read)

    def _join(self, number: int, rows: Span, read: Callable[[int, Span], NDArray[np.float32]]) -> NDArray[np.float32]:
        total: NDArray[np.float32] | None = None
        for each in range(max(number - 2, 0), number + 1):  # at most three spans meet at a pixel
            start, stop = self._spans[each].start, self._spans[each].stop
            if stop <= rows.start:
                continue
            inside = Span(rows.start - start, min(rows.stop, stop) - start)
            part = read(each, inside) * self._weights[each][inside.start : inside.stop, None]
            if total is None:
                total = np.zeros((rows.length, part.shape[1]), np.float32)
            total[: inside.length] += part
        assert total is not None
        return total
