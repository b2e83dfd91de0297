import contextlib
import datetime
import os
import resource
import sqlite3

import numpy as np
import pyogrio
import pyogrio.raw
import pytest
import shapely
from affine import Affine
from rasterio.crs import CRS

from terradelta.errors import InputError, OutputError
from terradelta.geo.grid import Grid, Tile
from terradelta.products import gpkg as gpkg_module
from terradelta.products.gpkg import GpkgWriter
from terradelta.products.polygons import ChangePolygon, PolygonStream

UTM = CRS.from_epsg(32633)


def pixel_grid(shape):
    return Grid(None, Affine.identity(), shape)


def utm_grid(shape):
    return Grid(UTM, Affine(10, 0, 500_000, 0, -10, 5_000_000), shape)


def squares(count):
    return [
        ChangePolygon(shapely.box(5e5 + 20 * i, 5e6, 5e5 + 20 * i + 10, 5e6 + 10), 100.0 + i, 40.0, 0.75, 0.9, 1 + i)
        for i in range(count)
    ]


def read(path):
    meta, _, shapes, columns = pyogrio.raw.read(path, layer="change")
    return meta, shapely.from_wkb(shapes), dict(zip(meta["fields"], columns, strict=True))


@pytest.mark.parametrize("count", [0, 1, 3, 6, 7])
def test_a_geopackage_holds_the_polygons_in_their_order(tmp_path, monkeypatch, count):
    monkeypatch.setattr(gpkg_module, "_BATCH", 3)
    path, expected = tmp_path / "c.gpkg", squares(count)
    with GpkgWriter(path, utm_grid((9, 9))) as writer:
        writer.add(expected[:2])
        writer.add(expected[2:])
    meta, shapes, columns = read(path)
    assert meta["crs"] == "EPSG:32633"
    assert meta["geometry_type"] == "Polygon"
    assert list(shapes) == [each.geometry for each in expected]
    assert list(columns) == ["id", "area_m2", "perimeter_m", "mean_probability", "max_probability", "pixels"]
    assert [columns["id"].dtype.kind, columns["pixels"].dtype.kind] == ["i", "i"]
    assert columns["id"].tolist() == list(range(1, count + 1))
    assert columns["area_m2"].tolist() == [each.area for each in expected]
    assert columns["perimeter_m"].tolist() == [40.0] * count
    assert columns["mean_probability"].tolist() == [0.75] * count
    assert columns["max_probability"].tolist() == [0.9] * count
    assert columns["pixels"].tolist() == [each.pixels for each in expected]
    assert os.listdir(tmp_path) == ["c.gpkg"]


def test_a_geopackage_has_a_spatial_index_and_one_layer(tmp_path):
    with GpkgWriter(tmp_path / "c.gpkg", utm_grid((9, 9))) as writer:
        writer.add(squares(4))
    with contextlib.closing(sqlite3.connect(tmp_path / "c.gpkg")) as database:
        assert database.execute("SELECT count(*) FROM rtree_change_geom").fetchone() == (4,)
    assert pyogrio.list_layers(tmp_path / "c.gpkg").tolist() == [["change", "Polygon"]]


@pytest.mark.parametrize("batch", [2, 10])
def test_more_fields_hold_their_values_and_nulls(tmp_path, monkeypatch, batch):
    monkeypatch.setattr(gpkg_module, "_BATCH", batch)
    fields = {"edge": float, "outline_in": str, "explained": bool}
    rows = [(0.5, "after", True), (None, None, None), (1.5, "both", False)]
    with GpkgWriter(tmp_path / "c.gpkg", utm_grid((9, 9)), fields=fields) as writer:
        writer.add(squares(3), rows)
    with contextlib.closing(sqlite3.connect(tmp_path / "c.gpkg")) as database:
        assert database.execute("SELECT edge, outline_in, explained FROM change").fetchall() == rows
        kinds = {row[1]: row[2] for row in database.execute("PRAGMA table_info(change)")}
    assert [kinds[name] for name in fields] == ["REAL", "TEXT", "BOOLEAN"]


def test_a_geopackage_without_a_crs_names_pixels(tmp_path):
    mask = np.zeros((9, 9), bool)
    mask[2:5, 3:8] = True
    stream = PolygonStream(pixel_grid(mask.shape))
    with GpkgWriter(tmp_path / "c.gpkg", pixel_grid(mask.shape)) as writer:
        writer.add(stream.push(Tile(0, 0, *mask.shape), mask, np.ones(mask.shape, np.float32)))
    meta, _, columns = read(tmp_path / "c.gpkg")
    assert meta["crs"] is None or "ndefined" in meta["crs"]
    assert columns["area_px"].tolist() == [mask.sum()]
    assert "perimeter_px" in columns


def test_polygons_of_another_unit_are_refused_and_leave_nothing(tmp_path):
    writer = GpkgWriter(tmp_path / "c.gpkg", pixel_grid((9, 9)))
    with pytest.raises(InputError, match="the polygon is measured in m, the layer in px; use one grid"), writer:
        writer.add(squares(1))
    assert os.listdir(tmp_path) == []


def test_an_old_geopackage_stays_until_the_new_one_is_done(tmp_path):
    path = tmp_path / "c.gpkg"
    path.write_text("old")
    with GpkgWriter(path, utm_grid((9, 9))) as writer:
        writer.add(squares(3))
        assert path.read_text() == "old"
    assert len(read(path)[1]) == 3


def test_an_interruption_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(gpkg_module, "_BATCH", 2)

    def interrupted():
        with GpkgWriter(tmp_path / "c.gpkg", utm_grid((9, 9))) as writer:
            writer.add(squares(3))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("limit", [0, 50_000, 120_000, 200_000])
def test_a_full_disk_is_reported_and_leaves_nothing(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(gpkg_module, "_BATCH", 300)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(OutputError) as caught, GpkgWriter(tmp_path / "c.gpkg", utm_grid((9, 9))) as writer:
            writer.add(squares(1500))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(caught.value).startswith(f"{tmp_path / 'c.gpkg'} was not written (")
    assert "MB are free. Make room, or write elsewhere" in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_a_folder_that_does_not_exist_is_reported(tmp_path):
    with pytest.raises(OutputError, match=r"c\.gpkg was not written \(.*No such file.*the folder cannot be used"):
        GpkgWriter(tmp_path / "none" / "c.gpkg", utm_grid((9, 9)))


def test_equal_polygons_and_dates_give_equal_files(tmp_path):
    date = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    for name in ("a.gpkg", "b.gpkg"):
        with GpkgWriter(tmp_path / name, utm_grid((9, 9)), date) as writer:
            writer.add(squares(7))
    assert (tmp_path / "a.gpkg").read_bytes() == (tmp_path / "b.gpkg").read_bytes()
    with sqlite3.connect(tmp_path / "a.gpkg") as database:
        dates = {row[0] for row in database.execute("SELECT last_change FROM gpkg_contents")}
    database.close()
    assert dates == {"2026-01-02T03:04:05.000Z"}
