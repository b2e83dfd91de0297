"""Screening: the bound of the recall, and what a card must say."""

import numpy as np
import pytest
from scipy.stats import binomtest

from terradelta.card import ModelCard
from terradelta.errors import InputError, ModelError
from terradelta.predict.cascade import CARD_ENTRY, Cascade, choose_cascade, lower_bound, screen
from terradelta.predict.predictor import Predictor

ROWS = [{"recall": 0.9, "threshold": 0.4}, {"recall": 0.99, "threshold": 0.1}, {"recall": 0.95, "threshold": 0.3}]
MEASURED = {"rows": ROWS, "factor": 4, "changes": 700, "data": "D", "split": "val"}


def card(training) -> ModelCard:
    return ModelCard("m", "none", ("grey",), (0.0,), (1.0,), scale=1.0, stride=4, training=training)


class Difference(Predictor):
    """The logit is the difference of the dates."""

    def logits(self, before, after):
        return after - before


@pytest.mark.parametrize(("kept", "of"), [(299, 299), (298, 299), (1, 7), (690, 700), (0, 5)])
def test_the_bound_is_that_of_clopper_and_pearson(kept, of):
    oracle = binomtest(kept, of, alternative="greater").proportion_ci(0.95, "exact").low
    assert lower_bound(kept, of) == pytest.approx(oracle, abs=1e-9)


def test_299_kept_of_299_are_the_fewest_for_99_percent():
    assert lower_bound(299, 299) >= 0.99 > lower_bound(298, 298)


def test_screening_sees_means_of_pixels():
    before, after = np.zeros((1, 6, 10)), np.arange(60.0).reshape(1, 6, 10) / 10
    found = screen(Difference(card({})), before, after, 4)
    padded = np.pad(after[0], ((0, 2), (0, 2)), mode="edge")
    for row in range(2):
        for col in range(3):
            mean = padded[4 * row : 4 * row + 4, 4 * col : 4 * col + 4].mean()
            assert found[row, col] == pytest.approx(1 / (1 + np.exp(-mean)), rel=1e-5)


def test_the_next_stricter_row_is_taken():
    found = choose_cascade(card({CARD_ENTRY: MEASURED}), 0.96)
    assert found == Cascade(0.96, 0.99, 0.1, 4, "D (val)", 700)
    assert choose_cascade(card({CARD_ENTRY: MEASURED}), 0.9).threshold == 0.4
    assert "of 700 changes in D (val), this keeps 99.0% or more" in found.line()
    tile = np.zeros((1, 8, 8))
    noticed = tile + 4 * np.eye(8)
    predictor = Difference(card({}))
    assert not Cascade(0.9, 0.9, 0.6, 4, "", 1).may_hold_change(predictor, tile, tile)
    assert Cascade(0.9, 0.9, 0.6, 4, "", 1).may_hold_change(predictor, tile, noticed)  # a mean of 1: 0.73


@pytest.mark.parametrize(
    ("training", "recall", "error", "message"),
    [
        ({}, 0.99, ModelError, "not measured what screening keeps with the model 'm'.* evaluate MODEL --data DIR"),
        ({CARD_ENTRY: MEASURED}, 1.0, InputError, "--cascade 1: the share of changes .* above 0 and below 1"),
        ({CARD_ENTRY: MEASURED}, 0.995, InputError, "with 700 changes in D .val., at most 0.99 can be promised"),
        ({CARD_ENTRY: {**MEASURED, "rows": []}}, 0.5, InputError, "nothing can be promised"),
        ({CARD_ENTRY: {"rows": [{"recall": "x"}]}}, 0.5, ModelError, "holds a damaged measurement of screening"),
        ({CARD_ENTRY: {"rows": 3}}, 0.5, ModelError, "holds a damaged measurement of screening"),
    ],
)
def test_what_a_card_cannot_promise_is_refused(training, recall, error, message):
    with pytest.raises(error, match=message):
        choose_cascade(card(training), recall)
