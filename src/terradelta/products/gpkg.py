"""Write polygons and their attributes to a GeoPackage, batch by batch."""

import contextlib
import datetime
import sqlite3
import warnings
from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from terradelta.errors import InputError
from terradelta.geo.grid import Grid
from terradelta.products.polygons import ChangePolygon
from terradelta.products.staged import StagedWriter
from terradelta.raster.access import vector_name

__all__ = ["LAYER", "GpkgWriter", "polygon_columns", "write_layer"]

LAYER = "change"
"""Name of the GeoPackage's layer."""

_BATCH = 1000
"""Polygons that are written at once."""


class GpkgWriter(StagedWriter):
    """Write polygons to a GeoPackage; the file appears at the end, or not at all.

    The layer is called ``change`` and has the fields ``id`` (from 1), ``area_m2``, ``perimeter_m`` (``area_px`` and
    ``perimeter_px`` where the grid has no CRS), ``mean_probability``, ``max_probability`` and ``pixels``, and more that
    the caller names. Without polygons the layer is there and empty. Memory is that of 5000 polygons. Use the writer as
    a context manager, or call `close`.

    Args:
        path: where to write; a file there is replaced.
        grid: the grid whose CRS the polygons have.
        date: what the file says about when it was made; equal polygons and dates give equal files. By default, now.
        scratch: folder for temporary files, on the file system of ``path``; by default the folder of ``path``.
        fields: names of more fields, and their types: float, bool or str.

    Raises:
        OutputError: if the folder cannot be written to.
    """

    def __init__(
        self,
        path: Path,
        grid: Grid,
        date: datetime.datetime | None = None,
        scratch: Path | None = None,
        fields: Mapping[str, type] | None = None,
    ) -> None:
        date = datetime.datetime.now(datetime.UTC) if date is None else date.astimezone(datetime.UTC)
        self._date = date.strftime("%Y-%m-%dT%H:%M:%S.000Z")
        self._crs = None if grid.crs is None else grid.crs.to_wkt()
        self._unit = "px" if grid.crs is None else "m"
        self._fields = dict(fields or {})
        self._pending: list[tuple[ChangePolygon, Sequence[Any]]] = []
        self._written = 0
        # pyogrio's errors are RuntimeErrors without a common base of their own.
        super().__init__(path, (RuntimeError, sqlite3.Error), scratch=scratch)
        self._temporary = self._folder / "change.gpkg"

    def add(self, polygons: Iterable[ChangePolygon], attributes: Iterable[Sequence[Any]] | None = None) -> None:
        """Add polygons.

        Args:
            polygons: what to add.
            attributes: for each polygon the values of the fields that the caller named, in their order; None is null.

        Raises:
            InputError: if a polygon's unit is not that of the grid.
            OutputError: if writing failed; nothing is left behind then.
        """
        for polygon, row in zip(polygons, repeat(()) if attributes is None else attributes, strict=False):
            if polygon.unit != self._unit:
                raise InputError(f"the polygon is measured in {polygon.unit}, the layer in {self._unit}; use one grid")
            self._pending.append((polygon, row))
            if len(self._pending) == _BATCH:
                self._flush()

    def _finish(self) -> Path:
        if self._pending or not self._written:
            self._flush()
        _finish_gpkg(self._temporary, self._written, self._date)
        return self._temporary

    def _flush(self) -> None:
        batch, self._pending = self._pending, []
        with self._guarded():
            self._write(batch)
        self._written += len(batch)

    def _write(self, batch: Sequence[tuple[ChangePolygon, Sequence[Any]]]) -> None:
        polygons = [each for each, _ in batch]
        columns = polygon_columns(polygons, self._written, self._unit)
        masks: list[NDArray[np.bool_] | None] = [None] * len(columns)
        for i, (name, kind) in enumerate(self._fields.items()):
            values = [row[i] for _, row in batch]
            masks.append(np.array([value is None for value in values], bool))
            filled = values if kind is str else [kind() if value is None else value for value in values]
            columns[name] = np.array(filled, object if kind is str else kind)
        shapes = np.array([each.geometry for each in polygons], object)
        write_layer(
            self._temporary, LAYER, "Polygon", shapes, columns, self._crs, field_mask=masks, append=self._written > 0
        )


def write_layer(
    path: Path,
    layer: str,
    geometry_type: str,
    shapes: NDArray[Any],
    columns: Mapping[str, NDArray[Any]],
    crs: str | None,
    **options: Any,  # noqa: ANN401  pyogrio's
) -> None:
    """Write shapes and their fields to a vector file, a GeoPackage unless ``driver=`` names another.

    Args:
        path: where to write.
        layer: name of the layer.
        geometry_type: as pyogrio names it: ``Point``, ``Polygon``, ...
        shapes: ``(N,)`` shapely geometries.
        columns: fields by name, ``(N,)`` each.
        crs: WKT, or None.
        options: more arguments of `pyogrio.raw.write`.
    """
    import pyogrio.raw  # slow to import

    with warnings.catch_warnings(), vector_name(path) as name:
        warnings.filterwarnings("ignore", message="'crs' was not provided")
        warnings.filterwarnings("ignore", message="Passed SRS uses")  # a variant of an EPSG CRS: written as it is
        pyogrio.raw.write(
            name,
            geometry=shapely.to_wkb(shapes),
            field_data=list(columns.values()),
            fields=list(columns),
            layer=layer,
            geometry_type=geometry_type,
            crs=crs,
            **{"driver": "GPKG", **options},
        )


def polygon_columns(polygons: Sequence[ChangePolygon], before: int, unit: str) -> dict[str, NDArray[Any]]:
    """The fields that every table of polygons has, by name, ``(N,)`` each.

    Args:
        polygons: of one unit.
        before: how many polygons stand before them; ids count from 1.
        unit: ``m``, or ``px`` for images without a CRS.
    """
    return {
        "id": np.arange(before + 1, before + len(polygons) + 1),
        f"area_{'m2' if unit == 'm' else 'px'}": np.array([each.area for each in polygons], np.float64),
        f"perimeter_{unit}": np.array([each.perimeter for each in polygons], np.float64),
        "mean_probability": np.array([each.mean_probability for each in polygons], np.float64),
        "max_probability": np.array([each.max_probability for each in polygons], np.float64),
        "pixels": np.array([each.pixels for each in polygons], np.int64),
    }


def _finish_gpkg(path: Path, polygons: int, date: str) -> None:
    """Set the date and check that all polygons are there."""
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE gpkg_contents SET last_change = ?", (date,))
        (found,) = database.execute(f'SELECT count(*) FROM "{LAYER}"').fetchone()
        (state,) = database.execute("PRAGMA quick_check").fetchone()
    if found != polygons or state != "ok":
        raise OSError(f"the file holds {found} of {polygons} polygons, its state is {state!r}")
