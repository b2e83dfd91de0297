"""Pictures of the dates, against the files themselves."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.warp import Resampling, calculate_default_transform, reproject
from scipy import ndimage
from tests.mapping.conftest import BoxPredictor, PixelPredictor
from tests.review.conftest import PLACE, SHAPE, write_dates

from terradelta.errors import RasterError
from terradelta.geo.grid import Tile
from terradelta.mapping.run import MapOptions, map_change
from terradelta.raster.pair import open_pair
from terradelta.raster.source import read_source
from terradelta.raster.warp import Layer
from terradelta.view import dates as dates_module
from terradelta.view.dates import Dates
from terradelta.view.product import open_product

from .conftest import client_of

ALL = Tile(0, 0, *SHAPE)


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16-bit dates: the first with a nodata value, the second in another CRS, with a mask in the file."""
    folder = tmp_path_factory.mktemp("deep")
    rng = np.random.default_rng(1)
    before = rng.integers(300, 4000, (4, *SHAPE)).astype(np.uint16)
    after = before + np.uint16(500)
    before[:, 20:40, 30:50] = 0
    place = {"crs": "EPSG:32614", "transform": PLACE}
    profile = {"driver": "GTiff", "count": 4, "height": SHAPE[0], "width": SHAPE[1], "dtype": "uint16", **place}
    with rasterio.open(folder / "before.tif", "w", nodata=0, **profile) as target:
        target.write(before)
    source = ("EPSG:32614", "EPSG:4326", SHAPE[1], SHAPE[0])
    bounds = rasterio.transform.array_bounds(*SHAPE, PLACE)
    transform, width, height = calculate_default_transform(*source, *bounds)
    moved, mask = np.zeros((4, height, width), np.uint16), np.zeros((height, width), np.uint8)
    known = np.full(SHAPE, 255, np.uint8)
    known[60:80, 60:90] = 0
    for values, into in ((after, moved), (known, mask)):
        crs = {"src_crs": "EPSG:32614", "src_transform": PLACE, "dst_crs": "EPSG:4326", "dst_transform": transform}
        reproject(values, into, resampling=Resampling.nearest, **crs)
    profile |= {"crs": "EPSG:4326", "transform": transform, "height": height, "width": width}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(folder / "after.tif", "w", **profile) as target:
        target.write(moved)
        target.write_mask(mask)
    options = MapOptions(bands=(3, 2, 1), anyway=True)
    map_change(folder / "before.tif", folder / "after.tif", folder / "out", BoxPredictor(), options)
    return folder


def test_16_bit_dates_in_two_crs_are_shown_with_the_stretch_and_masks_of_the_map(deep: Path):
    product = open_product(deep / "out")
    dates = Dates(product)
    assert dates.problems() == []
    height, width = product.grid.shape
    whole = Tile(0, 0, height, width)
    with open_pair(deep / "before.tif", deep / "after.tif", bands=[3, 2, 1]) as pair:
        assert pair.grid == product.grid
        read = pair.read(whole)
    joint = read.valid
    both = np.concatenate([read.before[:, joint], read.after[:, joint]], axis=1).astype(float)
    low, high = np.percentile(both, (1, 99), axis=1)[..., None, None]
    for name, values in (("before", read.before), ("after", read.after)):
        picture, valid = dates.picture(name, whole, (height, width))
        wanted = (values.clip(low, high) - low) * 255 / (high - low)
        assert np.abs(picture.astype(float) - wanted)[:, valid & joint].max() <= 1
    row, col = (round(v) for v in (~product.grid.transform @ (PLACE.c, PLACE.f))[::-1])
    _, valid = dates.picture("before", whole, (height, width))
    hole = np.zeros((height, width), bool)
    hole[20 + row : 40 + row, 30 + col : 50 + col] = True
    assert (valid == ~hole).all()  # the first date's own mask, not both dates' together
    _, valid = dates.picture("after", whole, (height, width))
    inner = np.s_[62 + row : 78 + row, 62 + col : 88 + col]
    assert not valid[inner].any()
    assert valid[hole].all()
    dates.close()


def test_a_reduced_tile_shows_the_place_of_the_full_one(deep: Path):
    product = open_product(deep / "out")
    dates = Dates(product)
    height, width = (side // 4 * 4 for side in product.grid.shape)
    for name in ("before", "after"):
        full, known = dates.picture(name, Tile(0, 0, height, width), (height, width))
        small, valid = dates.picture(name, Tile(0, 0, height, width), (height // 4, width // 4))
        cut = (height // 4, 4, width // 4, 4)
        blocks, whole = full[0].reshape(cut), known.reshape(cut).all(axis=(1, 3))
        # Pixels are picked, and interpolated where a date is warped: a value may come from a neighbouring block.
        low = ndimage.minimum_filter(blocks.min(axis=(1, 3)), 3)
        high = ndimage.maximum_filter(blocks.max(axis=(1, 3)), 3)
        whole = ndimage.minimum_filter(whole, 3)
        assert (low[whole] <= small[0][whole] + 1.0).all()
        assert (small[0][whole] <= high[whole] + 1.0).all()
        assert valid[whole].all()
    dates.close()


def test_a_turned_scene_is_shown_north_up(tmp_path: Path):
    place = PLACE @ Affine.rotation(20)
    out = map_change(*write_dates(tmp_path, transform=place), tmp_path / "out", PixelPredictor()).folder
    product = open_product(out)
    shown = product.tiles.grid
    assert shown != product.grid
    dates = Dates(product)
    picture, valid = dates.picture("after", Tile(0, 0, *shown.shape), shown.shape)
    with rasterio.open(tmp_path / "after.tif") as source:
        truth = source.read()
    rng = np.random.default_rng(0)
    for row, col in zip(rng.uniform(5, 95, 50), rng.uniform(5, 135, 50), strict=True):
        x, y = place @ (int(col) + 0.5, int(row) + 0.5)
        at_col, at_row = ~shown.transform @ (x, y)
        around = picture[:, int(at_row) - 1 : int(at_row) + 2, int(at_col) - 1 : int(at_col) + 2].reshape(3, -1)
        assert valid[int(at_row), int(at_col)]
        near = truth[:, int(row) - 1 : int(row) + 2, int(col) - 1 : int(col) + 2].reshape(3, -1)
        assert (around.min(1) <= near.max(1)).all()
        assert (around.max(1) >= near.min(1)).all()
    corner = picture.shape[1] - 1
    assert not valid[corner, 0]  # a corner of the extent that the turned scene does not reach
    dates.close()
    with client_of(out) as client:
        assert client.get("api/scene").json()["grid"]["resampled"] is True
        assert client.get("tiles/probability/0/0/0.png").status_code == 200
        found = client.post("api/grow", json={"point": list(place @ (28, 16)), "threshold": 0.5}).json()
        assert found["pixels"] == 12 * 16


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_images_without_a_crs(tmp_path: Path):
    dates = write_dates(tmp_path, crs=None, transform=None)
    out = map_change(*dates, tmp_path / "out", PixelPredictor(), MapOptions(min_area_m2=0)).folder
    with client_of(out) as client:
        scene = client.get("api/scene").json()
        assert scene["crs"] is None
        assert scene["lonlat"] is None
        assert scene["metres_per_pixel"] is None
        assert scene["extent"] == [0, -SHAPE[0], SHAPE[1], 0]
        assert scene["area_field"] == "area_px"
        assert scene["problems"] == []
        assert client.get("api/polygons").json()["columns"]["y_max"] == [-10, -40, -70]
        found = client.post("api/grow", json={"point": [28, -16], "threshold": 0.5}).json()
        assert (found["pixels"], found["area"]) == (12 * 16, 12 * 16)
        assert client.get("tiles/after/0/0/0.png").status_code == 200
        assert client.get("api/export.geojson").status_code == 422
    product = open_product(out)
    shown = Dates(product)
    picture, _ = shown.picture("after", ALL, SHAPE)
    with rasterio.open(tmp_path / "after.tif") as source:
        assert (picture == source.read()).all()
    shown.close()


def test_moved_images_are_asked_for_and_taken(product: Path, made: Path, tmp_path: Path):
    receipt = product / "receipt.json"
    receipt.write_text(receipt.read_text().replace(str(made / "before.tif"), str(tmp_path / "gone.tif")))
    with client_of(product) as client:
        scene = client.get("api/scene").json()
        (problem,) = scene["problems"]
        assert "gone.tif" in problem["what"]
        assert "--before FILE" in problem["do"]
        assert scene["layers"] == {"before": False, "after": True, "probability": True}
        answer = client.get("tiles/before/0/0/0.png")
        assert (answer.status_code, "gone.tif" in answer.json()["error"]) == (404, True)
        assert client.get("tiles/after/0/0/0.png").status_code == 200
    moved = shutil.copy(made / "before.tif", tmp_path / "moved.tif")
    with client_of(product, before=str(moved)) as client:
        assert client.get("api/scene").json()["problems"] == []
        assert client.get("tiles/before/0/0/0.png").status_code == 200


def test_both_images_gone(product: Path, made: Path, tmp_path: Path):
    receipt = product / "receipt.json"
    receipt.write_text(receipt.read_text().replace(str(made), str(tmp_path / "gone")))
    dates = Dates(open_product(product))
    dates.prepare()
    dates.compare()
    assert [problem.rsplit("--", 1)[1] for problem in dates.problems()] == ["before FILE", "after FILE"]
    for name in ("before", "after"):
        with pytest.raises(RasterError, match="gone"):
            dates.picture(name, ALL, SHAPE)
    dates.close()


def test_another_image_in_its_place_is_told(product: Path, made: Path):
    opened = open_product(product)
    same, other = Dates(opened), Dates(opened, before=str(made / "after.tif"))
    for dates in (same, other):
        assert dates.record()["before"]["compared"] is False
        dates.compare()
        assert dates.record()["before"]["compared"] is True
    assert same.record()["before"]["difference"] is None
    assert "is not the file that was mapped (the same size, other content)" in other.record()["before"]["difference"]
    for dates in (same, other):
        dates.close()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("receipt.json", "receipt.json"),
        ("/etc/passwd", "/etc/passwd"),
        ("/proc/self/environ", "environ"),
        ("one.tif", "has 1 bands, but numbers 1, 2, 3 were mapped"),
    ],
)
def test_what_is_no_image_of_this_map_is_refused(product: Path, given: str, message: str):
    with rasterio.open(
        product / "one.tif",
        "w",
        driver="GTiff",
        count=1,
        height=9,
        width=9,
        dtype="uint8",
        crs="EPSG:32614",
        transform=PLACE,
    ):
        pass
    dates = Dates(open_product(product), after=str(product / given))
    (problem,) = dates.problems()
    assert message in problem
    dates.close()


def test_a_url_in_a_receipt_is_not_asked(product: Path, made: Path, tripwire):
    receipt = product / "receipt.json"
    receipt.write_text(receipt.read_text().replace(str(made / "before.tif"), tripwire.url("before.tif")))
    dates = Dates(open_product(product))
    (problem,) = dates.problems()
    assert "the network is asked only by your leave" in problem
    dates.close()


def test_a_vrt_in_a_receipt_leads_nowhere_unless_it_is_given(product: Path, made: Path, tmp_path: Path, tripwire):
    vrt, images = product / "stack.vrt", made / "before.tif"
    receipt = product / "receipt.json"
    receipt.write_text(receipt.read_text().replace(str(images), str(vrt)))
    for named, message in (
        (str(images), "outside the folder"),
        (tripwire.url("before.tif"), "may not lead to the net"),
    ):
        sources = "".join(
            f'<VRTRasterBand dataType="Byte" band="{i}"><SimpleSource><SourceFilename>{named}</SourceFilename>'
            f"<SourceBand>{i}</SourceBand></SimpleSource></VRTRasterBand>"
            for i in (1, 2, 3)
        )
        place = "<SRS>EPSG:32614</SRS><GeoTransform>600000, 0.5, 0, 3400000, 0, -0.5</GeoTransform>"
        vrt.write_text(f'<VRTDataset rasterXSize="{SHAPE[1]}" rasterYSize="{SHAPE[0]}">{place}{sources}</VRTDataset>')
        dates = Dates(open_product(product))
        (problem,) = dates.problems()
        assert message in problem
        dates.close()
        if named == str(images):
            given = Dates(open_product(product), before=str(vrt))
            with rasterio.open(images) as source:
                assert (given.picture("before", ALL, SHAPE)[0] == source.read()).all()
            given.close()


def test_a_url_that_is_given_is_read(product: Path, made: Path, file_server):
    shutil.copy(made / "before.tif", file_server.folder / "before.tif")
    dates = Dates(open_product(product), before=file_server.url("before.tif"))
    assert dates.problems() == []
    picture, _ = dates.picture("before", ALL, SHAPE)
    with rasterio.open(made / "before.tif") as source:
        assert (picture == source.read()).all()
    dates.close()


def test_coregistered_dates_are_shown_as_they_were_mapped(tmp_path: Path):
    rough = np.random.default_rng(2).normal(size=(400, 400))
    smooth = ndimage.gaussian_filter(rough, 2)
    values = np.uint8(np.clip(128 + 40 * smooth / smooth.std(), 0, 255))
    before, after = tmp_path / "before.tif", tmp_path / "after.tif"
    profile = {"driver": "GTiff", "count": 3, "height": 360, "width": 360, "dtype": "uint8", "crs": "EPSG:32614"}
    for path, shift in ((before, 0), (after, 3)):
        with rasterio.open(path, "w", transform=PLACE, **profile) as target:
            target.write(np.repeat(values[None, 10 + shift : 370 + shift, 10:370], 3, 0))
    out = map_change(before, after, tmp_path / "out", PixelPredictor(), MapOptions(coregister=True)).folder
    product = open_product(out)
    assert product.receipt.registration.corrected
    dates = Dates(product)
    inner = Tile(100, 100, 100, 100)
    first, _ = dates.picture("before", inner, (100, 100))
    second, _ = dates.picture("after", inner, (100, 100))
    assert np.abs(first.astype(int) - second).mean() < 3
    dates.close()


def test_an_image_without_overviews_is_thinned_out_once(product: Path, made: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(dates_module, "_OVERVIEW_SIDE", 35)  # a quarter of the scene
    with rasterio.open(made / "after.tif") as source:
        truth = source.read()
    dates = Dates(open_product(product))
    dates.prepare()
    monkeypatch.setattr(Layer, "_read_plain", None)  # from now on the file is not read any more
    picture, valid = dates.picture("after", ALL, (25, 35))
    assert valid.all()
    assert (picture == truth[:, 2::4, 2::4]).all()
    part, _ = dates.picture("after", Tile(40, 60, 40, 80), (5, 10))
    assert (part == truth[:, 40 + 6 : 80 : 8, 60 + 6 : 140 : 8]).all()
    with pytest.raises(TypeError):
        dates.picture("after", ALL, (50, 70))  # that fine, it is
    dates.close()
    monkeypatch.undo()
    copy = shutil.copy(made / "after.tif", tmp_path / "after.tif")
    with rasterio.open(copy, "r+") as target:
        target.build_overviews([2, 4], Resampling.average)
    layer = Layer(read_source(copy), (1, 2, 3), open_product(product).grid, Resampling.bilinear)
    assert layer.has_overviews
    layer.close()
