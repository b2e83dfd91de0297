"""The probabilities of a scene as a dask array: each tile is read, predicted and blended when it is asked for.

A chunk of the result is what lies between the starts of neighbouring tiles, so it depends on at most three tiles along
each axis. Tiles, their grouping, blending and rounding are those of `terradelta map`, and so are the numbers.
"""

import itertools
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terradelta.errors import InputError
from terradelta.geo.blending import RowBlender, RowJoiner
from terradelta.geo.grid import Grid, Tile
from terradelta.geo.shift import ShiftField
from terradelta.geo.windows import Span, TilePlan
from terradelta.mapping.journal import pack, unpack
from terradelta.mapping.scene import TRIM, TileReader, predict_tiles
from terradelta.predict.predictor import Predictor
from terradelta.products.cog import quantise
from terradelta.raster.array_source import ArrayLayer, ArraySource, layer_of
from terradelta.raster.bands import BandSelection
from terradelta.raster.overlap import AreaOfInterest
from terradelta.raster.pair import Pair
from terradelta.raster.scaling import Scaling
from terradelta.raster.warp import Layer
from terradelta.stages import StageClock

__all__ = ["is_lazy", "lazy_probability"]

Places = dict[tuple[int, int], NDArray[np.float32]]
"""Tiles by the numbers of their row and column in the plan."""
_MEETING = 2
"""At most three tiles meet along an axis: a tile and so many before it."""


def is_lazy(pair: Pair) -> bool:
    """Whether a date of a pair is computed by dask.

    Raises:
        InputError: if the other one is no array.
    """
    lazy = [isinstance(source, ArraySource) and source.lazy for source in pair.sources]
    files = [source.path for source in pair.sources if not isinstance(source, ArraySource)]
    if any(lazy) and files:
        raise InputError(
            f"one date is an array of dask and the other a file, {files[0]}; give two arrays, e.g. "
            "rioxarray.open_rasterio(path, chunks=True), or two files"
        )
    return any(lazy)


def lazy_probability(pair: Pair, predictor: Predictor, scaling: Scaling | None, plan: TilePlan) -> Any:  # noqa: ANN401  a dask array
    """Probability of change over the common grid of a pair of arrays, as a dask array ``(height, width)`` float32.

    Args:
        pair: of two arrays, one of which is dask's at least.
        predictor: ready for the pair.
        scaling: see `terradelta.raster.scaling.scaling_of`.
        plan: where the tiles lie.

    Returns:
        Values in [0, 1], in steps of 1/1024, NaN where a date has no data; a chunk for each tile.
    """
    import dask
    import dask.array

    first, second = (_Date.of(layer) for layer in pair.layers)
    job = dask.delayed(_Job(first, second, pair.selection, pair.aoi, scaling, _Shared(predictor)), traverse=False)
    predict, block = dask.delayed(_predict, pure=False), dask.delayed(_block, pure=False)
    at_once = predictor.prepare(*plan.sides, plan.count)
    tiles: dict[tuple[int, int], Any] = {}
    for row in range(len(plan.row_spans)):
        numbered = list(enumerate(plan.row(row)))
        for start in range(0, len(numbered), at_once):  # as `terradelta.mapping.scene` groups them
            cols, members = zip(*numbered[start : start + at_once], strict=True)
            windows = [_around(layer, members) for layer in pair.layers]
            parts = [_part(layer, window) for layer, window in zip(pair.layers, windows, strict=True)]
            made = predict(job, members, windows, *parts)
            tiles |= {(row, col): made[i] for i, col in enumerate(cols)}
    shared = dask.delayed(plan, traverse=False)
    rows = [
        [
            dask.array.from_delayed(
                block(shared, row, col, _needed(plan, row, col, tiles)), _chunk(plan, row, col), np.float32
            )
            for col in range(len(plan.col_spans))
        ]
        for row in range(len(plan.row_spans))
    ]
    return dask.array.block(rows)


@dataclass(frozen=True)
class _Date:
    """One date without its pixels, to be sent where they are."""

    source: ArraySource
    selected: tuple[int, ...]
    grid: Grid
    resampling: Any
    moved: ShiftField | None

    @classmethod
    def of(cls, layer: Layer) -> "_Date":
        assert isinstance(layer, ArrayLayer)
        return cls(layer.source.holding(None, None), layer.selected, layer.grid, layer.resampling, layer.field)

    def layer(self, window: Tile, values: NDArray[Any]) -> Layer:
        made = layer_of(self.source.holding(window, values), self.selected, self.grid, self.resampling)
        if self.moved is not None:
            made.move(self.moved)
        return made


@dataclass
class _Shared:
    """A predictor that one thread at a time uses; it travels to other processes as its file."""

    predictor: Predictor | None
    packed: Any = None
    lock: Any = field(default_factory=threading.Lock)

    @contextmanager
    def use(self) -> Iterator[Predictor]:
        with self.lock:
            if self.predictor is None:
                self.predictor = self.packed.load(None)
            yield self.predictor

    def __getstate__(self) -> dict[str, Any]:
        if self.packed is None:
            from terradelta.mapping.cluster import pack_model

            assert self.predictor is not None
            self.packed = pack_model(self.predictor)
        return {"packed": self.packed}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.predictor, self.packed, self.lock = None, state["packed"], threading.Lock()


@dataclass(frozen=True)
class _Job:
    """What the prediction of any tile needs."""

    before: _Date
    after: _Date
    selection: BandSelection
    aoi: AreaOfInterest | None
    scaling: Scaling | None
    shared: _Shared


def _predict(
    job: _Job, tiles: Sequence[Tile], windows: Sequence[Tile], before: NDArray[Any], after: NDArray[Any]
) -> list[NDArray[np.float32]]:
    """Probabilities of tiles from the parts of both dates in their windows."""
    layers = (job.before.layer(windows[0], before), job.after.layer(windows[1], after))
    with Pair(layers, job.selection, job.aoi) as pair, job.shared.use() as predictor:
        return predict_tiles(TileReader(pair, predictor, job.scaling, StageClock()), tiles)


def _block(plan: TilePlan, row: int, col: int, tiles: Places) -> NDArray[np.float32]:
    """One chunk of the scene from the tiles that it depends on."""
    span = plan.col_spans[col]
    stop = plan.shape[1] if col + 1 == len(plan.col_spans) else plan.col_spans[col + 1].start
    joined: dict[int, NDArray[np.float32]] = {}
    for above in _reaching(plan.row_spans, row):
        numbers = _reaching(plan.col_spans, col)
        blender = RowBlender(plan, TRIM, first=numbers[0])
        for number in numbers:
            _, values = blender.add(tiles[above, number])
        joined[above] = unpack(pack(values[:, : stop - span.start]))  # as the journal of a run keeps them
    height, _ = _chunk(plan, row, col)
    pieces = RowJoiner(plan, TRIM).pieces(row, lambda number, rows: joined[number][rows.start : rows.stop], height)
    return quantise(next(pieces)[1])


def _needed(plan: TilePlan, row: int, col: int, tiles: dict[tuple[int, int], Any]) -> dict[tuple[int, int], Any]:
    places = itertools.product(_reaching(plan.row_spans, row), _reaching(plan.col_spans, col))
    return {place: tiles[place] for place in places}


def _reaching(spans: Sequence[Span], number: int) -> list[int]:
    """Numbers of the spans that reach to or beyond the start of one, itself included."""
    start = spans[number].start
    return [each for each in range(max(number - _MEETING, 0), number + 1) if spans[each].stop > start]


def _chunk(plan: TilePlan, row: int, col: int) -> tuple[int, int]:
    """(height, width) of the chunk that begins where a tile does."""
    sides = []
    for spans, number, length in ((plan.row_spans, row, plan.shape[0]), (plan.col_spans, col, plan.shape[1])):
        sides.append((length if number + 1 == len(spans) else spans[number + 1].start) - spans[number].start)
    return sides[0], sides[1]


def _around(layer: Layer, tiles: Sequence[Tile]) -> Tile:
    """The window of an array that some tiles are made from."""
    assert isinstance(layer, ArrayLayer)
    windows = [layer.reach(tile) for tile in tiles]
    row, col = min(each.row for each in windows), min(each.col for each in windows)
    return Tile(row, col, max(each.stop_row for each in windows) - row, max(each.stop_col for each in windows) - col)


def _part(layer: Layer, window: Tile) -> Any:  # noqa: ANN401  an array of numpy or dask
    assert isinstance(layer, ArrayLayer)
    return layer.source.part(window)
