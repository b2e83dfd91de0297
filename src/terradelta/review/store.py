"""The review of a product: verdicts, written one at a time into a GeoPackage beside the map.

``review.gpkg`` is an ordinary GeoPackage, which QGIS and geopandas open, without a spatial index: so its rows need no
functions of a GIS to be written, and SQLite alone writes them. Each call is one transaction, flushed to the disk before
it returns, so that a killed process or a second window loses nothing; rows are only added, and undoing stamps a time.
"""

import contextlib
import datetime
import os
import sqlite3
import struct
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import shapely

from terradelta.errors import InputError, OutputError
from terradelta.files import cannot_write, sha256_of
from terradelta.geo.grid import Grid
from terradelta.products.change import ChangeRaster
from terradelta.products.gpkg import write_layer
from terradelta.products.writer import CHANGE, POLYGONS
from terradelta.review.verdicts import FILE, LAYER, SCHEMA, Kind, Verdict, VerdictRow

__all__ = ["Changes", "NewVerdict", "ReviewStore", "product_identity", "read_review"]

KEYS = "terradelta_review"
"""The table (key, value) with the schema, the revision, and what tells the product."""
RECEIPT = "receipt.json"
_BUSY_S = 20.0
_COLUMNS = {
    "kind": "TEXT",
    "polygon": "INTEGER",
    "verdict": "TEXT",
    "author": "TEXT",
    "time": "TEXT",
    "undone": "TEXT",
    "revision": "INTEGER",
    "request": "TEXT",
}
_READ = "fid, kind, polygon, verdict, author, time, undone, geom"
"""Columns of a `VerdictRow`, in its order."""
_EXTENSIONS = """CREATE TABLE IF NOT EXISTS gpkg_extensions (table_name TEXT, column_name TEXT,
extension_name TEXT NOT NULL, definition TEXT NOT NULL, scope TEXT NOT NULL,
CONSTRAINT ge_tce UNIQUE (table_name, column_name, extension_name))"""
_ASPATIAL = ("gdal_aspatial", "http://gdal.org/geopackage_aspatial.html")
"""With it GDAL takes only registered tables for layers, so that `KEYS` is none and readers see one layer."""
_ADVICE = "give a product in a folder that you may write to, or make room there"


@dataclass(frozen=True)
class NewVerdict:
    """A verdict to be added; see `VerdictRow` for the meaning of its parts."""

    kind: Kind
    verdict: Verdict
    geometry: shapely.Geometry
    polygon: int | None = None
    request: str | None = None
    """What tells this saying of it from another: a verdict whose request is known already is not added again."""


@dataclass(frozen=True)
class Changes:
    """What has happened to a review since a revision."""

    revision: int
    """Rises with every row that is added or undone."""
    rows: tuple[VerdictRow, ...]
    """Those that were added or undone since, in the order of their numbers."""


def product_identity(product: Path) -> dict[str, str]:
    """What tells a product from any other: SHA-256 of its polygons and of its receipt.

    Args:
        product: folder that `map` made.

    Raises:
        InputError: if the folder lacks one of them.
    """
    found = {}
    for key, name in (("change_gpkg_sha256", POLYGONS), ("receipt_sha256", RECEIPT)):
        try:
            found[key] = sha256_of(product / name)
        except OSError as error:
            raise InputError(
                f"{product / name} cannot be read ({error.strerror}); give a folder that `terradelta map` made"
            ) from error
    return found


class ReviewStore:
    """The review of one product; opened by each process, thread and window that needs it.

    The file is made with the first verdict. Methods open the file anew each time and may be called from any thread.

    Args:
        product: folder that `map` made.

    Raises:
        InputError: if the folder is no product, or its review is of another product or another schema.
    """

    def __init__(self, product: Path) -> None:
        self.product, self.path = product, product / FILE
        self._identity = product_identity(product)
        with ChangeRaster(product / CHANGE) as change:
            self._grid = change.grid
        if self.path.exists():
            with self._opened():
                pass

    def rows(self) -> list[VerdictRow]:
        """All rows, also those that were undone, in the order of their numbers."""
        return list(self.since(0).rows)

    def since(self, revision: int) -> Changes:
        """The rows that were added or undone after a revision; 0 gives all."""
        if not self.path.exists():
            return Changes(0, ())
        with self._opened() as database:
            database.execute("BEGIN")
            now = _revision(database)
            found = database.execute(
                f"SELECT {_READ} FROM {LAYER} WHERE revision > ? ORDER BY fid",
                (revision,),
            ).fetchall()
        return Changes(now, tuple(self._row(values) for values in found))

    def add(self, verdicts: Sequence[NewVerdict], author: str, *, undoing: Sequence[int] = ()) -> list[VerdictRow]:
        """Add rows, and undo others, in one transaction that is on the disk when this returns.

        Args:
            verdicts: what to add, in order.
            author: who gave them.
            undoing: numbers of rows that these take the place of.

        Returns:
            The rows; those that are there already where a request is sent again, whose answer was lost.

        Raises:
            InputError: if a verdict or its geometry is none, or a number is unknown or undone already.
            OutputError: if the file cannot be written.
        """
        for each in verdicts:
            _check(each)
        self._make()
        time = _now()
        with self._writing() as database:
            if said := _said(database, [each.request for each in verdicts if each.request]):
                return [self._row(values) for values in said]
            revision = _next_revision(database)
            for number in undoing:
                _undo(database, number, time, revision)
            numbers = [
                database.execute(
                    f"INSERT INTO {LAYER} (geom, {', '.join(_COLUMNS)}) VALUES (?, {', '.join('?' * len(_COLUMNS))})",
                    (
                        _blob(each.geometry, _srs(database)),
                        each.kind,
                        each.polygon,
                        each.verdict,
                        author,
                        time,
                        None,
                        revision,
                        each.request,
                    ),
                ).lastrowid
                for each in verdicts
            ]
            _touch(database, [each.geometry for each in verdicts])
        return [
            VerdictRow(int(number or 0), v.kind, v.polygon, v.verdict, author, time, None, _multi(v.geometry))
            for number, v in zip(numbers, verdicts, strict=True)
        ]

    def undo(self, number: int | None = None, author: str | None = None) -> list[int]:
        """Undo a row, or all that was added at once.

        Args:
            number: of the row; None: the rows that were added last, of those that count. Rows that these had taken the
                place of are added again.
            author: with ``number`` None, of this author alone.

        Returns:
            Numbers of the rows that do not count any more; none if there is nothing to undo.

        Raises:
            InputError: if there is no row with that number, or it is undone already.
            OutputError: if the file cannot be written.
        """
        if not self.path.exists():
            if number is None:
                return []
            raise InputError(f"there is no verdict number {number}")
        with self._writing() as database:
            numbers, replaced = _newest(database, author) if number is None else ([number], None)
            if not numbers:
                return []
            revision, time = _next_revision(database), _now()
            for each in numbers:
                _undo(database, each, time, revision)
            if replaced is not None:
                _restore(database, replaced, revision)
            _touch(database, [])
        return numbers

    def _row(self, values: tuple[Any, ...]) -> VerdictRow:
        number, kind, polygon, verdict, author, time, undone, blob = values
        return VerdictRow(number, kind, polygon, verdict, author, time, undone, _geometry(blob, self.path))

    def _make(self) -> None:
        """Make the file, unless it is there; of two processes, the first one's counts."""
        if self.path.exists():
            return
        temporary = self.path.with_name(f".{FILE}.{uuid.uuid4().hex}.part.gpkg")
        try:
            _write_empty(temporary, self._grid, self._identity)
            with contextlib.suppress(FileExistsError):
                os.link(temporary, self.path)  # unlike renaming, it fails where another process was first
        except (OSError, RuntimeError, sqlite3.Error) as error:
            raise cannot_write(self.path, error, _ADVICE) from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """The database, with its identity compared."""
        try:
            with contextlib.closing(
                sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
            ) as database:
                database.execute("PRAGMA synchronous = FULL")
                self._compare(database)
                yield database
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise OutputError(f"{self.path} cannot be used ({error}); {_ADVICE}") from error
            raise InputError(
                f"{self.path} is no review that can be read ({error}); move it away, and a new one is begun"
            ) from error

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it or nothing is on the disk when the block ends."""
        with self._opened() as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
            except BaseException:
                database.execute("ROLLBACK")
                raise
            database.execute("COMMIT")

    def _compare(self, database: sqlite3.Connection) -> None:
        try:
            kept = dict(database.execute(f"SELECT key, value FROM {KEYS}"))
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
            raise InputError(
                f"{self.path} is no review of terradelta: it lacks the table {KEYS}; move it away, and a new one is "
                "begun"
            ) from error
        if kept.get("schema") != str(SCHEMA):
            raise InputError(
                f"{self.path} has schema {kept.get('schema')!r:.40}, but this terradelta reads schema {SCHEMA}: use "
                "the terradelta that wrote it"
            )
        differing = [name for name, value in self._identity.items() if kept.get(name) != value]
        if differing:
            raise InputError(
                f"{self.path} is the review of another product: {' and '.join(differing)} differ from those of "
                f"{self.product}. Nothing was changed; put it back beside the map that it judges, or move it away to "
                "begin a new one"
            )


def read_review(product: Path) -> list[VerdictRow]:
    """All verdicts on a product, also those that were undone, in the order in which they were given.

    Args:
        product: folder that `map` made.

    Raises:
        InputError: if the folder is no product, or its review is of another product or schema.
    """
    return ReviewStore(product).rows()


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _check(verdict: NewVerdict) -> None:
    for value, kind, name in ((verdict.kind, Kind, "kind"), (verdict.verdict, Verdict, "verdict")):
        if value not in get_args(kind):
            raise InputError(f"{name} is {value!r:.40}; it must be one of {', '.join(get_args(kind))}")
    shape = verdict.geometry
    if shape.geom_type not in ("Polygon", "MultiPolygon") or shape.is_empty or not np.isfinite(shape.bounds).all():
        raise InputError(f"a verdict needs a polygon with finite coordinates, not {shape.wkt:.80}")
    if verdict.kind == "judged" and verdict.polygon is None:
        raise InputError("a verdict on a polygon needs its id")


def _said(database: sqlite3.Connection, requests: Sequence[str]) -> list[tuple[Any, ...]]:
    """The rows of requests that were answered before."""
    places = ", ".join("?" * len(requests))
    return database.execute(
        f"SELECT {_READ} FROM {LAYER} WHERE request IN ({places}) ORDER BY fid", tuple(requests)
    ).fetchall()


def _newest(database: sqlite3.Connection, author: str | None) -> tuple[list[int], int | None]:
    """Numbers of the rows that were added last and count, and the revision in which that was; none where none does."""
    found = database.execute(
        f"SELECT revision FROM {LAYER} WHERE undone IS NULL AND (? IS NULL OR author = ?) ORDER BY fid DESC LIMIT 1",
        (author, author),
    ).fetchone()
    if found is None:
        return [], None
    rows = database.execute(f"SELECT fid FROM {LAYER} WHERE undone IS NULL AND revision = ? ORDER BY fid", found)
    return [number for (number,) in rows.fetchall()], found[0]


def _restore(database: sqlite3.Connection, revision: int, now: int) -> None:
    """Add the rows again that were undone in a revision."""
    copied = "geom, kind, polygon, verdict, author, time"
    database.execute(
        f"INSERT INTO {LAYER} ({copied}, revision) SELECT {copied}, ? FROM {LAYER} "
        "WHERE undone IS NOT NULL AND revision = ? ORDER BY fid",
        (now, revision),
    )


def _undo(database: sqlite3.Connection, number: int, time: str, revision: int) -> None:
    found = database.execute(f"SELECT undone FROM {LAYER} WHERE fid = ?", (number,)).fetchone()
    if found is None:
        raise InputError(f"there is no verdict number {number}")
    if found[0] is not None:
        raise InputError(f"verdict number {number} was undone already, at {found[0]}")
    database.execute(f"UPDATE {LAYER} SET undone = ?, revision = ? WHERE fid = ?", (time, revision, number))


def _revision(database: sqlite3.Connection) -> int:
    return int(database.execute(f"SELECT value FROM {KEYS} WHERE key = 'revision'").fetchone()[0])


def _next_revision(database: sqlite3.Connection) -> int:
    revision = _revision(database) + 1
    database.execute(f"UPDATE {KEYS} SET value = ? WHERE key = 'revision'", (str(revision),))
    return revision


def _srs(database: sqlite3.Connection) -> int:
    found = database.execute("SELECT srs_id FROM gpkg_geometry_columns WHERE table_name = ?", (LAYER,)).fetchone()
    return int(found[0])


def _touch(database: sqlite3.Connection, shapes: Iterable[shapely.Geometry]) -> None:
    """Bring the contents table up to date: time, and the extent with more shapes."""
    before = database.execute(
        "SELECT min_x, min_y, max_x, max_y FROM gpkg_contents WHERE table_name = ?", (LAYER,)
    ).fetchone()
    boxes = np.array([*([before] if None not in before else []), *(shape.bounds for shape in shapes)], np.float64)
    extent = [None] * 4 if not len(boxes) else [*boxes[:, :2].min(0).tolist(), *boxes[:, 2:].max(0).tolist()]
    database.execute(
        "UPDATE gpkg_contents SET last_change = ?, min_x = ?, min_y = ?, max_x = ?, max_y = ? WHERE table_name = ?",
        (_now(), *extent, LAYER),
    )


def _multi(shape: shapely.Geometry) -> shapely.MultiPolygon:
    return shape if isinstance(shape, shapely.MultiPolygon) else shapely.MultiPolygon([shape])


def _blob(shape: shapely.Geometry, srs: int) -> bytes:
    """A geometry as a GeoPackage stores it: a header with the envelope, then WKB (OGC 12-128r18, section 2.1.3)."""
    x_min, y_min, x_max, y_max = shape.bounds
    header = struct.pack("<2sBBi4d", b"GP", 0, 0b011, srs, x_min, x_max, y_min, y_max)
    return header + bytes(shapely.to_wkb(_multi(shape), byte_order=1, flavor="iso", output_dimension=2))


_ENVELOPE_BYTES = (0, 32, 48, 48, 64)


def _geometry(blob: bytes, path: Path) -> shapely.Geometry:
    try:
        if blob[:2] != b"GP":
            raise ValueError("its header is none of a GeoPackage")
        return shapely.from_wkb(blob[8 + _ENVELOPE_BYTES[blob[3] >> 1 & 0b111] :])
    except (TypeError, ValueError, IndexError, shapely.errors.GEOSException) as error:
        raise InputError(f"{path} holds a geometry that cannot be read ({error}); restore it from a copy") from error


def _write_empty(path: Path, grid: Grid, identity: dict[str, str]) -> None:
    """Write a review without verdicts."""
    kinds = {"TEXT": object, "INTEGER": np.int64}
    columns = {name: np.empty(0, kinds[kind]) for name, kind in _COLUMNS.items()}
    crs = None if grid.crs is None else grid.crs.to_wkt()
    no_index = {"SPATIAL_INDEX": "NO"}
    write_layer(path, LAYER, "MultiPolygon", np.empty(0, object), columns, crs, layer_options=no_index)
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute(f"CREATE TABLE {KEYS} (key TEXT PRIMARY KEY NOT NULL, value TEXT)")
        values = {"schema": str(SCHEMA), "revision": "0", **identity}
        database.executemany(f"INSERT INTO {KEYS} VALUES (?, ?)", list(values.items()))
        database.execute(_EXTENSIONS)
        database.execute("INSERT INTO gpkg_extensions VALUES (NULL, NULL, ?, ?, 'read-write')", _ASPATIAL)
