"""MCCRNet: multi-level change contextual refinement network.

Paper: Ke & Zhang, MCCRNet: A Multi-Level Change Contextual Refinement Network for Remote Sensing Image Change
Detection, ISPRS Int. J. Geo-Inf. 10(9), 591, 2021, doi:10.3390/ijgi10090591. VGG16 encoder (Sec. 2.1.2), cross
attention ASPCA on each of four levels and transposed decoder (2.1.3, Table 1), region attention CCR (2.1.4).

- Paper: the width of the atrous spatial pyramid is not printed; we take C -> C/2 for each of the four rates, then
  2C -> 2C -> C, because it gives the 19.54 M parameters that Table 5 charges for ASPCA.
- Paper: Eq. (3) sums over i, which the text below it calls the position in f1: each position of f2 weighs those of f1.
  That is Pi21 = softmax of each row of Omega = K^T Q, and V2' = V2 Pi21^T, what is computed here. With i as the row of
  Omega it would be the first direction's map transposed, which is no second direction.
- Paper: the absolute difference is that of Conv Block 4's features in Sec. 2.1.1 and of the features updated by ASPCA
  in Sec. 2.1.3; we take the updated ones. It enters the deepest decoder block alone, as in Sec. 2.1.1 and Table 1.
- Paper: what the convolution of the coarse map reads is not stated; we take the joined outputs of the four decoder
  blocks, from which the pixel representations P are made too, and not P.
- Paper: Eq. (6) prints f2 where Eq. (4) has the pyramid's output; we take the pyramid's output for both dates.
- Paper: Eq. (13) transposes the channel attention, whose rows would no longer add up to 1; we take it as in Eq. (10).
- Paper: Table 1 lists no activation; we put a ReLU after each batch normalisation, as everywhere else in the network.
- Paper: the kernel before the pixel representations P is 1x1 in the text; we take 3x3, which Table 5's totals need.
- Paper: the softmax of Eq. (14) runs over the pixels, that of Eq. (15) over the two regions: neither axis is printed.
- Shared layers see both dates in one batch, so the statistics of their batch normalisation are those of both.

By the paper's design a pixel's result depends on the whole tile (ASPCA and CCR attend to all of it), so tiles are not
invisible for this network, whatever their overlap. Tiles have the side of the paper's training crops, 256 pixels.
Swapping the dates changes the output: Q comes from the first date and K from the second.

Attention between positions has N = H W / 4 tokens at level 1; it goes through torch's fused kernels, which never hold
the N x N map. OpenVINO has one too; another runtime may hold the map.

Shapes: B batch, C channels of a level, h x w its size, N = h w; H x W input size; level l has size H/2^l x W/2^l.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from terradelta.errors import ModelError
from terradelta.lab.networks._registry import ChangeNetwork, register_model
from terradelta.lab.networks.layers import conv
from terradelta.lab.networks.layers.attention import AttentionLayer, Box, WeightLayer, attend_tokens, attention_map
from terradelta.lab.networks.layers.vgg import vgg_features

__all__ = ["MCCRNet", "mccrnet"]

PAPER = "Ke & Zhang, MCCRNet, ISPRS International Journal of Geo-Information 10, 591, 2021, doi:10.3390/ijgi10090591"
VGG16_WIDTHS = (64, 128, 256, 512)
VGG16_CONVOLUTIONS = (2, 2, 3, 3)
ATROUS_RATES = (1, 6, 12, 18)
DROPOUT = 0.2


conv_bn_relu = partial(conv.conv_bn_relu, bias=True)
"""Convolution with a bias, as Table 5 counts it, batch normalisation, ReLU."""
_unit = partial(conv.conv_unit, dropout=DROPOUT, transposed=True)


class Encoder(nn.Module):
    """Convolution blocks 1 to 4 of VGG16 without batch normalisation; keys as in torchvision's ``vgg16``."""

    def __init__(self, in_channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        blocks = [(width,) * count for width, count in zip(widths, VGG16_CONVOLUTIONS, strict=True)]
        self.features = vgg_features(in_channels, blocks)

    def forward(self, x: Tensor) -> list[Tensor]:
        """``(B, in, H, W)`` -> the four levels after their max-pool, fine to coarse."""
        levels = []
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, nn.MaxPool2d):
                levels.append(x)
        return levels


class AtrousPyramid(nn.Module):
    """Four 3x3 convolutions of growing dilation side by side, concatenated, mixed, and back to C channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        joined = half * len(ATROUS_RATES)
        self.rates = nn.ModuleList(conv_bn_relu(channels, half, 3, rate) for rate in ATROUS_RATES)
        self.mix = nn.Sequential(conv_bn_relu(joined, joined), conv_bn_relu(joined, channels))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, h, w) -> (B, C, h, w)``."""
        out: Tensor = self.mix(torch.cat([rate(x) for rate in self.rates], 1))
        return out


def dates_of(x: Tensor, batch: int) -> tuple[Tensor, Tensor]:
    """``(2B, C, h, w) -> (B, C, h, w) x 2``; by slices, because `chunk` would fix the batch of an exported network."""
    return x[:batch], x[batch:]


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """``value softmax_rows(query^T key)^T`` over flattened positions, without 1/sqrt(C).

    ``(B, C, h, w) x 3 -> (B, C, h, w)``; the N x N map is never held.
    """
    q_BNC, k_BNC, v_BNC = (x.flatten(2).transpose(1, 2) for x in (query, key, value))
    return attend_tokens(q_BNC, k_BNC, v_BNC, scale=1.0).transpose(1, 2).reshape(value.shape)


class CrossPositionAttention(AttentionLayer):
    """ASPCPA: each position of one date gathers values of its own date by its likeness to the other date."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pyramid = AtrousPyramid(channels)
        self.query = nn.Conv2d(channels, channels, 1)
        self.key = nn.Conv2d(channels, channels, 1)
        self.value1 = nn.Conv2d(channels, channels, 1)
        self.value2 = nn.Conv2d(channels, channels, 1)
        self.weight1 = nn.Parameter(torch.ones(()))  # the paper's ∂
        self.weight2 = nn.Parameter(torch.ones(()))  # the paper's β

    def forward(self, f1: Tensor, f2: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, C, h, w) x 2 -> (B, C, h, w) x 2``."""
        a, b = dates_of(self.pyramid(torch.cat([f1, f2], 0)), f1.shape[0])
        query, key = self.query(a), self.key(b)
        s1 = a + self.weight1 * attend(query, key, self.value1(a))  # Eq. (2), (4), (5)
        s2 = b + self.weight2 * attend(key, query, self.value2(b))  # Eq. (3), (6), (7)
        return s1, s2

    def attention_maps(self, at: Box | None, f1: Tensor, f2: Tensor) -> dict[str, Tensor]:
        """See `AttentionLayer`: Π12, where a position of the first date looks on the second one; Π21, the reverse."""
        a, b = dates_of(self.pyramid(torch.cat([f1, f2], 0)), f1.shape[0])
        query, key = self.query(a), self.key(b)
        return {
            "before-after": attention_map(query, key, at, scale=1.0),
            "after-before": attention_map(key, query, at, scale=1.0),
        }


def full_precision(x: Tensor) -> AbstractContextManager[None]:
    """No autocast inside, where it is on outside; elsewhere nothing, which the meta device and exporters need."""
    kind = x.device.type
    if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
        return nullcontext()
    return torch.autocast(kind, enabled=False)


def widened(x: Tensor) -> Tensor:
    """At least float32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class CrossChannelAttention(nn.Module):
    """ASPCCA: each channel of one date gathers channels of its own date by its likeness to the other date's."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pyramid = AtrousPyramid(channels)
        self.weight1 = nn.Parameter(torch.ones(()))  # the paper's δ
        self.weight2 = nn.Parameter(torch.ones(()))  # the paper's ρ

    def forward(self, f1: Tensor, f2: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, C, h, w) x 2 -> (B, C, h, w) x 2``."""
        a, b = dates_of(self.pyramid(torch.cat([f1, f2], 0)), f1.shape[0])
        with full_precision(a):  # sums over N pixels overflow float16
            a_BCN, b_BCN = widened(a).flatten(2), widened(b).flatten(2)
            energy_BCC = a_BCN @ b_BCN.transpose(1, 2)
            own1 = energy_BCC.softmax(2) @ a_BCN  # Eq. (8), (10)
            own2 = energy_BCC.transpose(1, 2).softmax(2) @ b_BCN  # Eq. (11), (13)
        c1 = a + self.weight1 * own1.view_as(a)  # Eq. (9)
        c2 = b + self.weight2 * own2.view_as(b)  # Eq. (12)
        return c1, c2


class CrossAttention(nn.Module):
    """ASPCA: position and channel attention, each through its norm layer, added for each date."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.position = CrossPositionAttention(channels)
        self.channel = CrossChannelAttention(channels)
        self.norm_s1 = conv_bn_relu(channels, channels)
        self.norm_s2 = conv_bn_relu(channels, channels)
        self.norm_c1 = conv_bn_relu(channels, channels)
        self.norm_c2 = conv_bn_relu(channels, channels)

    def forward(self, f1: Tensor, f2: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, C, h, w) x 2 -> (B, C, h, w) x 2``."""
        s1, s2 = self.position(f1, f2)
        c1, c2 = self.channel(f1, f2)
        return self.norm_s1(s1) + self.norm_c1(c1), self.norm_s2(s2) + self.norm_c2(c2)  # Eq. (1)


class Untouched(nn.Module):
    """What ASPCA is compared with in the ablation: the features as they are."""

    def forward(self, f1: Tensor, f2: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, C, h, w) x 2 -> (B, C, h, w) x 2``."""
        return f1, f2


class DecoderBlock(nn.Module):
    """Two transposed convolutions that narrow, one that doubles the size (Table 1)."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.narrow = nn.Sequential(_unit(in_channels, 2 * channels), _unit(2 * channels, channels))
        self.upsample = nn.ConvTranspose2d(channels, channels, 3, 2, 1, output_padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, in, h, w) -> (B, C, 2h, 2w)``."""
        out: Tensor = self.upsample(self.narrow(x))
        return out


class RegionRelation(WeightLayer):
    """How much each pixel belongs to each region, Eq. (15): no weights of its own, so that it can be looked at."""

    weighs = ("unchanged", "changed")

    def forward(self, keys: Tensor, queries: Tensor) -> Tensor:
        """``(B, C/2, 2), (B, C/2, H, W) -> (B, 2, H, W)``; the two add up to 1."""
        relation_B2N = (keys.transpose(1, 2) @ queries.flatten(2)).softmax(1)
        return relation_B2N.view(-1, 2, *queries.shape[2:])


class ContextualRefinement(nn.Module):
    """CCR: describe the changed and the unchanged region, and give each pixel the description of its own."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.pixels = conv_bn_relu(in_channels, channels, 3)
        self.coarse = nn.Conv2d(in_channels, 2, 1)
        self.region_key = conv_bn_relu(channels, half)  # the paper's σ
        self.pixel_query = conv_bn_relu(channels, half)  # φ
        self.region_value = conv_bn_relu(channels, half)  # δ
        self.relation = RegionRelation()
        self.expand = conv_bn_relu(half, channels)  # ρ
        self.fuse = conv_bn_relu(2 * channels, channels)
        self.head = nn.Conv2d(channels, 2, 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        """``(B, in, H, W) -> (B, 2, H, W) x 2``: refined map, then the coarse one; classes (unchanged, changed)."""
        pixels, coarse = self.pixels(x), self.coarse(x)
        regions = describe_regions(coarse, pixels)  # (B, C, 2, 1)
        keys, values = self.region_key(regions).flatten(2), self.region_value(regions).flatten(2)  # (B, C/2, 2)
        relation = self.relation(keys, self.pixel_query(pixels))  # Eq. (15): (B, 2, H, W)
        context = self.expand((values @ relation.flatten(2)).unflatten(2, x.shape[2:]))  # Eq. (16): (B, C, H, W)
        return [self.head(self.fuse(torch.cat([context, pixels], 1))), coarse]


def describe_regions(coarse: Tensor, pixels: Tensor) -> Tensor:
    """Mean of the pixels weighted by how surely they belong to a region, Eq. (14).

    ``(B, K, H, W), (B, C, H, W) -> (B, C, K, 1)``.
    """
    with full_precision(pixels):  # weights near 1/N vanish in float16
        weights_BKN = widened(coarse).flatten(2).softmax(2)
        return (widened(pixels).flatten(2) @ weights_BKN.transpose(1, 2)).unsqueeze(3)


class MCCRNet(ChangeNetwork):
    """MCCRNet.

    Args:
        in_channels: bands of one date.
        widths: channels of the encoder's four levels, fine to coarse; all other widths follow from them.
        aspca: cross attention between the dates on each level; False: left out (ablation).
        ccr: contextual refinement and its auxiliary output; False: a 1x1 convolution in its place (ablation).
    """

    stride = 16
    symmetric = False
    tile = 256
    overlap = 128

    def __init__(
        self,
        in_channels: int = 3,
        widths: Sequence[int] = VGG16_WIDTHS,
        *,
        aspca: bool = True,
        ccr: bool = True,
    ) -> None:
        super().__init__()
        if len(widths) != 4 or min(widths) < 2:
            raise ModelError(f"MCCRNet takes four widths of at least 2 channels, not {tuple(widths)}")
        self.in_channels = in_channels
        self.whole_tile = aspca or ccr
        self.encoder = Encoder(in_channels, widths)
        self.attention = nn.ModuleList(CrossAttention(c) if aspca else Untouched() for c in widths)
        above = (*widths[1:], widths[-1])  # what comes from the block above; |f1 - f2| at the deepest level
        self.decoder = nn.ModuleList(DecoderBlock(up + 2 * c, c) for up, c in zip(above, widths, strict=True))
        self.refine = ContextualRefinement(sum(widths), widths[-1]) if ccr else nn.Conv2d(sum(widths), 2, 1)

    def forward_with_aux(self, before: Tensor, after: Tensor) -> list[Tensor]:
        """Logits ``(B, 1, H, W)`` of the refined map, then those of the coarse map (none without ``ccr``)."""
        self.check_inputs(before, after, self.in_channels)
        maps = self.refine(self._decode(before, after))
        maps = maps if isinstance(maps, list) else [maps]
        return [z[:, 1:] - z[:, :1] for z in maps]  # z_changed - z_unchanged

    def _decode(self, before: Tensor, after: Tensor) -> Tensor:
        """The outputs of all decoder blocks, resized and joined: ``(B, sum of widths, H, W)``."""
        levels = [dates_of(x, before.shape[0]) for x in self.encoder(torch.cat([before, after], 0))]
        pairs = [attention(*pair) for attention, pair in zip(self.attention, levels, strict=True)]
        deepest1, deepest2 = pairs[-1]
        x = (deepest1 - deepest2).abs()
        outputs = []
        for block, (f1, f2) in zip(reversed(self.decoder), reversed(pairs), strict=True):
            x = block(torch.cat([x, f1, f2], 1))
            outputs.append(x)
        return torch.cat([_resize(x, before) for x in outputs], 1)


def _resize(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)


@register_model(paper=PAPER, year=2021, loss="eaw_ce")
def mccrnet(in_channels: int = 3, *, width: float = 1.0, aspca: bool = True, ccr: bool = True) -> MCCRNet:
    """MCCRNet: VGG16, cross attention between the dates on four levels, contextual refinement; 62 M parameters.

    Args:
        in_channels: bands of one date.
        width: factor for all widths; 0.25 has a sixteenth of the parameters, for work on a CPU.
        aspca: see `MCCRNet`.
        ccr: see `MCCRNet`.

    Raises:
        ModelError: if the width leaves a level fewer than 2 channels.
    """
    widths = [round(channels * width) for channels in VGG16_WIDTHS]
    return MCCRNet(in_channels, widths, aspca=aspca, ccr=ccr)
