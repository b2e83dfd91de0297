"""Labels of a few verdicts on a grid of 2 m pixels, painted by hand."""

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.crs import CRS

from terradelta.geo.grid import Grid, Tile
from terradelta.review.painting import label_windows, near_together, paint
from terradelta.review.reading import Review
from terradelta.review.verdicts import VerdictRow

GRID = Grid(CRS.from_epsg(32631), Affine(2, 0, 500_000, 0, -2, 4_000_000), (60, 80))
WHOLE = Tile(0, 0, 60, 80)


def area(row: int, col: int, height: int, width: int) -> shapely.Polygon:
    """Whole pixels of the grid as a polygon."""
    left, top = 500_000 + 2 * col, 4_000_000 - 2 * row
    return shapely.box(left, top - 2 * height, left + 2 * width, top)


def verdict(number: int, shape, what="accept", kind="judged", polygon=None) -> VerdictRow:
    """A row that counts."""
    return VerdictRow(number, kind, polygon, what, "A", "2026-11-30T00:00:00Z", None, shape)


def review(*rows: VerdictRow, polygons=None) -> Review:
    """Of no file."""
    return Review(None, rows, polygons or {})


def test_a_box_around_what_was_judged_is_seen_and_the_rest_unknown() -> None:
    label, known = paint(review(verdict(1, area(20, 30, 5, 6))), GRID, WHOLE, seen_px=4)
    want, seen = np.zeros((60, 80), bool), np.zeros((60, 80), bool)
    want[20:25, 30:36], seen[16:29, 26:40] = True, True
    np.testing.assert_array_equal(label, want)
    np.testing.assert_array_equal(known, seen)


def test_polygons_without_a_verdict_are_unknown_in_the_box() -> None:
    polygons = {1: area(20, 30, 5, 6), 2: area(20, 37, 3, 9)}
    label, known = paint(review(verdict(1, polygons[1], polygon=1), polygons=polygons), GRID, WHOLE, seen_px=4)
    assert not known[20:23, 37:40].any()
    assert known[23:29, 37:40].all()
    assert label.sum() == 30


@pytest.mark.parametrize(
    ("kind", "what", "value"),
    [
        ("judged", "accept", 1),
        ("judged", "reject", 0),
        ("judged", "unsure", None),
        ("drawn", "accept", 1),
        ("drawn", "reject", 0),
        ("erased", "accept", 0),
        ("erased", "reject", 0),
    ],
)
def test_what_a_verdict_says(kind: str, what: str, value: int | None) -> None:
    label, known = paint(review(verdict(1, area(9, 9, 2, 2), what, kind)), GRID, WHOLE)
    assert known[9:11, 9:11].all() == (value is not None)
    assert label[9:11, 9:11].all() == (value == 1)
    assert label.sum() == (4 if value else 0)


def test_later_verdicts_paint_over_earlier_ones() -> None:
    rows = (
        verdict(1, area(10, 10, 8, 8)),
        verdict(2, area(10, 10, 4, 8), kind="erased"),
        verdict(3, area(10, 10, 4, 2), kind="drawn"),
        verdict(4, area(17, 17, 1, 1), "unsure"),
    )
    label, known = paint(review(*rows), GRID, WHOLE)
    want = np.zeros((60, 80), bool)
    want[10:18, 10:18] = True
    want[10:14, 10:18] = False
    want[10:14, 10:12] = True
    want[17, 17] = False
    np.testing.assert_array_equal(label, want)
    assert not known[17, 17]


@given(st.integers(0, 40), st.integers(0, 60), st.integers(1, 20), st.integers(1, 20))
def test_a_window_is_a_part_of_the_whole(row: int, col: int, height: int, width: int) -> None:
    rows = (verdict(1, area(5, 70, 20, 30)), verdict(2, area(-3, 20, 30, 10), "reject"), verdict(3, area(6, 6, 1, 1)))
    polygons = {8: area(15, 15, 12, 12)}
    whole = paint(review(*rows, polygons=polygons), GRID, WHOLE, seen_px=3)
    tile = Tile(row, col, height, width)
    for part, all_of_it in zip(paint(review(*rows, polygons=polygons), GRID, tile, seen_px=3), whole, strict=True):
        np.testing.assert_array_equal(part, all_of_it[tile.slices])


@given(
    st.lists(st.tuples(st.integers(-5, 58), st.integers(-5, 78), st.integers(1, 40), st.integers(1, 40)), min_size=1),
    st.sampled_from([16, 24, 100]),
)
def test_windows_lie_inside_and_hold_everything_that_was_judged(areas, side: int) -> None:
    rows = [verdict(k, area(*each)) for k, each in enumerate(areas, 1)]
    windows = label_windows(review(*rows), GRID, side=side, seen_px=2)
    held = np.zeros((60, 80), bool)
    for window in windows:
        assert 0 <= window.row <= window.stop_row <= 60
        assert 0 <= window.col <= window.stop_col <= 80
        assert (window.height, window.width) == (min(side, 60), min(side, 80))
        held[window.slices] = True
    label, _ = paint(review(*rows), GRID, WHOLE, seen_px=2)
    assert held[label].all()
    assert len(set(windows)) == len(windows)


def test_one_window_serves_neighbours() -> None:
    rows = [verdict(1, area(20, 20, 4, 4)), verdict(2, area(26, 26, 4, 4)), verdict(3, area(50, 70, 4, 4))]
    assert len(label_windows(review(*rows), GRID, side=24, seen_px=1)) == 2


def test_what_lies_outside_the_map_or_is_finer_than_a_pixel() -> None:
    assert label_windows(review(verdict(1, area(-30, 5, 4, 4))), GRID) == []
    thin = shapely.box(500_010.2, 3_999_950.2, 500_010.4, 3_999_950.4)
    assert len(label_windows(review(verdict(1, thin)), GRID, side=16)) == 1


def test_boxes_that_are_linked_share_a_number() -> None:
    boxes = [(0, 0, 1, 1), (10, 0, 11, 1), (1.5, 0, 2, 1), (2.9, 0, 9.5, 1), (0, 5, 1, 6)]
    assert near_together(boxes, 1.0) == [0, 0, 0, 0, 1]
    assert near_together(boxes, 0.6) == [0, 1, 0, 1, 2]
    assert near_together([], 1.0) == []
