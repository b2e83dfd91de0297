"""The average of runs."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from terradelta.errors import ModelError
from terradelta.lab.networks import create_model
from terradelta.lab.networks.checkpoint import load_network, save_network
from terradelta.lab.training.average import average
from terradelta.lab.training.start import begun, start_source

Child = Callable[..., Path]


@pytest.fixture
def child(small: Path, tmp_path: Path) -> Child:
    """Write a run whose weights are those of its parent plus a step, and whose card says where it began."""

    def write(name: str, step: float, parent: Path | None = small, **card_values: object) -> Path:
        network, card = load_network(small)
        origin = {} if parent is None else begun(parent, load_network(parent)[1])
        for value in network.state_dict().values():
            value.add_(round(step))
        (tmp_path / name).mkdir()
        changed = card.replace(training={"seed": step, **origin}, scores=({"metrics": {}},), **card_values)
        save_network(network, changed, tmp_path / name / "best.ckpt")
        return tmp_path / name

    return write


def test_weights_statistics_and_thresholds_are_the_means(small: Path, child: Child) -> None:
    runs = [small, child("a", 1, threshold=0.3), child("b", 5, threshold=0.6)]
    network, card = average(runs)
    for name, value in load_network(small)[0].state_dict().items():
        expected = value + 5 if not value.is_floating_point() else value + 2
        torch.testing.assert_close(network.state_dict()[name], expected)
    assert card.threshold == pytest.approx((load_network(small)[1].threshold + 0.9) / 3)
    assert card.scores == ()
    assert card.training["average_of"] == [start_source(path, load_network(path)[1]) for path in runs]
    assert not network.training


def test_runs_are_kin_if_one_weight_is_before_both_or_one_before_the_other(small: Path, child: Child) -> None:
    first = child("first", 1)
    grandchild = child("grandchild", 2, first)
    average([first, child("second", 3)])
    average([grandchild, small])
    network, card = load_network(grandchild)  # older cards name nothing but the start
    save_network(network, card.replace(training={"start": card.training["start"]}), grandchild / "best.ckpt")
    average([grandchild, small, first])  # the first of them is bound to the second by the third alone
    with pytest.raises(ModelError, match=f"{small} began from other weights than {grandchild} did"):
        average([grandchild, small])
    unrelated = child("unrelated", 7, None)
    cousin = child("cousin", 4, unrelated)
    average([cousin, unrelated])
    for runs in ([first, unrelated], [unrelated, first], [grandchild, cousin]):
        with pytest.raises(ModelError, match=f"{runs[1]} began from other weights than {runs[0]} did"):
            average(runs)


def test_a_run_is_kin_of_those_whose_average_it_went_on_from(child: Child, tmp_path: Path) -> None:
    first, second = child("first", 1), child("second", 3)
    (tmp_path / "mean").mkdir()
    save_network(*average([first, second]), tmp_path / "mean" / "best.ckpt")
    third = child("third", 5, tmp_path / "mean")
    _, card = average([second, third])
    assert {start_source(path, load_network(path)[1]) for path in (first, second)} < set(card.training["forebears"])
    average([child("fourth", 6, third), first])


def test_what_cannot_be_averaged(small: Path, child: Child, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="1 run cannot be averaged"):
        average([small])
    with pytest.raises(ModelError, match=r"has mean \(0\.1, 0\.1, 0\.1\), .* has \(0\.4, 0\.4, 0\.4\)"):
        average([child("other", 1, mean=(0.1,) * 3), small])
    wide = create_model("small", width=8)
    card = load_network(small)[1].replace(network_args={"width": 8})
    save_network(wide, card, tmp_path / "wide.ckpt")
    with pytest.raises(ModelError, match="has network_args"):
        average([tmp_path / "wide.ckpt", small])
    with pytest.raises(ModelError, match="there is no checkpoint"):
        average([small, tmp_path])
