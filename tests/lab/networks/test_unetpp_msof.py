"""UNet++_MSOF: the unit restated, the nested wiring against the ten nodes written out."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from terradelta.lab.networks.unetpp_msof import ConvUnit, UNetPlusPlusMSOF


def _randomised(module: nn.Module) -> nn.Module:
    """Float64, evaluation mode, batch statistics that are not the initial ones."""
    torch.manual_seed(3)
    module = module.double().eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            for value, low in ((part.running_mean, -0.3), (part.running_var, 0.5), (part.bias, -0.3)):
                nn.init.uniform_(value, low, 0.9)
    return module


@pytest.mark.parametrize("residual", [True, False])
def test_unit_is_its_restatement(residual: bool) -> None:
    unit = _randomised(ConvUnit(3, 5, residual=residual))
    x = torch.randn(1, 3, 6, 7, dtype=torch.float64)

    def selu(y: Tensor) -> Tensor:
        return 1.0507009873554805 * torch.where(y > 0, y, 1.6732632423543772 * (y.exp() - 1))

    def norm(y: Tensor, bn: nn.BatchNorm2d) -> Tensor:
        scale = bn.weight / (bn.running_var + 0.001).sqrt()  # Keras's epsilon
        return y * scale.view(-1, 1, 1) + (bn.bias - bn.running_mean * scale).view(-1, 1, 1)

    first = selu(F.conv2d(x, unit.conv1.weight, unit.conv1.bias, padding=1))
    second = selu(F.conv2d(norm(first, unit.bn1), unit.conv2.weight, unit.conv2.bias, padding=1))
    torch.testing.assert_close(unit(x), norm(second, unit.bn2) + (first if residual else 0))


def _nodes_written_out(net: UNetPlusPlusMSOF, before: Tensor, after: Tensor) -> list[Tensor]:
    """X(0,1) to X(0,4): every connection by hand."""

    def node(name: str, below: Tensor, *row: Tensor) -> Tensor:
        return net.blocks[name](torch.cat([net.ups[name](below), *row], 1))

    e, pool = net.encoder, nn.MaxPool2d(2)
    x00 = e[0](torch.cat([before, after], 1))
    x10 = e[1](pool(x00))
    x20 = e[2](pool(x10))
    x30 = e[3](pool(x20))
    x40 = e[4](pool(x30))
    x01, x11, x21, x31 = node("0_1", x10, x00), node("1_1", x20, x10), node("2_1", x30, x20), node("3_1", x40, x30)
    x02, x12, x22 = node("0_2", x11, x00, x01), node("1_2", x21, x10, x11), node("2_2", x31, x20, x21)
    x03, x13 = node("0_3", x12, x00, x01, x02), node("1_3", x22, x10, x11, x12)
    return [x01, x02, x03, node("0_4", x13, x00, x01, x02, x03)]


def test_wiring_and_heads() -> None:
    """The fused output reads the features of all four top nodes; side outputs go from X(0,4) to X(0,1)."""
    net = _randomised(UNetPlusPlusMSOF(2))
    before, after = torch.randn(2, 1, 2, 16, 32, dtype=torch.float64)
    nodes = _nodes_written_out(net, before, after)
    fused = F.conv2d(torch.cat(nodes, 1), net.head.weight, net.head.bias)
    sides = [F.conv2d(x, head.weight, head.bias) for x, head in zip(nodes, net.side_heads, strict=True)]
    torch.testing.assert_close(net.forward_with_aux(before, after), [fused, *sides[::-1]])


def test_the_first_unit_alone_has_no_residual() -> None:
    with torch.device("meta"):
        net = UNetPlusPlusMSOF()
    assert [unit.residual for unit in net.encoder] == [False, True, True, True, True]
    assert all(block.residual for block in net.blocks.values())


def test_batch_statistics_follow_with_keras_momentum() -> None:
    unit = ConvUnit(1, 4).train()
    unit(torch.ones(2, 1, 8, 8))
    with torch.no_grad():
        mean = F.selu(unit.conv1(torch.ones(2, 1, 8, 8))).mean((0, 2, 3))
    torch.testing.assert_close(unit.bn1.running_mean, 0.01 * mean)
