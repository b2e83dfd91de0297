import sys
from pathlib import Path

import pytest

from terradelta.card import ModelCard
from terradelta.errors import MissingExtraError, ModelError
from terradelta.networks import create_model
from terradelta.networks.checkpoint import save_network
from terradelta.runtime.torch import TorchPredictor
from terradelta.runtime.weights import load_predictor, shipped_models


def test_shipped_models_are_onnx_files_under_their_names() -> None:
    for name, path in shipped_models().items():
        assert path.is_file()
        assert path.name == f"{name}.onnx"


def test_no_such_model(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"there is no model 'atlas'; give one of default.*, an .onnx file, or the fol"
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
    monkeypatch.setitem(sys.modules, "terradelta.runtime.torch", None)
    with pytest.raises(MissingExtraError, match=r"is a training run, which needs .*pip install 'terradelta\[train\]'"):
        load_predictor(str(tmp_path))
