"""Polygons in memory are those of ``change.gpkg``."""

import dask.array
import geopandas
import numpy as np
import pytest
import rioxarray
import xarray
from rasterio.warp import transform_bounds
from tests.mapping.conftest import PixelPredictor, Writer

from terradelta.arrays import change_polygons as module
from terradelta.arrays.change_polygons import change_polygons
from terradelta.arrays.detect import detect_change
from terradelta.errors import InputError
from terradelta.mapping.run import MapOptions, map_change

pytestmark = pytest.mark.filterwarnings("ignore::terradelta.errors.DoubtWarning")


@pytest.fixture
def files(write_tiff: Writer, pair_values):
    return [write_tiff(f"{name}.tif", values) for name, values in zip("ab", pair_values, strict=True)]


@pytest.mark.parametrize("least", [None, 0, 20])
def test_polygons_are_those_of_the_geopackage(tmp_path, files, least):
    made = map_change(*files, tmp_path / "out", PixelPredictor(), MapOptions(min_area_m2=least, simplify_m=0.4))
    expected = geopandas.read_file(made.polygons)
    found = change_polygons(detect_change(*files, PixelPredictor()), least, simplify_m=0.4)
    assert len(found) == (2 if least == 0 else 1)
    assert list(found.columns[:-1]) == list(expected.columns[:6])
    assert found.crs == expected.crs
    assert str(found.crs) == "EPSG:32614"
    key = "area_m2"
    one, other = (table.sort_values(key).reset_index(drop=True) for table in (found, expected))
    assert one.geometry.geom_equals(other.geometry).all()
    for name in ("area_m2", "perimeter_m", "mean_probability", "max_probability", "pixels"):
        np.testing.assert_array_equal(one[name], other[name])
    assert found.id.tolist() == list(range(1, len(found) + 1))


def test_a_lazy_result_and_small_tiles_give_the_same(pair_values, monkeypatch):
    whole = change_polygons(detect_change(*pair_values, PixelPredictor()))
    monkeypatch.setattr(module, "_TILE", 64)
    arrays = [dask.array.from_array(values, (3, 100, 100)) for values in pair_values]
    lazy = change_polygons(detect_change(*arrays, PixelPredictor(), tile=128, overlap=32))
    assert lazy.geometry.geom_equals(whole.geometry).all()
    assert lazy.drop(columns="geometry").equals(whole.drop(columns="geometry"))


def test_without_a_crs_areas_are_pixels_and_rows_go_down(tmp_path, pair_values):
    found = change_polygons(detect_change(*pair_values, PixelPredictor()), 17)
    assert found.area_px.tolist() == [60 * 80]
    assert found.crs is None
    assert found.total_bounds.tolist() == [200, -160, 280, -100]


def test_a_part_of_a_result_lies_where_it_lies(files):
    whole = detect_change(*files, PixelPredictor())
    part = change_polygons(whole.isel(y=slice(90, 200), x=slice(190, 300)))
    assert part.total_bounds.tolist() == [600100, 3399920, 600140, 3399950]


def test_no_change_is_an_empty_table(pair_values):
    found = change_polygons(detect_change(pair_values[0], pair_values[0], PixelPredictor()))
    assert len(found) == 0
    assert list(found.columns)[:2] == ["id", "area_px"]


def test_an_area_of_interest_cuts_polygons(files):
    area = transform_bounds("EPSG:32614", "EPSG:4326", 600000, 3399900, 600120, 3400000)
    found = change_polygons(detect_change(*files, PixelPredictor(), aoi=area), 100)
    assert 0 < found.pixels.item() < 60 * 80


def test_anything_else_is_refused():
    with pytest.raises(InputError, match="takes what detect_change gives: a dataset with probability and change"):
        change_polygons(xarray.Dataset())


@pytest.mark.parametrize("door", ["paths", "dask"])
def test_with_the_images_there_are_all_fields(tmp_path, files, door):
    made = map_change(*files, tmp_path / "out", PixelPredictor(), MapOptions(min_area_m2=0, coregister=True))
    expected = geopandas.read_file(made.polygons).sort_values("area_m2").reset_index(drop=True)
    dates = files if door == "paths" else [rioxarray.open_rasterio(file, chunks={"x": 150, "y": 99}) for file in files]
    ds = detect_change(*dates, PixelPredictor(), coregister=True, bands=(1, 2, 3))
    options = {"coregister": True, "bands": (1, 2, 3)}
    found = change_polygons(ds, 0, before=dates[0], after=dates[1], **options).sort_values("area_m2")
    text = " ".join(found.columns).replace("band_1", "red").replace("band_2", "green").replace("band_3", "blue")
    assert text.split() == list(expected.columns)
    for name, known in zip(found.columns, expected.columns, strict=True):
        if name not in ("geometry", "id"):
            assert found[name].tolist() == pytest.approx(expected[known].tolist(), nan_ok=True)


def test_other_images_than_those_of_the_result_are_refused(files, write_tiff, pair_values):
    ds = detect_change(*files, PixelPredictor())
    with pytest.raises(InputError, match="needs both before and after, or neither"):
        change_polygons(ds, before=files[0])
    with pytest.raises(InputError, match="do not lie on the grid of ds"):
        change_polygons(ds.isel(x=slice(5, 99)), before=files[0], after=files[1])
    with pytest.raises(InputError, match="made from the bands red, green, blue, but these are blue, green, red; give"):
        change_polygons(ds, before=files[0], after=files[1], bands=(3, 2, 1))
    with pytest.raises(InputError, match="change_polygons has no option colour"):
        change_polygons(ds, before=files[0], after=files[1], colour=1)


def test_dimensions_may_have_the_names_of_degrees(files):
    west, south, east, north = -98.0, 30.0, -97.99, 30.007
    dates = [
        xarray.DataArray(
            rioxarray.open_rasterio(file).values,
            dims=("band", "lat", "lon"),
            coords={"lat": np.linspace(north, south, 300), "lon": np.linspace(west, east, 420)},
        ).rio.write_crs("EPSG:4326")
        for file in files
    ]
    found = detect_change(*dates, PixelPredictor(), anyway=True)
    assert found.change.dims == ("lat", "lon")
    polygons = change_polygons(found, 1000)
    assert polygons.crs.to_epsg() == 4326
    assert polygons.pixels.tolist() == [60 * 80]
    assert west < polygons.total_bounds[0] < polygons.total_bounds[2] < east
