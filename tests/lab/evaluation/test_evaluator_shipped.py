"""The receipts in docs/ agree with themselves, with the shipped weights and their card, and with the words on them."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from terradelta.lab.metrics import Confusion
from terradelta.predict import openvino
from terradelta.predict.load import load_predictor
from terradelta.predict.onnx_card import weights_identity
from terradelta.receipt import EvaluationReceipt, read_receipt

DOCS = Path(__file__).parents[3] / "docs"
MODELS = ("buildings", "buildings_int8", "buildings-free")
NAMES = (*(f"{model}_{split}" for model in MODELS for split in ("val", "test")), "buildings_robustness")


def receipt_of(name: str) -> EvaluationReceipt:
    return read_receipt(EvaluationReceipt, DOCS / "receipts" / f"{name}.json")


def table(first: str) -> dict[str, list[str]]:
    """Rows of the table of docs/results.md whose head begins with a cell: name -> the other cells."""
    _, _, rest = (DOCS / "results.md").read_text().partition(f"| {first} |")
    lines = rest.split("\n\n")[0].splitlines()[2:]
    return {name: cells for name, *cells in ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)}


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(openvino, "cpu_has_int8", lambda: True)
    return {
        name: load_predictor(
            name.removesuffix("_int8"), precision="int8" if name.endswith("_int8") else "f32", threads=1
        )
        for name in MODELS
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_receipt_adds_up_and_is_of_the_weights_that_ship(name: str, shipped: Any) -> None:
    receipt, predictor = receipt_of(name), shipped[name.rpartition("_")[0]]
    total = Confusion(*vars(receipt.confusion_px).values())
    assert vars(receipt.metrics) == pytest.approx(total.metrics())
    images = [Confusion(*counts) for counts in receipt.images.confusion_px.values()]
    assert sum(images, Confusion()) == total
    assert len(images) == receipt.data.pairs == receipt.per_image.images
    assert receipt.weights == weights_identity(predictor)
    assert receipt.threshold == predictor.card.threshold
    assert receipt.scaling.temperature == predictor.card.temperature
    assert receipt.data.split == ("val" if name.endswith("val") else "test")
    if not name.endswith("robustness"):
        held = [score for score in predictor.card.scores if score.get("created") == receipt.created]
        assert [score["metrics"] for score in held] == [vars(receipt.metrics)]


def test_nothing_was_chosen_on_test(shipped: Any) -> None:
    """Threshold and calibration of both forms are those that the validation receipt was scored with."""
    for name, predictor in shipped.items():
        val = receipt_of(f"{name.removesuffix('_int8')}_val")
        assert predictor.card.threshold == val.threshold
        assert predictor.card.training["calibration"]["split"] == "val"
        assert predictor.card.training["calibration"]["pairs"] == val.data.pairs


def test_the_free_weights_saw_synthetic_scenes_alone_and_are_scored_like_the_others() -> None:
    card, test = load_predictor("buildings-free", threads=1).card, receipt_of("buildings-free_test")
    assert card.licence.startswith("Apache-2.0")
    assert card.data.startswith("synthetic scenes")
    assert receipt_of("buildings-free_val").data.folder == "synth"
    assert test.data == receipt_of("buildings_test").data
    low, high = test.intervals.metrics["f1"]
    told = f"has F1 {test.metrics.f1:.3f} ({low:.3f} to {high:.3f}) on the LEVIR test images, precision "
    told += f"{test.metrics.precision:.3f}, recall {test.metrics.recall:.3f}"
    assert told in " ".join((DOCS / "results.md").read_text().split())


@pytest.mark.parametrize(
    ("row", "name"),
    [("float32", "buildings_test"), ("bfloat16", "buildings_bf16_test"), ("int8", "buildings_int8_test")],
)
def test_the_words_on_the_test_images_hold_the_receipts_numbers(row: str, name: str) -> None:
    receipt = receipt_of(name)
    low, high = receipt.intervals.metrics["f1"]
    told = [f"{getattr(receipt.metrics, key):.3f}" for key in ("precision", "recall", "f1", "iou_changed")]
    assert table("test, 20 whole images")[row] == [*told, f"{low:.3f} to {high:.3f}", f"{receipt.calibration.ece:.4f}"]
    if row == "bfloat16":
        assert (receipt.weights, receipt.data) == (
            receipt_of("buildings_test").weights,
            receipt_of("buildings_test").data,
        )
    if row == "float32":
        readme = " ".join((DOCS.parent / "README.md").read_text().split())
        assert f"F1 {receipt.metrics.f1:.3f} with a 95 % interval of {low:.3f} to {high:.3f}" in readme


def test_the_words_on_protocols_and_validation_hold_the_receipts_numbers() -> None:
    rows = {row.name: row.metrics for row in receipt_of("buildings_test").protocols}
    found = table("protocol")
    assert {name: cells[0] for name, cells in found.items()} == {name: f"{m.f1:.3f}" for name, m in rows.items()}
    assert f"F1 {receipt_of('buildings_val').metrics.f1:.3f} on the validation pairs" in " ".join(
        (DOCS / "results.md").read_text().split()
    )


def test_the_words_on_robustness_hold_the_receipts_numbers() -> None:
    receipt, found = receipt_of("buildings_robustness"), {}
    for row in receipt.robustness.rows[1:]:
        low, high = row.f1_change_interval
        found.setdefault(row.kind, []).append(f"{row.f1:.3f}" + "*" * (low > 0 or high < 0))
    told = {name: cells[0].split(", ") for name, cells in table("disturbance").items()}
    assert [*told.values()] == [*found.values()]
    assert all(name.lower().startswith(kind) for name, kind in zip(told, found, strict=True))


def test_the_words_on_classical_methods_hold_the_receipts_numbers() -> None:
    receipt = json.loads((DOCS / "receipts" / "landsat_taizhou.json").read_text())
    found = {
        f"`{name}`": [f"{scores[key]:.3f}" for key in ("kappa", "f1", "precision", "recall", "oa")]
        for name, scores in receipt["methods"].items()
    }
    _, _, rest = (DOCS / "evaluation.md").read_text().partition("| method on Taizhou |")
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in rest.split("\n\n")[0].splitlines()[2:]]
    assert {name: cells for name, *cells in lines} == found
    kappas = [f"{scores['kappa']:.3f}" for scores in receipt["methods"].values()]
    readme = " ".join((DOCS.parent / "README.md").read_text().split())
    assert f"their kappa is {', '.join(kappas[:-1])} and {kappas[-1]} " in readme


def test_the_words_on_the_ablation_hold_the_receipts_numbers() -> None:
    found: dict[str, dict[str, str]] = {}
    with (DOCS / "receipts" / "ablation_mlla.csv").open(newline="") as stream:
        for row in csv.DictReader(stream):
            found.setdefault(row["modules"], {})[row["seed"]] = f"{float(row['f1']):.3f}"
    told = {name.lower(): cells for name, cells in table("modules").items()}
    assert told == {name: [f1s.get("0", ""), f1s.get("1", "")] for name, f1s in found.items()}


def test_the_words_on_the_networks_hold_the_receipts_numbers() -> None:
    with (DOCS / "receipts" / "networks_8000_crops.csv").open(newline="") as stream:
        found = {
            f"`{row['network']}`, {row['encoder']}": [
                row["trained in"],
                *(f"{float(row[k]):.3f}" for k in ("val_f1", "f1")),
            ]
            for row in csv.DictReader(stream)
        }
    assert table("network after 8,000 crops") == found
