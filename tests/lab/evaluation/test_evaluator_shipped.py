"""The receipts in docs/ agree with themselves, with the shipped weights and with their card."""

import json
from pathlib import Path

import pytest

from terradelta.lab.metrics import Confusion
from terradelta.predict import openvino
from terradelta.predict.load import load_predictor
from terradelta.predict.onnx_card import weights_identity

RECEIPTS = sorted((Path(__file__).parents[3] / "docs" / "receipts").glob("levir_subset_*.json"))


@pytest.fixture(scope="module")
def predictor():
    return load_predictor("default", threads=1)


def test_there_are_three() -> None:
    assert [path.stem for path in RECEIPTS] == [f"levir_subset_{name}" for name in ("robustness", "test", "val")]


@pytest.mark.parametrize("path", RECEIPTS, ids=lambda path: path.stem)
def test_a_receipt_adds_up(path: Path, predictor) -> None:
    receipt = json.loads(path.read_text())
    total = Confusion(**receipt["confusion_px"])
    assert receipt["metrics"] == pytest.approx(total.metrics())
    images = [Confusion(*counts) for counts in receipt["images"]["confusion_px"].values()]
    assert sum(images, Confusion()) == total
    assert len(images) == receipt["data"]["pairs"] == receipt["per_image"]["images"]
    for name in ("tp", "fp", "fn"):
        assert sum(row[name] for row in receipt["by_size"]["px"]) == getattr(total, name)
    assert sum(row["pixels"] for row in receipt["calibration"]["reliability"]) == total.total
    for name, (low, high) in receipt["intervals"]["metrics"].items():
        assert low <= receipt["metrics"][name] <= high
    assert receipt["weights"] == weights_identity(predictor)
    assert receipt["threshold"] == predictor.card.threshold
    assert receipt["scaling"] == {
        "temperature": predictor.card.temperature,
        "logit_bias": predictor.card.logit_bias,
    }
    held = [score for score in predictor.card.scores if score["created"] == receipt["created"]]
    assert [score["metrics"] for score in held] == [receipt["metrics"]]
    assert held[0]["images_px"] == list(receipt["images"]["confusion_px"].values())


@pytest.mark.parametrize("kind", ["", "light_"])
def test_the_undisturbed_row_is_the_score(kind: str) -> None:
    receipt = json.loads((RECEIPTS[0].parent / f"{kind}levir_subset_robustness.json").read_text())
    assert receipt["robustness"]["rows"][0]["f1"] == pytest.approx(receipt["metrics"]["f1"])
    assert len(receipt["robustness"]["rows"]) == 42
    model = load_predictor("fast" if kind else "default", precision="f32", threads=1)
    assert receipt["weights"] == weights_identity(model)


def table(first: str) -> dict[str, list[str]]:
    """Rows of the table of docs/evaluation.md whose head begins with a cell: name -> the other cells."""
    _, _, rest = (RECEIPTS[0].parents[1] / "evaluation.md").read_text().partition(f"| {first} |")
    lines = rest.split("\n\n")[0].splitlines()[2:]
    return {name: cells for name, *cells in ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)}


@pytest.mark.parametrize(("kind", "first"), [("", "disturbance"), ("light_", "disturbance, light weights")])
def test_the_words_on_robustness_hold_the_receipts_numbers(kind: str, first: str) -> None:
    found: dict[str, list[str]] = {}
    receipt = json.loads((RECEIPTS[0].parent / f"{kind}levir_subset_robustness.json").read_text())
    for row in receipt["robustness"]["rows"][1:]:
        low, high = row["f1_change_interval"]
        found.setdefault(row["kind"], []).append(f"{row['f1']:.3f}" + "*" * (low > 0 or high < 0))
    told = {name: cells[0].split(" (")[0].split(", ") for name, cells in table(first).items()}
    assert [*told.values()] == [*found.values()]
    assert all(name.lower().startswith(kind) for name, kind in zip(told, found, strict=True))


def test_the_words_on_scores_hold_the_receipts_numbers() -> None:
    receipt = json.loads(RECEIPTS[1].read_text())
    whole, patches, overlap = (row["metrics"] for row in receipt["protocols"])
    rows = table("test, threshold 0.139")
    for words, name in (("precision", "precision"), ("recall", "recall"), ("F1", "f1"), ("IoU of the", "iou_changed")):
        cells = next(cells for row, cells in rows.items() if row.startswith(words))
        low, high = receipt["intervals"]["metrics"][name]
        told = f"{whole[name]:.3f}", f"{low:.3f} to {high:.3f}", f"{patches[name]:.3f}", f"{overlap[name]:.3f}"
        assert cells == [*told]
        if name == "f1":
            readme = " ".join((RECEIPTS[0].parents[2] / "README.md").read_text().split())
            assert f"F1 {whole[name]:.3f} with a 95 % interval of {low:.3f} to {high:.3f}" in readme


def test_the_words_on_classical_methods_hold_the_receipts_numbers() -> None:
    receipt = json.loads((RECEIPTS[0].parent / "landsat_taizhou.json").read_text())
    found = {
        f"`{name}`": [f"{scores[key]:.3f}" for key in ("kappa", "f1", "precision", "recall", "oa")]
        for name, scores in receipt["methods"].items()
    }
    assert table("method on Taizhou") == found
    kappas = [f"{scores['kappa']:.3f}" for scores in receipt["methods"].values()]
    readme = " ".join((RECEIPTS[0].parents[2] / "README.md").read_text().split())
    assert f"their kappa is {', '.join(kappas[:-1])} and {kappas[-1]} " in readme


@pytest.mark.parametrize("split", ["val", "test"])
def test_the_int8_weights_have_receipts_of_their_own(split: str, predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "cpu_has_int8", lambda: True)
    rounded = load_predictor("default", precision="int8", threads=1)
    folder = Path(__file__).parents[3] / "docs" / "receipts"
    receipt, of_f32 = (json.loads((folder / f"{name}levir_subset_{split}.json").read_text()) for name in ("int8_", ""))
    assert receipt["metrics"] == pytest.approx(Confusion(**receipt["confusion_px"]).metrics())
    assert receipt["weights"] == weights_identity(rounded) != of_f32["weights"]
    assert receipt["data"] == of_f32["data"]
    assert receipt["threshold"] == rounded.card.threshold == predictor.card.threshold
    held = [score for score in rounded.card.scores if score["created"] == receipt["created"]]
    assert [score["metrics"] for score in held] == [receipt["metrics"]]
    if split == "test":
        assert receipt["against"]["model"] == predictor.card.name
        assert receipt["against"]["its_metrics"] == pytest.approx(of_f32["metrics"])


@pytest.mark.parametrize("precision", ["f32", "int8"])
@pytest.mark.parametrize("split", ["val", "test"])
def test_the_light_weights_have_receipts(split: str, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "cpu_has_int8", lambda: True)
    light = load_predictor("fast", precision=precision, threads=1)
    kind = "int8_" if precision == "int8" else ""
    folder = Path(__file__).parents[3] / "docs" / "receipts"
    receipt = json.loads((folder / f"{kind}light_levir_subset_{split}.json").read_text())
    of_default = json.loads((folder / f"levir_subset_{split}.json").read_text())
    total = Confusion(**receipt["confusion_px"])
    assert receipt["metrics"] == pytest.approx(total.metrics())
    assert sum((Confusion(*counts) for counts in receipt["images"]["confusion_px"].values()), Confusion()) == total
    assert receipt["weights"] == weights_identity(light)
    assert receipt["data"] == of_default["data"]
    assert receipt["threshold"] == light.card.threshold
    held = [score for score in light.card.scores if score.get("created") == receipt["created"]]
    assert [score["metrics"] for score in held] == [receipt["metrics"]]


def test_the_words_on_the_light_weights_hold_the_receipts_numbers() -> None:
    rows = table("test, light")
    for kind, name in (("float32", ""), ("int8, rest bf16", "int8_")):
        receipt = json.loads((RECEIPTS[0].parent / f"{name}light_levir_subset_test.json").read_text())
        metrics, (low, high) = receipt["metrics"], receipt["intervals"]["metrics"]["f1"]
        told = [f"{metrics[key]:.3f}" for key in ("precision", "recall", "f1", "iou_changed")]
        assert rows[kind] == [*told, f"{low:.3f} to {high:.3f}"]


@pytest.mark.parametrize(("name", "model"), [("bf16", "default"), ("int8_bf16", "mlla_sianet_levir_subset_int8")])
def test_the_test_images_in_bfloat16(name: str, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a CPU with bfloat16 gives: other numbers than in float32, all within its intervals."""
    monkeypatch.setattr(openvino, "cpu_has_int8", lambda: True)
    folder = Path(__file__).parents[3] / "docs" / "receipts"
    receipt, of_f32 = (json.loads((folder / f"{each}levir_subset_test.json").read_text()) for each in (f"{name}_", ""))
    assert receipt["runtime"].endswith("bf16")
    assert receipt["weights"] == weights_identity(load_predictor(model, threads=1))
    assert receipt["data"] == of_f32["data"]
    total = Confusion(**receipt["confusion_px"])
    assert receipt["metrics"] == pytest.approx(total.metrics())
    assert sum((Confusion(*counts) for counts in receipt["images"]["confusion_px"].values()), Confusion()) == total
    low, high = of_f32["intervals"]["metrics"]["f1"]
    assert low < receipt["metrics"]["f1"] < high
