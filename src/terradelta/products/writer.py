"""The files of a change map, written strip by strip."""

import datetime
import heapq
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pyproj import Transformer

from terradelta.errors import NoDataError
from terradelta.geo.grid import Grid
from terradelta.geo.metres import lonlat_transformer
from terradelta.products.cog import change_writer, probability_writer, quantise
from terradelta.products.gpkg import GpkgWriter
from terradelta.products.polygons import ChangePolygon, PolygonStream
from terradelta.stages import StageClock

__all__ = ["CHANGE", "POLYGONS", "PROBABILITY", "ProductWriter", "Summary"]

PROBABILITY, CHANGE, POLYGONS = "probability.tif", "change.tif", "change.gpkg"
NO_DATA = 255
LARGEST = 12
NOISY_PX, NOISY_POLYGONS = 3, 200
"""A median polygon of so many pixels, of so many polygons or more, is noise."""


@dataclass
class Summary:
    """What a change map says in numbers."""

    unit: str
    """``m``, or ``px`` for images without georeference."""
    valid_px: int = 0
    changed_px: int = 0
    changed_area: float = 0.0
    """Area of all changed pixels, in m² on the ellipsoid or in pixels; small polygons included."""
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

    def result(self) -> dict[str, Any]:
        """The ``result`` object of the receipt."""
        area = "changed_area_m2" if self.unit == "m" else "changed_area_px"
        return {
            "unit": self.unit,
            "valid_px": self.valid_px,
            "changed_px": self.changed_px,
            "changed_fraction": self.changed_px / self.valid_px if self.valid_px else 0.0,
            area: self.changed_area,
            "polygons": self.polygons,
            "small_polygons": self.small_polygons,
            area.replace("changed", "small"): self.small_area,
        }

    def largest_polygons(self, grid: Grid) -> list[dict[str, Any]]:
        """The largest polygons, largest first; ids are those of the GeoPackage."""
        to_lonlat = None if grid.crs is None else lonlat_transformer(grid.crs)
        return [_row(number, polygon, to_lonlat) for _, number, polygon in sorted(self.largest, reverse=True)]


class ProductWriter:
    """Write ``probability.tif``, ``change.tif`` and ``change.gpkg`` into a folder; leave nothing if the block fails.

    Args:
        folder: where to write.
        grid: place and size of the scene.
        threshold: probability from which a pixel counts as changed.
        min_area_m2: polygons below it are left out of the GeoPackage (square pixels without a CRS).
        simplify_m: tolerance for the outlines, metres (pixels without a CRS).
        tags: metadata of the rasters.
        date: what the GeoPackage says about when it was made.
        clock: gets the busy seconds of ``rasters`` and ``polygons``.

    Raises:
        InputError: if a size is negative.
        OutputError: if writing fails.
    """

    def __init__(
        self,
        folder: Path,
        grid: Grid,
        *,
        threshold: float,
        min_area_m2: float,
        simplify_m: float,
        tags: dict[str, str],
        date: datetime.datetime,
        clock: StageClock,
    ) -> None:
        self._threshold, self._clock = threshold, clock
        self._stream = PolygonStream(grid, min_area_m2=min_area_m2, simplify_m=simplify_m)
        self.summary = Summary("px" if grid.crs is None else "m")
        self._files = ExitStack()
        with ExitStack() as opened:
            self._probability = opened.enter_context(probability_writer(folder / PROBABILITY, grid, tags))
            self._change = opened.enter_context(change_writer(folder / CHANGE, grid, tags))
            self._polygons = opened.enter_context(GpkgWriter(folder / POLYGONS, grid, date))
            self._files = opened.pop_all()

    def write(self, first_row: int, probability: NDArray[np.float32]) -> None:
        """Write the next rows: ``(rows, width)``, in [0, 1], NaN where there is no data.

        Raises:
            OutputError: if writing fails.
        """
        with self._clock.time("rasters"):
            probability = quantise(probability)  # what is stored is what is compared with the threshold
            valid = np.isfinite(probability)
            changed = probability >= np.float32(self._threshold)  # False for NaN
            self._probability.write(first_row, probability)
            self._change.write(first_row, np.where(valid, changed.astype(np.uint8), np.uint8(NO_DATA)))
        self.summary.valid_px += int(valid.sum())
        self.summary.changed_px += int(changed.sum())
        with self._clock.time("polygons"):
            self._add(self._stream.push(first_row, changed, probability))

    def finish(self) -> Summary:
        """Close the files and give the numbers.

        Raises:
            NoDataError: if not one pixel of the scene was valid.
            OutputError: if writing fails.
        """
        summary, stream = self.summary, self._stream
        if not summary.valid_px:
            raise NoDataError(
                "no pixel is valid on both dates; check the nodata values and masks of both files, "
                "and the area of interest"
            )
        with self._clock.time("polygons"):
            self._add(stream.finish())
            summary.small_polygons, summary.small_area = stream.dropped, stream.dropped_area
            summary.changed_area += stream.dropped_area
            if stream.sizes.any():
                summary.median_px = int(np.searchsorted(np.cumsum(stream.sizes), stream.sizes.sum() / 2))
        with self._clock.time("rasters"):
            self._files.close()  # puts all three files in place
        return summary

    def _add(self, polygons: list[ChangePolygon]) -> None:
        self._polygons.add(polygons)
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


def _row(number: int, polygon: ChangePolygon, to_lonlat: Transformer | None) -> dict[str, Any]:
    point = polygon.geometry.representative_point()
    unit = polygon.unit
    row: dict[str, Any] = {
        "id": number,
        f"area_{unit}2" if unit == "m" else "area_px": polygon.area,
        f"perimeter_{unit}": polygon.perimeter,
        "mean_probability": polygon.mean_probability,
        "max_probability": polygon.max_probability,
    }
    if unit == "px":
        return row | {"row": point.y, "col": point.x}
    if to_lonlat is None:
        return row | {"x": point.x, "y": point.y}
    lon, lat = to_lonlat.transform(point.x, point.y)
    return row | {"lon": lon, "lat": lat}
