"""`open_pair`: which pixels are valid, and what it refuses to open."""

import os

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import shapely
import skimage.io
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import ColorInterp

from terradelta.errors import BandError, GridError, InputError, RasterError
from terradelta.geo.grid import Grid, Tile
from terradelta.raster.nodata import find_fill, parse_nodata
from terradelta.raster.overlap import Area
from terradelta.raster.pair import Reading, open_pair

UTM = CRS.from_epsg(32614)
X0, Y0 = 500000.0, 5200000.0
AT_HOME = Affine(5, 0, X0, 0, -5, Y0)
# Moved by a part of a pixel, so that the file is warped; its pixel (r, c) is the nearest to the grid's (r, c).
NEAR_HOME = Affine(5, 0, X0 - 1.5, 0, -5, Y0 + 1.0)
SHAPE = (40, 50)
AS_DECLARED = Reading()


def write(path, values, transform=AT_HOME, crs=UTM, **profile):
    count, height, width = values.shape
    profile = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": values.dtype, **profile}
    profile = {"photometric": "MINISBLACK", "alpha": "NO", **profile} if profile["driver"] == "GTiff" else profile
    with rasterio.open(path, "w", transform=transform, crs=crs, **profile) as file:
        file.write(values)
    return path


@pytest.fixture
def partner(tmp_path):
    """A first date that is valid everywhere."""
    return write(tmp_path / "partner.tif", np.full((1, *SHAPE), 7, "uint8"))


def holes(seed=0, share=0.1):
    return np.random.default_rng(seed).random(SHAPE) < share


def check(partner, path, expected, bands=(1,), reading=AS_DECLARED):
    """Validity must be ``expected``; every valid value must be the constant 100, however close to a hole."""
    with open_pair(path, path, bands=list(bands), reading=reading) as pair:
        assert (pair.grid.shape, pair.preflight.placements[0].warped) == (SHAPE, False)
        check_window(pair.read(pair.grid.tile), expected, tolerance=0)
        small = pair.read_decimated(25)
        np.testing.assert_array_equal(small.valid, expected[1::2, 1::2])
    with rasterio.open(path, "r+") as file:
        file.transform = NEAR_HOME
    grid = Grid(UTM, AT_HOME, SHAPE)
    with open_pair(partner, path, bands=None if len(bands) == 1 else [*bands], grid=grid, reading=reading) as pair:
        assert pair.preflight.placements[1].warped
        rows, cols = pair.grid.shape
        check_window(pair.read(pair.grid.tile), expected[:rows, :cols], tolerance=0)


def check_window(window, expected, tolerance):
    np.testing.assert_array_equal(window.valid, expected)
    assert expected.any()
    assert not expected.all()
    np.testing.assert_allclose(window.after[:, window.valid], 100, atol=tolerance)


@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [
        *[("uint8", value) for value in (0, 255)],
        *[("uint16", value) for value in (0, 65535)],
        *[("int16", value) for value in (0, -9999)],
        ("int32", -9999),
        *[("float32", value) for value in (0, -9999, np.nan)],
        *[("float64", value) for value in (255, np.nan)],
    ],
)
def test_nodata_neither_counts_nor_bleeds(tmp_path, partner, dtype, nodata):
    values = np.full((1, *SHAPE), 100, dtype)
    values[0, holes()] = nodata
    check(partner, write(tmp_path / "a.tif", values, nodata=nodata), ~holes())


def test_undeclared_nan_beside_another_nodata_value(tmp_path, partner):
    values = np.full((1, *SHAPE), 100, "float32")
    values[0, holes(0)] = -9999
    values[0, holes(1)] = np.nan
    check(partner, write(tmp_path / "a.tif", values, nodata=-9999), ~(holes(0) | holes(1)))


def test_undeclared_nan(tmp_path, partner):
    values = np.full((1, *SHAPE), 100, "float32")
    values[0, holes()] = np.nan
    check(partner, write(tmp_path / "a.tif", values), ~holes())


@pytest.mark.parametrize("infinite", [np.inf, -np.inf])
def test_infinity_is_never_a_value(tmp_path, partner, infinite):
    values = np.full((1, *SHAPE), 100, "float32")
    values[0, 20, 20] = infinite
    path = write(tmp_path / "a.tif", values)
    for transform in (AT_HOME, NEAR_HOME):
        with rasterio.open(path, "r+") as file:
            file.transform = transform
        with open_pair(partner, path) as pair:
            window = pair.read(pair.grid.tile)
        assert not window.valid[20, 20]
        assert (~window.valid).sum() <= 9
        np.testing.assert_allclose(window.after[:, window.valid], 100)


def test_a_pixel_is_valid_where_every_selected_band_is(tmp_path):
    any_band = Reading(nodata_bands="any")
    partner = write(tmp_path / "partner.tif", np.full((3, *SHAPE), 7, "uint8"))
    values = np.full((3, *SHAPE), 100, "uint8")
    for band in range(3):
        values[band, holes(band)] = 0
    path = write(tmp_path / "a.tif", values, nodata=0)
    check(partner, path, ~(holes(0) | holes(1) | holes(2)), bands=(1, 2, 3), reading=any_band)
    with rasterio.open(path, "r+") as file:
        file.transform = AT_HOME
    check(partner, path, ~(holes(0) | holes(2)), bands=(3, 1), reading=any_band)


@pytest.mark.parametrize("count", [1, 3, 4])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_an_alpha_band_is_a_mask_and_no_image(tmp_path, count, dtype):
    values = np.full((count + 1, *SHAPE), 100, dtype)
    values[-1] = np.where(holes(), 0, np.where(holes(7, 0.04), 120, 255))  # a few pixels are half transparent
    values[:-1, holes()] = 33
    path = write(tmp_path / "a.tif", values)
    with rasterio.open(path, "r+") as file:
        file.colorinterp = [*[ColorInterp.undefined] * count, ColorInterp.alpha]
    partner = write(tmp_path / "partner.tif", np.full((count, *SHAPE), 7, dtype))
    with open_pair(partner, path) as pair:
        assert pair.count == count
        assert "an alpha band" in pair.preflight.lines()[1]
    check(partner, path, ~holes(), bands=range(1, count + 1))
    with pytest.raises(BandError, match=f"no image band {count + 1}.*alpha bands do not count"):
        open_pair(partner, path, bands=[count + 1])


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("inside", [True, False])
def test_masks_inside_and_beside_the_file(tmp_path, count, inside):
    values = np.full((count, *SHAPE), 100, "uint8")
    values[:, holes()] = 33
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=inside):
        path = write(tmp_path / "a.tif", values)
        with rasterio.open(path, "r+") as file:
            file.write_mask(~holes())
    assert (tmp_path / "a.tif.msk").exists() is not inside
    partner = write(tmp_path / "partner.tif", np.full((count, *SHAPE), 7, "uint8"))
    check(partner, path, ~holes(), bands=range(1, count + 1))


def test_a_mask_for_each_band(tmp_path):
    path = write(tmp_path / "a.tif", np.full((2, *SHAPE), 100, "uint8"), nodata=7)
    masks = np.where([holes(0), holes(1)], 0, 255).astype("uint8")
    with rasterio.open(write(tmp_path / "a.tif.msk", masks), "r+") as file:
        file.update_tags(INTERNAL_MASK_FLAGS_1=0, INTERNAL_MASK_FLAGS_2=0)
    partner = write(tmp_path / "partner.tif", np.full((2, *SHAPE), 7, "uint8"))
    check(partner, path, ~(holes(0) | holes(1)), bands=(1, 2))


def test_both_dates_must_be_valid(tmp_path):
    values = np.full((1, *SHAPE), 100, "uint8")
    paths = []
    for seed in (0, 1):
        dated = values.copy()
        dated[0, holes(seed)] = 0
        paths.append(write(tmp_path / f"{seed}.tif", dated, nodata=0))
    with open_pair(*paths) as pair:
        np.testing.assert_array_equal(pair.read(pair.grid.tile).valid, ~(holes(0) | holes(1)))
        assert pair.preflight.valid_fraction == (~(holes(0) | holes(1))).mean()


# --- area of interest


def lonlat(x, y):
    (lon,), (lat,) = rasterio.warp.transform(UTM, "EPSG:4326", [x], [y])
    return lon, lat


def test_a_polygon_crops_and_masks(tmp_path):
    path = write(tmp_path / "a.tif", np.full((1, *SHAPE), 100, "uint8"))
    corners = [(X0 + 52, Y0 - 48), (X0 + 152, Y0 - 48), (X0 + 52, Y0 - 149)]
    for area in (Area(shapely.Polygon(corners), UTM), shapely.Polygon([lonlat(*corner) for corner in corners])):
        with open_pair(path, path, aoi=area) as pair:
            window = pair.read(pair.grid.tile)
            part = pair.read(Tile(3, 2, 5, 6))
            assert pair.preflight.aoi
        assert pair.grid == Grid(UTM, AT_HOME, SHAPE).crop(Tile(9, 10, 21, 21))
        rows, cols = np.mgrid[:21, :21] + 0.5
        x, y = X0 + 50 + 5 * cols, Y0 - 45 - 5 * rows
        np.testing.assert_array_equal(window.valid, shapely.contains_xy(shapely.Polygon(corners), x, y))
        np.testing.assert_array_equal(part.valid, window.valid[3:8, 2:8])


def test_a_box_is_in_longitude_and_latitude_and_may_be_the_world(tmp_path):
    path = write(tmp_path / "a.tif", np.full((1, *SHAPE), 100, "uint8"))
    west, south = lonlat(X0 + 101, Y0 - 99)
    with open_pair(path, path, aoi=(west, south, west + 1, south + 1)) as pair:
        assert pair.grid.shape == (20, 30)
    with open_pair(path, path, aoi=(-180, -90, 180, 90)) as pair:
        assert pair.read(pair.grid.tile).valid.all()
        assert pair.grid.shape == SHAPE


@pytest.mark.parametrize(
    ("aoi", "message"),
    [
        ((10, 40, 5, 50), r"\(10, 40, 5, 50\) is no box; give \(west, south, east, north\)"),
        ((10, 40, 11), "is no box"),
        (shapely.Point(0, 0), "is an unusable Point; give a valid polygon"),
        (shapely.Polygon(), "is an empty Polygon"),
        ((10, 40, 11, 41), r"lies outside the overlap of both images \(longitude -99.0"),
        (Area(shapely.box(10, 40, 11, 41), "EPSG:999999"), "CRS 'EPSG:999999' is unknown"),
    ],
)
def test_areas_that_cannot_be_used(partner, aoi, message):
    with pytest.raises(GridError, match=message):
        open_pair(partner, partner, aoi=aoi)


def test_an_area_of_interest_needs_a_crs(tmp_path):
    plain = plain_image(tmp_path / "a.tif")
    with pytest.raises(GridError, match="needs images with a CRS"):
        open_pair(plain, plain, aoi=(0, 0, 1, 1))


# --- places that do not match


def plain_image(path, shape=SHAPE, transform=None):
    """An image without a CRS, and without a transform unless one is given."""
    if transform is not None:
        return write(path, np.full((1, *shape), 9, "uint8"), transform, None)
    skimage.io.imsave(path, np.full(shape, 9, "uint8"), check_contrast=False)
    return path


def test_no_overlap_names_both_extents(tmp_path, partner):
    far = write(tmp_path / "far.tif", np.ones((1, *SHAPE), "uint8"), AT_HOME, CRS.from_epsg(32613))
    with pytest.raises(GridError, match=r"do not overlap \(.*longitude -99.000.*latitude 46.9.*longitude -105.000"):
        open_pair(partner, far)


def test_less_than_a_pixel_in_common(tmp_path, partner):
    edge = write(tmp_path / "edge.tif", np.ones((1, *SHAPE), "uint8"), Affine(5, 0, X0 + 248, 0, -5, Y0))
    with pytest.raises(GridError, match="holds no whole pixel"):
        open_pair(partner, edge)


def test_a_given_grid_elsewhere(partner):
    with pytest.raises(GridError, match="do not overlap on the given grid"):
        open_pair(partner, partner, grid=Grid(UTM, Affine(5, 0, X0 + 5000, 0, -5, Y0), SHAPE))
    with pytest.raises(GridError, match="the given grid has no CRS"):
        open_pair(partner, partner, grid=Grid(None, AT_HOME, SHAPE))


def test_one_crs_missing_names_the_file_and_the_cure(tmp_path, partner):
    plain = write(tmp_path / "plain.tif", np.ones((1, *SHAPE), "uint8"), AT_HOME, None)
    for paths in ((plain, partner), (partner, plain)):
        with pytest.raises(GridError, match=r"plain.tif has no CRS, but the other date has one; assign it with"):
            open_pair(*paths)


def test_plain_images_of_different_size(tmp_path):
    first, second = (plain_image(tmp_path / f"{rows}.tif", (rows, 50)) for rows in (40, 41))
    with pytest.raises(GridError, match=r"same size, but .*40.tif is 40 x 50 and .*41.tif is 41 x 50 pixels"):
        open_pair(first, second)
    with pytest.raises(GridError, match="cannot be put on a given grid"):
        open_pair(first, first, grid=Grid(UTM, AT_HOME, SHAPE))


def test_world_files_that_disagree(tmp_path):
    first = plain_image(tmp_path / "a.tif", transform=AT_HOME)
    second = plain_image(tmp_path / "b.tif", transform=NEAR_HOME)
    with open_pair(first, first) as pair:
        assert pair.grid == Grid(None, Affine.identity(), SHAPE)
    with pytest.raises(GridError, match="different places of an unnamed CRS"):
        open_pair(first, second)


# --- files that cannot be read


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.tif", "missing.tif does not exist; check the path"),
        ("", "is a folder; give the raster file inside it"),
        ("text.tif", "text.tif cannot be opened as a raster .*give a GeoTIFF"),
    ],
)
def test_what_is_no_raster_file(tmp_path, partner, name, message):
    (tmp_path / "text.tif").write_text("not an image")
    with pytest.raises(RasterError, match=message):
        open_pair(partner, tmp_path / name)


@pytest.mark.parametrize("url", ["s3://bucket/a.tif", "file:///etc/a.tif", "/vsicurl/http://127.0.0.1:9/a.tif"])
def test_other_urls_are_refused(partner, url):
    with pytest.raises(RasterError, match="reads no other URLs and no /vsi paths: download it first"):
        open_pair(url, partner)


def test_complex_values_are_refused(tmp_path, partner):
    radar = write(tmp_path / "radar.tif", np.ones((1, *SHAPE), "complex64"))
    with pytest.raises(RasterError, match=r"radar.tif holds complex64 values.*amplitude"):
        open_pair(partner, radar)


@pytest.mark.parametrize("transform", [AT_HOME, NEAR_HOME])
@pytest.mark.parametrize("layout", [{"compress": "deflate"}, {}, {"tiled": True, "blockxsize": 256, "blockysize": 256}])
def test_a_truncated_file_names_itself_and_the_window(tmp_path, transform, layout):
    values = np.random.default_rng(0).integers(1, 255, (1, 800, 800)).astype("uint8")
    whole = write(tmp_path / "whole.tif", values)
    cut = write(tmp_path / "cut.tif", values, transform, **layout)
    os.truncate(cut, cut.stat().st_size * 8 // 10)
    with open_pair(whole, cut) as pair:
        with pytest.raises(RasterError, match=r"cut.tif cannot be read at rows 770 to 789, columns 3 to 9 of the"):
            pair.read(Tile(770, 3, 20, 7))
        with pytest.raises(RasterError, match=r"cut.tif cannot be read .*the file is truncated or damaged: fetch it"):
            pair.read_decimated(100)


def test_no_valid_pixel_in_a_small_pair(tmp_path, partner):
    empty = write(tmp_path / "empty.tif", np.zeros((1, *SHAPE), "uint8"), nodata=0)
    with pytest.raises(
        RasterError, match=r"no pixel is valid on both dates where .*empty.tif overlap; check the nodata"
    ):
        open_pair(partner, empty)


def test_one_valid_pixel_far_down_is_found(tmp_path):
    values = np.zeros((1, 1300, 1200), "uint8")
    values[0, 1299, 1199] = 1
    path = write(tmp_path / "a.tif", values, nodata=0, compress="deflate")
    with open_pair(path, path) as pair:
        assert pair.read(Tile(1299, 1199, 1, 1)).valid.all()


def test_reading_after_closing(partner):
    with open_pair(partner, partner) as pair:
        pass
    with pytest.raises(RasterError, match="this pair is closed; read inside the with block"):
        pair.read(Tile(0, 0, 1, 1))


def test_odd_file_names(tmp_path):
    path = write(tmp_path / "été & <fin> 'a' 100%?.tif", np.full((1, *SHAPE), 100, "uint8"))
    with open_pair(path, path) as pair:
        assert (pair.read(pair.grid.tile).before == 100).all()


@pytest.mark.parametrize(
    ("dtype", "nodata", "rule", "one_is_enough"),
    [
        ("uint8", 0, "auto", False),
        ("uint16", 65535, "auto", False),
        ("float32", 0, "auto", False),
        ("float32", 65535, "auto", True),
        ("int16", -9999, "auto", True),
        ("int16", -9999, "all", False),
        ("float32", -9999, "all", False),
        ("uint8", 0, "any", True),
        ("float32", np.nan, "all", True),
    ],
)
@pytest.mark.parametrize("declared", [True, False])
def test_a_value_that_could_be_measured_is_no_data_only_in_all_bands(
    tmp_path, dtype, nodata, rule, one_is_enough, declared
):
    """Declared in the file or told; read as it is and through a warp."""
    values = np.full((3, *SHAPE), 100, dtype)
    values[:, holes(0)] = nodata
    values[1, holes(1)] = nodata
    reading = Reading(nodata_bands=rule, nodata="auto" if declared else f"{nodata}")
    path = write(tmp_path / "a.tif", values, **({"nodata": nodata} if declared else {}))
    partner = write(tmp_path / "b.tif", np.full((3, *SHAPE), 7, "uint8"))
    expected = ~holes(0) & ~holes(1) if one_is_enough else ~holes(0)
    with open_pair(path, partner, bands=[1, 2, 3], reading=reading) as pair:
        np.testing.assert_array_equal(pair.read(pair.grid.tile).valid, expected)
        np.testing.assert_array_equal(pair.read_decimated(25).valid, expected[1::2, 1::2])
    with rasterio.open(path, "r+") as file:
        file.transform = NEAR_HOME
    grid = Grid(UTM, AT_HOME, SHAPE)
    with open_pair(partner, path, bands=[1, 2, 3], grid=grid, reading=reading) as pair:
        window = pair.read(pair.grid.tile)
        rows, cols = pair.grid.shape
        np.testing.assert_array_equal(window.valid, expected[:rows, :cols])
        np.testing.assert_array_equal(window.after[0, window.valid & ~holes(1)[:rows, :cols]], 100)


def test_what_is_told_takes_the_place_of_what_the_file_declares(tmp_path, partner):
    values = np.full((1, *SHAPE), 100, "uint8")
    values[0, holes(0)] = 0
    path = write(tmp_path / "a.tif", values, nodata=100)
    with open_pair(path, partner, reading=Reading(nodata="0,auto")) as pair:
        np.testing.assert_array_equal(pair.read(pair.grid.tile).valid, ~holes(0))
    for told in ("none", "none,auto", "-9999", "nan"):  # the last two are nothing that eight bits hold
        with open_pair(path, partner, reading=Reading(nodata=told)) as pair:
            assert pair.read(pair.grid.tile).valid.all()


def test_masks_and_alpha_hold_beside_what_is_told(tmp_path):
    values = np.full((2, *SHAPE), 100, "uint8")
    values[0, holes(0)] = 3
    values[1] = np.where(holes(1), 0, 255)
    path = write(tmp_path / "a.tif", values, alpha="YES")
    partner = write(tmp_path / "b.tif", values[:1])
    with open_pair(path, partner, reading=Reading(nodata="3,none")) as pair:
        np.testing.assert_array_equal(pair.read(pair.grid.tile).valid, ~holes(0) & ~holes(1))


@pytest.mark.parametrize("text", ["", "x", "1,2,3", "1;2"])
def test_nodata_that_is_not_understood(text):
    with pytest.raises(InputError, match=r"--nodata .* is not understood. Value that means no data: auto"):
        parse_nodata(text)


def textured(seed=0, low=60, high=140, shape=(3, 60, 80)):
    return np.random.default_rng(seed).integers(low, high, shape).astype("float32")


@pytest.mark.parametrize(
    ("value", "where", "collar"),
    [
        (-9999, np.s_[:, :4], False),
        (-9999, np.s_[:, 30:33, 40:50], False),
        (0, np.s_[:, :, :15], False),
        (59, np.s_[:, :, :15], True),  # next to the other values, but along a border
        (140, np.s_[:, 50:, 70:], True),  # a corner
        (59, np.s_[:, 20:40, 20:40], None),  # a lake
        (140, np.s_[:1, :, :15], None),  # in one band only
        (255, np.s_[:, :1, :1], None),  # a single pixel
    ],
)
def test_fills_that_nobody_declared(value, where, collar):
    values = textured()
    values[where] = value
    found = find_fill(values, np.ones((60, 80), bool))
    if collar is None:
        assert found is None
    else:
        assert (found.value, found.collar) == (value, collar)
        assert found.share == pytest.approx((values == value).all(axis=0).mean())


def test_no_fill_in_plain_images():
    assert find_fill(textured(), np.ones((60, 80), bool)) is None
    assert find_fill(np.full((3, 60, 80), 7.0), np.ones((60, 80), bool)) is None
    assert find_fill(textured(), np.zeros((60, 80), bool)) is None


def test_a_fill_is_said_with_the_cure(tmp_path):
    values = textured(shape=(3, *SHAPE))
    filled = values.copy()
    filled[:, :4] = -9999
    first, second = write(tmp_path / "a.tif", values), write(tmp_path / "b.tif", filled)
    with open_pair(first, second) as pair:
        warning = pair.preflight.warnings[-1]
    assert warning == (
        "10.0% of the second date's valid pixels hold -9999 in all bands, far from all other values: if that means no "
        "data, say so with --nodata auto,-9999"
    )
    with open_pair(first, second, reading=Reading(nodata="auto,-9999")) as pair:
        assert not any("--nodata" in line for line in pair.preflight.lines())
        assert "nodata -9999 in any band" in pair.preflight.lines()[1]
        assert pair.preflight.valid_fraction == 0.9


FORMATS = {
    **{"a.tif": ("GTiff", 3, {}), "tiled.tif": ("GTiff", 3, {"tiled": True, "blockxsize": 32, "blockysize": 32})},
    **{"a.png": ("PNG", 3, {}), "a.jpg": ("JPEG", 3, {}), "a.webp": ("WEBP", 3, {}), "a.bmp": ("BMP", 3, {})},
    **{"a.gif": ("GIF", 1, {}), "a.ppm": ("PNM", 3, {}), "a.pgm": ("PNM", 1, {}), "a.img": ("HFA", 3, {})},
    **{"bsq.dat": ("ENVI", 3, {}), "bip.dat": ("ENVI", 3, {"interleave": "bip"}), "a.ntf": ("NITF", 3, {})},
    **{"bil.dat": ("ENVI", 3, {"interleave": "bil"}), "a.bil": ("EHdr", 3, {}), "one.bil": ("EHdr", 1, {})},
    **{"a.asc": ("AAIGrid", 1, {}), "a.jp2": ("JP2OpenJPEG", 3, {"reversible": "yes", "quality": "100"})},
}


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
@pytest.mark.parametrize("name", FORMATS)
def test_a_truncated_file_of_any_format_is_no_image(tmp_path, name):
    driver, count, options = FORMATS[name]
    values = np.random.default_rng(0).integers(1, 255, (count, 64, 80)).astype("uint8")
    path, source = tmp_path / name, tmp_path / "source.tif"
    with rasterio.open(source, "w", driver="GTiff", count=count, height=64, width=80, dtype="uint8") as file:
        file.write(values)
    rasterio.shutil.copy(source, path, driver=driver, **options)
    for beside in tmp_path.glob("*.aux.xml"):
        beside.unlink()
    with open_pair(path, path) as pair:
        whole = pair.read(pair.grid.tile)
        assert whole.valid.all()
        if driver not in ("JPEG", "WEBP", "AAIGrid"):  # the last one turns what is not north up
            np.testing.assert_array_equal(whole.before, values)
    os.truncate(path, int(path.stat().st_size * 0.8))

    def read():
        with open_pair(path, path) as pair:
            pair.read(pair.grid.tile)

    for _ in range(2):  # what GDAL keeps of the first attempt must not pass for an image
        with pytest.raises(RasterError, match=r"truncated|cannot be opened|cannot be read"):
            read()


def test_a_truncated_raw_file_names_both_sizes(tmp_path):
    path = tmp_path / "a.dat"
    size = {"count": 2, "height": 64, "width": 80, "dtype": "uint16"}
    with rasterio.open(path, "w", driver="ENVI", crs=UTM, transform=AT_HOME, **size) as file:
        file.write(np.ones((2, 64, 80), "uint16"))
    os.truncate(path, 20479)
    with pytest.raises(RasterError, match=r"has 20,479 of the 20,480 bytes that its header names: it is truncated"):
        open_pair(path, path)
