"""`map_change`: two rasters to a change map, in memory that hardly grows with the scene; a killed run is resumed."""

import contextlib
import datetime
import math
import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import terradelta
from terradelta.errors import InputError
from terradelta.geo.overlap import Aoi
from terradelta.geo.raster import Pair, open_pair
from terradelta.geo.scaling import Scaling, choose_scaling
from terradelta.geo.windows import TilePlan
from terradelta.mapping.journal import Journal
from terradelta.mapping.products import CHANGE, POLYGONS, PROBABILITY, ProductWriter
from terradelta.mapping.quicklooks import quicklooks
from terradelta.mapping.receipt import file_sha256, grid_record, model_record, now, resolution_warnings, write_receipt
from terradelta.mapping.scene import SceneRows, TileReader, predict_rows
from terradelta.mapping.stages import StageClock
from terradelta.mapping.staging import check_free, work_folder
from terradelta.report.html import write_report
from terradelta.runtime.classical import Method
from terradelta.runtime.predictor import Predictor

__all__ = ["ChangeMap", "MapOptions", "map_change"]

RECEIPT, REPORT = "receipt.json", "report.html"
COLUMN_BYTES = 2048
"""Memory that the writers need for each column of the scene."""


@dataclass(frozen=True)
class MapOptions:
    """How to make a change map; the defaults are those of the model's card."""

    bands: tuple[str | int, ...] | None = None
    """Bands by name or number from 1, in the model's order; None: the model's names, else the first ones."""
    aoi: Aoi | None = None
    """Area of interest: (west, south, east, north) in degrees, or a shapely polygon in EPSG:4326."""
    threshold: float | None = None
    """Probability in (0, 1] from which a pixel counts as changed."""
    min_area_m2: float = 10.0
    """Smaller polygons are left out of the GeoPackage; pixels for images without georeference."""
    simplify_m: float = 0.0
    """Tolerance for simpler outlines, metres (pixels without georeference); 0: outlines follow the pixels."""
    tile: int | None = None
    """Side of a tile, pixels."""
    overlap: int | None = None
    """Pixels that neighbouring tiles share."""
    skip_damaged: bool = False
    """Count pixels that cannot be read as no data, and record them, instead of ending the run."""
    fresh: bool = False
    """Discard what an unfinished run left, instead of going on from there."""

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise InputError(f"threshold is {self.threshold}; it must be above 0 and at most 1")


@dataclass(frozen=True)
class ChangeMap:
    """A finished product folder."""

    folder: Path
    receipt: dict[str, Any]

    @property
    def probability(self) -> Path:
        """COG, float32 in [0, 1], NaN where there is no data."""
        return self.folder / PROBABILITY

    @property
    def change(self) -> Path:
        """COG, 0 unchanged, 1 changed, 255 no data."""
        return self.folder / CHANGE

    @property
    def polygons(self) -> Path:
        """GeoPackage, one polygon a change."""
        return self.folder / POLYGONS

    @property
    def report(self) -> Path:
        """HTML page that opens offline."""
        return self.folder / REPORT


def map_change(
    before: Path,
    after: Path,
    out: Path,
    predictor: Predictor | Method,
    options: MapOptions = MapOptions(),
    *,
    progress: Callable[[int, int], None] | None = None,
    announce: Callable[[Sequence[str]], None] | None = None,
    scores: Callable[[Path], dict[str, float]] | None = None,
) -> ChangeMap:
    """Map what changed between two rasters.

    Args:
        before: raster of the first date; its grid is the product's.
        after: raster of the second date, on any grid.
        out: folder to make; it appears only once everything in it is finished.
        predictor: see `terradelta.runtime.weights.load_predictor`; or a classical method, see
            `terradelta.runtime.classical.load_method`, which is fitted to the pair first.
        options: how.
        progress: called with (tiles done, tiles in all); it counts twice where a method is fitted first.
        announce: called with the sentences of the pre-flight report before the first tile.
        scores: called with the folder of the finished rasters; gives metrics by name for the report, where the truth
            is known.

    Returns:
        The finished product.

    Raises:
        OutputExistsError: if ``out`` is there already.
        InputError: if the inputs or options cannot be used; the message says why.
        ModelError: if the model cannot be run.
        OutputError: if writing failed.
    """
    check_free(out)
    clock = StageClock()
    wanted = None if isinstance(predictor, Method) else predictor.card.bands
    bands = None if options.bands is None else list(options.bands)
    with open_pair(before, after, bands=bands, wanted=wanted, aoi=options.aoi) as pair:
        with clock.time("read"):
            scaling = None if isinstance(predictor, Method) else choose_scaling(pair, predictor.card.scale)
            preflight = _preflight(pair, scaling, predictor)
        if announce is not None:
            announce(preflight)
        if isinstance(predictor, Method):
            with clock.time("fit"):
                predictor = predictor.fit(pair, progress)
        plan = _plan(pair, predictor, options)
        reader = TileReader(pair, predictor, scaling, clock, options.skip_damaged)
        with work_folder(out, fresh=options.fresh) as work:
            journal = Journal(work.rows, _job(reader, plan, options))
            done = journal.finished(len(plan.row_spans))
            if done and announce is not None:
                announce([f"Going on with an unfinished run: {len(done)} of {len(plan.row_spans)} tile rows are done."])
            try:
                made = _Run(reader, plan, options, journal, work.product, done).make(progress)
            except BaseException as error:
                if journal.finished(len(plan.row_spans)):
                    work.keep = True
                    error.add_note(
                        "What is finished is kept: the same command goes on from there, --fresh starts anew."
                    )
                raise
            receipt = {"preflight": preflight, **made}
            if scores is not None:
                receipt["scores"] = scores(work.product)
            with clock.time("report"):
                pictures = quicklooks(pair, work.product)
            receipt["timings"] = clock.seconds()
            write_report(work.product / REPORT, {"version": terradelta.__version__, **receipt}, pictures)
            write_receipt(receipt, work.product / RECEIPT)
    return ChangeMap(out, receipt)


def _plan(pair: Pair, predictor: Predictor, options: MapOptions) -> TilePlan:
    card = predictor.card
    tile = card.tile if options.tile is None else options.tile
    overlap = card.overlap if options.overlap is None else options.overlap
    plan = TilePlan(pair.grid.shape, tile, overlap, card.stride)
    _check_width(plan)
    return plan


def _job(reader: TileReader, plan: TilePlan, options: MapOptions) -> dict[str, Any]:
    """What the probabilities depend on, by the names that the user knows."""
    stats = [Path(path).stat() for path in reader.pair.paths]
    return {
        "inputs": [(path, stat.st_size, stat.st_mtime_ns) for path, stat in zip(reader.pair.paths, stats, strict=True)],
        "bands": list(reader.pair.bands),
        "area of interest": _plain(options)["aoi"],
        "grid": grid_record(reader.pair.grid),
        "tiles": [plan.tile, plan.overlap, plan.multiple],
        "model": reader.predictor.identity,
        "skip-damaged": options.skip_damaged,
        "version": terradelta.__version__,
    }


def _check_width(plan: TilePlan) -> None:
    """Raise InputError if the writers' rows cannot fit into this machine's memory."""
    needed = plan.shape[1] * COLUMN_BYTES
    if needed > memory_bytes():
        raise InputError(
            f"the common grid is {plan.shape[1]:,} pixels wide, for which {needed / 1e9:,.1f} GB are needed, but "
            f"this machine has {memory_bytes() / 1e9:,.1f} GB: give an area of interest"
        )


def memory_bytes() -> float:
    """This machine's memory; infinite where it cannot be asked."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):
        return math.inf


@dataclass(frozen=True)
class _Run:
    """One run: rows of tiles into the journal, and from there into the product, both at once."""

    reader: TileReader
    plan: TilePlan
    options: MapOptions
    journal: Journal
    folder: Path
    """Where the product is made."""
    done: set[int]
    """Rows of tiles that are in the journal already."""

    def make(self, progress: Callable[[int, int], None] | None) -> dict[str, Any]:
        """Make the rasters and polygons; gives the receipt's entries."""
        pair, card, clock = self.reader.pair, self.reader.predictor.card, self.reader.clock
        threshold = card.threshold if self.options.threshold is None else self.options.threshold
        scene = SceneRows(self.journal, self.plan)
        with (
            ProductWriter(
                self.folder,
                pair.grid,
                threshold=threshold,
                min_area_m2=self.options.min_area_m2,
                simplify_m=self.options.simplify_m,
                tags={
                    "SOFTWARE": f"terradelta {terradelta.__version__}",
                    "MODEL": card.name,
                    "THRESHOLD": f"{threshold:g}",
                },
                date=_newest(pair.paths),
                clock=clock,
            ) as writer,
            contextlib.closing(scene),
        ):
            self._write(scene, writer, progress)
            summary = writer.finish()
        used = {
            "threshold": threshold,
            "tile": self.plan.tile,
            "overlap": self.plan.overlap,
            "bands": list(pair.bands),
        }
        return {
            "created": now(),
            "inputs": _inputs(pair, clock),
            "grid": grid_record(pair.grid),
            "preflight_record": pair.preflight.to_dict(),
            "scaling": None if self.reader.scaling is None else asdict(self.reader.scaling),
            "model": model_record(card, type(self.reader.predictor).__name__),
            "options": _plain(self.options) | used,
            "result": summary.result(),
            "damaged": scene.notes,
            "resumed_tile_rows": len(self.done),
            "largest_polygons": summary.largest_polygons(pair.grid),
        }

    def _write(self, scene: SceneRows, writer: ProductWriter, progress: Callable[[int, int], None] | None) -> None:
        """Predict what is missing; a row of tiles is written while the next ones are made."""
        rows = len(self.plan.row_spans)
        tiles = len(self.done) * len(self.plan.col_spans)

        def on_tile() -> None:
            nonlocal tiles
            tiles += 1
            if progress is not None:
                progress(tiles, self.plan.count)

        def write(number: int) -> None:
            for first_row, piece in scene.pieces(number):
                writer.write(first_row, piece)

        missing = [number for number in range(rows) if number not in self.done]
        coming = predict_rows(self.reader, self.plan, self.journal, missing, on_tile)
        writing: deque[Future[None]] = deque()
        with ThreadPoolExecutor(1, thread_name_prefix="write") as background:
            try:
                for number in range(rows):
                    if number not in self.done:
                        next(coming)
                    writing.append(background.submit(write, number))
                    while writing and writing[0].done():
                        writing.popleft().result()
                for each in writing:
                    each.result()
            finally:
                coming.close()
                background.shutdown(wait=True, cancel_futures=True)


def _newest(paths: Sequence[str]) -> datetime.datetime:
    """When the newer input was last changed: equal inputs give equal products, whenever they are made."""
    return datetime.datetime.fromtimestamp(max(Path(path).stat().st_mtime for path in paths), datetime.UTC)


def _preflight(pair: Pair, scaling: Scaling | None, predictor: Predictor | Method) -> list[str]:
    lines = list(pair.preflight.lines())
    if scaling is not None:
        lines += scaling.lines(pair.bands)
    return lines if isinstance(predictor, Method) else lines + resolution_warnings(predictor.card, pair.grid)


def _inputs(pair: Pair, clock: StageClock) -> dict[str, Any]:
    with clock.time("hash"):
        return {
            date: {"path": path, "sha256": file_sha256(Path(path)), "bytes": Path(path).stat().st_size}
            for date, path in zip(("before", "after"), pair.paths, strict=True)
        }


def _plain(options: MapOptions) -> dict[str, Any]:
    """The options as JSON-ready values."""
    aoi = options.aoi
    area = list(aoi) if isinstance(aoi, tuple) else aoi and aoi.wkt
    return {"min_area_m2": options.min_area_m2, "simplify_m": options.simplify_m, "aoi": area}
