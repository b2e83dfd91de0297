"""STAC items, in the words of real catalogues, with files of our own."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from terradelta.errors import BandError, GridError, RasterError
from terradelta.raster.pair import Reading, open_pair
from terradelta.raster.stac import read_input

RED, GREEN, BLUE = (np.random.default_rng(n).integers(1500, 4000, (1, 40, 60)).astype("uint16") for n in range(3))
SWIR = np.random.default_rng(9).integers(1500, 4000, (1, 20, 30)).astype("uint16")
RGB = ("red", "green", "blue")


def image(path: Path, values: np.ndarray, pixel: float = 10, crs: str | None = "EPSG:32632", **profile: object) -> Path:
    count, height, width = values.shape
    path.parent.mkdir(parents=True, exist_ok=True)
    place = {"crs": crs, "transform": Affine(pixel, 0, 500000, 0, -pixel, 5200000)} if crs else {}
    profile = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": values.dtype, **profile}
    with rasterio.open(path, "w", **place, **profile) as file:
        file.write(values)
    return path


def asset(href: str, name: str, common: str, **more: object) -> dict[str, object]:
    kind = "image/tiff; application=geotiff; profile=cloud-optimized"
    bands = [{"name": name, "common_name": common}]
    return {"href": href, "type": kind, "roles": ["data", "reflectance"], "eo:bands": bands, **more}


def item(path: Path, assets: dict[str, object], **properties: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": path.stem,
        "geometry": None,
        "links": [],
        "assets": assets,
    }
    path.write_text(json.dumps({**text, "properties": {"platform": "sentinel-2b", **properties}}))
    return path


def sentinel(folder: Path, shift: int = 0, raster: dict[str, object] | None = None, **properties: object) -> Path:
    """An item like Earth Search's: single-band assets by common name, JPEG 2000 twins, a picture, a thumbnail."""
    more = {} if raster is None else {"raster:bands": [{"nodata": 0, "data_type": "uint16", **raster}]}
    assets: dict[str, object] = {}
    for name, common, values in (("B02", "blue", BLUE), ("B03", "green", GREEN), ("B04", "red", RED)):
        image(folder / f"{name}.tif", values + np.uint16(shift))
        assets[common] = asset(f"./{name}.tif", name, common, **more)
        assets[f"{common}-jp2"] = {**asset(f"{name}.jp2", name, common), "type": "image/jp2"}
    image(folder / "B11.tif", SWIR + np.uint16(shift), 20)
    assets["swir16"] = asset("B11.tif", "B11", "swir16", **more)
    picture = [
        {"name": name, "common_name": common} for name, common in (("B04", "red"), ("B03", "green"), ("B02", "blue"))
    ]
    image(folder / "TCI.tif", np.concatenate([RED, GREEN, BLUE]).astype("uint8"))
    assets["visual"] = {"href": "TCI.tif", "type": "image/tiff", "roles": ["visual"], "eo:bands": picture}
    assets["thumbnail"] = {"href": "t.jpg", "type": "image/jpeg", "roles": ["thumbnail"]}
    return item(folder / "item.json", assets, **properties)


def test_single_band_assets_become_one_raster(tmp_path):
    path = sentinel(tmp_path / "a")
    with open_pair(path, path, bands=RGB) as pair:
        window = pair.read(pair.grid.tile)
        assert pair.bands == RGB
        assert pair.preflight.sources[0].path == str(path)
    np.testing.assert_array_equal(window.before, np.concatenate([RED, GREEN, BLUE]))
    assert window.valid.all()
    source = read_input(path, RGB)
    assert [Path(file).name for file in source.files] == ["item.json", "B04.tif", "B03.tif", "B02.tif"]


@pytest.mark.parametrize(
    ("names", "files"),
    [
        (["B04"], ["B04.tif"]),
        (["b4", "B11"], ["B04.tif", "B11.tif"]),
        (["RED", "swir16"], ["B04.tif", "B11.tif"]),
        (["visual:1"], ["TCI.tif"]),
        (["VISUAL:3", "visual:1"], ["TCI.tif"]),
    ],
)
def test_bands_are_found_by_asset_band_and_common_name(tmp_path, names, files):
    source = read_input(sentinel(tmp_path), names)
    assert [Path(file).name for file in source.files[1:]] == files
    assert [band.description for band in source.bands] == names


def test_coarser_assets_are_repeated_on_the_finest_grid(tmp_path):
    path = sentinel(tmp_path)
    with open_pair(path, path, bands=["swir16", "red"]) as pair:
        window = pair.read(pair.grid.tile)
        assert pair.grid.shape == (40, 60)
    np.testing.assert_array_equal(window.before[0], np.kron(SWIR[0], np.ones((2, 2), "uint16")))
    np.testing.assert_array_equal(window.before[1], RED[0])


def test_nodata_of_the_item_counts_where_the_file_has_none(tmp_path):
    path = sentinel(tmp_path, raster={})
    holes = RED.copy()
    holes[0, :7, :9] = 0
    image(tmp_path / "B04.tif", holes)
    with open_pair(path, path, bands=RGB) as pair:
        np.testing.assert_array_equal(pair.read(pair.grid.tile).valid, holes[0] > 0)
    image(tmp_path / "B04.tif", holes, nodata=65535)
    with open_pair(path, path, bands=RGB) as pair:
        assert pair.read(pair.grid.tile).valid.all()


def test_a_mask_of_one_asset_counts_for_all(tmp_path):
    path = sentinel(tmp_path)
    coarse = SWIR.copy()
    coarse[0, 3, 4] = 7
    image(tmp_path / "B11.tif", coarse, 20, nodata=7)
    with open_pair(path, path, bands=["red", "swir16"]) as pair:
        invalid = np.argwhere(~pair.read(pair.grid.tile).valid)
    np.testing.assert_array_equal(invalid, [[6, 8], [6, 9], [7, 8], [7, 9]])


@pytest.mark.parametrize(
    ("before", "after", "shift"),
    [
        ({"raster": {"scale": 1e-4, "offset": 0}}, {"raster": {"scale": 1e-4, "offset": -0.1}}, 1000),
        ({"s2:processing_baseline": "03.01"}, {"s2:processing_baseline": "05.09"}, 1000),
        ({"s2:processing_baseline": "03.01"}, {"processing:version": "04.00"}, 1000),
    ],
)
def test_baselines_and_scales_of_the_item_are_honoured(tmp_path, before, after, shift):
    first, second = sentinel(tmp_path / "a", **before), sentinel(tmp_path / "b", shift, **after)
    with open_pair(first, second, bands=RGB) as pair:
        window = pair.read(pair.grid.tile)
        assert sum("become reflectance" in line and "the STAC item" in line for line in pair.preflight.lines()) == 2
    np.testing.assert_allclose(window.before[0], RED[0] / 10000, atol=1e-6)
    np.testing.assert_allclose(window.after, window.before, atol=1e-6)


def test_an_offset_that_the_catalogue_has_added_is_not_added_again(tmp_path):
    """Earth Search repeats the offset in raster:bands, though it has added it to the values."""
    first = sentinel(tmp_path / "a", **{"s2:processing_baseline": "03.01"})
    options = {"raster": {"scale": 1e-4, "offset": -0.1}, "s2:processing_baseline": "05.09"}
    for path in (
        sentinel(tmp_path / "b", **options, **{"earthsearch:boa_offset_applied": True}),
        sentinel(tmp_path / "c", **{"s2:processing_baseline": "05.09", "sentinel:boa_offset_applied": True}),
    ):
        with open_pair(first, path, bands=RGB) as pair:
            window = pair.read(pair.grid.tile)
            assert pair.dtypes == ("uint16", "uint16")
        np.testing.assert_array_equal(window.before, window.after)
    with open_pair(
        first, sentinel(tmp_path / "d", 1000, **options, **{"earthsearch:boa_offset_applied": False}), bands=RGB
    ) as pair:
        window = pair.read(pair.grid.tile)
    np.testing.assert_allclose(window.before, window.after, atol=1e-6)


def test_an_item_of_unknown_baseline_beside_a_known_one_is_refused(tmp_path):
    known = sentinel(tmp_path / "a", **{"s2:processing_baseline": "05.09"})
    with pytest.raises(RasterError, match="unknown processing baseline"):
        open_pair(known, sentinel(tmp_path / "b"), bands=RGB)
    with open_pair(known, sentinel(tmp_path / "b"), bands=["visual:1"]) as pair:
        assert pair.dtypes == ("uint8", "uint8")


def test_bands_of_version_1_1(tmp_path):
    image(tmp_path / "a.tif", np.concatenate([RED, GREEN]))
    bands = [{"name": "one", "eo:common_name": "red"}, {"name": "two", "eo:common_name": "green"}]
    more = {"raster:scale": 0.5, "raster:offset": 2, "nodata": 0}
    path = item(tmp_path / "i.json", {"image": {"href": "a.tif", "bands": bands, **more}}, platform="other")
    source = read_input(path, ["green", "one"])
    assert (source.meaning.gain, source.meaning.offset) == ((0.5, 0.5), (2.0, 2.0))
    with open_pair(path, path) as pair:
        assert pair.bands == ("one", "two")
        np.testing.assert_array_equal(pair.read(pair.grid.tile).after, np.concatenate([RED, GREEN]))


def test_the_projection_of_the_item_counts_where_the_file_has_none(tmp_path):
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        image(tmp_path / "a.tif", RED, crs=None)
    proj = {
        "proj:code": "EPSG:32632",
        "proj:transform": [10, 0, 500000, 0, -10, 5200000, 0, 0, 1],
        "proj:shape": [40, 60],
    }
    path = item(tmp_path / "i.json", {"red": {"href": "a.tif", **proj}})
    grid = read_input(path, ["red"]).grid
    assert (grid.crs.to_epsg(), grid.transform) == (32632, Affine(10, 0, 500000, 0, -10, 5200000))
    path = item(tmp_path / "i.json", {"red": {"href": "a.tif"}}, **{**proj, "proj:code": None, "proj:epsg": 32632})
    assert read_input(path, ["red"]).grid == grid
    for key, value, words in (
        ("proj:epsg", 999999, "the projection 'EPSG:999999' of asset"),
        ("proj:transform", [0] * 6, "degen|line"),
    ):
        path = item(
            tmp_path / "i.json",
            {"red": {"href": "a.tif"}},
            **{"proj:epsg": 32632, **proj, "proj:code": None, key: value},
        )
        with pytest.raises(GridError, match=words):
            read_input(path, ["red"])


def test_an_item_by_url_reads_its_assets_by_url(file_server, tmp_path):
    sentinel(file_server.folder / "x")
    url = file_server.url("x/item.json")
    with open_pair(url, url, bands=RGB) as pair:
        window = pair.read(pair.grid.tile)
    np.testing.assert_array_equal(window.before, np.concatenate([RED, GREEN, BLUE]))
    assert {name for _, name in file_server.requests} == {"/x/item.json", "/x/B04.tif", "/x/B03.tif", "/x/B02.tif"}
    (file_server.folder / "x" / "items").mkdir()
    (file_server.folder / "x" / "items" / "7").write_text(json.dumps({"type": "FeatureCollection"}))
    with pytest.raises(RasterError, match=r"items/7 is no STAC item \(it is JSON of type FeatureCollection\)"):
        read_input(file_server.url("x/items/7"), RGB)


@pytest.mark.parametrize("href", ["/etc/passwd", "file:///etc/passwd", "s3://bucket/x.tif"])
def test_an_item_by_url_leads_to_no_local_file(file_server, href):
    item(file_server.folder / "i.json", {"red": asset(href, "B04", "red")})
    with pytest.raises(RasterError, match=r"passwd|give an item whose assets have http links"):
        read_input(file_server.url("i.json"), ["red"], allow_outside=True)
    assert all(name != "/x.tif" for _, name in file_server.requests)


def test_a_local_item_leads_nowhere_unless_allowed(tmp_path, file_server):
    image(file_server.folder / "a.tif", RED)
    image(tmp_path / "secret.tif", RED)
    (tmp_path / "in").mkdir()
    for href, words in (
        (file_server.url("a.tif"), "may not lead to the network"),
        ("../secret.tif", "outside the folder"),
    ):
        path = item(tmp_path / "in" / "i.json", {"red": asset(href, "B04", "red")})
        with pytest.raises(RasterError, match=words):
            read_input(path, ["red"])
        assert file_server.requests == []
        with open_pair(path, path, bands=["red"], reading=Reading(allow_outside=True)) as pair:
            np.testing.assert_array_equal(pair.read(pair.grid.tile).before, RED)
        file_server.requests.clear()
    for href in ("", "/vsicurl/http://x/a.tif", "s3://bucket/a.tif", "a\0b"):
        path = item(tmp_path / "in" / "i.json", {"red": asset(href, "B04", "red")})
        with pytest.raises(RasterError, match=r"which is no file and no http URL|does not exist"):
            read_input(path, ["red"], allow_outside=True)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (None, r"has many assets; name the bands to compare with --bands: the assets blue \(blue\); blue-jp2"),
        ([1, 2], "whose bands have names but no numbers"),
        (["lwir"], "has no band 'lwir'; it has the assets"),
        (["visual"], "has 3 bands in the asset 'visual': name them visual:1 to visual:3"),
        (["visual:4"], "the file of asset 'visual' has no band 4"),
        (["nothing:1"], "has no band 'nothing:1'"),
        ([], r"no band of .* is chosen; name at least one of the assets"),
    ],
)
def test_bands_that_cannot_be_chosen(tmp_path, names, words):
    with pytest.raises(BandError, match=words):
        read_input(sentinel(tmp_path), names)


def test_two_assets_of_one_name_are_ambiguous(tmp_path):
    path = item(tmp_path / "i.json", {"a": asset("a.tif", "B04", "red"), "b": asset("b.tif", "B04", "red")})
    with pytest.raises(BandError, match="several assets with the band 'red'"):
        read_input(path, ["red"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is no JSON"),
        ('{"a": ' * 5000, "is no JSON"),
        ("{}", "is no STAC item .it is JSON of type no type.; give an image, or one item"),
        ('{"type": "Feature", "stac_version": "1.0.0", "assets": []}', "is no STAC item"),
        ('{"type": "Feature", "stac_version": "1.0.0", "assets": {"red": 3}}', "which is no file and no http URL"),
    ],
)
def test_damaged_items(tmp_path, text, words):
    path = tmp_path / "i.json"
    path.write_text(text)
    with pytest.raises(RasterError, match=words):
        read_input(path, ["red"])


def test_assets_that_do_not_fit_each_other(tmp_path):
    image(tmp_path / "a.tif", RED)
    image(tmp_path / "b.tif", RED, crs="EPSG:32633")
    far = image(tmp_path / "c.tif", RED)
    turned = image(tmp_path / "d.tif", RED)
    for path, transform in (
        (far, Affine(10, 0, 600000, 0, -10, 5200000)),
        (turned, Affine(10, 1, 500000, 1, -10, 5200000)),
    ):
        with rasterio.open(path, "r+") as file:
            file.transform = transform
    for name, words in (("b", "different CRSs"), ("c", "do not overlap"), ("d", "turned against each other")):
        path = item(tmp_path / "i.json", {"x": asset("a.tif", "", ""), "y": asset(f"{name}.tif", "", "")})
        with pytest.raises(GridError, match=words):
            read_input(path, ["x", "y"])


def test_a_path_with_a_nul_character_is_refused() -> None:
    with pytest.raises(RasterError, match=r"'a\\x00b.tif' holds a NUL character"):
        read_input("a\0b.tif", ())
