"""Areas of pixels and classes on the ellipsoid; samples drawn and read."""

import warnings
from pathlib import Path

import numpy as np
import pyogrio.raw
import pytest
import rasterio
import shapely
from affine import Affine
from pyproj import Geod
from rasterio.errors import NotGeoreferencedWarning

from terradelta.area.samples import draw_samples, read_samples, write_samples
from terradelta.area.zonal import PixelAreas, read_regions, zonal_areas
from terradelta.errors import GridError, InputError, OutputError, RasterError
from terradelta.geo.grid import Grid, Tile
from terradelta.products.change import ChangeRaster

PLACES = {
    "degrees": ("EPSG:4326", Affine(0.001, 0, 10, 0, -0.001, 62)),
    "utm": ("EPSG:32614", Affine(30, 0, 300000, 0, -30, 6000000)),
    "fine": ("EPSG:32614", Affine(0.5, 0, 600000, 0, -0.5, 3400000)),
    "turned": ("EPSG:3035", Affine(20, 15, 4000000, 15, -20, 3000000)),
}


def write_map(path: Path, values: np.ndarray, crs, transform, dtype="uint8") -> Path:
    profile = {"height": values.shape[0], "width": values.shape[1], "count": 1, "dtype": dtype, "nodata": 255}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver="GTiff", crs=crs, transform=transform, **profile) as target:
            target.write(values.astype(dtype), 1)
    return path


@pytest.fixture
def change(tmp_path) -> Path:
    """60 x 80 pixels of half a metre: changed in rows 10 to 29, columns 20 to 59; no data in the last row."""
    values = np.zeros((60, 80), np.uint8)
    values[10:30, 20:60], values[59] = 1, 255
    return write_map(tmp_path / "change.tif", values, *PLACES["fine"])


@pytest.mark.parametrize("name", PLACES)
def test_pixels_have_the_area_of_the_geodesic_polygon(name):
    crs, transform = PLACES[name]
    grid = Grid(rasterio.crs.CRS.from_string(crs), transform, (700, 900))
    areas = PixelAreas(grid).on(Tile(0, 0, 700, 900))
    to_lonlat = __import__("pyproj").Transformer.from_crs(crs, 4326, always_xy=True)
    for row, col, side in ((0, 0, 150), (300, 500, 150), (549, 749, 151)):
        edge = np.linspace(0, side, 200)
        ring_r = np.concatenate([0 * edge, edge, 0 * edge + side, edge[::-1]]) + row
        ring_c = np.concatenate([edge, 0 * edge + side, edge[::-1], 0 * edge]) + col
        lon, lat = to_lonlat.transform(*(transform @ (ring_c, ring_r)))
        oracle = abs(Geod(ellps="WGS84" if name != "turned" else "GRS80").polygon_area_perimeter(lon, lat)[0])
        found = areas[row : row + side, col : col + side].sum()
        assert found == pytest.approx(oracle, rel=2e-5 if name == "fine" else 1e-6)


def test_a_map_that_claims_any_size_takes_bounded_memory():
    crs, transform = PLACES["fine"]
    areas, near = (PixelAreas(Grid(rasterio.crs.CRS.from_string(crs), transform, (side, 3))) for side in (10**7, 700))
    assert areas.on(Tile(0, 0, 2, 3)) == pytest.approx(near.on(Tile(0, 0, 2, 3)), rel=1e-4)


def test_degrees_by_the_formula_of_the_zone():
    """The area of a strip of latitude on the ellipsoid, in closed form."""
    crs, transform = PLACES["degrees"]
    grid = Grid(rasterio.crs.CRS.from_string(crs), transform, (4000, 10))
    a, e2 = 6378137.0, 0.0066943799901413165
    e = np.sqrt(e2)

    def zone(latitude: float) -> float:
        s = np.sin(np.radians(latitude))
        return a * a * (1 - e2) / 2 * (s / (1 - e2 * s * s) + np.arctanh(e * s) / e)

    found = PixelAreas(grid).on(Tile(0, 0, 4000, 1)).sum()
    assert found == pytest.approx(np.radians(0.001) * (zone(62) - zone(58)), rel=1e-7)


def test_the_tally_of_a_map_and_its_regions(change, tmp_path):
    left, top = 600000, 3400000
    shapes = [shapely.box(left, top - 30, left + 20, top), shapely.box(left + 10, top - 30, left + 500, top - 5)]
    path = tmp_path / "regions.gpkg"
    pyogrio.raw.write(
        path,
        geometry=shapely.to_wkb(shapes),
        field_data=[np.array(["west", None], object)],
        fields=["name"],
        driver="GPKG",
        geometry_type="Polygon",
        crs="EPSG:32614",
    )
    with ChangeRaster(change) as raster:
        whole, west, east = zonal_areas(raster, read_regions(path, raster.grid))
    assert whole.pixels.tolist() == [59 * 80 - 800, 800]
    assert whole.no_data_px == 80
    assert whole.areas[1] == pytest.approx(200, rel=1e-3)
    assert (west.name, east.name) == ("west", "region 2")
    assert west.pixels.tolist() == [59 * 40 - 400, 400]
    assert east.pixels[1] == 20 * 40
    assert east.areas[1] / east.pixels[1] == pytest.approx(0.25, rel=1e-3)


def test_regions_in_another_crs_and_without_names(change, tmp_path):
    with ChangeRaster(change) as raster:
        west, south, east, north = raster.grid.lonlat_bounds()
        path = tmp_path / "r.geojson"
        path.write_text(shapely.to_geojson(shapely.box(west - 0.01, south - 0.01, east + 0.01, north + 0.01)))
        (region,) = read_regions(path, raster.grid)
        assert region.name == "region 1"
        assert zonal_areas(raster, [region])[1].pixels[1] == 800
        path.write_text(shapely.to_geojson(shapely.Point(1, 2)))
        with pytest.raises(InputError, match="holds no polygon; give a layer of polygons"):
            read_regions(path, raster.grid)
        (tmp_path / "table.csv").write_text("name,value\na,1\nb,2\n")
        with pytest.raises(InputError, match="holds no polygon; give a layer of polygons"):
            read_regions(tmp_path / "table.csv", raster.grid)
        with pytest.raises(InputError, match="cannot be read as polygons"):
            read_regions(tmp_path / "none.gpkg", raster.grid)


def test_plain_maps_count_pixels(tmp_path):
    path = write_map(tmp_path / "change.tif", np.eye(40), None, Affine.identity())
    geojson = tmp_path / "r.geojson"
    geojson.write_text(shapely.to_geojson(shapely.box(0, 0, 1, 1)))
    with ChangeRaster(path) as raster:
        (whole,) = zonal_areas(raster)
        assert (whole.unit, whole.areas.tolist()) == ("px", [1560, 40])
        with pytest.raises(InputError, match="the map has none; give regions in pixels"):
            read_regions(geojson, raster.grid)
        with pytest.raises(InputError, match="the map has no CRS; give x and y in pixels"):
            samples = tmp_path / "s.csv"
            samples.write_text("lon,lat,label\n1,2,0\n")
            read_samples(samples, raster)


def test_files_that_are_no_change_map(tmp_path):
    with pytest.raises(RasterError, match="give a folder that `terradelta map` made"):
        ChangeRaster(tmp_path / "change.tif")
    path = write_map(tmp_path / "a.tif", np.full((70, 70), 7), *PLACES["fine"])
    with ChangeRaster(path) as raster, pytest.raises(RasterError, match="holds other values than 0, 1 and 255"):
        zonal_areas(raster)
    path = write_map(tmp_path / "b.tif", np.zeros((70, 70)), *PLACES["fine"], dtype="float32")
    with pytest.raises(RasterError, match="is no change map"):
        ChangeRaster(path)
    local = write_map(tmp_path / "c.tif", np.zeros((70, 70)), 'LOCAL_CS["x",UNIT["metre",1]]', PLACES["fine"][1])
    with ChangeRaster(local) as raster, pytest.raises(GridError, match="areas are unknown"):
        zonal_areas(raster)


@pytest.mark.parametrize("suffix", [".gpkg", ".csv"])
def test_samples_are_drawn_written_labelled_and_read(change, tmp_path, suffix):
    path = tmp_path / f"samples{suffix}"
    with ChangeRaster(change) as raster:
        places = draw_samples(raster, [40, 60], seed=3)
        assert (draw_samples(raster, [40, 60], seed=3) == places).all()
        assert not np.array_equal(draw_samples(raster, [40, 60], seed=4), places)
        truth = raster.read(raster.grid.tile)[places[:, 0], places[:, 1]]
        assert (np.bincount(truth) == [40, 60]).all()
        assert len({tuple(place) for place in places.tolist()}) == 100
        assert (np.diff(truth.astype(int)) != 0).sum() > 20  # the order does not tell the class
        write_samples(path, places, raster.grid)
        with pytest.raises(InputError, match=r"holds no labelled sample on the map .100 of 100 samples have no label"):
            read_samples(path, raster)
        label(path, truth)
        found = read_samples(path, raster)
        assert found.counts().tolist() == [[40, 0], [0, 60]]
        assert np.column_stack([found.rows, found.cols]).tolist() == places.tolist()
        assert found.counts(np.arange(100) < 10).sum() == 10


def label(path: Path, labels: np.ndarray) -> None:
    """What the analyst does."""
    if path.suffix == ".csv":
        head, *lines = path.read_text().splitlines()
        path.write_text("\n".join([head, *(f"{line}{n}" for line, n in zip(lines, labels, strict=True))]))
        return
    meta, _, shapes, fields = pyogrio.raw.read(path)
    assert list(meta["fields"]) == ["id", "label"]
    pyogrio.raw.write(
        path,
        geometry=shapes,
        field_data=[fields[0], labels.astype(np.int32)],
        fields=["id", "label"],
        layer="samples",
        driver="GPKG",
        geometry_type="Point",
        crs=meta["crs"],
    )


def test_every_pixel_of_a_class_is_as_likely(tmp_path):
    values = np.zeros((1200, 1100), np.uint8)
    values[1000:1100] = 1
    path = write_map(tmp_path / "change.tif", values, *PLACES["fine"])
    with ChangeRaster(path) as raster:
        places = draw_samples(raster, [400, 4000], seed=0)
    changed = places[(places[:, 0] >= 1000) & (places[:, 0] < 1100)]
    share = (changed[:, 1] < 1024).mean()  # across the border of two tiles
    assert share == pytest.approx(1024 / 1100, abs=0.015)
    assert (changed[:, 0] < 1024).mean() == pytest.approx(0.24, abs=0.03)


def test_labels_in_words_and_points_that_do_not_count(change, tmp_path):
    path = tmp_path / "s.csv"
    with ChangeRaster(change) as raster:
        lon, lat = rasterio.warp.transform(raster.grid.crs, "EPSG:4326", [600015.0, 600001.0], [3399990.0, 3399999.0])
        path.write_text(f"LON,lat,Label\n{lon[0]},{lat[0]},Changed\n{lon[1]},{lat[1]},no\n{lon[1]},{lat[1]},\n0,0,1\n")
        found = read_samples(path, raster)
        assert found.counts().tolist() == [[1, 0], [0, 1]]
        assert found.notes == (
            "1 of 4 samples have no label and are left out",
            "1 of 4 samples lie off the map and are left out",
        )
        path.write_text("x,y,label\n600000.2,3399970.2,1\n600015,3399990,1\n")
        assert "1 of 2 samples lie where the map has no data and are left out" in read_samples(path, raster).notes


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n", "it needs label, and lon and lat or x and y"),
        ("", r"has the columns \(none\)"),
        ("x,y,label\nq,2,1\n", "x and y must be numbers"),
        ("x,y,label\n600001,3399999,maybe\n", "the label 'maybe' is unknown; use 0 or unchanged, 1 or changed"),
    ],
)
def test_csv_files_that_are_no_samples(change, tmp_path, text, words):
    path = tmp_path / "s.csv"
    path.write_text(text)
    with ChangeRaster(change) as raster, pytest.raises(InputError, match=words):
        read_samples(path, raster)


def test_vector_files_that_are_no_samples_and_bad_names(change, tmp_path):
    path = tmp_path / "s.geojson"
    with ChangeRaster(change) as raster:
        with pytest.raises(InputError, match="cannot be read as points"):
            read_samples(path, raster)
        with pytest.raises(InputError, match="cannot be read as a CSV file"):
            read_samples(tmp_path / "none.csv", raster)
        path.write_text(shapely.to_geojson(shapely.Point(1, 2)))
        with pytest.raises(InputError, match="it needs points with a field label"):
            read_samples(path, raster)
        path.write_text(
            '{"type": "Feature", "properties": {"label": 1}, "geometry": '
            + shapely.to_geojson(shapely.box(0, 0, 1, 1))
            + "}"
        )
        with pytest.raises(InputError, match="holds other things than points"):
            read_samples(path, raster)
        with pytest.raises(InputError, match=r"written as .gpkg or .csv"):
            write_samples(tmp_path / "s.txt", np.zeros((1, 2), int), raster.grid)
        with pytest.raises(OutputError, match="cannot be written"):
            write_samples(change / "s.csv", np.zeros((1, 2), int), raster.grid)
        write_samples(tmp_path / "made" / "s.csv", np.zeros((1, 2), int), raster.grid)
        with pytest.raises(InputError, match="801 samples are to be drawn among 800 changed pixels; draw fewer"):
            draw_samples(raster, [1, 801], seed=0)
