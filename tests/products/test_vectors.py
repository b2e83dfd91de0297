"""The formats of the polygons hold one table: that of the GeoPackage."""

import contextlib
import json
import os
import resource
import signal

import numpy as np
import pyogrio
import pyogrio.raw
import pytest
import shapely
from affine import Affine
from pyproj import Transformer
from rasterio.crs import CRS

from terradelta.errors import GridError, InputError, MissingExtraError, OutputError
from terradelta.geo.grid import Grid
from terradelta.products import vectors as module
from terradelta.products.gpkg import GpkgWriter
from terradelta.products.polygons import ChangePolygon
from terradelta.products.vectors import VECTORS, check_vectors, parse_vectors, write_vectors

UTM = Grid(CRS.from_epsg(32633), Affine(10, 0, 500_000, 0, -10, 5_000_000), (9, 9))
FIELDS = {"edge": float, "outline_in": str, "shift_explains": bool}
ROWS = [(0.5, "after", True), (None, None, None), (1.5, "both", False), (2.0, "before", True)]
OTHERS = ("geoparquet", "geojson", "flatgeobuf")


def polygons(unit="m"):
    """Four, from the east to the west, the first with a hole."""
    boxes = [shapely.box(5e5 - 30 * i, 5e6, 5e5 - 30 * i + 20, 5e6 + 20) for i in range(4)]
    boxes[0] = boxes[0].difference(shapely.box(5e5 + 5, 5e6 + 5, 5e5 + 15, 5e6 + 15))
    return [ChangePolygon(box, box.area, box.length, 0.75, 0.9, 4 + i, unit) for i, box in enumerate(boxes)]


def written(folder, count=4, grid=UTM):
    with GpkgWriter(folder / "change.gpkg", grid, fields=FIELDS) as writer:
        writer.add(polygons("m" if grid.crs else "px")[:count], ROWS[:count])
    return folder / "change.gpkg"


def is_null(value):
    return value is None or (isinstance(value, float) and np.isnan(value))


def table(path):
    """Geometry and fields of a file; of Parquet by another reader."""
    if path.suffix == ".parquet":
        geopandas = pytest.importorskip("geopandas")
        found = geopandas.read_parquet(path)
        rows = found.drop(columns="geometry")
        columns = {name: [None if is_null(v) else v for v in rows[name].tolist()] for name in rows.columns}
        return found.geometry.tolist(), columns, found.crs
    meta, _, shapes, columns = pyogrio.raw.read(path)
    plain = {
        name: [None if is_null(v) else v for v in c.tolist()] for name, c in zip(meta["fields"], columns, strict=True)
    }
    return list(shapely.from_wkb(shapes)), plain, meta["crs"]


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize(("count", "batch"), [(4, 3), (4, 100), (0, 100)])
def test_a_format_holds_the_rows_of_the_geopackage(tmp_path, monkeypatch, name, count, batch):
    monkeypatch.setattr(module, "_BATCH", batch)
    gpkg = written(tmp_path, count)
    write_vectors(gpkg, ("gpkg", name))
    assert sorted(os.listdir(tmp_path)) == sorted(["change.gpkg", VECTORS[name]])
    shapes, columns, crs = table(tmp_path / VECTORS[name])
    expected = table(gpkg)
    if name == "geojson" and not count:  # which says no names without rows
        assert shapes == []
        return
    assert list(columns) == list(expected[1])
    assert columns == expected[1]
    if name == "geojson":
        forth = Transformer.from_crs("EPSG:32633", "EPSG:4326", always_xy=True)
        moved = [shapely.transform(shape, forth.transform, interleaved=False) for shape in expected[0]]
        assert all(shapely.hausdorff_distance(a, b) < 1e-7 for a, b in zip(shapes, moved, strict=True))
    else:
        assert shapes == expected[0]
        assert CRS.from_user_input(crs).to_epsg() == 32633


def test_geojson_is_that_of_rfc_7946(tmp_path):
    write_vectors(written(tmp_path), ("geojson",))
    found = json.loads((tmp_path / "change.geojson").read_text())
    assert found["type"] == "FeatureCollection"
    assert "crs" not in found
    outer, hole = found["features"][0]["geometry"]["coordinates"]
    assert shapely.LinearRing(outer).is_ccw
    assert not shapely.LinearRing(hole).is_ccw
    assert all(round(value, 7) == value for point in outer for value in point)
    assert found["features"][1]["properties"]["edge"] is None


def test_geoparquet_says_crs_extent_and_covering(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    write_vectors(written(tmp_path), ("geoparquet",))
    file = parquet.ParquetFile(tmp_path / "change.parquet")
    geo = json.loads(file.metadata.metadata[b"geo"])
    assert geo["version"] == "1.1.0"
    column = geo["columns"][geo["primary_column"]]
    assert column["encoding"] == "WKB"
    assert column["geometry_types"] == ["Polygon"]
    assert column["crs"]["id"] == {"authority": "EPSG", "code": 32633}
    assert column["bbox"] == [499910.0, 5e6, 500020.0, 5000020.0]
    assert column["covering"]["bbox"]["xmax"] == ["bbox", "xmax"]
    assert file.read().column("bbox")[3].as_py() == {"xmin": 499910.0, "ymin": 5e6, "xmax": 499930.0, "ymax": 5000020.0}


@pytest.mark.parametrize("name", ["geoparquet", "flatgeobuf"])
def test_images_without_a_crs_have_other_formats_too(tmp_path, name):
    grid = Grid(None, Affine.scale(1, -1), (9, 9))
    write_vectors(written(tmp_path, grid=grid), (name,))
    shapes, columns, crs = table(tmp_path / VECTORS[name])
    assert len(shapes) == 4
    assert "area_px" in columns
    assert crs is None or "ndefined" in str(crs)


def test_the_same_rows_give_the_same_bytes(tmp_path):
    contents = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        write_vectors(written(folder), OTHERS)
        contents.append([(folder / VECTORS[name]).read_bytes() for name in OTHERS])
    assert contents[0] == contents[1]


@pytest.mark.parametrize("name", OTHERS)
def test_a_full_disk_leaves_nothing(tmp_path, name):
    gpkg, limit = written(tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limit[1]))
        with pytest.raises(OutputError, match=rf"{VECTORS[name]} cannot be written"), contextlib.redirect_stderr(None):
            write_vectors(gpkg, (name,))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, ignored)
    assert os.listdir(tmp_path) == ["change.gpkg"]


def test_formats_are_named_with_commas():
    assert parse_vectors("GeoJSON, flatgeobuf,geojson") == ("geojson", "flatgeobuf")
    with pytest.raises(
        InputError, match="--vector is 'shp'; give one or more of gpkg, geoparquet, geojson, flatgeobuf"
    ):
        parse_vectors("shp")


def test_geojson_needs_a_place_on_the_earth():
    local = CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1]]')
    for crs in (None, local):
        with pytest.raises(GridError, match="GeoJSON holds longitudes and latitudes"):
            check_vectors(("geojson",), Grid(crs, Affine.identity(), (3, 3)))
    check_vectors(("geojson", "flatgeobuf"), UTM)


def test_a_missing_pyarrow_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError, match=r"--vector geoparquet needs the optional dependencies \[geoparquet\]"):
        check_vectors(("geoparquet",), UTM)


def test_memory_does_not_grow_with_the_rows(tmp_path, monkeypatch):
    """No batch is larger than it may be."""
    pyarrow = pytest.importorskip("pyarrow")
    monkeypatch.setattr(module, "_BATCH", 2)
    seen = []
    write = pyarrow.parquet.ParquetWriter.write_batch
    monkeypatch.setattr(
        pyarrow.parquet.ParquetWriter, "write_batch", lambda self, batch: seen.append(len(batch)) or write(self, batch)
    )
    write_vectors(written(tmp_path), ("geoparquet",))
    assert seen == [2, 2]
    assert np.sum(seen) == 4
