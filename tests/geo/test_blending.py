import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from terradelta.errors import ShapeError
from terradelta.geo.blending import RowBlender, RowJoiner, axis_weights
from terradelta.geo.windows import Span, TilePlan, plan_axis

trims = st.floats(0, 0.49)


@st.composite
def axes(draw):
    """(length, tile, overlap, multiple) that a plan accepts."""
    multiple = draw(st.integers(1, 16))
    tiles = draw(st.integers(1, 8))
    overlaps = draw(st.integers(0, tiles // 2))
    return draw(st.integers(1, 300)), tiles * multiple, overlaps * multiple, multiple


@st.composite
def plans(draw):
    height, tile, overlap, multiple = draw(axes())
    return TilePlan((height, draw(st.integers(1, 120))), tile, overlap, multiple)


def join(plan, rows, trim, height):
    """Rows of tiles, each ``(rows, width)``, to the scene; every piece checked for its place."""
    joiner, pieces, done = RowJoiner(plan, trim), [], 0
    for number in range(len(rows)):
        for first, piece in joiner.pieces(number, lambda n, span: rows[n][span.start : span.stop], height):
            assert first == done
            assert len(piece) <= height
            assert piece.dtype == np.float32
            done += len(piece)
            pieces.append(piece)
    return np.concatenate(pieces)


def blend(plan, values_of, trim=0.25, height=1000):
    """What `values_of` gives for each of the plan's tiles, joined."""
    rows = []
    for row in plan.rows():
        blender, parts, done = RowBlender(plan, trim), [], 0
        for tile in row:
            first, part = blender.add(values_of(tile))
            assert first == done
            done += part.shape[1]
            parts.append(part)
        rows.append(np.concatenate(parts, axis=1))
    return join(plan, rows, trim, height)


def cut(image):
    return lambda tile: image[tile.slices]


@given(axes(), trims)
def test_weights_are_a_partition_of_unity(axis, trim):
    spans = plan_axis(*axis)
    total = np.zeros(axis[0])
    for span, weight in zip(spans, axis_weights(spans, trim), strict=True):
        assert weight.dtype == np.float32
        assert weight.min() >= 0
        total[span.start : span.stop] += weight
    np.testing.assert_allclose(total, 1, rtol=0, atol=1e-6)


def test_weights_worked_by_hand():
    # Overlap of pixels 8 to 16: two pixels without weight at each end, four of ramp at 1/8, 3/8, 5/8, 7/8 of it.
    first, second = axis_weights([Span(0, 16), Span(8, 24)])
    rise = 0.5 - 0.5 * np.cos(np.pi * np.array([0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1]))
    np.testing.assert_allclose(second, [*rise, *[1] * 8], atol=1e-7)
    np.testing.assert_allclose(first, [*[1] * 8, *rise[::-1]], atol=1e-7)


def test_the_border_of_the_scene_has_full_weight():
    weights = axis_weights(plan_axis(300, 64, 32, 16))
    assert weights[0][0] == weights[-1][-1] == 1


def test_a_trim_of_zero_ramps_over_the_whole_overlap():
    first, second = axis_weights([Span(0, 16), Span(8, 24)], trim=0)
    assert (second[:8] > 0).all()
    assert (first[8:] > 0).all()


@given(plans(), st.floats(0, 1, width=32), trims)
def test_a_constant_stays_constant(plan, value, trim):
    result = blend(plan, cut(np.full(plan.shape, value, np.float32)), trim)
    np.testing.assert_allclose(result, value, rtol=0, atol=1e-6)


@given(plans(), st.integers(0, 2**32 - 1), st.integers(1, 50))
def test_windows_of_an_image_blend_to_the_image(plan, seed, height):
    image = np.random.default_rng(seed).random(plan.shape, np.float32)
    np.testing.assert_allclose(blend(plan, cut(image), height=height), image, rtol=0, atol=1e-6)


@given(plans(), st.integers(1, 50), trims)
def test_the_height_of_the_pieces_does_not_matter(plan, height, trim):
    noise = np.random.default_rng(0)
    values = {tile: noise.random((tile.height, tile.width), np.float32) for row in plan.rows() for tile in row}
    whole = blend(plan, values.get, trim)
    assert np.array_equal(blend(plan, values.get, trim, height), whole)
    weights = axis_weights(plan.row_spans, trim), axis_weights(plan.col_spans, trim)
    expected = np.zeros(plan.shape)
    for i, row in enumerate(plan.rows()):
        for j, tile in enumerate(row):
            expected[tile.slices] += np.outer(weights[0][i], weights[1][j]) * values[tile]
    np.testing.assert_allclose(whole, expected, rtol=0, atol=1e-6)


@settings(max_examples=30)
@given(plans(), st.data())
def test_the_result_lies_between_the_tiles_values(plan, data):
    tiles = [tile for row in plan.rows() for tile in row]
    values = data.draw(hnp.arrays(np.float32, len(tiles), elements=st.floats(0, 1, width=32)))
    low, high = np.ones(plan.shape), np.zeros(plan.shape)
    value_of = dict(zip(tiles, values, strict=True))
    for tile, value in value_of.items():
        low[tile.slices] = np.minimum(low[tile.slices], value)
        high[tile.slices] = np.maximum(high[tile.slices], value)
    result = blend(plan, lambda tile: np.full((tile.height, tile.width), value_of[tile], np.float32))
    assert (result >= low - 1e-6).all()
    assert (result <= high + 1e-6).all()


def test_a_bad_tile_margin_does_not_reach_the_result():
    plan = TilePlan((96, 96), tile=64, overlap=32, multiple=16)

    def values_of(tile):
        # Good everywhere but in the outer quarter of an overlap, at edges inside the scene.
        values = np.full((64, 64), 100, np.float32)
        values[
            8 if tile.row else 0 : 56 if tile.row == 0 else 64, 8 if tile.col else 0 : 56 if tile.col == 0 else 64
        ] = 1
        return values

    np.testing.assert_allclose(blend(plan, values_of), 1, atol=1e-6)


def test_a_nan_stays_in_its_pixel():
    plan = TilePlan((96, 96), tile=64, overlap=32, multiple=16)
    image = np.zeros(plan.shape, np.float32)
    image[40, 40] = np.nan
    assert np.argwhere(np.isnan(blend(plan, cut(image)))).tolist() == [[40, 40]]


def test_what_is_held_does_not_grow_with_the_width():
    held = []
    for width in (640, 6400):
        blender = RowBlender(TilePlan((64, width), tile=64, overlap=16, multiple=16))
        blender.add(np.zeros((64, 64), np.float32))
        held.append(blender._carried.nbytes)
    assert held == [64 * 16 * 4] * 2


@pytest.mark.parametrize("trim", [-0.1, 0.5, float("nan")])
def test_a_trim_out_of_range_is_refused(trim):
    for kind in (RowBlender, RowJoiner):
        with pytest.raises(ShapeError, match=r"trim is .*; it must be at least 0 and below 0\.5"):
            kind(TilePlan((64, 64), 32, 16, 16), trim)


def test_misuse_is_refused_with_what_to_do():
    blender = RowBlender(TilePlan((96, 96), tile=64, overlap=32, multiple=16))
    values = np.zeros((64, 64), np.float32)
    with pytest.raises(ShapeError, match=r"values have shape \(64, 63\), but the tile is 64 x 64"):
        blender.add(values[:, 1:])
    blender.add(values)
    with pytest.raises(ShapeError, match=r"values have shape \(63, 64\), but the tile is 64 x 64"):
        blender.add(values[1:])
    blender.add(values)
    with pytest.raises(ShapeError, match="all 2 tiles of the row were added; use a new blender for the next row"):
        blender.add(values)
