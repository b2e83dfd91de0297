"""A pair and a predictor to strips of probability, top to bottom; reading runs beside the network."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from terradelta.errors import ModelError
from terradelta.geo.blending import RowBlender
from terradelta.geo.grid import Tile
from terradelta.geo.raster import Pair
from terradelta.geo.scaling import Scaling
from terradelta.geo.windows import TilePlan
from terradelta.mapping.stages import StageClock
from terradelta.runtime.predictor import Predictor

__all__ = ["probability_strips"]

READ_AHEAD = 2
TRIM = 0.375
"""Share of an overlap, at each tile's inner edge, whose values are not used; see docs/seams.md."""

_Loaded = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]


def probability_strips(
    pair: Pair,
    predictor: Predictor,
    plan: TilePlan,
    scaling: Scaling | None,
    clock: StageClock,
    *,
    on_tile: Callable[[], None] | None = None,
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Predict a scene tile by tile.

    Holds one tile row of float32 and a few tiles. A tile without a valid pixel is not predicted.

    Args:
        pair: the open pair; ``plan.shape`` is its grid's shape.
        predictor: gives probabilities for arrays of the card's raw values.
        plan: the tiles.
        scaling: how the pair's raw values become the model's; None: they are.
        clock: gets the busy seconds of ``read``, ``network`` and ``blend``.
        on_tile: called after every tile.

    Yields:
        The strip's first row and the strip ``(rows, width)``: probability in [0, 1], NaN where a date has no data. The
        strip is a view that holds until the next one is asked for.

    Raises:
        RasterError: if a file cannot be read.
        BandError: if the pair does not have the model's bands.
        ModelError: if the network gives values that are not finite.
    """
    blender = RowBlender(plan, TRIM)
    fill = predictor.fill[:, :, None, None]

    def load(tile: Tile) -> _Loaded | None:
        with clock.time("read"):
            window = pair.read(tile)
            if not window.valid.any():
                return None
            dates = [_scaled(values, scaling) for values in (window.before, window.after)]
            if not window.valid.all():
                # Where nothing is known, nothing looks changed.
                dates = [np.where(window.valid, values, like) for values, like in zip(dates, fill, strict=True)]
            return dates[0], dates[1], window.valid

    for row in _loaded_rows(plan, load):
        for tile, loaded in row:
            with clock.time("network"):
                values = _predict(predictor, tile, loaded)
            with clock.time("blend"):
                blender.add(tile, values)
            if on_tile is not None:
                on_tile()
        with clock.time("blend"):
            finished = blender.finish_row()
        yield finished


def _scaled(values: NDArray[np.generic], scaling: Scaling | None) -> NDArray[np.float32]:
    return values.astype(np.float32) if scaling is None else scaling.apply(values)


def _predict(predictor: Predictor, tile: Tile, loaded: _Loaded | None) -> NDArray[np.float32]:
    if loaded is None:
        return np.full((tile.height, tile.width), np.nan, np.float32)
    before, after, valid = loaded
    probability: NDArray[np.float32] = predictor.predict(before[None], after[None])[0]
    if not np.isfinite(probability).all():
        raise ModelError(
            f"model {predictor.card.name!r} gave values that are no numbers at rows {tile.row} to {tile.stop_row - 1}, "
            f"columns {tile.col} to {tile.stop_col - 1}; use another model, or export this one again"
        )
    probability[~valid] = np.nan
    return probability


def _loaded_rows(
    plan: TilePlan, load: Callable[[Tile], _Loaded | None]
) -> Iterator[Iterator[tuple[Tile, _Loaded | None]]]:
    """The plan's tile rows, each tile with what `load` gives; loading runs ahead in one thread."""
    ahead: deque[Future[_Loaded | None]] = deque()
    coming = (tile for row in plan.rows() for tile in row)
    with ThreadPoolExecutor(1, thread_name_prefix="read") as reader:

        def submit() -> None:
            tile = next(coming, None)
            if tile is not None:
                ahead.append(reader.submit(load, tile))

        def tiles(row: list[Tile]) -> Iterator[tuple[Tile, _Loaded | None]]:
            for tile in row:
                submit()
                yield tile, ahead.popleft().result()

        try:
            for _ in range(READ_AHEAD):
                submit()
            for row in plan.rows():
                yield tiles(row)
        finally:
            reader.shutdown(wait=True, cancel_futures=True)
