"""Scores of many confusion matrices at once, and thresholds chosen by other scores than F1."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from terradelta.errors import ShapeError
from terradelta.lab.metrics import METRICS, Confusion, ProbabilityHistogram, confusion, metrics_of

COUNT = st.integers(0, 10**7)


@given(st.lists(st.tuples(COUNT, COUNT, COUNT, COUNT), min_size=1, max_size=5))
def test_many_matrices_are_each_matrix(rows: list[tuple[int, int, int, int]]) -> None:
    found = metrics_of(np.array(rows))
    for k, row in enumerate(rows):
        assert {name: found[name][k] for name in METRICS} == pytest.approx(Confusion(*row).metrics(), abs=1e-9)


def test_empty_and_one_sided_matrices() -> None:
    for row in ((0, 0, 0, 0), (0, 0, 0, 5), (5, 0, 0, 0), (0, 3, 0, 0)):
        found = {name: float(value) for name, value in metrics_of(np.array(row)).items()}
        assert found == pytest.approx(Confusion(*row).metrics())


def histogram(probability: np.ndarray, label: np.ndarray, bins: int) -> ProbabilityHistogram:
    made = ProbabilityHistogram(bins)
    made.add(probability, label)
    return made


@given(st.data(), st.sampled_from(["miou", "kappa", "precision"]))
def test_best_by_brute_force(data: st.DataObject, metric: str) -> None:
    n, bins = data.draw(st.integers(1, 10)), 20
    probability = data.draw(arrays(np.float32, (1, n), elements=st.floats(0, 1, width=32)))
    label = data.draw(arrays(bool, (1, n)))
    scores = {k: confusion(probability >= k / bins, label).metrics()[metric] for k in range(1, bins)}
    best = histogram(probability, label, bins).best_threshold(metric)
    assert scores[round(best * bins)] == pytest.approx(max(scores.values()))


@given(st.data(), st.sampled_from(["recall", "precision"]), st.sampled_from([0.3, 0.9, 1.0]))
def test_threshold_at_a_precision_or_recall_by_brute_force(data: st.DataObject, metric: str, least: float) -> None:
    n, bins = data.draw(st.integers(1, 10)), 20
    probability = data.draw(arrays(np.float32, (1, n), elements=st.floats(0, 1, width=32)))
    label = data.draw(arrays(bool, (1, n)))
    scores = [confusion(probability >= k / bins, label).metrics() for k in range(1, bins)]
    allowed = [s["f1"] for s in scores if s[metric] >= least and s["f1"] > 0]
    found = histogram(probability, label, bins).threshold_at(metric, least)
    if not allowed:
        assert found is None
    else:
        chosen = scores[round(found * bins) - 1]
        assert chosen[metric] >= least
        assert chosen["f1"] == pytest.approx(max(allowed))


def test_counts_at_all_thresholds() -> None:
    probability, label = np.array([[0.1, 0.5, 0.9, 0.9]], np.float32), np.array([[False, True, False, True]])
    counts = histogram(probability, label, 10).counts()
    assert counts.shape == (10, 4)
    for k, row in enumerate(counts, 1):
        assert Confusion(*map(int, row)) == confusion(probability >= np.float32(k / 10), label)


def test_histograms_add_up_and_come_back_from_their_pixels() -> None:
    rng = np.random.default_rng(0)
    parts = [(rng.random((5, 4)).astype(np.float32), rng.random((5, 4)) < 0.4) for _ in range(2)]
    whole, total = ProbabilityHistogram(), ProbabilityHistogram()
    for probability, label in parts:
        whole.add(probability, label)
        one = ProbabilityHistogram()
        one.add(probability, label)
        total += ProbabilityHistogram.of(one.pixels)
    np.testing.assert_array_equal(total.pixels, whole.pixels)
    assert total.confusion(0.3) == whole.confusion(0.3)
    with pytest.raises(ShapeError, match="1000 and 10 bins"):
        whole + ProbabilityHistogram(10)
