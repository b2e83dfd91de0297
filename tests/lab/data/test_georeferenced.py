"""Pairs on the ground: mosaics of other grids, labels as rasters and polygons, compared with naive drawing."""

import multiprocessing
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Transformer

from terradelta.errors import DataError
from terradelta.geo.grid import Tile
from terradelta.lab.data import LabelledPair, PairFiles, PairList, open_pairs
from terradelta.lab.data.labels import LabelCoding

UTM = "EPSG:32614"
PLACE = Affine(0.5, 0, 600000, 0, -0.5, 3400000)
SHIFTED = PLACE @ Affine.translation(-3, 5)
HEIGHT, WIDTH = 60, 80
AREAS = [
    shapely.Polygon([(600003.1, 3399990.03), (600013.4, 3399992.2), (600009.3, 3399980.6)]),
    shapely.Point(600030, 3399985).buffer(4.2).difference(shapely.Point(600030, 3399985).buffer(1.7)),
]


def save_areas(path: Path, areas: list[shapely.Geometry], crs: str | None, **options: object) -> Path:
    kind = {".gpkg": "GPKG", ".geojson": "GeoJSON", ".shp": "ESRI Shapefile"}[path.suffix]
    geometry = np.array([shapely.to_wkb(area) for area in areas], object)
    names = [np.array([f"area {k}" for k in range(len(areas))], object)]
    types = {"geometry_type": "Polygon", **options}
    pyogrio.raw.write(path, geometry, names, ["name"], driver=kind, crs=crs, **types)
    return path


def drawn(areas: list[shapely.Geometry], place: Affine, shape: tuple[int, int]) -> np.ndarray:
    """Changed where the centre of a pixel lies in an area: pixel by pixel."""
    inside = np.zeros(shape, bool)
    for row in range(shape[0]):
        for col in range(shape[1]):
            centre = shapely.Point(place @ (col + 0.5, row + 0.5))
            inside[row, col] = any(area.contains(centre) for area in areas)
    return inside


@pytest.fixture(scope="module")
def mosaic(tmp_path_factory, write_image, noise) -> Path:
    """before.tif, and after.tif that lies five rows lower and three columns further left; areas in a GeoPackage."""
    root = tmp_path_factory.mktemp("mosaic")
    options = {"crs": UTM, "tiled": True, "blockxsize": 16, "blockysize": 16}
    write_image(root / "before.tif", noise(0, height=HEIGHT, width=WIDTH), transform=PLACE, **options)
    write_image(root / "after.tif", noise(1, height=HEIGHT, width=WIDTH), transform=SHIFTED, **options)
    save_areas(root / "areas.gpkg", AREAS, UTM)
    return root


def pairs_of(root: Path, label: str, **options: object) -> PairList:
    files = PairFiles("m", root / "before.tif", root / "after.tif", root / label, on_ground=True, **options)
    return PairList(root, "train", (files,))


def test_the_pair_lies_on_the_first_dates_grid_where_both_have_data(mosaic: Path, noise) -> None:
    pair = pairs_of(mosaic, "areas.gpkg").read(0)
    before, after = noise(0, height=HEIGHT, width=WIDTH), noise(1, height=HEIGHT, width=WIDTH)
    assert pair.label.shape == (55, 77)
    np.testing.assert_array_equal(pair.before, before[:, 5:, :77])
    np.testing.assert_array_equal(pair.after, after[:, :55, 3:])
    assert pair.valid is None
    grid = pairs_of(mosaic, "areas.gpkg").grid(0)
    assert grid.transform.almost_equals(PLACE @ Affine.translation(0, 5))
    assert pairs_of(mosaic, "areas.gpkg").size(0) == grid.shape == (55, 77)


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".shp"])
@pytest.mark.parametrize("crs", [UTM, "EPSG:4326"])
def test_polygons_are_drawn_by_the_centre_of_the_pixel(mosaic: Path, tmp_path: Path, suffix: str, crs: str) -> None:
    to_crs = Transformer.from_crs(UTM, crs, always_xy=True)
    moved = [shapely.transform(area, lambda p: np.column_stack(to_crs.transform(p[:, 0], p[:, 1]))) for area in AREAS]
    label = save_areas(tmp_path / f"areas{suffix}", moved, crs)
    files = PairFiles("m", mosaic / "before.tif", mosaic / "after.tif", label, on_ground=True)
    found = PairList(mosaic, "train", (files,)).read(0).label
    want = drawn(AREAS, PLACE, (HEIGHT, WIDTH))[5:, :77]
    assert want.sum() > 100
    if suffix == ".geojson" and crs == "EPSG:4326":  # GeoJSON keeps seven digits: a centimetre
        assert (found != want).sum() <= 2
    else:
        np.testing.assert_array_equal(found, want)


@pytest.fixture(scope="module")
def opened(mosaic: Path) -> tuple[PairList, LabelledPair]:
    """The mosaic, and all of it."""
    pairs = pairs_of(mosaic, "areas.gpkg")
    return pairs, pairs.read(0)


@given(st.tuples(st.integers(0, 54), st.integers(0, 76)), st.tuples(st.integers(1, 55), st.integers(1, 77)))
def test_a_window_is_a_part_of_the_whole(opened: tuple[PairList, LabelledPair], corner, size) -> None:
    window = Tile(*corner, min(size[0], 55 - corner[0]), min(size[1], 77 - corner[1]))
    pairs, whole = opened
    part = pairs.read_window(0, window)
    np.testing.assert_array_equal(part.before, whole.before[:, *window.slices])
    np.testing.assert_array_equal(part.after, whole.after[:, *window.slices])
    np.testing.assert_array_equal(part.label, whole.label[window.slices])


def test_a_window_of_the_first_date(mosaic: Path) -> None:
    whole = pairs_of(mosaic, "areas.gpkg").read(0)
    part = pairs_of(mosaic, "areas.gpkg", window=Tile(0, 40, 20, 100)).read(0)
    np.testing.assert_array_equal(part.before, whole.before[:, :15, 40:])
    np.testing.assert_array_equal(part.label, whole.label[:15, 40:])
    with pytest.raises(DataError, match=r"m: rows 0 to 5, columns 0 to 9 of the first date lie outside the part that"):
        pairs_of(mosaic, "areas.gpkg", window=Tile(0, 0, 5, 9)).size(0)


def test_a_label_raster_of_its_own_grid(mosaic: Path, tmp_path: Path, write_image) -> None:
    """Twice the pixel size, half the place: the rest has no label."""
    coarse = np.zeros((15, 40), np.uint8)
    coarse[4:9, 10:30] = 255
    label = write_image(tmp_path / "l.tif", coarse, crs=UTM, transform=PLACE @ Affine.scale(2))
    files = PairFiles("m", mosaic / "before.tif", mosaic / "after.tif", label, on_ground=True)
    pair = PairList(mosaic, "train", (files,)).read(0)
    np.testing.assert_array_equal(pair.label[:25], np.kron(coarse, np.ones((2, 2)))[5:30, :77] > 0)
    assert not pair.label[25:].any()
    assert pair.valid is None
    np.testing.assert_array_equal(pair.known, np.arange(55)[:, None] < np.where(np.arange(77) >= 0, 25, 0))
    assert pair.before[:, 25:].any()  # the images are there all the same


@pytest.mark.parametrize("placed", [True, False])
def test_nodata_of_a_label_means_no_label_unless_it_is_0(mosaic: Path, tmp_path: Path, write_image, placed) -> None:
    values = np.zeros((HEIGHT, WIDTH), np.uint8)
    values[10:20], values[20:30] = 1, 7
    place = {"crs": UTM, "transform": PLACE} if placed else {}
    for nodata, known in ((7, True), (0, False)):
        label = write_image(tmp_path / f"{nodata}.tif", values, nodata=nodata, **place)
        files = PairFiles("m", mosaic / "before.tif", mosaic / "after.tif", label, on_ground=True)
        pairs = PairList(mosaic, "train", (files,))
        if not known:
            with pytest.raises(DataError, match=r"0.tif: label values \[0, 1, 7\]"):
                pairs.read(0)
            continue
        pair = pairs.read(0)
        np.testing.assert_array_equal(np.flatnonzero(pair.label.all(axis=1)), np.arange(5, 15))
        np.testing.assert_array_equal(np.flatnonzero(~pair.known.any(axis=1)), np.arange(15, 25))


def test_codes_and_nodata_of_a_label_agree(mosaic: Path, tmp_path: Path, write_image) -> None:
    values = np.ones((HEIGHT, WIDTH), np.uint8)
    values[10:20], values[20:30] = 2, 9
    label = write_image(tmp_path / "l.tif", values, nodata=9, crs=UTM, transform=PLACE)
    pair = PairList(
        mosaic,
        "train",
        (PairFiles("m", mosaic / "before.tif", mosaic / "after.tif", label, LabelCoding.ONE_TWO, on_ground=True),),
    ).read(0)
    assert pair.label.sum() == 10 * 77
    assert pair.known.sum() == 45 * 77


def test_pixels_without_data_count_for_nothing(tmp_path: Path, write_image) -> None:
    before = np.full((1, 20, 20), 50, np.float32)
    before[0, :4] = np.nan
    after = np.full((1, 20, 20), 60, np.uint8)
    after[0, :, 15:] = 0
    write_image(tmp_path / "before.tif", before, crs=UTM, transform=PLACE)
    write_image(tmp_path / "after.tif", after, crs=UTM, transform=PLACE, nodata=0)
    save_areas(tmp_path / "areas.gpkg", [shapely.box(599000, 3390000, 609000, 3409000)], UTM)
    pair = pairs_of(tmp_path, "areas.gpkg").read(0)
    want = np.zeros((20, 20), bool)
    want[4:, :15] = True
    np.testing.assert_array_equal(pair.valid, want)
    np.testing.assert_array_equal(pair.label, want)
    assert not pair.before[0][~want].any()
    assert np.isfinite(pair.before).all()


def test_no_area_at_all_is_no_change(mosaic: Path, tmp_path: Path) -> None:
    label = save_areas(tmp_path / "far.gpkg", [shapely.box(0, 0, 1, 1)], UTM)
    files = PairFiles("m", mosaic / "before.tif", mosaic / "after.tif", label, on_ground=True)
    assert not PairList(mosaic, "train", (files,)).read(0).label.any()


def test_labels_that_cannot_be_drawn(mosaic: Path, tmp_path: Path, write_image, noise) -> None:
    def read(label: Path, before: Path = mosaic / "before.tif", after: Path = mosaic / "after.tif") -> None:
        PairList(mosaic, "train", (PairFiles("m", before, after, label, on_ground=True),)).read(0)

    with pytest.warns(UserWarning, match="'crs' was not provided"):
        nowhere = save_areas(tmp_path / "nowhere.shp", AREAS, None)
    with pytest.raises(DataError, match=r"nowhere.shp has no CRS; assign the one of its coordinates"):
        read(nowhere)
    points = save_areas(tmp_path / "points.gpkg", [shapely.Point(1, 2)], UTM, geometry_type="Point")
    with pytest.raises(DataError, match=r"points.gpkg holds no layer of polygons; give a file with one layer"):
        read(points)
    save_areas(tmp_path / "two.gpkg", AREAS, UTM, layer="a")
    save_areas(tmp_path / "two.gpkg", AREAS, UTM, layer="b", append=True)
    with pytest.raises(DataError, match=r"two.gpkg holds 2 layers of polygons \(a, b\)"):
        read(tmp_path / "two.gpkg")
    (tmp_path / "broken.gpkg").write_text("no database")
    with pytest.raises(DataError, match=r"broken.gpkg cannot be read"):
        read(tmp_path / "broken.gpkg")
    small = write_image(tmp_path / "small.tif", np.zeros((10, 10), np.uint8))
    with pytest.raises(DataError, match=r"small.tif has no CRS and is 10 x 10 pixels, the first date 60 x 80; give"):
        read(small)
    plain = write_image(tmp_path / "plain.png", noise(3))
    with pytest.raises(DataError, match=r"areas.gpkg: polygons need images with a CRS; give a label image, or assign"):
        read(mosaic / "areas.gpkg", plain, plain)
    with pytest.raises(DataError, match=r"m: .*plain.png has no CRS, but the other date has one"):
        read(mosaic / "areas.gpkg", plain)


def test_a_table_of_mosaics_splits_one_by_windows(mosaic: Path, tmp_path: Path) -> None:
    table = tmp_path / "pairs.csv"
    line = f"{mosaic}/before.tif,{mosaic}/after.tif,{mosaic}/areas.gpkg"
    table.write_text(f"before,after,label,split,window\n{line},train,0 0 40 80\n{line},val,40 0 20 80\n")
    whole = pairs_of(mosaic, "areas.gpkg").read(0)
    parts = [open_pairs(table, split).read(0) for split in ("train", "val")]
    np.testing.assert_array_equal(np.concatenate([part.after for part in parts], axis=1), whole.after)
    np.testing.assert_array_equal(np.concatenate([part.label for part in parts]), whole.label)


def test_three_folders_take_polygons_as_labels(mosaic: Path, tmp_path: Path) -> None:
    for part, file in (("old", "before.tif"), ("new", "after.tif"), ("truth", "areas.gpkg")):
        (tmp_path / part).mkdir()
        (tmp_path / part / f"x{Path(file).suffix}").write_bytes((mosaic / file).read_bytes())
    pairs = open_pairs(f"{tmp_path}/old,{tmp_path}/new,{tmp_path}/truth", "all")
    np.testing.assert_array_equal(pairs.read(0).label, pairs_of(mosaic, "areas.gpkg").read(0).label)


def test_the_checksum_follows_all_parts_of_a_shapefile(mosaic: Path, tmp_path: Path) -> None:
    label = save_areas(tmp_path / "areas.shp", AREAS, UTM)
    files = PairFiles("m", mosaic / "before.tif", mosaic / "after.tif", label, on_ground=True)
    pairs = PairList(mosaic, "train", (files,))
    first = pairs.checksum()
    with label.with_suffix(".prj").open("a") as stream:
        stream.write(" ")
    assert pairs.checksum() != first


def _read_sum(pairs: PairList) -> int:
    return int(pairs.read(0).after.astype(np.int64).sum())


def test_another_process_opens_its_own_files(mosaic: Path) -> None:
    """Forked after the files were opened here: reading through shared handles would give a mixture."""
    pairs = pairs_of(mosaic, "areas.gpkg")
    want = _read_sum(pairs)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(_read_sum, [pairs] * 8) == [want] * 8


def test_few_files_stay_open(mosaic: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from terradelta.lab.data import georeferenced as ground

    closed: list[str] = []
    original = ground.GroundReader.close
    monkeypatch.setattr(ground.GroundReader, "close", lambda self: (closed.append(self.name), original(self)))
    files = [
        PairFiles(f"{k}", mosaic / "before.tif", mosaic / "after.tif", mosaic / "areas.gpkg", on_ground=True)
        for k in range(7)
    ]
    pairs = PairList(mosaic, "train", tuple(files))
    for k in (0, 1, 2, 3, 0, 4, 5, 6):
        pairs.size(k)
    assert closed == ["1", "2", "3"]


def test_memory_does_not_grow_with_the_mosaic(tmp_path: Path) -> None:
    """A window of a mosaic of 1.2 GB (sparse, all zeros) is read without decoding the rest."""
    import tracemalloc

    profile = {"driver": "GTiff", "height": 20000, "width": 20000, "count": 3, "dtype": "uint8", "crs": UTM}
    options = {"tiled": True, "sparse_ok": True, "compress": "deflate", "transform": PLACE}
    for name in ("before", "after"):
        with rasterio.open(tmp_path / f"{name}.tif", "w", **profile, **options) as target:
            target.write(np.full((3, 256, 256), 9, np.uint8), window=rasterio.windows.Window(512, 512, 256, 256))
    save_areas(tmp_path / "areas.gpkg", [shapely.box(*(PLACE @ (600, 700)), *(PLACE @ (650, 640)))], UTM)
    pairs = pairs_of(tmp_path, "areas.gpkg")
    tracemalloc.start()
    pair = pairs.read_window(0, Tile(512, 512, 256, 256))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert pair.before.mean() == 9
    assert pair.label.sum() == 50 * 60
    assert peak < 16 * 2**20
