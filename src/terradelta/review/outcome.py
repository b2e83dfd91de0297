"""What a review comes to: the verdict on each polygon, and the accepted changes as a layer of their own."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from terradelta.errors import InputError
from terradelta.files import whole_file
from terradelta.geo.grid import Grid
from terradelta.products.change import ChangeRaster
from terradelta.products.gpkg import LAYER as POLYGON_LAYER
from terradelta.products.gpkg import write_layer
from terradelta.products.polygons import ellipsoid_areas
from terradelta.products.writer import CHANGE, POLYGONS
from terradelta.review.store import read_review
from terradelta.review.verdicts import VerdictRow

__all__ = ["LAYER", "accepted_changes", "current_verdicts", "export_accepted"]

LAYER = "accepted"
_DRIVERS = {".gpkg": "GPKG", ".geojson": "GeoJSON", ".json": "GeoJSON"}


@dataclass(frozen=True)
class Accepted:
    """One accepted change."""

    row: VerdictRow
    """The verdict that it rests on."""
    shape: shapely.Geometry
    """Of the row, without what later verdicts took away."""


def current_verdicts(rows: Sequence[VerdictRow]) -> dict[int, VerdictRow]:
    """The verdict that counts for each polygon that was judged, by its id: the newest one that was not undone."""
    return {
        row.polygon: row
        for row in sorted(rows, key=lambda row: row.number)
        if row.undone is None and row.kind == "judged" and row.polygon is not None
    }


def accepted_changes(rows: Sequence[VerdictRow]) -> list[Accepted]:
    """The accepted and drawn changes, in the order of their numbers.

    The pieces of a split polygon take its place. Later verdicts paint over earlier ones: what was rejected, erased or
    found unsure after a change was accepted is cut out of it, and a change of which nothing is left is left out.
    """
    counting = sorted((row for row in rows if row.undone is None), key=lambda row: row.number)
    judged, split = current_verdicts(rows), {row.polygon for row in counting if row.kind == "drawn"} - {None}
    kept = [
        row
        for row in counting
        if row.verdict == "accept"
        and (row.kind == "drawn" or (judged.get(row.polygon or 0) is row and row.polygon not in split))
    ]
    takers = [row for row in counting if row.kind == "erased" or row.verdict != "accept"]
    tree = shapely.STRtree([row.geometry for row in takers])
    found = []
    for row in kept:
        near = [takers[i] for i in tree.query(row.geometry, "intersects") if takers[i].number > row.number]
        rest = row.geometry.difference(shapely.union_all([each.geometry for each in near])) if near else row.geometry
        rest = _polygons(rest)
        if not rest.is_empty:
            found.append(Accepted(row, rest))
    return found


def export_accepted(product: Path, path: Path) -> int:
    """Write the accepted and drawn changes of a product; gives how many there are.

    Fields are ``number``, ``kind``, ``polygon``, ``author`` and ``time`` of the verdict, ``area_m2`` (or ``area_px``)
    of what is left, and those that ``change.gpkg`` has for the polygon; empty where the change was drawn.

    Args:
        product: folder that `map` made.
        path: ``.gpkg`` (layer ``accepted``, in the CRS of the map) or ``.geojson`` (RFC 7946: longitude and latitude on
            WGS 84); replaced if it exists.

    Raises:
        InputError: if the name ends otherwise, the folder is no product, or GeoJSON is wanted of a map without a CRS.
        OutputError: if the file cannot be written.
    """
    driver = _DRIVERS.get(path.suffix.lower())
    if driver is None:
        raise InputError(f"{path}: accepted changes are written as .gpkg or .geojson; give such a name")
    with ChangeRaster(product / CHANGE) as change:
        grid = change.grid
    if driver == "GeoJSON" and grid.crs is None:
        raise InputError(f"{path}: GeoJSON holds longitudes and latitudes, but the map has no CRS; write .gpkg")
    found = accepted_changes(read_review(product))
    with whole_file(path, failures=(RuntimeError,), keep_suffix=True) as temporary:
        _write(temporary, driver, grid, found, _attributes(product / POLYGONS, found))
    return len(found)


def _polygons(shape: shapely.Geometry) -> shapely.Geometry:
    """The polygons of what a difference left, as one multipolygon."""
    parts = [part for part in shapely.get_parts(shape) if part.geom_type == "Polygon"]
    return shapely.MultiPolygon(parts)


def _attributes(path: Path, found: Sequence[Accepted]) -> dict[str, list[Any]]:
    """The fields of the polygons of ``change.gpkg``; None for what was drawn."""
    wanted = {each.row.polygon for each in found if each.row.kind == "judged"}
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as database:
            cursor = database.execute(f'SELECT * FROM "{POLYGON_LAYER}"')
            names = [name for name, *_ in cursor.description]
            known = {values[names.index("id")]: values for values in cursor if values[names.index("id")] in wanted}
    except (sqlite3.Error, ValueError) as error:
        raise InputError(f"{path} cannot be read as polygons ({error}); map the pair again") from error
    kept = [i for i, name in enumerate(names) if name not in ("fid", "geom", "id", "area_m2", "area_px")]
    nothing = (None,) * len(names)
    rows = [known.get(each.row.polygon, nothing) if each.row.kind == "judged" else nothing for each in found]
    return {names[i]: [row[i] for row in rows] for i in kept}


def _write(path: Path, driver: str, grid: Grid, found: Sequence[Accepted], attributes: dict[str, list[Any]]) -> None:
    shapes = np.array([each.shape for each in found], object)
    area = ("area_px", shapely.area(shapes)) if grid.crs is None else ("area_m2", _areas(grid, shapes))
    columns: dict[str, list[Any]] = {
        "number": [each.row.number for each in found],
        "kind": [each.row.kind for each in found],
        "polygon": [each.row.polygon for each in found],
        "author": [each.row.author for each in found],
        "time": [each.row.time for each in found],
        area[0]: [float(value) for value in area[1]],
        **attributes,
    }
    arrays = {name: _array(name, values) for name, values in columns.items()}
    write_layer(
        path,
        LAYER,
        "MultiPolygon",
        shapes,
        {name: values for name, (values, _) in arrays.items()},
        None if grid.crs is None else grid.crs.to_wkt(),
        field_mask=[mask for _, mask in arrays.values()],
        driver=driver,
        layer_options={"RFC7946": "YES"} if driver == "GeoJSON" else None,
    )


def _areas(grid: Grid, shapes: NDArray[Any]) -> NDArray[np.float64]:
    """Areas in m² of multipolygons: those of their parts, added up."""
    parts, owners = shapely.get_parts(shapes, return_index=True)
    areas = ellipsoid_areas(grid, parts) if len(parts) else np.zeros(0)
    return np.bincount(owners, areas, minlength=len(shapes)).astype(np.float64)


_TEXT, _WHOLE = ("kind", "author", "time", "outline_in"), ("number", "polygon", "pixels")


def _array(name: str, values: list[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """A column and where it is null."""
    mask = np.array([value is None for value in values], bool)
    if name in _TEXT:
        return np.array(["" if value is None else value for value in values], object), mask
    kind = np.int64 if name in _WHOLE else np.bool_ if name == "shift_explains" else np.float64
    return np.array([0 if value is None else value for value in values], kind), mask
