"""Areas of interest from texts and files, against coordinates worked out with pyproj."""

import json
import sqlite3
from pathlib import Path

import numpy as np
import pyogrio
import pyproj
import pytest
import shapely

from terradelta.errors import InputError, LeftOutWarning
from terradelta.raster.aoi import parse_area, read_area
from terradelta.raster.overlap import Area, aoi_record

UTM = "EPSG:32614"
SQUARE = shapely.box(500000, 5200000, 500100, 5200050)
TO_DEGREES = pyproj.Transformer.from_crs(32614, 4326, always_xy=True)


def degrees(shape: shapely.Geometry) -> shapely.Geometry:
    return shapely.transform(shape, lambda points: np.column_stack(TO_DEGREES.transform(*points.T)))


def feature(shape: shapely.Geometry) -> dict:
    return {"type": "Feature", "properties": {}, "geometry": json.loads(shapely.to_geojson(shape))}


def vector(path: Path, shapes: list, crs: str | None = UTM, **options: object) -> Path:
    kind = shapes[0].geom_type
    with pytest.warns(UserWarning, match="crs") if crs is None else np.errstate():
        pyogrio.raw.write(
            path, shapely.to_wkb(np.array(shapes)), field_data=[], fields=[], geometry_type=kind, crs=crs, **options
        )
    return path


def test_boxes():
    assert parse_area("-99,46, -98,47") == (-99, 46, -98, 47)
    box = parse_area("500000,5200000,500100,5200050,EPSG:32614")
    assert (box.crs, box.shape.equals(SQUARE)) == (UTM, True)
    assert parse_area("0,0,1,1, EPSG:3857").crs == "EPSG:3857"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1,2,3", "is neither a file nor four numbers; give WEST,SOUTH,EAST,NORTH in degrees"),
        ("none.geojson", "is neither a file nor four numbers"),
        ("x" * 5000, "is neither a file nor four numbers"),
        ("5,0,1,1,EPSG:32614", r"is no box; the order is X_MIN,Y_MIN,X_MAX,Y_MAX,CRS"),
        ("0,0,nan,1,EPSG:32614", "is no box"),
        ("0,0,1,1,EPSG:999999", "the CRS 'EPSG:999999' is unknown; give e.g. EPSG:32614"),
        ("POLYGON((0 0, 1 0", "damaged WKT"),
        ("POLYGON EMPTY", "holds no polygon"),
        ("SRID=999999;POLYGON((0 0, 1 0, 1 1, 0 0))", "the CRS 'EPSG:999999' is unknown"),
        ("a\0b", "is neither a file nor four numbers"),
    ],
)
def test_texts_that_are_no_area(text, words):
    with pytest.raises(InputError, match=words):
        parse_area(text)


def test_wkt_and_ewkt(tmp_path):
    assert parse_area(degrees(SQUARE).wkt).crs == "EPSG:4326"
    area = parse_area(f"SRID=32614;{SQUARE.wkt}")
    assert (area.crs, area.shape.equals(SQUARE)) == (UTM, True)
    (tmp_path / "a.wkt").write_text(f"SRID=32614;\n{SQUARE.wkt}\n")
    assert parse_area(str(tmp_path / "a.wkt")) == area


def test_geojson_in_degrees_or_with_a_crs(tmp_path):
    path = tmp_path / "a.geojson"
    far = shapely.box(500200, 5200000, 500300, 5200050)
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature(SQUARE), feature(far)]}))
    assert read_area(path).shape.equals(SQUARE.union(far))
    assert read_area(path).crs == "EPSG:4326"
    for name in ("urn:ogc:def:crs:EPSG::32614", "EPSG:32614"):
        crs = {"type": "name", "properties": {"name": name}}
        path.write_text("\ufeff" + json.dumps({**feature(SQUARE), "crs": crs}), encoding="utf-8")
        assert read_area(path).crs == name


@pytest.mark.parametrize("name", ["a.gpkg", "a.shp", "a.fgb"])
def test_vector_files_in_any_crs(tmp_path, name):
    area = read_area(vector(tmp_path / name, [SQUARE]))
    assert pyproj.CRS(area.crs).equals(pyproj.CRS(UTM), ignore_axis_order=True) or "14N" in area.crs
    assert area.shape.equals(SQUARE)


def test_layers_of_a_geopackage(tmp_path):
    path = vector(tmp_path / "a.gpkg", [SQUARE], layer="one")
    vector(path, [shapely.Point(0, 0)], layer="points", append=False)
    assert read_area(path).shape.equals(SQUARE)
    other = shapely.box(0, 0, 7, 7)
    vector(path, [other], layer="two")
    with pytest.raises(InputError, match=r"has the layers one, two; name one: '.*a\.gpkg\|layername=one'"):
        read_area(path)
    assert parse_area(f"{path}|layername=two").shape.equals(other)
    with pytest.raises(InputError, match="cannot be read"):
        parse_area(f"{path}|layername=three")


def test_a_crossed_outline_is_repaired(tmp_path):
    bow = shapely.Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])
    path = tmp_path / "a.wkt"
    path.write_text(bow.wkt)
    assert read_area(path).shape.area == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{}", "neither GeoJSON nor WKT"),
        ("[" * 100_000, "neither GeoJSON nor WKT"),
        ('{"type": "Point", "coordinates": [1, 2]}', "holds no polygon"),
        ('{"type": "Polygon", "coordinates": [[[0,0],[1e999,0],[1,1],[0,0]]]}', "Out of range float values"),
        ('{"type": "FeatureCollection", "features": []}', "holds no polygon"),
        (json.dumps({**feature(SQUARE), "crs": {"type": "link"}}), "its 'crs' member has no name"),
        (json.dumps({**feature(SQUARE), "crs": {"properties": {"name": "EPSG:0"}}}), "the CRS 'EPSG:0' is unknown"),
        ("\xff\xfe", "neither GeoJSON nor WKT"),
        ("", "neither GeoJSON nor WKT"),
    ],
)
def test_files_that_hold_no_area(tmp_path, content, words):
    path = tmp_path / "a.geojson"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=words):
        read_area(path)


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "a.json").write_bytes(b"\xff\xfe\0")
    with pytest.raises(InputError, match=r"cannot be read .no text.; give a GeoJSON, GeoPackage"):
        read_area(tmp_path / "a.json")
    with pytest.raises(InputError, match=r"cannot be read .No such file"):
        read_area(tmp_path / "none.gpkg")
    with pytest.raises(InputError, match="is no UTF-8 file name"):
        read_area("\udcff.gpkg")


def test_vector_files_without_crs_or_polygons(tmp_path):
    path = vector(tmp_path / "a.shp", [SQUARE])
    (tmp_path / "a.prj").unlink()
    with pytest.raises(InputError, match=r"has no CRS; assign it first \(a Shapefile needs its .prj file"):
        read_area(path)
    with pytest.raises(InputError, match="holds no polygon"):
        read_area(vector(tmp_path / "points.gpkg", [shapely.Point(0, 0)]))


def test_damaged_vector_files(tmp_path):
    for name in ("a.gpkg", "a.shp", "a.fgb"):
        path = vector(tmp_path / name, [SQUARE])
        path.write_bytes(path.read_bytes()[:140])
        with pytest.raises(InputError, match="area of interest"):
            read_area(path)


def test_limits(tmp_path, monkeypatch):
    monkeypatch.setattr("terradelta.raster.aoi._MAX_FEATURES", 1)
    path = vector(tmp_path / "a.gpkg", [SQUARE, SQUARE])
    with pytest.raises(InputError, match="more than 1 features"):
        read_area(path)
    monkeypatch.setattr("terradelta.raster.aoi._MAX_BYTES", 3)
    (tmp_path / "a.wkt").write_text(SQUARE.wkt)
    with pytest.raises(InputError, match="larger than 0 MiB"):
        read_area(tmp_path / "a.wkt")


def test_no_vector_file_leads_elsewhere(tmp_path, tripwire):
    """OGR's own virtual format, formats of services, and a database that is no GeoPackage."""
    texts = {
        "a.vrt": f'<OGRVRTDataSource><OGRVRTLayer name="a"><SrcDataSource>{tripwire.url("a.json")}</SrcDataSource>'
        "</OGRVRTLayer></OGRVRTDataSource>",
        "a.xml": f"<OGRWFSDataSource><URL>{tripwire.root}</URL></OGRWFSDataSource>",
        "a.json": json.dumps({"type": "FeatureCollection", "links": [{"rel": "next", "href": tripwire.root}]}),
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match="area of interest"):
            read_area(tmp_path / name)
    with sqlite3.connect(tmp_path / "a.db") as base:
        base.execute("CREATE TABLE a (b)")
    base.close()
    with pytest.raises(InputError, match=r"no text|neither"):
        read_area(tmp_path / "a.db")
    option = pyogrio.get_gdal_config_option("GDAL_HTTP_PROXY")
    read_area(vector(tmp_path / "a.gpkg", [SQUARE]))
    assert pyogrio.get_gdal_config_option("GDAL_HTTP_PROXY") == option


def test_the_record():
    assert aoi_record(None) is None
    assert aoi_record((1, 2, 3, 4)) == [1, 2, 3, 4]
    assert aoi_record(SQUARE) == SQUARE.wkt
    assert aoi_record(Area(SQUARE, UTM)) == f"EPSG:32614;{SQUARE.wkt}"


@pytest.mark.parametrize("empty", [[{"type": "Feature", "properties": {}, "geometry": None}], [{"type": "Feature"}]])
def test_features_without_a_geometry_are_left_out_with_a_note(tmp_path, empty):
    """RFC 7946, section 3.2."""
    whole = {"type": "Feature", "properties": None, "geometry": json.loads(shapely.to_geojson(shapely.box(0, 0, 1, 1)))}
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [*empty, whole]}))
    with pytest.warns(LeftOutWarning, match="1 of 2 features have no geometry and were left out"):
        area = parse_area(str(path))
    assert area.shape.equals(shapely.box(0, 0, 1, 1))
    path.write_text(json.dumps({"type": "FeatureCollection", "features": empty}))
    with pytest.warns(LeftOutWarning), pytest.raises(InputError, match="holds no polygon"):
        parse_area(str(path))
