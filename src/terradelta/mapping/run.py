"""`map_change`: two rasters to a change map, in memory that hardly grows with the scene; a killed run is resumed."""

import contextlib
import dataclasses
import platform
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import terradelta
from terradelta.errors import NoDataError
from terradelta.files import write_whole
from terradelta.html.pictures import thumbnail
from terradelta.mapping.answer import pair_summary
from terradelta.mapping.damage import TolerantPair
from terradelta.mapping.evidence import MARGIN_PX, Evidence
from terradelta.mapping.journal import Journal
from terradelta.mapping.memory import trim
from terradelta.mapping.plan import MapOptions, ScenePlan, make_plan, work_ahead
from terradelta.mapping.project import project_of
from terradelta.mapping.provenance import (
    grid_record,
    input_record,
    model_record,
    paired_record,
    registration_record,
    scaling_record,
)
from terradelta.mapping.quicklooks import quicklooks
from terradelta.mapping.recent import RecentTiles
from terradelta.mapping.report import write_report
from terradelta.mapping.scene import SceneRows, TileReader, predict_rows, write_rows
from terradelta.mapping.staging import WorkFolder, check_free, work_folder
from terradelta.mapping.strangeness import domain_warnings
from terradelta.predict.choice import models
from terradelta.predict.classical import prepared
from terradelta.predict.predictor import Predictor
from terradelta.products.polygons import check_measurable
from terradelta.products.qgis_project import PROJECT
from terradelta.products.stac_item import write_item
from terradelta.products.vectors import check_vectors, write_vectors
from terradelta.products.writer import CHANGE, POLYGONS, PROBABILITY, ProductWriter, Rules, Summary
from terradelta.raster.overlap import aoi_record
from terradelta.raster.pair import Pair, open_pair
from terradelta.raster.scaling import Scaling, range_warnings, scaling_of
from terradelta.receipt import MapReceipt, write_receipt
from terradelta.receipt.map_record import DamageRecord, EvidenceRecord, InputsRecord, OptionsRecord
from terradelta.registration.align import Alignment, align
from terradelta.stages import StageClock

__all__ = ["ChangeMap", "MapOptions", "map_change"]

RECEIPT, REPORT, THUMBNAIL = "receipt.json", "report.html", "thumbnail.jpg"
THUMBNAIL_SIDE = 320
DEFAULTS = MapOptions()


@dataclass(frozen=True)
class ChangeMap:
    """A finished product folder.

    Example:
        >>> import terradelta as td
        >>> made = td.map_change("before.tif", "after.tif", "out", td.load_model("cva"))
        >>> made.change.name, made.receipt.result.polygons
        ('change.tif', 1)
    """

    folder: Path
    receipt: MapReceipt

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
    out: Path | str,
    predictor: Predictor,
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
        predictor: see `terradelta.predict.load.load_predictor`; a classical method, see
            `terradelta.predict.classical.load_method`, is fitted to the pair first.
        options: how.
        progress: called with (tiles done, tiles in all); it counts twice where a method is fitted first.
        announce: called with the sentences of the pre-flight report before the first tile: what the model finds, the
            warnings, and then the rest.
        scores: called with the folder of the finished rasters; gives metrics by name for the report, where the truth
            is known.

    Returns:
        The finished product.

    Raises:
        OutputExistsError: if ``out`` is there already.
        InputError: if the inputs or options cannot be used; the message says why.
        ModelError: if the model cannot be run.
        OutputError: if writing failed.

    Example:
        >>> import terradelta as td
        >>> options = td.MapOptions(min_area_m2=20)
        >>> made = td.map_change("before.tif", "after.tif", "out", td.load_model("irmad"), options)
        >>> made.receipt.result.changed_area_m2 > 20
        True
    """
    out = Path(out)
    check_free(out)
    clock = StageClock()
    bands = None if options.bands is None else list(options.bands)
    with open_pair(
        before, after, bands=bands, wanted=predictor.wanted, aoi=options.aoi, reading=options.reading
    ) as opened:
        opened.keep_stamps()  # before anything is read: what changes from now on is noticed
        check_measurable(opened.grid)
        check_vectors(options.vectors, opened.grid)
        ahead = work_ahead(opened, options)
        if announce is not None:
            announce([ahead])
        pair = TolerantPair.like(opened) if options.skip_damaged else opened
        if not options.anyway:
            predictor.check_resolution(pair.grid)
        with clock.time("register"):
            alignment = align(pair, options.coregister)
        with clock.time("read"):
            scaling = None if predictor.scale is None else scaling_of(pair, predictor.card)
            preflight = _preflight(pair, alignment, scaling, predictor)
        if announce is not None:
            announce(preflight)
        with contextlib.nullcontext() if predictor.fitted else clock.time("fit"):
            predictor = prepared(predictor, pair, progress)
        plan = make_plan(pair, predictor, scaling, options)
        reader = plan.reader(pair, predictor, clock)
        with work_folder(out, fresh=options.fresh) as work, _journal_of(work, plan) as journal:
            trim()
            run = _Run(reader, plan, options, journal, work, alignment)
            made = run.make(progress, announce)
            noisy = made.summary.warnings()
            preflight += noisy
            if announce is not None:
                announce(noisy)
            found = None if scores is None else scores(work.product)
            trim()
            with clock.time("report"):
                pictures = quicklooks(pair, work.product, weightless=predictor.card.weightless)
            receipt = run.receipt(made, tuple(preflight), found)
            write_report(work.product / REPORT, receipt, pictures)
            write_whole(work.product / THUMBNAIL, thumbnail(pictures, THUMBNAIL_SIDE))
            write_receipt(receipt, work.product / RECEIPT)
            if options.qgis:
                write_whole(work.product / PROJECT, project_of(pair, out))
            write_item(work.product, work.out, receipt, pair.grid.on_map, pair.sources)
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
class _Made:
    """What is known once the rasters and polygons are written."""

    summary: Summary
    notes: list[Any]
    """The journal's."""
    resumed: int
    """Rows of tiles that an earlier run had finished."""
    inputs: InputsRecord
    evidence: EvidenceRecord


@dataclass(frozen=True)
class _Run:
    """One run: predict the rows of tiles that the journal lacks, and write those that it has, both at once."""

    reader: TileReader
    plan: ScenePlan
    options: MapOptions
    journal: Journal
    work: WorkFolder
    """Where the product is made."""
    alignment: Alignment
    """How the dates lie on one another."""

    def make(
        self, progress: Callable[[int, int], None] | None, announce: Callable[[Sequence[str]], None] | None
    ) -> _Made:
        """Make the rasters and polygons."""
        rows = len(self.plan.tiles.row_spans)
        done = self.journal.finished(rows)
        if done and announce is not None:
            announce([f"Going on with an unfinished run: {len(done)} of {rows} tile rows are done."])
        # A damaged file gives other pixels in other windows, so that nothing may stand in for reading it.
        tolerant = isinstance(self.reader.pair, TolerantPair)
        recent = None if tolerant or self.options.workers else RecentTiles(self.reader.pair, self.work.scratch)
        reader = dataclasses.replace(self.reader, recent=recent)
        with contextlib.closing(self._rows(reader, done, progress)) as ready:
            summary, notes, evidence = self._write(recent, ready)
        self.plan.check_inputs()
        with self.reader.clock.time("hash"):
            inputs = InputsRecord(*map(input_record, self.reader.pair.sources, self.reader.pair.preflight.placements))
        return _Made(summary, notes, len(done), inputs, evidence)

    def receipt(self, made: _Made, preflight: tuple[str, ...], scores: dict[str, float] | None) -> MapReceipt:
        """The receipt of what was made."""
        pair, predictor, scaling = self.reader.pair, self.reader.predictor, self.plan.scaling
        return MapReceipt(
            python=platform.python_version(),
            preflight=preflight,
            inputs=made.inputs,
            grid=grid_record(pair.grid.on_map),
            pair=paired_record(pair.preflight),
            scaling=None if scaling is None else scaling_record(scaling),
            model=model_record(predictor.card, predictor.runtime),
            options=self._options(),
            result=made.summary.result(),
            largest_polygons=made.summary.largest_polygons(pair.grid),
            damaged=tuple(DamageRecord(**note) for note in made.notes),
            resumed_tile_rows=made.resumed,
            registration=registration_record(self.alignment),
            evidence=made.evidence,
            scores=scores,
            timings=self.reader.clock.seconds(),
        )

    def _rows(self, reader: TileReader, done: set[int], progress: Callable[[int, int], None] | None) -> Generator[int]:
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
            coming = predict_rows(reader, tiles, self.journal, missing, on_tile)
        else:
            coming = self.options.workers.rows(self.plan, reader.predictor, self.journal, missing, on_tile)
        try:
            for number in range(len(tiles.row_spans)):
                if number not in done:
                    next(coming)
                yield number
        finally:
            coming.close()

    def _write(self, recent: RecentTiles | None, ready: Iterator[int]) -> tuple[Summary, list[Any], EvidenceRecord]:
        """Make the products while rows get ready; gives the numbers, the journal's notes, and what polygons show."""
        pair, options = self.reader.pair, self.options
        tags = {
            "SOFTWARE": f"terradelta {terradelta.__version__}",
            "MODEL": self.reader.predictor.card.name,
            "THRESHOLD": f"{self._threshold:g}",
        }
        rules = Rules(self._threshold, *options.smallest(pair.grid), options.sieve_px, options.simplify_m)
        scene = SceneRows(self.journal, self.plan.tiles)
        evidence = Evidence(pair, self.alignment.mapped, pair.read if recent is None else recent.read, pair.grid.on_map)
        with (
            ProductWriter(
                self.work,
                evidence,
                grid=pair.grid.on_map,
                rules=rules,
                tags=tags,
                date=max(source.changed for source in pair.sources),
                clock=self.reader.clock,
            ) as writer,
            contextlib.closing(scene),
        ):

            def write(first_row: int, piece: NDArray[np.float32]) -> None:
                writer.write(first_row, piece)
                if recent is not None:
                    recent.forget(writer.traced - MARGIN_PX)

            write_rows(scene, write, ready)
            self.reader.predictor.release()  # its buffers make room for what finishing needs
            trim()
            summary = writer.finish()
            with self.reader.clock.time("polygons"):
                write_vectors(self.work.product / POLYGONS, self.options.vectors)
            return summary, scene.notes, evidence.summary()

    @property
    def _threshold(self) -> float:
        chosen = self.options.threshold
        return self.reader.predictor.card.threshold if chosen is None else chosen

    def _options(self) -> OptionsRecord:
        tiles, options = self.plan.tiles, self.options
        aoi = aoi_record(options.aoi)
        least_area, least_px = options.smallest(self.reader.pair.grid)
        return OptionsRecord(
            min_area_m2=least_area,
            min_px=least_px,
            sieve_px=options.sieve_px,
            simplify_m=options.simplify_m,
            aoi=tuple(aoi) if isinstance(aoi, list) else aoi,
            threshold=self._threshold,
            tile=tiles.tile if isinstance(tiles.tile, int) else tiles.sides,
            overlap=tiles.overlap,
            bands=self.reader.pair.bands,
            nodata=options.nodata,
            nodata_bands=options.nodata_bands,
        )


def _preflight(pair: Pair, alignment: Alignment, scaling: Scaling | None, predictor: Predictor) -> list[str]:
    purpose, *remarks = predictor.remarks(pair.grid, models)
    if predictor.fitted:
        remarks += range_warnings(pair, predictor.card) or domain_warnings(pair, predictor, scaling)
    found = [*alignment.lines(), *pair.preflight.lines(), *([] if scaling is None else scaling.lines(pair.bands))]
    warnings = [line for line in (*remarks, *found) if line.startswith("Warning")]
    facts = [line for line in (pair_summary(pair.preflight), *found, *remarks) if line not in warnings]
    return [purpose, *warnings, *facts]
