"""Where a run begins."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from terradelta.errors import ModelError
from terradelta.lab.data import PairList
from terradelta.lab.networks import create_model
from terradelta.lab.networks.checkpoint import load_checkpoint, load_network, save_safetensors
from terradelta.lab.training.config import Recipe
from terradelta.lab.training.loop import fit
from terradelta.lab.training.start import start

RECIPE = Recipe("r", network="small", steps=1, batch_size=1, crop_px=32, lr=0.0, warmup_steps=0, precision="32-true")


def test_the_whole_network_starts_from_a_checkpoint_or_safetensors(small: Path, tmp_path: Path) -> None:
    given, card = load_network(small)
    save_safetensors(given, card, tmp_path / "parent.safetensors")
    for place in (small, tmp_path / "parent.safetensors"):
        network = create_model("small")
        start(network, replace(RECIPE, start=str(place)))
        for name, value in network.state_dict().items():
            torch.testing.assert_close(value, given.state_dict()[name], rtol=1e-3, atol=0)


def test_without_a_start_the_weights_stay_random(small: Path) -> None:
    network = create_model("small")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    start(network, RECIPE)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_weights_of_another_network_are_refused(small: Path) -> None:
    network = create_model("small", width=8)
    with pytest.raises(ModelError, match=r"is a small with arguments \{\}, and the recipe's network is small with"):
        start(network, replace(RECIPE, network_args={"width": 8}, start=str(small)))
    with pytest.raises(ModelError, match="there is no model 'nowhere'"):
        start(create_model("small"), replace(RECIPE, start="nowhere"))


@pytest.mark.filterwarnings("ignore::terradelta.lab.training.loop.CollapseWarning")
def test_a_run_starts_there_and_its_card_says_so(
    small: Path, squares: Callable[[str], PairList], tmp_path: Path
) -> None:
    """With a rate of 0 the weights are those that it started from; resumed, it does not look for them again."""
    recipe = replace(RECIPE, start=str(small), frozen_statistics=True)
    card = fit(recipe, squares("train"), squares("val"), tmp_path / "run", device="cpu")
    digest = hashlib.sha256((small / "best.ckpt" if small.is_dir() else small).read_bytes()).hexdigest()
    assert card.training["start"] == f"{load_network(small)[1].name} (SHA-256 {digest})"
    given = load_network(small)[0].state_dict()
    last = load_checkpoint(tmp_path / "run" / "last.ckpt")
    for name in ("network", "average"):
        assert all(torch.equal(value, given[key]) for key, value in last[name].items())
    small.unlink()
    fit(recipe, squares("train"), squares("val"), tmp_path / "run", device="cpu", resume=True)
