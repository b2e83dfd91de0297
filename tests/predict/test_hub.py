"""Models of a hub and behind URLs: fetched once, checked, used without a network; nothing half fetched is used."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import platformdirs
import pytest
from tests.conftest import COMMIT, Hub

from terradelta.card import ModelCard
from terradelta.errors import ModelError, OutputError
from terradelta.predict import hub as module
from terradelta.predict.hub import cache_folder, cached_models, fetch, obtain
from terradelta.predict.load import find_checkpoint, find_model, load_predictor, shipped_models

ONNX = b"weights, as far as the cache is concerned"
SUM = hashlib.sha256(ONNX).hexdigest()
NAME = "hf:someone/roads"


def kept() -> list[str]:
    """Files in the cache but for the locks."""
    folder = cache_folder()
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.name != "lock")


def test_a_model_is_fetched_once_and_then_used_without_a_network(hub: Hub) -> None:
    hub.add("someone/roads", {"model.onnx": ONNX, "model.safetensors": b"layers", "README.md": b"words"})
    fetched = obtain(NAME)
    assert (fetched.source, fetched.revision) == (NAME, COMMIT)
    assert fetched.file(".onnx").read_bytes() == ONNX
    assert fetched.file(".safetensors").read_bytes() == b"layers"
    assert fetched.origin(fetched.file(".onnx")) == {"source": NAME, "revision": COMMIT, "sha256": SUM}
    assert kept() == ["model.onnx", "model.safetensors", "source.json"]
    hub.close()
    assert obtain(NAME) == fetched
    assert obtain(f"{NAME}@main") == obtain(f"{NAME}#sha256={SUM.upper()}") == fetched
    assert find_model(NAME) == fetched.folder / "model.onnx"
    assert find_checkpoint(NAME) == fetched.folder / "model.safetensors"
    assert cached_models() == [fetched]


def test_fetching_again_takes_the_newest_and_the_old_one_goes(hub: Hub) -> None:
    hub.add("someone/roads", {"model.onnx": b"old"})
    old = fetch(NAME)
    hub.add("someone/roads", {"model.onnx": ONNX}, commit="f" * 40)
    assert obtain(NAME) == old
    new = fetch(NAME)
    assert (new.revision, new.sha256["model.onnx"]) == ("f" * 40, SUM)
    assert obtain(NAME) == new
    assert not old.folder.exists()
    assert obtain(f"{NAME}@{COMMIT}").file(".onnx").read_bytes() == b"old"


def test_a_repository_without_sums_is_taken_as_it_comes(hub: Hub) -> None:
    hub.add("someone/roads", {"model.onnx": ONNX}, sums=False)
    assert obtain(NAME).sha256 == {"model.onnx": SUM}
    with pytest.raises(ModelError, match=r"hf:someone/roads has no model.safetensors, which this needs; it has model"):
        find_checkpoint(NAME)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("SHA256SUMS", f"{'0' * 64}  model.onnx\n".encode(), r"the SHA-256 of model.onnx is not 0{64}: it was damaged"),
        (
            "SHA256SUMS",
            f"{SUM}  other.onnx\n".encode(),
            "its SHA256SUMS names neither model.onnx nor model.safetensors",
        ),
    ],
)
def test_what_differs_from_its_sums_is_not_kept(hub: Hub, name: str, content: bytes, words: str) -> None:
    hub.add("someone/roads", {"model.onnx": ONNX})
    (hub.folder / "someone" / "roads" / "resolve" / COMMIT / name).write_bytes(content)
    with pytest.raises(ModelError, match=words):
        obtain(NAME)
    assert kept() == []


def test_what_differs_from_the_sum_that_the_user_gave_is_not_kept(hub: Hub) -> None:
    hub.add("someone/roads", {"model.onnx": ONNX})
    known = obtain(NAME)
    wrong = f"{NAME}#sha256={'1' * 64}"
    with pytest.raises(ModelError, match=rf"the SHA-256 is {SUM} \(model.onnx\), not 1{{64}} as was asked for"):
        obtain(wrong)
    assert obtain(NAME) == known


def test_a_file_that_was_changed_in_the_cache_is_not_used(hub: Hub) -> None:
    hub.add("someone/roads", {"model.onnx": ONNX})
    file = obtain(NAME).file(".onnx")
    file.write_bytes(b"changed")
    for _ in range(2):  # changed, then gone
        with pytest.raises(ModelError, match=r"is not what was fetched .* run `terradelta models fetch`"):
            find_model(NAME)
        file.unlink(missing_ok=True)
    fetch(NAME)
    assert find_model(NAME).read_bytes() == ONNX


def test_without_a_network_the_message_says_what_there_is(hub: Hub) -> None:
    hub.add("someone/roads", {"model.onnx": ONNX})
    fetch(NAME)
    hub.close()
    words = r"hf:a/b@main cannot be fetched \(ConnectionError: 127.0.0.1:\d+\), and it is not in the cache .*, which "
    with pytest.raises(ModelError, match=words + r"holds hf:someone/roads. Run `terradelta models fetch` where there"):
        obtain("hf:a/b")
    with pytest.raises(ModelError, match=r"; the cache holds it as of 20.*, which --model takes without a network"):
        fetch(NAME)


def test_a_broken_connection_leaves_nothing(hub: Hub) -> None:
    hub.add("someone/roads", {"model.onnx": ONNX}, sums=False)
    hub.held_back = 5
    with pytest.raises(ModelError, match=r"cannot be fetched \(ChunkedEncodingError|cannot be fetched \(ConnectionErr"):
        obtain(NAME)
    assert kept() == []


def test_urls(hub: Hub) -> None:
    (hub.folder / "roads.onnx").write_bytes(ONNX)
    url = hub.url("roads.onnx")
    assert obtain(url).origin(obtain(url).file(".onnx")) == {"source": url, "sha256": SUM}
    assert hub.asked("roads.onnx") == 1
    assert find_model(url.replace("://", ":/")) == find_model(url)  # as pathlib shortens it
    with pytest.raises(ModelError, match=r"the SHA-256 of model.onnx is not 1{64}: it was damaged on the way"):
        obtain(f"{url}#sha256={'1' * 64}")


def test_a_signature_is_neither_shown_nor_kept(hub: Hub) -> None:
    hub.token = "signature=secret"
    (hub.folder / "roads.onnx").write_bytes(ONNX)
    fetched = obtain(hub.url("roads.onnx?signature=secret"))
    assert fetched.source == hub.url("roads.onnx")
    with pytest.raises(ModelError, match=r"roads.onnx: the server answered 403: there is no such model") as refused:
        obtain(hub.url("roads.onnx?signature=guessed"))
    assert "guessed" not in str(refused.value)
    assert not any("secret" in path.read_text(errors="replace") for path in cache_folder().rglob("*.json"))


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://example.org/model.onnx", "http://example.org/model.onnx"]
)
def test_redirects_lead_to_https_only(hub: Hub, target: str) -> None:
    hub.add("someone/roads", {"model.onnx": ONNX})
    hub.moved[f"/someone/roads/resolve/{COMMIT}/model.onnx"] = target
    with pytest.raises(ModelError, match=r"models are fetched by https only|cannot be fetched \(InvalidSchema"):
        obtain(NAME)
    assert kept() == []


def test_a_token_goes_to_the_hub_and_no_further(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.add("someone/roads", {"model.onnx": ONNX})
    (tmp_path / "elsewhere").mkdir()
    store = Hub(tmp_path / "elsewhere")
    (store.folder / "blob").write_bytes(ONNX)
    hub.moved[f"/someone/roads/resolve/{COMMIT}/model.onnx"] = store.url("blob")
    assert obtain(NAME).sha256["model.onnx"] == SUM
    assert set(hub.tokens) == {"Bearer hf_secret"}
    assert store.tokens == [None]
    (store.folder / "x.onnx").write_bytes(ONNX)
    obtain(store.url("x.onnx"))
    assert store.tokens == [None, None]  # a URL is no hub
    store.close()


@pytest.mark.parametrize("announced", [True, False])
def test_what_is_larger_than_a_model_is_refused(hub: Hub, monkeypatch: pytest.MonkeyPatch, announced: bool) -> None:
    (hub.folder / "x.onnx").write_bytes(bytes(2000))
    hub.no_length = not announced
    monkeypatch.setattr(module, "MOST_BYTES", 1000)
    with pytest.raises(ModelError, match="the server sends more than 1,000 bytes, which no model has"):
        obtain(hub.url("x.onnx"))
    assert kept() == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("hf:roads", "is no model of a hub; write hf:OWNER/REPO"),
        ("hf:a/../b", "is no model of a hub"),
        ("hf:a/b@../../c", "is no model of a hub"),
        ("hf:a/b#sha256=12", "is no model of a hub"),
        ("http://example.org/x.onnx", "models are fetched by https only"),
        ("http://localhost:1@example.org/x.onnx", "https://|by https only"),
        ("https://example.org/x.zip", "the path of a model's URL ends in .onnx or .safetensors"),
        ("https://example.org/x.onnx#md5=1", "the path of a model's URL ends in"),
    ],
)
def test_names_that_are_none(hub: Hub, name: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        find_model(name)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "answered 401: there is no such model, or it asks for a login.*HF_TOKEN"),
        (404, "has no such model or revision; check the name"),
        (500, "the server answered 500 .*; try again later"),
    ],
)
def test_a_hub_that_refuses(hub: Hub, status: int, words: str) -> None:
    hub.statuses["/api/models/a/b/revision/main"] = status
    with pytest.raises(ModelError, match=words):
        obtain("hf:a/b")


@pytest.mark.parametrize("answer", ["", "[]", '{"sha": 5}', '{"sha": "../.."}', "<html>"])
def test_a_server_that_is_no_hub(hub: Hub, answer: str) -> None:
    hub.add("someone/roads", {"model.onnx": ONNX})
    (hub.folder / "api/models/someone/roads/revision/main").write_text(answer)
    with pytest.raises(ModelError, match="has no such model, or answers as no hub does"):
        obtain(NAME)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"folder": "../..", "source": "", "revision": "", "fetched": ""}'])
def test_a_damaged_note_in_the_cache_counts_as_nothing(hub: Hub, text: str) -> None:
    hub.add("someone/roads", {"model.onnx": ONNX})
    note = fetch(NAME).folder.parent / "source.json"
    fields = json.loads(text or "0")
    note.write_text(
        json.dumps({**fields, "sha256": {"model.onnx": SUM}}) if fields and isinstance(fields, dict) else text
    )
    assert cached_models() == []
    assert obtain(NAME).file(".onnx").read_bytes() == ONNX


def test_many_at_once_fetch_once(hub: Hub) -> None:
    hub.add("someone/roads", {"model.onnx": ONNX})
    with ThreadPoolExecutor(4) as threads:
        assert len(set(map(str, threads.map(obtain, [NAME] * 4)))) == 1
    assert hub.asked("model.onnx") == 1


def test_a_cache_that_cannot_be_written(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TERRADELTA_HOME", str(tmp_path / "file"))
    with pytest.raises(OutputError, match=r"cannot be written .*; set TERRADELTA_HOME to a folder that can be"):
        obtain(NAME)


def test_the_cache_is_the_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TERRADELTA_HOME", raising=False)
    assert cache_folder() == Path(platformdirs.user_cache_dir("terradelta", appauthor=False))


def test_a_fetched_model_runs_and_its_card_says_where_from(hub: Hub) -> None:
    content = shipped_models()["buildings"].read_bytes()
    hub.add("someone/roads", {"model.onnx": content})
    card = load_predictor(NAME, threads=1).card
    sha256 = hashlib.sha256(content).hexdigest()
    assert card.origin == {"source": NAME, "revision": COMMIT, "sha256": sha256}
    assert card.replace(origin=None) == load_predictor("buildings", threads=1).card


def test_where_a_file_says_that_it_came_from_does_not_count() -> None:
    card = ModelCard("x", "net", ("red",), (0.5,), (0.25,), origin={"source": "hf:someone/trusted"})
    assert "origin" not in card.to_json()
    claimed = json.dumps({**json.loads(card.to_json()), "origin": {"source": "hf:someone/trusted"}})
    assert ModelCard.from_json(claimed).origin is None
