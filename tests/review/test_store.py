import dataclasses
import os
import signal
import sqlite3
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pyogrio
import pytest
import rasterio.crs
import shapely
from shapely.geometry import Polygon

from terradelta.errors import InputError, OutputError
from terradelta.review.store import NewVerdict, ReviewStore, read_review
from terradelta.review.verdicts import FILE, LAYER

from .conftest import box

SQUARE = Polygon(box(10, 20, 12, 16))


def judged(number: int = 1, verdict: str = "accept") -> NewVerdict:
    return NewVerdict("judged", verdict, SQUARE, number)  # type: ignore[arg-type]


def test_rows_are_kept_in_order_and_nothing_else_is_touched(product: Path):
    before = {path.name: path.read_bytes() for path in product.iterdir()}
    store = ReviewStore(product)
    assert store.rows() == []
    assert not (product / FILE).exists()  # looking writes nothing
    (first,) = store.add([judged()], "ann")
    drawn = NewVerdict("drawn", "accept", shapely.MultiPolygon([SQUARE, Polygon(box(60, 60, 5, 5))]))
    second, third = store.add([drawn, judged(2, "unsure")], "bob")
    assert (first.number, second.number, third.number) == (1, 2, 3)
    found = read_review(product)
    assert [(r.kind, r.polygon, r.verdict, r.author, r.undone) for r in found] == [
        ("judged", 1, "accept", "ann", None),
        ("drawn", None, "accept", "bob", None),
        ("judged", 2, "unsure", "bob", None),
    ]
    assert found[0].geometry.equals(SQUARE)
    assert found[1].geometry.equals(drawn.geometry)
    assert found == [first, second, third]
    assert {path.name: path.read_bytes() for path in product.iterdir() if path.name != FILE} == before


def test_a_request_that_comes_again_is_answered_and_not_added(product: Path):
    store = ReviewStore(product)
    (first,) = store.add([judged()], "Ann")
    again = dataclasses.replace(judged(verdict="reject"), request="a1")
    (row,) = store.add([again], "Ann", undoing=[first.number])
    assert store.add([again], "Ann", undoing=[first.number]) == [row]
    assert [(each.number, each.undone is None) for each in store.rows()] == [(first.number, False), (row.number, True)]
    assert len(store.add([dataclasses.replace(again, request="a2")], "Ann")) == 1
    assert len(store.rows()) == 3


def test_other_programs_read_it_as_one_layer_without_a_warning(product: Path):
    ReviewStore(product).add([judged(), judged(2, "reject")], "ann")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pyogrio.list_layers(product / FILE).tolist() == [[LAYER, "MultiPolygon"]]
        meta, _, shapes, fields = pyogrio.raw.read(product / FILE)
    columns = dict(zip(meta["fields"], fields, strict=True))
    assert columns["verdict"].tolist() == ["accept", "reject"]
    assert shapely.from_wkb(shapes[0]).equals(SQUARE)
    assert rasterio.crs.CRS.from_user_input(meta["crs"]) == rasterio.crs.CRS.from_epsg(32614)
    assert tuple(pyogrio.read_info(product / FILE)["total_bounds"]) == SQUARE.bounds
    with sqlite3.connect(product / FILE) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
    database.close()


def test_news_since_a_revision_hold_what_was_added_and_undone(product: Path):
    one, other = ReviewStore(product), ReviewStore(product)  # two windows
    one.add([judged()], "ann")
    seen = other.since(0)
    assert [row.number for row in seen.rows] == [1]
    other.add([judged(2)], "bob")
    one.undo(1)
    news = other.since(seen.revision)
    assert [(row.number, row.undone is None) for row in news.rows] == [(1, False), (2, True)]
    assert other.since(news.revision).rows == ()
    assert news.revision > seen.revision


def test_undo_takes_back_what_was_added_at_once_and_by_whom(product: Path):
    store = ReviewStore(product)
    assert store.undo() == []  # there is nothing yet
    store.add([judged()], "ann")
    store.add([judged(2), judged(3)], "bob")
    assert store.undo(author="ann") == [1]
    assert store.undo() == [2, 3]
    assert store.undo() == []
    assert all(row.undone for row in store.rows())
    with pytest.raises(InputError, match="verdict number 2 was undone already, at 20"):
        store.undo(2)
    with pytest.raises(InputError, match="there is no verdict number 9"):
        store.undo(9)


def test_what_a_row_took_the_place_of_is_back_when_that_is_undone(product: Path):
    store = ReviewStore(product)
    (drawn,) = store.add([NewVerdict("drawn", "accept", SQUARE)], "ann")
    left, right = (NewVerdict("drawn", "accept", Polygon(box(10, col, 12, 8))) for col in (20, 28))
    store.add([left, right], "ann", undoing=[drawn.number])
    assert [row.number for row in store.rows() if row.undone is None] == [2, 3]
    assert store.undo() == [2, 3]
    (back,) = [row for row in store.rows() if row.undone is None]
    assert (back.kind, back.author, back.time) == ("drawn", "ann", drawn.time)
    assert back.geometry.equals(SQUARE)


@pytest.mark.parametrize(
    ("verdict", "message"),
    [
        (NewVerdict("judged", "maybe", SQUARE, 1), "verdict is 'maybe'; it must be one of accept, reject, unsure"),  # type: ignore[arg-type]
        (NewVerdict("seen", "accept", SQUARE, 1), "kind is 'seen'; it must be one of judged, drawn, erased"),  # type: ignore[arg-type]
        (NewVerdict("judged", "accept", SQUARE), "needs its id"),
        (NewVerdict("drawn", "accept", Polygon()), "needs a polygon with finite coordinates"),
        (NewVerdict("drawn", "accept", shapely.Point(0, 0)), "needs a polygon with finite coordinates, not POINT"),
        (NewVerdict("drawn", "accept", shapely.box(0, 0, float("inf"), 1)), "needs a polygon with finite coordinates"),
    ],
)
def test_what_is_no_verdict_is_refused_and_nothing_written(product: Path, verdict: NewVerdict, message: str):
    with pytest.raises(InputError, match=message):
        ReviewStore(product).add([judged(), verdict], "ann")
    assert not (product / FILE).exists()


def test_a_failed_transaction_leaves_nothing(product: Path):
    store = ReviewStore(product)
    store.add([judged()], "ann")
    with pytest.raises(InputError, match="there is no verdict number 7"):
        store.add([judged(2)], "ann", undoing=[1, 7])
    (row,) = store.rows()
    assert row.undone is None
    assert store.since(1).rows == ()


def test_the_review_of_another_product_is_refused_and_kept(product: Path):
    ReviewStore(product).add([judged()], "ann")
    kept = (product / FILE).read_bytes()
    receipt = product / "receipt.json"
    receipt.write_text(receipt.read_text().replace('"created": "2', '"created": "3'))
    with pytest.raises(InputError, match=r"is the review of another product: receipt_sha256 differ") as error:
        ReviewStore(product)
    assert "Nothing was changed" in str(error.value)
    assert (product / FILE).read_bytes() == kept


def test_what_is_no_review_or_of_another_schema_is_refused(product: Path):
    path = product / FILE
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(InputError, match="is no review that can be read"):
        ReviewStore(product)
    path.write_bytes((product / "change.gpkg").read_bytes())
    with pytest.raises(InputError, match="it lacks the table terradelta_review"):
        ReviewStore(product)
    path.unlink()
    ReviewStore(product).add([judged()], "ann")
    with sqlite3.connect(path) as database:
        database.execute("UPDATE terradelta_review SET value = '99' WHERE key = 'schema'")
    database.close()
    with pytest.raises(InputError, match="has schema '99', but this terradelta reads schema 1"):
        read_review(product)


def test_a_geometry_that_is_none_is_told(product: Path):
    ReviewStore(product).add([judged()], "ann")
    with sqlite3.connect(product / FILE) as database:
        database.execute(f"UPDATE {LAYER} SET geom = x'4750'")
    database.close()
    with pytest.raises(InputError, match="holds a geometry that cannot be read"):
        read_review(product)


def test_no_product(tmp_path: Path):
    with pytest.raises(InputError, match=r"change\.gpkg cannot be read"):
        ReviewStore(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_to(product: Path):
    product.chmod(0o500)
    try:
        with pytest.raises(OutputError, match=r"review\.gpkg cannot be written"):
            ReviewStore(product).add([judged()], "ann")
    finally:
        product.chmod(0o700)


WRITER = """
import sys, shapely
from pathlib import Path
from terradelta.review.store import NewVerdict, ReviewStore
store = ReviewStore(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for i in range(int(sys.argv[3])):
    store.add([NewVerdict("judged", "accept", shapely.box(0, 0, 1, 1), i + 1)], sys.argv[2])
    print(i + 1, flush=True)
"""


def writer(product: Path, name: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(product), name, str(count)]
    started = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    assert started.stdout.readline() == "ready\n"
    return started


def test_two_processes_write_at_once_from_the_first_row_on(product: Path):
    both = [writer(product, name, 25) for name in ("ann", "bob")]
    for each in both:
        each.stdin.write("go\n")
        each.stdin.flush()
    said = [each.communicate(timeout=600)[0].split() for each in both]
    assert [each.returncode for each in both] == [0, 0]
    assert said == [[str(i + 1) for i in range(25)]] * 2
    rows = read_review(product)
    assert [row.number for row in rows] == list(range(1, 51))
    for name in ("ann", "bob"):
        assert [row.polygon for row in rows if row.author == name] == list(range(1, 26))
    assert ReviewStore(product).since(0).revision == 50
    assert [path.name for path in product.glob(".*")] == []


def test_a_killed_process_loses_nothing_that_it_said(product: Path):
    killed = writer(product, "ann", 100_000)
    killed.stdin.write("go\n")
    killed.stdin.flush()
    said = [killed.stdout.readline()]  # it has begun
    time.sleep(0.3)
    killed.send_signal(signal.SIGKILL)
    said += killed.stdout.readlines()
    killed.stdin.close()
    killed.stdout.close()
    assert killed.wait() == -signal.SIGKILL
    said = [line for line in said if line.endswith("\n")]
    rows = read_review(product)
    assert len(said) > 0
    assert len(rows) in (len(said), len(said) + 1)  # the last may be written and not said
    ReviewStore(product).add([judged()], "bob")
    with sqlite3.connect(product / FILE) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()
