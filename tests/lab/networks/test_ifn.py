"""IFN: both attentions against naive loops, stages and encoder step by step."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from terradelta.errors import ModelError
from terradelta.lab.networks.ifn import FusionStage, VGG16Encoder, ifn
from terradelta.lab.networks.layers.attention import ChannelAttention, SpatialAttention

VGG16_LAYERS = {0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128), 10: (256, 128), 12: (256, 256), 14: (256, 256)}
VGG16_LAYERS |= {17: (512, 256), 19: (512, 512), 21: (512, 512), 24: (512, 512), 26: (512, 512), 28: (512, 512)}
"""Index in torchvision's ``vgg16().features`` -> channels out and in."""


def _double(module: nn.Module) -> nn.Module:
    torch.manual_seed(3)
    module = module.double().eval()
    for key, value in module.state_dict().items():
        if value.is_floating_point():
            value.uniform_(0.5 if key.endswith("running_var") else -0.6, 0.9)
    return module


def test_channel_attention_is_the_naive_one() -> None:
    module = _double(ChannelAttention(16, 8))
    x = torch.randn(1, 16, 3, 5, dtype=torch.float64)
    w1, w2 = (layer.weight.detach().numpy()[:, :, 0, 0] for layer in (module.fc1, module.fc2))
    total = np.zeros(16)
    planes = x[0].numpy()
    for pooled in ([plane.sum() / 15 for plane in planes], [max(plane.ravel()) for plane in planes]):
        hidden = [max(0.0, sum(w1[h, c] * pooled[c] for c in range(16))) for h in range(2)]  # ratio 8
        total += [sum(w2[c, h] * hidden[h] for h in range(2)) for c in range(16)]
    expected = [1 / (1 + math.exp(-t)) for t in total]
    np.testing.assert_allclose(module(x)[0, :, 0, 0].detach().numpy(), expected, rtol=1e-9)


def test_spatial_attention_is_the_naive_one() -> None:
    module = _double(SpatialAttention())
    x = torch.randn(1, 5, 6, 8, dtype=torch.float64)
    image, kernel = x[0].numpy(), module.conv.weight.detach().numpy()[0]
    summary = np.stack([sum(image) / 5, np.max(image, 0)])
    expected = np.zeros((6, 8))
    for i, j in np.ndindex(6, 8):
        total = 0.0
        for c, a, b in np.ndindex(2, 7, 7):
            row, col = i + a - 3, j + b - 3
            if 0 <= row < 6 and 0 <= col < 8:
                total += kernel[c, a, b] * summary[c, row, col]
        expected[i, j] = 1 / (1 + math.exp(-total))
    np.testing.assert_allclose(module(x)[0, 0].detach().numpy(), expected, rtol=1e-9)


def test_fusion_stage_step_by_step() -> None:
    fusion = _double(FusionStage(4, 6, (8, 8), 0.6))
    stage = fusion.stage
    coarse, f1, f2 = (
        torch.randn(1, c, *size, dtype=torch.float64) for c, size in ((4, (3, 4)), (6, (6, 8)), (6, (6, 8)))
    )
    x = torch.einsum("bchw,cdij->bdhiwj", coarse, fusion.up.weight).reshape(1, 4, 6, 8)
    x = torch.cat([x + fusion.up.bias.view(-1, 1, 1), f1, f2], 1)
    x = x * fusion.channel(x)
    for conv, prelu, norm, _ in stage.convs:
        x = F.conv2d(x, conv.weight, conv.bias, padding=1)
        x = torch.where(x > 0, x, prelu.weight * x)
        x = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)
    x = x * stage.spatial(x)
    x = F.batch_norm(x, stage.norm.running_mean, stage.norm.running_var, stage.norm.weight, stage.norm.bias)
    features, logits = fusion(coarse, f1, f2)
    torch.testing.assert_close(features, x)
    torch.testing.assert_close(logits, F.conv2d(x, stage.head.weight, stage.head.bias))


def test_encoder_is_vgg16_tapped_at_the_end_of_each_block() -> None:
    encoder = VGG16Encoder(3).eval()
    found = {key: tuple(p.shape) for key, p in encoder.named_parameters() if key.endswith("weight")}
    assert found == {f"features.{i}.weight": (*channels, 3, 3) for i, channels in VGG16_LAYERS.items()}
    x = image = torch.randn(1, 3, 32, 48)
    expected = []
    for i in range(30):
        if i in VGG16_LAYERS:
            layer = encoder.features[i]
            x = F.conv2d(x, layer.weight, layer.bias, padding=1)
        else:
            x = F.max_pool2d(x, 2) if i in (4, 9, 16, 23) else F.relu(x)
        if i in (3, 8, 15, 22, 29):
            expected.append(x)
    torch.testing.assert_close(encoder(image), expected[::-1])


def test_stages_see_both_dates_at_their_level() -> None:
    """Channels of the maps put together, coarse to fine: 1024, 1536, 768, 384, 192."""
    with torch.device("meta"):
        network = ifn()
    stages = [network.first, *(fusion.stage for fusion in network.stages)]
    assert [stage.convs[0][0].in_channels for stage in stages] == [1024, 1536, 768, 384, 192]
    assert [stage.head.in_channels for stage in stages] == [512, 256, 128, 64, 16]


def test_dropout_and_frozen_encoder() -> None:
    with torch.device("meta"):
        network = ifn(dropout=0.1, freeze_encoder=True)
    rates = {module.p for module in network.modules() if isinstance(module, nn.Dropout)}
    assert rates == {0.1}
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == 21_012_861
    with torch.device("meta"):
        assert {module.p for module in ifn().modules() if isinstance(module, nn.Dropout)} == {0.6}


def test_a_narrower_one_has_the_same_layers_and_a_width_that_is_too_small_is_refused() -> None:
    wide, narrow = ifn().state_dict(), ifn(width=0.125).state_dict()
    assert wide.keys() == narrow.keys()
    key = "stages.3.stage.convs.2.0.weight"
    assert (wide[key].shape, narrow[key].shape) == ((16, 32, 3, 3), (2, 4, 3, 3))
    assert narrow["encoder.features.28.weight"].shape == (64, 64, 3, 3)
    with pytest.raises(ModelError, match=r"width 0.06 must be at least 0.0625: the last stage has 16 channels"):
        ifn(width=0.06)
