"""The gradient of a depthwise convolution in bfloat16, against that of torch in double precision."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from terradelta.lab.networks.layers import depthwise
from terradelta.lab.networks.layers.depthwise import depthwise_conv2d
from terradelta.lab.networks.layers.efficientnet_lite import SameConv2d

LAYERS = pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [
        ((16, 24), 3, 1, 1),
        ((17, 25), 3, 2, 0),
        ((18, 26), 3, 2, 0),
        ((19, 27), 5, 2, 0),
        ((16, 24), 5, 1, 2),
        ((16, 17), 3, 2, 1),
    ],
)


def _gradients(x: Tensor, weight: Tensor, y: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    of_x, of_weight = torch.autograd.grad(y, (x, weight), gradient.to(y.dtype))
    return of_x, of_weight


@LAYERS
def test_values_and_gradients_are_those_of_torch(size: tuple[int, int], kernel: int, stride: int, padding: int) -> None:
    random = torch.Generator().manual_seed(1)
    x = torch.randn(2, 8, *size, generator=random, requires_grad=True)
    weight = torch.randn(8, 1, kernel, kernel, generator=random, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = depthwise_conv2d(x, weight, stride, padding)
        theirs = F.conv2d(x, weight, None, stride, padding, 1, 8)
    assert torch.equal(y, theirs)
    gradient = torch.randn(y.shape, generator=random).bfloat16()
    exact = [each.detach().bfloat16().double().requires_grad_() for each in (x, weight)]
    expected = _gradients(*exact, F.conv2d(*exact, None, stride, padding, 1, 8), gradient)
    for found, right in zip(_gradients(x, weight, y, gradient), expected, strict=True):
        assert found.dtype == torch.float32
        assert (found - right).abs().max() < 0.01 * right.abs().max()


def test_bfloat16_on_a_cpu_alone_goes_the_other_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """float32 stays torch's own to the last bit, and nothing but training pays for what a gradient would need."""
    taken = []
    monkeypatch.setattr(depthwise._Depthwise, "apply", lambda x, *_: taken.append(x.dtype) or x)
    layer, x = SameConv2d(8, 8, 3, groups=8), torch.ones(1, 8, 4, 4)
    layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            layer(x)
        assert taken == []
        layer(x)
    assert taken == [torch.bfloat16]


def test_what_needs_no_gradient_gets_none() -> None:
    weight = torch.ones(8, 1, 3, 3, dtype=torch.bfloat16, requires_grad=True)
    x = torch.ones(1, 8, 5, 5, dtype=torch.bfloat16)
    depthwise_conv2d(x, weight, 2).sum().backward()
    assert weight.grad is not None
    assert x.grad is None
