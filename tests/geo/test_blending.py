import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from terradelta.errors import ShapeError
from terradelta.geo.blending import RowBlender, axis_weights
from terradelta.geo.grid import Tile
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


def blend(plan, image, trim=0.25, skip=()):
    """The image cut into the plan's tiles and joined again; every strip checked for its place."""
    blender, strips, rows = RowBlender(plan, trim), [], 0
    for row in plan.rows():
        for tile in row:
            if tile not in skip:
                blender.add(tile, image[tile.slices])
        first, strip = blender.finish_row()
        assert first == rows
        assert strip.dtype == np.float32
        rows += len(strip)
        strips.append(strip.copy())
    return np.concatenate(strips)


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
    result = blend(plan, np.full(plan.shape, value, np.float32), trim)
    np.testing.assert_allclose(result, value, rtol=0, atol=1e-6)


@given(plans(), st.integers(0, 2**32 - 1))
def test_windows_of_an_image_blend_to_the_image(plan, seed):
    image = np.random.default_rng(seed).random(plan.shape, np.float32)
    np.testing.assert_allclose(blend(plan, image), image, rtol=0, atol=1e-6)


@settings(max_examples=30)
@given(plans(), st.data())
def test_the_result_lies_between_the_tiles_values(plan, data):
    tiles = [tile for row in plan.rows() for tile in row]
    values = data.draw(hnp.arrays(np.float32, len(tiles), elements=st.floats(0, 1, width=32)))
    low, high = np.ones(plan.shape), np.zeros(plan.shape)
    blender, strips = RowBlender(plan), []
    numbers = iter(values)
    for row in plan.rows():
        for tile in row:
            value = next(numbers)
            blender.add(tile, np.full((tile.height, tile.width), value, np.float32))
            low[tile.slices] = np.minimum(low[tile.slices], value)
            high[tile.slices] = np.maximum(high[tile.slices], value)
        strips.append(blender.finish_row()[1].copy())
    result = np.concatenate(strips)
    assert (result >= low - 1e-6).all()
    assert (result <= high + 1e-6).all()


def test_a_bad_tile_margin_does_not_reach_the_result():
    plan = TilePlan((96, 96), tile=64, overlap=32, multiple=16)
    blender, strips = RowBlender(plan), []
    for row in plan.rows():
        for tile in row:
            values = np.full((64, 64), 100, np.float32)
            # Good everywhere but in the outer quarter of an overlap, at edges inside the scene.
            values[
                8 if tile.row else 0 : 56 if tile.row == 0 else 64, 8 if tile.col else 0 : 56 if tile.col == 0 else 64
            ] = 1
            blender.add(tile, values)
        strips.append(blender.finish_row()[1].copy())
    np.testing.assert_allclose(np.concatenate(strips), 1, atol=1e-6)


def test_a_skipped_tile_leaves_the_others_right():
    plan = TilePlan((96, 160), tile=64, overlap=16, multiple=16)
    image = np.random.default_rng(0).random(plan.shape, np.float32)
    skipped = next(plan.rows())[1]
    result = blend(plan, image, skip=(skipped,))
    outside = np.ones(plan.shape, bool)
    outside[skipped.slices] = False
    np.testing.assert_allclose(result[outside], image[outside], atol=1e-6)
    assert (result[skipped.slices] <= image[skipped.slices] + 1e-6).all()


def test_rows_without_any_tile_are_zero():
    plan = TilePlan((96, 96), tile=64, overlap=16, multiple=16)
    blender = RowBlender(plan)
    strips = [blender.finish_row() for _ in plan.row_spans]
    assert [first for first, _ in strips] == [0, 32]
    assert not np.concatenate([strip for _, strip in strips]).any()


def test_a_nan_stays_in_its_pixel():
    plan = TilePlan((96, 96), tile=64, overlap=32, multiple=16)
    image = np.zeros(plan.shape, np.float32)
    image[40, 40] = np.nan
    assert np.argwhere(np.isnan(blend(plan, image))).tolist() == [[40, 40]]


def test_a_strip_is_a_view_so_that_one_tile_row_is_all_that_is_held():
    plan = TilePlan((160, 64), tile=64, overlap=16, multiple=16)
    blender, rows = RowBlender(plan), list(plan.rows())
    blender.add(rows[0][0], np.ones((64, 64), np.float32))
    _, first = blender.finish_row()
    assert (first == 1).all()
    blender.add(rows[1][0], np.full((64, 64), 9, np.float32))
    _, second = blender.finish_row()
    assert np.shares_memory(first, second)


@pytest.mark.parametrize("trim", [-0.1, 0.5, float("nan")])
def test_a_trim_out_of_range_is_refused(trim):
    with pytest.raises(ShapeError, match=r"trim is .*; it must be at least 0 and below 0\.5"):
        RowBlender(TilePlan((64, 64), 32, 16, 16), trim)


def test_misuse_is_refused_with_what_to_do():
    plan = TilePlan((96, 96), tile=64, overlap=32, multiple=16)
    blender = RowBlender(plan)
    rows = list(plan.rows())
    values = np.zeros((64, 64), np.float32)
    with pytest.raises(ShapeError, match=r"values have shape \(64, 63\), but the tile is 64 x 64"):
        blender.add(rows[0][0], values[:, 1:])
    with pytest.raises(ShapeError, match=r"is not in tile row 0 of the plan \(rows 0 to 64\); add the tiles of"):
        blender.add(rows[1][0], values)
    with pytest.raises(ShapeError, match="is not in tile row 0"):
        blender.add(Tile(0, 16, 64, 64), values)
    blender.add(rows[0][1], values)
    for late in rows[0]:
        with pytest.raises(ShapeError, match="comes too late: add the tiles of a row from left to right, each once"):
            blender.add(late, values)
    blender.finish_row()
    blender.finish_row()
    with pytest.raises(ShapeError, match="all 2 tile rows of the plan are finished"):
        blender.finish_row()
    with pytest.raises(ShapeError, match="all 2 tile rows of the plan are finished"):
        blender.add(rows[1][1], values)
