"""Facts about a network that are measured, not declared."""

import copy

import torch

from terradelta.lab.networks._registry import ChangeNetwork

__all__ = ["receptive_field"]


def receptive_field(network: ChangeNetwork, in_channels: int, side: int = 2048) -> int:
    """Side in pixels of the square of input pixels that can change one output pixel.

    Found as the extent of the gradient of one output pixel along a strip of random input: a quarter of ``side`` pixels
    long, and ``side`` if the gradient comes near the ends of that; ``side`` if it is not smaller. A network that says
    of itself that it sees the whole input (`ChangeNetwork.whole_tile`) is not probed.
    """
    if network.whole_tile:
        return side
    probe = copy.deepcopy(network).cpu().eval()
    short = max(side // 4 // network.stride, 1) * network.stride
    found = _reach(probe, in_channels, short)
    if found > short - 4 * network.stride:
        found = _reach(probe, in_channels, side)
    return min(found, side)


def _reach(probe: ChangeNetwork, in_channels: int, side: int) -> int:
    """What of a strip of ``side`` pixels the pixel in its middle sees, as the side of a square."""
    shape = (1, in_channels, 2 * probe.stride, side)
    generator = torch.Generator().manual_seed(0)
    before, after = (torch.randn(shape, generator=generator) for _ in range(2))
    before.requires_grad_()
    probe(before, after)[0, 0, probe.stride, side // 2].backward()
    if before.grad is None:
        return 0
    reached = before.grad.abs().sum((0, 1, 2)).nonzero().squeeze(1)
    farthest = int((reached - side // 2).abs().max()) if len(reached) else 0
    return 2 * farthest + 1
