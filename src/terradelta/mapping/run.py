"""`map_change`: two rasters to a change map, in memory that does not grow with the scene's height."""

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import terradelta
from terradelta.errors import InputError
from terradelta.geo.cog import pack
from terradelta.geo.overlap import Aoi
from terradelta.geo.raster import Pair, open_pair
from terradelta.geo.scaling import Scaling, choose_scaling
from terradelta.geo.windows import TilePlan
from terradelta.mapping.products import CHANGE, POLYGONS, PROBABILITY, ProductWriter, Summary
from terradelta.mapping.quicklooks import quicklooks
from terradelta.mapping.receipt import file_sha256, grid_record, model_record, now, resolution_warnings, write_receipt
from terradelta.mapping.scene import probability_strips
from terradelta.mapping.stages import StageClock
from terradelta.mapping.staging import check_free, staged_folder
from terradelta.report.html import write_report
from terradelta.runtime.classical import Method
from terradelta.runtime.predictor import Predictor

__all__ = ["ChangeMap", "MapOptions", "map_change"]

RECEIPT, REPORT = "receipt.json", "report.html"
ROW_PIXEL_BYTES, COLUMN_BYTES = 6, 1024
"""Least memory of a row of tiles: float32 and the packed copy of each pixel; buffers of the writers for each column."""


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
    with (
        open_pair(before, after, bands=bands, wanted=wanted, aoi=options.aoi) as pair,
        staged_folder(out) as work,
    ):
        with clock.time("read"):
            scaling = None if isinstance(predictor, Method) else choose_scaling(pair, predictor.card.scale)
            preflight = _preflight(pair, scaling, predictor)
        if announce is not None:
            announce(preflight)
        if isinstance(predictor, Method):
            with clock.time("fit"):
                predictor = predictor.fit(pair, progress)
        card = predictor.card
        tile = card.tile if options.tile is None else options.tile
        overlap = card.overlap if options.overlap is None else options.overlap
        plan = TilePlan(pair.grid.shape, tile, overlap, card.stride)
        _check_width(plan)
        threshold = card.threshold if options.threshold is None else options.threshold
        with ProductWriter(
            work,
            pair.grid,
            threshold=threshold,
            min_area_m2=options.min_area_m2,
            simplify_m=options.simplify_m,
            tags={
                "SOFTWARE": f"terradelta {terradelta.__version__}",
                "MODEL": card.name,
                "THRESHOLD": f"{threshold:g}",
            },
            clock=clock,
        ) as writer:
            summary = _run(pair, predictor, plan, scaling, writer, clock, progress)
        used = {"threshold": threshold, "tile": tile, "overlap": overlap, "bands": list(pair.bands)}
        receipt = {
            "created": now(),
            "inputs": _inputs(pair, clock),
            "grid": grid_record(pair.grid),
            "preflight": preflight,
            "preflight_record": pair.preflight.to_dict(),
            "scaling": None if scaling is None else asdict(scaling),
            "model": model_record(card, type(predictor).__name__),
            "options": _plain(options) | used,
            "result": summary.result(),
            "largest_polygons": summary.largest_polygons(pair.grid),
            **({} if scores is None else {"scores": scores(work)}),
        }
        with clock.time("report"):
            pictures = quicklooks(pair, work)
        receipt["timings"] = clock.seconds()
        write_report(work / REPORT, {"version": terradelta.__version__, **receipt}, pictures)
        write_receipt(receipt, work / RECEIPT)
    return ChangeMap(out, receipt)


def _check_width(plan: TilePlan) -> None:
    """Raise InputError if a row of tiles cannot fit into this machine's memory."""
    height, width = plan.shape
    needed = width * (min(plan.tile, height) * ROW_PIXEL_BYTES + COLUMN_BYTES)
    if needed > memory_bytes():
        raise InputError(
            f"the common grid is {width:,} pixels wide; a row of tiles needs {needed / 1e9:,.1f} GB, but "
            f"this machine has {memory_bytes() / 1e9:,.1f} GB: use smaller tiles (--tile) or an area of interest"
        )


def memory_bytes() -> float:
    """This machine's memory; infinite where it cannot be asked."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):
        return math.inf


def _run(
    pair: Pair,
    predictor: Predictor,
    plan: TilePlan,
    scaling: Scaling | None,
    writer: ProductWriter,
    clock: StageClock,
    progress: Callable[[int, int], None] | None,
) -> Summary:
    done = 0

    def on_tile() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, plan.count)

    writing: Future[None] | None = None
    with ThreadPoolExecutor(1, thread_name_prefix="write") as background:
        for first_row, strip in probability_strips(pair, predictor, plan, scaling, clock, on_tile=on_tile):
            if writing is not None:
                writing.result()  # one strip is written while the next is made
            writing = background.submit(writer.write, first_row, pack(strip))
        if writing is not None:
            writing.result()
    return writer.finish()


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
