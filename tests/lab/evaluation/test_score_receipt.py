"""Receipts: what is in them, how they read, and how they come into a card."""

import json
from dataclasses import astuple, replace
from pathlib import Path

import pytest

from terradelta.card import ModelCard
from terradelta.errors import InputError
from terradelta.lab.data import PairList
from terradelta.lab.evaluation import Details, evaluate, evaluation_receipt, with_receipt
from terradelta.receipt import EvaluationReceipt, from_json, to_json, write_receipt
from terradelta.receipt.evaluation_record import DataRecord, DisturbanceRecord, LogitScalingRecord, RobustnessRecord

from .conftest import Spoken


def test_a_plain_receipt_holds_the_scores(pairs: PairList, card: ModelCard) -> None:
    found = evaluate(Spoken(card), pairs)
    receipt = evaluation_receipt(found, card, pairs)
    assert receipt.scaling == LogitScalingRecord(1.0, 0.0)
    assert receipt.data == DataRecord(pairs.name, "test", 2, pairs.checksum())
    assert (receipt.model, receipt.network, receipt.threshold) == (card.name, card.network, card.threshold)
    assert vars(receipt.metrics) == found.total.metrics()
    assert astuple(receipt.confusion_px) == found.total.as_tuple() == (1, 1, 1, 4)
    assert receipt.per_image == found.per_image()
    assert {receipt.intervals, receipt.images, receipt.calibration, receipt.runtime, receipt.sweep} == {None}
    assert "intervals" not in json.loads(to_json(receipt))


def test_with_details_it_has_all(pairs: PairList, card: ModelCard) -> None:
    found = evaluate(Spoken(card), pairs, details=Details())
    receipt = evaluation_receipt(found, card, pairs, weights="abc", runtime="Spoken, f32")
    assert (receipt.weights, receipt.runtime) == ("abc", "Spoken, f32")
    assert receipt.images.confusion_px == {"a": (1, 1, 1, 1), "b": (0, 0, 0, 3)}
    assert receipt.intervals.metrics["f1"][0] <= receipt.metrics.f1
    wanted = (receipt.average_precision, receipt.precision_recall, receipt.calibration, receipt.by_size)
    assert None not in (*wanted, receipt.boundary)
    assert from_json(EvaluationReceipt, to_json(receipt)) == receipt


def test_a_receipt_goes_into_a_card(pairs: PairList, card: ModelCard, tmp_path: Path) -> None:
    receipt = evaluation_receipt(evaluate(Spoken(card), pairs, details=Details()), card, pairs, runtime="here")
    row = DisturbanceRecord("blur", 1.0, "1 px", 0.5, 0.4, 0.6)
    receipt = replace(receipt, robustness=RobustnessRecord(0.5, "p", 0, 2, {}, {}, (row,)))
    path = tmp_path / "receipt.json"
    write_receipt(receipt, path)
    (score,) = with_receipt(card, path).scores
    assert score["metrics"] == vars(receipt.metrics)
    assert score["confusion_px"] == {"tp": 1, "fp": 1, "fn": 1, "tn": 4}
    assert score["intervals"]["level"] == 0.95
    assert score["robustness"] == [{"kind": "blur", "level": 1.0, "f1": 0.5}]
    assert score["runtime"] == "here"
    assert "images" not in score
    assert ModelCard.from_json(with_receipt(card, path).to_json()).scores == (score,)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"data": 3}', "nothing"])
def test_what_is_no_receipt_is_refused(card: ModelCard, tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"r.json is no receipt of `terradelta evaluate`: .*; make one with -o"):
        with_receipt(card, path)
    with pytest.raises(InputError, match="is no receipt"):
        with_receipt(card, tmp_path / "none.json")


def test_a_receipt_of_other_weights_is_refused(pairs: PairList, card: ModelCard, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    write_receipt(evaluation_receipt(evaluate(Spoken(card), pairs), card, pairs), path)
    with pytest.raises(InputError, match="holds scores of 'w', but the weights are 'v'; evaluate these weights"):
        with_receipt(card.replace(name="v"), path)
