"""BIT: tokeniser and attention against naive loops, the wiring against its symmetry, the encoder against ResNet-18."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from terradelta.errors import ModelError
from terradelta.lab.networks.bit import BIT, CHANNELS, HEADS, STAGES, TOKENS, Attention, Layer, Tokenizer, bit
from terradelta.lab.networks.layers.resnet import ResNet


def _double(module: nn.Module) -> nn.Module:
    torch.manual_seed(3)
    module = module.double().eval()
    for key, value in module.state_dict().items():
        if value.is_floating_point():
            value.uniform_(0.5 if key.endswith("running_var") else -0.4, 0.9)
    return module


def _softmax(scores: list[float]) -> list[float]:
    powers = [math.exp(s - max(scores)) for s in scores]
    return [p / sum(powers) for p in powers]


def test_tokens_are_weighted_means_of_the_pixels() -> None:
    tokenizer = _double(Tokenizer())
    x = torch.randn(1, CHANNELS, 3, 4, dtype=torch.float64)
    pixels = [x[0, :, i, j].numpy() for i in range(3) for j in range(4)]
    queries = tokenizer.maps.weight.detach().numpy()[:, :, 0, 0]
    expected = []
    for query in queries:
        weights = _softmax([sum(query[c] * pixel[c] for c in range(CHANNELS)) for pixel in pixels])
        expected.append(sum(w * pixel for w, pixel in zip(weights, pixels, strict=True)))
    assert len(queries) == TOKENS
    np.testing.assert_allclose(tokenizer(x)[0].detach().numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize("width", [8, 3])
def test_attention_is_the_naive_one(width: int) -> None:
    attention = _double(Attention(width))
    x, tokens = torch.randn(1, 5, CHANNELS, dtype=torch.float64), torch.randn(1, 4, CHANNELS, dtype=torch.float64)
    wq, wk, wv = (p.weight.detach().numpy() for p in (attention.query, attention.key, attention.value))
    wo, bias = attention.out.weight.detach().numpy(), attention.out.bias.detach().numpy()
    expected = np.zeros((5, CHANNELS))
    for n in range(5):
        heads = []
        for head in range(HEADS):
            rows = slice(head * width, (head + 1) * width)
            q, keys = wq[rows] @ x[0, n].numpy(), [wk[rows] @ token.numpy() for token in tokens[0]]
            weights = _softmax([sum(q[d] * key[d] for d in range(width)) / math.sqrt(CHANNELS) for key in keys])
            heads.append(sum(w * (wv[rows] @ token.numpy()) for w, token in zip(weights, tokens[0], strict=True)))
        expected[n] = wo @ np.concatenate(heads) + bias
    np.testing.assert_allclose(attention(x, tokens)[0].detach().numpy(), expected, rtol=1e-9)


def test_layer_normalises_before_and_adds_after() -> None:
    layer = _double(Layer(8))
    x, tokens = torch.randn(1, 6, CHANNELS, dtype=torch.float64), torch.randn(1, 4, CHANNELS, dtype=torch.float64)

    def norm(y: Tensor, by: nn.LayerNorm) -> Tensor:
        centred = y - y.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * by.weight + by.bias

    middle = x + layer.attention(norm(x, layer.norm1), norm(tokens, layer.norm1))
    hidden = norm(middle, layer.norm2) @ layer.mlp[0].weight.T + layer.mlp[0].bias
    gelu = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
    torch.testing.assert_close(layer(x, tokens), middle + gelu @ layer.mlp[2].weight.T + layer.mlp[2].bias)


def test_only_the_positions_know_the_order_of_dates() -> None:
    """Exchanging the dates and the two halves of the positions changes nothing; the dates alone, much."""
    torch.manual_seed(3)
    network = BIT(2, 2).double().eval()
    before, after = torch.randn(2, 1, 2, 16, 24, dtype=torch.float64)
    with torch.no_grad():
        out, swapped = network(before, after), network(after, before)
        network.positions.copy_(network.positions.roll(TOKENS, 1))
        torch.testing.assert_close(network(after, before), out)
    assert (out - swapped).abs().max() > 1e-3 * out.abs().max()


def test_forward_step_by_step() -> None:
    """Every pixel looks at the context-rich tokens of its own date in all layers; x4 bilinear after the difference."""
    torch.manual_seed(3)
    network = BIT(2, 2).double().eval()
    before, after = torch.randn(2, 1, 2, 16, 24, dtype=torch.float64)
    maps = []
    for date in (before, after):
        x = network.encoder(date)[-1].repeat_interleave(2, 2).repeat_interleave(2, 3)
        maps.append(F.conv2d(x, network.project.weight, network.project.bias, padding=1))
    tokens = torch.cat([network.tokenizer(x) for x in maps], 1) + network.positions
    tokens = network.context(tokens, tokens)
    refined = []
    for x, own in zip(maps, (tokens[:, :TOKENS], tokens[:, TOKENS:]), strict=True):
        pixels = x.permute(0, 2, 3, 1).reshape(1, -1, CHANNELS)
        for layer in network.decoder:
            pixels = layer(pixels, own)
        refined.append(pixels.reshape(1, 4, 6, CHANNELS).permute(0, 3, 1, 2))
    difference = F.interpolate((refined[0] - refined[1]).abs(), size=(16, 24), mode="bilinear")
    classes = network.head(difference)
    torch.testing.assert_close(network(before, after), classes[:, 1:] - classes[:, :1])


def test_encoder_has_the_keys_of_resnet18() -> None:
    """Names and shapes of torchvision's checkpoint, written down by its rule, up to stage 3."""
    expected: dict[str, tuple[int, ...]] = {"conv1.weight": (64, 3, 7, 7), "bn1.weight": (64,)}
    inputs = 64
    for stage, width in ((1, 64), (2, 128), (3, 256)):
        for block in (0, 1):
            name = f"layer{stage}.{block}"
            expected[f"{name}.conv1.weight"] = (width, inputs, 3, 3)
            expected[f"{name}.conv2.weight"] = (width, width, 3, 3)
            expected |= {f"{name}.bn{i}.weight": (width,) for i in (1, 2)}
            if inputs != width:
                expected[f"{name}.downsample.0.weight"] = (width, inputs, 1, 1)
                expected[f"{name}.downsample.1.weight"] = (width,)
            inputs = width
    found = {key: tuple(p.shape) for key, p in ResNet(3, 64, STAGES).named_parameters() if not key.endswith("bias")}
    assert found == expected


def test_encoder_stops_at_an_eighth() -> None:
    assert ResNet(1, 64, STAGES).eval()(torch.randn(1, 1, 32, 48))[-1].shape == (1, 256, 4, 6)


@pytest.mark.parametrize("options", [{"decoder_depth": 0}, {"decoder_head_width": 0}])
def test_options_below_one(options: dict[str, int]) -> None:
    with pytest.raises(ModelError, match=r"decoder_depth \d and decoder_head_width \d must be at least 1"):
        bit(**options)
