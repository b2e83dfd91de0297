"""The folder for a hub: what it holds, and that nothing in a card breaks its metadata."""

import hashlib
import json
from pathlib import Path

import pytest
import yaml

from terradelta.card import ModelCard
from terradelta.errors import OutputError, OutputExistsError
from terradelta.predict.hub_folder import hub_readme, write_hub_folder
from terradelta.predict.load import load_predictor

CARD = ModelCard("roads", "net", ("red", "green"), (0.5,) * 2, (0.25,) * 2, finds="new roads", licence="CC BY 4.0")


def head(readme: str) -> dict[str, object]:
    empty, metadata, _ = readme.split("---\n", 2)
    assert empty == ""
    return dict(yaml.safe_load(metadata))


def test_the_folder_holds_weights_card_and_sums(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"onnx")
    (tmp_path / "a.safetensors").write_bytes(b"layers")
    names = write_hub_folder(tmp_path / "a.onnx", CARD, tmp_path / "new" / "hub", tmp_path / "a.safetensors")
    folder = tmp_path / "new" / "hub"
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    assert sorted(names) == ["README.md", "SHA256SUMS", "config.json", "model.onnx", "model.safetensors"]
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert ModelCard.from_json((folder / "config.json").read_text()) == CARD
    assert [path.name for path in folder.parent.iterdir()] == ["hub"]
    with pytest.raises(OutputExistsError, match="hub is there already; nothing was overwritten"):
        write_hub_folder(tmp_path / "a.onnx", CARD, folder)


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="hub cannot be written"):
        write_hub_folder(tmp_path / "none.onnx", CARD, tmp_path / "hub")
    assert list(tmp_path.iterdir()) == []


def test_metadata_of_the_shipped_weights() -> None:
    card = load_predictor("default", threads=1).card
    fields = head(hub_readme(card))
    assert fields["license"] == "other"
    assert fields["library_name"] == "terradelta"
    (entry,) = fields["model-index"]  # type: ignore[misc]
    f1 = [m["value"] for r in entry["results"] for m in r["metrics"] if m["type"] == "f1"]
    assert f1 == [score["metrics"]["f1"] for score in card.scores]
    assert f"| licence | {card.licence} |" in hub_readme(card)


def test_words_of_a_card_are_no_markup() -> None:
    evil = '---\nlicense: mit\n---\n<script>alert("x")</script> | a | `b`'
    card = CARD.replace(name=evil, network=evil, licence=evil, data=evil, scores=({"data": evil, "split": "val"},))
    fields = head(hub_readme(card, with_safetensors=True))
    assert fields["license"] == "other"
    assert fields["tags"][-1] == evil  # type: ignore[index]
    body = hub_readme(card).split("---\n\n", 1)[1]
    assert "<script>" not in body
    assert json.dumps(evil) not in body
    assert r"&lt;/script&gt; \| a \| 'b' |" in body
