"""A model with another card: the library onnx reads what our own code wrote."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from terradelta.card import CARD_KEY, ModelCard
from terradelta.errors import MissingExtraError, ModelError, OutputError
from terradelta.lab.networks import create_model
from terradelta.lab.networks.checkpoint import load_network, save_network
from terradelta.predict.load import DEFAULT_MODEL, load_predictor
from terradelta.predict.onnx_card import copy_with_card, exchange_card, weights_identity
from terradelta.predict.openvino import OpenVINOPredictor
from terradelta.predict.predictor import Predictor

CARD = ModelCard("w", "difference", ("r",), (0.0,), (1.0,), scale=1.0, stride=1)


def model(card: str | None, *, more: dict[str, str] | None = None) -> onnx.ModelProto:
    nodes = [helper.make_node("Sub", ["after", "before"], ["logits"])]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ("b", 1, "h", "w")) for n in ("before", "after")]
    graph = helper.make_graph(
        nodes, "difference", values, [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)]
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9, doc_string="text")
    helper.set_model_props(made, {**(more or {}), **({} if card is None else {CARD_KEY: card})})
    return made


@given(st.text(max_size=300), st.one_of(st.none(), st.text(max_size=300)), st.dictionaries(st.text(), st.text()))
def test_only_the_card_changes(new: str, old: str | None, more: dict[str, str]) -> None:
    more.pop(CARD_KEY, None)
    before = model(old, more=more)
    found = onnx.ModelProto()
    found.ParseFromString(exchange_card(before.SerializeToString(), new))
    assert {p.key: p.value for p in found.metadata_props} == {**more, CARD_KEY: new}
    for each in (before, found):
        del each.metadata_props[:]
    assert found == before


def test_a_copy_predicts_by_the_new_card(tmp_path: Path) -> None:
    source, out = tmp_path / "a.onnx", tmp_path / "sub" / "b.onnx"
    onnx.save(model(CARD.to_json()), source)
    card = CARD.replace(temperature=2.0, logit_bias=-0.5, threshold=0.3)
    copy_with_card(str(source), card, out)
    predictor = OpenVINOPredictor(out, precision="f32", threads=1)
    assert predictor.card == card
    after = np.array([[[[0.0, 1.0, 3.0]]]])
    expected = 1 / (1 + np.exp(-(after[:, 0] / 2 - 0.5)))
    np.testing.assert_allclose(predictor.predict(np.zeros_like(after), after), expected, atol=1e-6)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.onnx", "b.onnx", "sub"]


def test_the_default_weights_can_be_copied(tmp_path: Path) -> None:
    card = load_predictor("default", threads=1).card.replace(logit_bias=1.25)
    for name in ("default", DEFAULT_MODEL):
        copy_with_card(name, card, tmp_path / f"{name}.onnx")
        assert load_predictor(str(tmp_path / f"{name}.onnx"), threads=1).card == card


@pytest.mark.filterwarnings("ignore::terradelta.predict.load.PrecisionWarning")
@pytest.mark.parametrize("name", ["default", DEFAULT_MODEL, f"{DEFAULT_MODEL}_int8"])
def test_a_copy_of_the_int8_form_is_the_int8_form(tmp_path: Path, name: str) -> None:
    predictor = load_predictor(name, precision="int8", threads=1)
    copy_with_card(name, predictor.card.replace(threshold=0.3), tmp_path / "b.onnx")
    copied = load_predictor(str(tmp_path / "b.onnx"), precision="int8", threads=1)
    assert weights_identity(copied) == weights_identity(predictor)
    assert copied.card.threshold == 0.3


def test_the_identity_of_weights_does_not_depend_on_the_card(tmp_path: Path) -> None:
    source, out = tmp_path / "a.onnx", tmp_path / "b.onnx"
    onnx.save(model(CARD.to_json()), source)
    copy_with_card(str(source), CARD.replace(threshold=0.3), out)
    first, second = (OpenVINOPredictor(path, threads=1) for path in (source, out))
    assert weights_identity(first) == weights_identity(second)
    assert first.identity != second.identity
    onnx.save(model(CARD.to_json(), more={"other": "weights"}), out)
    assert weights_identity(OpenVINOPredictor(out, threads=1)) != weights_identity(first)


def test_another_predictor_is_named_by_its_identity() -> None:
    class Zero(Predictor):
        def logits(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
            return before

    assert weights_identity(Zero(CARD)) == Zero(CARD).identity


def test_a_checkpoint_keeps_its_weights(tmp_path: Path) -> None:
    network = create_model("fc_ef")
    card = ModelCard("w", "fc_ef", ("r", "g", "b"), (0.0,) * 3, (1.0,) * 3)
    save_network(network, card, tmp_path / "best.ckpt")
    copy_with_card(str(tmp_path), card.replace(logit_bias=2.0), tmp_path / "new.ckpt")
    found, new = load_network(tmp_path / "new.ckpt")
    assert new.logit_bias == 2
    for name, weight in network.state_dict().items():
        np.testing.assert_array_equal(found.state_dict()[name].numpy(), weight.numpy())


def test_names_that_do_not_fit_the_kind_are_refused(tmp_path: Path) -> None:
    onnx.save(model(CARD.to_json()), tmp_path / "a.onnx")
    with pytest.raises(ModelError, match=r"b.ckpt: the name of an ONNX file ends in .onnx"):
        copy_with_card(str(tmp_path / "a.onnx"), CARD, tmp_path / "b.ckpt")
    with pytest.raises(ModelError, match=r"b.onnx: a copy of a checkpoint is no ONNX file; name it .ckpt"):
        copy_with_card(str(tmp_path), CARD, tmp_path / "b.onnx")


def test_damaged_files_leave_nothing(tmp_path: Path) -> None:
    whole = model(CARD.to_json()).SerializeToString()
    for content in (whole[:-3], whole[: len(whole) // 2], b"not a model", b"\xff" * 12, b"\x00\x01"):
        (tmp_path / "a.onnx").write_bytes(content)
        with pytest.raises(ModelError, match=r"a.onnx cannot be read as an ONNX model \(it is damaged"):
            copy_with_card(str(tmp_path / "a.onnx"), CARD, tmp_path / "b.onnx")
    with pytest.raises(ModelError, match=r"none.onnx cannot be read as an ONNX model \(.*No such file"):
        copy_with_card(str(tmp_path / "none.onnx"), CARD, tmp_path / "b.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["a.onnx"]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    onnx.save(model(CARD.to_json()), tmp_path / "a.onnx")
    with pytest.raises(OutputError, match=r"cannot be written \(File exists\)"):
        copy_with_card(str(tmp_path / "a.onnx"), CARD, tmp_path / "a.onnx" / "b.onnx")


def test_without_torch_the_message_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "terradelta.lab.networks.checkpoint", None)
    with pytest.raises(MissingExtraError, match="is a training run, which needs"):
        copy_with_card(str(tmp_path), CARD, tmp_path / "b.ckpt")
