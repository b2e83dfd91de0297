"""A pair and a predictor to rows of tiles in a journal, and these to the scene; reading runs beside the network."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terradelta.errors import ModelError
from terradelta.geo.blending import RowBlender, RowJoiner
from terradelta.geo.grid import Tile
from terradelta.geo.windows import Span, TilePlan
from terradelta.mapping.damage import TolerantPair
from terradelta.mapping.journal import Journal, RowReader
from terradelta.mapping.memory import trim
from terradelta.mapping.recent import RecentTiles
from terradelta.predict.predictor import Predictor
from terradelta.raster.pair import Pair
from terradelta.raster.scaling import Scaling, scaled_dates
from terradelta.receipt import plain
from terradelta.receipt.map_record import DamageRecord
from terradelta.stages import StageClock

__all__ = ["TRIM", "SceneRows", "TileReader", "predict_rows", "predict_tiles", "write_rows"]

READ_AHEAD = 1
TRIM = 0.375
"""Share of an overlap, at each tile's inner edge, whose values are not used; see docs/seams.md."""
PIECE_PX, PIECE_ROWS = 1 << 19, (32, 128)
"""Pixels of the scene that are joined at once, and the fewest and the most rows of them: what grows with the scene's
width is held for so many rows only."""
TRIM_EVERY_PX = 1 << 23
"""Pixels after which freed memory is given back; among what stays, it would pile up with the width of the scene."""


@dataclass(frozen=True)
class _Loaded:
    """One tile as the network takes it; without a valid pixel there are no dates."""

    dates: tuple[NDArray[Any], NDArray[Any]] | None
    valid: NDArray[np.bool_]
    damage: Sequence[DamageRecord] = ()


@dataclass(frozen=True)
class TileReader:
    """Reads tiles as the predictor takes them: scaled, with pixels that no date has filled in."""

    pair: Pair
    predictor: Predictor
    scaling: Scaling | None
    """How the pair's raw values become the model's; None: they are."""
    clock: StageClock
    """Gets the busy seconds of ``read``."""
    recent: RecentTiles | None = None
    """Keeps what is read."""

    def load(self, tile: Tile) -> _Loaded:
        """Read one tile.

        Raises:
            RasterError: if a file cannot be read there, and the pair is no `TolerantPair`.
            OutputError: if there is no room to keep it.
        """
        with self.clock.time("read"):
            damage: Sequence[DamageRecord] = ()
            if isinstance(self.pair, TolerantPair):
                window, damage = self.pair.read_noting(tile)
            else:
                window = self.pair.read(tile)
            if self.recent is not None:
                self.recent.keep(tile, window)
            if not window.valid.any():
                return _Loaded(None, window.valid, damage)
            raw = (window.before, window.after)
            return _Loaded(scaled_dates(raw, window.valid, self.scaling, self.predictor.fill), window.valid, damage)


def predict_rows(
    reader: TileReader,
    plan: TilePlan,
    journal: Journal,
    numbers: Sequence[int],
    on_tile: Callable[[], None] | None = None,
) -> Generator[int]:
    """Predict rows of tiles into a journal.

    Holds a few tiles, or as many as the predictor takes at once. A tile without a valid pixel is not predicted.

    Args:
        reader: of the pair's tiles; its clock gets the busy seconds of ``network`` and ``blend`` too.
        plan: the tiles.
        journal: gets the rows.
        numbers: which rows of tiles, ascending.
        on_tile: called after every tile.

    Yields:
        The number of each row once it is in the journal.

    Raises:
        RasterError: if a file cannot be read.
        BandError: if the pair does not have the model's bands.
        ModelError: if the network gives values that are not finite.
        OutputError: if the journal cannot be written.
    """
    at_once = reader.predictor.prepare(*plan.sides, plan.count)
    for number, tiles in _loaded_rows(reader, plan, numbers, max(READ_AHEAD, at_once)):
        blender = RowBlender(plan, TRIM)
        with journal.write(number) as row:
            for loaded, values in _predicted(reader, tiles, at_once):
                with reader.clock.time("blend"):
                    row.add(*blender.add(values))
                row.note([plain(damage) for damage in loaded.damage])
                del loaded, values  # not to be held while the next tile is in the network
                if on_tile is not None:
                    on_tile()
        yield number


def predict_tiles(reader: TileReader, tiles: Sequence[Tile]) -> list[NDArray[np.float32]]:
    """Probabilities of some tiles, ``(height, width)`` each in [0, 1], NaN where a date has no data.

    They are predicted at once: give as many neighbours of a row as `Predictor.prepare` says, as `predict_rows` does.

    Raises:
        RasterError: if a file cannot be read.
        BandError: if the pair does not have the model's bands.
        ModelError: if the network gives values that are not finite.
    """
    return [values for _, values in _predicted(reader, [(tile, reader.load(tile)) for tile in tiles], len(tiles))]


@dataclass
class SceneRows:
    """The scene from a journal, in pieces from top to bottom."""

    journal: Journal
    plan: TilePlan
    notes: list[Any] = field(default_factory=list)
    """Notes of the rows read so far."""
    _open: dict[int, RowReader] = field(default_factory=dict)

    def pieces(self, number: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """What a row of tiles adds to the scene; rows ``number`` and above must be in the journal.

        Yields:
            A piece's first row and the piece ``(rows, width)``: probability in [0, 1], NaN where a date has no data.

        Raises:
            OutputError: if the journal is damaged.
        """
        for old in [each for each in self._open if each < number - 2]:
            self._open.pop(old).close()
        rows = min(max(PIECE_PX // self.plan.shape[1], PIECE_ROWS[0]), PIECE_ROWS[1])
        yield from RowJoiner(self.plan, TRIM).pieces(number, self._read, rows)

    def close(self) -> None:
        """Close all files."""
        while self._open:
            self._open.popitem()[1].close()

    def _read(self, number: int, rows: Span) -> NDArray[np.float32]:
        if number not in self._open:
            self._open[number] = self.journal.read(number)
            self.notes += self._open[number].notes
        return self._open[number].read(rows)


def write_rows(scene: SceneRows, write: Callable[[int, NDArray[np.float32]], None], ready: Iterable[int]) -> None:
    """Write rows of tiles in a thread of its own, while ``ready`` makes the next ones.

    Args:
        scene: what to write.
        write: called with a piece's first row and the piece, see `SceneRows.pieces`, from the top.
        ready: the numbers of the rows of tiles from the top, each once it is in the journal.

    Raises:
        OutputError: if the journal is damaged; and what ``write`` and ``ready`` raise.
    """
    untrimmed = 0

    def write_row(number: int) -> None:
        nonlocal untrimmed
        for first_row, piece in scene.pieces(number):
            write(first_row, piece)
            untrimmed += piece.size
            if untrimmed >= TRIM_EVERY_PX:
                trim()
                untrimmed = 0

    writing: deque[Future[None]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="write") as background:
        try:
            for number in ready:
                writing.append(background.submit(write_row, number))
                while writing and writing[0].done():
                    writing.popleft().result()
            for each in writing:
                each.result()
        finally:
            background.shutdown(wait=True, cancel_futures=True)


def _predicted(
    reader: TileReader, tiles: Iterable[tuple[Tile, _Loaded]], at_once: int
) -> Iterator[tuple[_Loaded, NDArray[np.float32]]]:
    """Tiles with their probabilities, in order."""
    coming = iter(tiles)
    while group := list(islice(coming, at_once)):
        for _, each in groupby(group, lambda tile: _shape(tile[1])):
            same = list(each)
            with reader.clock.time("network"):
                made = _predict(reader.predictor, same)
            yield from ((loaded, values) for (_, loaded), values in zip(same, made, strict=True))
            del made


def _shape(loaded: _Loaded) -> tuple[int, ...] | None:
    return None if loaded.dates is None else loaded.valid.shape


def _predict(predictor: Predictor, tiles: Sequence[tuple[Tile, _Loaded]]) -> Iterable[NDArray[np.float32]]:
    """Probabilities of tiles of one size that all have valid pixels, or all none."""
    dates = [loaded.dates for _, loaded in tiles if loaded.dates is not None]
    if not dates:
        return [np.full((tile.height, tile.width), np.nan, np.float32) for tile, _ in tiles]
    before, after = (_stacked([each[date] for each in dates]) for date in (0, 1))
    probability = predictor.predict(before, after)
    for (tile, loaded), values in zip(tiles, probability, strict=True):
        if not np.isfinite(values).all():
            raise ModelError(
                f"model {predictor.card.name!r} gave values that are no numbers at rows {tile.row} to "
                f"{tile.stop_row - 1}, columns {tile.col} to {tile.stop_col - 1}; use another model, or export this "
                "one again"
            )
        values[~loaded.valid] = np.nan
    return probability


def _stacked(values: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return values[0][None] if len(values) == 1 else np.stack(values)


def _loaded_rows(
    reader: TileReader, plan: TilePlan, numbers: Sequence[int], read_ahead: int
) -> Iterator[tuple[int, Iterator[tuple[Tile, _Loaded]]]]:
    """Rows of tiles, each tile with what the reader gives; reading runs ahead in one thread."""
    ahead: deque[Future[_Loaded]] = deque()
    coming = (tile for number in numbers for tile in plan.row(number))
    with ThreadPoolExecutor(1, thread_name_prefix="read") as thread:

        def submit() -> None:
            tile = next(coming, None)
            if tile is not None:
                ahead.append(thread.submit(reader.load, tile))

        def tiles(row: list[Tile]) -> Iterator[tuple[Tile, _Loaded]]:
            for tile in row:
                submit()
                yield tile, ahead.popleft().result()

        try:
            for _ in range(read_ahead):
                submit()
            for number in numbers:
                yield number, tiles(plan.row(number))
        finally:
            thread.shutdown(wait=True, cancel_futures=True)
