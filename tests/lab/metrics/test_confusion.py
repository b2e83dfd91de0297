import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from terradelta.errors import ShapeError
from terradelta.lab.metrics import Confusion, ProbabilityHistogram, confusion

PREDICTED = np.array([[True, True], [False, False]])
LABEL = np.array([[True, False], [True, False]])


def test_two_by_two_by_hand() -> None:
    found = confusion(PREDICTED, LABEL)
    assert found == Confusion(tp=1, fp=1, fn=1, tn=1)
    expected = {
        "precision": 1 / 2,
        "recall": 1 / 2,
        "f1": 1 / 2,
        "iou_changed": 1 / 3,
        "miou": 1 / 3,
        "oa": 1 / 2,
        "kappa": 0,
    }
    assert found.metrics() == pytest.approx(expected)


def test_unequal_counts_by_hand() -> None:
    found = Confusion(tp=6, fp=2, fn=1, tn=11)
    assert found.precision == pytest.approx(6 / 8)
    assert found.recall == pytest.approx(6 / 7)
    assert found.f1 == pytest.approx(2 * (6 / 8) * (6 / 7) / (6 / 8 + 6 / 7))
    assert found.iou_changed == pytest.approx(6 / 9)
    assert found.miou == pytest.approx((6 / 9 + 11 / 14) / 2)
    assert found.oa == pytest.approx(17 / 20)


@pytest.mark.parametrize(
    ("counts", "kappa"),
    [
        (Confusion(tp=20, fp=5, fn=10, tn=15), 0.4),  # Wikipedia's grant proposals: 0.7 observed, 0.5 by chance
        (Confusion(tp=45, fp=15, fn=25, tn=15), 0.1304),  # the same page's pair of examples with 60 % agreement
        (Confusion(tp=25, fp=35, fn=5, tn=35), 0.2593),
        (Confusion(tp=3, tn=5), 1),
        (Confusion(fp=3, fn=3), -1),
    ],
)
def test_kappa_of_textbooks(counts: Confusion, kappa: float) -> None:
    assert counts.kappa == pytest.approx(kappa, abs=5e-5)


def test_sums_of_confusions_are_one_global_matrix() -> None:
    parts = [Confusion(1, 2, 3, 4), Confusion(10, 20, 30, 40)]
    assert sum(parts, Confusion()) == Confusion(11, 22, 33, 44)
    assert sum(parts, Confusion()).total == 110


def test_ratios_with_nothing_below_the_line_are_zero() -> None:
    assert set(Confusion().metrics().values()) == {0}
    unchanged = Confusion(tn=9)
    assert unchanged.oa == 1
    assert unchanged.precision == unchanged.recall == unchanged.f1 == unchanged.iou_changed == unchanged.kappa == 0


def test_pixels_that_are_not_valid_do_not_count() -> None:
    valid = np.array([[True, False], [True, True]])
    assert confusion(PREDICTED, LABEL, valid) == Confusion(tp=1, fp=0, fn=1, tn=1)
    assert confusion(PREDICTED, LABEL, np.zeros_like(valid)) == Confusion()
    histogram = ProbabilityHistogram()
    histogram.add(PREDICTED.astype(np.float32), LABEL, valid)
    assert histogram.confusion(0.5) == Confusion(tp=1, fp=0, fn=1, tn=1)


def test_shapes_must_fit() -> None:
    with pytest.raises(ShapeError, match=r"prediction \(1, 2\), label \(2, 2\) and valid mask must have one shape"):
        confusion(PREDICTED[:1], LABEL)
    with pytest.raises(ShapeError, match="valid mask must have one shape"):
        confusion(PREDICTED, LABEL, LABEL[0])
    with pytest.raises(ShapeError, match=r"probability \(2, 1\), label \(2, 2\) and valid mask must have one shape"):
        ProbabilityHistogram().add(np.zeros((2, 1), np.float32), LABEL)


BINS = 1000
GRID = st.integers(0, BINS).map(lambda k: float(np.float32(k / BINS)))  # right on a threshold
PROBABILITY = st.one_of(GRID, st.floats(0, 1, width=32))


@settings(max_examples=100, deadline=None)
@given(st.data(), st.integers(1, BINS))
def test_histogram_is_the_comparison_at_every_threshold(data: st.DataObject, cut: int) -> None:
    n = data.draw(st.integers(0, 12))
    probability = data.draw(arrays(np.float32, (1, n), elements=PROBABILITY))
    label = data.draw(arrays(bool, (1, n)))
    histogram = ProbabilityHistogram(BINS)
    half = n // 2
    for part in (slice(half), slice(half, None)):
        histogram.add(probability[:, part], label[:, part])
    threshold = cut / BINS
    assert histogram.confusion(threshold) == confusion(probability >= threshold, label)


def test_every_threshold_keeps_a_probability_equal_to_it() -> None:
    probability = (np.arange(1, BINS + 1) / BINS).astype(np.float32)[None]
    histogram = ProbabilityHistogram(BINS)
    histogram.add(probability, np.ones_like(probability, bool))
    kept = [histogram.confusion(k / BINS).tp for k in range(1, BINS + 1)]
    assert kept == list(range(BINS, 0, -1))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_best_threshold_is_the_best_by_brute_force(data: st.DataObject) -> None:
    n, bins = data.draw(st.integers(1, 10)), 20
    probability = data.draw(arrays(np.float32, (1, n), elements=st.floats(0, 1, width=32)))
    label = data.draw(arrays(bool, (1, n)))
    histogram = ProbabilityHistogram(bins)
    histogram.add(probability, label)
    scores = {k: confusion(probability >= k / bins, label).f1 for k in range(1, bins)}
    best = histogram.best_threshold()
    assert scores[round(best * bins)] == pytest.approx(max(scores.values()))
    nearest = min(abs(k - bins / 2) for k, f1 in scores.items() if f1 >= max(scores.values()) - 1e-9)
    assert abs(best * bins - bins / 2) == pytest.approx(nearest)


def test_best_threshold_without_any_pixel_or_change_is_a_half() -> None:
    assert ProbabilityHistogram().best_threshold() == 0.5
    histogram = ProbabilityHistogram()
    histogram.add(np.full((2, 2), 0.3, np.float32), np.zeros((2, 2), bool))
    assert histogram.best_threshold() == 0.5


def test_a_probability_that_is_no_number_counts_as_unchanged() -> None:
    histogram = ProbabilityHistogram()
    probability = np.array([[np.nan, 0.9]], np.float32)
    histogram.add(probability, np.array([[True, True]]))
    assert histogram.confusion(0.001) == confusion(probability >= 0.001, np.array([[True, True]])) == Confusion(1, 0, 1)
