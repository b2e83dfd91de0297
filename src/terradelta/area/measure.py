"""What a finished change map says of areas, with the interval that samples or scores allow."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

import terradelta
from terradelta.area.estimate import AreaEstimate, Estimate, allocate, area_from_images, estimate_areas
from terradelta.area.page import area_page
from terradelta.area.samples import Samples, draw_samples, read_samples, write_samples
from terradelta.area.zonal import Region, ZonalAreas, read_regions, zonal_areas
from terradelta.errors import InputError
from terradelta.files import whole_file
from terradelta.products.change import CLASSES, ChangeRaster
from terradelta.products.writer import CHANGE
from terradelta.raster.access import vector_name
from terradelta.strangers import read_json

__all__ = ["ASSUMPTION", "AreaReport", "RegionArea", "draw", "interval_from_scores", "measure"]

ASSUMPTION = (
    "It assumes that the map errs here as the model did on the labelled images; where ground, season or sensor differ, "
    "label samples of this map (terradelta area --draw)."
)
_NEEDED = (
    "For an interval, label samples of this map: draw them with --draw, give them back with --samples; or give a "
    "receipt of `terradelta evaluate` with --receipt"
)
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

    def record(self) -> dict[str, Any]:
        """JSON-ready."""
        estimate = None if self.changed is None else self.changed.to_dict()
        return {**self.tally.to_dict(), "samples": self.samples, "changed_area": estimate, "note": self.note or None}


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

    def record(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "version": terradelta.__version__,
            "map": self.product.name,
            "unit": self.whole.tally.unit,
            "basis": self.basis or None,
            "whole_map": self.whole.record(),
            "regions": [region.record() for region in self.regions],
            "accuracy": None if self.accuracy is None else self.accuracy.to_dict(CLASSES),
            "notes": list(self.notes),
        }

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
            return json.dumps(self.record(), indent=2) + "\n"
        if kind == ".html":
            return area_page(self.record())
        if kind != ".csv":
            raise InputError(f"{path}: areas are written as .json, .csv, .html or .gpkg; give such a name")
        rows, stream = self.rows(), io.StringIO()
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return stream.getvalue()

    def _write_gpkg(self, path: Path) -> None:
        import pyogrio.raw  # slow to import

        if not self.shapes:
            raise InputError("a GeoPackage holds one polygon a region; give --regions, or write .json, .csv or .html")
        rows = self.rows()[1:]
        columns = {
            name: np.array(
                [np.nan if row[name] is None else row[name] for row in rows], object if name == "name" else float
            )
            for name in rows[0]
        }
        with vector_name(path) as name:
            pyogrio.raw.write(
                name,
                geometry=shapely.to_wkb(np.array(self.shapes, object)),
                field_data=list(columns.values()),
                fields=list(columns),
                layer="areas",
                driver="GPKG",
                geometry_type="Unknown",
                crs=self.crs,
            )


def measure(
    product: Path, *, samples: Path | None = None, receipt: Path | None = None, regions: Path | None = None
) -> AreaReport:
    """Areas of a finished change map.

    Args:
        product: the folder that `map` made.
        samples: labelled samples, see `terradelta.area.samples.read_samples`.
        receipt: of `terradelta evaluate` with counts of each image; in place of samples.
        regions: polygons, see `terradelta.area.zonal.read_regions`.

    Raises:
        InputError: if a file cannot be used, or both ``samples`` and ``receipt`` are given.
    """
    if samples is not None and receipt is not None:
        raise InputError("--samples and --receipt exclude each other; samples of this map are the better basis")
    with ChangeRaster(product / CHANGE) as change:
        areas = [] if regions is None else read_regions(regions, change.grid)
        images = None if receipt is None else _images(receipt)
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
    elif images is not None:
        basis = f"The scores of {len(images)} labelled images. {ASSUMPTION}"
        whole, *parts = (_scored(each, images) for each in found)
    else:
        whole, *parts = (RegionArea(each, note=f"{_NEEDED}.") for each in found)
    return AreaReport(product, whole, tuple(parts), basis, accuracy, tuple(notes), tuple(shapes), crs)


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


def interval_from_scores(
    scores: Sequence[Any], threshold: float, changed_area: float, unchanged_area: float
) -> dict[str, Any]:
    """The ``changed_area_interval`` of a map's receipt, from the scores in the model's card.

    The last score with counts of each image at the map's threshold is taken. The record says what it assumes, or,
    without such a score, what is needed.
    """
    for score in reversed(scores):
        images = score.get("images_px") if isinstance(score, dict) else None
        if not images or abs(float(score.get("threshold", -1)) - threshold) > 1e-9:
            continue
        try:
            estimate = area_from_images(images, changed_area, unchanged_area)
        except (InputError, ValueError):
            continue
        data = f"{score.get('data', 'unnamed data')}, {score.get('split', 'unknown split')}"
        return {"area": estimate.to_dict(), "basis": f"Scores of {len(images)} images ({data}). {ASSUMPTION}"}
    return {
        "area": None,
        "basis": "The model's card holds no counts of single images at this threshold. For an interval, label samples "
        "of this map: terradelta area OUT --draw 200 -o samples.gpkg, then terradelta area OUT --samples samples.gpkg.",
    }


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


def _scored(found: ZonalAreas, images: list[list[float]]) -> RegionArea:
    return RegionArea(found, None, area_from_images(images, float(found.areas[1]), float(found.areas[0])))


def _images(path: Path) -> list[list[float]]:
    """Counts of each image (tp, fp, fn, tn) of a receipt."""
    try:
        counts = read_json(path.read_bytes())["images"]["confusion_px"]
        return [[float(value) for value in counts[name]] for name in sorted(counts)]
    except (OSError, OverflowError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is no receipt of `terradelta evaluate` with counts of each image; make one with -o"
        ) from error
