"""ONNX files of other making: each defect is told, before or at the first prediction."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from terradelta.card import CARD_KEY, ModelCard
from terradelta.errors import ModelError
from terradelta.predict.load import load_predictor
from terradelta.predict.openvino import OpenVINOPredictor

onnx = pytest.importorskip("onnx")
helper, FLOAT, DOUBLE = onnx.helper, onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE

CARD = ModelCard("tiny", "none", ("red", "green", "blue"), (0.5,) * 3, (0.25,) * 3).to_json()
DIFFERENCE = helper.make_node("Sub", ["before", "after"], ["d"])
MEAN = helper.make_node("ReduceMean", ["d"], ["logits"], keepdims=1, axes=[1])
IMAGES = np.zeros((1, 3, 32, 32), np.uint8)

Maker = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Maker:
    def write(nodes=(DIFFERENCE, MEAN), inputs=("before", "after"), card=CARD, kind=FLOAT, shape=("b", 3, "h", "w")):
        takes = [helper.make_tensor_value_info(name, kind, list(shape)) for name in inputs]
        gives = [helper.make_tensor_value_info("logits", kind, None)]
        graph = helper.make_graph(list(nodes), "g", takes, gives)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        if card is not None:
            entry = model.metadata_props.add()
            entry.key, entry.value = CARD_KEY, card
        path = tmp_path / "model.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return write


def test_a_sound_file(make):
    assert OpenVINOPredictor(make(), threads=1).predict(IMAGES, IMAGES).shape == (1, 32, 32)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"card": None}, "has no model card"),
        ({"card": "[]"}, "the model card is not readable"),
        ({"inputs": ("before", "x", "after")}, "needs inputs 'before' and 'after' and output 'logits', has"),
        ({"kind": DOUBLE}, r"inputs must be float32 of shape \(B, C, H, W\)"),
        ({"shape": ("b", 3)}, r"inputs must be float32 of shape \(B, C, H, W\)"),
        ({"shape": ("b", 4, "h", "w")}, "the network takes 4 bands, its card names 3"),
        ({"nodes": [helper.make_node("Unheard", ["before", "after"], ["logits"])]}, "cannot be read as an ONNX model"),
    ],
)
def test_refused_when_loaded(make, options, words):
    with pytest.raises(ModelError, match=words):
        OpenVINOPredictor(make(**options), threads=1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shape": (1, 3, 64, 64)}, r"the network does not run on arrays of shape \(1, 3, 32, 32\)"),
        ({"nodes": [helper.make_node("Sub", ["before", "after"], ["logits"])]}, r"gave shape \(1, 3, 32, 32\), not"),
    ],
)
def test_refused_when_run(make, options, words):
    predictor = OpenVINOPredictor(make(**options), threads=1)
    with pytest.raises(ModelError, match=words):
        predictor.predict(IMAGES, IMAGES)


def test_a_file_for_one_shape_is_not_bent_to_another(make):
    predictor = OpenVINOPredictor(make(shape=(1, 3, 64, 64)), threads=1)
    images = np.zeros((1, 3, 512, 512), np.uint8)
    with pytest.raises(ModelError, match=r"the network does not run on arrays of shape \(1, 3, 512, 512\)"):
        predictor.predict(images, images)
    assert predictor.predict(images[:, :, :64, :64], images[:, :, :64, :64]).shape == (1, 64, 64)


def test_bytes_that_are_no_text(make):
    path = make()
    damaged = path.read_bytes().replace(b'"tiny"', b'"t\xffny"')
    path.write_bytes(damaged)
    with pytest.raises(ModelError, match="the model card is not readable"):
        OpenVINOPredictor(path, threads=1)


@pytest.mark.parametrize("name", ["x" * 300, "x" * 300 + ".onnx", "a\0b"])
def test_impossible_names(name):
    with pytest.raises(ModelError, match="there is no model"):
        load_predictor(name)
