"""Thresholds to choose from, and the card that a calibration gives."""

import numpy as np
import pytest

from terradelta.card import ModelCard
from terradelta.errors import InputError
from terradelta.lab.data import PairList
from terradelta.lab.evaluation import Details, calibrated_card, evaluate, sweep
from terradelta.lab.evaluation.calibrate import sweep_curve
from terradelta.receipt import plain
from terradelta.receipt.evaluation_record import ThresholdRecord

from .conftest import Brighter, Write


@pytest.fixture
def val(write_pairs: Write) -> PairList:
    """Four pairs whose changed pixels are brighter by chance, so that no threshold is perfect."""
    rng = np.random.default_rng(1)
    content = {}
    for k in range(4):
        label = rng.random((24, 24)) < 0.2
        content[f"v{k}"] = (np.full((24, 24), 100), rng.normal(110 + 40 * label, 18).clip(0, 255), label)
    return write_pairs(content, "val")


def test_sweep_agrees_with_evaluations_at_its_thresholds(val: PairList, card: ModelCard) -> None:
    found = evaluate(Brighter(card), val)
    rows = sweep(found)
    assert [row.rule for row in rows] == [*("best f1", "best miou", "best kappa", "precision >= 0.9", "recall >= 0.9")]
    for row in rows:
        again = evaluate(Brighter(card), val, threshold=row.threshold).total
        assert again.f1 == pytest.approx(row.metrics.f1)
    assert rows[3].metrics.precision >= 0.9
    assert rows[4].metrics.recall >= 0.9
    others = [evaluate(Brighter(card), val, threshold=t).total for t in (0.2, 0.4, 0.6, 0.8)]
    assert all(rows[0].metrics.f1 >= other.f1 and rows[0].metrics.iou_changed >= other.iou_changed for other in others)


def test_a_precision_that_nothing_reaches(val: PairList, card: ModelCard) -> None:
    class Constant(Brighter):
        def logits(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
            return np.zeros_like(before)

    row = sweep(evaluate(Constant(card), val))[3]
    assert row == ThresholdRecord("precision >= 0.9", None)


def test_sweep_curve(val: PairList, card: ModelCard) -> None:
    found = evaluate(Brighter(card), val)
    curve = sweep_curve(found, 10).curve
    assert [point[0] for point in curve] == pytest.approx([k / 10 for k in range(1, 11)])
    for threshold, precision, recall, f1 in curve:
        counts = found.histogram.confusion(threshold)
        assert (precision, recall, f1) == pytest.approx((counts.precision, counts.recall, counts.f1), abs=1e-6)


@pytest.mark.parametrize("with_bias", [True, False])
def test_the_calibrated_card_calls_the_same_pixels_changed(val: PairList, card: ModelCard, with_bias: bool) -> None:
    card = card.replace(temperature=0.5, logit_bias=-0.7, scores=({"split": "val", "threshold": 0.3}, {"split": "x"}))
    found = evaluate(Brighter(card), val, details=Details())
    new, record = calibrated_card(found, card, val, with_bias=with_bias)
    best = found.histogram.best_threshold()
    again = evaluate(Brighter(new), val, details=Details())
    assert again.total == found.histogram.confusion(best)
    carried = evaluate(Brighter(new), val, threshold=new.scores[0]["threshold"]).total
    assert carried == found.histogram.confusion(0.3)
    assert new.scores[1] == {"split": "x"}
    assert again.details.logits.scores()["ece"] == pytest.approx(record.ece_after, abs=2e-3)
    assert again.details.logits.scores()["nll"] == pytest.approx(record.nll_after, abs=1e-5)
    assert record.nll_after < record.nll_before
    assert new.training["calibration"] | {"threshold": new.threshold} == plain(record)
    if not with_bias:
        assert new.logit_bias == pytest.approx(card.logit_bias * card.temperature / new.temperature, rel=1e-4)
    assert ModelCard.from_json(new.to_json()) == new


def test_test_data_and_evaluations_without_details_are_refused(
    val: PairList, squares: PairList, card: ModelCard
) -> None:
    found = evaluate(Brighter(card), val)
    with pytest.raises(InputError, match=r"needs an evaluation with details; call evaluate\(..., details=Details"):
        calibrated_card(found, card, val)
    with pytest.raises(InputError, match="calibrating on the test split would make its scores worthless"):
        calibrated_card(found, card, squares)


def test_a_second_calibration_changes_nothing(val: PairList, card: ModelCard) -> None:
    first, _ = calibrated_card(evaluate(Brighter(card), val, details=Details()), card, val)
    second, _ = calibrated_card(evaluate(Brighter(first), val, details=Details()), first, val)
    assert second.temperature == pytest.approx(first.temperature, rel=5e-3)
    assert second.logit_bias == pytest.approx(first.logit_bias, abs=5e-3)
