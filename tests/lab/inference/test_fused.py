"""MCCRNet for inference: each reordering against what it replaces, and the whole against the network it was made of."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from terradelta.lab.inference.fused import FusedCrossAttention, FusedMCCRNet, SplitClassifier, SplitConv, fused
from terradelta.lab.networks import count_macs, create_model
from terradelta.lab.networks.mccrnet import MCCRNet

NARROW = 0.0625  # widths 4, 8, 16, 32


def settled(network: nn.Module, spread: float = 0.4) -> nn.Module:
    """Evaluation mode, float64; every parameter and statistic is away from its initial value."""
    torch.manual_seed(0)
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(torch.randn_like(p) * spread)
        for m in network.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.running_mean.uniform_(-0.2, 0.2)
                m.running_var.uniform_(0.5, 1.5)
                m.weight.uniform_(0.5, 1.5)
    return network.double().eval()


def dates(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(1), dtype=dtype)


@torch.no_grad()
@pytest.mark.parametrize("shape", [(1, 3, 16, 16), (2, 3, 32, 80), (1, 3, 64, 48)])
@pytest.mark.parametrize("options", [{}, {"aspca": False}, {"ccr": False}, {"aspca": False, "ccr": False}])
def test_the_result_is_that_of_the_network(shape: tuple[int, ...], options: dict[str, bool]) -> None:
    network = settled(create_model("mccrnet", width=NARROW, **options))
    quick = fused(network)
    before, after = dates(*shape)
    expected = network(before, after)
    assert expected.std() > 0.1
    torch.testing.assert_close(quick(before, after), expected, rtol=1e-7, atol=1e-9)


@torch.no_grad()
def test_any_memory_layout() -> None:
    network = settled(create_model("mccrnet", width=NARROW))
    expected = network(*dates(1, 3, 32, 48))
    quick = fused(network).to(memory_format=torch.channels_last)
    before, after = (x.contiguous(memory_format=torch.channels_last) for x in dates(1, 3, 32, 48))
    torch.testing.assert_close(quick(before, after), expected, rtol=1e-7, atol=1e-9)


@torch.no_grad()
def test_bfloat16_by_autocast() -> None:
    """CCR and channel attention stay in float32; the rest is near the network itself."""
    network = settled(create_model("mccrnet", width=NARROW), 0.05).float()
    before, after = dates(2, 3, 32, 48, dtype=torch.float32)
    expected = network(before, after)
    with torch.autocast("cpu", torch.bfloat16):
        found = fused(network)(before, after)
    assert found.dtype == torch.float32
    assert 0 < (found - expected).abs().max() < 0.1 * expected.std()


def test_it_is_a_copy_that_says_what_the_network_says() -> None:
    network = create_model("mccrnet", width=NARROW, in_channels=5).train()
    old = copy.deepcopy(network.state_dict())
    quick = fused(network)
    assert isinstance(quick, FusedMCCRNet)
    for name in ("in_channels", "stride", "tile", "overlap", "symmetric", "whole_tile"):
        assert getattr(quick, name) == getattr(network, name)
    with torch.no_grad():
        for p in quick.parameters():
            p.zero_()
    assert network.training
    assert all(torch.equal(value, old[key]) for key, value in network.state_dict().items())
    assert not any(p.requires_grad for p in quick.parameters())


def test_other_networks_are_their_own_inference() -> None:
    network = create_model("fc_ef")
    assert fused(network) is network


@torch.no_grad()
@pytest.mark.parametrize(("scale", "rows", "cols"), [(8, 1, 2), (8, 3, 5), (4, 2, 1), (2, 4, 3)])
def test_a_convolution_before_the_upsampling_is_the_one_after_it(scale: int, rows: int, cols: int) -> None:
    """At the borders too, where the convolution pads with zeros and the upsampling repeats."""
    torch.manual_seed(0)
    weight = torch.randn(7, 5, 3, 3, dtype=torch.float64)
    x = torch.randn(2, 5, rows, cols, dtype=torch.float64)
    base = torch.randn(2, 7, scale * rows, scale * cols, dtype=torch.float64)
    expected = base + F.conv2d(F.interpolate(x, scale_factor=scale, mode="bilinear"), weight, padding=1)
    split = SplitConv(weight).double()(x, (scale * rows, scale * cols))
    torch.testing.assert_close(base + split, expected)


@torch.no_grad()
def test_the_coarse_map_before_the_upsampling_is_the_one_after_it() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(10, 2, 1).double()
    outputs = [torch.randn(2, c, 2 * s, 3 * s, dtype=torch.float64) for c, s in ((4, 1), (3, 2), (2, 4), (1, 8))]
    joined = torch.cat([F.interpolate(x, size=(16, 24), mode="bilinear") for x in outputs], 1)
    torch.testing.assert_close(SplitClassifier(conv, [4, 3, 2, 1]).double()(outputs), conv(joined))


@torch.no_grad()
@pytest.mark.parametrize("side", [4, 9, 20])
def test_attention_on_maps_smaller_than_the_rates(side: int) -> None:
    """Rates of 6, 12 and 18: on a map of 4 or 9 the outer taps of some or all lie outside."""
    attention = settled(create_model("mccrnet", width=NARROW).attention[1], 0.3)
    f1, f2 = dates(2, 8, side, side + 1)
    for got, expected in zip(FusedCrossAttention(attention).double()(f1, f2), attention(f1, f2), strict=True):
        torch.testing.assert_close(got, expected)


def test_it_computes_little_more_than_half() -> None:
    with torch.device("meta"):
        network = MCCRNet()
    counted = count_macs(network, 3, 256).true, count_macs(fused(network), 3, 256).true
    assert counted[1] < 0.58 * counted[0]


@pytest.mark.slow
@torch.no_grad()
def test_at_full_width_in_float32() -> None:
    network = create_model("mccrnet").eval()
    torch.manual_seed(0)
    for m in network.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.momentum = None
    before, after = dates(2, 3, 128, 128, dtype=torch.float32)
    network.train()(before, after)  # statistics that fit the input
    network.eval()
    expected = network(before, after)
    assert expected.std() > 0.01
    torch.testing.assert_close(fused(network)(before, after), expected, rtol=0, atol=1e-3)
