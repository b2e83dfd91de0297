import sys
from pathlib import Path

import numpy as np
import pytest

from terradelta.card import ModelCard
from terradelta.errors import MissingExtraError, ModelError
from terradelta.lab.inference.torch_predictor import TorchPredictor
from terradelta.lab.networks import create_model
from terradelta.lab.networks.checkpoint import save_network
from terradelta.lab.synthetic import SceneConfig, make_scene
from terradelta.predict import openvino
from terradelta.predict.load import (
    DEFAULT_MODEL,
    SHORT_NAMES,
    PrecisionWarning,
    find_model,
    load_predictor,
    shipped_models,
)


def test_shipped_models_are_onnx_files_under_their_names() -> None:
    for name, path in shipped_models().items():
        assert path.is_file()
        assert path.name == f"{name}.onnx"


def test_short_names(vnni: None) -> None:
    int8 = {f"{name}_int8" for name in SHORT_NAMES.values()}
    assert {*SHORT_NAMES.values(), *int8, "buildings-free"} == set(shipped_models())
    assert list(shipped_models())[:2] == ["buildings", "buildings_int8"]
    for short, name in SHORT_NAMES.items():
        assert load_predictor(short, threads=1).card == load_predictor(name, threads=1).card
        assert load_predictor(short, threads=1, precision="int8").card.quantisation


def test_no_such_model(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"there is no model 'atlas'; give one of default, .*, an .onnx file, the folder of"
    ):
        load_predictor("atlas")
    with pytest.raises(ModelError, match=r"there is no model file .*atlas.onnx"):
        load_predictor(str(tmp_path / "atlas.onnx"))


def test_onnx_runs_on_the_cpu_only(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"m.onnx is an ONNX file, which runs on the CPU; for --device cuda give the tr"
    ):
        load_predictor(str(tmp_path / "m.onnx"), device="cuda")


def test_a_run_folder_is_run_by_torch(tmp_path: Path) -> None:
    card = ModelCard("w", "mlla_sianet", ("r", "g", "b"), (0, 0, 0), (1, 1, 1))
    save_network(create_model("mlla_sianet"), card, tmp_path / "best.ckpt")
    predictor = load_predictor(str(tmp_path), threads=1)
    assert isinstance(predictor, TorchPredictor)
    assert predictor.card == card


def test_without_torch_the_message_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "terradelta.lab.inference.torch_predictor", None)
    with pytest.raises(MissingExtraError, match=r"is a training run, which needs .*pip install -c .*\[train\]'?$"):
        load_predictor(str(tmp_path))


INT8_NAME = f"{DEFAULT_MODEL}_int8"


@pytest.fixture
def vnni(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "cpu_has_int8", lambda: True)


@pytest.mark.usefixtures("vnni")
def test_int8_takes_the_int8_form_of_the_default() -> None:
    for model in ("default", DEFAULT_MODEL, INT8_NAME):
        predictor = load_predictor(model, precision="int8", threads=1)
        assert predictor.path.stem == predictor.card.name == INT8_NAME
        assert predictor.runtime.startswith("OpenVINOPredictor, int8 and ")
    assert load_predictor(INT8_NAME, threads=1).identity == predictor.identity


@pytest.mark.parametrize("precision", ["auto", "f32"])
def test_the_default_is_not_int8(precision: str) -> None:
    predictor = load_predictor("default", precision=precision, threads=1)
    assert predictor.path.stem == DEFAULT_MODEL
    assert predictor.card.quantisation == {}
    assert predictor.runtime == f"OpenVINOPredictor, {'f32' if precision == 'f32' else predictor.precision}"


@pytest.mark.usefixtures("vnni")
def test_both_forms_of_the_default_agree() -> None:
    """On an image that neither was made from; the card's own numbers come from others."""
    scene = make_scene(SceneConfig(height=256, width=256), 5)
    dates = scene.before[None], scene.after[None]
    exact, rounded = (load_predictor("default", precision=p, threads=1) for p in ("f32", "int8"))
    gap = np.abs(exact.predict(*dates) - rounded.predict(*dates))
    assert 0 < gap.mean() < 0.01
    assert exact.card.threshold == rounded.card.threshold
    assert exact.card.licence == rounded.card.licence


def test_precisions_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match=r"there is no precision 'f64'; give one of auto, f32, bf16, int8"):
        load_predictor("default", precision="f64")
    with pytest.raises(ModelError, match=r"_int8.onnx is an int8 model; leave --precision out, or give the one that"):
        load_predictor(INT8_NAME, precision="f32", threads=1)
    copy = tmp_path / "m.onnx"
    copy.write_bytes(shipped_models()[DEFAULT_MODEL].read_bytes())
    with pytest.raises(ModelError, match=r"m.onnx is no int8 model; make one with `terradelta export .* --int8 DATA"):
        load_predictor(str(copy), precision="int8", threads=1)
    with pytest.raises(ModelError, match=r"is no int8 model; make one with"):
        load_predictor(str(tmp_path), precision="int8")
    monkeypatch.setattr(openvino, "cpu_has_bf16", lambda: False)
    with pytest.raises(ModelError, match=r"this CPU has no bfloat16; leave --precision out, or give f32"):
        load_predictor("default", precision="bf16")


def test_a_cpu_without_instructions_for_int8_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "cpu_has_int8", lambda: False)
    with pytest.warns(PrecisionWarning, match=r"is an int8 model, and this CPU has no instructions for it"):
        load_predictor("default", precision="int8", threads=1)
    monkeypatch.setattr(openvino, "cpu_has_int8", lambda: None)
    load_predictor("default", precision="int8", threads=1)  # unknown: no warning


def test_instructions_are_read_from_the_system(tmp_path: Path) -> None:
    texts = {"flags\t: fpu avx512_vnni": True, "flags : fpu avx2": False, "Features : fp asimddp": True, "x": None}
    for i, (text, expected) in enumerate(texts.items()):
        (tmp_path / str(i)).write_text(f"processor : 0\n{text}\n")
        assert openvino.cpu_has_int8(tmp_path / str(i)) is expected
    assert openvino.cpu_has_int8(tmp_path / "none") is None


def test_a_run_in_bfloat16(tmp_path: Path) -> None:
    card = ModelCard("w", "mlla_sianet", ("r", "g", "b"), (0, 0, 0), (1, 1, 1))
    save_network(create_model("mlla_sianet"), card, tmp_path / "best.ckpt")
    assert load_predictor(str(tmp_path), precision="bf16", threads=1).identity.endswith(" bf16")
    assert load_predictor(str(tmp_path), precision="f32", threads=1).identity.endswith(" f32")


def test_names_stand_for_files():
    for name, path in shipped_models().items():
        assert find_model(name) == path
    assert find_model("somewhere/x.onnx") == Path("somewhere/x.onnx")
