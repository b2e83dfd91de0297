"""`map_change`: two rasters to a change map, in memory that hardly grows with the scene; a killed run is resumed."""

import contextlib
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import terradelta
from terradelta.errors import InputError, NoDataError
from terradelta.geo.ground import ground_sampling_m
from terradelta.geo.polygons import check_measurable
from terradelta.geo.raster import Pair, open_pair
from terradelta.geo.scaling import Scaling, range_warnings, scaling_of
from terradelta.mapping.area import interval_from_scores
from terradelta.mapping.damage import TolerantPair
from terradelta.mapping.evidence import add_evidence
from terradelta.mapping.journal import Journal
from terradelta.mapping.memory import trim
from terradelta.mapping.plan import MapOptions, ScenePlan, make_plan, work_ahead
from terradelta.mapping.products import CHANGE, POLYGONS, PROBABILITY, ProductWriter, Summary
from terradelta.mapping.quicklooks import quicklooks
from terradelta.mapping.receipt import (
    grid_record,
    input_record,
    model_record,
    newest,
    now,
    resolution_warnings,
    write_receipt,
)
from terradelta.mapping.register import Alignment, align
from terradelta.mapping.scene import SKIPPED, SceneRows, TileReader, predict_rows, write_rows
from terradelta.mapping.stages import StageClock
from terradelta.mapping.staging import WorkFolder, check_free, work_folder
from terradelta.report.html import write_report
from terradelta.runtime.cascade import choose_cascade
from terradelta.runtime.classical import Method
from terradelta.runtime.predictor import Predictor

__all__ = ["ChangeMap", "MapOptions", "map_change"]

RECEIPT, REPORT = "receipt.json", "report.html"
DEFAULTS = MapOptions()


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
    before: Path | str,
    after: Path | str,
    out: Path,
    predictor: Predictor | Method,
    options: MapOptions = DEFAULTS,
    *,
    progress: Callable[[int, int], None] | None = None,
    announce: Callable[[Sequence[str]], None] | None = None,
    scores: Callable[[Path], dict[str, float]] | None = None,
) -> ChangeMap:
    """Map what changed between two rasters.

    Args:
        before: raster of the first date, a file or http URL; its grid is the product's.
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
    if options.cascade is not None and isinstance(predictor, Method):
        raise InputError(f"--cascade screens with a network; the method {predictor.name} has none: leave it out")
    clock = StageClock()
    wanted = None if isinstance(predictor, Method) else predictor.card.bands
    bands = None if options.bands is None else list(options.bands)
    with open_pair(before, after, bands=bands, wanted=wanted, aoi=options.aoi, reading=options.reading) as opened:
        opened.keep_stamps()  # before anything is read: what changes from now on is noticed
        check_measurable(opened.grid)
        ahead = work_ahead(opened, options)
        if announce is not None:
            announce([ahead])
        pair = TolerantPair.like(opened) if options.skip_damaged else opened
        with clock.time("register"):
            alignment = align(pair, options.coregister)
        with clock.time("read"):
            scaling = None if isinstance(predictor, Method) else scaling_of(pair, predictor.card)
            preflight = _preflight(pair, alignment, scaling, predictor)
            if options.cascade is not None and not isinstance(predictor, Method):
                preflight.append(choose_cascade(predictor.card, options.cascade).line())
        if announce is not None:
            announce(preflight)
        if isinstance(predictor, Method):
            with clock.time("fit"):
                predictor = predictor.fit(pair, progress)
        plan = make_plan(pair, predictor, scaling, options)
        reader = plan.reader(pair, predictor, clock)
        with work_folder(out, fresh=options.fresh) as work, _journal_of(work, plan) as journal:
            trim()
            made, noisy = _Run(reader, plan, options, journal, work.product).make(progress, announce)
            preflight += noisy
            if announce is not None:
                announce(noisy)
            predictor.rest()
            trim()
            receipt = {"preflight": preflight, **made, "registration": alignment.record()}
            with clock.time("evidence"):
                receipt["evidence"] = add_evidence(pair, work.product, alignment.mapped)
            if scores is not None:
                receipt["scores"] = scores(work.product)
            trim()
            with clock.time("report"):
                pictures = quicklooks(pair, work.product)
            receipt["timings"] = clock.seconds()
            write_report(work.product / REPORT, {"version": terradelta.__version__, **receipt}, pictures)
            write_receipt(receipt, work.product / RECEIPT)
    return ChangeMap(out, receipt)


@contextlib.contextmanager
def _journal_of(work: WorkFolder, plan: ScenePlan) -> Iterator[Journal]:
    """The journal of a run; what is finished stays if the block fails."""
    rows = len(plan.tiles.row_spans)
    work.keep = work.rows.exists()  # rows of another job, perhaps: not ours to discard
    journal = Journal(work.rows, plan.job)
    journal.tidy()
    try:
        yield journal
    except BaseException as error:
        # What has no valid pixel has none the next time.
        work.keep = bool(journal.finished(rows)) and not isinstance(error, NoDataError)
        if work.keep:
            error.add_note("What is finished is kept: the same command goes on from there, --fresh starts anew.")
        raise


@dataclass(frozen=True)
class _Run:
    """One run: predict the rows of tiles that the journal lacks, and write those that it has, both at once."""

    reader: TileReader
    plan: ScenePlan
    options: MapOptions
    journal: Journal
    folder: Path
    """Where the product is made."""

    def make(
        self, progress: Callable[[int, int], None] | None, announce: Callable[[Sequence[str]], None] | None
    ) -> tuple[dict[str, Any], list[str]]:
        """Make the rasters and polygons; gives the receipt's entries, and warnings about the result."""
        rows = len(self.plan.tiles.row_spans)
        done = self.journal.finished(rows)
        if done and announce is not None:
            announce([f"Going on with an unfinished run: {len(done)} of {rows} tile rows are done."])
        with contextlib.closing(self._rows(done, progress)) as ready:
            summary, notes = self._write(ready)
        self.plan.check_inputs()
        skipped = [note[SKIPPED] for note in notes if SKIPPED in note]
        record = self._record(summary) | {
            "damaged": [note for note in notes if SKIPPED not in note],
            "cascade": self._screened(skipped),
            "resumed_tile_rows": len(done),
        }
        return record, summary.warnings()

    def _screened(self, skipped: list[list[int]]) -> dict[str, Any] | None:
        """What screening was to keep, and which tiles ``[row, col, height, width]`` it left out."""
        cascade = self.plan.cascade
        if cascade is None:
            return None
        return {**cascade.record(), "tiles": self.plan.tiles.count, "skipped": len(skipped), "skipped_tiles": skipped}

    def _rows(self, done: set[int], progress: Callable[[int, int], None] | None) -> Generator[int]:
        """The numbers of the rows of tiles from the top, each once it is in the journal."""
        tiles = self.plan.tiles
        ticks = len(done) * len(tiles.col_spans)

        def on_tile() -> None:
            nonlocal ticks
            ticks += 1
            if progress is not None:
                progress(ticks, tiles.count)

        missing = [number for number in range(len(tiles.row_spans)) if number not in done]
        if self.options.workers is None:
            coming = predict_rows(self.reader, tiles, self.journal, missing, on_tile)
        else:
            coming = self.options.workers.rows(self.plan, self.reader.predictor, self.journal, missing, on_tile)
        try:
            for number in range(len(tiles.row_spans)):
                if number not in done:
                    next(coming)
                yield number
        finally:
            coming.close()

    def _write(self, ready: Iterator[int]) -> tuple[Summary, list[Any]]:
        """Make the products while rows get ready; gives the numbers, and the journal's notes."""
        pair, options = self.reader.pair, self.options
        tags = {
            "SOFTWARE": f"terradelta {terradelta.__version__}",
            "MODEL": self.reader.predictor.card.name,
            "THRESHOLD": f"{self._threshold:g}",
        }
        scene = SceneRows(self.journal, self.plan.tiles)
        with (
            ProductWriter(
                self.folder,
                pair.grid,
                threshold=self._threshold,
                min_area_m2=options.min_area_m2,
                simplify_m=options.simplify_m,
                tags=tags,
                date=newest(pair.sources),
                clock=self.reader.clock,
            ) as writer,
            contextlib.closing(scene),
        ):
            write_rows(scene, writer.write, ready)
            return writer.finish(), scene.notes

    @property
    def _threshold(self) -> float:
        chosen = self.options.threshold
        return self.reader.predictor.card.threshold if chosen is None else chosen

    def _interval(self, summary: Summary) -> dict[str, Any]:
        """The changed area with the interval that the model's scores allow, or what is needed for one."""
        changed, valid = summary.changed_px, summary.valid_px
        each = (
            summary.changed_area / changed if changed else float(ground_sampling_m(self.reader.pair.grid) or 1.0) ** 2
        )
        unchanged = (valid - changed) * each  # pixels of one scene are nearly equal; `terradelta area` is exact
        scores = self.reader.predictor.card.scores
        return {"changed_area_interval": interval_from_scores(scores, self._threshold, changed * each, unchanged)}

    def _record(self, summary: Summary) -> dict[str, Any]:
        """The receipt's entries."""
        pair, tiles, predictor = self.reader.pair, self.plan.tiles, self.reader.predictor
        used = {
            "threshold": self._threshold,
            "tile": tiles.tile if isinstance(tiles.tile, int) else list(tiles.sides),
            "overlap": tiles.overlap,
            "bands": list(pair.bands),
        }
        return {
            "created": now(),
            "inputs": _inputs(pair, self.reader.clock),
            "grid": grid_record(pair.grid),
            "preflight_record": pair.preflight.to_dict(),
            "scaling": None if self.plan.scaling is None else asdict(self.plan.scaling),
            "model": model_record(predictor.card, predictor.runtime),
            "options": self.options.record() | used,
            "result": summary.result() | self._interval(summary),
            "largest_polygons": summary.largest_polygons(pair.grid),
        }


def _preflight(pair: Pair, alignment: Alignment, scaling: Scaling | None, predictor: Predictor | Method) -> list[str]:
    lines = [*pair.preflight.lines(), *alignment.lines()]
    if scaling is not None:
        lines += scaling.lines(pair.bands)
    if isinstance(predictor, Method):
        return lines
    lines.append(f"The model {predictor.card.name} is run by {predictor.runtime}.")
    return [*lines, *resolution_warnings(predictor.card, pair.grid), *range_warnings(pair, predictor.card)]


def _inputs(pair: Pair, clock: StageClock) -> dict[str, Any]:
    with clock.time("hash"):
        return {date: input_record(source) for date, source in zip(("before", "after"), pair.sources, strict=True)}
