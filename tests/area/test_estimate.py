"""Areas with intervals: the published example, brute-force oracles, allocation."""

import numpy as np
import pytest

from terradelta.area.estimate import Estimate, allocate, estimate_areas
from terradelta.errors import InputError, ShapeError

# Olofsson et al. 2014, Table 8: deforestation, forest gain, stable forest, stable non-forest; pixels of 30 m.
COUNTS = [[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]]
PIXELS = [200_000, 150_000, 3_200_000, 6_450_000]


def test_the_worked_example_of_the_paper():
    found = estimate_areas(COUNTS, PIXELS)
    hectares = [0.09 * each.value for each in found.area]
    margins = [0.09 * 1.96 * each.error for each in found.area]
    assert [round(x) for x in hectares] == [21_158, 11_686, 285_770, 581_386]
    assert margins == pytest.approx([6_158, 3_756, 15_510, 16_282], abs=1)
    assert [round(each.value, 2) for each in found.users] == [0.88, 0.73, 0.93, 0.96]
    assert [round(1.96 * each.error, 2) for each in found.users] == [0.07, 0.10, 0.04, 0.02]
    assert [round(each.value, 2) for each in found.producers] == [0.75, 0.85, 0.93, 0.96]
    assert [round(1.96 * each.error, 2) for each in found.producers] == [0.21, 0.25, 0.03, 0.02]
    assert round(found.overall.value, 2) == 0.95
    assert round(1.96 * found.overall.error, 2) == 0.02
    assert found.area[0].error / 1e7 == pytest.approx(0.0035, abs=5e-5)
    assert found.area[0].low < found.area[0].value < found.area[0].high
    assert found.proportions.sum() == pytest.approx(1)


def test_intervals_cover_the_truth_as_often_as_they_say():
    """A population whose truth is known is sampled again and again."""
    rng = np.random.default_rng(0)
    areas, rates = np.array([9000.0, 1000.0]), np.array([0.1, 0.7])
    truth = float(areas @ rates)
    values, covered = [], 0
    for _ in range(3000):
        hits = rng.binomial(100, rates)
        found = estimate_areas(np.column_stack([100 - hits, hits]), areas).area[1]
        values.append(found.value)
        covered += found.low <= truth <= found.high
    assert np.mean(values) == pytest.approx(truth, rel=0.01)
    expected = np.sqrt((areas**2 * rates * (1 - rates) / 100).sum())
    assert np.std(values) == pytest.approx(expected, rel=0.05)
    assert 0.90 < covered / 3000 < 0.97


def test_the_error_of_producers_accuracy_is_that_of_many_samples():
    rng = np.random.default_rng(1)
    areas, rates = np.array([8000.0, 2000.0]), np.array([0.05, 0.8])
    found = [
        estimate_areas(np.column_stack([400 - hits, hits]), areas).producers[1]
        for hits in rng.binomial(400, rates, (1500, 2))
    ]
    assert np.mean([each.error for each in found]) == pytest.approx(np.std([each.value for each in found]), rel=0.08)


def test_allocation():
    assert allocate(PIXELS, 640, 75).sum() == 640
    assert allocate(PIXELS, 640, 75).tolist()[:2] == [75, 75]
    assert allocate([99, 1], 1000).tolist() == [950, 50]
    assert allocate([99, 1], 30).tolist() == [15, 15]
    assert allocate([5, 0], 10).tolist() == [10, 0]
    with pytest.raises(InputError, match="3 samples are too few for 2 classes; draw at least 4"):
        allocate([1, 1], 3)


@pytest.mark.parametrize(
    ("counts", "areas", "error", "words"),
    [
        ([[1, 2]], [1, 2], ShapeError, "give q areas and q x q samples"),
        ([[9, 9], [-1, 9]], [1, 2], InputError, "must be 0 or more"),
        ([[9, 9], [9, 9]], [0, 0], InputError, "not all 0"),
        ([[9, 9], [0, 1]], [1, 2], InputError, "class 1 of the map has 1 samples; label at least two"),
    ],
)
def test_what_gives_no_estimate(counts, areas, error, words):
    with pytest.raises(error, match=words):
        estimate_areas(counts, areas)


def test_a_class_that_is_not_mapped_needs_no_sample():
    found = estimate_areas([[90, 10], [0, 0]], [1000.0, 0.0])
    assert found.area[1].value == pytest.approx(100)
    assert found.producers[1].value == 0


def test_the_interval_is_the_normal_one():
    assert (Estimate(10, 2).low, Estimate(10, 2).high) == pytest.approx((10 - 3.92, 10 + 3.92), abs=1e-3)
