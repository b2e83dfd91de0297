"""Sizes and costs of networks, counted without computing anything (torch's meta device)."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from terradelta.lab.networks._registry import ChangeNetwork

__all__ = ["Macs", "count_macs", "count_parameters"]

NORMALISATION = nn.modules.batchnorm._BatchNorm
CONVOLUTION = nn.modules.conv._ConvNd


class Macs(NamedTuple):
    """Multiply-adds of one pair of images."""

    true: int
    """Convolutions and matrix products, attention's included; transposed convolutions at input size."""
    thop: int
    """What papers print that count with thop (0.0.31, 2019 to 2022): layers only, no attention; transposed
    convolutions at output size; 2 for each value of a batch normalisation (newer versions of thop: 4)."""


def count_parameters(network: nn.Module) -> int:
    """Number of all parameters, frozen ones included; buffers are none."""
    return sum(p.numel() for p in network.parameters())


def count_macs(network: ChangeNetwork, in_channels: int, size: int) -> Macs:
    """Multiply-adds of ``network(before, after)`` in evaluation mode for one pair of ``size`` x ``size`` pixels.

    Activations, pooling and interpolation are not counted: they are under 1 % of such networks.

    Raises:
        ShapeError: if ``size`` is no multiple of the network's stride.
    """
    tensors = [*network.named_parameters(), *network.named_buffers()]
    on_meta = {name: tensor.detach().to("meta") for name, tensor in tensors}
    date = torch.empty(1, in_channels, size, size, device="meta")
    layers: list[int] = []
    with _evaluating(network), _recording(network, layers), FlopCounterMode(display=False) as counter, torch.no_grad():
        functional_call(network, on_meta, (date, date))
    return Macs(counter.get_total_flops() // 2, sum(layers))


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, each module's own mode again after."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def _recording(network: nn.Module, layers: list[int]) -> Iterator[None]:
    """Append each call of a layer to ``layers``, as thop charges it."""

    def record(module: nn.Module, _: tuple[Tensor, ...], out: Tensor) -> None:
        layers.append(out.numel() * _cost_of_one_value(module))

    hooks = [m.register_forward_hook(record) for m in network.modules() if _cost_of_one_value(m)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _cost_of_one_value(module: nn.Module) -> int:
    """What thop charges a layer for each value of its output; 0: not counted."""
    if isinstance(module, CONVOLUTION):
        return module.in_channels // module.groups * math.prod(module.kernel_size)
    if isinstance(module, nn.Linear):
        return module.in_features
    return 2 if isinstance(module, NORMALISATION) else 0
