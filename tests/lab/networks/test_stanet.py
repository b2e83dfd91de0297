"""STANet: both attentions against naive loops, the distance, the encoder against ResNet-18 with a multi-grid stage."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from terradelta.errors import ModelError
from terradelta.lab.networks import create_model
from terradelta.lab.networks.layers.distance import SCALE, THRESHOLD, channel_distance, logit_of_distance
from terradelta.lab.networks.stanet import (
    CHANNELS,
    KEY_CHANNELS,
    BasicAttention,
    Extractor,
    PartitionAttention,
    PyramidAttention,
)

Array = NDArray[np.float64]


def _double(module: nn.Module) -> nn.Module:
    torch.manual_seed(3)
    module = module.double().eval()
    for key, value in module.state_dict().items():
        if value.is_floating_point():
            value.uniform_(0.5 if key.endswith("running_var") else -0.3, 0.7)
    return module


def _sides(height: int, width: int, batch: int = 1) -> Tensor:
    """Maps of two dates, side by side."""
    return torch.randn(batch, CHANNELS, height, 2 * width, dtype=torch.float64)


def _conv(conv: nn.Conv2d, pixel: Array) -> Array:
    return conv.weight.detach().numpy()[:, :, 0, 0] @ pixel + conv.bias.detach().numpy()


def _norm(norm: nn.BatchNorm2d, values: Array) -> Array:
    scale = norm.weight.detach().numpy() / np.sqrt(norm.running_var.numpy() + norm.eps)
    return (values - norm.running_mean.numpy()) * scale + norm.bias.detach().numpy()


def _gather(queries: list[Array], keys: list[Array], values: list[Array]) -> list[Array]:
    """Each token's mean of the values, weighted by the softmax of its likenesses, one token at a time."""
    out = []
    for query in queries:
        powers = [math.exp(float(query @ key) / math.sqrt(KEY_CHANNELS)) for key in keys]
        out.append(sum(p / sum(powers) * value for p, value in zip(powers, values, strict=True)))
    return out


@pytest.mark.parametrize("pool", [1, 2])
def test_bam_is_the_naive_one(pool: int) -> None:
    module = _double(BasicAttention(pool))
    x = _sides(4, 2)
    image = x[0].numpy()
    rows, cols = 4 // pool, 4 // pool
    pooled = image.reshape(CHANNELS, rows, pool, cols, pool).mean((2, 4))
    pixels = [pooled[:, i, j] for i in range(rows) for j in range(cols)]
    tokens = ([_conv(conv, pixel) for pixel in pixels] for conv in (module.query, module.key, module.value))
    gathered = np.array(_gather(*tokens)).T.reshape(CHANNELS, rows, cols)
    expected = image + gathered.repeat(pool, 1).repeat(pool, 2)
    np.testing.assert_allclose(module(x)[0].detach().numpy(), expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("parts", "pool"), [(1, 1), (2, 1), (4, 1), (2, 2)])
def test_a_branch_of_pam_is_the_naive_one(parts: int, pool: int) -> None:
    """Each part attends to itself, in both dates, and to nothing else."""
    module = _double(PartitionAttention(parts, pool))
    height, width = 4 * pool, 8 * pool
    x = _sides(height, width)
    pooled = x[0].numpy().reshape(CHANNELS, 4, pool, 16, pool).mean((2, 4))
    dates = [pooled[:, :, :8], pooled[:, :, 8:]]
    expected = [np.zeros((CHANNELS, 4, 8)) for _ in dates]
    step_i, step_j = 4 // parts, 8 // parts
    for part_i, part_j in np.ndindex(parts, parts):
        places = [
            (date, i, j)
            for i in range(part_i * step_i, (part_i + 1) * step_i)
            for j in range(part_j * step_j, (part_j + 1) * step_j)
            for date in (0, 1)
        ]
        pixels = [dates[date][:, i, j] for date, i, j in places]
        queries, keys = (
            [_norm(layers[1], _conv(layers[0], pixel)) for pixel in pixels] for layers in (module.query, module.key)
        )
        values = [_conv(module.value, pixel) for pixel in pixels]
        for (date, i, j), value in zip(places, _gather(queries, keys, values), strict=True):
            expected[date][:, i, j] = value
    joined = np.concatenate(expected, 2).repeat(pool, 1).repeat(pool, 2)
    np.testing.assert_allclose(module(x)[0].detach().numpy(), joined, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("training", [True, False])
def test_gradient_of_a_branch_is_that_of_the_naive_product(parts: int, training: bool) -> None:
    """For a batch of one too, where torch's batch normalisation has been seen to go wrong."""
    module = _double(PartitionAttention(parts)).train(training)
    x, d, weights = (torch.randn(1, CHANNELS, 4, 8, dtype=torch.float64) for _ in range(3))
    x.requires_grad_()
    (slope,) = torch.autograd.grad((module(x) * weights).sum(), x)
    with torch.no_grad():
        ends = [((module(x + step * d)) * weights).sum() for step in (1e-6, -1e-6)]
    assert ((ends[0] - ends[1]) / 2e-6).item() == pytest.approx((slope * d).sum().item(), rel=1e-5)


def test_images_of_a_batch_keep_their_parts() -> None:
    module = _double(PartitionAttention(4))
    x = _sides(8, 8, batch=3)
    with torch.no_grad():
        alone = torch.cat([module(image[None]) for image in x])
        torch.testing.assert_close(module(x), alone)


def test_pam_joins_four_branches_without_a_residual() -> None:
    module = _double(PyramidAttention())
    assert [branch.parts for branch in module.branches] == [1, 2, 4, 8]
    x = _sides(8, 8)
    weight = module.fuse.weight[:, :, 0, 0]
    expected = sum(
        torch.einsum("oc,bchw->bohw", weight[:, i * CHANNELS : (i + 1) * CHANNELS], branch(x))
        for i, branch in enumerate(module.branches)
    )
    torch.testing.assert_close(module(x), expected)


def test_distance_is_over_the_channels() -> None:
    """`pairwise_distance` reduces the last axis; the classic mistake gives another shape and other numbers."""
    f1, f2 = torch.randn(2, 1, 5, 4, 3, dtype=torch.float64)
    expected = np.zeros((1, 1, 4, 3))
    for i, j in np.ndindex(4, 3):
        expected[0, 0, i, j] = math.sqrt(sum((f1[0, c, i, j].item() - f2[0, c, i, j].item()) ** 2 for c in range(5)))
    np.testing.assert_allclose(channel_distance(f1, f2).numpy(), expected, atol=1e-5)
    assert F.pairwise_distance(f1, f2).shape == (1, 5, 4)


def test_a_millionth_is_added_to_the_signed_difference() -> None:
    """As torch's own function does it, whose last axis is the one that counts."""
    torch.manual_seed(4)
    f1, f2 = torch.randn(2, 1, 8, 5, 4, dtype=torch.float64) * 1e-6
    expected = F.pairwise_distance(f1.movedim(1, -1), f2.movedim(1, -1))
    torch.testing.assert_close(channel_distance(f1, f2)[:, 0], expected, rtol=1e-12, atol=0)
    assert (channel_distance(f1, f2) - channel_distance(f2, f1)).abs().max() > 1e-7


def test_equal_features_have_distance_zero_and_a_finite_gradient() -> None:
    f1 = torch.randn(1, 6, 2, 2, requires_grad=True)
    distance = channel_distance(f1, f1.detach().clone())
    distance.sum().backward()
    assert distance.max() < 1e-5
    assert f1.grad.isfinite().all()


def test_half_precision_features_have_a_wide_distance() -> None:
    f1, f2 = torch.full((1, 64, 1, 1), 300.0, dtype=torch.float16), torch.zeros(1, 64, 1, 1, dtype=torch.float16)
    distance = channel_distance(f1, f2)
    assert distance.dtype == torch.float32
    assert distance.item() == pytest.approx(2400)


def test_the_logit_is_zero_at_the_threshold() -> None:
    distance = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0])
    assert logit_of_distance(distance).tolist() == [-4, -2, 0, 2, 4]
    assert (SCALE, THRESHOLD) == (4, 1)


def test_encoder_has_the_keys_of_resnet18_and_a_third_block() -> None:
    with torch.device("meta"):
        encoder = create_model("stanet").encoder
    blocks = [f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)] + ["layer4.2"]
    expected = {"conv1.weight"} | {f"{block}.conv{i}.weight" for block in blocks for i in (1, 2)}
    expected |= {f"layer{stage}.0.downsample.0.weight" for stage in (2, 3, 4)}
    assert {key for key, p in encoder.named_parameters() if p.ndim == 4} == expected
    assert [block.conv1.dilation[0] for block in encoder.layer4] == [1, 2, 4]
    assert [block.conv2.dilation[0] for block in encoder.layer4] == [1, 1, 1]
    levels = encoder.to_empty(device="cpu").eval()(torch.randn(1, 3, 64, 32))
    assert [tuple(x.shape[1:]) for x in levels] == [(64, 16, 8), (128, 8, 4), (256, 4, 2), (512, 2, 1)]


def test_extractor_joins_the_deepest_level_first() -> None:
    module = _double(Extractor())
    levels = [
        torch.randn(1, c, s, s, dtype=torch.float64) for c, s in zip((64, 128, 256, 512), (16, 8, 4, 2), strict=True)
    ]
    order = [3, 0, 1, 2]
    maps = [
        F.interpolate(module.reduce[i](levels[i]), size=(16, 16), mode="bilinear", align_corners=True) for i in order
    ]
    torch.testing.assert_close(module(levels), module.fuse(torch.cat(maps, 1)))


@pytest.mark.parametrize("attention", ["base", "bam"])
def test_output_is_the_distance_of_the_attended_features(attention: str) -> None:
    torch.manual_seed(0)
    network = create_model("stanet", attention=attention).double().eval()
    before, after = torch.randn(2, 1, 3, 32, 64, dtype=torch.float64)
    with torch.no_grad():
        f1, f2 = (network.extractor(network.encoder(date)) for date in (before, after))
        together = network.attention(torch.cat([f1, f2], 3))
        distance = channel_distance(together[..., :16], together[..., 16:])
        expected = 4 * F.interpolate(distance, size=(32, 64), mode="bilinear", align_corners=True) - 4
        torch.testing.assert_close(network(before, after), expected)
    assert network.whole_tile == (attention == "bam")


@pytest.mark.parametrize("attention", ["bam", "pam"])
def test_pooled_attention_at_its_smallest_size(attention: str) -> None:
    network = create_model("stanet", attention=attention, pool=2).eval()
    assert network.stride == 64
    with torch.no_grad():
        assert network(*torch.randn(2, 1, 3, 64, 64)).shape == (1, 1, 64, 64)


def test_options_that_do_not_exist() -> None:
    with pytest.raises(ModelError, match=r"attention is 'full'; it must be one of base, bam, pam"):
        create_model("stanet", attention="full")
    with pytest.raises(ModelError, match=r"pool is 3; it must be 1, 2, 4 or 8"):
        create_model("stanet", pool=3)
