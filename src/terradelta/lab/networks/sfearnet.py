"""SFEARNet: semantic flow and edge-aware refinement.

Paper: Li, Ming, Xu, Dong, Zhang, SFEARNet: A Network Combining Semantic Flow and Edge-Aware Refinement for Highly
Efficient Remote Sensing Image Change Detection, IEEE TGRS 63, 2025, doi:10.1109/TGRS.2025.3545906. Only its abstract
was at hand: it names the parts (pyramid feature enhancement PFEM, semantic flow SFITM, edge-aware refinement EARM).
The rest follows the authors' released code, whose encoder is MiT (Xie et al., SegFormer, NeurIPS 2021; here in
``_sfearnet_mit``):

- The released code ends with a sampler of 256 x 256 pixels, whatever the input. That sampler is bilinear upsampling
  with aligned corners, which is what is here, for any size.
- Its semantic flow reads a grid that is spread from corner to corner with a sampler whose corners are half a pixel
  further out; so a flow of zero shrinks the map a little. Kept.
- The released code reads images with blue first. Here red comes first, and weights from there have the kernels of
  their first convolution turned round, see `MiT.from_published`.
- The dates meet in ``[f1, f2]``, so their order matters.
- Edges of the change are an auxiliary output with its own target: the loss ``sfear`` makes it from the label. Under
  another loss the edge output would be trained as a second change map.
- Attention and pyramids pool over the whole input: a pixel depends on its tile. So tiles have the side of the
  training crops.

Parameters: 5,563,101 (b0) and 20,885,149 (b1; the 20,885,663 in the released file's comment are not what it builds).
Multiply-adds of a 256² pair: 4.71 G and 14.90 G; the 9.29 GFLOPs of the literature are twice thop's 4.65 G.

Shapes: B batch, C channels of a level, h x w its size, N = h w; level l = 0..3 has size H/2^(l+2) x W/2^(l+2).
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from terradelta.errors import ModelError
from terradelta.lab.networks._registry import ChangeNetwork, register_model
from terradelta.lab.networks._sfearnet_mit import MiT, map_of, tokens_of
from terradelta.lab.networks.layers.attention import ChannelAttention, SpatialAttention
from terradelta.lab.networks.layers.conv import conv_bn_relu

__all__ = ["CBAM", "EdgeGuidance", "PyramidMerge", "SFEARNet", "SemanticFlow", "sfearnet"]

PAPER = "Li et al., SFEARNet, IEEE TGRS 2025, doi:10.1109/TGRS.2025.3545906"
Size = Literal["b0", "b1"]
WIDTHS = {"b0": (32, 64, 160, 256), "b1": (64, 128, 320, 512)}
CBAM_RATIO = 16
PYRAMID_RATES = (1, 1, 4, 8)
DECODER_WIDTH = 256


def separable(in_channels: int, out_channels: int, kernel: int, dilation: int = 1, *, bias: bool) -> nn.Sequential:
    """A convolution of each channel, then a 1x1 convolution, each with batch normalisation and ReLU."""
    depthwise = conv_bn_relu(in_channels, in_channels, kernel, dilation, groups=in_channels, bias=bias)
    return nn.Sequential(depthwise, conv_bn_relu(in_channels, out_channels, bias=bias))


class CBAM(nn.Module):
    """Channel attention, then spatial attention, each multiplied (Woo et al. 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channel = ChannelAttention(channels, CBAM_RATIO)
        self.spatial = SpatialAttention()

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, h, w) -> (B, C, h, w)``."""
        x = x * self.channel(x)
        out: Tensor = x * self.spatial(x)
        return out


class AtrousBranches(nn.Module):
    """Four separable convolutions of growing dilation and the mean of the map, joined back to C channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        biases = (True, False, False, False)  # as released
        self.rates = nn.ModuleList(
            separable(channels, channels, 3, rate, bias=bias) for rate, bias in zip(PYRAMID_RATES, biases, strict=True)
        )
        self.mean = conv_bn_relu(channels, channels, bias=True)
        self.join = separable(5 * channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, h, w) -> (B, C, h, w)``."""
        mean = self.mean(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[2:])
        out: Tensor = self.join(torch.cat([*(rate(x) for rate in self.rates), mean], 1))
        return out


class PyramidMerge(nn.Module):
    """PFEM: the absolute difference and its pyramid, and the attended mixture of both dates."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pyramid = AtrousBranches(channels)
        self.mix = separable(2 * channels, channels, 1, bias=True)
        self.attention = CBAM(channels)

    def forward(self, f1: Tensor, f2: Tensor) -> Tensor:
        """``(B, C, h, w) x 2 -> (B, C, h, w)``."""
        difference = (f1 - f2).abs()
        out: Tensor = self.pyramid(difference) + difference + self.attention(self.mix(torch.cat([f1, f2], 1)))
        return out


class SemanticFlow(nn.Module):
    """SFITM: a coarse map at the size of a fine one, upsampled, plus itself read along a flow that both predict.

    Args:
        coarse: channels of the coarse map.
        fine: channels of the fine map.
    """

    def __init__(self, coarse: int, fine: int) -> None:
        super().__init__()
        self.from_coarse = nn.Conv2d(coarse, fine, 1, bias=False)
        self.from_fine = nn.Conv2d(fine, fine, 1, bias=False)
        self.flow = nn.Conv2d(2 * fine, 2, 3, padding=1, bias=False)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """``(B, C, h, w), (B, C', h', w') -> (B, C, h', w')``."""
        size = fine.shape[2:]
        flow = self.flow(torch.cat([_resize(self.from_coarse(coarse), size), self.from_fine(fine)], 1))
        return _resize(coarse, size) + F.grid_sample(coarse, _displaced(flow), align_corners=False)


def _displaced(flow: Tensor) -> Tensor:
    """Where to read, in units of half a side: the position plus the flow, whose unit is half a pixel of the fine map.

    ``(B, 2, h, w)``, x and y ``-> (B, h, w, 2)``.
    """
    height, width = flow.shape[2:]
    x, y = (2 * torch.arange(n, device=flow.device, dtype=flow.dtype) / (n - 1) - 1 for n in (width, height))
    return torch.stack([x + flow[:, 0] / width, y[:, None] + flow[:, 1] / height], 3)


class EdgeGuidance(nn.Module):
    """EARM: edges from the finest and the deepest level, which then weigh all levels.

    Args:
        widths: channels of the levels, fine to coarse.
    """

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        fine, deep = widths[0], widths[-1]
        joined = fine + deep
        self.fine = separable(fine, fine, 3, bias=True)
        self.deep = separable(deep, deep, 3, bias=True)
        self.flow = SemanticFlow(deep, fine)
        self.mix = nn.Sequential(
            separable(joined, 2 * joined, 3, bias=True), separable(2 * joined, 2 * joined, 3, bias=True)
        )
        self.edges = nn.Sequential(nn.Conv2d(2 * joined, 2, 1), nn.BatchNorm2d(2))
        self.gate = nn.Sequential(nn.Conv2d(2, 1, 1), nn.BatchNorm2d(1), nn.Sigmoid())
        self.attentions = nn.ModuleList(CBAM(width) for width in widths)

    def forward(self, levels: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Levels, fine to coarse -> edge classes ``(B, 2, H/4, W/4)``, and the levels again."""
        fine = self.fine(levels[0])
        edges = self.edges(self.mix(torch.cat([self.flow(self.deep(levels[-1]), fine), fine], 1)))
        gate = self.gate(edges)
        refined = []
        for i, (x, attention) in enumerate(zip(levels, self.attentions, strict=True)):
            gate = F.max_pool2d(gate, 2) if i else gate
            refined.append(attention(x * gate + x))
        return edges, refined


class Decoder(nn.Module):
    """All levels at 256 channels and the finest level's size by semantic flow, joined, two classes.

    Args:
        widths: channels of the levels, fine to coarse.
    """

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.project = nn.ModuleList(nn.Linear(width, DECODER_WIDTH) for width in widths)
        self.flows = nn.ModuleList(SemanticFlow(DECODER_WIDTH, widths[0]) for _ in widths[1:])
        conv = nn.Conv2d(len(widths) * DECODER_WIDTH, DECODER_WIDTH, 1, bias=False)
        norm = nn.BatchNorm2d(DECODER_WIDTH, eps=1e-3, momentum=0.03)
        self.join = nn.Sequential(conv, norm, nn.ReLU(inplace=True), nn.Dropout2d(0.1))
        self.head = nn.Conv2d(DECODER_WIDTH, 2, 1)

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Levels, fine to coarse ``-> (B, 2, H/4, W/4)`` classes: unchanged, changed."""
        maps = [
            map_of(project(tokens_of(x)), (x.shape[2], x.shape[3]))
            for project, x in zip(self.project, levels, strict=True)
        ]
        fine = [flow(x, levels[0]) for flow, x in zip(self.flows, maps[1:], strict=True)]
        out: Tensor = self.head(self.join(torch.cat([*reversed(fine), maps[0]], 1)))
        return out


class SFEARNet(ChangeNetwork):
    """SFEARNet.

    Args:
        in_channels: bands of one date.
        size: of the MiT encoder, ``b0`` or ``b1``.

    Raises:
        ModelError: if there is no such size.
    """

    stride = 32
    whole_tile = True
    tile = 256
    overlap = 128

    def __init__(self, in_channels: int = 3, size: Size = "b0") -> None:
        super().__init__()
        if size not in WIDTHS:
            raise ModelError(f"size is {size!r}; it must be one of {', '.join(WIDTHS)}")
        widths = WIDTHS[size]
        self.in_channels = in_channels
        self.encoder = MiT(in_channels, widths)
        self.merge = nn.ModuleList(PyramidMerge(width) for width in widths)
        self.edges = EdgeGuidance(widths)
        self.decoder = Decoder(widths)

    def forward_with_aux(self, before: Tensor, after: Tensor) -> list[Tensor]:
        """``(B, C, H, W) x 2`` -> logits ``(B, 1, H, W)`` of change, and of the changes' edges."""
        self.check_inputs(before, after, self.in_channels)
        dates = [self._encode(date) for date in (before, after)]
        levels = [merge(f1, f2) for merge, f1, f2 in zip(self.merge, *dates, strict=True)]
        edges, levels = self.edges(levels)
        maps = [
            F.interpolate(x, size=before.shape[2:], mode="bilinear", align_corners=True)
            for x in (self.decoder(levels), edges)
        ]
        return [classes[:, 1:] - classes[:, :1] for classes in maps]

    def _encode(self, x: Tensor) -> list[Tensor]:
        levels = []
        for stage in self.encoder:
            x = stage(x)
            levels.append(x)
        return levels


def _resize(x: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


@register_model(paper=PAPER, year=2025, loss="sfear")
def sfearnet(in_channels: int = 3, *, size: Size = "b0") -> SFEARNet:
    """SFEARNet: MiT transformer, semantic flow, edges of the change as a guide; sizes b0 and b1."""
    return SFEARNet(in_channels, size)
