import itertools
import json
import subprocess
import sys
import time

import numpy as np
import pyproj
import pytest
import rasterio
import rasterio.features
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rasterio.crs import CRS
from scipy import ndimage

from terradelta.errors import GridError, InputError, ShapeError
from terradelta.geo.grid import Grid, Tile
from terradelta.products.polygons import PolygonStream

UTM = CRS.from_epsg(32633)


def pixel_grid(shape):
    return Grid(None, Affine.identity(), shape)


def utm_grid(shape, pixel=10.0):
    return Grid(UTM, Affine(pixel, 0, 500_000, 0, -pixel, 5_000_000), shape)


def stream(grid, mask, probability=None, cuts=(), cols=(), **options):
    """The polygons of a mask that is pushed in tiles, which end at rows ``cuts`` and columns ``cols``."""
    if probability is None:
        probability = np.ones(mask.shape, np.float32)
    polygons, found = PolygonStream(grid, **options), []
    rows, columns = (
        itertools.pairwise([0, *sorted({cut for cut in at if 0 < cut < side}), side])
        for at, side in zip((cuts, cols), mask.shape, strict=True)
    )
    for (top, bottom), (left, right) in itertools.product(rows, columns):
        tile = Tile(top, left, bottom - top, right - left)
        found += polygons.push(tile, mask[tile.slices], probability[tile.slices])
    return found


def whole(mask):
    """The same, by rasterio in one go."""
    shapes = rasterio.features.shapes(mask.astype(np.uint8), mask=mask, connectivity=4)
    return [shapely.geometry.shape(shape) for shape, _ in shapes]


def same_outlines(found, expected):
    """Whether two lists hold the same polygons, vertex by vertex, in any order."""
    return sorted(each.normalize().wkt for each in found) == sorted(each.normalize().wkt for each in expected)


masks = hnp.arrays(bool, st.tuples(st.integers(1, 20), st.integers(1, 14)), elements=st.booleans())
cut_lists = st.lists(st.integers(1, 19), max_size=19)


@settings(max_examples=200)
@given(masks, cut_lists, cut_lists)
def test_any_tiles_give_the_polygons_of_the_whole_mask(mask, cuts, cols):
    found = stream(pixel_grid(mask.shape), mask, cuts=cuts, cols=cols)
    assert same_outlines([each.geometry for each in found], whole(mask))
    assert all(each.geometry.is_valid for each in found)


@given(masks, cut_lists, cut_lists, st.integers(0, 99))
def test_statistics_are_those_of_the_pixels(mask, cuts, cols, seed):
    probability = np.random.default_rng(seed).random(mask.shape, np.float32)
    labels, count = ndimage.label(mask)
    found = stream(pixel_grid(mask.shape), mask, probability, cuts, cols)
    assert len(found) == count
    for each in found:
        point = each.geometry.representative_point()
        inside = labels == labels[int(point.y), int(point.x)]
        assert each.pixels == each.area == inside.sum()
        assert each.perimeter == each.geometry.length
        assert each.mean_probability == pytest.approx(probability[inside].mean(dtype=float), rel=1e-6)
        assert each.max_probability == probability[inside].max()
        assert each.unit == "px"
        assert each.first == np.flatnonzero(inside)[0]
        assert each.last_row == np.nonzero(inside)[0].max()


def test_values_are_summed_over_the_pixels_of_each_polygon():
    mask = np.array([[1, 1, 0, 1], [0, 1, 0, 1], [0, 0, 0, 1]], bool)
    stream = PolygonStream(pixel_grid((3, 4)))
    weights = np.arange(12.0).reshape(3, 4)
    found = []
    for tile in (Tile(0, 0, 2, 2), Tile(0, 2, 2, 2), Tile(2, 0, 1, 2), Tile(2, 2, 1, 2)):
        part = mask[tile.slices]
        values = [weights[tile.slices][part], np.ones(part.sum())]
        found += stream.push(tile, part, np.ones(part.shape, np.float32), values)
    assert sorted(each.sums for each in found) == [(0 + 1 + 5, 3), (3 + 7 + 11, 3)]


def test_a_polygon_leaves_as_soon_as_it_cannot_grow():
    mask = np.array([[1, 0, 1], [0, 0, 1], [0, 0, 0], [1, 1, 1]], bool)
    ones = np.ones((1, 3), np.float32)
    polygons = PolygonStream(pixel_grid((4, 3)))
    counts = [len(polygons.push(Tile(row, 0, 1, 3), mask[row : row + 1], ones)) for row in range(4)]
    assert counts == [0, 1, 1, 1]


def test_work_is_linear_in_the_pixels_of_noise():
    """One component fills the scene, with holes everywhere: four times the pixels are not sixteen times the work."""

    def seconds(side):
        mask = np.random.default_rng(0).random((side, side)) < 0.61
        begin = time.process_time()
        found = stream(utm_grid(mask.shape), mask, cuts=range(0, side, 256), cols=range(0, side, 256))
        assert max(len(each.geometry.interiors) for each in found) > side * side / 200
        return time.process_time() - begin

    seconds(64)
    assert seconds(1024) < 8 * seconds(512)


def test_a_spiral_across_all_strips_is_one_polygon():
    mask = np.ones((41, 41), bool)
    row = col = 0
    for i, side in enumerate([*[39, 39, 39], *[n for n in range(37, 0, -2) for _ in range(2)]]):
        step = ((0, 1), (1, 0), (0, -1), (-1, 0))[i % 4]
        for _ in range(side):
            row, col = row + step[0], col + step[1]
            mask[row, col] = False
    found = stream(pixel_grid(mask.shape), mask, cuts=range(41))
    assert same_outlines([each.geometry for each in found], whole(mask))


def test_a_comb_across_many_strips_is_joined():
    # Teeth that only the last row connects: every strip brings as many pieces as there are teeth.
    mask = np.zeros((400, 40), bool)
    mask[:, ::2] = True
    mask[-1] = True
    (found,) = stream(pixel_grid(mask.shape), mask, cuts=range(400))
    assert found.pixels == 20 * 399 + 40
    # Four corners a tooth, less one where the first tooth meets the edge, and three of the base.
    assert len(found.geometry.exterior.coords) - 1 == 20 * 4 - 1 + 3
    assert found.geometry.area == found.pixels


def test_holes_are_kept_across_strips():
    mask = np.ones((9, 9), bool)
    mask[2:7, 2:7] = False
    mask[4, 4] = True
    found = stream(pixel_grid(mask.shape), mask, cuts=(3, 4, 5))
    assert sorted((each.pixels, len(each.geometry.interiors)) for each in found) == [(1, 0), (56, 1)]


def test_real_labels_streamed_are_the_whole(shared_data):
    path = sorted((shared_data / "levir_cd_subset" / "test" / "label").glob("*.png"))[0]
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning), rasterio.open(path) as file:
        mask = file.read(1) > 0
    found = stream(pixel_grid(mask.shape), mask, cuts=range(0, 1024, 100))
    assert same_outlines([each.geometry for each in found], whole(mask))


def lonlat_cell_area(south, north, width):
    """m² of a cell of ``width`` degrees on WGS 84: the integral of the ellipsoid's surface, in closed form."""
    geod = pyproj.Geod(ellps="WGS84")
    e = np.sqrt(geod.es)

    def band(latitude):
        s = np.sin(np.radians(latitude))
        return s / (1 - geod.es * s**2) + np.arctanh(e * s) / e

    return geod.b**2 / 2 * np.radians(width) * (band(north) - band(south))


@pytest.mark.parametrize("west", [10, 175, 355])
@pytest.mark.parametrize(("south", "side"), [(0, 1e-4), (45, 0.01), (60, 10), (-89, 1), (80, 10)])
def test_area_of_a_cell_in_degrees(south, side, west):
    grid = Grid(CRS.from_epsg(4326), Affine(side, 0, west, 0, -side, south + side), (1, 1))
    (found,) = stream(grid, np.ones((1, 1), bool))
    assert found.area == pytest.approx(lonlat_cell_area(south, south + side, side), rel=1e-6)
    assert found.unit == "m"


@pytest.mark.parametrize("easting", [500_000, 700_000, 200_000])
def test_area_and_perimeter_in_utm_follow_the_scale_factor(easting):
    grid = Grid(UTM, Affine(10, 0, easting, 0, -10, 5_000_000), (8, 5))
    (found,) = stream(grid, np.ones((8, 5), bool))
    utm = pyproj.Proj(UTM.to_wkt())
    factors = utm.get_factors(*utm(easting + 25, 4_999_960, inverse=True))
    assert found.area == pytest.approx(4000 / factors.areal_scale, rel=1e-7)
    assert found.perimeter == pytest.approx(260 / factors.meridional_scale, rel=1e-6)


# Projections that keep areas give them without any geodesic. 6931 and 6932 are polar, 3035 and 2163 oblique.
@pytest.mark.parametrize(
    ("epsg", "corner", "pixel", "shape"),
    [
        (3035, (4_000_000, 3_000_000), 10, (6, 6)),
        (3035, (3_000_000, 4_500_000), 100_000, (6, 6)),
        (6931, (-300_000, 300_000), 100_000, (6, 6)),
        (6932, (-3000, 3000), 1000, (6, 6)),
        (6931, (-2_000_000, 3_000_000), 25_000, (6, 40)),
        (6933, (17_000_000, 3_000_000), 10_000, (6, 6)),
    ],
)
def test_area_is_that_of_an_equal_area_projection(epsg, corner, pixel, shape):
    grid = Grid(CRS.from_epsg(epsg), Affine(pixel, 0, corner[0], 0, -pixel, corner[1]), shape)
    mask = np.ones(shape, bool)
    mask[1, 1] = mask[3:5, 2] = False
    (found,) = stream(grid, mask, cuts=(2, 4))
    assert found.area == pytest.approx(mask.sum() * pixel**2, rel=2e-6)


def test_a_rotated_grid_has_the_right_area_and_place():
    transform = Affine.translation(4_000_000, 3_000_000) @ Affine.rotation(30) @ Affine.scale(10, -20)
    (found,) = stream(Grid(CRS.from_epsg(3035), transform, (3, 4)), np.ones((3, 4), bool), cuts=(1, 2))
    assert found.area == pytest.approx(12 * 200, rel=1e-6)
    corners = [transform @ corner for corner in ((0, 0), (4, 0), (4, 3), (0, 3))]
    assert shapely.hausdorff_distance(found.geometry, shapely.Polygon(corners)) < 1e-6


def test_the_antimeridian_does_not_matter():
    # UTM zone 1 is symmetric to 177° W; 20 km from 180° on either side of the zone's centre.
    areas = []
    for easting in (166_021, 1_000_000 - 166_021 - 40_000):
        grid = Grid(
            CRS.from_epsg(32601), Affine(1000, 0, easting - 20_000 * (easting < 500_000), 0, -1000, 50_000), (9, 40)
        )
        areas += [each.area for each in stream(grid, np.ones((9, 40), bool))]
    utm = pyproj.Proj("EPSG:32601")
    assert utm(146_021, 50_000, inverse=True)[0] > 0 > utm(186_021, 50_000, inverse=True)[0]
    assert areas[0] == pytest.approx(9 * 40e6, rel=5e-3)


def test_units_other_than_the_metre_and_the_degree():
    feet = Grid(CRS.from_epsg(2263), Affine(10, 0, 1_000_000, 0, -10, 200_000), (4, 4))
    (found,) = stream(feet, np.ones((4, 4), bool))
    factors = pyproj.Proj("EPSG:2263").get_factors(-73.93, 40.7)
    assert found.area == pytest.approx(1600 * (1200 / 3937) ** 2 / factors.areal_scale, rel=1e-4)
    # Lambert II étendu lies on a geographic CRS in grads, counted from Paris.
    grads = Grid(CRS.from_epsg(27572), Affine(10, 0, 600_000, 0, -10, 2_200_000), (4, 4))
    (found,) = stream(grads, np.ones((4, 4), bool))
    assert found.area == pytest.approx(1600, rel=1e-3)


def test_a_height_in_the_crs_does_not_matter():
    place = Affine(10, 0, 500_000, 0, -10, 5_000_000)
    mask = np.ones((3, 3), bool)
    flat, high = (stream(Grid(CRS.from_epsg(code), place, (3, 3)), mask)[0].area for code in (25831, 5554))
    assert high == flat


def test_a_crs_without_an_ellipsoid_is_refused():
    site = CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1]]')
    with pytest.raises(GridError, match=r"the CRS 'site' has no ellipsoid, so areas are unknown; assign a geographic"):
        PolygonStream(Grid(site, Affine.scale(1, -1), (3, 3)))


def test_a_place_beyond_the_projection_has_no_area_but_stays():
    # The corner of a geostationary satellite's image looks past the earth.
    disc = CRS.from_string("+proj=geos +h=35785831 +lon_0=0 +ellps=WGS84 +units=m")
    grid = Grid(disc, Affine(1000, 0, -5_500_000, 0, -1000, 5_500_000), (3, 3))
    (found,) = stream(grid, np.ones((3, 3), bool), min_area_m2=1, simplify_m=10)
    assert np.isnan(found.area)
    assert np.isnan(found.perimeter)
    assert found.pixels == 9
    assert found.geometry.area == 9e6


def test_the_smallest_area_is_on_the_ground():
    mask = np.array([[1, 0, 1, 1], [0, 0, 0, 0], [1, 1, 1, 0]], bool)
    # Pixels of 20 m in the web's projection at 60° N are 10 m on the ground.
    web = Grid(CRS.from_epsg(3857), Affine(20, 0, 0, 0, -20, 8_399_738), mask.shape)
    assert [each.pixels for each in stream(web, mask, min_area_m2=150)] == [2, 3]
    assert [each.pixels for each in stream(web, mask, min_area_m2=250)] == [3]
    assert [each.pixels for each in stream(pixel_grid(mask.shape), mask, min_area_m2=2)] == [2, 3]


def disc(shape=(60, 60), radius=24):
    rows, cols = np.indices(shape)
    return (rows - 30) ** 2 + (cols - 30) ** 2 < radius**2


# Each grid has pixels of about 10 m on the ground; the factors take its (x, y) to metres there.
@pytest.mark.parametrize(
    ("epsg", "transform", "to_metres"),
    [
        (32633, Affine(10, 0, 500_000, 0, -10, 5_000_000), (1, 1)),
        (4326, Affine(1.79e-4, 0, 10, 0, -8.97e-5, 60), (55_800, 111_412)),
        (3857, Affine(20, 0, 0, 0, -20, 8_399_738), (0.5015, 0.4999)),
        (2263, Affine(32.8, 0, 1_000_000, 0, -32.8, 200_000), (0.3048, 0.3048)),
        (3031, Affine(10, 0, 1_500_000, 0, -10, 900_000), (1.02, 1.02)),
    ],
)
@pytest.mark.parametrize("tolerance", [5.0, 15.0, 60.0])
def test_simplified_outlines_move_by_the_tolerance_on_the_ground(epsg, transform, to_metres, tolerance):
    mask = disc()
    grid = Grid(CRS.from_epsg(epsg), transform, mask.shape)
    (exact,), (simple,) = stream(grid, mask), stream(grid, mask, cuts=(20, 40), simplify_m=tolerance)
    on_ground = [shapely.transform(each.geometry, lambda points: points * to_metres) for each in (exact, simple)]
    # The same in pixels of 10 m, without any CRS.
    (plain,), (rough,) = (
        stream(pixel_grid(mask.shape), mask),
        stream(pixel_grid(mask.shape), mask, simplify_m=tolerance / 10),
    )
    expected = 10 * shapely.hausdorff_distance(plain.geometry.exterior, rough.geometry.exterior, densify=0.1)
    moved = shapely.hausdorff_distance(on_ground[0].exterior, on_ground[1].exterior, densify=0.1)
    assert 0.9 * expected <= moved <= 1.1 * expected
    assert moved <= 2 * tolerance
    assert len(simple.geometry.exterior.coords) < len(exact.geometry.exterior.coords)
    assert simple.geometry.is_valid
    assert (simple.area, simple.perimeter) == pytest.approx((exact.area, exact.perimeter))


@given(masks, cut_lists, st.floats(0.1, 50))
def test_simplified_polygons_stay_polygons_and_do_not_depend_on_the_strips(mask, cuts, tolerance):
    exact = stream(pixel_grid(mask.shape), mask)
    simple = stream(pixel_grid(mask.shape), mask, simplify_m=tolerance)
    streamed = stream(pixel_grid(mask.shape), mask, cuts=cuts, simplify_m=tolerance)
    assert same_outlines([each.geometry for each in streamed], [each.geometry for each in simple])
    assert len(simple) == len(exact)
    for each, original in zip(simple, exact, strict=True):
        assert isinstance(each.geometry, shapely.Polygon)
        assert each.geometry.is_valid
        assert each.geometry.area > 0
        assert each.area == original.area


def test_an_outline_at_the_pole_is_left_as_it_is():
    grid = Grid(CRS.from_epsg(4326), Affine(1, 0, 0, 0, -1, 90.5), (1, 3))
    (found,) = stream(grid, np.ones((1, 3), bool), simplify_m=10)
    assert found.geometry.equals(shapely.box(0, 89.5, 3, 90.5))


def test_a_mask_without_polygons_that_are_large_enough_gives_none():
    assert stream(utm_grid((60, 60)), disc(), cuts=(20, 40), min_area_m2=1e9, simplify_m=5) == []
    assert stream(utm_grid((60, 60)), np.zeros((60, 60), bool), simplify_m=5) == []


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["min_area_m2", "simplify_m"])
def test_sizes_that_are_none_are_refused(name, value):
    with pytest.raises(InputError, match=f"{name} is {value}; it must be 0 or more"):
        PolygonStream(pixel_grid((3, 3)), **{name: value})


@pytest.mark.parametrize(
    ("tile", "cut", "message"),
    [
        (Tile(2, 0, 2, 8), np.s_[:], "begins at row 2, column 0, but row 0, column 8 is next; push row by row"),
        (Tile(0, 9, 2, 8), np.s_[:], "begins at row 0, column 9, but row 0, column 8 is next"),
        (Tile(0, 8, 3, 8), np.s_[:], "begins at row 0, column 8.*tiles of one height in a row"),
        (Tile(0, 8, 2, 13), np.s_[:], "has 2 x 13 pixels; expected 1 to 10 rows and 1 to 12 columns"),
        (
            Tile(0, 8, 2, 8),
            np.s_[:1],
            r"\(2, 8\), the mask \(2, 8\), the probabilities \(1, 8\); they must agree",
        ),
    ],
)
def test_tiles_that_do_not_fit_are_refused(tile, cut, message):
    polygons = PolygonStream(pixel_grid((10, 20)))
    mask, probability = np.zeros((2, 8), bool), np.zeros((2, 8), np.float32)
    polygons.push(Tile(0, 0, 2, 8), mask, probability)
    with pytest.raises(ShapeError, match=message):
        polygons.push(tile, mask, probability[cut])


def test_pyogrio_is_imported_only_when_it_is_needed():
    code = "import sys, json, terradelta.products.polygons; print(json.dumps('pyogrio' in sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert json.loads(result.stdout) is False
