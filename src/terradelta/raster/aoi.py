"""Areas of interest as people have them: a box, a text, or a vector file, in any CRS.

Of vector files, GDAL gets GeoPackages, Shapefiles and FlatGeobuf only, told by their content, without network: other
formats may name further files. GeoJSON and WKT are read without GDAL.
"""

import json
import math
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from rasterio.crs import CRS
from rasterio.errors import CRSError
from shapely.geometry.base import BaseGeometry

from terradelta.errors import InputError, LeftOutWarning
from terradelta.raster.access import is_utf8, sealed_vectors, vector_name
from terradelta.raster.overlap import Aoi, Area
from terradelta.strangers import read_json

__all__ = ["parse_area", "read_area"]

_LONLAT = "EPSG:4326"
_SQLITE, _GPKG_AT, _GPKG = b"SQLite format 3\0", 68, (b"GPKG", b"GP10", b"GP11")
_SHAPEFILE, _FLATGEOBUF = b"\0\0\x27\x0a", b"fgb\x03fgb"
_MAX_BYTES = 256 * 2**20
_MAX_FEATURES = 1_000_000
_WKT = re.compile(r"\s*(?:SRID=(\d+)\s*;\s*)?((?:MULTI)?POLYGON\b.*)", re.IGNORECASE | re.DOTALL)
_LAYER = re.compile(r"(.+)\|layername=(.+)")


def parse_area(text: str) -> Aoi:
    """An area of interest from what a user typed.

    Args:
        text: ``WEST,SOUTH,EAST,NORTH`` in degrees; ``X_MIN,Y_MIN,X_MAX,Y_MAX,CRS``; WKT of a polygon in degrees, or
            EWKT with its ``SRID=``; or the name of a file, see `read_area`.

    Raises:
        InputError: if it is none of these, or the file holds no polygon.
    """
    if os.path.isfile(text) or _LAYER.fullmatch(text):  # isfile is also False where the name itself is impossible
        return read_area(text)
    wkt = _WKT.fullmatch(text)
    if wkt is not None:
        return _wkt_area(wkt, "--aoi")
    numbers, crs = text.split(",")[:4], ",".join(text.split(",")[4:]).strip()
    try:
        west, south, east, north = (float(part) for part in numbers)
    except ValueError as error:
        raise InputError(
            f"--aoi {text!r:.200} is neither a file nor four numbers; give WEST,SOUTH,EAST,NORTH in degrees, "
            "X_MIN,Y_MIN,X_MAX,Y_MAX,EPSG:CODE, WKT of a polygon, or a vector file"
        ) from error
    if not crs:
        return (west, south, east, north)
    if not (all(map(math.isfinite, (west, south, east, north))) and west < east and south < north):
        raise InputError(f"--aoi {text!r:.200} is no box; the order is X_MIN,Y_MIN,X_MAX,Y_MAX,CRS")
    return Area(shapely.box(west, south, east, north), _known_crs(crs, "--aoi"))


def read_area(name: str | Path) -> Area:
    """All polygons of a vector file as one area.

    Args:
        name: a file: GeoJSON (in degrees, unless it names a CRS), GeoPackage, Shapefile, FlatGeobuf, or text with WKT.
            Where a GeoPackage has several layers with polygons: ``FILE|layername=NAME``.

    Raises:
        InputError: if it cannot be read, holds no polygon, or its CRS is unknown.
    """
    layer = _LAYER.fullmatch(str(name))
    path = layer[1] if layer and not os.path.exists(name) else str(name)
    wanted = layer[2] if layer and path == layer[1] else None
    label = f"area of interest {path}"
    if not is_utf8(path):
        raise InputError(f"{path!r} is no UTF-8 file name; rename the file")
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as stream:
            head = stream.read(128)
            if _is_vector(head):
                return _from_vector(path, wanted, label)
            if size > _MAX_BYTES:
                raise InputError(f"{label}: larger than {_MAX_BYTES // 2**20} MiB; give a simpler outline")
            return _from_text(str(head + stream.read(), "utf-8-sig"), label)
    except (OSError, UnicodeError) as error:
        raise InputError(
            f"{label} cannot be read ({getattr(error, 'strerror', None) or 'no text'}); give a GeoJSON, GeoPackage, "
            "Shapefile (.shp), FlatGeobuf or WKT file"
        ) from error


def _is_vector(head: bytes) -> bool:
    geopackage = head.startswith(_SQLITE) and head[_GPKG_AT : _GPKG_AT + 4] in _GPKG
    return geopackage or head.startswith((_SHAPEFILE, _FLATGEOBUF))


def _from_text(text: str, label: str) -> Area:
    wkt = _WKT.fullmatch(text)
    if wkt is not None:
        return _wkt_area(wkt, label)
    try:
        content = read_json(text)
        found = list(_geojson_geometries(content))
        geometries = shapely.get_parts(
            shapely.from_geojson([json.dumps(each, allow_nan=False) for each in found if each is not None])
        )
    except (ValueError, RecursionError, shapely.errors.GEOSException) as error:
        raise InputError(f"{label}: neither GeoJSON nor WKT ({str(error)[:200]})") from error
    _note_empty(label, found.count(None), len(found))
    return Area(_union(geometries, label), _known_crs(_geojson_crs(content, label), label))


def _geojson_geometries(content: Any) -> Iterator[Any]:  # noqa: ANN401  any JSON value
    """Geometries of a GeoJSON object; None for features without one (RFC 7946, section 3.2)."""
    kind = content.get("type") if isinstance(content, dict) else None
    if kind == "FeatureCollection" and isinstance(content.get("features"), list):
        for feature in content["features"]:
            yield from _geojson_geometries(feature)
    elif kind == "Feature":
        yield content.get("geometry")
    else:
        yield {} if content is None else content


def _note_empty(label: str, empty: int, count: int) -> None:
    if empty:
        warnings.warn(f"{label}: {empty} of {count} features have no geometry and were left out", LeftOutWarning, 2)


def _geojson_crs(content: Any, label: str) -> str:  # noqa: ANN401  any JSON value
    """The CRS that a GeoJSON object names (as it was allowed before RFC 7946), else degrees."""
    named = content.get("crs") if isinstance(content, dict) else None
    if named is None:
        return _LONLAT
    try:
        name = named["properties"]["name"]
    except (TypeError, KeyError) as error:
        raise InputError(f"{label}: its 'crs' member has no name; give its coordinates in degrees") from error
    return str(name)


def _wkt_area(found: re.Match[str], label: str) -> Area:
    try:
        shape = _union(shapely.get_parts(shapely.from_wkt(found[2].strip())), label)
    except shapely.errors.GEOSException as error:
        raise InputError(f"{label}: damaged WKT ({str(error)[:200]})") from error
    return Area(shape, _known_crs(f"EPSG:{found[1]}" if found[1] else _LONLAT, label))


def _from_vector(path: str, layer: str | None, label: str) -> Area:
    import pyogrio
    from pyogrio.errors import DataLayerError, DataSourceError, FieldError, GeometryError

    errors = (DataSourceError, DataLayerError, FieldError, GeometryError, ValueError, RuntimeError)
    with sealed_vectors(), vector_name(path) as name:
        try:
            layer = layer or _polygon_layer(path, pyogrio.list_layers(name), label)
            found = pyogrio.raw.read(name, layer=layer, columns=[], force_2d=True, max_features=_MAX_FEATURES + 1)
        except errors as error:
            raise InputError(f"{label} cannot be read ({str(error)[:200]}); check that the file is complete") from error
    meta, _, wkb, _ = found
    if wkb is not None and len(wkb) > _MAX_FEATURES:
        raise InputError(f"{label}: more than {_MAX_FEATURES:,} features; give a simpler outline")
    if meta["crs"] is None:
        raise InputError(f"{label} has no CRS; assign it first (a Shapefile needs its .prj file beside it)")
    try:
        kept = [each for each in (wkb if wkb is not None else []) if each is not None]
        geometries = shapely.from_wkb(kept)
    except shapely.errors.GEOSException as error:
        raise InputError(f"{label}: damaged geometry ({str(error)[:200]})") from error
    _note_empty(label, len(wkb if wkb is not None else []) - len(kept), len(wkb if wkb is not None else []))
    return Area(_union(geometries, label), _known_crs(meta["crs"], label))


def _polygon_layer(path: str, layers: Any, label: str) -> str:  # noqa: ANN401  an array of (name, type)
    names = [str(name) for name, kind in layers if kind is not None and ("Polygon" in kind or kind == "Unknown")]
    if len(names) == 1:
        return names[0]
    if not names:
        raise InputError(f"{label}: holds no polygon")
    raise InputError(f"{label} has the layers {', '.join(names)}; name one: '{path}|layername={names[0]}'")


def _union(geometries: Any, label: str) -> BaseGeometry:  # noqa: ANN401  an array of geometries
    """All polygons among some geometries as one; each is repaired by itself if its outline crosses itself."""
    try:
        parts = shapely.get_parts(shapely.force_2d(np.asarray(geometries, object)))
        parts = shapely.get_parts(shapely.get_parts(shapely.make_valid(parts)))
        area = shapely.union_all([part for part in parts if part.geom_type == "Polygon"])
    except shapely.errors.GEOSException as error:
        raise InputError(f"{label}: a polygon that cannot be used ({str(error)[:200]})") from error
    if area.is_empty or area.area == 0:
        raise InputError(f"{label}: holds no polygon")
    if not np.isfinite(area.bounds).all():
        raise InputError(f"{label}: holds coordinates that are no finite numbers")
    return area


def _known_crs(name: str, label: str) -> str:
    try:
        CRS.from_user_input(name)
    except (CRSError, UnicodeError, ValueError) as error:
        raise InputError(f"{label}: the CRS {name!r:.100} is unknown; give e.g. EPSG:32614") from error
    return name
