"""Georeferences other than a transform in a CRS are followed or refused, never passed over."""

import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.rpc import RPC

from terradelta.errors import GridError, RasterError
from terradelta.geo.grid import Tile
from terradelta.mapping.run import map_change
from terradelta.predict.classical.cva import Cva
from terradelta.raster.pair import Reading, open_pair
from terradelta.raster.source import read_source

pytestmark = pytest.mark.filterwarnings("ignore:Dataset has no geotransform")  # while they are written
UTM = CRS.from_epsg(32614)
SCENE = np.random.default_rng(0).integers(20, 200, (3, 60, 80)).astype("uint8")


def write(path, values, **profile):
    count, height, width = values.shape
    profile = {"photometric": "MINISBLACK", "alpha": "NO", **profile}
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, dtype=values.dtype, **profile
    ) as file:
        file.write(values)
    return path


def points(height, width, x, y, bend=0.0):
    places = [(row, col) for row in np.linspace(0, height, 4) for col in np.linspace(0, width, 4)]
    return [GroundControlPoint(row, col, x + 5 * col + bend * (row * col) / 100, y - 5 * row) for row, col in places]


def by_points(path, values, x, y, bend=0.0, **profile):
    write(path, values, **profile)
    with rasterio.open(path, "r+") as file:
        file.gcps = points(*values.shape[1:], x, y, bend), UTM
    return path


def test_control_points_that_fit_a_transform_are_one(tmp_path):
    first = by_points(tmp_path / "a.tif", SCENE[:, :50, :60], 600000, 3400000)
    second = by_points(tmp_path / "b.tif", SCENE[:, 10:, 20:], 600100, 3399950)
    with open_pair(first, second) as pair:
        window = pair.read(pair.grid.tile)
        assert (pair.grid.crs, pair.grid.shape) == (UTM, (40, 40))
    np.testing.assert_array_equal(window.before, SCENE[:, 10:50, 20:60])
    np.testing.assert_array_equal(window.after, window.before)


@pytest.mark.parametrize("profile", [{}, {"nodata": 0}])
def test_control_points_that_bend_are_warped_by(tmp_path, profile):
    """A gradient along x: where it lies on the ground is known at every point."""
    values = np.broadcast_to(np.arange(20, 100, dtype="float32"), (1, 60, 80)).copy()
    path = by_points(tmp_path / "a.tif", values, 600000, 3400000, bend=4.0, **profile)
    source = read_source(path)
    assert source.files == (str(path),)
    assert "it was warped by them" in source.warnings[0]
    with open_pair(path, path, bands=[1]) as pair:
        window = pair.read(pair.grid.tile)
        assert any("warped by them" in line for line in pair.preflight.lines())
        transform = pair.grid.transform
    row, col = 30, 40
    x, y = 600000 + 5 * (col + 0.5) + 4 * (row + 0.5) * (col + 0.5) / 100, 3400000 - 5 * (row + 0.5)
    at_col, at_row = ~transform @ (x, y)
    assert window.before[0, int(at_row), int(at_col)] == pytest.approx(20 + col, abs=0.8)
    assert window.valid[int(at_row), int(at_col)]
    assert not window.valid.all()  # what lies outside of the bent image


def test_too_few_control_points(tmp_path):
    path = write(tmp_path / "a.tif", SCENE)
    with rasterio.open(path, "r+") as file:
        file.gcps = points(60, 80, 0, 0)[:2], UTM
    with pytest.raises(GridError, match="2 ground control points do not place an image; give it three or more"):
        read_source(path)


def test_rational_polynomials_and_geolocation_arrays_are_refused(tmp_path):
    path = write(tmp_path / "a.tif", SCENE)
    numbers = {name: 1.0 for name in ("height_off", "height_scale", "lat_off", "lat_scale", "line_off", "line_scale")}
    numbers |= {name: 1.0 for name in ("long_off", "long_scale", "samp_off", "samp_scale")}
    numbers |= {f"{part}_{end}_coeff": [1.0] * 20 for part in ("line", "samp") for end in ("num", "den")}
    with rasterio.open(path, "r+") as file:
        file.rpcs = RPC(**numbers, err_bias=None, err_rand=None)
    with pytest.raises(RasterError, match=r"\(RPC\) only, which need a terrain model; orthorectify .*gdalwarp -rpc"):
        read_source(path)
    path = write(tmp_path / "b.tif", SCENE)
    with rasterio.open(path, "r+") as file:
        file.update_tags(ns="GEOLOCATION", X_DATASET="lon.tif", Y_DATASET="lat.tif")
    with pytest.raises(RasterError, match=r"by geolocation arrays only; warp it first.*gdalwarp -geoloc"):
        read_source(path)


@pytest.mark.parametrize(
    ("west", "other", "crs"), [(200, -160, 4326), (-160, 200, 4326), (264, -96, 4326), (350, -10, 4267)]
)
def test_the_same_place_in_two_ways_to_count_longitudes(tmp_path, west, other, crs):
    first, second = (
        write(tmp_path / f"{n}.tif", SCENE, crs=f"EPSG:{crs}", transform=Affine(1e-3, 0, lon, 0, -1e-3, 30))
        for n, lon in (("a", west), ("b", other))
    )
    with open_pair(first, second, aoi=(-180, -80, 180, 80)) as pair:
        assert pair.grid.shape == (60, 80)
        assert -180 <= pair.grid.bounds[0] < 180
        window = pair.read(pair.grid.tile)
    np.testing.assert_array_equal(window.before, window.after)


def test_longitudes_beyond_180_and_a_projected_partner(tmp_path):
    values = np.full((1, 60, 80), 9, "uint8")
    first = write(tmp_path / "a.tif", values, crs=UTM, transform=Affine(100, 0, 600000, 0, -100, 3400000))
    second = write(tmp_path / "b.tif", values, crs="EPSG:4326", transform=Affine(0.01, 0, 261.8, 0, -0.01, 31))
    with open_pair(first, second) as pair:
        assert pair.read(Tile(20, 20, 5, 5)).valid.all()


@pytest.mark.parametrize(("west", "shift"), [(-180, 90), (0, 0), (-179, 90.5), (-90, 45)])
@pytest.mark.parametrize("nodata", [None, 0])
def test_the_whole_earth_cut_open_elsewhere(tmp_path, west, shift, nodata):
    world = np.random.default_rng(1).integers(1, 200, (2, 45, 90)).astype("uint8")
    world[:, 20:30, 40:50] = 0
    first = write(tmp_path / "a.tif", world, crs="EPSG:4326", transform=Affine(4, 0, -180, 0, -4, 90), nodata=nodata)
    columns = round((west + 180) / 4)
    rolled = np.roll(world, -columns, axis=2)
    start = -180 + 4 * columns + 360 * (shift == 0)
    second = write(tmp_path / "b.tif", rolled, crs="EPSG:4326", transform=Affine(4, 0, start, 0, -4, 90), nodata=nodata)
    for one, other in ((first, second), (second, first)):
        with open_pair(one, other, bands=[2, 1], reading=Reading()) as pair:
            assert pair.grid.shape == (45, 90)
            window = pair.read(pair.grid.tile)
        assert window.valid.all() == (nodata is None)
        np.testing.assert_array_equal(window.before, window.after)


def test_an_area_of_interest_on_longitudes_to_360(tmp_path):
    world = np.random.default_rng(1).integers(1, 200, (1, 45, 90)).astype("uint8")
    path = write(tmp_path / "a.tif", world, crs="EPSG:4326", transform=Affine(4, 0, 0, 0, -4, 90))
    with open_pair(path, path, aoi=(-100, 10, -60, 50)) as pair:
        assert pair.grid.bounds == (260, 10, 300, 50)


LOCAL = CRS.from_wkt('LOCAL_CS["RGF93 v1 / Lambert-93",UNIT["metre",1]]')


def test_a_local_crs_beside_a_real_one_names_the_cure(tmp_path):
    place = Affine(0.2, 0, 900000, 0, -0.2, 6500000)
    real = write(tmp_path / "a.tif", SCENE, crs="EPSG:2154", transform=place)
    local = write(tmp_path / "b.tif", SCENE, crs=LOCAL, transform=place)
    site = write(tmp_path / "c.tif", SCENE, crs=CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1]]'), transform=place)
    for other, code in ((local, "EPSG:2154"), (site, "EPSG:CODE")):
        with pytest.raises(
            GridError, match=f"has the local CRS .*no place on the Earth.*gdal_edit.py -a_srs {code} FI"
        ):
            open_pair(real, other)
    with open_pair(local, local) as pair:  # one plane, whichever it is
        assert pair.grid.shape == (60, 80)


def test_areas_that_cannot_be_measured_end_a_run_before_the_work(tmp_path):
    place = Affine(0.2, 0, 900000, 0, -0.2, 6500000)
    local = write(tmp_path / "a.tif", SCENE, crs=LOCAL, transform=place)
    ticks = []
    with pytest.raises(GridError, match="has no ellipsoid, so areas are unknown"):
        map_change(local, local, tmp_path / "out", Cva(), progress=lambda *done: ticks.append(done))
    assert ticks == []


@pytest.mark.parametrize("inner", [[120], [0, 120], [*range(60, 250)]])
def test_near_infrared_that_is_flagged_as_alpha_is_a_band(tmp_path, inner):
    """As in NAIP 2016."""
    flagged = np.random.default_rng(0).choice(np.array(inner, "uint8"), (1, 60, 80))
    values = np.concatenate([SCENE, flagged])
    path = write(tmp_path / "a.tif", values, alpha="YES", photometric="RGB")
    with open_pair(path, path) as pair:
        assert pair.count == 4
        window = pair.read(pair.grid.tile)
        assert any("band 4 of" in line and "flagged as alpha" in line for line in pair.preflight.warnings)
    np.testing.assert_array_equal(window.before, values)
    assert window.valid.all()


@pytest.mark.parametrize(("dtype", "opaque"), [("uint8", 255), ("uint16", 65535), ("uint16", 255), ("uint8", 1)])
def test_an_alpha_band_with_soft_edges_is_none(tmp_path, dtype, opaque):
    alpha = np.full((1, 60, 80), opaque, dtype)
    alpha[:, :10], alpha[:, 10, :40] = 0, opaque // 2
    path = write(tmp_path / "a.tif", np.concatenate([SCENE.astype(dtype), alpha]), alpha="YES", photometric="RGB")
    with open_pair(path, path) as pair:
        assert (pair.count, pair.preflight.warnings) == (3, ())
        assert not pair.read(pair.grid.tile).valid[:10].any()


@pytest.mark.parametrize("tag", range(1, 9))
def test_pictures_are_compared_upright(tmp_path, tag):
    """Blocks of 8 x 8 pixels of one colour, which JPEG keeps nearly exactly; turned as viewers turn it back."""
    tones = np.random.default_rng(0).integers(60, 200, (5, 7, 1)).repeat(8, 0).repeat(8, 1).repeat(3, 2)
    upright = Image.fromarray(tones.astype("uint8"))
    undo = {2: [0], 3: [3], 4: [1], 5: [5], 6: [2], 7: [6], 8: [4]}.get(tag, [])
    stored = upright
    for operation in undo:
        stored = stored.transpose(Image.Transpose(operation))
    exif = Image.Exif()
    exif[0x0112] = tag
    upright.save(tmp_path / "a.jpg", quality=98, subsampling=0)
    stored.save(tmp_path / "b.jpg", quality=98, subsampling=0, exif=exif)
    for one, other in (("a.jpg", "b.jpg"), ("b.jpg", "a.jpg")):
        with open_pair(tmp_path / one, tmp_path / other) as pair:
            assert pair.grid.shape == (40, 56)
            window = pair.read(pair.grid.tile)
        assert window.valid.all()
        np.testing.assert_allclose(window.before.astype(int), window.after.astype(int), atol=3)
        np.testing.assert_allclose(window.before.astype(int), np.moveaxis(tones, 2, 0), atol=3)
