"""The learning rate of a step, and the optimiser that uses it: both from the recipe alone, so that they resume."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from terradelta.errors import InputError
from terradelta.lab.training.config import Recipe

__all__ = ["freeze", "learning_rate", "make_optimiser", "plateaus"]


def learning_rate(recipe: Recipe, step: int, val_f1s: Sequence[float] = ()) -> float:
    """The rate of one step.

    Args:
        recipe: gives ``lr``, ``final_lr``, ``warmup_steps``, ``steps`` and the schedule.
        step: from 0.
        val_f1s: validation F1 of every evaluation before this step; only a ``plateau`` looks at it.
    """
    if step < recipe.warmup_steps:
        return recipe.lr * (step + 1) / recipe.warmup_steps
    schedule = recipe.schedule
    share = (step - recipe.warmup_steps) / max(recipe.steps - recipe.warmup_steps, 1)
    waves = share / schedule.period
    # A step that ends a period exactly must not fall before it by rounding.
    whole = math.floor(waves + 1e-9)
    gains: dict[str, Callable[[], float]] = {
        "cosine": lambda: _above(recipe.final_lr, 0.5 * (1 + math.cos(math.pi * share))),
        "cosine_waves": lambda: _above(recipe.final_lr, 0.5 * (1 + math.cos(math.pi * waves))),
        "linear": lambda: _above(recipe.final_lr, min(1.0, (1 - share) / (1 - schedule.hold))),
        "step": lambda: schedule.factor**whole,
        "exponential": lambda: schedule.factor**waves,
        "plateau": lambda: schedule.factor ** plateaus(val_f1s, schedule.patience),
        "constant": lambda: 1.0,
    }
    return recipe.lr * gains[schedule.kind]()


def _above(floor: float, gain: float) -> float:
    return floor + (1 - floor) * gain


def plateaus(scores: Sequence[float], patience: int) -> int:
    """How often more than ``patience`` scores in a row were no better than the best before; the count then restarts."""
    best, waited, found = -math.inf, 0, 0
    for score in scores:
        if score > best:
            best, waited = score, 0
            continue
        waited += 1
        if waited > patience:
            found, waited = found + 1, 0
    return found


def freeze(network: nn.Module, parts: Sequence[str], *, statistics: bool = False) -> None:
    """Keep parts of a network as they are: no gradients, and batch normalisation by the statistics that they hold.

    Args:
        network: stays as it is but for this.
        parts: names of its parts.
        statistics: keep the statistics of all batch normalisation, in the other parts too.

    Raises:
        InputError: if the network has no such part.
    """
    for name in parts:
        try:
            part = network.get_submodule(name)
        except AttributeError:
            known = ", ".join(key for key, _ in network.named_children())
            raise InputError(f"Recipe.frozen names {name!r}, which the network does not have; it has {known}") from None
        part.eval().requires_grad_(requires_grad=False)
    if statistics:
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


def make_optimiser(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser over the network's trainable parameters."""
    groups = _groups(network, recipe)
    chosen = recipe.optimiser
    if chosen.kind == "sgd":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=chosen.momentum)
    if chosen.kind == "adam":
        return torch.optim.Adam(groups, lr=recipe.lr, betas=chosen.betas)
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=chosen.betas)


def _groups(network: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Weight decay on kernels, none on biases and normalisation, unless the recipe wants it on all.

    ``share`` of a group is what its rate is of the recipe's: the encoder's own one.
    """
    split: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            decay = recipe.weight_decay if parameter.ndim > 1 or recipe.optimiser.decay_all else 0.0
            share = recipe.encoder_lr if name.startswith("encoder.") else 1.0
            split.setdefault((share, decay), []).append(parameter)
    groups = sorted(split.items(), key=lambda group: group[0], reverse=True)
    return [{"params": parameters, "weight_decay": decay, "share": share} for (share, decay), parameters in groups]
