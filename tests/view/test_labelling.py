"""Samples in the browser, without the map's answer."""

import sqlite3
from pathlib import Path

import numpy as np
import pyogrio.raw
import pytest
from tests.review.conftest import CHANGES, PLACE, SHAPE

from terradelta.area.measure import draw, measure
from terradelta.errors import InputError
from terradelta.view.labelling import LabellingTask
from terradelta.view.product import open_product

from .conftest import client_of


@pytest.fixture
def samples(product: Path, tmp_path: Path) -> Path:
    draw(product, 30, tmp_path / "samples.gpkg")
    return tmp_path / "samples.gpkg"


def changed(sample: dict) -> bool:
    col, row = ~PLACE @ (sample["x"], sample["y"])
    return any(r <= row < r + height and c <= col < c + width for r, c, height, width in CHANGES)


def test_a_task_ends_in_the_interval_of_area(product: Path, samples: Path):
    with client_of(product, task=samples) as client:
        scene = client.get("api/scene").json()
        assert scene["task"] == {"file": "samples.gpkg", "total": 30, "labelled": 0}
        task = client.get("api/task").json()
        assert [each["label"] for each in task["samples"]] == [None] * 30
        for number, sample in enumerate(task["samples"]):
            x_min, y_min, x_max, y_max = sample["pixel"]
            assert (x_max - x_min, y_max - y_min) == (0.5, 0.5)
            assert ((x_min + x_max) / 2, (y_min + y_max) / 2) == (sample["x"], sample["y"])
            assert sample["window"] == pytest.approx([x_min - 32, y_min - 32, x_max + 32, y_max + 32])
            if number == 29:
                early = client.get("api/task/interval").json()
                assert early["ready"] is False
                assert early["lines"][0].startswith("1 of 30 samples have no label yet")
            label = "changed" if changed(sample) else "unchanged"
            answer = client.post(f"api/task/{sample['id']}", json={"label": label})
            assert answer.json() == {"total": 30, "labelled": number + 1}
        found = client.get("api/task/interval").json()
    wanted = measure(product, samples=samples).whole.changed
    assert found["ready"] is True
    assert found["receipt"]["whole_map"]["changed_area"]["value"] == wanted.value
    assert f"{wanted.value:,.0f} m²" in found["lines"][0]
    assert "Of change: user's accuracy 100 % (± 0 %), producer's accuracy 100 % (± 0 %)." in found["lines"]
    truth = sum(height * width for _, _, height, width in CHANGES) * 0.25
    assert wanted.value == pytest.approx(truth, rel=2e-3)  # all labels are right: so is the map


def test_the_answer_of_the_map_is_hidden(product: Path, samples: Path):
    with client_of(product, task=samples) as client:
        scene = client.get("api/scene").json()
        for key in ("answer", "doubts", "threshold", "result", "polygons", "fields", "preflight"):
            assert key not in scene
        assert scene["layers"] == {"before": True, "after": True, "probability": False}
        for path in (
            "tiles/probability/0/0/0.png",
            "api/polygons",
            "api/polygons/geojson",
            "api/polygons/1",
            "api/chip/1/before.png",
            "api/review",
            "api/export.gpkg",
        ):
            assert client.get(path).status_code == 403, path
        for path in ("api/review", "api/review/undo", "api/split", "api/grow"):
            assert client.post(path, json={"polygon": 1, "verdict": "accept"}).status_code == 403, path
        assert client.get("tiles/before/0/0/0.png").status_code == 200


def test_labels_are_kept_and_can_be_taken_back(product: Path, samples: Path):
    with client_of(product, task=samples) as client:
        for number, label in ((1, 1), (2, 0), (3, "unsure"), (4, "changed"), (4, None)):
            assert client.post(f"api/task/{number}", json={"label": label}).status_code == 200
    with client_of(product, task=samples) as client:  # another day
        task = client.get("api/task").json()
        labels = {each["id"]: each["label"] for each in task["samples"]}
        assert [labels[i] for i in range(1, 6)] == ["changed", "unchanged", "unsure", None, None]
        assert task["labelled"] == 3
        assert client.get("api/task/interval").json()["lines"][1].endswith(".")
    meta, _, _, fields = pyogrio.raw.read(samples)
    columns = dict(zip(meta["fields"], fields, strict=True))
    assert np.isnan(columns["label"][2:].astype(float)).all()
    assert columns["label"][:2].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("number", "body", "status"),
    [
        (1, {"label": 2}, 422),
        (1, {"label": True}, 422),
        (1, {"label": "yes"}, 422),
        (1, {"label": [1]}, 422),
        (1, {}, 422),
        (99, {"label": 1}, 422),
    ],
)
def test_what_is_no_label(product: Path, samples: Path, number: int, body: dict, status: int):
    with client_of(product, task=samples) as client:
        assert client.post(f"api/task/{number}", json=body).status_code == status
        assert client.get("api/task").json()["labelled"] == 0


def test_a_file_that_qgis_has_indexed_is_labelled_too(product: Path, samples: Path, tmp_path: Path):
    indexed = tmp_path / "indexed.gpkg"
    meta, _, shapes, fields = pyogrio.raw.read(samples)
    pyogrio.raw.write(
        indexed,
        shapes,
        fields,
        meta["fields"],
        layer="samples",
        crs=meta["crs"],
        geometry_type="Point",
        driver="GPKG",
        layer_options={"SPATIAL_INDEX": "YES"},
    )
    with sqlite3.connect(indexed) as database:
        assert database.execute("SELECT count(*) FROM sqlite_master WHERE name LIKE 'rtree%'").fetchone()[0] > 3
    database.close()
    task = LabellingTask(open_product(product), indexed)
    task.label(1, "changed")
    assert task.record()["labelled"] == 1
    with sqlite3.connect(indexed) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


def test_files_that_hold_no_samples_of_this_map(product: Path, samples: Path, tmp_path: Path):
    opened = open_product(product)
    for path in (tmp_path / "none.gpkg", product / "receipt.json"):
        with pytest.raises(InputError, match="is no GeoPackage of samples; make one: terradelta area"):
            LabellingTask(opened, path)
    with pytest.raises(InputError, match="cannot be read as samples"):
        LabellingTask(opened, product / "change.gpkg")
    meta, _, shapes, fields = pyogrio.raw.read(samples)
    kept = {"layer": "samples", "crs": meta["crs"], "geometry_type": "Point", "driver": "GPKG"}
    pyogrio.raw.write(tmp_path / "bare.gpkg", shapes, fields[:1], ["id"], **kept)
    with pytest.raises(InputError, match="has the fields id; it needs id and label"):
        LabellingTask(opened, tmp_path / "bare.gpkg")
    twice = [np.ones(len(shapes), np.int64), fields[1]]
    pyogrio.raw.write(tmp_path / "twice.gpkg", shapes, twice, ["id", "label"], **kept)
    with pytest.raises(InputError, match="has an id twice"):
        LabellingTask(opened, tmp_path / "twice.gpkg")
    import shapely

    far = shapely.to_wkb(shapely.transform(shapely.from_wkb(shapes), lambda p: p + SHAPE[1]))
    pyogrio.raw.write(tmp_path / "far.gpkg", far, fields, ["id", "label"], **kept)
    with pytest.raises(InputError, match="has a sample off the map"):
        LabellingTask(opened, tmp_path / "far.gpkg")
