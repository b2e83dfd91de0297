"""``item.json`` is a STAC item that others read: by the schemas of the core that pystac brings, and the extensions'."""

import datetime
import hashlib
import json
import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
import shapely
from affine import Affine
from jsonschema import ValidationError
from pyproj import Transformer
from pystac.extensions.classification import ClassificationExtension
from pystac.extensions.file import FileExtension
from pystac.extensions.projection import ProjectionExtension
from pystac.validation import JsonSchemaSTACValidator
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning
from tests.conftest import FileServer, file_server
from tests.mapping.conftest import PixelPredictor, pair_values, write_tiff
from tests.stac_schemas.published import validate

from terradelta.geo.grid import Grid
from terradelta.mapping.run import MapOptions, map_change
from terradelta.products.stac_item import _geometry
from terradelta.strangers import printable

__all__ = ["FileServer", "file_server", "pair_values", "write_tiff"]


@pytest.fixture
def pair(write_tiff, pair_values, tmp_path):
    (tmp_path / "in put").mkdir()
    names = ("in put/a_2020-05-01.tif", "b_20210601T101112.tif")
    return [write_tiff(name, values) for name, values in zip(names, pair_values, strict=True)]


def read(folder: Path) -> tuple[dict, "pystac.Item"]:
    """The item as JSON, valid by the schemas of STAC 1.1 and of its extensions, and as pystac reads it."""
    text = json.loads((folder / "item.json").read_text())
    assert JsonSchemaSTACValidator().validate_core(text, pystac.STACObjectType.ITEM, "1.1.0") is not None
    validate(text)
    return text, pystac.Item.from_file(str(folder / "item.json"))


def test_a_product_is_a_valid_item(tmp_path, pair):
    options = MapOptions(vectors=("geojson", "flatgeobuf"))
    made = map_change(*pair, tmp_path / "out", PixelPredictor(), options)
    text, item = read(made.folder)
    assert text["stac_version"] == "1.1.0"
    assert item.id.startswith("a-2020-05-01_b-20210601T101112_")
    files = {Path(asset.href).name: asset for asset in item.assets.values()}
    assert set(files) == {each.name for each in made.folder.iterdir()} - {"item.json", "change.tif.aux.xml"}
    assert {asset.roles[0] for asset in item.assets.values()} == {"data", "thumbnail", "metadata"}
    for name, asset in files.items():
        file = FileExtension.ext(asset)
        if name in ("report.html", "receipt.json"):  # which say how long it took
            assert file.checksum is file.size is None
        else:
            content = (made.folder / name).read_bytes()
            assert file.size == len(content)
            assert file.checksum == "1220" + hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("part", "key", "wrong"),
    [
        (("properties",), "proj:code", 32614),
        (("properties",), "processing:software", {"terradelta": 1}),
        (("assets", "change"), "file:checksum", "1220 and no more"),
        (("assets", "change", "bands", 0), "raster:sampling", "pixel"),
        (("assets", "change", "bands", 0), "nodata", "none"),
        (("assets", "change", "classification:classes", 0), "value", "0"),
    ],
)
def test_the_schemas_of_the_extensions_refuse_what_is_wrong(tmp_path, pair, part, key, wrong):
    text, _ = read(map_change(*pair, tmp_path / "out", PixelPredictor()).folder)
    place = text
    for step in part:
        place = place[step]
    assert place[key] != wrong
    place[key] = wrong
    with pytest.raises(ValidationError):
        validate(text)


def test_names_of_files_are_printable(tmp_path, write_tiff, pair_values):
    """JSON itself escapes what is below a blank, but neither DEL nor marks that turn the direction of writing."""
    pair = [write_tiff(f"{n}\x7f\u202e.tif", values) for n, values in zip("ab", pair_values, strict=True)]
    text, _ = read(map_change(*pair, tmp_path / "out", PixelPredictor()).folder)
    assert text["properties"]["title"] == r"Change from a\x7f\u202e.tif to b\x7f\u202e.tif"
    assert r"\x7f\u202e.tif by the model" in text["properties"]["processing:lineage"]
    assert printable(raw := (tmp_path / "out" / "item.json").read_text()) == raw


def test_an_item_says_place_and_bands(tmp_path, pair):
    made = map_change(*pair, tmp_path / "out", PixelPredictor())
    text, item = read(made.folder)
    proj = ProjectionExtension.ext(item)
    with rasterio.open(made.change) as file:
        assert proj.code == "EPSG:32614"
        assert proj.shape == list(file.shape)
        assert proj.transform == list(file.transform)[:6]
        assert proj.bbox == list(file.bounds)
    west, south, east, north = text["bbox"]
    assert shapely.geometry.shape(text["geometry"]).bounds == (west, south, east, north)
    back = Transformer.from_crs("EPSG:4326", "EPSG:32614", always_xy=True)
    corners = [back.transform(*point) for point in shapely.geometry.shape(text["geometry"]).exterior.coords]
    assert max(abs(x - min((600000, 600210), key=lambda e: abs(e - x))) for x, _ in corners) < 0.2
    (band,) = text["assets"]["probability"]["bands"]
    assert (band["data_type"], band["nodata"]) == ("float32", "nan")
    assert band["raster:spatial_resolution"] == pytest.approx(0.5, rel=1e-3)
    (band,) = text["assets"]["change"]["bands"]
    assert band["nodata"] == 255
    classes = ClassificationExtension.ext(item.assets["change"]).classes
    assert [(each.value, each.name) for each in classes] == [(0, "unchanged"), (1, "changed"), (255, "no_data")]
    assert ClassificationExtension.get_schema_uri() in text["stac_extensions"]


def test_an_item_says_what_it_was_made_from_and_how(tmp_path, pair):
    made = map_change(*pair, tmp_path / "out", PixelPredictor())
    text, item = read(made.folder)
    links = item.get_links("derived_from")
    assert [link["href"] for link in text["links"]] == ["../in%20put/a_2020-05-01.tif", "../b_20210601T101112.tif"]
    for link, path in zip(links, pair, strict=True):
        assert link.extra_fields["file:checksum"] == "1220" + hashlib.sha256(path.read_bytes()).hexdigest()
        assert link.media_type == "image/tiff; application=geotiff"
    said = text["properties"]
    assert said["processing:software"]["terradelta"] == made.receipt.version
    assert said["processing:lineage"].startswith(
        "Change between a_2020-05-01.tif and b_20210601T101112.tif by the model"
    )
    assert str(tmp_path) not in json.dumps(text)


def test_times_are_those_of_the_dates(tmp_path, pair):
    text, item = read(map_change(*pair, tmp_path / "out", PixelPredictor()).folder)
    assert text["properties"]["datetime"] is None
    assert item.common_metadata.start_datetime == datetime.datetime(2020, 5, 1, tzinfo=datetime.UTC)
    assert item.common_metadata.end_datetime == datetime.datetime(2021, 6, 1, 10, 11, 12, tzinfo=datetime.UTC)
    assert text["properties"]["terradelta:dates"]["after"]["known_from"] == "file name"


def test_times_that_are_not_known_are_those_of_the_files_and_say_so(tmp_path, write_tiff, pair_values):
    files = [write_tiff(f"{name}.tif", values) for name, values in zip("ab", pair_values, strict=True)]
    for file, second in zip(files, (2e8, 1e8), strict=True):
        os.utime(file, (second, second))
    text, _ = read(map_change(*files, tmp_path / "out", PixelPredictor()).folder)
    said = text["properties"]
    assert (said["start_datetime"], said["end_datetime"]) == ("1973-03-03T09:46:40Z", "1976-05-03T19:33:20Z")
    assert said["terradelta:dates"]["before"]["known_from"] == "last change of the file"


def test_images_without_a_place_have_no_geometry(tmp_path, write_tiff, pair_values):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        files = [write_tiff(f"{n}.tif", v, crs=None, transform=None) for n, v in zip("ab", pair_values, strict=True)]
    text, _ = read(map_change(*files, tmp_path / "out", PixelPredictor()).folder)
    assert text["geometry"] is None
    assert "bbox" not in text
    assert text["properties"]["proj:code"] is None
    assert text["properties"]["proj:transform"] == [1, 0, 0, 0, -1, 0]


def test_a_crs_without_a_code_is_said_in_full(tmp_path, write_tiff, pair_values):
    crs = CRS.from_proj4("+proj=tmerc +lat_0=30 +lon_0=-98 +x_0=600000 +y_0=3400000 +ellps=GRS80 +units=m")
    files = [write_tiff(f"{n}.tif", v, crs=crs) for n, v in zip("ab", pair_values, strict=True)]
    text, _ = read(map_change(*files, tmp_path / "out", PixelPredictor()).folder)
    assert text["properties"]["proj:code"] is None
    assert text["properties"]["proj:wkt2"].startswith("PROJCRS[")


def test_a_url_is_named_without_its_signature(tmp_path, pair, file_server):
    shutil.copy(pair[0], file_server.folder / "a.tif")
    file_server.token = "signature=secret"
    made = map_change(file_server.url("a.tif?signature=secret"), pair[1], tmp_path / "out", PixelPredictor())
    text, _ = read(made.folder)
    assert text["links"][0]["href"] == file_server.url("a.tif")
    assert "file:checksum" not in text["links"][0]
    assert "secret" not in json.dumps(text)


def test_a_run_that_is_repeated_gives_the_same_item(tmp_path, pair):
    one, other = (map_change(*pair, tmp_path / name, PixelPredictor()) for name in ("one", "other"))
    assert (one.folder / "item.json").read_bytes() == (other.folder / "item.json").read_bytes()


@pytest.mark.parametrize(
    ("grid", "kind", "bbox"),
    [
        (Grid(CRS.from_epsg(4326), Affine(1, 0, 170, 0, -1, 10), (5, 20)), "MultiPolygon", [170, 5, -170, 10]),
        (Grid(CRS.from_epsg(4326), Affine(1, 0, 350, 0, -1, 10), (5, 5)), "Polygon", [-10, 5, -5, 10]),
        (Grid(CRS.from_epsg(4326), Affine(1, 0, -180, 0, -1, 90), (180, 360)), "Polygon", [-180, -90, 180, 90]),
        (Grid(CRS.from_epsg(3031), Affine(1e5, 0, -1e6, 0, -1e5, 1e6), (20, 20)), "Polygon", None),
        (Grid(CRS.from_epsg(32601), Affine(1000, 0, 1e5, 0, -1000, 6e6), (100, 500)), "MultiPolygon", None),
    ],
)
def test_extents_across_the_antimeridian_and_around_a_pole(grid, kind, bbox):
    shape, found = _geometry(grid)
    assert shape.geom_type == kind
    assert shape.is_valid
    parts = getattr(shape, "geoms", [shape])
    assert all(shapely.LinearRing(part.exterior).is_ccw for part in parts)
    assert shape.bounds[0] >= -180
    assert shape.bounds[2] <= 180
    if bbox is not None:
        assert found == bbox
    if grid.crs.to_epsg() == 3031:
        assert found[:2] == [-180, -90]
    lon, lat = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True).transform(
        *(grid.transform @ (grid.width / 2 + 0.3, grid.height / 2 + 0.3))
    )
    assert shape.contains(shapely.Point((lon + 180) % 360 - 180, lat))
    assert np.isfinite(found).all()
