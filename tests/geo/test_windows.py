import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from terradelta.errors import ShapeError
from terradelta.geo.windows import Span, TilePlan, blocks, fit_tiles, plan_axis, spread_windows


@st.composite
def sizes(draw, longest=400):
    """(length, tile, overlap, multiple) that a plan accepts."""
    multiple = draw(st.integers(1, 32))
    tiles = draw(st.integers(1, 8))
    overlaps = draw(st.integers(0, tiles // 2))
    return draw(st.integers(1, longest)), tiles * multiple, overlaps * multiple, multiple


def coverage(spans, length):
    counts = np.zeros(length, int)
    for span in spans:
        counts[span.start : span.stop] += 1
    return counts


@given(sizes())
def test_spans_cover_the_axis_and_stay_inside(size):
    length, _, _, _ = size
    spans = plan_axis(*size)
    counts = coverage(spans, length)  # a span beyond the axis would be cut here ...
    assert sum(span.length for span in spans) == counts.sum()  # ... and counted in full here
    assert counts.min() >= 1
    assert spans[0].start == 0
    assert spans[-1].stop == length


@given(sizes())
def test_spans_start_at_multiples_and_have_the_full_length(size):
    length, tile, _, multiple = size
    spans = plan_axis(*size)
    assert all(span.start % multiple == 0 for span in spans)
    assert all(span.length == tile for span in spans[:-1])
    assert min(tile, length) - multiple < spans[-1].length <= tile


@given(sizes())
def test_neighbours_overlap_enough_and_no_span_is_superfluous(size):
    length, _, overlap, _ = size
    spans = plan_axis(*size)
    pairs = list(itertools.pairwise(spans))
    assert all(left.stop - right.start == overlap for left, right in pairs[:-1])
    assert all(left.start < right.start and left.stop < right.stop for left, right in pairs)
    assert all(left.stop - right.start >= overlap for left, right in pairs)
    assert coverage(spans[:-1], length).max(initial=0) <= 2


def test_an_axis_worked_by_hand():
    # 50 rounds up to 64 = 4 * 16; the last tile starts at 64 - 32.
    assert plan_axis(50, 32, 16, 16) == (Span(0, 32), Span(16, 48), Span(32, 50))
    assert plan_axis(33, 32, 0, 16) == (Span(0, 32), Span(16, 33))
    assert plan_axis(64, 32, 0, 16) == (Span(0, 32), Span(32, 64))
    assert plan_axis(20, 32, 16, 16) == (Span(0, 20),)


def test_a_plan_lists_its_tiles_in_row_major_order():
    plan = TilePlan((50, 33), tile=32, overlap=16, multiple=16)
    rows = list(plan.rows())
    corners = [[(tile.row, tile.col) for tile in row] for row in rows]
    assert corners == [[(0, 0), (0, 16)], [(16, 0), (16, 16)], [(32, 0), (32, 16)]]
    assert [(tile.height, tile.width) for tile in rows[-1]] == [(18, 32), (18, 17)]
    assert plan.count == 6


@given(sizes(120), st.integers(1, 120))
def test_a_plan_covers_every_pixel(size, width):
    height, tile, overlap, multiple = size
    plan = TilePlan((height, width), tile, overlap, multiple)
    hits = np.zeros(plan.shape, int)
    tiles = [tile for row in plan.rows() for tile in row]
    for each in tiles:
        hits[each.slices] += 1
    assert hits.min() >= 1
    assert len(tiles) == len(set(tiles)) == plan.count


def work(shape, tile, overlap, multiple):
    plan = TilePlan(shape, tile, overlap, multiple)
    return sum(each.height * each.width for row in plan.rows() for each in row)


@settings(max_examples=40)
@given(sizes(90), st.integers(1, 90), st.integers(0, 4000))
def test_fitted_tiles_are_the_cheapest_of_all(size, width, more):
    length, _, overlap, multiple = size
    shape, least = (length, width), max(2 * overlap, multiple)
    pixels = least * least + more
    least = max(least, math.isqrt(pixels) // 4 // multiple * multiple)
    sides = fit_tiles(shape, pixels, overlap, multiple)
    assert min(sides[0], length) * min(sides[1], width) <= pixels
    choices = range(least, max(*shape, least) + multiple, multiple)
    cheapest = min(
        work(shape, (height, across), overlap, multiple)
        for height, across in itertools.product(choices, choices)
        if min(height, length) * min(across, width) <= pixels
    )
    assert work(shape, sides, overlap, multiple) == cheapest


def test_fitted_tiles_worked_by_hand():
    # 4096 + 5 * 320 = 6 * 949.3, in multiples of 16: 960; 4096 + 4 * 320 = 5 * 1075.2: 1088; 960 * 1088 < 1024 * 1024.
    assert fit_tiles((4096, 4096), 1024**2, 320, 16) == (960, 1088)
    assert fit_tiles((500, 700), 1024**2, 320, 16) == (640, 704)  # one tile
    assert fit_tiles((1025, 1025), 1100**2, 320, 16) == (1040, 1040)


def test_an_endless_axis_is_fitted_at_once():
    """A header may claim any size; the time must not depend on it."""
    assert fit_tiles((2**31 - 1, 64), 1024**2, 320, 16) == (16384, 640)
    assert fit_tiles((2**31 - 1, 2**31 - 1), 1024**2, 320, 16)[0] <= 1648


def test_tiles_that_cannot_hold_their_overlaps_are_refused():
    with pytest.raises(ShapeError, match="tiles of 100 pixels are too small; with this overlap, 1024 are the least"):
        fit_tiles((99, 99), 100, 16, 16)
    with pytest.raises(ShapeError, match="overlap is 20; it must be 0 or a multiple of 16"):
        fit_tiles((99, 99), 10000, 20, 16)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((0, 32, 0, 16), "a scene needs a height and width above 0, not 0"),
        ((99, 32, 0, 0), "multiple is 0; it must be 1 or more"),
        ((99, 40, 0, 16), "tile is 40; it must be a multiple of 16: use 32 or 48"),
        ((99, 8, 0, 16), "tile is 8; it must be a multiple of 16: use 16"),
        ((99, -32, 0, 16), "tile is -32; it must be a multiple of 16: use 16"),
        ((99, 64, 20, 16), "overlap is 20; it must be 0 or a multiple of 16: use 16 or 32"),
        ((99, 64, -16, 16), "overlap is -16; it must be 0 or a multiple of 16: use 16"),
        ((99, 48, 32, 16), "overlap is 32; with tiles of 48 it can be at most 16"),
    ],
)
def test_bad_sizes_are_refused_with_what_is_allowed(args, message):
    with pytest.raises(ShapeError) as caught:
        plan_axis(*args)
    assert str(caught.value) == message
    length, tile, overlap, multiple = args
    with pytest.raises(ShapeError):
        TilePlan((500, length), tile, overlap, multiple)


def test_windows_are_spread_evenly():
    found = [(each.row, each.col, each.height, each.width) for each in spread_windows((300, 768))]
    assert found == [(row, col, 256, 256) for row in (0, 22, 44) for col in (0, 256, 512)]
    assert [(each.height, each.width) for each in spread_windows((100, 256), 16)] == [(96, 256)] * 3
    assert spread_windows((15, 900), 16) == []


def test_blocks_cover_every_pixel_once():
    shape = (5, 7)
    hits = np.zeros(shape, int)
    found = list(blocks(shape, 3))
    for tile in found:
        hits[tile.slices] += 1
    assert (hits == 1).all()
    assert [(tile.row, tile.col) for tile in found] == [(0, 0), (0, 3), (0, 6), (3, 0), (3, 3), (3, 6)]
