"""SNUNet-CD: ECAM against naive loops, the nested wiring against the ten nodes written out."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from terradelta.errors import ModelError
from terradelta.lab.networks.snunet import EnsembleChannelAttention, ResidualBlock, SNUNet, snunet


def _randomised(module: nn.Module) -> nn.Module:
    """Float64, evaluation mode, batch statistics that are not the initial ones."""
    torch.manual_seed(3)
    module = module.double().eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            for value, low in ((part.running_mean, -0.3), (part.running_var, 0.5), (part.bias, -0.3)):
                nn.init.uniform_(value, low, 0.9)
    return module


def _naive_attention(x: np.ndarray, w1: np.ndarray, w2: np.ndarray, pool: str) -> list[float]:
    """``(C, H, W)`` -> one weight a channel."""
    total = np.zeros(len(x))
    means = [plane.sum() / plane.size for plane in x]
    for pooled in (means, [max(plane.ravel()) for plane in x] if pool == "max" else means):
        hidden = [max(0.0, sum(w1[h, c] * pooled[c] for c in range(len(x)))) for h in range(len(w1))]
        for c in range(len(x)):
            total[c] += sum(w2[c, h] * hidden[h] for h in range(len(hidden)))
    return [1 / (1 + math.exp(-t)) for t in total]


def _matrix(conv: nn.Conv2d) -> np.ndarray:
    return conv.weight.detach().numpy()[:, :, 0, 0]


@pytest.mark.parametrize("pool", ["max", "mean"])
def test_ecam_is_the_naive_one(pool: str) -> None:
    n, height, width = 8, 3, 4
    module = _randomised(EnsembleChannelAttention(n, pool))
    nodes = list(torch.randn(4, 1, n, height, width, dtype=torch.float64))
    maps = [node[0].numpy() for node in nodes]
    together = np.concatenate(maps)
    intra = _naive_attention(sum(maps), _matrix(module.intra.fc1), _matrix(module.intra.fc2), pool)
    inter = _naive_attention(together, _matrix(module.inter.fc1), _matrix(module.inter.fc2), pool)
    head, bias = _matrix(module.head), module.head.bias.detach().numpy()
    expected = np.zeros((2, height, width))
    for k, i, j in np.ndindex(expected.shape):
        terms = (head[k, c] * inter[c] * (together[c, i, j] + intra[c % n]) for c in range(4 * n))
        expected[k, i, j] = bias[k] + sum(terms)
    (out,) = module(nodes)
    np.testing.assert_allclose(out[0].detach().numpy(), expected, rtol=1e-9)
    assert (module.intra.fc1.out_channels, module.inter.fc1.out_channels) == (n // 4, 4 * n // 16)


def test_block_adds_the_first_convolution_before_its_normalisation() -> None:
    block = _randomised(ResidualBlock(3, 5))
    x = torch.randn(1, 3, 6, 7, dtype=torch.float64)

    def norm(y: Tensor, bn: nn.BatchNorm2d) -> Tensor:
        scale = bn.weight / (bn.running_var + bn.eps).sqrt()
        return y * scale.view(-1, 1, 1) + (bn.bias - bn.running_mean * scale).view(-1, 1, 1)

    first = F.conv2d(x, block.conv1.weight, block.conv1.bias, padding=1)
    second = F.conv2d(norm(first, block.bn1).clamp(min=0), block.conv2.weight, block.conv2.bias, padding=1)
    torch.testing.assert_close(block(x), (norm(second, block.bn2) + first).clamp(min=0))


def _nodes_written_out(net: SNUNet, before: Tensor, after: Tensor) -> list[Tensor]:
    """X(0,1) to X(0,4): every connection by hand."""

    def node(name: str, *inputs: Tensor) -> Tensor:
        return net.blocks[name](torch.cat([*inputs[:-1], net.ups[name](inputs[-1])], 1))

    e, pool = net.encoder, nn.MaxPool2d(2)
    a0, b0 = e[0](before), e[0](after)
    a1, b1 = e[1](pool(a0)), e[1](pool(b0))
    a2, b2 = e[2](pool(a1)), e[2](pool(b1))
    a3, b3 = e[3](pool(a2)), e[3](pool(b2))
    b4 = e[4](pool(b3))
    x01, x11 = node("0_1", a0, b0, b1), node("1_1", a1, b1, b2)
    x21, x31 = node("2_1", a2, b2, b3), node("3_1", a3, b3, b4)
    x02, x12, x22 = node("0_2", a0, b0, x01, x11), node("1_2", a1, b1, x11, x21), node("2_2", a2, b2, x21, x31)
    x03, x13 = node("0_3", a0, b0, x01, x02, x12), node("1_3", a1, b1, x11, x12, x22)
    return [x01, x02, x03, node("0_4", a0, b0, x01, x02, x03, x13)]


def test_wiring_with_ecam() -> None:
    net = _randomised(SNUNet(2, 4))
    before, after = torch.randn(2, 1, 2, 32, 48, dtype=torch.float64)
    (classes,) = net.top(_nodes_written_out(net, before, after))
    torch.testing.assert_close(net(before, after), classes[:, 1:] - classes[:, :1])


def test_wiring_without_ecam() -> None:
    """The fused output weighs the four heads' scores; auxiliary ones go from X(0,4) to X(0,1)."""
    net = _randomised(SNUNet(2, 4, ecam=False))
    before, after = torch.randn(2, 1, 2, 32, 32, dtype=torch.float64)
    nodes = _nodes_written_out(net, before, after)
    scores = [F.conv2d(x, head.weight, head.bias) for x, head in zip(nodes, net.top.heads, strict=True)]
    fused = F.conv2d(torch.cat(scores, 1), net.top.fuse.weight, net.top.fuse.bias)
    expected = [classes[:, 1:] - classes[:, :1] for classes in (fused, scores[3], scores[2], scores[1], scores[0])]
    torch.testing.assert_close(net.forward_with_aux(before, after), expected)


def test_the_first_date_has_no_level_4() -> None:
    net = SNUNet(width=16).eval()
    seen: list[tuple[int, ...]] = []
    net.encoder[4].register_forward_hook(lambda _module, inputs, _output: seen.append(tuple(inputs[0].shape)))
    with torch.no_grad():
        net(torch.randn(1, 3, 32, 32), torch.randn(1, 3, 32, 32))
    assert seen == [(1, 128, 2, 2)]


def test_the_pool_reaches_both_attentions_and_is_named() -> None:
    for pool in ("max", "mean"):
        top = snunet(width=4, ecam_pool=pool).top
        assert (top.intra.pool, top.inter.pool) == (pool, pool)
    with pytest.raises(ModelError, match="ecam_pool is 'min'; it must be one of max, mean"):
        snunet(width=4, ecam_pool="min")


@pytest.mark.parametrize("width", [0, 6, -4])
def test_width_that_attention_cannot_divide(width: int) -> None:
    with pytest.raises(ModelError, match=rf"width {width} must be a positive multiple of 4"):
        SNUNet(3, width)
