"""DASNet: both attentions against naive loops, encoders against ResNet-50 and VGG16, embeddings step by step."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from terradelta.errors import ModelError
from terradelta.lab.networks import count_parameters, create_model
from terradelta.lab.networks.dasnet import CeilPool, ChannelSelfAttention, PositionAttention, VGG16Encoder

SMALL = 0.0625


def _double(module: nn.Module) -> nn.Module:
    torch.manual_seed(3)
    module = module.double().eval()
    for key, value in module.state_dict().items():
        if value.is_floating_point():
            value.uniform_(0.5 if key.endswith("running_var") else -0.4, 0.8)
    return module


def _softmax(scores: list[float]) -> list[float]:
    powers = [math.exp(s - max(scores)) for s in scores]
    return [p / sum(powers) for p in powers]


def test_position_attention_is_the_naive_one() -> None:
    module = _double(PositionAttention(16))
    x = torch.randn(1, 16, 3, 4, dtype=torch.float64)
    image = x[0].numpy()
    pixels = [image[:, i, j] for i in range(3) for j in range(4)]
    queries, keys, values = (
        [conv.weight.detach().numpy()[:, :, 0, 0] @ pixel + conv.bias.detach().numpy() for pixel in pixels]
        for conv in (module.query, module.key, module.value)
    )
    expected = []
    for pixel, query in zip(pixels, queries, strict=True):
        weights = _softmax([float(query @ key) for key in keys])  # no 1 / sqrt(d)
        expected.append(pixel + module.gamma.item() * sum(w * v for w, v in zip(weights, values, strict=True)))
    found = module(x)[0].detach().numpy().reshape(16, 12).T
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert module.query.out_channels == 2


def test_channel_attention_prefers_the_channels_that_are_least_alike() -> None:
    module = _double(ChannelSelfAttention())
    x = torch.randn(1, 5, 3, 4, dtype=torch.float64)
    channels = x[0].numpy().reshape(5, 12)
    expected = []
    for own in channels:
        energies = [float(own @ other) for other in channels]
        weights = _softmax([max(energies) - e for e in energies])
        gathered = sum(w * other for w, other in zip(weights, channels, strict=True))
        expected.append(own + module.gamma.item() * gathered)
    np.testing.assert_allclose(module(x)[0].detach().numpy().reshape(5, 12), expected, rtol=1e-9)


def test_attention_starts_closed() -> None:
    for module in (PositionAttention(8), ChannelSelfAttention()):
        x = torch.randn(2, 8, 4, 4)
        assert torch.equal(module(x), x)


@pytest.mark.parametrize("side", [1, 2, 5, 8, 9])
@pytest.mark.parametrize("stride", [1, 2])
def test_pooling_is_the_one_that_rounds_up(side: int, stride: int) -> None:
    x = torch.rand(2, 3, side, side + 3)
    expected = F.max_pool2d(x, 3, stride, padding=1, ceil_mode=True)
    assert torch.equal(CeilPool(stride)(x), expected)


@torch.no_grad()
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_fresh_weights_tell_changed_places_from_unchanged_ones(seed: int) -> None:
    """Whatever the depth: a distance that says nothing at first is no start for metric learning from scratch."""
    torch.manual_seed(seed)
    network = create_model("dasnet", width=0.125).train()
    coarse = torch.randn(4, 3, 9, 9)
    before = F.interpolate(coarse, size=(64, 64), mode="bicubic")
    other = F.interpolate(torch.randn(4, 3, 9, 9), size=(64, 64), mode="bicubic")
    changed = torch.zeros(4, 1, 64, 64, dtype=torch.bool)
    changed[:, :, 24:48, 16:40] = True
    after = torch.where(changed, other, before) + 0.1 * torch.randn_like(before)
    logits = network(before, after)
    yes, no = logits[changed], logits[~changed]
    assert torch.searchsorted(no.sort().values, yes).double().mean() > 0.8 * len(no)


def test_resnet50_is_dilated_in_the_last_two_stages() -> None:
    with torch.device("meta"):
        encoder = create_model("dasnet").encoder
    dilations = [[block.conv2.dilation[0] for block in getattr(encoder, f"layer{i}")] for i in (1, 2, 3, 4)]
    assert dilations == [[1] * 3, [1] * 4, [1] + [2] * 5, [2, 4, 4]]
    strides = [[block.conv2.stride[0] for block in getattr(encoder, f"layer{i}")] for i in (1, 2, 3, 4)]
    assert strides == [[1] * 3, [2, 1, 1, 1], [1] * 6, [1] * 3]
    keys = {key for key, p in encoder.named_parameters() if p.ndim == 4}
    blocks = [f"layer{i + 1}.{j}" for i, depth in enumerate((3, 4, 6, 3)) for j in range(depth)]
    expected = {"conv1.weight"} | {f"{block}.conv{i}.weight" for block in blocks for i in (1, 2, 3)}
    assert keys == expected | {f"layer{i}.0.downsample.0.weight" for i in (1, 2, 3, 4)}


def test_vgg16_layer_by_layer() -> None:
    encoder = VGG16Encoder(3, 0.125).eval()
    torch.manual_seed(0)
    x = image = torch.randn(1, 3, 32, 40)
    convolutions = {0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28}
    pools = {4: 2, 9: 2, 16: 2, 23: 1}
    for i in range(30):
        if i in convolutions:
            dilation = 2 if i >= 24 else 1
            layer = encoder.features[i]
            x = F.conv2d(x, layer.weight, layer.bias, padding=dilation, dilation=dilation)
        else:
            x = F.max_pool2d(x, 3, pools[i], 1, ceil_mode=True) if i in pools else F.relu(x)
    torch.testing.assert_close(encoder(image)[0], x)
    assert x.shape == (1, 64, 5, 6)


def test_parameters_of_the_vgg16_variant_by_hand() -> None:
    widths = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
    vgg = sum(9 * a * b + b for a, b in pairwise(widths))
    position = 2 * (128 * 16 + 16) + 128 * 128 + 128 + 1
    head = 2 * 9 * 512 * 128 + position + 1 + 2 * 9 * 128 * 128 + 3 * (128 * 128 + 128)
    with torch.device("meta"):
        assert count_parameters(create_model("dasnet", backbone="vgg16")) == vgg + head == 16_259_426


def test_every_parameter_of_the_vgg16_variant_has_a_gradient() -> None:
    torch.manual_seed(0)
    network = create_model("dasnet", backbone="vgg16", width=SMALL).eval()
    for module in network.modules():
        if hasattr(module, "gamma"):
            nn.init.constant_(module.gamma, 0.3)
    sum(out.square().mean() for out in network.forward_with_aux(*torch.randn(2, 2, 3, 64, 64))).backward()
    without = [key for key, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert without == []


@pytest.mark.parametrize("backbone", ["resnet50", "vgg16"])
def test_outputs_are_distances_of_unit_vectors(backbone: str) -> None:
    torch.manual_seed(0)
    network = create_model("dasnet", backbone=backbone, width=SMALL).double().eval()
    for module in network.modules():
        if hasattr(module, "gamma"):
            nn.init.constant_(module.gamma, 0.5)
    dates = torch.randn(2, 1, 3, 32, 48, dtype=torch.float64)
    head = network.head
    with torch.no_grad():
        embeddings = []
        for date in dates:
            x = network.encoder(date)[-1]
            position, channel = head.position(x), head.channel(x)
            maps = (head.embed_sum(position + channel), head.embed_position(position), head.embed_channel(channel))
            embeddings.append([m / m.square().sum(1, keepdim=True).sqrt() for m in maps])
        final, *small = network.forward_with_aux(*dates)
    for logits, e1, e2 in zip(small, *embeddings, strict=True):
        distance = logits / 4 + 1
        # of unit vectors: d² = 2 - 2 cos
        torch.testing.assert_close(distance.square(), 2 - 2 * (e1 * e2).sum(1, keepdim=True), atol=1e-4, rtol=0)
        assert distance.max() <= 2
    torch.testing.assert_close(final, F.interpolate(small[0], size=(32, 48), mode="bilinear", align_corners=True))


def test_options_that_do_not_exist() -> None:
    with pytest.raises(ModelError, match=r"backbone is 'resnet18'; it must be one of resnet50, vgg16"):
        create_model("dasnet", backbone="resnet18")
    with pytest.raises(ModelError, match=r"width 0.01 must be at least 0.0625"):
        create_model("dasnet", width=0.01)
