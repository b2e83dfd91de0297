"""Receipts: what is in them, how they read, and how they come into a card."""

import json
from pathlib import Path

import pytest

from terradelta.card import ModelCard
from terradelta.errors import InputError
from terradelta.lab.data import PairList
from terradelta.lab.evaluation import Details, evaluate, evaluation_receipt, receipt_text, with_receipt

from .conftest import Spoken


def test_a_plain_receipt_has_the_contracts_keys(pairs: PairList, card: ModelCard) -> None:
    receipt = evaluation_receipt(evaluate(Spoken(card), pairs), card, pairs)
    keys = {"created", "version", "model", "network", "scaling", "data", "protocol", "threshold", "metrics"}
    assert set(receipt) == keys | {"confusion_px", "per_image"}
    assert receipt["scaling"] == {"temperature": 1.0, "logit_bias": 0.0}
    assert receipt["data"] == {"folder": pairs.name, "split": "test", "pairs": 2, "sha256": pairs.checksum()}


def test_with_details_it_has_all(pairs: PairList, card: ModelCard) -> None:
    found = evaluate(Spoken(card), pairs, details=Details())
    receipt = evaluation_receipt(found, card, pairs, weights="abc", runtime="Spoken, f32")
    assert receipt["weights"] == "abc"
    assert receipt["runtime"] == "Spoken, f32"
    assert receipt["images"]["confusion_px"] == {"a": [1, 1, 1, 1], "b": [0, 0, 0, 3]}
    assert receipt["intervals"]["metrics"]["f1"][0] <= receipt["metrics"]["f1"]
    assert {"average_precision", "precision_recall", "calibration", "by_size", "boundary"} <= set(receipt)
    assert json.loads(receipt_text(receipt)) == receipt


def test_lists_of_plain_values_stay_on_one_line() -> None:
    receipt = {"a": [1, 2.5, None], "b": [[1, "x"], []], "c": [{"d": [1]}]}
    text = receipt_text(receipt)
    assert '"a": [1, 2.5, null]' in text
    assert '[1, "x"]' in text
    assert json.loads(text) == receipt
    with pytest.raises(ValueError, match="Out of range"):
        receipt_text({"a": float("nan")})


def test_a_receipt_goes_into_a_card(pairs: PairList, card: ModelCard, tmp_path: Path) -> None:
    receipt = evaluation_receipt(evaluate(Spoken(card), pairs, details=Details()), card, pairs, runtime="here")
    row = {"kind": "blur", "level": 1.0, "label": "1 px", "f1": 0.5, "precision": 0.4, "recall": 0.6}
    receipt["robustness"] = {"rows": [row]}
    path = tmp_path / "receipt.json"
    path.write_text(receipt_text(receipt))
    (score,) = with_receipt(card, path).scores
    assert score["metrics"] == receipt["metrics"]
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
    with pytest.raises(InputError, match=r"r.json is not a receipt of `terradelta evaluate`; make one with -o"):
        with_receipt(card, path)
    with pytest.raises(InputError, match="is not a receipt"):
        with_receipt(card, tmp_path / "none.json")


def test_a_receipt_of_other_weights_is_refused(pairs: PairList, card: ModelCard, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(receipt_text(evaluation_receipt(evaluate(Spoken(card), pairs), card, pairs)))
    with pytest.raises(InputError, match="holds scores of 'w', but the weights are 'v'; evaluate these weights"):
        with_receipt(card.replace(name="v"), path)
