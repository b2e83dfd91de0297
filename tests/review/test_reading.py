"""A review file as it lies beside a map."""

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
import shapely

from terradelta.errors import InputError
from terradelta.review.reading import read_review_file
from terradelta.review.verdicts import FILE, VerdictRow

BOX = shapely.MultiPolygon([shapely.box(0, 0, 10, 10)])
ROW = VerdictRow(1, "judged", 1, "accept", "Ada", "2026-11-30T00:00:00Z", None, BOX)


def _say(folder: Path, **values: str) -> None:
    with sqlite3.connect(folder / FILE) as database:
        database.execute("CREATE TABLE IF NOT EXISTS terradelta_review (key TEXT PRIMARY KEY, value TEXT)")
        database.executemany("INSERT OR REPLACE INTO terradelta_review VALUES (?, ?)", list(values.items()))


def test_what_was_written_is_read_without_what_was_undone(tmp_path: Path, write_review) -> None:
    drawn = replace(ROW, number=2, kind="drawn", polygon=None)
    undone = replace(ROW, number=3, polygon=2, undone="2026-11-30T01:00:00Z")
    polygons = {1: shapely.box(0, 0, 10, 10), 2: shapely.box(20, 0, 30, 10)}
    write_review(tmp_path, [ROW, drawn, undone], polygons)
    found = read_review_file(tmp_path)
    assert found.rows == (ROW, drawn)
    assert found.polygons == polygons
    assert found.unjudged == [polygons[2]]


def test_what_is_missing_is_named(tmp_path: Path, write_review) -> None:
    with pytest.raises(InputError, match=r"holds no change\.gpkg; give a folder that `terradelta map` made"):
        read_review_file(tmp_path)
    write_review(tmp_path, [ROW], {1: BOX})
    (tmp_path / FILE).unlink()
    with pytest.raises(InputError, match=r"holds no review\.gpkg; judge its polygons first, with `terradelta view"):
        read_review_file(tmp_path)


def test_a_review_of_another_map_or_schema_or_no_review(tmp_path: Path, write_review) -> None:
    write_review(tmp_path, [ROW], {1: BOX})
    _say(tmp_path, schema="2")
    with pytest.raises(InputError, match="has schema 2; this terradelta reads 1"):
        read_review_file(tmp_path)
    _say(tmp_path, schema="1", change_gpkg_sha256="0" * 64)
    with pytest.raises(InputError, match="is the review of another map"):
        read_review_file(tmp_path)
    (tmp_path / FILE).write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be read"):
        read_review_file(tmp_path)


@pytest.mark.parametrize("change", [{"kind": "seen"}, {"verdict": "yes"}])
def test_words_that_mean_nothing(tmp_path: Path, write_review, change: dict[str, str]) -> None:
    write_review(tmp_path, [replace(ROW, **change)], {1: BOX})
    with pytest.raises(InputError, match=r"row 1: kind is .* and verdict"):
        read_review_file(tmp_path)
