"""What a finished change map says of areas, with the interval that samples of it allow."""

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from terradelta.area.estimate import AreaEstimate, Estimate, allocate, estimate_areas
from terradelta.area.page import area_page
from terradelta.area.samples import Samples, draw_samples, read_samples, write_samples
from terradelta.area.zonal import Region, ZonalAreas, read_regions, zonal_areas
from terradelta.errors import InputError
from terradelta.files import whole_file
from terradelta.products.change import CLASSES, ChangeRaster
from terradelta.products.gpkg import write_layer
from terradelta.products.writer import CHANGE
from terradelta.receipt import AreaReceipt, finite, to_json
from terradelta.receipt.area_record import (
    AccuracyRecord,
    ClassAccuracies,
    ClassAreas,
    ClassPixels,
    ClassRecord,
    EstimateRecord,
    RegionRecord,
)

__all__ = ["AreaReport", "RegionArea", "area_receipt", "draw", "measure"]

_NEEDED = "For an interval, label samples of this map: draw them with --draw, give them back with --samples"
_FEW = 20


@dataclass(frozen=True)
class RegionArea:
    """Mapped and estimated change of one region, or of the whole map."""

    tally: ZonalAreas
    samples: int | None = None
    """Labelled samples in it."""
    changed: Estimate | None = None
    """Truly changed area, in m² or pixels; None where there is nothing to estimate it from."""
    note: str = ""
    """Why there is no estimate, or what to mind."""

    @property
    def mapped(self) -> float:
        """Area mapped as changed, in m² or pixels."""
        return float(self.tally.areas[1])


@dataclass(frozen=True)
class AreaReport:
    """The areas of a map."""

    product: Path
    whole: RegionArea
    regions: tuple[RegionArea, ...]
    basis: str
    """What the estimates rest on, in a sentence; empty without any."""
    accuracy: AreaEstimate | None = None
    """Accuracies of the whole map; only from samples."""
    notes: tuple[str, ...] = ()
    shapes: tuple[Any, ...] = ()
    """The regions' polygons in the map's CRS."""
    crs: str | None = None
    """The map's CRS as WKT."""

    def rows(self) -> list[dict[str, Any]]:
        """One flat record for the whole map and for each region."""
        unit = "m2" if self.whole.tally.unit == "m" else "px"
        return [
            {
                "name": each.tally.name,
                f"mapped_changed_{unit}": each.mapped,
                f"mapped_unchanged_{unit}": float(each.tally.areas[0]),
                "no_data_px": each.tally.no_data_px,
                f"changed_{unit}": None if each.changed is None else each.changed.value,
                f"changed_low_{unit}": None if each.changed is None else each.changed.low,
                f"changed_high_{unit}": None if each.changed is None else each.changed.high,
                "samples": each.samples,
            }
            for each in (self.whole, *self.regions)
        ]

    def write(self, path: Path) -> None:
        """Write as ``.json``, ``.csv``, ``.html``, or, with regions, ``.gpkg`` (layer ``areas``).

        Raises:
            InputError: if the name ends otherwise, or a GeoPackage is wanted without regions.
            OutputError: if the file cannot be written.
        """
        kind = path.suffix.lower()
        with whole_file(path, failures=(RuntimeError,), keep_suffix=True) as temporary:
            if kind == ".gpkg":
                self._write_gpkg(temporary)
            else:
                temporary.write_text(self._text(kind, path), encoding="utf-8")

    def _text(self, kind: str, path: Path) -> str:
        if kind == ".json":
            return to_json(area_receipt(self))
        if kind == ".html":
            return area_page(area_receipt(self))
        if kind != ".csv":
            raise InputError(f"{path}: areas are written as .json, .csv, .html or .gpkg; give such a name")
        rows, stream = self.rows(), io.StringIO()
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return stream.getvalue()

    def _write_gpkg(self, path: Path) -> None:
        if not self.shapes:
            raise InputError("a GeoPackage holds one polygon a region; give --regions, or write .json, .csv or .html")
        rows = self.rows()[1:]
        columns = {
            name: np.array(
                [np.nan if row[name] is None else row[name] for row in rows], object if name == "name" else float
            )
            for name in rows[0]
        }
        write_layer(path, "areas", "Unknown", np.array(self.shapes, object), columns, self.crs)


def measure(product: Path, *, samples: Path | None = None, regions: Path | None = None) -> AreaReport:
    """Areas of a finished change map.

    Args:
        product: the folder that `map` made.
        samples: labelled samples, see `terradelta.area.samples.read_samples`.
        regions: polygons, see `terradelta.area.zonal.read_regions`.

    Raises:
        InputError: if a file cannot be used.
    """
    with ChangeRaster(product / CHANGE) as change:
        areas = [] if regions is None else read_regions(regions, change.grid)
        found = zonal_areas(change, areas)
        labelled = None if samples is None else read_samples(samples, change)
        t = change.grid.transform
        shapes = [
            shapely.transform(each.area.area, lambda p: p @ [[t.a, t.d], [t.b, t.e]] + (t.c, t.f)) for each in areas
        ]
        crs = None if change.grid.crs is None else change.grid.crs.to_wkt()
    basis, accuracy, notes = "", None, []
    if labelled is not None:
        basis = f"{len(labelled.rows)} labelled samples, random within each class of the map (Olofsson et al. 2014)."
        accuracy = estimate_areas(labelled.counts(), found[0].areas)
        notes += list(labelled.notes)
        whole, parts = (
            _sampled(found[0], labelled, None),
            [_sampled(each, labelled, region) for each, region in zip(found[1:], areas, strict=True)],
        )
    else:
        whole, *parts = (RegionArea(each, note=f"{_NEEDED}.") for each in found)
    return AreaReport(product, whole, tuple(parts), basis, accuracy, tuple(notes), tuple(shapes), crs)


def area_receipt(found: AreaReport) -> AreaReceipt:
    """The areas of a map as a receipt."""
    return AreaReceipt(
        map=found.product.name,
        unit=found.whole.tally.unit,
        basis=found.basis or None,
        whole_map=_region_record(found.whole),
        regions=tuple(map(_region_record, found.regions)),
        accuracy=None if found.accuracy is None else _accuracy_record(found.accuracy),
        notes=found.notes,
    )


def draw(product: Path, count: int, out: Path, seed: int = 0) -> NDArray[np.int64]:
    """Draw samples to be labelled, see `terradelta.area.samples`; gives how many of each class.

    Each class gets 50, or an equal share of fewer; the rest is dealt by area.

    Raises:
        InputError: if there are too few samples or pixels.
        OutputError: if the file cannot be written.
    """
    with ChangeRaster(product / CHANGE) as change:
        found = zonal_areas(change)[0]
        counts = np.minimum(allocate(found.areas, count), found.pixels)
        write_samples(out, draw_samples(change, counts.tolist(), seed), change.grid)
    return counts


def _estimate(estimate: Estimate) -> EstimateRecord:
    return EstimateRecord(estimate.value, estimate.error, estimate.low, estimate.high)


def _region_record(region: RegionArea) -> RegionRecord:
    found, changed = region.tally, region.changed
    areas = ClassAreas(*map(finite, found.areas.tolist()))
    return RegionRecord(
        name=found.name,
        pixels=ClassPixels(*found.pixels.tolist()),
        area_m2=areas if found.unit == "m" else None,
        area_px=areas if found.unit == "px" else None,
        no_data_px=found.no_data_px,
        samples=region.samples,
        changed_area=None if changed is None or not math.isfinite(changed.value) else _estimate(changed),
        note=region.note or None,
    )


def _accuracy_record(found: AreaEstimate) -> AccuracyRecord:
    unchanged, changed = (
        ClassRecord(float(mapped), *map(_estimate, estimates))
        for mapped, *estimates in zip(found.areas, found.area, found.users, found.producers, strict=True)
    )
    return AccuracyRecord(
        ClassAccuracies(unchanged, changed),
        _estimate(found.overall),
        tuple(map(tuple, found.counts.tolist())),
        tuple(map(tuple, found.proportions.tolist())),
    )


def _sampled(found: ZonalAreas, samples: Samples, region: Region | None) -> RegionArea:
    inside = None
    if region is not None:
        points = shapely.points(samples.cols + 0.5, samples.rows + 0.5)
        inside = shapely.intersects(region.area.area, points)
    counts = samples.counts(inside)
    number = int(counts.sum())
    lacking = [CLASSES[i] for i in range(2) if found.areas[i] > 0 and counts[i].sum() < 2]
    if lacking or not found.areas.sum() > 0:
        why = f"fewer than two samples where it is mapped as {' and '.join(lacking)}" if lacking else "no data here"
        return RegionArea(found, number, None, f"No estimate: {why}.")
    few = min(counts[i].sum() for i in range(2) if found.areas[i] > 0) < _FEW
    note = f"A class has fewer than {_FEW} samples: the interval is rough." if few else ""
    return RegionArea(found, number, estimate_areas(counts, found.areas).area[1], note)
