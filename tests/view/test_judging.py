import json
import shutil
from pathlib import Path

import pytest
import shapely
from affine import Affine
from shapely.geometry import Polygon, shape
from starlette.testclient import TestClient
from tests.review.conftest import CHANGES, box

from terradelta.errors import InputError
from terradelta.geo.grid import Grid
from terradelta.review.store import NewVerdict, ReviewStore, read_review
from terradelta.view.judging import read_geometry, read_line

from .conftest import client_of

SQUARE = {"type": "Polygon", "coordinates": [box(30, 30, 10, 10)]}


def test_a_verdict_is_on_the_disk_when_the_answer_comes(client: TestClient, product: Path):
    answer = client.post("api/review", json={"kind": "judged", "polygon": 2, "verdict": "reject"})
    assert answer.status_code == 200
    row = answer.json()
    assert (row["number"], row["polygon"], row["verdict"], row["author"]) == (1, 2, "reject", "ann")
    (kept,) = read_review(product)
    assert (kept.kind, kept.polygon, kept.verdict, kept.author, kept.time) == (
        "judged",
        2,
        "reject",
        "ann",
        row["time"],
    )
    assert kept.geometry.equals(Polygon(box(*CHANGES[1])))


def test_two_windows_see_each_others_verdicts(client: TestClient, product: Path):
    with client_of(product, author="bob") as other:
        assert client.get("api/review").json() == {"revision": 0, "rows": [], "verdicts": {}}
        client.post("api/review", json={"polygon": 1, "verdict": "accept"})
        seen = other.get("api/review?since=0")
        assert [row["author"] for row in seen.json()["rows"]] == ["ann"]
        tag = {"If-None-Match": seen.headers["etag"]}
        assert other.get("api/review?since=0", headers=tag).status_code == 304
        other.post("api/review", json={"polygon": 1, "verdict": "unsure"})
        news = client.get(f"api/review?since={seen.json()['revision']}").json()
        assert [(row["author"], row["verdict"]) for row in news["rows"]] == [("bob", "unsure")]
        assert client.get("api/review").json()["verdicts"] == {"1": {"verdict": "unsure", "number": 2}}
        # Undo takes back one's own.
        assert client.post("api/review/undo", json={}).json()["undone"] == [1]
        assert client.post("api/review/undo", json={}).json()["number"] is None
        assert client.get("api/review").json()["verdicts"] == {"1": {"verdict": "unsure", "number": 2}}
        assert client.post("api/review/undo", json={"number": 2}).json()["number"] == 2
        assert client.get("api/review").json()["verdicts"] == {}


def test_a_review_of_another_product_that_takes_its_place_is_refused_and_kept(
    client: TestClient, product: Path, tmp_path: Path
):
    client.post("api/review", json={"polygon": 1, "verdict": "accept"})
    own, foreign = product / "review.gpkg", tmp_path / "foreign.gpkg"
    other = shutil.copytree(product, tmp_path / "other")
    (other / "review.gpkg").unlink()
    receipt = other / "receipt.json"
    receipt.write_text(receipt.read_text().replace('"created": "', '"created": "1'))
    ReviewStore(other).add([NewVerdict("judged", "reject", Polygon(box(*CHANGES[0])), 1)], "bob")
    own.rename(tmp_path / "own.gpkg")
    shutil.copy(other / "review.gpkg", own)
    shutil.copy(own, foreign)
    for answer in (client.get("api/review"), client.post("api/review", json={"polygon": 2, "verdict": "accept"})):
        assert answer.status_code == 422
        assert "is the review of another product" in answer.json()["error"]
    assert own.read_bytes() == foreign.read_bytes()
    own.unlink()
    (tmp_path / "own.gpkg").rename(own)
    client.post("api/review", json={"polygon": 2, "verdict": "accept"})
    assert [(row.polygon, row.author) for row in read_review(product)] == [(1, "ann"), (2, "ann")]


def test_several_rows_are_added_at_once_or_not_at_all(client: TestClient, product: Path):
    rows = [{"polygon": 1, "verdict": "accept"}, {"polygon": 2, "verdict": "accept"}]
    assert [row["number"] for row in client.post("api/review", json={"rows": rows}).json()["rows"]] == [1, 2]
    assert client.post("api/review", json={"rows": [*rows, {"polygon": 9, "verdict": "accept"}]}).status_code == 422
    assert len(read_review(product)) == 2
    assert client.post("api/review", json={"rows": []}).status_code == 422


def test_drawn_and_erased_areas(client: TestClient, product: Path):
    drawn = client.post("api/review", json={"kind": "drawn", "geometry": SQUARE}).json()
    assert (drawn["kind"], drawn["verdict"], drawn["polygon"]) == ("drawn", "accept", None)
    assert shape(drawn["geometry"]).equals(shape(SQUARE))
    erased = client.post("api/review", json={"kind": "erased", "geometry": SQUARE, "undoing": [1]}).json()
    assert erased["verdict"] == "reject"
    assert [(row.kind, row.undone is None) for row in read_review(product)] == [("drawn", False), ("erased", True)]


def test_a_split_polygon_falls_into_drawn_pieces(client: TestClient, product: Path):
    row, col, height, width = CHANGES[0]
    whole = Polygon(box(row, col, height, width))
    x_min, y_min, x_max, y_max = whole.bounds
    middle = (x_min + x_max) / 2
    found = client.post("api/split", json={"polygon": 1, "line": [[middle, y_max + 1], [middle, y_min - 1]]}).json()
    pieces = [shape(each["geometry"]) for each in found["rows"]]
    assert [(each["kind"], each["polygon"], each["verdict"]) for each in found["rows"]] == [("drawn", 1, "accept")] * 2
    assert [piece.area for piece in pieces] == [whole.area / 2] * 2
    assert shapely.union_all(pieces).equals(whole)
    y = (y_min + y_max) / 2
    number = found["rows"][0]["number"]
    again = client.post("api/split", json={"number": number, "line": [[x_min - 1, y], [x_max + 1, y]]}).json()
    assert again["undone"] == [number]
    assert [shape(each["geometry"]).area for each in again["rows"]] == [whole.area / 4] * 2
    for line, message in (
        ([[x_min - 1, y_max + 1], [x_max + 1, y_max + 1]], "does not cut the polygon in two"),
        ([[middle, y_max + 1], [middle, y]], "does not cut the polygon in two"),
        ([[middle, y]], "the line is none"),
        ([[middle, y], [middle, y]], "has no length"),
        ("a line", "the line is none"),
        ([[middle, None], [1, 2]], "a coordinate is None"),
    ):
        answer = client.post("api/split", json={"polygon": 1, "line": line})
        assert (answer.status_code, message in answer.json()["error"]) == (422, True), answer.text
    assert client.post("api/split", json={"number": 99, "line": [[0, 0], [1, 1]]}).status_code == 422


def test_a_region_grows_from_a_point(client: TestClient, product: Path):
    row, col, height, width = CHANGES[2]
    ring = Polygon(box(row, col, height, width))
    point = [ring.centroid.x, ring.centroid.y]
    found = client.post("api/grow", json={"point": point, "threshold": 0.5}).json()
    assert shape(found["geometry"]).equals(ring)
    assert (found["pixels"], found["cut"], found["reason"]) == (height * width, False, None)
    assert found["area"] == pytest.approx(ring.area, rel=2e-3)
    assert client.post("api/grow", json={"x": point[0], "y": point[1]}).json() == found
    low = client.post("api/grow", json={"x": 600001, "y": 3399999, "threshold": 0.9}).json()
    assert low["geometry"] is None
    assert "below the threshold 0.9" in low["reason"]
    assert read_review(product) == []
    for body in (
        {"point": [0, 0]},
        {"point": [1]},
        {},
        {"point": ["a", 1]},
        {"point": point, "threshold": 0},
        {"point": point, "threshold": "0.5"},
        {"point": point, "threshold": 2},
    ):
        assert client.post("api/grow", json=body).status_code == 422, body


def test_the_export_is_a_file(client: TestClient):
    client.post("api/review", json={"polygon": 1, "verdict": "accept"})
    found = client.get("api/export.geojson")
    assert found.headers["content-disposition"] == 'attachment; filename="out-accepted.geojson"'
    assert [each["properties"]["polygon"] for each in json.loads(found.content)["features"]] == [1]
    package = client.get("api/export.gpkg").content
    assert package[:15] == b"SQLite format 3"


@pytest.mark.parametrize(
    "body",
    [
        {"verdict": "accept"},
        {"polygon": 1},
        {"polygon": 1, "verdict": "maybe"},
        {"polygon": 1, "verdict": ["accept"]},
        {"polygon": True, "verdict": "accept"},
        {"polygon": 1.5, "verdict": "accept"},
        {"polygon": "1", "verdict": "accept"},
        {"polygon": 4, "verdict": "accept"},
        {"polygon": 10**30, "verdict": "accept"},
        {"kind": "seen", "polygon": 1, "verdict": "accept"},
        {"kind": ["drawn"], "geometry": SQUARE},
        {"kind": "drawn"},
        {"kind": "drawn", "geometry": {"type": "Point", "coordinates": [1, 2]}},
        {"kind": "drawn", "geometry": SQUARE, "polygon": 9},
        {"polygon": 1, "verdict": "accept", "author": ""},
        {"polygon": 1, "verdict": "accept", "author": 5},
        {"polygon": 1, "verdict": "accept", "author": "a" * 300},
        {"polygon": 1, "verdict": "accept", "undoing": [7]},
        {"polygon": 1, "verdict": "accept", "undoing": 7},
        {"rows": [1]},
        {"rows": {}},
    ],
)
def test_what_is_no_row_is_refused(client: TestClient, product: Path, body: dict[str, object]):
    answer = client.post("api/review", json=body)
    assert answer.status_code == 422, answer.text
    assert isinstance(answer.json()["error"], str)
    assert read_review(product) == []


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{", b"\xff\xfe", b"[" * 10_000, b'{"polygon": 1e999, "verdict": "accept"}', b'"a"', b"NaN", b"null"],
)
def test_bodies_that_are_no_json_object(client: TestClient, content: bytes):
    answer = client.post("api/review", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert "JSON" in answer.json()["error"]


def test_an_author_that_a_terminal_would_act_upon_is_made_harmless(client: TestClient):
    row = client.post("api/review", json={"polygon": 1, "verdict": "accept", "author": "ann\u202e\x1b[2J"}).json()
    assert row["author"] == r"ann\u202e\x1b[2J"


GRID = Grid(None, Affine.scale(1, -1), (10, 10))


def polygon(*rings: list[list[float]]) -> dict[str, object]:
    return {"type": "Polygon", "coordinates": list(rings)}


def test_outlines_are_mended_and_cut_at_the_edge():
    inside = polygon([[1, -1], [3, -1], [3, -3], [1, -3], [1, -1]])
    assert read_geometry(inside, GRID).equals(shapely.box(1, -3, 3, -1))
    over = polygon([[-5, -1], [3, -1], [3, -3], [-5, -3], [-5, -1]])
    assert read_geometry(over, GRID).equals(shapely.box(0, -3, 3, -1))
    crossing = read_geometry(polygon([[1, -1], [3, -3], [3, -1], [1, -3], [1, -1]]), GRID)
    assert crossing.is_valid
    assert (crossing.geom_type, crossing.area) == ("MultiPolygon", 2)
    holed = read_geometry(
        polygon([[1, -1], [5, -1], [5, -5], [1, -5], [1, -1]], [[2, -2], [3, -2], [3, -3], [2, -3], [2, -2]]), GRID
    )
    assert holed.area == 15
    two = {"type": "MultiPolygon", "coordinates": [inside["coordinates"], over["coordinates"]]}
    assert read_geometry(two, GRID).equals(shapely.box(0, -3, 3, -1))


@pytest.mark.parametrize(
    ("geometry", "message"),
    [
        (None, "must be GeoJSON of a Polygon"),
        ([], "must be GeoJSON of a Polygon"),
        ({"type": "Point", "coordinates": [1, 1]}, "must be GeoJSON of a Polygon"),
        ({"type": "Polygon"}, "is no polygon"),
        ({"type": "Polygon", "coordinates": 5}, "is no polygon"),
        ({"type": "Polygon", "coordinates": []}, "is no polygon"),
        (polygon([]), "a ring has 0 points"),
        (polygon([[1, 1], [2, 2], [1, 1]]), "a ring has 3 points"),
        (polygon([[1, 1, 1], [2, 2, 1], [1, 2, 1], [1, 1, 1]]), "is no polygon"),
        (polygon([[1, 1], [2, "2"], [1, 2], [1, 1]]), "a coordinate is '2'"),
        (polygon([[1, 1], [2, True], [1, 2], [1, 1]]), "a coordinate is True"),
        (polygon([[1, 1], [2, float("nan")], [1, 2], [1, 1]]), "a coordinate is nan"),
        (polygon([[1, 1], [float("inf"), 2], [1, 2], [1, 1]]), "a coordinate is inf"),
        (polygon([[20, 20], [30, 20], [30, 30], [20, 20]]), "nothing of the geometry lies in the scene"),
        (polygon([[1, -1], [2, -1], [3, -1], [1, -1]]), "has no area"),
        (polygon([[0, -i] for i in range(30_000)]), "more than 20,000 points"),
        ({"type": "MultiPolygon", "coordinates": {"a": 1}}, "is no polygon"),
    ],
)
def test_what_is_no_outline_is_refused(geometry: object, message: str):
    with pytest.raises(InputError, match=message):
        read_geometry(geometry, GRID)


def test_a_line_has_a_length():
    assert read_line([[0, 0], [3, 4]]).length == 5
    with pytest.raises(InputError, match="more than 20,000 points"):
        read_line([[i, 0] for i in range(50_000)])
