"""SFEARNet: attention, CBAM, flow, merging against naive versions; the last upsampling against the released sampler."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from terradelta.errors import ModelError
from terradelta.lab.networks import create_model
from terradelta.lab.networks._sfearnet_mit import DropPath, EfficientAttention, MixFeedForward
from terradelta.lab.networks.sfearnet import (
    CBAM,
    AtrousBranches,
    EdgeGuidance,
    PyramidMerge,
    SemanticFlow,
)


def _double(module: nn.Module, low: float = -0.4) -> nn.Module:
    torch.manual_seed(3)
    module = module.double().eval()
    for key, value in module.state_dict().items():
        if value.is_floating_point():
            value.uniform_(0.5 if key.endswith("running_var") else low, 0.5)
    return module


def _linear(layer: nn.Linear, x: np.ndarray) -> np.ndarray:
    return layer.weight.detach().numpy() @ x + layer.bias.detach().numpy()


@pytest.mark.parametrize(("heads", "reduction"), [(1, 1), (2, 1), (2, 2), (3, 4)])
def test_attention_is_the_naive_one(heads: int, reduction: int) -> None:
    channels, rows, cols = 6, 4, 8
    module = _double(EfficientAttention(channels, heads, reduction))
    x = torch.randn(1, rows * cols, channels, dtype=torch.float64)
    tokens = x[0].numpy()
    sources = list(tokens)
    if reduction > 1:
        kernel, bias = module.shrink.weight.detach().numpy(), module.shrink.bias.detach().numpy()
        image = tokens.reshape(rows, cols, channels)
        sources = []
        for i, j in np.ndindex(rows // reduction, cols // reduction):
            patch = image[i * reduction : (i + 1) * reduction, j * reduction : (j + 1) * reduction]
            value = np.einsum("ochw,hwc->o", kernel, patch) + bias
            value = (value - value.mean()) / math.sqrt(value.var() + 1e-5)
            sources.append(value * module.norm.weight.detach().numpy() + module.norm.bias.detach().numpy())
    width = channels // heads
    expected = []
    for token in tokens:
        query, parts = _linear(module.query, token), []
        for head in range(heads):
            piece = slice(head * width, (head + 1) * width)
            keys = [_linear(module.key_value, s)[:channels][piece] for s in sources]
            values = [_linear(module.key_value, s)[channels:][piece] for s in sources]
            powers = [math.exp(float(query[piece] @ key) / math.sqrt(width)) for key in keys]
            parts.append(sum(p * v for p, v in zip(powers, values, strict=True)) / sum(powers))
        expected.append(_linear(module.out, np.concatenate(parts)))
    np.testing.assert_allclose(module(x, (rows, cols))[0].detach().numpy(), expected, rtol=1e-8, atol=1e-10)


def test_feed_forward_mixes_positions_channel_by_channel() -> None:
    module = _double(MixFeedForward(3))
    x = torch.randn(1, 20, 3, dtype=torch.float64)
    hidden = module.widen(x)[0].T.reshape(12, 4, 5)
    mixed = torch.zeros_like(hidden)
    padded = F.pad(hidden, (1, 1, 1, 1))
    for c, i, j in np.ndindex(12, 4, 5):
        mixed[c, i, j] = (padded[c, i : i + 3, j : j + 3] * module.mix.weight[c, 0]).sum() + module.mix.bias[c]
    gelu = mixed / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (mixed + 0.044715 * mixed**3)))
    expected = module.narrow(gelu.reshape(12, 20).T)
    torch.testing.assert_close(module(x, (4, 5))[0], expected)


def test_cbam_is_the_naive_one() -> None:
    module = _double(CBAM(16))
    x = torch.randn(1, 16, 5, 6, dtype=torch.float64)
    image = x[0].numpy()
    w1, w2 = (layer.weight.detach().numpy()[:, :, 0, 0] for layer in (module.channel.fc1, module.channel.fc2))
    total = np.zeros(16)
    for pooled in (image.mean((1, 2)), image.max((1, 2))):
        hidden = max(0.0, float(w1[0] @ pooled))  # ratio 16: one hidden channel
        total += w2[:, 0] * hidden
    image = image / (1 + np.exp(-total))[:, None, None]
    summary = np.stack([image.mean(0), image.max(0)])
    padded, kernel = np.pad(summary, ((0, 0), (3, 3), (3, 3))), module.spatial.conv.weight.detach().numpy()[0]
    gate = np.zeros((5, 6))
    for i, j in np.ndindex(5, 6):
        gate[i, j] = 1 / (1 + math.exp(-(padded[:, i : i + 7, j : j + 7] * kernel).sum()))
    np.testing.assert_allclose(module(x)[0].detach().numpy(), image * gate, rtol=1e-8)


def _sample(image: np.ndarray, x: float, y: float) -> np.ndarray:
    """Bilinear, x and y from -1 to 1 at the outer edges of the outer pixels, zero outside."""
    height, width = image.shape[1:]
    col, row = ((x + 1) * width - 1) / 2, ((y + 1) * height - 1) / 2
    total = np.zeros(image.shape[0])
    for i in (math.floor(row), math.floor(row) + 1):
        for j in (math.floor(col), math.floor(col) + 1):
            if 0 <= i < height and 0 <= j < width:
                total += image[:, i, j] * (1 - abs(row - i)) * (1 - abs(col - j))
    return total


def test_semantic_flow_reads_the_coarse_map_along_the_flow() -> None:
    module = _double(SemanticFlow(3, 2))
    coarse, fine = torch.randn(1, 3, 3, 4, dtype=torch.float64), torch.randn(1, 2, 6, 8, dtype=torch.float64)
    up = F.interpolate(module.from_coarse(coarse), size=(6, 8), mode="bilinear")
    flow = F.conv2d(torch.cat([up, module.from_fine(fine)], 1), module.flow.weight, padding=1)[0].detach().numpy()
    expected = F.interpolate(coarse, size=(6, 8), mode="bilinear")[0].numpy().copy()
    for i, j in np.ndindex(6, 8):
        x, y = -1 + 2 * j / 7 + flow[0, i, j] / 8, -1 + 2 * i / 5 + flow[1, i, j] / 6
        expected[:, i, j] += _sample(coarse[0].numpy(), x, y)
    np.testing.assert_allclose(module(coarse, fine)[0].detach().numpy(), expected, rtol=1e-8, atol=1e-10)


def _separable(layers: nn.Sequential, x: Tensor) -> Tensor:
    for conv, norm, _ in layers:
        x = F.conv2d(x, conv.weight, conv.bias, 1, conv.padding, conv.dilation, conv.groups)
        centred = (x - norm.running_mean.view(-1, 1, 1)) / (norm.running_var.view(-1, 1, 1) + norm.eps).sqrt()
        x = (centred * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)).clamp(min=0)
    return x


def test_merge_is_difference_pyramid_and_attended_mixture() -> None:
    module = _double(PyramidMerge(16))
    f1, f2 = torch.randn(2, 1, 16, 6, 5, dtype=torch.float64)
    difference = (f1 - f2).abs()
    pyramid = module.pyramid
    assert [layers[0][0].dilation[0] for layers in pyramid.rates] == [1, 1, 4, 8]
    branches = [_separable(layers, difference) for layers in pyramid.rates]
    mean = _separable([pyramid.mean], difference.mean((2, 3), keepdim=True)).expand(-1, -1, 6, 5)
    joined = _separable(pyramid.join, torch.cat([*branches, mean], 1))
    mixture = module.attention(_separable(module.mix, torch.cat([f1, f2], 1)))
    torch.testing.assert_close(module(f1, f2), joined + difference + mixture)


def test_edges_weigh_every_level_at_its_size() -> None:
    module = _double(EdgeGuidance((16, 16, 16, 16)))
    levels = [torch.randn(1, 16, s, s, dtype=torch.float64) for s in (16, 8, 4, 2)]
    edges, refined = module(levels)
    fine, deep = _separable(module.fine, levels[0]), _separable(module.deep, levels[3])
    mixed = torch.cat([module.flow(deep, fine), fine], 1)
    for layers in module.mix:
        mixed = _separable(layers, mixed)
    torch.testing.assert_close(edges, module.edges(mixed))
    gate = module.gate(edges)
    for step, (x, attention, got) in enumerate(zip(levels, module.attentions, refined, strict=True)):
        at_size = F.adaptive_max_pool2d(gate, 16 // 2**step)
        torch.testing.assert_close(got, attention(x * at_size + x))


def test_upsampling_is_the_released_sampler_at_256() -> None:
    """A grid of 256 x 256 points from corner to corner, sampled with aligned corners."""
    x = torch.randn(1, 2, 64, 64, dtype=torch.float64)
    points = torch.linspace(-1, 1, 256, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(points, points, indexing="xy"), 2)[None]
    released = F.grid_sample(x, grid, align_corners=True)
    torch.testing.assert_close(F.interpolate(x, size=(256, 256), mode="bilinear", align_corners=True), released)


def test_forward_step_by_step() -> None:
    torch.manual_seed(0)
    network = create_model("sfearnet").double().eval()
    before, after = torch.randn(2, 1, 3, 64, 32, dtype=torch.float64)
    with torch.no_grad():
        dates = []
        for date in (before, after):
            levels = [date]
            for stage in network.encoder:
                levels.append(stage(levels[-1]))
            dates.append(levels[1:])
        assert [tuple(x.shape[1:]) for x in dates[0]] == [(32, 16, 8), (64, 8, 4), (160, 4, 2), (256, 2, 1)]
        merged = [merge(f1, f2) for merge, f1, f2 in zip(network.merge, *dates, strict=True)]
        edges, refined = network.edges(merged)
        decoder = network.decoder
        maps = []
        for project, x in zip(decoder.project, refined, strict=True):
            maps.append(torch.einsum("oc,bchw->bohw", project.weight, x) + project.bias.view(-1, 1, 1))
        fine = [decoder.flows[i](maps[i + 1], refined[0]) for i in (2, 1, 0)]
        classes = decoder.head(decoder.join(torch.cat([*fine, maps[0]], 1)))
        for got, scores in zip(network.forward_with_aux(before, after), (classes, edges), strict=True):
            full = F.interpolate(scores, size=(64, 32), mode="bilinear", align_corners=True)
            torch.testing.assert_close(got, full[:, 1:] - full[:, :1])


def test_drop_path_leaves_whole_images_out_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    module, x = DropPath(0.25).train(), torch.ones(4000, 2, 3)
    out = module(x)
    assert set(out.flatten(1).std(1).tolist()) == {0.0}
    assert out.mean().item() == pytest.approx(1, abs=0.05)
    assert (out[:, 0, 0] == 0).float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert torch.equal(module.eval()(x), x)


def test_drop_path_grows_from_nothing_to_a_tenth() -> None:
    with torch.device("meta"):
        network = create_model("sfearnet")
    shares = [block.drop_path.share for stage in network.encoder for block in stage.blocks]
    assert shares == pytest.approx([0.1 * i / 7 for i in range(8)])


def test_biases_are_those_of_the_released_code() -> None:
    branches = AtrousBranches(4)
    assert [layers[0][0].bias is not None for layers in branches.rates] == [True, False, False, False]


def test_a_size_that_does_not_exist() -> None:
    with pytest.raises(ModelError, match=r"size is 'b2'; it must be one of b0, b1"):
        create_model("sfearnet", size="b2")
