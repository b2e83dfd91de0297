"""The QGIS project of a run: which files its images are, and how bright."""

import os
from pathlib import Path

from terradelta.mapping.quicklooks import shade_of
from terradelta.products.qgis_project import ProjectImage, qgis_project
from terradelta.raster.pair import Pair
from terradelta.raster.remote import is_url
from terradelta.raster.source import Source

__all__ = ["project_of"]

DATES = ("Before", "After")


def project_of(pair: Pair, out: Path) -> str:
    """The XML of ``change.qgs`` for a product folder.

    Images of 8 bits keep their brightness, others are stretched, both dates alike, as in the report. A date that is no
    single image file, such as a STAC item, is left out.

    Args:
        pair: the two dates.
        out: the folder that the project will lie in, to which paths are relative.
    """
    chosen = pair.preflight.selection
    shade = shade_of(pair.preview.before, pair.preview.after, pair.preview.valid)
    shown = [0, 1, 2] if len(chosen.names) >= 3 else [0]
    images = []
    for date, source, numbers in zip(DATES, pair.sources, (chosen.before, chosen.after), strict=True):
        place = _place(source, out)
        if place:
            ends = list(zip(shade.low.tolist(), shade.high.tolist(), strict=True))
            raw = tuple(_stored(source, i, ends[i]) for i in shown) if shade.stretched else None
            title = f"{date}: {os.path.basename(source.path)}"
            images.append(ProjectImage(title, place, source.grid.crs, tuple(numbers[i] for i in shown), raw))
    return qgis_project(f"Change in {out.name}", images[::-1], pair.grid.on_map)


def _place(source: Source, out: Path) -> str:
    """What QGIS opens; empty where that is no single image."""
    if source.path.lower().endswith((".json", ".geojson")):
        return ""
    if is_url(source.path):
        return f"/vsicurl/{source.path}"
    try:
        place = os.path.relpath(source.path, os.path.realpath(out))
    except ValueError:  # another drive
        place = source.path
    return Path(place).as_posix()


def _stored(source: Source, index: int, ends: tuple[float, float]) -> tuple[float, float]:
    """Values as the file stores them, from those that they became when read."""
    if source.conversion is None:
        return ends
    gain, offset = source.conversion[index]
    low, high = ((value - offset) / gain for value in ends)
    return (low, high) if low <= high else (high, low)
