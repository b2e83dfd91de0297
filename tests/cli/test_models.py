"""`terradelta models fetch` and `push`, and fetched models in other commands."""

import hashlib
import json
import sys
from pathlib import Path

import pytest
from tests.conftest import COMMIT, Hub

from terradelta.predict.load import shipped_models

from .test_cli import pair, run

__all__ = ["pair", "run"]  # fixtures

NAME = "hf:someone/houses"


def test_what_is_pushed_can_be_fetched_and_maps(run, pair, hub: Hub, tmp_path: Path) -> None:
    code, _, err = run("models", "push", "default", tmp_path / "folder")
    assert code == 0, err
    assert "README.md, SHA256SUMS, config.json, model.onnx, model.safetensors" in err
    assert f"hf upload OWNER/REPO {tmp_path / 'folder'} ." in err
    hub.add("someone/houses", {path.name: path.read_bytes() for path in (tmp_path / "folder").iterdir()}, sums=False)
    code, out, err = run("models", "fetch", NAME)
    assert code == 0, err
    sha256 = hashlib.sha256(shipped_models()["buildings"].read_bytes()).hexdigest()
    assert f"{NAME} at {COMMIT}: The model buildings finds buildings that appeared or disappeared" in err
    assert "Licence: Non-commercial" in err
    assert f"SHA-256 of model.onnx: {sha256}" in err
    assert all(Path(line).is_file() for line in out.splitlines())
    hub.close()
    code, _, err = run("map", *pair, "--model", NAME, "-o", tmp_path / "out")
    assert code == 0, err
    receipt = json.loads((tmp_path / "out" / "receipt.json").read_text())
    assert receipt["model"]["origin"] == {"source": NAME, "revision": COMMIT, "sha256": sha256}
    assert COMMIT in (tmp_path / "out" / "report.html").read_text()
    code, out, err = run("models", NAME)
    assert code == 0, err
    assert f"revision: {COMMIT}" in out
    assert run("data", "synth", tmp_path / "d", "--train", 1, "--val", 1, "--test", 2, "--side", 64)[0] == 0
    code, _, err = run("evaluate", NAME, "--data", tmp_path / "d", "-o", tmp_path / "scores.json")
    assert code == 0, err
    assert json.loads((tmp_path / "scores.json").read_text())["origin"]["sha256"] == sha256
    code, _, err = run("export", NAME, "-o", tmp_path / "copy.onnx")
    assert code == 0, err
    assert (tmp_path / "copy.onnx").is_file()
    code, _, err = run("export", NAME, "-o", tmp_path / "copy.safetensors")
    assert code == 0, err


def test_a_run_is_pushed_with_both_forms(run, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from terradelta.card import ModelCard
    from terradelta.lab.networks import create_model
    from terradelta.lab.networks.checkpoint import save_network

    card = ModelCard("w", "fc_ef", ("r", "g", "b"), (0, 0, 0), (1, 1, 1))
    (tmp_path / "run").mkdir()
    save_network(create_model("fc_ef"), card, tmp_path / "run" / "best.ckpt")
    code, _, err = run("models", "push", tmp_path / "run", tmp_path / "folder")
    assert code == 0, err
    assert (tmp_path / "folder" / "model.onnx").is_file()
    assert (tmp_path / "folder" / "model.safetensors").is_file()


def test_what_ships_needs_no_fetching(run, hub: Hub) -> None:
    code, _, err = run("models", "fetch", "default")
    assert code == 0
    assert "default ships with terradelta" in err
    code, _, err = run("models", "fetch", "roads")
    assert code == 2
    assert "'roads' is no model to fetch; give hf:OWNER/REPO or a URL. default, buildings" in err
    assert hub.requests == []


def test_a_folder_that_is_there_is_not_overwritten(run, tmp_path: Path) -> None:
    code, _, err = run("models", "push", "default", tmp_path)
    assert code == 2
    assert "is there already; nothing was overwritten" in err
    assert list(tmp_path.iterdir()) == []


def test_control_characters_of_a_server_do_not_reach_the_terminal(run, hub: Hub) -> None:
    code, _, err = run("models", "fetch", "hf:a/b@x\x1b[31m")
    assert code == 2
    assert "\x1b[31m" not in err


def test_without_torch_the_name_of_a_network_leads_to_its_extra(run, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "terradelta.lab.networks", None)
    code, _, err = run("models", "mccrnet")
    assert code == 2
    assert "there is no model 'mccrnet'" in err
    assert "If mccrnet is a network, its card needs the optional dependencies [train]; run: pip install -c" in err
    code, _, err = run("models", tmp_path / "gone.onnx")
    assert code == 2
    assert "[train]" not in err
    code, out, _ = run("models")
    assert code == 0
    assert any(line.startswith("pip install -c ") and line.rstrip().endswith("[train]'") for line in out.splitlines())
