"""Reads the verdicts on a product: the rows of its ``review.gpkg``, and the polygons that they are about."""

import contextlib
import hashlib
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyogrio
import shapely

from terradelta.errors import InputError
from terradelta.products.gpkg import LAYER as POLYGON_LAYER
from terradelta.products.writer import POLYGONS
from terradelta.raster.access import sealed_vectors
from terradelta.review.verdicts import FILE, LAYER, SCHEMA, Kind, Verdict, VerdictRow

__all__ = ["Review", "polygons_of", "read_review_file"]

_KEYS = "terradelta_review"
_CURE = "judge the product again (`terradelta view`), or restore the file from a copy"


@dataclass(frozen=True)
class Review:
    """What was said of one product."""

    product: Path
    rows: tuple[VerdictRow, ...]
    """In the order of their numbers; undone ones are left out."""
    polygons: dict[int, shapely.Geometry]
    """All of ``change.gpkg``, by ``id``."""

    @property
    def unjudged(self) -> list[shapely.Geometry]:
        """The polygons of the map without a verdict."""
        judged = {row.polygon for row in self.rows}
        return [shape for number, shape in self.polygons.items() if number not in judged]


def read_review_file(product: Path) -> Review:
    """The verdicts that count, and the polygons of the map.

    Args:
        product: folder that `map` made.

    Raises:
        InputError: if the folder holds no review or no map, they do not belong together, or cannot be read.
    """
    path, polygons = product / FILE, product / POLYGONS
    if not polygons.is_file():
        raise InputError(f"{product} holds no {POLYGONS}; give a folder that `terradelta map` made")
    if not path.is_file():
        raise InputError(f"{product} holds no {FILE}; judge its polygons first, with `terradelta view {product}`")
    _check_identity(path, polygons)
    with _reading(path):
        names, numbers, shapes, columns = _table(path, LAYER)
    missing = [name for name in ("kind", "polygon", "verdict", "author", "time", "undone") if name not in names]
    if missing:
        raise InputError(f"{path}: layer {LAYER} has no column {missing[0]}; {_CURE}")
    fields = dict(zip(names, columns, strict=True))
    rows = sorted((_row(path, int(n), shapes[i], fields, i) for i, n in enumerate(numbers)), key=lambda r: r.number)
    return Review(product, tuple(row for row in rows if row.undone is None), polygons_of(product))


def polygons_of(product: Path) -> dict[int, shapely.Geometry]:
    """The polygons of a map by their ``id``.

    Raises:
        InputError: if they cannot be read.
    """
    path = product / POLYGONS
    with _reading(path):
        names, _, shapes, columns = _table(path, POLYGON_LAYER)
        return {int(number): shape for number, shape in zip(columns[names.index("id")], shapes, strict=True)}


def _check_identity(path: Path, polygons: Path) -> None:
    """Raise InputError unless a review is of this schema and, as far as it says, of this map."""
    try:
        with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            there = database.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (_KEYS,)).fetchone()
            known = dict(database.execute(f"SELECT key, value FROM {_KEYS}").fetchall()) if there else {}
    except sqlite3.Error as error:
        raise InputError(f"{path} cannot be read ({error}); {_CURE}") from error
    if known.get("schema", str(SCHEMA)) != str(SCHEMA):
        raise InputError(f"{path} has schema {known['schema']}; this terradelta reads {SCHEMA}: use the newer one")
    given = known.get("change_gpkg_sha256")
    with polygons.open("rb") as stream:
        if given is not None and hashlib.file_digest(stream, "sha256").hexdigest() != given:
            raise InputError(f"{path} is the review of another map than {polygons}; {_CURE}")


def _table(path: Path, layer: str) -> tuple[list[str], Any, list[shapely.Geometry], list[Any]]:
    with sealed_vectors():
        meta, numbers, blobs, columns = pyogrio.raw.read(path, layer=layer, return_fids=True)
    return list(meta["fields"]), numbers, list(shapely.from_wkb(blobs)), columns


def _row(path: Path, number: int, shape: shapely.Geometry, fields: dict[str, Any], i: int) -> VerdictRow:
    kind, verdict, polygon = fields["kind"][i], fields["verdict"][i], fields["polygon"][i]
    if kind not in get_args(Kind) or verdict not in get_args(Verdict) or shape is None:
        raise InputError(f"{path}, row {number}: kind is {kind!r} and verdict {verdict!r}; {_CURE}")
    known = None if polygon is None or np.isnan(polygon) else int(polygon)
    return VerdictRow(
        number, kind, known, verdict, str(fields["author"][i]), str(fields["time"][i]), fields["undone"][i], shape
    )


@contextlib.contextmanager
def _reading(path: Path) -> Any:  # noqa: ANN401  a generator
    try:
        yield
    except (RuntimeError, ValueError, shapely.errors.GEOSException) as error:  # pyogrio's are RuntimeErrors
        raise InputError(f"{path} cannot be read ({error}); {_CURE}") from error
