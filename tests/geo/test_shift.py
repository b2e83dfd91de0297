"""The field of shifts: fitted to measurements of which some are wrong, and cut into cells that are affine."""

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import RectBivariateSpline

from terradelta.errors import ShapeError
from terradelta.geo.grid import Grid, Tile
from terradelta.geo.shift import ShiftField, fit_field, robust_spread

SHAPE = (900, 1200)


def waves(m: int, n: int, amplitude: float = 1.0) -> ShiftField:
    i, j = np.mgrid[:m, :n]
    return ShiftField(SHAPE, amplitude * np.stack([np.sin(i + 0.5 * j), np.cos(0.7 * i - j)]))


def test_the_field_is_the_spline_through_its_nodes():
    field = waves(5, 6)
    rng = np.random.default_rng(0)
    rows, cols = rng.uniform(0, SHAPE[0], 50), rng.uniform(0, SHAPE[1], 50)
    for found, nodes in zip(field.at(rows, cols), field.nodes, strict=True):
        oracle = RectBivariateSpline(np.linspace(0, SHAPE[0], 5), np.linspace(0, SHAPE[1], 6), nodes)
        np.testing.assert_allclose(found, oracle.ev(rows, cols), atol=1e-9)
    np.testing.assert_allclose(np.array(field.at([-50, 0], [-9, 0])).T[0], field.nodes[:, 0, 0])  # held at the border


def test_on_a_tile_is_at_the_centres_of_its_pixels():
    field, tile = waves(4, 4), Tile(30, 50, 7, 9)
    rows, cols = np.mgrid[30:37, 50:59] + 0.5
    np.testing.assert_allclose(field.on(tile).reshape(2, -1), field.at(rows.ravel(), cols.ravel()))


def test_a_moved_tile_lies_where_the_second_date_shows_it():
    grid = Grid(None, Affine(2, 0, 100, 0, -2, 500), SHAPE)
    place = ShiftField.constant(SHAPE, (3.0, -1.5)).moved(grid, Tile(10, 20, 30, 40))
    assert place.shape == (30, 40)
    np.testing.assert_allclose(tuple(place.transform)[:6], (2, 0, 100 + 2 * (20 - 1.5), 0, -2, 500 - 2 * 13), atol=1e-9)


@given(st.floats(0.1, 4), st.integers(0, 700), st.integers(0, 1000), st.integers(1, 200), st.integers(1, 200))
def test_cells_cover_a_tile_once_and_are_affine_within_the_tolerance(amplitude, row, col, height, width):
    field, tile = waves(5, 4, amplitude), Tile(row, col, height, width)
    grid = Grid(None, Affine.identity(), SHAPE)
    count = np.zeros(SHAPE, int)
    for cell, part in field.cells(tile):
        count[part.slices] += 1
        assert cell.row % field.cell == cell.col % field.cell == 0
        place = field.moved(grid, cell).transform
        rows, cols = np.mgrid[0 : cell.height : 5j, 0 : cell.width : 5j].reshape(2, -1)
        x, y = place.a * cols + place.b * rows + place.c, place.d * cols + place.e * rows + place.f
        down, right = field.at(cell.row + rows, cell.col + cols)
        assert np.abs([y - cell.row - rows - down, x - cell.col - cols - right]).max() <= 0.02
    assert (count[tile.slices] == 1).all()
    assert count.sum() == height * width


def test_a_field_without_bends_is_one_cell():
    affine = ShiftField(SHAPE, np.array([[[0.0, 1.0], [2.0, 3.0]]] * 2))
    assert affine.cell >= max(SHAPE)
    assert ShiftField.constant(SHAPE, (1.0, 2.0)).cell >= max(SHAPE)
    assert waves(4, 4).cell < 100


def test_the_sum_of_two_fields():
    one, other = waves(5, 6), ShiftField.constant(SHAPE, (1.0, -2.0))
    rows, cols = [10.0, 444.0], [3.0, 999.0]
    expected = np.add(one.at(rows, cols), [[1.0], [-2.0]])
    np.testing.assert_allclose(one.plus(other).at(rows, cols), expected, atol=2e-4)  # nodes have four digits
    np.testing.assert_allclose(other.plus(one).at(rows, cols), expected, atol=2e-4)
    with pytest.raises(ShapeError, match="cannot be added; use one grid"):
        one.plus(ShiftField.constant((3, 4), (0.0, 0.0)))


@pytest.mark.parametrize(
    "nodes", [np.zeros((2, 3, 4)), np.zeros((1, 2, 2)), np.zeros((4, 4)), np.full((2, 2, 2), np.nan)]
)
def test_nodes_that_make_no_field(nodes):
    with pytest.raises(ShapeError, match=r"give finite values of shape \(2, m, n\)"):
        ShiftField(SHAPE, nodes)


def measurements(truth, count=100, noise=0.1, wrong=25):
    rng = np.random.default_rng(5)
    places = rng.uniform(0, 1, (count, 2)) * SHAPE
    shifts = truth(places) + rng.normal(0, noise, (count, 2))
    bad = rng.permutation(count)[:wrong]
    shifts[bad] = rng.uniform(-30, 30, (wrong, 2))
    return places, shifts, bad


@pytest.mark.parametrize("kind", ["constant", "affine", "smooth"])
def test_a_fit_finds_the_field_among_wrong_measurements(kind):
    def truth(places):
        r, c = (places / SHAPE).T
        bend = {"constant": (0 * r, 0 * c), "affine": (2 * r - c, 3 * c), "smooth": (np.sin(3 * r), np.cos(3 * c) * r)}
        return np.add(np.column_stack(bend[kind]), [1.5, -0.7])

    places, shifts, bad = measurements(truth)
    field, used = fit_field(SHAPE, places, shifts)
    assert not used[bad].any()
    assert used.sum() >= 70
    everywhere = np.random.default_rng(1).uniform(0.05, 0.95, (500, 2)) * SHAPE
    error = np.hypot(*(np.column_stack(field.at(*everywhere.T)) - truth(everywhere)).T)
    assert np.sqrt((error**2).mean()) < {"constant": 0.04, "affine": 0.06, "smooth": 0.1}[kind]


@pytest.mark.parametrize("strip", [False, True])
def test_few_or_ill_placed_measurements_give_their_median(strip):
    rng = np.random.default_rng(2)
    places = rng.uniform(0, 1, (40 if strip else 9, 2)) * SHAPE
    if strip:
        places[:, 1] = 600 + places[:, 1] / 20
    shifts = np.array([0.5, -1.0]) + rng.normal(0, 0.05, places.shape)
    shifts[:2] = 20, 20
    field, used = fit_field(SHAPE, places, shifts)
    assert field.nodes.shape == (2, 2, 2)
    assert not used[:2].any()
    np.testing.assert_allclose(field.nodes[:, 0, 0], np.median(shifts, 0), atol=1e-4)


def test_the_robust_spread_is_the_standard_deviation_of_normal_noise():
    values = np.random.default_rng(3).normal(0, 2.0, 20_000)
    values[:3000] = 1e6
    assert robust_spread(values[3000:]) == pytest.approx(2.0, rel=0.03)
    assert robust_spread(values) < 3
    assert robust_spread([]) == 0
