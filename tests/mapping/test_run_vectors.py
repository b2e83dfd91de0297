"""`map --vector`: other formats of the polygons lie beside ``change.gpkg``, with what the images show in them."""

import json

import pyogrio
import pytest

from terradelta.errors import GridError, InputError
from terradelta.mapping.run import MapOptions, map_change

from .conftest import PixelPredictor


@pytest.fixture
def files(write_tiff, pair_values):
    return [write_tiff(f"{name}.tif", values) for name, values in zip("ab", pair_values, strict=True)]


def test_formats_lie_beside_the_geopackage(tmp_path, files):
    pytest.importorskip("pyarrow.parquet")
    options = MapOptions(min_area_m2=0, vectors=("geojson", "geoparquet", "flatgeobuf"))
    made = map_change(*files, tmp_path / "out", PixelPredictor(), options)
    expected = pyogrio.read_info(made.polygons)
    assert expected["features"] == 2
    assert "outline_in" in expected["fields"]
    for name in ("change.geojson", "change.fgb"):
        found = pyogrio.read_info(made.folder / name)
        assert found["features"] == 2
        assert list(found["fields"]) == list(expected["fields"])
    assert (made.folder / "change.parquet").is_file()
    first = json.loads((made.folder / "change.geojson").read_text())["features"][0]
    assert first["properties"]["id"] == 1
    assert -180 < first["geometry"]["coordinates"][0][0][0] < 180


def test_what_cannot_be_written_is_said_before_the_work(tmp_path, write_tiff, pair_values):
    plain = [write_tiff(f"{name}.tif", v, crs=None) for name, v in zip("ab", pair_values, strict=True)]
    predictor = PixelPredictor()
    with pytest.raises(GridError, match="GeoJSON holds longitudes and latitudes"):
        map_change(*plain, tmp_path / "out", predictor, MapOptions(vectors=("geojson",)))
    assert predictor.calls == []
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="--vector is 'shp'"):
        MapOptions(vectors=("shp",))
