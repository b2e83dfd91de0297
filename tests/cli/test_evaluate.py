"""The command `evaluate`, on a few synthetic pairs with the default weights."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from terradelta import cli
from terradelta.lab.evaluation import session
from terradelta.predict.load import DEFAULT_MODEL, load_predictor
from terradelta.predict.onnx_card import weights_identity


def call(*arguments: object) -> tuple[int, str]:
    """Exit code and output, on one line."""
    done = CliRunner().invoke(cli.app, [*map(str, arguments)], env={"COLUMNS": "200"})
    return done.exit_code, " ".join(done.output.split())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate") / "d"
    assert call("data", "synth", folder, "--train", 1, "--val", 3, "--test", 2, "--side", 128, "--seed", 4)[0] == 0
    return folder


def test_the_table_and_the_receipt_agree(data, tmp_path):
    receipt, page = tmp_path / "r.json", tmp_path / "page.html"
    code, out = call("evaluate", "default", "--data", data, "-o", receipt, "--threshold", 0.02, "--html", page)
    assert code == 0, out
    assert f"page: {page}" in out.replace(" ", "").replace("page:", "page: ")
    assert "<svg" in page.read_text()
    found = json.loads(receipt.read_text())
    assert found["runtime"].startswith("OpenVINOPredictor, ")
    assert f"{found['metrics']['f1']:.4f}" in out
    assert f"{found['calibration']['ece']:.4f}" in out
    assert "95 % interval over images" in out
    assert sum(map(sum, found["images"]["confusion_px"].values())) == 2 * 128 * 128
    assert found["weights"] == weights_identity(load_predictor("default"))


def test_protocols_and_their_difference(data, tmp_path):
    receipt = tmp_path / "r.json"
    code, out = call("evaluate", "default", "--data", data, "--protocol", "all", "--patch", 64, "-o", receipt)
    assert code == 0, out
    rows = json.loads(receipt.read_text())["protocols"]
    assert [row["name"] for row in rows] == ["whole", "patches", "overlap"]
    for row in rows[1:]:
        assert row["difference"]["f1"] == pytest.approx(row["metrics"]["f1"] - rows[0]["metrics"]["f1"])
    assert "patches - whole" in out
    one = tmp_path / "one.json"
    options = ("--protocol", "patches", "--patch", 64, "--limit", 1, "-o", one)
    assert call("evaluate", "default", "--data", data, *options)[0] == 0
    found = json.loads(one.read_text())
    assert found["protocol"].startswith("patches of 64 x 64 pixels side by side")
    assert found["data"]["pairs"] == 1


def test_sweep_and_calibrate_on_validation(data, tmp_path):
    model, receipt = tmp_path / "c.onnx", tmp_path / "r.json"
    code, out = call(
        *("evaluate", "default", "--data", data, "--split", "val", "--sweep", "--calibrate", model, "-o", receipt)
    )
    assert code == 0, out
    found = json.loads(receipt.read_text())
    assert "best f1" in out
    best = found["sweep"]["chosen"][0]
    assert best["rule"] == "best f1"
    card = load_predictor(str(model)).card
    assert found["calibrated"]["temperature"] == card.temperature
    assert found["calibrated"]["nll_after"] < found["calibrated"]["nll_before"]
    again = tmp_path / "again.json"
    assert call("evaluate", model, "--data", data, "--split", "val", "-o", again)[0] == 0
    calibrated = json.loads(again.read_text())
    assert calibrated["metrics"]["f1"] == pytest.approx(best["metrics"]["f1"])
    assert calibrated["calibration"]["nll"] == pytest.approx(found["calibrated"]["nll_after"], abs=1e-4)


def test_against_a_model_and_its_receipt(data, tmp_path):
    first, second, third = (tmp_path / f"{k}.json" for k in range(3))
    assert call("evaluate", "default", "--data", data, "-o", first, "--threshold", 0.02)[0] == 0
    code, out = call("evaluate", "default", "--data", data, "--against", first, "-o", second)
    assert code == 0, out
    found = json.loads(second.read_text())["against"]
    assert found["its_metrics"] == pytest.approx(json.loads(first.read_text())["metrics"])
    assert f"F1: p = {found['p_f1']:.4f}" in out
    code, out = call("evaluate", "default", "--data", data, "--against", DEFAULT_MODEL, "-o", third)
    assert code == 0
    assert set(json.loads(third.read_text())["against"]["difference"].values()) == {0}
    code, out = call("evaluate", "default", "--data", data, "--split", "val", "--against", first)
    assert code == 2
    assert "holds scores on other data than this split" in out


def test_the_precision_is_chosen_and_recorded(data, tmp_path):
    receipt, page = tmp_path / "r.json", tmp_path / "r.html"
    options = ("--precision", "f32", "--against", "default", "-o", receipt, "--html", page)
    code, out = call("evaluate", "default", "--data", data, *options)
    assert code == 0, out
    found = json.loads(receipt.read_text())
    assert found["runtime"] == "OpenVINOPredictor, f32"
    assert found["against"]["runtime"] == load_predictor("default").runtime
    assert "OpenVINOPredictor, f32" in page.read_text()
    code, out = call("evaluate", "default", "--data", data, "--precision", "f64")
    assert code == 2
    assert "there is no precision 'f64'; give one of auto, f32, bf16, int8" in out


@pytest.mark.parametrize(("rival", "words"), [("none.json", "none.json is no receipt"), ("none", "there is no model")])
def test_what_to_compare_with_is_looked_at_before_the_work(data, monkeypatch, rival, words):
    monkeypatch.setattr(session, "evaluate", lambda *_, **__: pytest.fail("hours were spent first"))
    code, out = call("evaluate", "default", "--data", data, "--against", rival)
    assert code == 2
    assert words in out


def test_robustness_is_in_the_receipt_and_its_journal_goes(data, tmp_path, monkeypatch):
    from terradelta.lab.evaluation import perturbations

    few = tuple(kind for kind in perturbations.KINDS if kind.name in ("swapped dates", "blur"))
    monkeypatch.setattr(perturbations, "KINDS", few)
    receipt, model = tmp_path / "r.json", tmp_path / "m.onnx"
    code, out = call("evaluate", "default", "--data", data, "--limit", 1, "--robustness", "-o", receipt)
    assert code == 0, out
    rows = json.loads(receipt.read_text())["robustness"]["rows"]
    assert [row["label"] for row in rows] == ["none", "0.5 px", "1 px", "2 px", "3 px", "swapped dates"]
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]
    source = Path(load_predictor("default").path)
    code, out = call("export", source, "-o", model, "--receipt", receipt)
    assert code == 0, out
    score = load_predictor(str(model)).card.scores[-1]
    assert [row["f1"] for row in score["robustness"]] == [row["f1"] for row in rows]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--protocol", "tiles"), "there is no protocol 'tiles'; give one of whole, patches, overlap, all"),
        (("--patch", 4), "a patch of 4 pixels is too small"),
        (("--threshold", 1.5), "threshold is 1.5; it must be above 0 and at most 1"),
        (("--threshold", "nan"), "threshold is nan; it must be above 0"),
        (("--sweep",), "choosing a threshold on the test split would make its scores worthless"),
        (("--calibrate", "x.onnx"), "calibrating on the test split would make its scores worthless"),
        (("--limit", 0), "0 pairs cannot be scored"),
        (("--against", "none.json"), "none.json is no receipt"),
        (("--split", "val", "--calibrate", "{data}/dataset.json"), "is there already"),
        (("--html", "{data}/dataset.json"), "is there already; nothing was overwritten"),
        (("-o", "{data}/dataset.json"), "is there already; nothing was overwritten"),
    ],
)
def test_what_cannot_be_done_is_refused(data, arguments, words):
    code, out = call("evaluate", "default", "--data", data, *(str(a).format(data=data) for a in arguments))
    assert code == 2, out
    assert words in out
    assert "Traceback" not in out
