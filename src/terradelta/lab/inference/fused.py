"""Networks for inference: the same function with fewer multiply-adds. MCCRNet is the one that has such a form.

What is reordered, and why the result stays the same but for rounding:

- Batch normalisation of evaluation mode is linear and goes into the convolution before it. A transposed convolution of
  stride 1 is a convolution with the flipped kernel.
- The pyramids of both branches start from the same map: their convolutions of one rate are one. A rate as large as the
  map leaves only the kernel's centre. The learned weight of attention goes into the values.
- Channel attention, its residual and the norm layer after it are three matrices: they are multiplied before they meet
  the map, ``W (A + δ T A) = (W (1 + δ T)) A``.
- The 3x3 convolution over the upsampled outputs of the decoder is 57 % of all multiply-adds. Upsampling U acts on rows
  and columns alone and each tap of the kernel on channels alone, so they commute: for the outputs at 1/8 and 1/4 the
  nine taps are applied at that size, and ``shift_dy U`` and ``shift_dx U`` as two small matrices after. The borders are
  in these matrices, so they are exact. The 1x1 convolution of the coarse map moves before the upsampling too.
- Attention to two regions is a sigmoid r, so the context is ``ReLU(α r + γ)`` with two vectors of an image in place of
  a convolution of every pixel.
- Only the difference of the two classes is computed.

Shapes: B batch, C channels, h x w a map's size, N = h w, H x W the input's size.
"""

import copy
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

from terradelta.lab.networks import ChangeNetwork, mccrnet

__all__ = ["FusedMCCRNet", "fused"]


def fused(network: ChangeNetwork) -> ChangeNetwork:
    """A network that computes what this one does in evaluation mode, quicker where there is a way; else itself.

    Args:
        network: trained; left as it is.
    """
    return FusedMCCRNet(network) if isinstance(network, mccrnet.MCCRNet) else network


class FusedMCCRNet(ChangeNetwork):
    """What `MCCRNet` computes in evaluation mode, with a copy of its weights; it cannot be trained.

    Args:
        network: the trained network; left as it is.
    """

    def __init__(self, network: mccrnet.MCCRNet) -> None:
        super().__init__()
        network = copy.deepcopy(network).eval()
        for name in ("in_channels", "stride", "symmetric", "whole_tile", "tile", "overlap"):
            setattr(self, name, getattr(network, name))
        self.in_channels = network.in_channels
        self.encoder = network.encoder
        self.attention = nn.ModuleList(
            FusedCrossAttention(part) if isinstance(part, mccrnet.CrossAttention) else part
            for part in network.attention
        )
        blocks = [cast("mccrnet.DecoderBlock", block) for block in network.decoder]
        self.decoder = nn.ModuleList(
            nn.Sequential(*map(_folded, block.narrow.children()), block.upsample) for block in blocks
        )
        widths = [block.upsample.out_channels for block in reversed(blocks)]  # coarse to fine, as they are joined
        refine = network.refine
        self.refine = (
            SplitClassifier(refine, widths) if isinstance(refine, nn.Conv2d) else FusedRefinement(refine, widths)
        )
        self.requires_grad_(requires_grad=False)

    def forward_with_aux(self, before: Tensor, after: Tensor) -> list[Tensor]:
        """``(B, in, H, W) x 2`` -> logits ``(B, 1, H, W)``; there is no auxiliary output."""
        self.check_inputs(before, after, self.in_channels)
        levels = [mccrnet.dates_of(x, before.shape[0]) for x in self.encoder(torch.cat([before, after], 0))]
        pairs = [attention(*pair) for attention, pair in zip(self.attention, levels, strict=True)]
        x = (pairs[-1][0] - pairs[-1][1]).abs()
        outputs = []
        for block, (f1, f2) in zip(reversed(self.decoder), reversed(pairs), strict=True):
            x = block(torch.cat([x, f1, f2], 1))
            outputs.append(x)
        classes = self.refine(outputs)
        return [classes if classes.shape[1] == 1 else classes[:, 1:] - classes[:, :1]]


class FusedCrossAttention(nn.Module):
    """ASPCA."""

    def __init__(self, attention: mccrnet.CrossAttention) -> None:
        super().__init__()
        position, channel = attention.position, attention.channel
        pyramids = (position.pyramid, channel.pyramid)
        rates = zip(*(pyramid.rates for pyramid in pyramids), strict=True)
        self.rates = nn.ModuleList(_side_by_side([_folded_conv(rate) for rate in pair]) for pair in rates)
        self.mixes = nn.ModuleList(nn.Sequential(*map(_folded, p.mix.children())) for p in pyramids)
        values = [_scaled(position.value1, position.weight1), _scaled(position.value2, position.weight2)]
        self.query, self.value1 = position.query, values[0]
        self.key, self.value2 = position.key, values[1]
        self.norms = nn.ModuleList(_folded(norm) for norm in (attention.norm_s1, attention.norm_s2))
        self.channel_norms = nn.ModuleList(_folded_conv(norm) for norm in (attention.norm_c1, attention.norm_c2))
        self.weights = nn.ParameterList([channel.weight1, channel.weight2])

    def forward(self, f1: Tensor, f2: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, C, h, w) x 2 -> (B, C, h, w) x 2``."""
        both = torch.cat([f1, f2], 0)
        rates = [F.relu(_dilated(both, cast("nn.Conv2d", conv))).chunk(2, 1) for conv in self.rates]
        for_position, for_channel = (
            mix(torch.cat(parts, 1)) for mix, parts in zip(self.mixes, zip(*rates, strict=True), strict=True)
        )
        position = self._attend_positions(*mccrnet.dates_of(for_position, f1.shape[0]))
        channel = self._attend_channels(*mccrnet.dates_of(for_channel, f1.shape[0]))
        return position[0] + channel[0], position[1] + channel[1]  # Eq. (1)

    def _attend_positions(self, a: Tensor, b: Tensor) -> list[Tensor]:
        query, value1, key, value2 = self.query(a), self.value1(a), self.key(b), self.value2(b)
        own1, own2 = mccrnet.attend(query, key, value1), mccrnet.attend(key, query, value2)
        return [norm(x) for norm, x in zip(self.norms, (a + own1, b + own2), strict=True)]

    def _attend_channels(self, a: Tensor, b: Tensor) -> list[Tensor]:
        with mccrnet.full_precision(a):
            a, b = mccrnet.widened(a), mccrnet.widened(b)
            energy_BCC = a.flatten(2) @ b.flatten(2).transpose(1, 2)
            shares = (energy_BCC.softmax(2), energy_BCC.transpose(1, 2).softmax(2))
            out = []
            norms = (cast("nn.Conv2d", norm) for norm in self.channel_norms)
            for x, share_BCC, weight, norm in zip((a, b), shares, self.weights, norms, strict=True):
                own, bias = norm.weight.flatten(1), cast("Tensor", norm.bias)  # (C, C), (C)
                mixed_BCC = own + weight * (own @ share_BCC)
                out.append(F.relu(mixed_BCC @ x.flatten(2) + bias[:, None]).view_as(x))
            return out


class SplitConv(nn.Module):
    """A 3x3 convolution of a bilinearly upsampled map; the taps are applied at the map's own size.

    Args:
        weight: ``(C, in, 3, 3)``.
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        taps = weight.permute(0, 2, 3, 1).flatten(0, 2)  # (C dy dx, in)
        self.taps = _conv(taps[:, :, None, None], None)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """``conv(up(x))``: ``(B, in, h, w) -> (B, C, H, W)``, where ``size`` is (H, W)."""
        (height, width), (rows, cols) = size, x.shape[2:]
        taps = self.taps(x).reshape(-1, 3, rows, cols).transpose(1, 2)  # (B C dy, h, dx, w)
        across = taps.reshape(-1, rows, 3 * cols) @ _shifted_upsampling(width, cols, x).flatten(0, 1)
        down = _shifted_upsampling(height, rows, x).flatten(0, 1).T  # (H, dy h)
        out: Tensor = down @ across.reshape(x.shape[0], -1, 3 * rows, width)
        return out


class FusedRefinement(nn.Module):
    """CCR.

    Args:
        refine: what it replaces.
        widths: channels of the decoder's outputs, coarse to fine: 1/8, 1/4, 1/2 and 1 of the input's size.
    """

    def __init__(self, refine: mccrnet.ContextualRefinement, widths: Sequence[int]) -> None:
        super().__init__()
        pixels = _folded_conv(refine.pixels)
        coarse8, coarse4, *fine = torch.split(pixels.weight, list(widths), 1)
        self.split8, self.split4 = SplitConv(coarse8), SplitConv(coarse4)
        self.fine = _conv(torch.cat(fine, 1), pixels.bias)
        self.coarse = SplitClassifier(refine.coarse, widths)
        self.region_key, self.region_value = _folded(refine.region_key), _folded(refine.region_value)
        self.pixel_query = _folded(refine.pixel_query)
        self.expand = _folded_conv(refine.expand)
        fuse = _folded_conv(refine.fuse)
        half = pixels.out_channels
        self.fuse_context = _conv(fuse.weight[:, :half], None)
        self.fuse_pixels = _conv(fuse.weight[:, half:], fuse.bias)
        self.head = _difference(refine.head)

    def forward(self, outputs: Sequence[Tensor]) -> Tensor:
        """The decoder's outputs, coarse to fine ``-> (B, 1, H, W)`` logits."""
        with mccrnet.full_precision(outputs[0]):
            return self._refine([mccrnet.widened(x) for x in outputs])

    def _refine(self, outputs: Sequence[Tensor]) -> Tensor:
        x8, x4, x2, x1 = outputs
        size = (x1.shape[2], x1.shape[3])
        pixels = self.fine(torch.cat([_upsampled(x2, x1), x1], 1))
        pixels = F.relu(pixels + self.split8(x8, size) + self.split4(x4, size))
        contrast, context = self._describe(mccrnet.describe_regions(self.coarse(outputs), pixels))
        quarter = pixels.shape[2] // 4  # the input's sides are multiples of 16
        ends = [(k * quarter, (k + 1) * quarter) for k in range(4)]
        return torch.cat([self._classify(pixels[:, :, top:end], contrast, *context) for top, end in ends], 2)

    def _classify(self, pixels: Tensor, contrast: Tensor, step: Tensor, start: Tensor) -> Tensor:
        """Some rows of the pixels ``(B, C, h, W) -> (B, 1, h, W)``; in rows, because hidden layers are wide."""
        relation = torch.sigmoid(contrast @ self.pixel_query(pixels).flatten(2))  # Eq. (15): (B, 1, N)
        context = F.relu(step * relation.view_as(pixels[:, :1]) + start)  # Eq. (16)
        out: Tensor = self.head(F.relu(self.fuse_context(context) + self.fuse_pixels(pixels), inplace=True))
        return out

    def _describe(self, regions: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Regions ``(B, C, 2, 1)`` -> what tells the unchanged one from the changed one, ``(B, 1, C/2)``; α and γ."""
        keys, values = self.region_key(regions).flatten(2), self.region_value(regions)
        contrast = (keys[:, :, :1] - keys[:, :, 1:]).transpose(1, 2)
        start = self.expand(values[:, :, 1:])  # γ, (B, C, 1, 1)
        return contrast, (self.expand(values[:, :, :1]) - start, start)


class SplitClassifier(nn.Module):
    """A 1x1 convolution of the decoder's outputs, upsampled and joined: applied at each output's own size.

    Args:
        conv: from all channels to two classes.
        widths: channels of the outputs, coarse to fine.
    """

    def __init__(self, conv: nn.Conv2d, widths: Sequence[int]) -> None:
        super().__init__()
        weights = torch.split(conv.weight, list(widths), 1)
        biases = [None] * (len(widths) - 1) + [conv.bias]
        self.parts = nn.ModuleList(_conv(weight, bias) for weight, bias in zip(weights, biases, strict=True))

    def forward(self, outputs: Sequence[Tensor]) -> Tensor:
        """The decoder's outputs, coarse to fine ``-> (B, 2, H, W)``."""
        maps = [_upsampled(part(x), outputs[-1]) for part, x in zip(self.parts, outputs, strict=True)]
        return torch.stack(maps).sum(0)


def _shifted_upsampling(full: int, low: int, like: Tensor) -> Tensor:
    """Matrices that upsample a line bilinearly and read it one to the left, at its place, one to the right.

    ``(3, low, full)``; zero where that is beyond the end, as a convolution pads.
    """
    at = torch.arange(full, device=like.device, dtype=like.dtype)
    of = torch.arange(low, device=like.device, dtype=like.dtype)
    place = ((at + 0.5) * (low / full) - 0.5).clamp(min=0).clamp(max=low - 1)
    matrix = (1 - (place - of[:, None]).abs()).clamp(min=0)  # (low, full)
    padded = F.pad(matrix, (1, 1))
    return torch.stack([padded[:, shift : shift + full] for shift in range(3)])


def _upsampled(x: Tensor, like: Tensor) -> Tensor:
    if x.shape[2:] == like.shape[2:]:
        return x
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)


def _dilated(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """The convolution; where its other taps all lie outside of the map, by the kernel's centre alone."""
    if not torch.compiler.is_compiling() and conv.dilation[0] >= max(x.shape[2:]):
        return F.conv2d(x, conv.weight[:, :, 1:2, 1:2], conv.bias)
    out: Tensor = conv(x)
    return out


def _folded(unit: nn.Module) -> nn.Sequential:
    """Convolution and normalisation as one convolution, and the ReLU; dropout is gone."""
    return nn.Sequential(_folded_conv(unit), nn.ReLU(inplace=True))


def _folded_conv(unit: nn.Module) -> nn.Conv2d:
    conv, norm, *_ = cast("tuple[nn.Conv2d | nn.ConvTranspose2d, nn.BatchNorm2d]", tuple(unit.children()))
    transposed = isinstance(conv, nn.ConvTranspose2d)
    mean, var = cast("Tensor", norm.running_mean), cast("Tensor", norm.running_var)
    weight, bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, mean, var, norm.eps, norm.weight, norm.bias, transpose=transposed
    )
    if transposed:
        weight = nn.Parameter(weight.transpose(0, 1).flip(2, 3))
    return _conv(weight, bias, conv.dilation[0])


def _conv(weight: Tensor, bias: Tensor | None, dilation: int = 1) -> nn.Conv2d:
    """A convolution of stride 1 that keeps the size."""
    out_channels, in_channels, kernel, _ = weight.shape
    padding = dilation * (kernel // 2)
    conv = nn.Conv2d(in_channels, out_channels, kernel, padding=padding, dilation=dilation, bias=bias is not None)
    conv.weight = nn.Parameter(weight.detach().contiguous())
    conv.bias = None if bias is None else nn.Parameter(bias.detach().clone())
    return conv


def _side_by_side(convs: Sequence[nn.Conv2d]) -> nn.Conv2d:
    """One convolution whose output is that of all, joined."""
    biases = [cast("Tensor", conv.bias) for conv in convs]
    return _conv(torch.cat([conv.weight for conv in convs]), torch.cat(biases), convs[0].dilation[0])


def _scaled(conv: nn.Conv2d, factor: Tensor) -> nn.Conv2d:
    return _conv(conv.weight * factor, cast("Tensor", conv.bias) * factor)


def _difference(conv: nn.Conv2d) -> nn.Conv2d:
    """Second class minus first."""
    bias = cast("Tensor", conv.bias)
    return _conv(conv.weight[1:] - conv.weight[:1], bias[1:] - bias[:1])
