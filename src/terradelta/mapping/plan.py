"""What a run is to map and how: options, and a plan that any process can work on."""

import contextlib
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

import terradelta
from terradelta.card import ModelCard
from terradelta.errors import InputError, RasterError
from terradelta.geo.grid import Grid
from terradelta.geo.shift import ShiftField
from terradelta.geo.windows import TilePlan, fit_tiles
from terradelta.machine import total_memory
from terradelta.mapping.damage import TolerantPair
from terradelta.mapping.journal import Journal
from terradelta.mapping.provenance import field_record, grid_record
from terradelta.mapping.scene import TileReader
from terradelta.predict.predictor import Predictor
from terradelta.products.vectors import parse_vectors
from terradelta.raster.identity import input_stamp
from terradelta.raster.nodata import NODATA_BANDS, NodataBands, parse_nodata
from terradelta.raster.overlap import Aoi, aoi_record
from terradelta.raster.pair import Pair, Reading, open_pair
from terradelta.raster.scaling import Scaling
from terradelta.raster.source import Source
from terradelta.receipt import plain
from terradelta.stages import StageClock

__all__ = ["MapOptions", "ScenePlan", "Workers", "make_plan", "work_ahead"]

MOST_PX = 10_000_000_000
"""Pixels of a scene, beyond which a run has to be asked for twice: a wrong size is more likely than such a scene."""
_LEAST_M2, _LEAST_PX = 10.0, 4
COLUMN_BYTES = 2048
"""Memory that the writers need for each column of the scene."""


class Workers(Protocol):
    """Other processes that map."""

    def rows(
        self,
        plan: "ScenePlan",
        predictor: Predictor,
        journal: Journal,
        numbers: Sequence[int],
        on_tile: Callable[[], None],
    ) -> Generator[int]:
        """Predict rows of tiles and give their numbers in the given order, each once it is in the journal."""

    def count(self) -> int:
        """How many processes there are at present."""

    def starmap(
        self,
        function: Callable[..., Any],
        predictor: Predictor,
        out: Path,
        arguments: Sequence[tuple[Any, ...]],
    ) -> Generator[Any]:
        """Call ``function(predictor, *arguments[i])`` in the processes, which all see the folder ``out``, in order."""


@dataclass(frozen=True)
class MapOptions:
    """How to make a change map; the defaults are those of the model's card.

    Example:
        >>> import terradelta as td
        >>> td.MapOptions(threshold=0.9).threshold
        0.9
    """

    bands: tuple[str | int, ...] | None = None
    """Bands by name or number from 1, in the model's order; None: the model's names, else the first ones."""
    aoi: Aoi | None = None
    """Area of interest: (west, south, east, north) or a shapely polygon in degrees, or an `Area`."""
    threshold: float | None = None
    """Probability in (0, 1] from which a pixel counts as changed."""
    min_area_m2: float | None = None
    """Smaller polygons are left out of the GeoPackage; pixels for images without georeference. None: those of fewer
    than 4 pixels or, on the ground, of less than 10 m²."""
    sieve_px: int = 0
    """Groups of fewer changed pixels that share edges become unchanged, before polygons are made; 0: none."""
    simplify_m: float = 0.0
    """Tolerance for simpler outlines, metres (pixels without georeference); 0: outlines follow the pixels."""
    tile: int | None = None
    """Side of a tile, pixels; None: tiles that divide the scene evenly, with about the pixels that the card says."""
    overlap: int | None = None
    """Pixels that neighbouring tiles share."""
    coregister: bool = False
    """Move the second date by the measured shift."""
    anyway: bool = False
    """Use a model although the pixels differ by more than a factor of 4 from those that it was trained on."""
    allow_outside: bool = False
    """Whether a VRT may name files outside its folder, and URLs."""
    values: str = "auto"
    """What stored values mean, see `terradelta.raster.values.parse_values`."""
    nodata: str = "auto"
    """Which values are no data, see `terradelta.raster.nodata.parse_nodata`."""
    nodata_bands: NodataBands = "auto"
    """Whether a nodata value must stand in ``all`` bands or in ``any``; ``auto``: in all where it could be measured."""
    skip_damaged: bool = False
    """Count pixels that cannot be read as no data, and record them, instead of ending the run."""
    yes: bool = False
    """Map scenes of more than `MOST_PX` pixels too."""
    qgis: bool = False
    """Write a QGIS project of images and products."""
    fresh: bool = False
    """Discard what an unfinished run left, instead of going on from there."""
    vectors: tuple[str, ...] = ("gpkg",)
    """Formats of the polygons, see `terradelta.products.vectors`; ``gpkg`` is always written."""

    workers: Workers | None = None
    """Who predicts, e.g. a `terradelta.mapping.cluster.Cluster`; None: this process."""

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise InputError(f"threshold is {self.threshold}; it must be above 0 and at most 1")
        parse_nodata(self.nodata)
        parse_vectors(",".join(self.vectors))
        if self.nodata_bands not in NODATA_BANDS:
            raise InputError(f"--nodata-bands is {self.nodata_bands!r}; it must be one of {', '.join(NODATA_BANDS)}")

    def smallest(self, grid: Grid) -> tuple[float, int]:
        """Area (m², or pixels without a CRS) and number of pixels below which a polygon is left out."""
        if self.min_area_m2 is not None:
            return self.min_area_m2, 0
        return (0.0 if grid.crs is None else _LEAST_M2), _LEAST_PX

    @property
    def reading(self) -> Reading:
        """How the files are read."""
        return Reading(
            allow_outside=self.allow_outside, values=self.values, nodata=self.nodata, nodata_bands=self.nodata_bands
        )


@dataclass(frozen=True)
class ScenePlan:
    """Which tiles of which pair to predict: a value that can be pickled, so any process can make any row of tiles.

    The rows depend on nothing else but the predictor, whose identity is in ``job``.
    """

    sources: tuple[Source, Source]
    """The first and the second date's file."""
    bands: tuple[str | int, ...] | None
    """As `MapOptions.bands`."""
    wanted: tuple[str, ...] | None
    """The model's bands, see `open_pair`."""
    aoi: Aoi | None
    """As `MapOptions.aoi`."""
    reading: Reading
    """How the files are read, see `open_pair`."""
    scaling: Scaling | None
    """How the pair's raw values become the model's; None: they are."""
    skip_damaged: bool
    """As `MapOptions.skip_damaged`."""
    shift: ShiftField | None
    """The field that the second date is moved by; None: it is read where its georeference says."""
    tiles: TilePlan
    """Where the tiles lie on the pair's common grid."""
    job: dict[str, Any]
    """What the rows depend on, by the names that the user knows; the journal keeps it."""

    def reader(self, pair: Pair, predictor: Predictor, clock: StageClock) -> TileReader:
        """A reader of the tiles from the pair that the plan was made for."""
        return TileReader(pair, predictor, self.scaling, clock)

    def check_inputs(self) -> None:
        """Raise RasterError if a file has vanished, or is not the one that the plan was made for."""
        for source, known in zip(self.sources, self.job["inputs"], strict=True):
            if input_stamp(source, ask=True) != known:
                raise RasterError(
                    f"{source.path} has changed since the run began; the result would be a mixture: "
                    "start afresh with --fresh"
                )

    @contextlib.contextmanager
    def open(self, predictor: Predictor, clock: StageClock) -> Iterator[TileReader]:
        """Open the pair again, in another process or on another machine that sees the same files.

        Raises:
            InputError: if a file cannot be used, or is not the one that the plan was made for.
        """
        bands = None if self.bands is None else list(self.bands)
        before, after = (source.address for source in self.sources)
        with open_pair(before, after, bands=bands, wanted=self.wanted, aoi=self.aoi, reading=self.reading) as pair:
            self.check_inputs()
            if self.shift is not None:
                pair.coregister(self.shift)
            yield self.reader(TolerantPair.like(pair) if self.skip_damaged else pair, predictor, clock)


def make_plan(pair: Pair, predictor: Predictor, scaling: Scaling | None, options: MapOptions) -> ScenePlan:
    """The plan of a run.

    Raises:
        ShapeError: if tile and overlap do not fit each other or the model's stride.
        InputError: if the scene is too wide for this machine's memory.
    """
    card = predictor.card
    tiles = _tiles(pair.grid.shape, card, options)
    _check_width(tiles)
    job = {
        "inputs": pair.stamps,
        "bands": list(pair.bands),
        "nodata": [options.nodata, options.nodata_bands],
        "values": [source.conversion and [list(each) for each in source.conversion] for source in pair.sources],
        "area of interest": aoi_record(options.aoi),
        "grid": plain(grid_record(pair.grid)),
        "tiles": [*tiles.sides, tiles.overlap, tiles.multiple],
        "model": predictor.identity,
        "skip-damaged": options.skip_damaged,
        "coregister": None if pair.shift is None else plain(field_record(pair.shift)),
        "version": terradelta.__version__,
    }
    return ScenePlan(
        pair.sources,
        options.bands,
        card.bands,
        options.aoi,
        options.reading,
        scaling,
        options.skip_damaged,
        pair.shift,
        tiles,
        job,
    )


def work_ahead(pair: Pair, options: MapOptions) -> str:
    """How much is to be read, in a sentence; from the headers alone.

    Raises:
        InputError: if it is more than a slip of the pen would be, and not asked for.
    """
    height, width = pair.grid.shape
    depth = sum(np.dtype(dtype).itemsize for dtype in pair.dtypes) * pair.count
    size = f"{height:,} x {width:,} pixels, {height * width * depth / 1e6:,.1f} MB uncompressed in both dates"
    if height * width > MOST_PX and not options.yes:
        raise InputError(
            f"the common grid has {size}, more than {MOST_PX:,} pixels: check the images' sizes, give an area of "
            "interest (--aoi), or add --yes"
        )
    return f"To be mapped: {size}."


def _tiles(shape: tuple[int, int], card: ModelCard, options: MapOptions) -> TilePlan:
    """The tiles of a scene: they depend on nothing but its size, the card and the options."""
    overlap = card.overlap if options.overlap is None else options.overlap
    if options.tile is not None:
        return TilePlan(shape, options.tile, overlap, card.stride)
    if 2 * overlap > card.tile:
        return TilePlan(shape, card.tile, overlap, card.stride)  # which says what is wrong
    sides = fit_tiles(shape, card.tile**2, overlap, card.stride)
    return TilePlan(shape, sides, overlap, card.stride)


def _check_width(plan: TilePlan) -> None:
    """Raise InputError if the writers' rows cannot fit into this machine's memory."""
    needed, memory = plan.shape[1] * COLUMN_BYTES, total_memory()
    if memory is not None and needed > memory:
        raise InputError(
            f"the common grid is {plan.shape[1]:,} pixels wide, for which {needed / 1e9:,.1f} GB are needed, but "
            f"this machine has {memory / 1e9:,.1f} GB: give an area of interest"
        )
