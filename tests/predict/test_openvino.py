"""OpenVINO on ONNX files made by hand: the network is ``sum over bands of (after - before)``."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import openvino as ov
import pytest
from onnx import TensorProto, helper

from terradelta.card import CARD_KEY, ModelCard
from terradelta.errors import ModelError
from terradelta.predict import openvino
from terradelta.predict.load import DEFAULT_MODEL, shipped_models
from terradelta.predict.openvino import OpenVINOPredictor, cpu_has_bf16

CARD = ModelCard("w", "difference", ("r", "g", "b"), (0.1, 0.2, 0.3), (1.0, 2.0, 4.0), scale=1.0, stride=4)


def _write(
    path: Path,
    card: str | None = CARD.to_json(),
    names: tuple[str, str, str] = ("before", "after", "logits"),
    shape: tuple[str | int, ...] | None = ("b", 3, "h", "w"),
) -> Path:
    before, after, logits = names
    nodes = [
        helper.make_node("Sub", [after, before], ["gap"]),
        helper.make_node("ReduceSum", ["gap", "axis"], [logits], keepdims=1),
    ]
    graph = helper.make_graph(
        nodes,
        "difference",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in (before, after)],
        [helper.make_tensor_value_info(logits, TensorProto.FLOAT, None)],
        [helper.make_tensor("axis", TensorProto.INT64, [1], [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    if card is not None:
        helper.set_model_props(model, {CARD_KEY: card})
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("shape", [(1, 3, 4, 4), (2, 3, 7, 5), (5, 3, 1, 1)])
def test_prediction_by_formula(tmp_path: Path, shape: tuple[int, ...]) -> None:
    predictor = OpenVINOPredictor(_write(tmp_path / "m.onnx"), precision="f32", threads=1)
    rng = np.random.default_rng(0)
    before, after = (rng.normal(size=shape) for _ in range(2))
    logits = ((after - before) / np.array([1, 2, 4])[:, None, None]).sum(1)
    found = predictor.predict(before, after)
    assert predictor.card == CARD
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-logits)), atol=1e-5)
    first = found.copy()
    predictor.predict(after, before)
    np.testing.assert_array_equal(found, first)  # the result is no view of the request's memory


def _smooth_pair(*shape: int) -> list[np.ndarray]:
    coarse = np.random.default_rng(3).integers(0, 256, (2, shape[0], 3, shape[1] // 16, shape[2] // 16))
    return list(coarse.repeat(16, 3).repeat(16, 4).astype(np.uint8))


@pytest.mark.parametrize("shape", [(1, 512, 512), (2, 512, 272)])
def test_the_form_for_one_shape_computes_the_network(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = _smooth_pair(*shape)
    found = []
    for limit in (1, 1 << 40):
        monkeypatch.setattr(openvino, "_STATIC_PX", limit)
        predictor = OpenVINOPredictor(shipped_models()[DEFAULT_MODEL], precision="f32", threads=1)
        found.append(predictor.predict(before, after))
        assert list(predictor._forms) == [(shape[0], 3, *shape[1:]) if limit == 1 else ()]
    assert found[0].std() > 1e-4  # noise on both dates: hardly any of it is change
    np.testing.assert_allclose(found[0], found[1], rtol=0, atol=1e-5)


def test_what_came_before_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forms come and go with the shapes; a resumed run must not depend on that."""
    monkeypatch.setattr(openvino, "_STATIC_PX", 96 * 96)
    shapes = [(1, 96, 96), (1, 64, 64), (2, 96, 64), (1, 128, 96), (1, 96, 96), (1, 64, 96), (1, 128, 96)]
    model = shipped_models()[DEFAULT_MODEL]
    much = OpenVINOPredictor(model, threads=1)
    for shape in shapes:
        pair = _smooth_pair(*shape)
        alone = OpenVINOPredictor(model, threads=1).predict(*pair)
        np.testing.assert_array_equal(much.predict(*pair), alone)
        much.release()
        assert len([key for key in much._forms if key]) <= 2


def test_channels_last_arrays_give_the_same(tmp_path: Path) -> None:
    predictor = OpenVINOPredictor(str(_write(tmp_path / "m.onnx")), precision="f32", threads=1)
    rng = np.random.default_rng(0)
    before, after = (rng.normal(size=(1, 8, 4, 3)).transpose(0, 3, 1, 2) for _ in range(2))
    np.testing.assert_array_equal(
        predictor.predict(before, after),
        predictor.predict(np.ascontiguousarray(before), np.ascontiguousarray(after)),
    )


def test_ctrl_c_is_survived_after_predictors_whose_lives_overlap(tmp_path: Path) -> None:
    """OpenVINO leaves a dangling signal stack when two of its cores go in the order in which they came."""
    path = _write(tmp_path / "m.onnx")
    code = f"""
import os, signal, sys
import numpy as np
from terradelta.predict.openvino import OpenVINOPredictor
x = np.zeros((1, 3, 4, 4))
predictor = None
for precision in ("f32", "bf16", "f32"):
    predictor = OpenVINOPredictor({str(path)!r}, precision=precision, threads=1)  # the one before goes after this comes
    predictor.predict(x, x)
del predictor
signal.signal(signal.SIGINT, lambda *_: print("caught"))
os.kill(os.getpid(), signal.SIGINT)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "caught"), done.stderr


def test_automatic_precision_is_the_cpus(tmp_path: Path) -> None:
    predictor = OpenVINOPredictor(_write(tmp_path / "m.onnx"), threads=1)
    listed = ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    assert cpu_has_bf16() == ("BF16" in listed)
    assert predictor.precision == ("bf16" if "BF16" in listed else "f32")


def test_no_card_no_prediction(tmp_path: Path) -> None:
    path = _write(tmp_path / "m.onnx", card=None)
    with pytest.raises(ModelError, match=r"m.onnx has no model card: .*Use a file written by `terradelta export`"):
        OpenVINOPredictor(path)
    with pytest.raises(ModelError, match=r"m.onnx: the model card is not readable"):
        OpenVINOPredictor(_write(tmp_path / "m.onnx", card="{"))


@pytest.mark.parametrize("keep", [0, 40, 0.5, 0.9])
def test_a_truncated_file(tmp_path: Path, keep: float) -> None:
    path = _write(tmp_path / "m.onnx")
    data = path.read_bytes()
    path.write_bytes(data[: int(keep if keep > 1 else keep * len(data))])
    with pytest.raises(ModelError, match=r"m.onnx cannot be read as an ONNX model; it may be truncated|no model card"):
        OpenVINOPredictor(path)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"there is no model file .*m.onnx; `terradelta models` lists those that ship"):
        OpenVINOPredictor(tmp_path / "m.onnx")
    (tmp_path / "m.pt").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"m.pt: the name of an ONNX file ends in .onnx; make one with"):
        OpenVINOPredictor(tmp_path / "m.pt")
    (tmp_path / "m.onnx").write_bytes(b"this is text")
    with pytest.raises(ModelError, match="cannot be read as an ONNX model"):
        OpenVINOPredictor(tmp_path / "m.onnx")


@pytest.mark.parametrize("names", [("t1", "t2", "logits"), ("before", "after", "change")])
def test_other_names_of_inputs_and_outputs(tmp_path: Path, names: tuple[str, str, str]) -> None:
    with pytest.raises(ModelError, match=r"needs inputs 'before' and 'after' and output 'logits', has \['"):
        OpenVINOPredictor(_write(tmp_path / "m.onnx", names=names))


def test_a_network_that_does_not_fit_its_card(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="the network takes 4 bands, its card names 3"):
        OpenVINOPredictor(_write(tmp_path / "m.onnx", shape=("b", 4, "h", "w")))
    with pytest.raises(ModelError, match=r"inputs must be float32 of shape \(B, C, H, W\)"):
        OpenVINOPredictor(_write(tmp_path / "m.onnx", shape=None))
    with pytest.raises(ModelError, match=r"inputs must be float32 of shape \(B, C, H, W\)"):
        OpenVINOPredictor(_write(tmp_path / "m.onnx", shape=("b", 3)))
