"""The polygons of a product for a page: attributes as columns, sorted and cut here; outlines by box and resolution."""

import contextlib
import functools
import math
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from terradelta.errors import InputError
from terradelta.products.gpkg import LAYER

__all__ = ["BOUNDS", "PolygonIndex", "Query"]

BOUNDS = ("x_min", "y_min", "x_max", "y_max")
_HEADER_BYTES = 40
_BATCH = 50_000
_VARIABLES = 900
_ENVELOPE = np.dtype([("x", "<f8", 2), ("y", "<f8", 2)])

Column = NDArray[Any]


@dataclass(frozen=True)
class Query:
    """Which polygons, in which order."""

    sort: str = "id"
    """Name of a field, or ``area``, in whichever unit."""
    descending: bool = False
    offset: int = 0
    limit: int = 10_000
    min_area: float = 0.0
    """In the unit of the map."""
    threshold: float = 0.0
    """Polygons whose largest probability is below it are left out."""
    bbox: tuple[float, float, float, float] | None = None
    """x_min, y_min, x_max, y_max in the CRS of the scene."""


class PolygonIndex:
    """The layer ``change`` of a ``change.gpkg``: attributes are read once, outlines when they are asked for.

    Args:
        path: the file.
        threshold: of the map, for ``uncertainty``: 1 where the mean probability is the threshold, 0 where it is as far
            from it as it can be.

    Raises:
        InputError: if the file holds no such layer.
    """

    def __init__(self, path: Path, threshold: float) -> None:
        self._path, self._threshold = path, threshold
        with self._database() as database:
            found = database.execute(f'PRAGMA table_info("{LAYER}")').fetchall()
        names = [name for _, name, *_ in found]
        if "id" not in names or "geom" not in names:
            raise InputError(f"{path} has no layer {LAYER!r} with a field id; give a folder that `terradelta map` made")
        self._kinds = {name: kind for _, name, kind, *_ in found if name not in ("fid", "geom")}
        self.area = "area_m2" if "area_m2" in names else "area_px"

    @property
    def fields(self) -> list[str]:
        """Names of the columns."""
        return [*self._kinds, "uncertainty", *BOUNDS]

    @property
    def count(self) -> int:
        """How many polygons there are."""
        return len(self._columns["id"])

    @functools.cached_property
    def _columns(self) -> dict[str, Column]:
        parts: list[dict[str, Column]] = []
        chosen = ", ".join(f'"{name.replace(chr(34), chr(34) * 2)}"' for name in self._kinds)  # from names of bands
        with self._database() as database:
            cursor = database.execute(f'SELECT {chosen}, substr(geom, 1, {_HEADER_BYTES}) FROM "{LAYER}" ORDER BY id')
            while rows := cursor.fetchmany(_BATCH):
                *values, headers = zip(*rows, strict=True)
                columns = {name: _column(v, k) for (name, k), v in zip(self._kinds.items(), values, strict=True)}
                parts.append(columns | self._envelopes(headers))
        if not parts:
            empty = {name: _column((), kind) for name, kind in self._kinds.items()}
            parts.append(empty | dict.fromkeys(BOUNDS, np.empty(0)))
        columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        widest = max(self._threshold, 1 - self._threshold)
        columns["uncertainty"] = 1 - np.abs(columns["mean_probability"] - self._threshold) / widest
        return columns

    def _envelopes(self, headers: Sequence[bytes]) -> dict[str, Column]:
        if any(len(each) != _HEADER_BYTES or each[:2] != b"GP" or each[3] >> 1 & 0b111 != 1 for each in headers):
            raise InputError(f"{self._path} holds an outline without its envelope; map the pair again")
        boxes = np.frombuffer(b"".join(each[8:] for each in headers), _ENVELOPE)
        x, y = boxes["x"], boxes["y"]
        return dict(zip(BOUNDS, (x[:, 0], y[:, 0], x[:, 1], y[:, 1]), strict=True))

    def select(self, query: Query) -> tuple[NDArray[np.intp], int]:
        """Positions of the polygons of a query, and how many there are without its offset and limit.

        Raises:
            InputError: if there is no such column to sort by.
        """
        columns = self._columns
        sort = self.area if query.sort == "area" else query.sort
        if sort not in columns:
            raise InputError(f"polygons have no field {query.sort!r:.40}; sort by one of {', '.join(columns)}")
        kept = np.flatnonzero(self._kept(query))
        keys = columns[sort][kept]
        keys = keys.astype(str) if keys.dtype == object else keys
        order = np.argsort(keys, kind="stable")
        if query.descending:
            order = np.argsort(-keys.astype(np.float64), kind="stable") if keys.dtype.kind in "fiub" else order[::-1]
        return kept[order][query.offset : query.offset + query.limit], len(kept)

    def _kept(self, query: Query) -> NDArray[np.bool_]:
        columns = self._columns
        # An area that PROJ cannot measure is NaN, and kept whatever the smallest area, as in the map.
        kept = ~(columns[self.area] < query.min_area) & (columns["max_probability"] >= query.threshold)
        if query.bbox is not None:
            x_min, y_min, x_max, y_max = query.bbox
            kept &= (columns["x_min"] <= x_max) & (columns["x_max"] >= x_min)
            kept &= (columns["y_min"] <= y_max) & (columns["y_max"] >= y_min)
        return np.asarray(kept)

    def table(self, positions: NDArray[np.intp], fields: Collection[str] | None = None) -> dict[str, list[Any]]:
        """Columns of some polygons as JSON-ready lists; what is not known is None.

        Args:
            positions: see `select`.
            fields: names of the columns; None: all.
        """
        chosen = self._columns if fields is None else {name: self._columns[name] for name in fields}
        return {name: _plain(values[positions], self._kinds.get(name, "")) for name, values in chosen.items()}

    def attributes(self, number: int) -> dict[str, Any]:
        """All fields of the polygon with an id.

        Raises:
            InputError: if there is none.
        """
        found = np.searchsorted(self._columns["id"], number)
        if found >= self.count or self._columns["id"][found] != number:
            raise InputError(f"there is no polygon with the id {number}; ids are 1 to {self.count}")
        return {name: values[0] for name, values in self.table(np.array([found])).items()}

    def outlines(self, numbers: Sequence[int]) -> list[shapely.Geometry]:
        """Outlines of the polygons with some ids, in their order and in the CRS of the scene."""
        found: dict[int, shapely.Geometry] = {}
        with self._database() as database:
            for start in range(0, len(numbers), _VARIABLES):
                asked = [int(number) for number in numbers[start : start + _VARIABLES]]
                marks = ", ".join("?" * len(asked))
                rows = database.execute(f'SELECT id, geom FROM "{LAYER}" WHERE fid IN ({marks})', asked).fetchall()
                shapes = shapely.from_wkb([blob[_HEADER_BYTES:] for _, blob in rows])
                found |= {number: shape for (number, _), shape in zip(rows, shapes, strict=True)}
        return [found[number] for number in numbers]

    @contextlib.contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        try:
            uri = self._path.resolve().as_uri() + "?mode=ro&immutable=1"  # no lock, no journal: it is never written
            with contextlib.closing(sqlite3.connect(uri, uri=True)) as database:
                yield database
        except (sqlite3.Error, shapely.errors.GEOSException) as error:
            raise InputError(f"{self._path} cannot be read as polygons ({error}); map the pair again") from error


def _column(values: Sequence[Any], kind: str) -> Column:
    """Values of a field; None is NaN, or stays None in text."""
    if kind.upper().startswith("TEXT"):
        return np.array(values, object)
    if kind.upper().startswith(("INT", "MEDIUMINT")):
        return np.array([0 if value is None else value for value in values], np.int64)
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _plain(values: Column, kind: str) -> list[Any]:
    if values.dtype.kind != "f":
        return list(values.tolist())
    flag = kind.upper().startswith("BOOL")
    digits = np.round(values, 6).tolist()
    return [None if math.isnan(value) else bool(value) if flag else value for value in digits]
