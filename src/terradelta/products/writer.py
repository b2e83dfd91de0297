"""The files of a change map, written strip by strip."""

import bisect
import datetime
import heapq
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from pyproj import Transformer

from terradelta.errors import NoDataError
from terradelta.files import write_whole
from terradelta.geo.grid import Grid, Tile
from terradelta.geo.metres import lonlat_transformer
from terradelta.products.cog import CHANGE_COLOURS, change_writer, probability_writer, quantise
from terradelta.products.evidence_style import PROBABILITY_STYLE, STYLE
from terradelta.products.gpkg import GpkgWriter
from terradelta.products.polygons import ChangePolygon, PolygonStream
from terradelta.products.sieve import Sieve
from terradelta.receipt import finite
from terradelta.receipt.map_record import MapResult, PolygonRecord
from terradelta.stages import StageClock

__all__ = ["CHANGE", "POLYGONS", "PROBABILITY", "ProductWriter", "Rules", "Summary"]

PROBABILITY, CHANGE, POLYGONS = "probability.tif", "change.tif", "change.gpkg"
STYLES = {"change.qml": STYLE, "probability.qml": PROBABILITY_STYLE}
"""For QGIS, by their file."""
PALETTE = f"{CHANGE}.aux.xml"
"""Where GDAL looks for what a file cannot hold: a TIFF's palette has no opacity, and unchanged ground is to be seen."""
NO_DATA = 255
LARGEST = 12
_TILE = 1024
NOISY_PX, NOISY_POLYGONS = 3, 200
"""A median polygon of so many pixels, of so many polygons or more, is noise."""


class Work(Protocol):
    """Where to write, and where temporary files go."""

    @property
    def product(self) -> Path:
        """Folder of the product."""

    @property
    def scratch(self) -> Path:
        """Folder of temporary files, beside it."""


class Measures(Protocol):
    """What is measured in each polygon."""

    fields: dict[str, type]
    """Names and types."""

    def values(self, tile: Tile, mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
        """What is to be summed over polygons: ``(N,)`` each, at the N pixels of the tile where ``mask`` is true."""

    def of(self, polygon: ChangePolygon) -> list[Any]:
        """The values of `fields`."""


@dataclass(frozen=True)
class Rules:
    """What counts as a change; areas and lengths are in pixels where there is no CRS."""

    threshold: float
    """Probability from which a pixel counts as changed."""
    min_area_m2: float = 0.0
    """Smaller polygons are left out of the GeoPackage."""
    min_px: int = 0
    """Polygons of fewer pixels, too."""
    sieve_px: int = 0
    """Groups of fewer changed pixels become unchanged; 0: none."""
    simplify_m: float = 0.0
    """Tolerance for the outlines."""


@dataclass
class Summary:
    """What a change map says in numbers."""

    unit: Literal["m", "px"]
    """``m``, or ``px`` for images without georeference."""
    valid_px: int = 0
    changed_px: int = 0
    changed_area: float = 0.0
    """Area of all changed pixels, in m² on the ellipsoid or in pixels; small polygons included."""
    sieved_px: int = 0
    """Pixels that the sieve made unchanged."""
    polygons: int = 0
    """Polygons that were written."""
    small_polygons: int = 0
    """Polygons below the smallest area, which are in the rasters only."""
    small_area: float = 0.0
    largest: list[tuple[float, int, ChangePolygon]] = field(default_factory=list)
    """A heap of (area, id, polygon)."""
    median_px: int = 0
    """Pixels of the median polygon, small ones included; 0 without polygons."""

    def warnings(self) -> list[str]:
        """A sentence if the polygons look like noise."""
        count = self.polygons + self.small_polygons
        if count < NOISY_POLYGONS or self.median_px > NOISY_PX:
            return []
        return [
            f"Warning: half of the {count:,} changes have {self.median_px} pixels or fewer: this looks like noise. "
            "Patches of few pixels are left out with --sieve N; a higher threshold or another method may help."
        ]

    def result(self) -> MapResult:
        """The ``result`` of the receipt."""
        metres, changed, small = self.unit == "m", finite(self.changed_area), finite(self.small_area)
        held = finite(self.changed_area - self.small_area)
        return MapResult(
            unit=self.unit,
            valid_px=self.valid_px,
            changed_px=self.changed_px,
            changed_fraction=self.changed_px / self.valid_px if self.valid_px else 0.0,
            changed_area_m2=changed if metres else None,
            changed_area_px=None if metres else changed,
            sieved_px=self.sieved_px,
            polygons=self.polygons,
            polygons_area_m2=held if metres else None,
            polygons_area_px=None if metres else held,
            small_polygons=self.small_polygons,
            small_area_m2=small if metres else None,
            small_area_px=None if metres else small,
        )

    def largest_polygons(self, grid: Grid) -> tuple[PolygonRecord, ...]:
        """The largest polygons, largest first; ids are those of the GeoPackage."""
        to_lonlat = None if grid.crs is None else lonlat_transformer(grid.crs)
        return tuple(_record(number, polygon, to_lonlat) for _, number, polygon in sorted(self.largest, reverse=True))


def _palette() -> str:
    """`CHANGE_COLOURS` with all but change transparent, as GDAL's persistent auxiliary metadata."""
    entries = "".join(
        '<Entry c1="{}" c2="{}" c3="{}" c4="{}"/>\n'.format(*CHANGE_COLOURS.get(value, (0, 0, 0)), 255 * (value == 1))
        for value in range(NO_DATA + 1)
    )
    band = f"<ColorInterp>Palette</ColorInterp>\n<ColorTable>\n{entries}</ColorTable>"
    return f'<PAMDataset>\n<PAMRasterBand band="1">\n{band}\n</PAMRasterBand>\n</PAMDataset>\n'


_TRANSPARENT = _palette()


class ProductWriter:
    """Write ``probability.tif``, ``change.tif`` and ``change.gpkg`` for a run; leave nothing if the block fails.

    Rows go into the rasters at once. Polygons are made of tiles of 1024 pixels, when all rows of a tile are there, and
    written when they have ended, with what both images show in them.

    Args:
        work: where to write, and where temporary files go.
        evidence: what is measured in each polygon.
        grid: place and size of the scene in the products.
        rules: what counts as a change.
        tags: metadata of the rasters.
        date: what the GeoPackage says about when it was made.
        clock: gets the busy seconds of ``rasters``, ``polygons`` and ``evidence``.

    Raises:
        InputError: if a size is negative.
        OutputError: if writing fails.
    """

    def __init__(
        self,
        work: Work,
        evidence: Measures,
        *,
        grid: Grid,
        rules: Rules,
        tags: dict[str, str],
        date: datetime.datetime,
        clock: StageClock,
    ) -> None:
        self._threshold, self._clock, self._evidence, self._shape = rules.threshold, clock, evidence, grid.shape
        self._pieces: list[int] = []
        self._traced = self._rows = 0
        self._waiting: list[ChangePolygon] = []
        self._stream = PolygonStream(
            grid, min_area_m2=rules.min_area_m2, min_px=rules.min_px, simplify_m=rules.simplify_m
        )
        self._sieve = Sieve(rules.sieve_px)
        self.summary = Summary("px" if grid.crs is None else "m")
        self._files = ExitStack()
        self._folder = folder = work.product
        with ExitStack() as opened:
            self._probability = opened.enter_context(probability_writer(folder / PROBABILITY, grid, tags, work.scratch))
            self._change = opened.enter_context(change_writer(folder / CHANGE, grid, tags, work.scratch))
            self._polygons = opened.enter_context(
                GpkgWriter(folder / POLYGONS, grid, date, work.scratch, evidence.fields)
            )
            self._files = opened.pop_all()

    def write(self, first_row: int, probability: NDArray[np.float32]) -> None:
        """Write the next rows: ``(rows, width)``, in [0, 1], NaN where there is no data.

        Raises:
            OutputError: if writing fails.
        """
        with self._clock.time("rasters"):
            probability = quantise(probability)  # what is stored is what is compared with the threshold
            self._probability.write(first_row, probability)
            rows = self._sieve.push(probability >= np.float32(self._threshold), probability)  # False for NaN
        self._write_changed(*rows)

    def _write_changed(self, changed: NDArray[np.bool_], probability: NDArray[np.float32]) -> None:
        """Write the next rows of change: ``(rows, width)``, any number of them; make the polygons that they end."""
        if not len(changed):
            return
        with self._clock.time("rasters"):
            valid = np.isfinite(probability)
            self._change.write(self._rows, np.where(valid, changed.astype(np.uint8), np.uint8(NO_DATA)))
        self.summary.valid_px += int(valid.sum())
        self.summary.changed_px += int(changed.sum())
        self._pieces.append(self._rows)
        self._rows += len(changed)
        while self._traced < self._shape[0] and self._bottom <= self._rows:
            self._trace()

    @property
    def traced(self) -> int:
        """The row below the polygons made so far; what lies above is not measured again."""
        return self._traced

    @property
    def _bottom(self) -> int:
        """The row below the next row of tiles."""
        return min(self._traced + _TILE, self._shape[0])

    def _trace(self) -> None:
        """Make polygons of the next row of tiles."""
        bottom = self._bottom
        for col in range(0, self._shape[1], _TILE):
            tile = Tile(self._traced, col, bottom - self._traced, min(_TILE, self._shape[1] - col))
            mask, values = self._change.read(tile) == 1, []
            if mask.any():
                with self._clock.time("evidence"):
                    values = self._evidence.values(tile, mask)
            with self._clock.time("polygons"):
                self._waiting += self._stream.push(tile, mask, self._probability.read(tile), values)
        self._traced = bottom
        with self._clock.time("polygons"):
            self._add()

    def finish(self) -> Summary:
        """Close the files and give the numbers.

        Raises:
            NoDataError: if not one pixel of the scene was valid.
            OutputError: if writing fails.
        """
        summary, stream = self.summary, self._stream
        rows = self._sieve.finish()
        if rows is not None:
            self._write_changed(*rows)
        summary.sieved_px = self._sieve.removed
        if not summary.valid_px:
            raise NoDataError(
                "no pixel is valid on both dates; check the nodata values and masks of both files, "
                "and the area of interest"
            )
        summary.small_polygons, summary.small_area = stream.dropped, stream.dropped_area
        summary.changed_area += stream.dropped_area
        if stream.sizes.any():
            summary.median_px = int(np.searchsorted(np.cumsum(stream.sizes), stream.sizes.sum() / 2))
        with self._clock.time("rasters"):
            self._files.close()  # puts all three files in place
            for name, style in STYLES.items():
                write_whole(self._folder / name, style)
            write_whole(self._folder / PALETTE, _TRANSPARENT)
        return summary

    def _add(self) -> None:
        """Write polygons, in the order of the pieces of the scene that they ended before, and of their first pixels."""
        done = self._traced == self._shape[0]
        starts = [*self._pieces, self._shape[0]] if done else self._pieces
        known = starts[bisect.bisect_right(starts, self._traced) - 1] + done  # above it, no polygon is still to come
        ended = [
            ((bisect.bisect_right(starts, each.last_row + 1), each.first), each)
            for each in self._waiting
            if each.last_row + 1 < known
        ]
        self._waiting = [each for each in self._waiting if each.last_row + 1 >= known]
        ended.sort(key=lambda each: each[0])
        polygons = [each for _, each in ended]
        self._polygons.add(polygons, [self._evidence.of(each) for each in polygons])
        for polygon in polygons:
            self.summary.polygons += 1
            self.summary.changed_area += polygon.area
            heapq.heappush(self.summary.largest, (polygon.area, self.summary.polygons, polygon))
            if len(self.summary.largest) > LARGEST:
                heapq.heappop(self.summary.largest)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._files.__exit__(kind, error, trace)


def _record(number: int, polygon: ChangePolygon, to_lonlat: Transformer | None) -> PolygonRecord:
    point, metres = polygon.geometry.representative_point(), polygon.unit == "m"
    area, perimeter = finite(polygon.area), finite(polygon.perimeter)
    lon, lat = to_lonlat.transform(point.x, point.y) if metres and to_lonlat is not None else (None, None)
    in_crs = metres and to_lonlat is None
    return PolygonRecord(
        id=number,
        area_m2=area if metres else None,
        area_px=None if metres else area,
        perimeter_m=perimeter if metres else None,
        perimeter_px=None if metres else perimeter,
        mean_probability=polygon.mean_probability,
        max_probability=polygon.max_probability,
        lon=finite(lon),
        lat=finite(lat),
        x=point.x if in_crs else None,
        y=point.y if in_crs else None,
        row=None if metres else -point.y,
        col=None if metres else point.x,
    )
