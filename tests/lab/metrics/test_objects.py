"""Scores by size: a worked example, naive loops, and the sum over the bins."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from terradelta.errors import ShapeError
from terradelta.lab.metrics import SizeScores, confusion
from terradelta.receipt.evaluation_record import SizeRecord

BORDERS = (3.0, 6.0)
MASK = arrays(bool, (6, 6))


def components(mask: np.ndarray) -> list[set[tuple[int, int]]]:
    """4-connected components by flood fill, in reading order."""
    todo, found = set(zip(*np.nonzero(mask), strict=True)), []
    for start in sorted(todo):
        if start not in todo:
            continue
        stack, part = [start], set()
        while stack:
            r, c = stack.pop()
            if (r, c) in todo:
                todo.discard((r, c))
                part.add((r, c))
                stack += [(r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)]
        found.append(part)
    return found


def naive(predicted: np.ndarray, label: np.ndarray) -> list[dict[str, int]]:
    names = ("tp", "fp", "fn", "changes", "found", "predicted", "right")
    bins = [dict.fromkeys(names, 0) for _ in range(len(BORDERS) + 1)]

    def of(size: int) -> dict[str, int]:
        return bins[sum(size >= border for border in BORDERS)]

    changes, guesses = components(label), components(predicted)
    for change in changes:
        hit = sum(bool(predicted[p]) for p in change)
        of(len(change))["tp"] += hit
        of(len(change))["fn"] += len(change) - hit
        of(len(change))["changes"] += 1
        of(len(change))["found"] += 2 * hit >= len(change)
    for guess in guesses:
        right = sum(bool(label[p]) for p in guess)
        partner = max(changes, key=lambda change: (len(change & guess), len(change)), default=set())
        size = len(partner) if partner & guess else len(guess)
        of(size)["fp"] += len(guess) - right
        of(len(guess))["predicted"] += 1
        of(len(guess))["right"] += 2 * right >= len(guess)
    return bins


def counted(rows: tuple[SizeRecord, ...]) -> list[dict[str, int]]:
    names = ("changes", "found", "predicted", "right")
    return [
        {n: getattr(row, n) for n in ("tp", "fp", "fn")} | {n: getattr(row.objects, n) for n in names} for row in rows
    ]


@given(MASK, MASK)
def test_counts_are_the_naive_ones(predicted: np.ndarray, label: np.ndarray) -> None:
    scores = SizeScores(BORDERS)
    scores.add(predicted, label)
    assert counted(scores.rows()) == naive(predicted, label)


@given(st.lists(st.tuples(MASK, MASK), max_size=3))
def test_bins_add_up_to_the_confusion_matrix(images: list[tuple[np.ndarray, np.ndarray]]) -> None:
    scores = SizeScores(BORDERS)
    for predicted, label in images:
        scores.add(predicted, label)
    total = [confusion(predicted, label) for predicted, label in images]
    for name in ("tp", "fp", "fn"):
        assert sum(getattr(row, name) for row in scores.rows()) == sum(getattr(counts, name) for counts in total)


def test_by_hand() -> None:
    label = np.array([list("aa..b"), list("aa..."), list("....."), list(".....")]) != "."
    predicted = np.array([list("xxx.."), list("....."), list("..zz."), list("..zz.")]) != "."
    scores = SizeScores((2.0,))
    scores.add(predicted, label)
    small, large = scores.rows()
    # b (1 pixel) is missed; a (4) is half found by x, whose third pixel is wrong; z is a false alarm of 4 pixels.
    assert (small.at_least, small.below, large.at_least, large.below) == (0, 2, 2, None)
    assert (small.tp, small.fp, small.fn, small.f1) == (0, 0, 1, 0)
    assert (large.tp, large.fp, large.fn) == (2, 1 + 4, 2)
    assert large.f1 == pytest.approx(2 * 2 / (2 * 2 + 5 + 2))
    assert vars(large.objects) == pytest.approx(
        {"changes": 1, "found": 1, "predicted": 2, "right": 1, "precision": 0.5, "recall": 1, "f1": 2 / 3}
    )


def test_area_on_the_ground_chooses_the_bin() -> None:
    mask = np.ones((2, 2), bool)
    scores = SizeScores((16.0,))
    scores.add(mask, mask, pixel_area=4.0)
    scores.add(mask, mask, pixel_area=3.9)
    assert [row.tp for row in scores.rows()] == [4, 4]
    assert scores.rows()[1].at_least == 16


def test_shapes_must_fit() -> None:
    with pytest.raises(ShapeError, match=r"prediction \(2, 2\) and label \(2, 3\) must have one shape"):
        SizeScores().add(np.zeros((2, 2), bool), np.zeros((2, 3), bool))
