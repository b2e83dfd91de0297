"""Every address, as a page asks for it."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.warp
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile
from starlette.testclient import TestClient
from tests.review.conftest import CHANGES, PLACE, SHAPE

from terradelta.view import server

from .conftest import client_of


def pixels(content: bytes) -> np.ndarray:
    """(bands, height, width) of a picture."""
    with warnings.catch_warnings(), MemoryFile(content) as memory:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with memory.open() as source:
            return source.read()


def test_the_scene_says_what_a_page_needs(client: TestClient, product: Path, made: Path):
    scene = client.get("api/scene").json()
    assert scene["name"] == "out"
    assert (scene["height"], scene["width"]) == SHAPE
    assert scene["extent"] == [600000, 3399950, 600070, 3400000]
    assert scene["crs"]["epsg"] == 32614
    assert scene["crs"]["unit"] == "metre"
    assert scene["resolutions"] == [0.5]  # one tile of 512 pixels holds it
    assert scene["tile_size"] == 512
    assert scene["metres_per_pixel"] == pytest.approx(0.5, rel=1e-3)
    assert scene["threshold"] == 0.5
    assert scene["polygons"] == len(CHANGES)
    assert scene["area_field"] == "area_m2"
    assert scene["complete"] is True
    assert scene["problems"] == []
    assert scene["layers"] == {"before": True, "after": True, "probability": True}
    assert scene["author"] == "ann"
    assert scene["command"] == f"terradelta view {product} --author ann"
    assert scene["task"] is None
    assert scene["answer"][0].startswith("changed: ")
    assert scene["dates"]["before"]["path"] == str(made / "before.tif")
    assert scene["model"]["name"] == "box"
    assert scene["commands"]["teach"] == f"terradelta train --from box --review {product} -o taught"
    lattice = scene["lonlat"]
    assert len(lattice["lon"]) == lattice["rows"] * lattice["cols"]
    (lon,), (lat,) = rasterio.warp.transform("EPSG:32614", "EPSG:4326", [600000], [3400000])
    assert (lattice["lon"][0], lattice["lat"][0]) == pytest.approx((lon, lat))


@pytest.mark.parametrize("extension", ["png", "webp", "jpg"])
def test_tiles_of_a_date_show_its_pixels(client: TestClient, made: Path, extension: str):
    found = client.get(f"tiles/after/0/0/0.{extension}")
    assert found.status_code == 200
    assert found.headers["content-type"] == f"image/{extension.replace('jpg', 'jpeg')}"
    picture = pixels(found.content).astype(int)
    with rasterio.open(made / "after.tif") as source:
        truth = source.read().astype(int)
    height, width = SHAPE
    error = np.abs(picture[:3, :height, :width] - truth)
    assert error.max() == 0 if extension == "png" else error.mean() < 15
    if extension != "jpg":
        assert (picture[3, :height, :width] == 255).all()
        assert (picture[3, height:] == 0).all()
        assert (picture[3, :, width:] == 0).all()


def test_tiles_of_the_probability_are_numbers(client: TestClient, product: Path):
    grey, alpha = pixels(client.get("tiles/probability/0/0/0.png").content)
    with rasterio.open(product / "probability.tif") as source:
        truth = source.read(1)
    height, width = SHAPE
    assert (grey[:height, :width] == np.rint(truth * 255)).all()
    assert (alpha[:height, :width] == 255).all()
    assert alpha.sum() == 255 * height * width


@pytest.mark.parametrize(
    "path",
    [
        "tiles/before/1/0/0.png",
        "tiles/before/0/1/0.png",
        "tiles/during/0/0/0.png",
        "tiles/before/0/0/0.gif",
        "tiles/probability/0/0/0.webp",
        "tiles/before/-1/0/0.png",
        "api/polygons/0",
        "api/polygons/99",
        "api/chip/99/before.png",
        "api/chip/1/during.png",
        "api/export.shp",
        "api/nothing",
        "api/task",
    ],
)
def test_what_is_not_there(client: TestClient, path: str):
    found = client.get(path)
    assert found.status_code == 404
    assert isinstance(found.json()["error"], str)


@pytest.mark.parametrize(
    "path",
    [
        "../../../../etc/passwd",
        "..%2f..%2f..%2fpyproject.toml",
        "%2e%2e/%2e%2e/%2e%2e/__init__.py",
        "....//....//server.py",
        "%2fetc%2fpasswd",
        "assets/..%2f..%2fserver.py",
        "tiles/..%2f..%2fbefore.tif/0/0/0.png",
        "api/chip/1/..%2fbefore.png",
        "receipt.json",
        "change.gpkg",
        "%00",
    ],
)
def test_paths_lead_nowhere_but_to_the_page(product: Path, tmp_path: Path, monkeypatch, path: str):
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "index.html").write_text("<p>the page</p>")
    (bundle / "assets").mkdir()
    (bundle / "assets" / "index-1a2b.js").write_text("1")
    (tmp_path / "server.py").write_text("secret")
    monkeypatch.setattr(server, "BUNDLE", bundle)
    with client_of(product) as client:
        page = client.get("")
        assert (page.text, page.headers["cache-control"]) == ("<p>the page</p>", "no-store")
        asset = client.get("assets/index-1a2b.js")
        assert (asset.text, asset.headers["cache-control"][-9:]) == ("1", "immutable")
        found = client.get(path)
        assert found.status_code in (404, 421)  # the client resolves dots itself, and then lacks the token
        assert "secret" not in found.text


def test_a_page_that_is_not_built_says_how_to(product: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(server, "BUNDLE", tmp_path / "none")
    with client_of(product) as client:
        found = client.get("")
    assert found.status_code == 503
    assert "python hatch_build.py" in found.text
    assert not server.bundle_is_built()


def test_the_address_without_its_slash_leads_to_the_page(client: TestClient):
    token = str(client.base_url).rstrip("/")
    found = client.get(token)
    assert found.status_code == 307
    assert token.endswith(found.headers["location"].rstrip("/"))


def test_polygons_come_as_columns(client: TestClient):
    found = client.get("api/polygons?sort=area&descending=true").json()
    columns = found["columns"]
    assert (found["total"], found["count"], columns["id"]) == (3, 3, [1, 3, 2])
    assert columns["pixels"] == [12 * 16, 6 * 20, 8 * 8]
    assert columns["x_min"] == [600010, 600005, 600030]
    assert columns["shift_explains"] == [False, False, False]
    assert columns["outline_in"] == ["after"] * 3
    page = client.get("api/polygons?limit=1&offset=1&fields=id,uncertainty").json()
    assert (page["total"], page["count"], list(page["columns"])) == (3, 1, ["id", "uncertainty"])
    assert page["columns"]["id"] == [2]
    assert client.get("api/polygons?min_area=20").json()["columns"]["id"] == [1, 3]
    assert client.get("api/polygons?threshold=1").json()["total"] <= 3
    assert client.get("api/polygons?bbox=600000,3399990,600020,3400000").json()["columns"]["id"] == [1]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("sort=name", "polygons have no field 'name'"),
        ("fields=id,name", "polygons have no field 'name'"),
        ("limit=many", "limit is 'many'; it must be a finite number"),
        ("limit=1.5", "limit is 1.5; it must be a whole number"),
        ("min_area=nan", "min_area is 'nan'"),
        ("bbox=1,2,3", "bbox is '1,2,3'"),
        ("bbox=1,2,nan,4", "must be x_min,y_min,x_max,y_max"),
    ],
)
def test_queries_that_make_no_sense(client: TestClient, query: str, message: str):
    found = client.get(f"api/polygons?{query}")
    assert found.status_code == 422
    assert message in found.json()["error"]


def test_outlines_are_those_of_the_polygons(client: TestClient):
    found = client.get("api/polygons/geojson?limit=2&resolution=0.5").json()
    assert [each["id"] for each in found["features"]] == [1, 3]
    assert (found["total"], found["truncated"]) == (3, True)
    row, col, height, width = CHANGES[0]
    xs, ys = zip(*found["features"][0]["geometry"]["coordinates"][0], strict=True)
    assert (min(xs), max(ys)) == PLACE @ (col, row)
    assert (max(xs), min(ys)) == PLACE @ (col + width, row + height)
    whole = client.get("api/polygons/1").json()
    assert whole["geometry"] == found["features"][0]["geometry"]
    assert whole["fields"]["pixels"] == height * width
    assert not client.get("api/polygons/geojson").json()["truncated"]


def test_a_chip_shows_the_polygon_and_says_where_it_is(client: TestClient, made: Path):
    found = client.get("api/chip/1/after.png")
    assert found.headers["x-extent"] == ",".join(
        f"{v:.12g}" for v in client.get("api/polygons/1").json()["chip_extent"]
    )
    x_min, _, _, y_max = map(float, found.headers["x-extent"].split(","))
    picture = pixels(found.content)
    assert picture.shape[1:] == (192, 192)  # of 64 x 64 pixels
    col, row = ~PLACE @ (x_min, y_max)
    with rasterio.open(made / "after.tif") as source:
        truth = source.read(window=((row, row + 64), (col, col + 64)))
    assert (picture[:3, 1::3, 1::3] == truth).all()


def test_large_texts_are_compressed_and_pictures_are_not_again(client: TestClient):
    assert client.get("api/scene").headers["content-encoding"] == "gzip"
    assert "content-encoding" not in client.get("tiles/before/0/0/0.png").headers


def test_a_product_without_polygons(tmp_path: Path, made: Path):
    from tests.mapping.conftest import PixelPredictor

    from terradelta.mapping.run import map_change

    before = made / "before.tif"
    map_change(before, before, tmp_path / "out", PixelPredictor())
    with client_of(tmp_path / "out") as client:
        scene = client.get("api/scene").json()
        assert (scene["polygons"], scene["complete"]) == (0, True)
        assert client.get("api/polygons").json()["columns"]["id"] == []
        assert client.get("api/polygons/geojson").json()["features"] == []
        assert client.get("tiles/probability/0/0/0.png").status_code == 200
        assert client.get("api/export.gpkg").status_code == 200


def test_a_product_that_lacks_files_says_which(product: Path):
    (product / "probability.tif").unlink()
    (product / "change.gpkg").unlink()
    with client_of(product) as client:
        scene = client.get("api/scene").json()
        assert scene["missing"] == ["probability.tif", "change.gpkg"]
        assert scene["problems"][0] == {"what": "The file probability.tif is missing.", "do": "Map the pair again."}
        assert client.get("tiles/before/0/0/0.png").status_code == 200
        assert client.get("tiles/probability/0/0/0.png").status_code == 404
        assert "change.gpkg is missing" in client.get("api/polygons").json()["error"]
        answer = client.post("api/review", json={"polygon": 1, "verdict": "accept"})
        assert (answer.status_code, answer.json()["error"][:30]) == (409, "this product has no change.gpk")
        assert client.post("api/grow", json={"x": 0, "y": 0}).status_code == 409
