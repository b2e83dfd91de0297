"""Facts of a network that need no training: parameters, multiply-adds, memory of a training step."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from terradelta.lab.networks import ChangeNetwork, Macs, count_macs, count_parameters, create_model

__all__ = ["Facts", "network_facts", "switches", "training_bytes"]

SIDE = 256
"""Multiply-adds are counted on a pair of this side in pixels, as in the papers."""
STATES = 6
"""Copies of the weights in a training run: the network, its average, the gradient, two moments, one being written."""
PROCESS_BYTES = 2**30
"""An interpreter with torch and what it reads."""


@dataclass(frozen=True)
class Facts:
    """What is counted on a network."""

    parameters: int
    macs: Macs
    """Of a pair of 256 x 256 pixels."""
    symmetric: bool
    """Whether swapping the dates leaves the result unchanged."""
    stride: int


def network_facts(name: str, arguments: Mapping[str, Any] | None = None, in_channels: int = 3) -> Facts:
    """Count a network without computing anything.

    Raises:
        ModelError: if there is no such network, or it does not take the arguments.
    """
    with torch.device("meta"):
        network = create_model(name, **{"in_channels": in_channels, **(arguments or {})})
    macs = count_macs(network, in_channels, SIDE)
    return Facts(count_parameters(network), macs, network.symmetric, network.stride)


def switches(name: str) -> dict[str, Any]:
    """The arguments of a network's builder besides ``in_channels``, with their defaults."""
    from terradelta.lab.networks import model_info

    parameters = inspect.signature(model_info(name).builder).parameters
    return {key: p.default for key, p in parameters.items() if key != "in_channels"}


def training_bytes(network: ChangeNetwork, in_channels: int, batch: int, side: int) -> int:
    """About how much memory a training run takes on the CPU, in bytes: an estimate to plan by, not a bound.

    Args:
        network: on any device; nothing is computed.
        in_channels: bands of one date.
        batch: pairs in a step.
        side: of a crop, in pixels.
    """
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[id(tensor.untyped_storage())] = tensor.numel() * tensor.element_size()
        held.append(tensor)
        return tensor

    held: list[Tensor] = []
    network = network.to("meta").train()
    date = torch.empty(batch, in_channels, side, side, device="meta")
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network.forward_with_aux(date, date)
    weights = sum(p.numel() * p.element_size() for p in network.parameters())
    # The gradients of the activations and the kernels' scratch memory come on top of what is kept.
    return PROCESS_BYTES + STATES * weights + 2 * sum(kept.values())
