import dataclasses
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from terradelta import cli
from terradelta.card import CARD_KEY, ModelCard
from terradelta.errors import ModelError
from terradelta.lab.export import quantise
from terradelta.lab.export.int8_crops import CalibrationCrops
from terradelta.lab.export.quantise import quantise_onnx
from terradelta.predict.openvino import OpenVINOPredictor

CARD = ModelCard(
    "w",
    "none",
    ("a", "b"),
    (0.5, 0.5),
    (0.25, 0.25),
    scale=100.0,
    stride=2,
    threshold=0.3,
    temperature=1.5,
    scores=({"metrics": {"f1": 1.0}},),
    training={"steps": 5},
)
RNG = np.random.default_rng(7)


def _save(path: Path, nodes: list[onnx.NodeProto], weights: dict[str, NDArray[np.float32]], card: ModelCard) -> Path:
    shape = ["n", 2, "h", "w"]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("before", "after")]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 1, "h", "w"])
    constants = [numpy_helper.from_array(values, f"{name}_w") for name, values in weights.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, [output], constants),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=9,
    )
    helper.set_model_props(model, {CARD_KEY: card.to_json()})
    onnx.save(model, path)
    return path


def _siamese(path: Path, weights: dict[str, NDArray[np.float32]]) -> Path:
    """Both dates through the same convolutions, one after the other; the last takes the size of their difference."""
    *shared, last = weights
    nodes = []
    for date in ("before", "after"):
        at = date
        for name in shared:
            nodes.append(helper.make_node("Conv", [at, f"{name}_w"], [f"{date}_{name}"], f"{date}_{name}"))
            at = f"{date}_{name}_relu"
            nodes.append(helper.make_node("Relu", [f"{date}_{name}"], [at], at))
    ends = [f"{date}_{shared[-1]}_relu" for date in ("before", "after")]
    nodes += [helper.make_node("Sub", ends, ["gap"], "gap"), helper.make_node("Abs", ["gap"], ["size"], "size")]
    nodes.append(helper.make_node("Conv", ["size", f"{last}_w"], ["logits"], last))
    return _save(path, nodes, weights, CARD)


def _network(
    path: Path, weights: dict[str, NDArray[np.float32]], *, names: bool = True, card: ModelCard = CARD
) -> Path:
    """Convolutions one after another on both dates; ReLU between them."""
    nodes = [helper.make_node("Concat", ["before", "after"], ["x"], "join", axis=1)]
    at = "x"
    for i, (name, values) in enumerate(weights.items()):
        out = "logits" if i == len(weights) - 1 else f"{name}_out"
        pads = [values.shape[-1] // 2] * 4
        nodes.append(helper.make_node("Conv", [at, f"{name}_w"], [out], name if names else "", pads=pads))
        at = out
        if out != "logits":
            at = f"{name}_relu"
            nodes.append(helper.make_node("Relu", [out], [at], at))
    return _save(path, nodes, weights, card)


def _weights(*shapes: tuple[int, ...]) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(3)
    return {f"conv{i}": rng.normal(0, 0.4, shape).astype(np.float32) for i, shape in enumerate(shapes)}


def _crops(count: int = 8, side: int = 16) -> CalibrationCrops:
    rng = np.random.default_rng(1)
    dates = [tuple(rng.uniform(0, 100, (2, side, side)).astype(np.float32) for _ in range(2)) for _ in range(count)]
    return CalibrationCrops("fabricated", 3, "ab" * 32, tuple(dates))


def test_one_convolution_gives_what_its_rounded_numbers_give(tmp_path: Path) -> None:
    """Worked out in numpy: int8 weights by their largest value, uint8 inputs by their range."""
    weights = _weights((1, 4, 1, 1))
    source, crops = _network(tmp_path / "m.onnx", weights), _crops()
    quantise_onnx(source, crops, tmp_path / "q.onnx")
    found = OpenVINOPredictor(tmp_path / "q.onnx", precision="f32", threads=1)
    w = weights["conv0"].ravel().astype(float)
    step = np.abs(w).max() / 127
    rounded = np.round(w / step) * step
    seen = [np.concatenate(crop) / 100 / 0.25 - 2 for i, crop in enumerate(crops.crops) if i % 4 != 3]
    low, high = min(x.min() for x in seen), max(x.max() for x in seen)
    gain = (high - low) / 255
    zero = np.round(-low / gain)
    for before, after in crops.crops[:3]:
        x = np.concatenate([before, after]).astype(float) / 100 / 0.25 - 2
        near = np.abs((x / gain) % 1 - 0.5) < 1e-3  # so close to a half that float32 may round the other way
        x = (np.clip(np.round(x / gain) + zero, 0, 255) - zero) * gain
        expected = np.tensordot(rounded, x, 1)
        normal = [CARD.normalise(each[None]) for each in (before, after)]
        sure = ~near.any(0)
        assert sure.mean() > 0.95
        np.testing.assert_allclose(found.logits(*normal)[0, 0][sure], expected[sure], atol=2e-3)


def test_the_file_is_int8_and_its_card_says_so(tmp_path: Path) -> None:
    source = _network(tmp_path / "m.onnx", _weights((8, 4, 3, 3), (8, 8, 3, 3), (1, 8, 1, 1)))
    check = quantise_onnx(source, _crops(), tmp_path / "new" / "q.onnx")
    model = onnx.load(tmp_path / "new" / "q.onnx")
    onnx.checker.check_model(model)
    kinds = {w.name: w.data_type for w in model.graph.initializer if w.name.startswith("conv") and len(w.dims) == 4}
    assert len(kinds) == 3
    assert set(kinds.values()) == {TensorProto.INT8}
    scales = [numpy_helper.to_array(w) for w in model.graph.initializer if "w_scale" in w.name]
    assert sorted(s.size for s in scales) == [1, 8, 8], "one scale for each output channel"
    card = OpenVINOPredictor(tmp_path / "new" / "q.onnx", threads=1).card
    record = card.quantisation
    tile = 640  # 1.25 times the float network's 512
    assert card == CARD.replace(name="w_int8", tile=tile, scores=(), training={"steps": 5}, quantisation=record)
    assert (record["data"], record["sha256"], record["pairs"]) == ("fabricated", "ab" * 32, 3)
    assert (record["crops"], record["checked_on"], record["layers"], record["kept_float"]) == (6, 2, 3, [])
    for name in ("mean_difference", "p999_difference", "largest_difference", "class_changed"):
        assert record[name] == getattr(check, name)
    assert 0 < check.mean_difference <= check.p999_difference <= check.largest_difference < 0.2
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["q.onnx"]


def test_the_check_is_what_two_predictors_differ_by(tmp_path: Path) -> None:
    source, crops = _network(tmp_path / "m.onnx", _weights((8, 4, 3, 3), (1, 8, 1, 1))), _crops()
    check = quantise_onnx(source, crops, tmp_path / "q.onnx")
    both = [OpenVINOPredictor(p, precision="f32", threads=1) for p in (source, tmp_path / "q.onnx")]
    unseen = [crops.crops[3], crops.crops[7]]
    a, b = (np.stack([p.predict(x[None], y[None]) for x, y in unseen]) for p in both)
    assert check.mean_difference == pytest.approx(np.abs(a - b).mean(), rel=1e-3)
    assert check.largest_difference == pytest.approx(np.abs(a - b).max(), rel=1e-3)
    assert check.class_changed == pytest.approx(((a >= 0.3) != (b >= 0.3)).mean())


def _with_a_bad_layer() -> dict[str, NDArray[np.float32]]:
    """The second layer's input has one channel that is 2,000 times the others and that it nearly ignores."""
    weights = _weights((8, 4, 1, 1), (8, 8, 1, 1), (4, 8, 1, 1), (1, 4, 1, 1))
    weights["conv0"][0] = 800
    weights["conv1"][:, 0] = 0
    return weights


def test_the_layer_that_loses_most_stays_in_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = _network(tmp_path / "m.onnx", _with_a_bad_layer())
    monkeypatch.setattr(quantise, "TOLERANCE", {"mean": 0.02, "p99.9": 0.1})
    said: list[str] = []
    check = quantise_onnx(source, _crops(), tmp_path / "q.onnx", advance=said.append)
    assert check.kept_float == ("conv1",)
    assert check.holds
    assert said[:2] == ["measuring ranges", "comparing"]
    assert said[2:] == [*(f"layer {i} of 4 alone" for i in range(1, 5)), "1 of 4 layers in float32"]
    model = onnx.load(tmp_path / "q.onnx")
    onnx.checker.check_model(model)
    inputs = {node.name: list(node.input) for node in model.graph.node}
    assert inputs["conv1"] == ["conv0_relu", "conv1_w"]
    assert inputs["conv2"] != ["conv1_relu", "conv2_w"]
    names = {w.name for w in model.graph.initializer}
    assert "conv1_w" in names
    assert not any(name.startswith("conv1_w_") for name in names), "its int8 weights are left out"
    assert OpenVINOPredictor(tmp_path / "q.onnx", threads=1).card.quantisation["kept_float"] == ["conv1"]


@pytest.mark.parametrize("bad", [False, True])
def test_both_dates_are_rounded_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: bool) -> None:
    """Though the second date is brighter on every crop, and though a layer stays in float32."""
    weights = _weights((8, 2, 1, 1), (8, 8, 1, 1), (1, 8, 1, 1))
    if bad:
        weights["conv0"][0], weights["conv1"][:, 0] = 800, 0
    monkeypatch.setattr(quantise, "TOLERANCE", {"mean": 0.02, "p99.9": 0.1} if bad else {"mean": 1, "p99.9": 1})
    crops = _crops()
    brighter = tuple((before * np.float32(0.5), after) for before, after in crops.crops)
    source = _siamese(tmp_path / "m.onnx", weights)
    check = quantise_onnx(source, dataclasses.replace(crops, crops=brighter), tmp_path / "q.onnx")
    assert check.kept_float == (("before_conv1", "after_conv1") if bad else ())
    found = OpenVINOPredictor(tmp_path / "q.onnx", precision="f32", threads=1)
    before, after = (values[None] for values in brighter[3])
    np.testing.assert_array_equal(found.predict(before, after), found.predict(after, before))


def test_both_engines_compute_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO 2026.4 was wrong by as much as the values where two int8 layers shared their weights."""
    monkeypatch.setattr(quantise, "TOLERANCE", {"mean": 1, "p99.9": 1})
    source = _siamese(tmp_path / "m.onnx", _weights((8, 2, 1, 1), (8, 8, 1, 1), (1, 8, 1, 1)))
    crops = _crops()
    quantise_onnx(source, crops, tmp_path / "q.onnx")
    before, after = (CARD.normalise(values[None]) for values in crops.crops[3])
    logits = OpenVINOPredictor(tmp_path / "q.onnx", precision="f32", threads=1).logits(before, after)
    session = onnxruntime.InferenceSession(tmp_path / "q.onnx", providers=["CPUExecutionProvider"])
    expected = session.run(["logits"], {"before": before, "after": after})[0]
    assert np.abs(logits - expected).mean() < 0.02 * expected.std()


def test_all_layers_kept_is_the_float32_network(tmp_path: Path) -> None:
    weights = _weights((8, 4, 3, 3), (1, 8, 1, 1))
    source = _network(tmp_path / "m.onnx", weights)
    original = onnx.load(source)
    inputs = [quantise._inputs(CARD, crop) for crop in _crops().crops]
    full = quantise._quantised(source, onnx.load(source), tmp_path, inputs)
    restored = quantise._restored(full, original, list(weights))
    assert [n.op_type for n in restored.graph.node] == [n.op_type for n in original.graph.node]
    assert [list(n.input) for n in restored.graph.node] == [list(n.input) for n in original.graph.node]
    assert {w.name for w in restored.graph.initializer} == {w.name for w in original.graph.initializer}


def test_a_network_that_loses_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = _network(tmp_path / "m.onnx", _weights((8, 4, 3, 3), (1, 8, 1, 1)))
    monkeypatch.setattr(quantise, "TOLERANCE", {"mean": 0.0, "p99.9": 0.1})
    with pytest.raises(
        ModelError,
        match=r"in int8 this network differs from float32 by .* in the mean and .* at the 99.9th percentile of "
        r"probability, even with 1 of 2 layers in float32 \(allowed are 0.0 and 0.1\); nothing was written. Calibrate",
    ):
        quantise_onnx(source, _crops(), tmp_path / "q.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


def test_what_cannot_be_quantised(tmp_path: Path) -> None:
    source = _network(tmp_path / "m.onnx", _weights((1, 4, 1, 1)))
    with pytest.raises(ModelError, match=r"q.bin: the name of an ONNX file ends in .onnx"):
        quantise_onnx(source, _crops(), tmp_path / "q.bin")
    quantise_onnx(source, _crops(), tmp_path / "q.onnx")
    with pytest.raises(ModelError, match=r"q.onnx is quantised already; give the float32 file, or the training run"):
        quantise_onnx(tmp_path / "q.onnx", _crops(), tmp_path / "r.onnx")
    unnamed = _network(tmp_path / "u.onnx", _weights((1, 4, 1, 1)), names=False)
    with pytest.raises(ModelError, match=r"u.onnx: its layers have no names of their own; make it with `terradelta ex"):
        quantise_onnx(unnamed, _crops(), tmp_path / "r.onnx")
    model = onnx.load(source)
    model.graph.node[1].op_type = "Add"
    model.graph.node[1].ClearField("attribute")
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones((1, 1, 1, 1), np.float32), "conv0_w"))
    model.graph.node.insert(1, helper.make_node("ReduceSum", ["x", "axis"], ["sum"], "sum"))
    model.graph.node[2].input[0] = "sum"
    model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "axis"))
    onnx.save(model, tmp_path / "s.onnx")
    with pytest.raises(ModelError, match=r"s.onnx has no convolution and no matrix product, so nothing would be g"):
        quantise_onnx(tmp_path / "s.onnx", _crops(), tmp_path / "r.onnx")


def test_what_the_quantiser_cannot_do_is_an_error_of_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("odd axis")

    monkeypatch.setattr(quantise, "quantize_static", fail)
    source = _network(tmp_path / "m.onnx", _weights((1, 4, 1, 1)))
    with pytest.raises(ModelError, match=r"m.onnx cannot be quantised \(odd axis\); use the float32 file"):
        quantise_onnx(source, _crops(), tmp_path / "q.onnx")


def _export(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(cli.app, ["export", *map(str, words)])
    return done.exit_code, " ".join(done.output.split())


def _images(folder: Path, count: int = 4) -> Path:
    import imageio.v3 as iio

    for name in ("A", "B"):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            iio.imwrite(folder / name / f"{i}.png", RNG.integers(0, 100, (40, 40, 3), np.uint8))
    lines = ["before,after", *(f"A/{i}.png,B/{i}.png" for i in range(count))]
    (folder / "pairs.csv").write_text("\n".join(lines))
    return folder / "pairs.csv"


def test_the_command_quantises_an_onnx_file(tmp_path: Path) -> None:
    card = CARD.replace(bands=("r", "g", "b"), mean=(0.5,) * 3, std=(0.25,) * 3)
    source = _network(tmp_path / "m.onnx", _weights((8, 6, 3, 3), (1, 8, 1, 1)), card=card)
    model = onnx.load(source)
    for port in model.graph.input:
        port.type.tensor_type.shape.dim[1].dim_value = 3
    onnx.save(model, source)
    code, text = _export(source, "--int8", _images(tmp_path / "data"), "-o", tmp_path / "q.onnx")
    assert code == 0, text
    assert "calibrated on 4 pairs. Difference in probability: mean " in text
    assert "Evaluate it before use" in text
    record = OpenVINOPredictor(tmp_path / "q.onnx", threads=1).card.quantisation
    assert record["data"] == "pairs.csv"
    assert record["pairs"] == 4


def test_options_that_exclude_each_other(tmp_path: Path) -> None:
    source = _network(tmp_path / "m.onnx", _weights((1, 4, 1, 1)))
    out = ("-o", tmp_path / "q.onnx", "--int8", tmp_path)
    code, text = _export(source, *out, "--half-weights")
    assert (code, "--half-weights needs floating point, so leave --int8 out" in text) == (2, True)
    code, text = _export(source, *out, "--receipt", tmp_path / "r.json")
    assert (code, "--int8 changes the result, so older receipts do not hold" in text) == (2, True)


def test_without_the_extra_the_message_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "terradelta.lab.export.quantise", None)
    source = _network(tmp_path / "m.onnx", _weights((1, 4, 1, 1)))
    code, text = _export(source, "-o", tmp_path / "q.onnx", "--int8", tmp_path)
    assert (code, "--int8 needs the optional dependencies [quantize]" in text) == (1, True)
