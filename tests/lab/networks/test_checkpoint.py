from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from terradelta.card import CARD_KEY, ModelCard
from terradelta.errors import ModelError, OutputError
from terradelta.lab.networks import create_model, list_models
from terradelta.lab.networks.checkpoint import load_checkpoint, load_network, save_checkpoint, save_safetensors

CARD = ModelCard("w", "mlla_sianet", ("r", "g", "b"), (0, 0, 0), (1, 1, 1))


class Harmful:
    """Unpickling it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_round_trip_of_tensors_and_plain_values(tmp_path: Path) -> None:
    state = {"a": torch.arange(3), "b": {"c": [1, 2.5, "x", None, True]}}
    save_checkpoint(state, tmp_path / "x.ckpt")
    read = load_checkpoint(tmp_path / "x.ckpt")
    assert torch.equal(read["a"], state["a"])
    assert read["b"] == state["b"]
    assert [p.name for p in tmp_path.iterdir()] == ["x.ckpt"]


def test_a_failed_write_keeps_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.ckpt"
    save_checkpoint({"a": 1}, path)

    def full(state: object, stream: object) -> None:
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(
        OutputError, match=r"x.ckpt cannot be written \(No space left.*\); .*checkpoint that was there is unt"
    ):
        save_checkpoint({"a": 2}, path)
    assert load_checkpoint(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.ckpt"]


def test_a_place_that_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match=r"file/x.ckpt cannot be written \(.*Not a directory"):
        save_checkpoint({"a": 1}, tmp_path / "file" / "x.ckpt")


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"there is no checkpoint .*x.ckpt; a run folder holds best.ckpt after"):
        load_checkpoint(tmp_path / "x.ckpt")
    (tmp_path / "x.ckpt").write_bytes(b"PK\x03\x04 no zip")
    with pytest.raises(ModelError, match=r"x.ckpt is not a checkpoint of terradelta"):
        load_checkpoint(tmp_path / "x.ckpt")
    torch.save(torch.ones(2), tmp_path / "x.ckpt")
    with pytest.raises(ModelError, match=r"is not a checkpoint of terradelta \(it holds a Tensor\)"):
        load_checkpoint(tmp_path / "x.ckpt")


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    torch.save({"weights": Harmful(tmp_path / "made")}, tmp_path / "x.ckpt")
    with pytest.raises(ModelError, match="is not a checkpoint of terradelta"):
        load_checkpoint(tmp_path / "x.ckpt")
    assert not (tmp_path / "made").exists()


def test_a_checkpoint_without_card_or_of_another_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    weights = create_model("mlla_sianet").state_dict()
    save_checkpoint({"weights": weights}, path)
    with pytest.raises(ModelError, match="has no model card; only checkpoints written by `terradelta train`"):
        load_network(path)
    save_checkpoint({"weights": weights, CARD_KEY: CARD.replace(network_args={"dsp": False}).to_json()}, path)
    with pytest.raises(ModelError, match="the weights do not fit network 'mlla_sianet'"):
        load_network(path)
    save_checkpoint({"weights": weights, CARD_KEY: CARD.replace(network="unet").to_json()}, path)
    with pytest.raises(ModelError, match="there is no network 'unet'"):
        load_network(path)


def test_safetensors_hold_kernels_in_float16_and_the_card(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = create_model("fc_siam_diff")
    card = ModelCard("w", "fc_siam_diff", ("r", "g", "b"), (0, 0, 0), (1, 1, 1), threshold=0.25)
    path = tmp_path / "x.safetensors"
    save_safetensors(network, card, path)
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode  # others may read it
    (tmp_path / "plain").unlink()
    read, found = load_network(path)
    assert found == card
    assert not read.training
    for name, value in network.state_dict().items():
        kept = read.state_dict()[name]
        assert kept.dtype == value.dtype
        torch.testing.assert_close(kept, value.half().float() if value.ndim > 1 else value, rtol=0, atol=0)
    assert [file.name for file in tmp_path.iterdir()] == ["x.safetensors"]


def test_safetensors_that_cannot_be_used(tmp_path: Path) -> None:
    bare, damaged, missing = (tmp_path / f"{name}.safetensors" for name in ("bare", "damaged", "missing"))
    save_file({"a": torch.zeros(1)}, bare)
    damaged.write_bytes(b"\xff" * 100)
    for path, words in ((bare, "has no model card; export it with"), (damaged, "cannot be read as safetensors")):
        with pytest.raises(ModelError, match=f"{path.name} {words}"):
            load_network(path)
    with pytest.raises(ModelError, match=r"missing.safetensors cannot be read as safetensors \(No such file"):
        load_network(missing)


def test_a_card_that_asks_for_more_than_the_file_holds_takes_no_memory(tmp_path: Path) -> None:
    """Hundreds of gigabytes, of which not a byte is taken."""
    small = create_model("fc_siam_diff")
    huge = ModelCard("w", "fc_siam_diff", ("r", "g", "b"), (0, 0, 0), (1, 1, 1), network_args={"in_channels": 10**9})
    save_checkpoint({"weights": small.state_dict(), CARD_KEY: huge.to_json()}, tmp_path / "x.ckpt")
    with pytest.raises(
        ModelError, match=r"with the arguments of its card: .* is \(16, 3, 3, 3\), not \(16, 1000000000, 3, 3\)"
    ):
        load_network(tmp_path / "x.ckpt")


@pytest.mark.parametrize("name", list_models())
def test_shapes_of_every_network_are_known_without_memory(name: str) -> None:
    with torch.device("meta"):
        wanted = create_model(name).state_dict()
    assert {key: value.shape for key, value in wanted.items()} == {
        key: value.shape for key, value in create_model(name).state_dict().items()
    }
