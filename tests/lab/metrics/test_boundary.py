"""Boundary F1 against loops over pairs of pixels."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from terradelta.errors import ShapeError
from terradelta.lab.metrics import BoundaryScores
from terradelta.lab.metrics.boundary import boundary

MASK = arrays(bool, (7, 6))


def naive_boundary(mask: np.ndarray) -> set[tuple[int, int]]:
    rows, cols = mask.shape
    found = set()
    for r in range(rows):
        for c in range(cols):
            around = [(r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)]
            inside = [mask[i, j] for i, j in around if 0 <= i < rows and 0 <= j < cols]
            if mask[r, c] and not all(inside):
                found.add((r, c))
    return found


def near(edge: set, other: set, tolerance: float) -> int:
    return sum(any(math.hypot(a - c, b - d) <= tolerance for c, d in other) for a, b in edge)


@given(MASK)
def test_boundary_is_the_naive_one(mask: np.ndarray) -> None:
    assert set(zip(*np.nonzero(boundary(mask)), strict=True)) == naive_boundary(mask)


@given(st.lists(st.tuples(MASK, MASK), min_size=1, max_size=3))
def test_counts_of_several_images_are_the_naive_ones(images: list[tuple[np.ndarray, np.ndarray]]) -> None:
    scores = BoundaryScores((1, 1.5, 3))
    edges = [(naive_boundary(predicted), naive_boundary(label)) for predicted, label in images]
    for predicted, label in images:
        scores.add(predicted, label)
    totals = [sum(len(pair[k]) for pair in edges) for k in (0, 1)]
    for row in scores.rows():
        right = sum(near(guess, truth, row.tolerance_px) for guess, truth in edges)
        found = sum(near(truth, guess, row.tolerance_px) for guess, truth in edges)
        precision, recall = right / max(totals[0], 1), found / max(totals[1], 1)
        assert (row.precision, row.recall) == pytest.approx((precision, recall))
        assert row.f1 == pytest.approx(2 * precision * recall / (precision + recall) if right and found else 0)


def test_a_square_moved_by_two_pixels() -> None:
    label, moved = np.zeros((12, 12), bool), np.zeros((12, 12), bool)
    label[3:7, 3:7], moved[3:7, 5:9] = True, True
    scores = BoundaryScores((0, 2))
    scores.add(moved, label)
    none, all_ = scores.rows()
    # On the label's boundary lie the moved square's upper and lower edge in columns 5 and 6 (4 pixels), and of its left
    # edge, column 5, nothing more: 4 of its 12 boundary pixels.
    assert none.precision == none.recall == pytest.approx(4 / 12)
    assert all_.f1 == 1


def test_nothing_predicted_and_nothing_there() -> None:
    scores = BoundaryScores()
    scores.add(np.zeros((3, 3), bool), np.zeros((3, 3), bool))
    assert all(row.f1 == row.precision == row.recall == 0 for row in scores.rows())
    scores.add(np.eye(3, dtype=bool), np.eye(3, dtype=bool))
    assert scores.rows()[0].f1 == 1


def test_shapes_must_fit() -> None:
    with pytest.raises(ShapeError, match=r"prediction \(2, 2\) and label \(2, 3\) must have one shape"):
        BoundaryScores().add(np.zeros((2, 2), bool), np.zeros((2, 3), bool))


@given(MASK, MASK, MASK)
def test_boundary_pixels_beside_what_is_unknown_do_not_count(predicted, label, known) -> None:
    scores = BoundaryScores((1.5,))
    scores.add(predicted, label, known)
    rows, cols = known.shape

    def inside(r: int, c: int) -> bool:
        around = [(r, c), (r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)]
        return all(known[i, j] for i, j in around if 0 <= i < rows and 0 <= j < cols)

    guess, truth = ({at for at in naive_boundary(mask) if inside(*at)} for mask in (predicted, label))
    right, found = near(guess, truth, 1.5), near(truth, guess, 1.5)
    row = scores.rows()[0]
    assert (row.precision, row.recall) == pytest.approx((right / max(len(guess), 1), found / max(len(truth), 1)))
