"""Write polygons to a GeoPackage that opens in QGIS with its style."""

import contextlib
import datetime
import sqlite3
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import shapely

from terradelta.errors import InputError
from terradelta.geo.grid import Grid
from terradelta.products.polygons import ChangePolygon
from terradelta.products.staged import StagedWriter
from terradelta.raster.access import vector_name

__all__ = ["LAYER", "GpkgWriter"]

LAYER = "change"
"""Name of the GeoPackage's layer."""

_BATCH = 5000
"""Polygons that are written at once."""


class GpkgWriter(StagedWriter):
    """Write polygons to a GeoPackage that QGIS opens with its style; the file appears at the end, or not at all.

    The layer is called ``change`` and has the fields ``id`` (from 1), ``area_m2``, ``perimeter_m`` (``area_px`` and
    ``perimeter_px`` where the grid has no CRS), ``mean_probability``, ``max_probability`` and ``pixels``. Without
    polygons the layer is there and empty. Use the writer as a context manager, or call `close`.

    Args:
        path: where to write; a file there is replaced.
        grid: the grid whose CRS the polygons have.
        date: what the file says about when it was made; equal polygons and dates give equal files. By default, now.

    Raises:
        OutputError: if the folder cannot be written to.
    """

    def __init__(self, path: Path, grid: Grid, date: datetime.datetime | None = None) -> None:
        date = datetime.datetime.now(datetime.UTC) if date is None else date.astimezone(datetime.UTC)
        self._date = date.strftime("%Y-%m-%dT%H:%M:%S.000Z")
        self._crs = None if grid.crs is None else grid.crs.to_wkt()
        self._unit = "px" if grid.crs is None else "m"
        self._pending: list[ChangePolygon] = []
        self._written = 0
        # pyogrio's errors are RuntimeErrors without a common base of their own.
        super().__init__(path, (RuntimeError, sqlite3.Error))
        self._temporary = self._folder / "change.gpkg"

    def add(self, polygons: Iterable[ChangePolygon]) -> None:
        """Add polygons.

        Raises:
            InputError: if a polygon's unit is not that of the grid.
            OutputError: if writing failed; nothing is left behind then.
        """
        for polygon in polygons:
            if polygon.unit != self._unit:
                raise InputError(f"the polygon is measured in {polygon.unit}, the layer in {self._unit}; use one grid")
            self._pending.append(polygon)
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

    def _write(self, batch: Sequence[ChangePolygon]) -> None:
        # Slow to import, and not needed before the first polygon is written.
        import pyogrio.raw

        columns = {
            "id": np.arange(self._written + 1, self._written + len(batch) + 1),
            f"area_{'m2' if self._unit == 'm' else 'px'}": np.array([each.area for each in batch], np.float64),
            f"perimeter_{self._unit}": np.array([each.perimeter for each in batch], np.float64),
            "mean_probability": np.array([each.mean_probability for each in batch], np.float64),
            "max_probability": np.array([each.max_probability for each in batch], np.float64),
            "pixels": np.array([each.pixels for each in batch], np.int64),
        }
        shapes = np.array([each.geometry for each in batch], object)
        with warnings.catch_warnings(), contextlib.ExitStack() as opened:
            warnings.filterwarnings("ignore", message="'crs' was not provided")
            warnings.filterwarnings("ignore", message="Passed SRS uses")  # a variant of an EPSG CRS: written as it is
            pyogrio.raw.write(
                opened.enter_context(vector_name(self._temporary)),
                geometry=shapely.to_wkb(shapes),
                field_data=list(columns.values()),
                fields=list(columns),
                layer=LAYER,
                driver="GPKG",
                geometry_type="Polygon",
                crs=self._crs,
                append=self._written > 0,
            )


def _finish_gpkg(path: Path, polygons: int, date: str) -> None:
    """Embed the style and check that all polygons are there."""
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute(_STYLE_TABLE)
        database.execute(
            "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, f_geometry_column, styleName, "
            "styleQML, styleSLD, useAsDefault, description, owner, update_time) "
            "VALUES ('', '', ?, 'geom', ?, ?, '', 1, ?, '', ?)",
            (LAYER, LAYER, _STYLE, "Red outline, light red fill", date),
        )
        database.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier) "
            "VALUES ('layer_styles', 'attributes', 'layer_styles')"
        )
        database.execute("UPDATE gpkg_contents SET last_change = ?", (date,))
        (found,) = database.execute(f'SELECT count(*) FROM "{LAYER}"').fetchone()
        (state,) = database.execute("PRAGMA quick_check").fetchone()
    if found != polygons or state != "ok":
        raise OSError(f"the file holds {found} of {polygons} polygons, its state is {state!r}")


# The table as QGIS makes it, and a style in QGIS's own format.
_STYLE_TABLE = """
CREATE TABLE layer_styles (
  id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
  f_table_catalog TEXT(256), f_table_schema TEXT(256), f_table_name TEXT(256), f_geometry_column TEXT(256),
  styleName TEXT(30), styleQML TEXT, styleSLD TEXT, useAsDefault BOOLEAN, description TEXT, owner TEXT(30),
  ui TEXT(30), update_time DATETIME DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
)
"""
_STYLE = """<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>
<qgis version="3.28" styleCategories="Symbology">
  <renderer-v2 type="singleSymbol" symbollevels="0" forceraster="0" enableorderby="0" referencescale="-1">
    <symbols>
      <symbol type="fill" name="0" alpha="1" clip_to_extent="1" force_rhr="0">
        <layer class="SimpleFill" enabled="1" locked="0" pass="0">
          <Option type="Map">
            <Option type="QString" name="color" value="255,0,0,50"/>
            <Option type="QString" name="style" value="solid"/>
            <Option type="QString" name="outline_color" value="255,0,0,255"/>
            <Option type="QString" name="outline_style" value="solid"/>
            <Option type="QString" name="outline_width" value="0.4"/>
          </Option>
        </layer>
      </symbol>
    </symbols>
  </renderer-v2>
  <layerGeometryType>2</layerGeometryType>
</qgis>
"""
