"""``item.json``: a folder of products as a STAC item.

It says nothing that differs between two runs of one job: neither when it was made, nor the checksums of the report and
the receipt, which hold how long the run took.

Sources: STAC 1.1.0, with the extensions projection 2.0.0, raster 2.0.0, file 2.1.0, processing 1.2.0 and
classification 2.0.0.
"""

import datetime
import hashlib
import json
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyproj
import rasterio
import shapely
import shapely.affinity
from numpy.typing import NDArray
from rasterio.crs import CRS
from shapely.geometry.base import BaseGeometry

from terradelta.files import sha256_of, write_whole
from terradelta.geo.grid import Grid, is_local
from terradelta.geo.metres import lonlat_transformer
from terradelta.products.cog import CHANGE_COLOURS
from terradelta.products.vectors import MEDIA_TYPES
from terradelta.raster.acquired import acquired
from terradelta.raster.remote import is_url
from terradelta.raster.source import Source
from terradelta.receipt import MapReceipt
from terradelta.receipt.map_record import InputRecord
from terradelta.strangers import printable

__all__ = ["ITEM", "multihash", "write_item"]

ITEM = "item.json"
_EXTENSIONS = tuple(
    f"https://stac-extensions.github.io/{name}/schema.json"
    for name in ("projection/v2.0.0", "raster/v2.0.0", "file/v2.1.0", "processing/v1.2.0", "classification/v2.0.0")
)
_COG = "image/tiff; application=geotiff; profile=cloud-optimized"
_FILES: dict[str, tuple[str, str, str, list[str]]] = {
    "probability.tif": ("probability", "Probability of change", _COG, ["data"]),
    "change.tif": ("change", "Change", _COG, ["data"]),
    "change.gpkg": ("polygons", "Polygons of change", MEDIA_TYPES["change.gpkg"], ["data"]),
    "change.parquet": ("polygons-geoparquet", "The polygons as GeoParquet", MEDIA_TYPES["change.parquet"], ["data"]),
    "change.geojson": ("polygons-geojson", "The polygons as GeoJSON", MEDIA_TYPES["change.geojson"], ["data"]),
    "change.fgb": ("polygons-flatgeobuf", "The polygons as FlatGeobuf", MEDIA_TYPES["change.fgb"], ["data"]),
    "thumbnail.jpg": ("thumbnail", "Where it changed", "image/jpeg", ["thumbnail"]),
    "change.qml": ("style", "How QGIS draws change", "application/xml", ["metadata"]),
    "probability.qml": ("probability-style", "How QGIS draws the probability", "application/xml", ["metadata"]),
    "change.qgs": ("project", "QGIS project of images and products", "application/xml", ["metadata"]),
    "report.html": ("report", "Report", "text/html", ["metadata"]),
    "receipt.json": ("receipt", "Receipt: inputs, model, options, result", "application/json", ["metadata"]),
}
"""Files of a folder of products: key, title, media type and roles of their assets."""
_TIMED = {"report.html", "receipt.json"}
_DRIVERS = {
    "GTiff": "image/tiff; application=geotiff",
    "JP2OpenJPEG": "image/jp2",
    "PNG": "image/png",
    "JPEG": "image/jpeg",
}
_CLASSES = ((0, "unchanged"), (1, "changed"), (255, "no_data"))
_DIGITS, _ALONG, _HALF_TURN, _NAME_CHARS, _HASH_CHARS = 7, 16, 180.0, 40, 10


def write_item(folder: Path, out: Path, receipt: MapReceipt, grid: Grid, sources: Sequence[Source]) -> None:
    """Write the item of a folder of products that is finished otherwise.

    Args:
        folder: where the products are now.
        out: where they will be: links to local inputs are relative to it.
        receipt: of the run.
        grid: of the rasters.
        sources: both dates.

    Raises:
        OutputError: if it cannot be written.
    """
    text = json.dumps(_item(folder, out, receipt, grid, sources), indent=1, ensure_ascii=False)
    write_whole(folder / ITEM, text + "\n")


def multihash(path: Path) -> str:
    """SHA-256 of a file as the file extension writes it: in hexadecimal, after the code of the hash and its length."""
    return f"1220{sha256_of(path)}"


def _item(folder: Path, out: Path, receipt: MapReceipt, grid: Grid, sources: Sequence[Source]) -> dict[str, Any]:
    inputs = (receipt.inputs.before, receipt.inputs.after)
    assets = _assets(folder, receipt)
    content = "".join(assets[key]["file:checksum"] for key in ("probability", "change", "polygons"))
    stems = [re.sub(r"[^A-Za-z0-9]+", "-", _stem(each.path)).strip("-")[:_NAME_CHARS] for each in inputs]
    geometry = _geometry(grid)
    item: dict[str, Any] = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": list(_EXTENSIONS),
        "id": "_".join([*filter(None, stems), hashlib.sha256(content.encode()).hexdigest()[:_HASH_CHARS]]),
        "geometry": None if geometry is None else shapely.geometry.mapping(geometry[0]),
        "properties": _properties(receipt, grid, sources),
        "links": [_link(*each, out) for each in zip(("before", "after"), inputs, strict=True)],
        "assets": assets,
    }
    if geometry is not None:  # which STAC forbids where there is none
        item["bbox"] = geometry[1]
    return item


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def _properties(receipt: MapReceipt, grid: Grid, sources: Sequence[Source]) -> dict[str, Any]:
    model, result, inputs = receipt.model, receipt.result, receipt.inputs
    names = [printable(os.path.basename(each.path)) for each in (inputs.before, inputs.after)]
    kind = "method" if model.weightless else "model"
    lineage = f"Change between {names[0]} and {names[1]} by the {kind} {model.name} ({model.runtime}), "
    lineage += f"bands {', '.join(receipt.options.bands)}, threshold {receipt.options.threshold:g}"
    for each, name in zip((inputs.before, inputs.after), names, strict=True):
        lineage += f"; {name} warped ({each.placement.resampling})" if each.placement.warped else ""
    return {
        "title": f"Change from {names[0]} to {names[1]}",
        **_times(sources),
        **({} if not receipt.grid.pixel_area_m2 else {"gsd": round(math.sqrt(receipt.grid.pixel_area_m2), 6)}),
        **_projection(grid),
        "processing:lineage": printable(lineage),
        "processing:software": {"terradelta": receipt.version, "GDAL": rasterio.__gdal_version__},
        "terradelta:model": model.name,
        "terradelta:threshold": receipt.options.threshold,
        "terradelta:changed_area_m2": result.changed_area_m2,
        "terradelta:polygons": result.polygons,
    }


def _times(sources: Sequence[Source]) -> dict[str, Any]:
    """Start and end: both dates' times, or, as STAC wants some, those of the last change of the files."""
    found, ends = {}, []
    for name, source in zip(("before", "after"), sources, strict=True):
        known = acquired(source)
        changed = source.changed
        ends += [changed, changed] if known is None else [known.first, known.last]
        stated = "last change of the file" if known is None else known.known_from
        found[name] = {"datetime": _stamp(changed if known is None else known.first), "known_from": stated}
    start, end = min(ends), max(ends)
    return {
        "datetime": None,
        "start_datetime": _stamp(start),
        "end_datetime": _stamp(end),
        "terradelta:dates": found,
    }


def _stamp(time: datetime.datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def _projection(grid: Grid) -> dict[str, Any]:
    found: dict[str, Any] = {"proj:code": None if grid.crs is None else _code(grid.crs)}
    if grid.crs is not None and found["proj:code"] is None:
        found["proj:wkt2"] = pyproj.CRS.from_wkt(grid.crs.to_wkt()).to_wkt("WKT2_2019")
    found |= {"proj:shape": list(grid.shape), "proj:transform": list(grid.transform)[:6]}
    return found | {"proj:bbox": list(grid.bounds)}


def _code(crs: CRS) -> str | None:
    authority = crs.to_authority()
    return None if authority is None else ":".join(authority)


def _assets(folder: Path, receipt: MapReceipt) -> dict[str, Any]:
    assets: dict[str, dict[str, Any]] = {}
    for name, (key, title, media, roles) in _FILES.items():
        if not (folder / name).exists():
            continue
        assets[key] = {"href": f"./{name}", "title": title, "type": media, "roles": roles}
        if name not in _TIMED:
            path = folder / name
            assets[key] |= {"file:size": path.stat().st_size, "file:checksum": multihash(path)}
    area = receipt.grid.pixel_area_m2
    shared = {"raster:sampling": "area", **({"raster:spatial_resolution": round(math.sqrt(area), 6)} if area else {})}
    assets["probability"]["bands"] = [{"name": "probability", "data_type": "float32", "nodata": "nan", **shared}]
    assets["change"]["bands"] = [{"name": "change", "data_type": "uint8", "nodata": 255, **shared}]
    assets["change"]["classification:classes"] = _classes()  # the extension's schema does not look into bands
    return assets


def _classes() -> list[dict[str, Any]]:
    classes: list[dict[str, Any]] = []
    for value, name in _CLASSES:
        colour = CHANGE_COLOURS.get(value)
        classes.append({"value": value, "name": name, "description": name.replace("_", " ")})
        classes[-1] |= {"nodata": True} if colour is None else {"color_hint": "{:02X}{:02X}{:02X}".format(*colour)}
    return classes


def _link(date: str, record: InputRecord, out: Path) -> dict[str, Any]:
    """A link to an input: by a path relative to the products, or by the URL without what may be secret."""
    link: dict[str, Any] = {"rel": "derived_from", "href": _href(record.path, out), "title": f"{date}: the input image"}
    if record.path.lower().endswith(("json", "geojson")):
        link["type"] = "application/geo+json"
    elif record.driver in _DRIVERS:
        link["type"] = _DRIVERS[record.driver]
    if record.files is None and record.sha256 is not None:
        link |= {"file:size": record.bytes, "file:checksum": f"1220{record.sha256}"}
    return link


def _href(path: str, out: Path) -> str:
    if is_url(path):
        return path
    try:
        return quote(Path(os.path.relpath(path, out)).as_posix())
    except ValueError:  # on another drive
        return Path(path).as_uri()


def _geometry(grid: Grid) -> tuple[BaseGeometry, list[float]] | None:
    """The extent in longitude and latitude, and its west, south, east, north; None: it has no place on the Earth.

    Across the antimeridian it has two parts (RFC 7946, 3.1.9), and its west is larger than its east.
    """
    points = _outline(grid)
    if points is None:
        return None
    lon, lat = points.T
    turns = np.cumsum(np.concatenate([[0], np.round(-np.diff(lon) / (2 * _HALF_TURN))]))
    lon = lon + turns * 2 * _HALF_TURN
    if abs(lon[-1] - lon[0]) > _HALF_TURN:  # around a pole
        pole = math.copysign(_HALF_TURN / 2, lat.mean())
        box = shapely.box(-_HALF_TURN, min(lat.min(), pole), _HALF_TURN, max(lat.max(), pole))
        return box, [round(each, _DIGITS) for each in box.bounds]
    lon = lon - 2 * _HALF_TURN * math.floor((lon.min() + _HALF_TURN + 10**-_DIGITS) / (2 * _HALF_TURN))
    shape = shapely.Polygon(np.round(np.column_stack([lon, lat]), _DIGITS)).simplify(10 * 10**-_DIGITS)
    west, south, east, north = shape.bounds
    if east > _HALF_TURN:
        world = shapely.box(-_HALF_TURN, -90, _HALF_TURN, 90)
        beyond = shapely.affinity.translate(shape, -2 * _HALF_TURN).intersection(world)
        shape, east = shapely.MultiPolygon([shape.intersection(world), beyond]), east - 2 * _HALF_TURN
    return _oriented(shape), [west, south, east, north]


def _oriented(shape: BaseGeometry) -> BaseGeometry:
    """With outer rings counterclockwise."""
    if isinstance(shape, shapely.MultiPolygon):
        return shapely.MultiPolygon([shapely.geometry.polygon.orient(part) for part in shape.geoms])
    return shapely.geometry.polygon.orient(shape)


def _outline(grid: Grid) -> NDArray[np.float64] | None:
    """``(N, 2)`` longitudes and latitudes around a grid, the first point again at the end; None without a place."""
    if grid.crs is None or is_local(grid.crs):
        return None
    to_lonlat = lonlat_transformer(grid.crs)
    if to_lonlat is None:
        return None
    along = np.linspace(0, 1, _ALONG + 1)[:-1]
    ones = np.ones_like(along)
    cols = np.concatenate([along, ones, 1 - along, 0 * ones, [0]]) * grid.width
    rows = np.concatenate([0 * ones, along, ones, 1 - along, [0]]) * grid.height
    t = grid.transform
    lon, lat = to_lonlat.transform(t.a * cols + t.b * rows + t.c, t.d * cols + t.e * rows + t.f)
    points = np.column_stack([lon, lat])
    return points if np.isfinite(points).all() else None
