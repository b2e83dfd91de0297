import json
from pathlib import Path

import numpy as np
import pyogrio.raw
import pytest
import shapely
from rasterio.crs import CRS
from shapely.geometry import Polygon, shape
from tests.mapping.conftest import PixelPredictor

from terradelta.errors import InputError
from terradelta.mapping.run import MapOptions, map_change
from terradelta.review.outcome import accepted_changes, current_verdicts, export_accepted
from terradelta.review.store import NewVerdict, ReviewStore
from terradelta.review.verdicts import VerdictRow

from .conftest import CHANGES, box, write_dates


def row(number: int, kind: str, polygon: int | None, verdict: str, geometry: Polygon, undone: str | None = None):
    return VerdictRow(number, kind, polygon, verdict, "ann", "2026-01-01T00:00:00Z", undone, geometry)  # type: ignore[arg-type]


LEFT, RIGHT, BOTH = shapely.box(0, 0, 1, 1), shapely.box(1, 0, 2, 1), shapely.box(0, 0, 2, 1)


def test_the_newest_verdict_that_counts_is_the_polygons():
    rows = [
        row(3, "judged", 1, "reject", LEFT, undone="2026"),
        row(1, "judged", 1, "unsure", LEFT),
        row(2, "judged", 1, "accept", LEFT),
        row(4, "drawn", 1, "accept", LEFT),
        row(5, "judged", 2, "reject", RIGHT),
    ]
    assert {number: each.number for number, each in current_verdicts(rows).items()} == {1: 2, 2: 5}


@pytest.mark.parametrize(
    ("rows", "left"),
    [
        ([row(1, "judged", 1, "accept", BOTH)], [BOTH]),
        ([row(1, "judged", 1, "accept", BOTH), row(2, "judged", 1, "reject", BOTH)], []),
        ([row(1, "judged", 1, "reject", BOTH), row(2, "judged", 1, "accept", BOTH)], [BOTH]),
        ([row(1, "drawn", None, "accept", BOTH), row(2, "erased", None, "reject", RIGHT)], [LEFT]),
        ([row(1, "erased", None, "reject", RIGHT), row(2, "drawn", None, "accept", BOTH)], [BOTH]),
        ([row(1, "drawn", None, "accept", BOTH), row(2, "erased", None, "reject", RIGHT, "2026")], [BOTH]),
        ([row(1, "drawn", None, "accept", BOTH), row(2, "judged", 5, "unsure", LEFT)], [RIGHT]),
        ([row(1, "judged", 1, "accept", BOTH), row(2, "drawn", 1, "accept", LEFT)], [LEFT]),  # it was split
        ([row(1, "drawn", 1, "reject", LEFT), row(2, "drawn", 1, "accept", RIGHT)], [RIGHT]),
    ],
)
def test_later_verdicts_paint_over_earlier_ones(rows: list[VerdictRow], left: list[Polygon]):
    found = accepted_changes(rows)
    assert len(found) == len(left)
    assert all(each.shape.equals(wanted) for each, wanted in zip(found, left, strict=True))


def layer(path: Path):
    """CRS, shapes and columns of a file's one layer."""
    meta, _, shapes, fields = pyogrio.raw.read(path)
    return meta["crs"], shapely.from_wkb(shapes), dict(zip(meta["fields"], fields, strict=True))


def reviewed(product: Path) -> None:
    store = ReviewStore(product)
    first, second, _ = (Polygon(box(*each)) for each in CHANGES)
    store.add([NewVerdict("judged", "accept", first, 1), NewVerdict("judged", "reject", second, 2)], "ann")
    store.add([NewVerdict("drawn", "accept", Polygon(box(80, 80, 10, 4)))], "bob")
    store.add([NewVerdict("erased", "reject", Polygon(box(10, 20, 12, 4)))], "bob")


def test_a_geopackage_holds_what_was_accepted_with_its_fields(product: Path, tmp_path: Path):
    reviewed(product)
    path = tmp_path / "accepted.gpkg"
    assert export_accepted(product, path) == 2
    crs, shapes, found = layer(path)
    assert CRS.from_user_input(crs).to_epsg() == 32614
    assert found["number"].tolist() == [1, 3]
    assert found["kind"].tolist() == ["judged", "drawn"]
    assert found["author"].tolist() == ["ann", "bob"]
    # 12 x 12 pixels are left of 12 x 16; the plane's areas differ from the ellipsoid's by UTM's scale.
    assert found["area_m2"].tolist() == pytest.approx([144 * 0.25, 40 * 0.25], rel=2e-3)
    assert shapely.area(shapes).tolist() == pytest.approx([144 * 0.25, 40 * 0.25])
    assert found["mean_probability"][0] > 0.5
    assert np.isnan(found["mean_probability"][1])
    assert np.isnan(found["polygon"].astype(float)).tolist() == [False, True]


def test_geojson_is_in_degrees_and_counterclockwise(product: Path, tmp_path: Path):
    reviewed(product)
    path = tmp_path / "accepted.geojson"
    assert export_accepted(product, path) == 2
    found = json.loads(path.read_text())
    assert "crs" not in found
    for feature in found["features"]:
        outline = shape(feature["geometry"])
        assert -98 < outline.bounds[0] < outline.bounds[2] < -97
        assert 30 < outline.bounds[1] < outline.bounds[3] < 31
        assert all(part.exterior.is_ccw for part in outline.geoms)


def test_nothing_accepted_is_an_empty_layer(product: Path, tmp_path: Path):
    assert export_accepted(product, tmp_path / "none.gpkg") == 0
    assert len(layer(tmp_path / "none.gpkg")[1]) == 0
    assert export_accepted(product, tmp_path / "none.geojson") == 0
    assert json.loads((tmp_path / "none.geojson").read_text())["features"] == []


def test_names_that_say_no_format(product: Path, tmp_path: Path):
    with pytest.raises(InputError, match=r"written as \.gpkg or \.geojson"):
        export_accepted(product, tmp_path / "accepted.shp")


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_without_a_crs_areas_are_pixels_and_geojson_is_refused(tmp_path: Path):
    dates = write_dates(tmp_path, crs=None, transform=None)
    out = map_change(*dates, tmp_path / "out", PixelPredictor(), MapOptions(min_area_m2=0)).folder
    drawn = shapely.box(10, -30, 20, -20)  # x is the column, y minus the row
    ReviewStore(out).add([NewVerdict("drawn", "accept", drawn)], "ann")
    assert export_accepted(out, tmp_path / "accepted.gpkg") == 1
    _, _, found = layer(tmp_path / "accepted.gpkg")
    assert found["area_px"].tolist() == [100]
    with pytest.raises(InputError, match=r"the map has no CRS; write \.gpkg"):
        export_accepted(out, tmp_path / "accepted.geojson")
