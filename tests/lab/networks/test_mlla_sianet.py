"""MLLA_SiaNet against naive numpy, and what its size promises."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.utils.flop_counter import FlopCounterMode

from terradelta.errors import ModelError
from terradelta.lab.networks.mlla_sianet import (
    BinomialBlur,
    DeepSemanticPyramid,
    DifferentialFusion,
    Encoder,
    MLLASiaNet,
    mlla_sianet,
    mlla_sianet_large,
    mlla_sianet_light,
    mlla_sianet_lite0,
)

pytestmark = pytest.mark.usefixtures("one_thread")

Array = NDArray[np.float64]


def _randomised(module: torch.nn.Module) -> torch.nn.Module:
    """Float64, evaluation mode, every weight, bias and batch statistic random."""
    torch.manual_seed(3)
    module = module.double().eval()
    for key, value in module.state_dict().items():
        if value.is_floating_point():
            low = 0.5 if key.endswith("running_var") else -0.6
            value.uniform_(low, 1.0)
    return module


def _features(channels: int, height: int, width: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, channels, height, width, generator=generator, dtype=torch.float64)


# ---- naive numpy, one pixel at a time; arrays are (C, H, W) ---------------------------------------------------------


def _convolve(x: Array, conv: torch.nn.Conv2d) -> Array:
    weight, d = conv.weight.detach().numpy(), conv.dilation[0]
    reach = weight.shape[2] // 2
    out = np.zeros((weight.shape[0], *x.shape[1:]))
    for i, j in np.ndindex(x.shape[1:]):
        for a, b in np.ndindex(weight.shape[2:]):
            row, col = i + (a - reach) * d, j + (b - reach) * d
            if 0 <= row < x.shape[1] and 0 <= col < x.shape[2]:
                out[:, i, j] += weight[:, :, a, b] @ x[:, row, col]
    return out if conv.bias is None else out + conv.bias.detach().numpy()[:, None, None]


def _conv_bn_relu(x: Array, block: torch.nn.Sequential) -> Array:
    norm = block[1]
    mean, var, gain, bias = (
        v.detach().numpy()[:, None, None] for v in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return np.maximum((_convolve(x, block[0]) - mean) / np.sqrt(var + norm.eps) * gain + bias, 0)


def _window_mean(x: Array, window: int) -> Array:
    """Mean over the part of the window that lies inside the map."""
    out, reach = np.empty_like(x), window // 2
    for i, j in np.ndindex(x.shape[1:]):
        part = x[:, max(i - reach, 0) : i + reach + 1, max(j - reach, 0) : j + reach + 1]
        out[:, i, j] = part.mean((1, 2))
    return out


def _bilinear(x: Array, factor: int) -> Array:
    height, width = x.shape[1:]
    rows = np.clip((np.arange(height * factor) + 0.5) / factor - 0.5, 0, height - 1)
    cols = np.clip((np.arange(width * factor) + 0.5) / factor - 0.5, 0, width - 1)
    grid = np.meshgrid(rows, cols, indexing="ij")
    return np.stack([ndimage.map_coordinates(band, grid, order=1) for band in x])


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _channel_attention(x: Array, cell: int, mlp: torch.nn.Sequential) -> Array:
    cells = x.reshape(x.shape[0], x.shape[1] // cell, cell, x.shape[2] // cell, cell)
    mean = _window_mean(cells.mean((2, 4)), 3)
    peak = ndimage.maximum_filter(cells.max((2, 4)), (1, 3, 3), mode="constant", cval=-np.inf)
    total = sum(_convolve(np.maximum(_convolve(v, mlp[0]), 0), mlp[2]) for v in (mean, peak))
    return _bilinear(_sigmoid(total), cell)


def _naive_dfm(f1: Array, f2: Array, dfm: DifferentialFusion, cell: int) -> Array:
    difference, angle = np.abs(f1 - f2), np.empty((1, *f1.shape[1:]))
    for i, j in np.ndindex(f1.shape[1:]):
        u, v = f1[:, i, j], f2[:, i, j]
        angle[0, i, j] = 1 - u @ v / np.sqrt((u @ u) * (v @ v))
    views = [
        _conv_bn_relu(difference, dfm.magnitude),
        _conv_bn_relu(angle * (f1 + f2) / 2, dfm.angle),
        np.mean([_conv_bn_relu(np.concatenate(pair), dfm.learned) for pair in ((f1, f2), (f2, f1))], 0),
        _conv_bn_relu(np.concatenate([np.fmax(f1, f2), np.fmin(f1, f2)]), dfm.envelope),
    ]
    fused = _conv_bn_relu(np.concatenate(views), dfm.fuse)
    fused = fused * _channel_attention(fused, cell, dfm.channel.mlp)
    summary = np.stack([fused.mean(0), fused.max(0)])
    return difference + fused * _sigmoid(_convolve(summary, dfm.spatial.conv))


def _blurred(x: Array, dilation: int) -> Array:
    taps = np.zeros(4 * dilation + 1)
    taps[::dilation] = np.array([1, 4, 6, 4, 1]) / 16

    def both(values: Array) -> Array:
        return ndimage.correlate1d(ndimage.correlate1d(values, taps, 1, mode="constant"), taps, 2, mode="constant")

    return both(x) / both(np.ones_like(x))


# ---- the tests ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", [1, 2, 4])
def test_dfm_is_its_formulas_pixel_by_pixel(cell: int) -> None:
    dfm = _randomised(DifferentialFusion(6, 6, cell))
    f1, f2 = _features(6, 8, 12, 1), _features(6, 8, 12, 2)
    with torch.no_grad():
        found = dfm(f1, f2)[0].numpy()
    np.testing.assert_allclose(found, _naive_dfm(f1[0].numpy(), f2[0].numpy(), dfm, cell), rtol=1e-5, atol=1e-7)


def test_dfm_between_two_widths_takes_the_difference_through_its_own_convolution() -> None:
    dfm = _randomised(DifferentialFusion(6, 4, 2, kernel=1))
    f1, f2 = _features(6, 8, 12, 1), _features(6, 8, 12, 2)
    weight = dfm.residual.weight.detach()[:, :, 0, 0].numpy().copy()
    with torch.no_grad():
        found = dfm(f1, f2)[0].numpy()
        dfm.residual.weight.zero_()
        rest = dfm(f1, f2)[0].numpy()
    difference = np.abs(f1[0].numpy() - f2[0].numpy())
    np.testing.assert_allclose(found - rest, np.einsum("oi,ihw->ohw", weight, difference), rtol=1e-9, atol=1e-12)
    assert dfm.learned[0].kernel_size == (1, 1)
    with torch.no_grad():
        np.testing.assert_allclose(dfm(f2, f1)[0].numpy(), rest, rtol=1e-12)


def test_angle_of_pixels_without_features_is_finite() -> None:
    dfm = _randomised(DifferentialFusion(4, 4, 1))
    nothing = torch.zeros(1, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    out = dfm(nothing, nothing)
    out.sum().backward()
    assert out.isfinite().all()
    assert nothing.grad.isfinite().all()


@pytest.mark.parametrize("dilation", [1, 2, 4])
def test_binomial_blur_is_scipys(dilation: int) -> None:
    x = _features(3, 9, 14, 5)
    found = BinomialBlur(dilation).double()(x)[0].numpy()
    np.testing.assert_allclose(found, _blurred(x[0].numpy(), dilation), rtol=1e-12)


def test_blur_keeps_a_constant_map_up_to_the_border() -> None:
    x = torch.full((1, 2, 5, 3), 0.7)
    torch.testing.assert_close(BinomialBlur(4)(x), x)


def test_dsp_is_pools_and_blurs_pixel_by_pixel() -> None:
    dsp = _randomised(DeepSemanticPyramid(8))
    x = _features(8, 13, 7, 6)
    parts = [x[0].numpy()]
    for window, project in zip((3, 5, 9, 11), dsp.pools, strict=True):
        parts.append(_conv_bn_relu(_window_mean(parts[0], window), project))
    smooth = parts[0]
    for dilation, octave in zip((1, 2, 4), dsp.octaves, strict=True):
        smooth = _blurred(smooth, dilation)
        assert octave[0].dilation == (dilation, dilation)
        parts.append(_conv_bn_relu(smooth, octave))
    expected = _conv_bn_relu(np.concatenate(parts), dsp.fuse)
    with torch.no_grad():
        np.testing.assert_allclose(dsp(x)[0].numpy(), expected, rtol=1e-9, atol=1e-9)


@pytest.fixture(scope="module")
def narrow() -> MLLASiaNet:
    """The whole network with few channels and stride 4: its reach is 150 pixels at most."""
    torch.manual_seed(0)
    network = MLLASiaNet(Encoder(2, (4, 6), (1, 1), "half")).double().eval()
    for head in (network.head, *network.aux_heads):
        torch.nn.init.normal_(head.weight)
    return network


@pytest.mark.parametrize("moved", [(4, 0), (0, -8), (12, 4)])
def test_shifting_the_input_by_the_stride_shifts_the_output(narrow: MLLASiaNet, moved: tuple[int, int]) -> None:
    before, after = _features(2, 400, 400, 7), _features(2, 400, 400, 8)
    with torch.no_grad():
        still = narrow(before, after).roll(moved, (2, 3))
        shifted = narrow(before.roll(moved, (2, 3)), after.roll(moved, (2, 3)))
    centre = (..., slice(180, 220), slice(180, 220))
    torch.testing.assert_close(shifted[centre], still[centre], rtol=0, atol=1e-12)
    assert shifted[centre].std() > 1e-3
    assert not torch.allclose(shifted, still, atol=1e-9)  # the border, where the roll brings in other pixels


def test_pixels_out_of_reach_do_not_matter(narrow: MLLASiaNet) -> None:
    before, after = _features(2, 400, 400, 7), _features(2, 400, 400, 8)
    changed = after.clone()
    changed[..., :20] += 10
    with torch.no_grad():
        gap = (narrow(before, changed) - narrow(before, after)).abs().amax((0, 1, 2))
    assert gap[:20].max() > 0.1
    assert gap[200:].max() == 0


def test_default_size_is_within_8_million_parameters_and_8_gmacs() -> None:
    network = mlla_sianet().eval()
    x = torch.zeros(1, 3, 256, 256)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(x, x)
    assert 1e6 < sum(p.numel() for p in network.parameters()) <= 8e6
    assert 1e9 < counter.get_total_flops() / 2 <= 8e9  # the counter takes a multiply-add as two operations


def test_lite0_is_within_2_million_parameters_and_1_5_gmacs() -> None:
    network = mlla_sianet_lite0().eval()
    x = torch.zeros(1, 3, 256, 256)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        levels = network.forward_with_aux(x, x)
    assert 0.7e6 < sum(p.numel() for p in network.parameters()) <= 2e6
    assert 0.5e9 < counter.get_total_flops() / 2 <= 1.5e9
    assert len(levels) == 4
    assert network.stride == 16
    assert network.symmetric


def test_light_has_the_cells_and_stride_of_the_default_and_two_fifths_of_its_work() -> None:
    work = []
    for network in (mlla_sianet().eval(), mlla_sianet_light().eval()):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, 3, 256, 256), torch.zeros(1, 3, 256, 256))
        work.append(counter.get_total_flops())
        cells = [fusion.channel.cell for fusion in network.fusions]
        assert network.stride == 16
        assert cells == [4, 2, 1] if network.encoder.stem == "quarter" else [8, 4, 2, 1]
    assert 0.36 < work[1] / work[0] < 0.44


def test_large_encoder_has_the_keys_of_torchvisions_resnet34() -> None:
    def norm(key: str, channels: int) -> dict[str, tuple[int, ...]]:
        parts = {f"{key}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}
        return {**parts, f"{key}.num_batches_tracked": ()}

    expected = {"conv1.weight": (64, 3, 7, 7), **norm("bn1", 64)}
    channels = 64
    for layer, (width, depth) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), 1):
        for block in range(depth):
            key = f"layer{layer}.{block}"
            expected |= {f"{key}.conv1.weight": (width, channels, 3, 3), **norm(f"{key}.bn1", width)}
            expected |= {f"{key}.conv2.weight": (width, width, 3, 3), **norm(f"{key}.bn2", width)}
            if channels != width:
                expected |= {f"{key}.downsample.0.weight": (width, channels, 1, 1)}
                expected |= norm(f"{key}.downsample.1", width)
            channels = width
    encoder = mlla_sianet_large().encoder
    assert {key: tuple(value.shape) for key, value in encoder.state_dict().items()} == expected
    # torchvision's resnet34 has 21,797,672 parameters, its classifier 512 * 1000 + 1000 of them.
    assert sum(p.numel() for p in encoder.parameters()) == 21_797_672 - 513_000


def test_encoder_levels() -> None:
    x = torch.zeros(1, 3, 64, 96)
    small = Encoder(3, (4, 8, 12), (1, 2, 1), "half").eval()
    assert [tuple(f.shape[1:]) for f in small(x)] == [(4, 32, 48), (8, 16, 24), (12, 8, 12)]
    stemmed = Encoder(3, (4, 8), (1, 1), "resnet").eval()
    assert [tuple(f.shape[1:]) for f in stemmed(x)] == [(4, 32, 48), (4, 16, 24), (8, 8, 12)]
    light = Encoder(3, (4, 8, 12), (1, 2, 1), "quarter").eval()
    assert [tuple(f.shape[1:]) for f in light(x)] == [(4, 16, 24), (8, 8, 12), (12, 4, 6)]


def test_each_ablation_switch_takes_its_part_away() -> None:
    x, y = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)
    keys = {"dfm": "fusions.", "dsp": "pyramid.", "mla": "aux_heads."}
    for switch, prefix in keys.items():
        network = mlla_sianet(**{switch: False}).eval()
        present = {p for p in keys.values() if any(key.startswith(p) for key in network.state_dict())}
        assert present == set(keys.values()) - {prefix}
        assert len(network.forward_with_aux(x, y)) == (1 if switch == "mla" else 4)


def test_plain_subtraction_sees_nothing_in_equal_dates() -> None:
    """Without DFM the features of equal dates cancel, so the input no longer matters."""
    network = mlla_sianet(dfm=False).eval()
    x, y = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(network(x, x), network(y, y))
        assert not torch.equal(network(x, y), network(x, x))


def test_a_fresh_network_starts_from_few_changes() -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        share = mlla_sianet().eval()(torch.randn(1, 3, 64, 64), torch.randn(1, 3, 64, 64)).sigmoid().mean()
    assert 0.05 < share < 0.25


@pytest.mark.parametrize(("widths", "depths"), [((8, 16), (1,)), ((8,), (1,))])
def test_widths_and_depths_must_fit(widths: tuple[int, ...], depths: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match=r"widths \(8.*\) and depths \(1,\) must have one length, at least 2"):
        Encoder(3, widths, depths, "half")
