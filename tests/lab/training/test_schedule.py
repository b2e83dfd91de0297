"""Learning rates against torch's own schedulers and formulas; what the optimisers are given."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim import lr_scheduler

from terradelta.errors import InputError
from terradelta.lab.networks import create_model
from terradelta.lab.training.config import Optimiser, Recipe, Schedule
from terradelta.lab.training.schedule import freeze, learning_rate, make_optimiser, plateaus

RECIPE = Recipe("x", lr=0.5, final_lr=0.1, warmup_steps=0, steps=100)


def _rates(schedule: Schedule, **changes: float) -> list[float]:
    recipe = replace(RECIPE, schedule=schedule, **changes)
    return [learning_rate(recipe, step) for step in range(recipe.steps)]


def _torchs(make, steps: int = 100) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    scheduler, rates = make(optimizer), []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_the_learning_rate_rises_then_falls_as_a_cosine() -> None:
    rates = _rates(Schedule(), lr=1.0, warmup_steps=4, steps=104)
    assert rates[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert rates[4] == 1
    assert rates[54] == pytest.approx(0.55)
    assert rates[-1] == pytest.approx(0.1, abs=1e-3)
    assert rates[4:] == sorted(rates[4:], reverse=True)


def test_cosine_is_torchs() -> None:
    expected = _torchs(lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=100, eta_min=0.05))
    assert _rates(Schedule()) == pytest.approx(expected)


def test_cosine_waves_fall_for_half_the_run_and_rise_for_the_other_half() -> None:
    """MCCRNet: 50 epochs down, 50 up; torch's CosineAnnealingLR does that beyond T_max."""
    rates = _rates(Schedule("cosine_waves", period=0.5), final_lr=0.0)
    assert rates == pytest.approx(_torchs(lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=50)), abs=1e-9)
    assert rates[50] == pytest.approx(0, abs=1e-12)
    assert rates[25] == pytest.approx(0.25) == pytest.approx(rates[75])
    assert rates[:51] == sorted(rates[:51], reverse=True)
    assert rates[50:] == sorted(rates[50:])


def test_linear_holds_then_falls_straight() -> None:
    """STANet: 100 epochs at the full rate, 100 down."""
    rates = _rates(Schedule("linear", hold=0.5), final_lr=0.0)
    assert rates[:51] == [0.5] * 51
    assert np.diff(rates[50:]) == pytest.approx(np.full(49, -0.01))
    assert _rates(Schedule("linear"))[-1] == pytest.approx(0.5 * (0.1 + 0.9 * 0.01))


@pytest.mark.parametrize(("period", "every"), [(8 / 100, 8), (0.07, 7), (0.01, 1)])
def test_steps_are_torchs_stairs(period: float, every: int) -> None:
    rates = _rates(Schedule("step", factor=0.5, period=period))
    assert rates == pytest.approx(_torchs(lambda o: lr_scheduler.StepLR(o, every, 0.5)), rel=1e-9)


@given(st.integers(1, 60), st.integers(1, 40))
def test_stairs_fall_at_the_epochs_for_any_length(epochs: int, steps_of_epoch: int) -> None:
    recipe = replace(RECIPE, steps=epochs * steps_of_epoch, lr=1.0, schedule=Schedule("step", 1 / epochs, factor=0.9))
    for epoch in range(epochs):
        for step in (epoch * steps_of_epoch, (epoch + 1) * steps_of_epoch - 1):
            assert learning_rate(recipe, step) == pytest.approx(0.9**epoch)


def test_exponential_is_stairs_without_edges() -> None:
    smooth = _rates(Schedule("exponential", factor=0.5, period=0.1))
    stairs = _rates(Schedule("step", factor=0.5, period=0.1))
    assert smooth[::10] == pytest.approx(stairs[::10])
    assert np.diff(np.log(smooth)) == pytest.approx(np.full(99, math.log(0.5) / 10))


def test_constant_stays() -> None:
    assert set(_rates(Schedule("constant"))) == {0.5}


@given(st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4]), max_size=40), st.integers(0, 4))
def test_plateaus_are_those_that_torch_sees(scores: list[float], patience: int) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, "max", 0.5, patience, threshold=0.0, eps=0.0)
    for score in scores:
        scheduler.step(score)
    assert 0.5 ** plateaus(scores, patience) == optimizer.param_groups[0]["lr"]


def test_a_plateau_lowers_the_rate() -> None:
    recipe = replace(RECIPE, schedule=Schedule("plateau", factor=0.1, patience=1))
    assert learning_rate(recipe, 50) == 0.5
    assert learning_rate(recipe, 50, [0.5, 0.4]) == 0.5
    assert learning_rate(recipe, 50, [0.5, 0.4, 0.5]) == pytest.approx(0.05)
    assert learning_rate(recipe, 50, [0.5, 0.4, 0.5, 0.6, 0.1, 0.1]) == pytest.approx(0.005)


# ---- optimisers -----------------------------------------------------------------------------------------------------


def _network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 1, 1))


def test_weight_decay_is_for_kernels_only() -> None:
    network = _network()
    kernels, others = make_optimiser(network, replace(RECIPE, weight_decay=0.1)).param_groups
    assert kernels["weight_decay"] == 0.1
    assert others["weight_decay"] == 0
    assert {id(p) for p in kernels["params"]} == {id(network[0].weight), id(network[2].weight)}
    assert len(kernels["params"]) + len(others["params"]) == len(list(network.parameters()))


def test_weight_decay_on_all_as_plain_torch_does() -> None:
    network = _network()
    (group,) = make_optimiser(network, replace(RECIPE, optimiser=Optimiser(decay_all=True))).param_groups
    assert len(group["params"]) == len(list(network.parameters()))
    assert group["weight_decay"] == RECIPE.weight_decay


def test_frozen_weights_are_left_out() -> None:
    network = _network()
    network[0].requires_grad_(requires_grad=False)
    held = [p for group in make_optimiser(network, RECIPE).param_groups for p in group["params"]]
    assert len(held) == 4


@pytest.mark.parametrize(
    ("optimiser", "kind", "facts"),
    [
        (Optimiser(), torch.optim.AdamW, {"betas": (0.9, 0.999)}),
        (Optimiser("adam", betas=(0.5, 0.99)), torch.optim.Adam, {"betas": (0.5, 0.99)}),
        (Optimiser("sgd", momentum=0.99), torch.optim.SGD, {"momentum": 0.99}),
    ],
)
def test_each_kind_gets_its_arguments(optimiser: Optimiser, kind: type, facts: dict[str, object]) -> None:
    made = make_optimiser(_network(), replace(RECIPE, optimiser=optimiser))
    assert type(made) is kind
    assert all(made.defaults[name] == value for name, value in facts.items())
    assert made.defaults["lr"] == 0.5


def test_frozen_parts_keep_weights_and_statistics_and_the_encoder_has_a_rate_of_its_own() -> None:
    network = create_model("mlla_sianet_lite0")
    parts = ("encoder.conv_stem", "encoder.bn0", "encoder.blocks.0")
    freeze(network, parts)
    recipe = replace(RECIPE, network="mlla_sianet_lite0", weight_decay=0.1, encoder_lr=0.25)
    optimizer = make_optimiser(network, recipe)
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in network.named_parameters():
        assert (id(parameter) in held) == (not name.startswith(parts))
    shares = {group["share"] for group in optimizer.param_groups}
    assert shares == {1.0, 0.25}
    before = {name: value.clone() for name, value in network.state_dict().items()}
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    network(x, x.flip(3)).sum().backward()
    optimizer.step()
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert not any(name.startswith(parts) for name in changed)
    assert {"encoder.blocks.1.bn0.running_mean", "encoder.blocks.1.expand_conv.weight"} <= changed


def test_a_part_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match=r"Recipe.frozen names 'stem', which the network does not have; it has fus"):
        freeze(create_model("mlla_sianet_lite0"), ("stem",))


def test_batch_statistics_stay_and_their_gains_are_fitted() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Sequential(nn.BatchNorm2d(2)))
    freeze(network, (), statistics=True)
    before = {name: value.clone() for name, value in network.named_buffers()}
    network(torch.randn(4, 1, 5, 5)).sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in network.named_buffers())
    assert all(parameter.grad is not None for parameter in network.parameters())
    freeze(network, ())
    network.train()
    network(torch.randn(4, 1, 5, 5))
    assert not torch.equal(network[1].running_mean, before["1.running_mean"])
