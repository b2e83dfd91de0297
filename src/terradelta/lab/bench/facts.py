"""Facts of a network that need no training: parameters and multiply-adds."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from terradelta.lab.networks import Macs, count_macs, count_parameters, create_model

__all__ = ["Facts", "network_facts", "switches"]

SIDE = 256
"""Multiply-adds are counted on a pair of this side in pixels, as in the papers."""


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
