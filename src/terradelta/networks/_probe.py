"""Facts about a network that are measured, not declared."""

import copy

import torch

from terradelta.networks._registry import ChangeNetwork

__all__ = ["receptive_field"]


def receptive_field(network: ChangeNetwork, in_channels: int, side: int = 2048) -> int:
    """Side in pixels of the square of input pixels that can change one output pixel.

    Found as the extent of the gradient of one output pixel along a strip of random input of ``side`` pixels; ``side``
    if it is not smaller.
    """
    probe = copy.deepcopy(network).cpu().eval()
    shape = (1, in_channels, 2 * network.stride, side)
    generator = torch.Generator().manual_seed(0)
    before, after = (torch.randn(shape, generator=generator) for _ in range(2))
    before.requires_grad_()
    probe(before, after)[0, 0, network.stride, side // 2].backward()
    if before.grad is None:
        return 0
    reached = before.grad.abs().sum((0, 1, 2)).nonzero().squeeze(1)
    farthest = int((reached - side // 2).abs().max()) if len(reached) else 0
    return min(2 * farthest + 1, side)
