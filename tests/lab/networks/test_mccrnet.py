"""MCCRNet against naive versions of its equations and the counts of the paper's Table 5."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from terradelta.errors import ModelError
from terradelta.lab.networks import Macs, count_macs, count_parameters, create_model
from terradelta.lab.networks.mccrnet import (
    AtrousPyramid,
    ContextualRefinement,
    CrossAttention,
    CrossChannelAttention,
    CrossPositionAttention,
    DecoderBlock,
    MCCRNet,
    attend,
)

Array = NDArray[np.float64]
Counted = dict[bool, tuple[int, Macs]]
NARROW = 0.0625  # widths 4, 8, 16, 32


def settled(module: nn.Module, seed: int = 0) -> nn.Module:
    """Evaluation mode, float64, every parameter and statistic away from its initial value."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn_like(p) * 0.4)
        for m in module.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.running_mean.uniform_(-0.2, 0.2)
                m.running_var.uniform_(0.5, 1.5)
                m.weight.uniform_(0.5, 1.5)
    return module.double().eval()


def dates(channels: int, height: int, width: int, batch: int = 1, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(batch, channels, height, width, generator=generator, dtype=dtype) for _ in range(2)]


def numpy(x: Tensor) -> Array:
    return x.detach().numpy()


def conv1x1(module: nn.Conv2d, x: Array) -> Array:
    """``(in, N) -> (out, N)``."""
    return numpy(module.weight)[:, :, 0, 0] @ x + numpy(module.bias)[:, None]


def conv_bn_relu(module: nn.Sequential, x: Array) -> Array:
    """``(in, N) -> (out, N)``."""
    conv, norm = module[0], module[1]
    y = conv1x1(conv, x) - numpy(norm.running_mean)[:, None]
    y = y / np.sqrt(numpy(norm.running_var)[:, None] + norm.eps)
    return np.maximum(y * numpy(norm.weight)[:, None] + numpy(norm.bias)[:, None], 0)


def softmax_rows(x: Array) -> Array:
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def pyramids(module: CrossPositionAttention | CrossChannelAttention, f1: Tensor, f2: Tensor) -> list[Array]:
    """The pyramid's output of each date, ``(C, N)``."""
    return [numpy(module.pyramid(f))[0].reshape(f.shape[1], -1) for f in (f1, f2)]


@torch.no_grad()
def test_position_attention_is_the_paper_s_with_the_full_map() -> None:
    module = settled(CrossPositionAttention(6))
    f1, f2 = dates(6, 5, 4)
    a, b = pyramids(module, f1, f2)
    q, k = conv1x1(module.query, a), conv1x1(module.key, b)
    forward, backward = softmax_rows(q.T @ k), softmax_rows(k.T @ q)
    want1 = a + module.weight1.item() * conv1x1(module.value1, a) @ forward.T
    want2 = b + module.weight2.item() * conv1x1(module.value2, b) @ backward.T
    got1, got2 = module(f1, f2)
    np.testing.assert_allclose(numpy(got1)[0].reshape(6, -1), want1, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(numpy(got2)[0].reshape(6, -1), want2, rtol=1e-10, atol=1e-12)


@torch.no_grad()
def test_channel_attention_is_the_paper_s_written_as_loops() -> None:
    module = settled(CrossChannelAttention(6))
    f1, f2 = dates(6, 5, 4)
    a, b = pyramids(module, f1, f2)
    for own, other, weight, got in zip((a, b), (b, a), (module.weight1, module.weight2), module(f1, f2), strict=True):
        want = own.copy()
        for i in range(6):
            energies = np.array([own[i] @ other[j] for j in range(6)])
            shares = np.exp(energies - energies.max())
            shares /= shares.sum()
            for j in range(6):
                want[i] += weight.item() * shares[j] * own[j]
        np.testing.assert_allclose(numpy(got)[0].reshape(6, -1), want, rtol=1e-10, atol=1e-12)


@torch.no_grad()
def test_cross_attention_adds_the_normed_branches_of_each_date() -> None:
    module = settled(CrossAttention(4))
    f1, f2 = dates(4, 4, 3)
    spatial, channel = module.position(f1, f2), module.channel(f1, f2)
    norms = ((module.norm_s1, module.norm_c1), (module.norm_s2, module.norm_c2))
    for got, s, c, (norm_s, norm_c) in zip(module(f1, f2), spatial, channel, norms, strict=True):
        want = sum(conv_bn_relu(norm, numpy(x)[0].reshape(4, -1)) for norm, x in ((norm_s, s), (norm_c, c)))
        np.testing.assert_allclose(numpy(got)[0].reshape(4, -1), want, rtol=1e-10, atol=1e-12)


@torch.no_grad()
def test_pyramid_taps_lie_at_the_four_rates() -> None:
    module = AtrousPyramid(2).double().eval()
    for branch in module.rates:
        nn.init.ones_(branch[0].weight)
        nn.init.zeros_(branch[0].bias)
    point = torch.zeros(1, 2, 41, 41, dtype=torch.float64)
    point[0, :, 20, 20] = 1
    for branch, rate in zip(module.rates, (1, 6, 12, 18), strict=True):
        rows, cols = branch(point)[0, 0].nonzero().T
        steps = [20 - rate, 20, 20 + rate]
        assert sorted(set(rows.tolist())) == steps
        assert sorted(set(cols.tolist())) == steps


@torch.no_grad()
def test_refinement_is_the_paper_s() -> None:
    module = settled(ContextualRefinement(5, 8))
    x = dates(5, 4, 6)[0]
    refined, coarse = module(x)
    flat = numpy(x)[0].reshape(5, -1)
    pixels = numpy(module.pixels(x))[0].reshape(8, -1)
    coarse_want = conv1x1(module.coarse, flat)
    regions = np.zeros((8, 2))
    for k in range(2):  # Eq. (14): mean of the pixels, weighted by exp of the class's logit
        weights = np.exp(coarse_want[k])
        for n in range(24):
            regions[:, k] += pixels[:, n] * weights[n] / weights.sum()
    keys, values = conv_bn_relu(module.region_key, regions), conv_bn_relu(module.region_value, regions)
    relation = softmax_rows((keys.T @ conv_bn_relu(module.pixel_query, pixels)).T).T  # Eq. (15)
    context = conv_bn_relu(module.expand, values @ relation)  # Eq. (16)
    want = conv1x1(module.head, conv_bn_relu(module.fuse, np.concatenate([context, pixels])))
    np.testing.assert_allclose(numpy(coarse)[0].reshape(2, -1), coarse_want, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(numpy(refined)[0].reshape(2, -1), want, rtol=1e-10, atol=1e-12)


class Largest(TorchDispatchMode):
    """Number of values of the largest tensor that any operation gives, backward included."""

    values = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self.values = max(self.values, tensor.numel())
        return out


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_attention_never_holds_the_map_of_all_pairs(layout: torch.memory_format) -> None:
    n, channels = 24 * 24, 8
    module = CrossPositionAttention(channels)
    f1, f2 = (x.contiguous(memory_format=layout).requires_grad_() for x in dates(channels, 24, 24, 1, torch.float32))
    with Largest() as largest:
        s1, s2 = module(f1, f2)
        (s1 + s2).square().sum().backward()
    assert largest.values <= 2 * 2 * channels * n  # the pyramid's: two dates, 2C
    with Largest() as largest:
        (f1.flatten(2).transpose(1, 2) @ f2.flatten(2)).softmax(2)
    assert largest.values == n * n


@pytest.mark.parametrize("channels_last", [False])
def test_attention_has_the_gradient_of_the_naive_one(channels_last: bool) -> None:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    generator = torch.Generator().manual_seed(3)
    tokens = [torch.randn(2, 5, 4, 3, generator=generator, dtype=torch.float64) for _ in range(3)]
    tokens = [x.contiguous(memory_format=layout).requires_grad_() for x in tokens]
    q, k, v = (x.flatten(2) for x in tokens)
    naive = (v @ (q.transpose(1, 2) @ k).softmax(2).transpose(1, 2)).view(2, 5, 4, 3)
    ours = attend(*tokens)
    torch.testing.assert_close(ours, naive)
    weights = torch.randn(ours.shape, generator=generator, dtype=torch.float64)
    expected = torch.autograd.grad((naive * weights).sum(), tokens)
    torch.testing.assert_close(torch.autograd.grad((ours * weights).sum(), tokens), expected)


# Table 5 (input 2 x 256 x 256): parameters, and multiply-adds as the paper's tool counts them.


@pytest.fixture(scope="module")
def counted() -> Counted:
    """aspca -> parameters, multiply-adds at 256 x 256."""
    with torch.device("meta"):
        networks = {aspca: create_model("mccrnet", aspca=aspca) for aspca in (True, False)}
    return {aspca: (count_parameters(network), count_macs(network, 3, 256)) for aspca, network in networks.items()}


def conv_parameters(inputs: int, outputs: int, kernel: int, norm: bool = True) -> int:
    return inputs * outputs * kernel**2 + outputs + 2 * outputs * norm


def test_parameters_are_those_of_the_layers_in_the_paper(counted: Counted) -> None:
    vgg = [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256)]
    vgg += [(256, 512), (512, 512), (512, 512)]
    encoder = sum(conv_parameters(i, o, 3, norm=False) for i, o in vgg)
    table1 = [(1536, 1024, 512), (1024, 512, 256), (512, 256, 128), (256, 128, 64)]
    decoder = sum(
        conv_parameters(i, m, 3) + conv_parameters(m, o, 3) + conv_parameters(o, o, 3, norm=False) for i, m, o in table1
    )
    aspca = 0
    for c in (64, 128, 256, 512):
        pyramid = 4 * conv_parameters(c, c // 2, 3) + conv_parameters(2 * c, 2 * c, 1) + conv_parameters(2 * c, c, 1)
        query_key_values = 4 * conv_parameters(c, c, 1, norm=False)
        aspca += 2 * pyramid + query_key_values + 4 * conv_parameters(c, c, 1) + 4
    ccr = conv_parameters(960, 512, 3) + 3 * conv_parameters(512, 256, 1) + conv_parameters(256, 512, 1)
    ccr += conv_parameters(1024, 512, 1) + conv_parameters(512, 2, 1, norm=False)
    coarse = conv_parameters(960, 2, 1, norm=False)
    assert counted[True][0] == encoder + decoder + aspca + ccr + coarse == 62_417_364
    assert counted[False][0] == encoder + decoder + ccr + coarse == 42_876_228
    with torch.device("meta"):
        assert count_parameters(create_model("mccrnet", aspca=False, ccr=False)) == encoder + decoder + coarse


def test_counts_are_those_of_table_5(counted: Counted) -> None:
    """Its rows "+ASPCA" and "Baseline"; the latter holds a full CCR."""
    full, without = counted[True], counted[False]
    assert full[0] / 1e6 == pytest.approx(62.42, abs=0.005)
    assert without[0] / 1e6 == pytest.approx(42.88, abs=0.005)
    assert full[1].thop / 1e9 == pytest.approx(438.80, rel=5e-4)
    assert without[1].thop / 1e9 == pytest.approx(410.97, abs=0.005)


def test_attention_is_in_the_true_count_only(counted: Counted) -> None:
    attention = 0
    for c, side in ((64, 128), (128, 64), (256, 32), (512, 16)):
        n = side * side
        attention += 2 * 2 * n * n * c  # two directions, each a map and its product with the values
        attention += 3 * n * c * c  # one map of energies for both directions, two products
        attention += 2 * n * (48 + 4) * c * c  # the convolutions, by the parameters' formula, for two dates
    assert counted[True][1].true - counted[False][1].true == attention


@torch.no_grad()
def test_counts_of_single_layers_by_hand() -> None:
    class Tiny(MCCRNet):
        def __init__(self) -> None:
            nn.Module.__init__(self)
            self.conv = nn.Conv2d(4, 6, 3, padding=1, groups=2)
            self.norm = nn.BatchNorm2d(6)
            self.up = nn.ConvTranspose2d(6, 5, 3, 2, 1, output_padding=1)
            self.linear = nn.Linear(5, 7)

        def forward(self, before: Tensor, after: Tensor) -> Tensor:
            return self.linear(self.up(self.norm(self.conv(before + after))).permute(0, 2, 3, 1))

    tiny = Tiny().train()
    tiny.norm.eval()
    conv, linear = 8 * 8 * 6 * 2 * 9, 16 * 16 * 7 * 5
    true = conv + 8 * 8 * 6 * 5 * 9 + linear
    thop = conv + 8 * 8 * 6 * 2 + 16 * 16 * 5 * 6 * 9 + linear
    assert count_macs(tiny, 4, 8) == Macs(true, thop)
    assert tiny.training
    assert not tiny.norm.training
    assert not tiny.conv._forward_hooks
    assert tiny.conv.weight.device.type == "cpu"
    assert count_parameters(tiny) == (4 * 6 * 9 // 2 + 6) + 12 + (6 * 5 * 9 + 5) + (5 * 7 + 7)


def test_encoder_has_torchvision_s_keys() -> None:
    with torch.device("meta"):
        state = create_model("mccrnet").encoder.state_dict()
    indices = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21)  # convolutions of torchvision's vgg16 up to block 4
    assert list(state) == [f"features.{i}.{part}" for i in indices for part in ("weight", "bias")]
    widths = [64, 64, 128, 128, 256, 256, 256, 512, 512, 512]
    assert [state[f"features.{i}.weight"].shape[0] for i in indices] == widths


@torch.no_grad()
def test_encoder_levels_come_after_the_pools() -> None:
    encoder = create_model("mccrnet", width=NARROW).encoder
    levels = encoder(torch.randn(2, 3, 32, 48))
    assert [tuple(x.shape[1:]) for x in levels] == [(4, 16, 24), (8, 8, 12), (16, 4, 6), (32, 2, 3)]


@torch.no_grad()
def test_decoder_block_doubles_the_size() -> None:
    assert DecoderBlock(7, 3).eval()(torch.randn(1, 7, 5, 4)).shape == (1, 3, 10, 8)


@pytest.mark.parametrize("aspca", [True, False])
@pytest.mark.parametrize("ccr", [True, False])
def test_every_parameter_has_a_gradient_in_every_ablation(aspca: bool, ccr: bool) -> None:
    torch.manual_seed(0)
    network = create_model("mccrnet", in_channels=5, width=NARROW, aspca=aspca, ccr=ccr).eval()
    outputs = network.forward_with_aux(*dates(5, 32, 32, 2, torch.float32))
    assert len(outputs) == 1 + ccr
    assert all(out.shape == (2, 1, 32, 32) for out in outputs)
    sum(out.square().mean() for out in outputs).backward()
    without = [key for key, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert without == []


def test_the_auxiliary_map_alone_does_not_train_the_refinement() -> None:
    network = create_model("mccrnet", width=NARROW, aspca=False).eval()
    network.forward_with_aux(*dates(3, 32, 32, 1, torch.float32))[1].mean().backward()
    assert network.refine.head.weight.grad is None
    assert network.refine.coarse.weight.grad.abs().max() > 0


@torch.no_grad()
def test_the_logit_is_changed_minus_unchanged() -> None:
    network = create_model("mccrnet", width=NARROW, aspca=False).eval()
    before, after = dates(3, 32, 32, 1, torch.float32)
    refined, coarse = network.refine(network._decode(before, after))
    final, auxiliary = network.forward_with_aux(before, after)
    torch.testing.assert_close(final.sigmoid(), refined.softmax(1)[:, 1:])
    torch.testing.assert_close(auxiliary.sigmoid(), coarse.softmax(1)[:, 1:])


@torch.no_grad()
@pytest.mark.parametrize("widths", [(5, 7, 9, 11), (2, 3, 3, 2)])
def test_odd_widths(widths: tuple[int, ...]) -> None:
    network = MCCRNet(1, widths).eval()
    assert network(*dates(1, 16, 48, 2, torch.float32)).shape == (2, 1, 16, 48)


@torch.no_grad()
@pytest.mark.parametrize("aspca", [True, False])
def test_the_order_of_the_dates_matters(aspca: bool) -> None:
    network = settled(create_model("mccrnet", width=NARROW, aspca=aspca))
    before, after = dates(3, 32, 32)
    assert not network.symmetric
    assert (network(before, after) - network(after, before)).abs().max() > 1e-6


@torch.no_grad()
def test_a_pixel_depends_on_the_whole_tile() -> None:
    """By the paper's design; the module's text says so."""
    network = settled(create_model("mccrnet", width=NARROW))
    before, after = dates(3, 64, 64)
    first = network(before, after)[0, 0, 0, 0]
    before[0, :, 63, 63] += 5
    assert network(before, after)[0, 0, 0, 0] != first


def test_dropout_is_seeded_and_off_in_evaluation() -> None:
    network = create_model("mccrnet", width=NARROW)
    before, after = dates(3, 32, 32, 2, torch.float32)
    outputs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outputs.append(network(before, after))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])
    network.eval()
    assert torch.equal(network(before, after), network(before, after))


@torch.no_grad()
def test_under_float16_autocast_nothing_overflows() -> None:
    """The channel energies are sums over all pixels: here 2^16 of them, each 4."""
    module = CrossChannelAttention(2).eval()
    module.pyramid = nn.Identity()
    with torch.autocast("cpu", torch.float16):
        outputs = module(*[torch.full((1, 2, 256, 256), 2.0, dtype=torch.float16)] * 2)
    for out in outputs:
        torch.testing.assert_close(out, torch.full_like(out, 4.0))  # a + mean of two equal channels


@torch.no_grad()
def test_one_training_step_in_bfloat16_is_finite() -> None:
    torch.manual_seed(0)
    network = create_model("mccrnet", width=NARROW).train()
    with torch.autocast("cpu", torch.bfloat16), torch.enable_grad():
        loss = sum(out.float().square().mean() for out in network.forward_with_aux(*dates(3, 32, 32, 2, torch.float32)))
        loss.backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())


def test_widths_that_are_too_small_or_not_four() -> None:
    with pytest.raises(ModelError, match=r"four widths of at least 2 channels, not \(1, 1, 3, 5\)"):
        create_model("mccrnet", width=0.01)
    with pytest.raises(ModelError, match=r"not \(8, 8, 8\)"):
        MCCRNet(3, (8, 8, 8))
