"""The whole of `terradelta evaluate` as one call, without a command line."""

from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from terradelta.card import ModelCard
from terradelta.errors import InputError
from terradelta.lab.data import PairList
from terradelta.lab.evaluation import Details, Scoring, calibrated_card, compare, evaluate, evaluation_receipt
from terradelta.lab.evaluation import session as module
from terradelta.lab.evaluation.session import Request, choose_protocols, run_session
from terradelta.predict.onnx_card import weights_identity
from terradelta.receipt import EvaluationReceipt, from_json, to_json, write_receipt

from .conftest import Brighter, Write

PARTS = ("scores", "protocols", "sweep", "against", "robustness", "calibrated")


@pytest.fixture
def val(write_pairs: Write) -> PairList:
    rng = np.random.default_rng(1)
    labels = [rng.random((40, 40)) < 0.2 for _ in range(3)]
    dates = [(np.full((40, 40), 100), rng.normal(110 + 40 * label, 18).clip(0, 255)) for label in labels]
    return write_pairs({f"v{k}": (*each, labels[k]) for k, each in enumerate(dates)}, "val")


@pytest.fixture
def written(val: PairList, card: ModelCard, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Data and models by name, in place of folders and files; what was written as a copy."""
    copies: dict[str, object] = {}
    models = {"m": Brighter(card), "other": Brighter(card.replace(name="other", threshold=0.3))}
    monkeypatch.setattr(module, "open_pairs", lambda data, split: val)
    monkeypatch.setattr(module, "load_predictor", lambda name, **_: models[name])
    monkeypatch.setattr(module, "copy_with_card", lambda model, new, out: copies.update({str(out): (model, new)}))
    return copies


def test_every_part_is_that_of_its_own_function(val: PairList, card: ModelCard, written, tmp_path: Path) -> None:
    told: list[str] = []
    shown: list[str] = []

    @contextmanager
    def progress(title: str):
        shown.append(title)
        yield lambda done, total: None

    def tell(part: str, receipt: EvaluationReceipt) -> None:
        told.append(part)
        assert getattr(receipt, {"scores": "metrics"}.get(part, part)) is not None

    request = Request(
        *("m", "d", "val"),
        threshold=0.4,
        protocols=choose_protocols("all", 16),
        sweep=True,
        against="other",
        robustness=True,
        journal=tmp_path / "j",
        calibrate=tmp_path / "c.onnx",
        examples=1,
    )
    receipt, details = run_session(request, progress=progress, tell=tell)
    assert tuple(told) == PARTS
    assert shown == [
        "evaluating on val",
        "evaluating by patches",
        "evaluating by overlap",
        "evaluating other",
        "robustness",
    ]
    model = Brighter(card)
    alone = evaluate(model, val, threshold=0.4, details=Details())
    plain = evaluation_receipt(alone, card, val, weights=weights_identity(model), runtime=model.runtime)
    for name in ("metrics", "intervals", "images", "calibration", "data", "weights", "runtime", "threshold"):
        assert getattr(receipt, name) == getattr(plain, name), name
    whole, patches, _ = receipt.protocols
    assert vars(patches.metrics) == evaluate(model, val, threshold=0.4, protocol=Scoring("patches", 16)).total.metrics()
    assert patches.difference.f1 == patches.metrics.f1 - whole.metrics.f1
    rival = evaluate(Brighter(card.replace(threshold=0.3)), val)
    counts = [{name: each.as_tuple() for name, each in found.images} for found in (rival, alone)]
    assert (receipt.against.model, receipt.against.p_f1) == ("other", compare(*counts).p_f1)
    assert receipt.robustness.rows[0].f1 == receipt.metrics.f1
    assert len((tmp_path / "j").read_text().splitlines()) == 1 + 3 * len(receipt.robustness.rows)
    new, record = calibrated_card(alone, card, val)
    assert receipt.calibrated == record
    assert written == {str(tmp_path / "c.onnx"): ("m", new)}
    assert details.worst
    assert from_json(EvaluationReceipt, to_json(receipt)) == receipt


def test_scores_alone(card: ModelCard, written, tmp_path: Path) -> None:
    receipt, _ = run_session(Request("m", "d", "val", limit=2))
    assert receipt.data.pairs == 2
    assert {receipt.protocols, receipt.sweep, receipt.against, receipt.robustness, receipt.calibrated} == {None}
    assert not written


def test_a_receipt_to_compare_with_is_looked_at_before_the_work(
    val: PairList, card: ModelCard, written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.json"
    write_receipt(run_session(Request("other", "d", "val"))[0], path)
    receipt, _ = run_session(Request("m", "d", "val", against=str(path)))
    assert (receipt.against.model, receipt.against.runtime) == ("other", None)
    monkeypatch.setattr(module, "evaluate", lambda *_, **__: pytest.fail("hours were spent first"))
    with pytest.raises(InputError, match="is no receipt of"):
        run_session(Request("m", "d", "val", against=str(tmp_path / "none.json")))


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"threshold": 0.0}, "threshold is 0.0; it must be above 0 and at most 1"),
        ({"sweep": True}, "choosing a threshold on the test split would make its scores worthless"),
        ({"calibrate": Path("x")}, "calibrating on the test split"),
    ],
)
def test_what_cannot_be_done_is_refused_at_once(wish: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Request("m", "d", **wish)


def test_protocols_by_name() -> None:
    assert [each.name for each in choose_protocols("all")] == ["whole", "patches", "overlap"]
    assert choose_protocols("patches", 64) == (Scoring("patches", 64),)
    with pytest.raises(InputError, match="there is no protocol 'x'; give one of whole, patches, overlap, all"):
        choose_protocols("x")
