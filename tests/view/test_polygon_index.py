import sqlite3
import time
from pathlib import Path

import numpy as np
import pytest
import shapely
from affine import Affine

from terradelta.errors import InputError
from terradelta.geo.grid import Grid
from terradelta.products.gpkg import GpkgWriter
from terradelta.products.polygons import ChangePolygon
from terradelta.view.polygon_index import PolygonIndex, Query

GRID = Grid(None, Affine.scale(1, -1), (1000, 1000))


def write(path: Path, count: int) -> None:
    """Squares along a diagonal, id i at i, with areas and probabilities that turn."""
    with GpkgWriter(
        path, GRID, fields={'before_"odd" band': float, "outline_in": str, "shift_explains": bool}
    ) as writer:
        polygons = (
            ChangePolygon(shapely.box(i, -i - 1, i + 1, -i), float(i % 7), 4.0, i % 10 / 10, 1.0, 1, unit="px")
            for i in range(count)
        )
        rows = ((None, None if i % 3 == 0 else "after", None if i % 3 == 0 else i % 3 == 1) for i in range(count))
        writer.add(polygons, rows)


@pytest.fixture
def index(tmp_path: Path) -> PolygonIndex:
    write(tmp_path / "change.gpkg", 40)
    return PolygonIndex(tmp_path / "change.gpkg", 0.25)


def ids(index: PolygonIndex, query: Query) -> list[int]:
    return index.table(index.select(query)[0], ["id"])["id"]


def test_columns_hold_what_the_file_says(index: PolygonIndex):
    assert (index.count, index.area) == (40, "area_px")
    table = index.table(np.arange(4))
    assert table["id"] == [1, 2, 3, 4]
    assert table["outline_in"] == [None, "after", "after", None]
    assert table["shift_explains"] == [None, True, False, None]
    assert table['before_"odd" band'] == [None] * 4
    assert (table["x_min"], table["y_max"]) == ([0, 1, 2, 3], [0, -1, -2, -3])
    # The threshold is 0.25: 1 is as far from it as can be, by 0.75.
    assert table["uncertainty"] == pytest.approx([1 - 0.25 / 0.75, 1 - 0.15 / 0.75, 1 - 0.05 / 0.75, 1 - 0.05 / 0.75])
    assert index.fields[:2] == ["id", "area_px"]


def test_sorting_keeps_the_order_of_what_is_equal(index: PolygonIndex):
    by_area = ids(index, Query("area", limit=100))
    assert by_area == sorted(range(1, 41), key=lambda number: ((number - 1) % 7, number))
    falling = ids(index, Query("area", True, limit=100))
    assert falling == sorted(range(1, 41), key=lambda number: (-((number - 1) % 7), number))
    assert ids(index, Query("area", True, offset=5, limit=3)) == falling[5:8]
    assert sorted(ids(index, Query("outline_in", limit=100))) == list(range(1, 41))
    assert index.select(Query(offset=99))[1] == 40


def test_filters(index: PolygonIndex):
    assert all((number - 1) % 7 >= 5 for number in ids(index, Query(min_area=5)))
    assert ids(index, Query(threshold=1.1)) == []
    assert ids(index, Query(bbox=(9.5, -10.5, 10.5, -9.5))) == [10, 11]
    with pytest.raises(InputError, match="polygons have no field 'geom'; sort by one of id, area_px"):
        index.select(Query("geom"))


def test_outlines_and_fields_by_id(index: PolygonIndex):
    last, third = index.outlines([40, 3])
    assert third.equals(shapely.box(2, -3, 3, -2))
    assert last.equals(shapely.box(39, -40, 40, -39))
    assert index.attributes(3)["id"] == 3
    for number in (0, 41):
        with pytest.raises(InputError, match=f"no polygon with the id {number}; ids are 1 to 40"):
            index.attributes(number)


def test_no_polygons(tmp_path: Path):
    write(tmp_path / "change.gpkg", 0)
    index = PolygonIndex(tmp_path / "change.gpkg", 0.5)
    assert (index.count, index.select(Query())[1]) == (0, 0)
    assert index.table(np.arange(0))["uncertainty"] == []


def test_files_that_hold_no_polygons(tmp_path: Path):
    path = tmp_path / "change.gpkg"
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(InputError, match="cannot be read as polygons"):
        PolygonIndex(path, 0.5)
    path.unlink()
    sqlite3.connect(path).execute("CREATE TABLE other (id)").connection.close()
    with pytest.raises(InputError, match="has no layer 'change'"):
        PolygonIndex(path, 0.5)
    path.unlink()
    write(path, 3)
    with sqlite3.connect(path) as database:
        database.create_function("ST_IsEmpty", 1, lambda _: 1)
        for name in ("ST_MinX", "ST_MaxX", "ST_MinY", "ST_MaxY"):
            database.create_function(name, 1, lambda _: 0)
        database.execute("UPDATE change SET geom = x'475000010000' WHERE id = 2")
    database.close()
    with pytest.raises(InputError, match="an outline without its envelope"):
        PolygonIndex(path, 0.5).select(Query())


@pytest.mark.slow
def test_a_million_polygons_are_sorted_and_paged(tmp_path: Path):
    write(tmp_path / "change.gpkg", 1_000_000)
    index = PolygonIndex(tmp_path / "change.gpkg", 0.5)
    assert index.count == 1_000_000
    start = time.process_time()
    for query in (Query("area", True), Query("uncertainty"), Query("id", True, 900_000), Query(bbox=(5, -9, 9, 0))):
        index.table(index.select(query)[0])
    assert time.process_time() - start < 20
