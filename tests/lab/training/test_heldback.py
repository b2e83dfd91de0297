"""Folds, choices and verdicts, by hand and by properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from terradelta.lab.evaluation.comparison import compare
from terradelta.lab.metrics import ProbabilityHistogram
from terradelta.lab.training.heldback import Judgement, choose, deal, judge


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 100)), min_size=6, max_size=20), st.integers(2, 3))
def test_groups_stay_together_and_every_fold_has_some(images, folds: int) -> None:
    groups, amounts = zip(*images, strict=True)
    found = deal(groups, amounts, folds)
    assert len({(group, fold) for group, fold in zip(groups, found, strict=True)}) == len(set(groups))
    assert set(found) == set(range(min(folds, len(set(groups)))))


def test_the_largest_are_dealt_to_and_fro() -> None:
    assert deal([0, 1, 2, 3, 4, 5], [6, 5, 4, 3, 2, 1], 2) == [0, 1, 1, 0, 0, 1]


def _pixels(*images: tuple[list[float], list[bool]]) -> np.ndarray:
    """Histograms of images, each of probabilities and labels."""
    found = []
    for probabilities, label in images:
        histogram = ProbabilityHistogram()
        histogram.add(np.array([probabilities], np.float32), np.array([label]))
        found.append(histogram.pixels)
    return np.stack(found)


LABEL = [True, False, False]
SHY, BLIND, GOOD = [0.3, 0.1, 0.1], [0.1, 0.8, 0.1], [0.8, 0.1, 0.2]


def test_fewer_steps_among_equals() -> None:
    good = _pixels((GOOD, LABEL))
    found = choose({0: _pixels((BLIND, LABEL)), 8: good, 16: good})
    assert (found.steps, found.kappa) == (8, 1.0)
    assert choose({0: good, 8: good}).steps == 0


def test_each_fold_is_counted_by_the_choice_of_the_others() -> None:
    """The last image is only right after 16 steps, the others after 8: so it is counted after 8, where it is wrong."""
    names = ["a", "b", "c", "d"]
    pixels = {
        0: _pixels(*[(BLIND, LABEL)] * 4),
        8: _pixels(*[(GOOD, LABEL)] * 3, (BLIND, LABEL)),
        16: _pixels(*[(BLIND, LABEL)] * 3, (GOOD, LABEL)),
    }
    found = judge(pixels, names, [0, 1, 2, 3], 0.5)
    assert found.comparison.first["f1"] == 0  # four false, four missed
    assert found.comparison.second["f1"] == pytest.approx(6 / (6 + 2))  # three right; one false and one missed
    assert judge(pixels, names, None, 0.5).comparison.second["f1"] == pytest.approx(6 / 8)


def test_a_better_threshold_is_told_from_better_weights() -> None:
    """The parent ranks rightly, but stays below its threshold."""
    names = [f"{k}" for k in range(12)]
    shy = _pixels(*[(SHY, LABEL)] * 12)
    found = judge({0: shy, 8: shy}, names, [k % 3 for k in range(12)], 0.5)
    assert found.comparison.first["f1"] == 0
    assert found.threshold_alone == found.comparison.second["f1"] == 1
    assert found.verdict == "It got better."
    assert found.intervals[1] == (1.0, 1.0)


def test_no_better_and_perhaps_better_are_said() -> None:
    good, blind = _pixels(*[(GOOD, LABEL)] * 4), _pixels(*[(BLIND, LABEL)] * 4)
    folds, names = [0, 1, 0, 1], ["a", "b", "c", "d"]
    assert "did not get better" in judge({0: good, 8: blind}, names, folds, 0.5).verdict
    assert "with 4 held-back images chance explains" in judge({0: blind, 8: good}, names, folds, 0.5).verdict


def test_calling_everything_changed_is_no_gain() -> None:
    """Two thirds have changed, so F1 is 0.8 if everything is called changed; kappa is 0 then."""
    label = [True, True, False]
    knows, everything = ([0.8, 0.3, 0.1], label), ([0.9, 0.9, 0.9], label)
    assert choose({0: _pixels(knows), 8: _pixels(everything)}).steps == 0
    before = {f"{k}": (1, 0, 1, 1) for k in range(8)}
    after = {f"{k}": (2, 1, 0, 0) for k in range(8)}
    found = Judgement(compare(before, after), 0.0, ())
    assert found.comparison.second["f1"] > found.comparison.first["f1"]
    assert found.verdict.startswith(
        "It did not get better on what was held back: F1 rose because more is called changed"
    )
