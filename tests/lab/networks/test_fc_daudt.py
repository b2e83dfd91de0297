"""The three networks of Daudt et al. against a restatement with ordinary convolutions only."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from terradelta.lab.networks import ChangeNetwork
from terradelta.lab.networks.fc_daudt import FCEF, FCSiamConc, FCSiamDiff, fc_ef, fc_siam_conc, fc_siam_diff
from terradelta.lab.networks.layers.conv import conv_unit


def _randomised(network: ChangeNetwork) -> ChangeNetwork:
    """Float64, evaluation mode, batch statistics that are not the initial ones."""
    torch.manual_seed(3)
    network = network.double().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value, low in ((module.running_mean, -0.3), (module.running_var, 0.5), (module.bias, -0.3)):
                nn.init.uniform_(value, low, 0.9)
    return network


def _transposed(x: Tensor, layer: nn.ConvTranspose2d) -> Tensor:
    """A transposed convolution as zeros between the pixels and a convolution with the flipped kernel."""
    if layer.stride[0] == 2:
        stuffed = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
        stuffed[:, :, ::2, ::2] = x
        x = stuffed
    return F.conv2d(x, layer.weight.transpose(0, 1).flip(2, 3), layer.bias, padding=1)


def _unit(x: Tensor, layers: nn.Sequential) -> Tensor:
    conv, norm = layers[0], layers[1]
    x = _transposed(x, conv) if isinstance(conv, nn.ConvTranspose2d) else F.conv2d(x, conv.weight, conv.bias, padding=1)
    centred = (x - norm.running_mean.view(-1, 1, 1)) / (norm.running_var.view(-1, 1, 1) + norm.eps).sqrt()
    return (centred * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)).clamp(min=0)


def _encode(network: ChangeNetwork, x: Tensor) -> list[Tensor]:
    """Maps of the four levels, then the bottleneck."""
    maps = []
    for level in network.encoder.levels:
        for layers in level:
            x = _unit(x, layers)
        maps.append(x)
        x = x.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).amax((3, 5))
    return [*maps, x]


def _decode(network: ChangeNetwork, x: Tensor, skips: Sequence[Tensor]) -> Tensor:
    decoder = network.decoder
    for level in (3, 2, 1, 0):
        x = torch.cat([_transposed(x, decoder.ups[level]), skips[level]], 1)
        block = [decoder.blocks[0]] if level == 0 else decoder.blocks[level]
        for layers in block:
            x = _unit(x, layers)
    log_probabilities = _transposed(x, decoder.head).log_softmax(1)
    return log_probabilities[:, 1:] - log_probabilities[:, :1]


def _naive_ef(network: FCEF, before: Tensor, after: Tensor) -> Tensor:
    maps = _encode(network, torch.cat([before, after], 1))
    return _decode(network, maps[4], maps)


def _naive_conc(network: FCSiamConc, before: Tensor, after: Tensor) -> Tensor:
    maps1, maps2 = _encode(network, before), _encode(network, after)
    return _decode(network, maps2[4], [torch.cat([maps1[i], maps2[i]], 1) for i in range(4)])


def _naive_diff(network: FCSiamDiff, before: Tensor, after: Tensor) -> Tensor:
    maps1, maps2 = _encode(network, before), _encode(network, after)
    return _decode(network, maps2[4], [(maps1[i] - maps2[i]).abs() for i in range(4)])


@pytest.mark.parametrize(
    ("build", "naive"), [(fc_ef, _naive_ef), (fc_siam_conc, _naive_conc), (fc_siam_diff, _naive_diff)]
)
def test_network_is_its_restatement(
    build: Callable[[int], ChangeNetwork], naive: Callable[[ChangeNetwork, Tensor, Tensor], Tensor]
) -> None:
    network = _randomised(build(2))
    before, after = torch.randn(2, 1, 2, 32, 48, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(network(before, after), naive(network, before, after))


def test_widths_of_the_levels() -> None:
    network = fc_siam_conc(5)
    encoder = [[layers[0].out_channels for layers in level] for level in network.encoder.levels]
    decoder = [[layers[0].out_channels for layers in block] for block in list(network.decoder.blocks)[:0:-1]]
    assert encoder == [[16, 16], [32, 32], [64, 64, 64], [128, 128, 128]]
    assert decoder == [[128, 128, 64], [64, 64, 32], [32, 16]]
    assert network.encoder.levels[0][0][0].in_channels == 5


def test_dropout_drops_whole_channels_in_training_only() -> None:
    torch.manual_seed(0)
    layers = conv_unit(1, 400, 0.2)
    x = torch.randn(1, 1, 8, 8)
    dropped = (layers.train()(x) == 0).all(3).all(2).float().mean().item()
    kept = (layers.eval()(x) == 0).all(3).all(2).float().mean().item()
    assert dropped == pytest.approx(0.2, abs=0.06)
    assert kept < 0.01
