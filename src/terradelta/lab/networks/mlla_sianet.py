"""MLLA_SiaNet: multi-level loss-assisted Siamese network.

Paper: Multi-level Loss-assisted Siamese Network for Remote Sensing Image Change Detection, Computer Engineering, 2026,
doi:10.19678/j.issn.1000-3428.0260291. Only the abstract is public. It fixes the parts (weight-sharing Siamese encoder,
DFM, DSP, progressive decoder, MLA); sizes and formulas below are our reading:

- Paper: the differences of DFM are not listed; we take magnitude, angle, a learned view and the envelope. The envelope
  is the pair (max, min) and not max - min, because max(a, b) - min(a, b) is |a - b| again. The learned view averages
  both orders *after* the activation, because before it the average would only be a convolution of f1 + f2.
- Paper: attention is "channel-spatial hybrid"; a channel attention pooled over the whole image would make a pixel's
  result depend on where a tile ends. We pool over cells of one stride and ``ATTENTION_CELLS`` x ``ATTENTION_CELLS``
  of them.
- Paper: DSP joins a spatial pooling pyramid and a Gaussian pyramid. For the same reason the pooling windows have a
  fixed size (those that bins 6, 3, 2 and 1 have on a 256-pixel crop, rounded to odd; the last is cut to 11 cells so
  that the halo of a tile stays small) and slide with step one, and the Gaussian pyramid is undecimated (à trous): the
  blur's taps are spread by 1, 2, 4 in place of halving the map.
- Decoder logits are upsampled bilinearly from 1/2 (`mlla_sianet_light`: from 1/4) to full size.
- Paper: the encoder is Siamese and shares its weights; which one it is, is not said. `mlla_sianet_lite0` takes
  EfficientNet-Lite0 down to stride 16, because ImageNet weights of it are to be had and nothing in it pools over the
  image. Its levels are narrow at the coarse end and its features not rectified, so DFM changes their widths and the
  angle's share reaches from 0 to 2; DSP is cut to what keeps the halo of a tile below the encoder's own.

Shapes: B batch, C channels of a level, H x W input size; level l has size H/2^l x W/2^l (light: H/2^(l+1)
x W/2^(l+1)).
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from terradelta.errors import ModelError
from terradelta.lab.networks._registry import ChangeNetwork, register_model
from terradelta.lab.networks.layers.attention import SpatialAttention, WeightLayer
from terradelta.lab.networks.layers.conv import conv_bn_relu
from terradelta.lab.networks.layers.efficientnet_lite import EfficientNetLite
from terradelta.lab.networks.layers.resnet import BasicBlock

__all__ = ["MLLASiaNet", "mlla_sianet", "mlla_sianet_large", "mlla_sianet_light", "mlla_sianet_lite0"]

PAPER = "Multi-level Loss-assisted Siamese Network, Computer Engineering 2026, doi:10.19678/j.issn.1000-3428.0260291"
Stem = Literal["half", "quarter", "resnet"]
ATTENTION_CELLS = 3
POOL_WINDOWS = (3, 5, 9, 11)
GAUSSIAN_DILATIONS = (1, 2, 4)


class Encoder(nn.Module):
    """Residual encoder, stages of stride 2; keys as in torchvision's ResNet.

    ``stem``: ``half`` is a 3x3 convolution to 1/2 that feeds the first stage at the same size, one level a stage;
    ``quarter`` adds a second one to 1/4, so that every level is half as large; ``resnet`` is ResNet's: 7x7 at 1/2,
    which is a level, max-pool, and the stages from 1/4 on.
    """

    def __init__(self, in_channels: int, widths: Sequence[int], depths: Sequence[int], stem: Stem) -> None:
        super().__init__()
        if len(widths) != len(depths) or len(widths) < 2:
            raise ModelError(f"widths {tuple(widths)} and depths {tuple(depths)} must have one length, at least 2")
        self.in_channels, self.stem = in_channels, stem
        kernel = 7 if stem == "resnet" else 3
        self.conv1 = nn.Conv2d(in_channels, widths[0], kernel, 2, kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        if stem == "quarter":
            self.conv2 = nn.Conv2d(widths[0], widths[0], 3, 2, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(widths[0])
        channels = widths[0]
        for i, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            blocks = [BasicBlock(channels, width, stride=1 if i == 0 else 2)]
            blocks += [BasicBlock(width, width) for _ in range(depth - 1)]
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
            channels = width
        self.stages = len(widths)
        self.level_widths = (widths[0], *widths) if stem == "resnet" else tuple(widths)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> list[Tensor]:
        """``(B, in, H, W)`` -> one feature map a level, fine to coarse."""
        x = F.relu(self.bn1(self.conv1(x)))
        if self.stem == "quarter":
            x = F.relu(self.bn2(self.conv2(x)))
        levels = []
        if self.stem == "resnet":
            levels.append(x)
            x = F.max_pool2d(x, 3, 2, 1)
        for i in range(self.stages):
            x = self.get_submodule(f"layer{i + 1}")(x)
            levels.append(x)
        return levels


class ChannelAttention(WeightLayer):
    """Channel attention over a neighbourhood of cells: mean- and max-pooled MLP, sigmoid (CBAM, Woo et al. 2018)."""

    def __init__(self, channels: int, cell: int) -> None:
        super().__init__()
        self.cell = cell
        hidden = max(channels // 4, 8)
        self.mlp = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(inplace=True), nn.Conv2d(hidden, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, h, w) -> (B, C, h, w)`` weights in (0, 1)."""
        k = ATTENTION_CELLS
        mean = F.avg_pool2d(F.avg_pool2d(x, self.cell), k, 1, k // 2, count_include_pad=False)
        peak = F.max_pool2d(F.max_pool2d(x, self.cell), k, 1, k // 2)
        weights = torch.sigmoid(self.mlp(mean) + self.mlp(peak))  # (B, C, h/cell, w/cell)
        return F.interpolate(weights, size=x.shape[2:], mode="bilinear", align_corners=False)


class DifferentialFusion(nn.Module):
    """DFM: four views of the difference, fused, then channel and spatial attention; residual onto ``|f1 - f2|``.

    Args:
        in_channels: of the encoder's level.
        channels: of the result; where they differ, ``|f1 - f2|`` goes through a 1x1 convolution.
        cell: side of the cells over which channel attention pools, in pixels of the level.
        kernel: of the convolution of the learned view.
    """

    def __init__(self, in_channels: int, channels: int, cell: int, kernel: int = 3) -> None:
        super().__init__()
        half = max(channels // 2, 8)
        self.magnitude = conv_bn_relu(in_channels, half, 1)
        self.angle = conv_bn_relu(in_channels, half, 1)
        self.learned = conv_bn_relu(2 * in_channels, half, kernel)
        self.envelope = conv_bn_relu(2 * in_channels, half, 1)
        self.fuse = conv_bn_relu(4 * half, channels, 1)
        self.residual = nn.Identity() if in_channels == channels else nn.Conv2d(in_channels, channels, 1, bias=False)
        self.channel = ChannelAttention(channels, cell)
        self.spatial = SpatialAttention(bias=True)

    def forward(self, f1: Tensor, f2: Tensor) -> Tensor:
        """``(B, in, h, w) x 2 -> (B, C, h, w)``, unchanged when the dates are swapped."""
        difference = (f1 - f2).abs()
        angle = 1 - _cosine(f1, f2)  # (B, 1, h, w); 0 to 1 where features are not negative (after ReLU), else 0 to 2
        views = [
            self.magnitude(difference),
            self.angle(angle * (f1 + f2) * 0.5),
            (self.learned(torch.cat([f1, f2], 1)) + self.learned(torch.cat([f2, f1], 1))) * 0.5,
            self.envelope(torch.cat([torch.maximum(f1, f2), torch.minimum(f1, f2)], 1)),
        ]
        fused: Tensor = self.fuse(torch.cat(views, 1))
        fused = fused * self.channel(fused)
        fused = fused * self.spatial(fused)
        onto: Tensor = self.residual(difference)
        return onto + fused


def _cosine(f1: Tensor, f2: Tensor) -> Tensor:
    """Cosine of the angle between the channel vectors of each pixel: ``(B, C, h, w) x 2 -> (B, 1, h, w)``."""
    product = (f1 * f2).sum(1, keepdim=True)
    squares = (f1 * f1).sum(1, keepdim=True) * (f2 * f2).sum(1, keepdim=True)
    return product * torch.rsqrt(squares + 1e-6)


class Subtraction(nn.Module):
    """What DFM is compared with in the ablation: ``|f1 - f2|``, through a 1x1 convolution where the widths differ."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.project = nn.Identity() if in_channels == channels else nn.Conv2d(in_channels, channels, 1, bias=False)

    def forward(self, f1: Tensor, f2: Tensor) -> Tensor:
        """``(B, in, h, w) x 2 -> (B, C, h, w)``."""
        out: Tensor = self.project((f1 - f2).abs())
        return out


class BinomialBlur(nn.Module):
    """Fixed 5-tap binomial blur with spread taps; at the border the weights inside the map are renormalised."""

    taps: Tensor

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.register_buffer("taps", torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, h, w) -> (B, C, h, w)``."""
        return self._blur(x) / self._blur(torch.ones_like(x[:1, :1]))

    def _blur(self, x: Tensor) -> Tensor:
        d = self.dilation
        channels = x.shape[1]
        rows = self.taps.to(x.dtype).view(1, 1, 5, 1).expand(channels, 1, 5, 1)
        x = F.conv2d(x, rows, padding=(2 * d, 0), dilation=(d, 1), groups=channels)
        return F.conv2d(x, rows.transpose(2, 3), padding=(0, 2 * d), dilation=(1, d), groups=channels)


class DeepSemanticPyramid(nn.Module):
    """DSP: spatial pooling pyramid beside a Gaussian pyramid, joined with the input and fused to its width.

    Args:
        channels: C.
        windows: sides of the pooling windows, in cells of the deepest level.
        dilations: of the taps of the Gaussian pyramid's octaves.
    """

    def __init__(
        self, channels: int, windows: Sequence[int] = POOL_WINDOWS, dilations: Sequence[int] = GAUSSIAN_DILATIONS
    ) -> None:
        super().__init__()
        quarter = max(channels // 4, 8)
        self.windows = tuple(windows)
        self.pools = nn.ModuleList(conv_bn_relu(channels, quarter, 1) for _ in windows)
        self.blurs = nn.ModuleList(BinomialBlur(d) for d in dilations)
        self.octaves = nn.ModuleList(conv_bn_relu(channels, quarter, 3, d) for d in dilations)
        branches = len(windows) + len(dilations)
        self.fuse = conv_bn_relu(channels + branches * quarter, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, h, w) -> (B, C, h, w)``."""
        parts = [x]
        for window, project in zip(self.windows, self.pools, strict=True):
            parts.append(project(F.avg_pool2d(x, window, 1, window // 2, count_include_pad=False)))
        smooth = x
        for blur, octave in zip(self.blurs, self.octaves, strict=True):
            smooth = blur(smooth)
            parts.append(octave(smooth))
        fused: Tensor = self.fuse(torch.cat(parts, 1))
        return fused


class DecoderBlock(nn.Module):
    """x2 upsampling, concatenation with the level's difference, two conv-BN-ReLU."""

    def __init__(self, in_channels: int, skip_channels: int) -> None:
        super().__init__()
        self.conv1 = conv_bn_relu(in_channels + skip_channels, skip_channels, 3)
        self.conv2 = conv_bn_relu(skip_channels, skip_channels, 3)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """``(B, C, h, w), (B, C', 2h, 2w) -> (B, C', 2h, 2w)``."""
        x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        out: Tensor = self.conv2(self.conv1(torch.cat([x, skip], 1)))
        return out


class MLLASiaNet(ChangeNetwork):
    """MLLA_SiaNet.

    Args:
        encoder: gives one feature map a level, fine to coarse, each half as large as the one before; has
            ``in_channels`` and ``level_widths``.
        finest: stride of the finest level.
        widths: channels of the decoder's levels; the encoder's by default.
        pyramid: windows and dilations of DSP, see `DeepSemanticPyramid`.
        learned_kernel: of the learned view of DFM.
        dfm: differential fusion; False: plain subtraction (ablation).
        dsp: deep semantic pyramid; False: left out (ablation).
        mla: heads on the inner decoder levels for the multi-level loss; False: the final head only (ablation).
    """

    symmetric = True

    def __init__(
        self,
        encoder: Encoder | EfficientNetLite,
        finest: int = 2,
        *,
        widths: Sequence[int] | None = None,
        pyramid: tuple[Sequence[int], Sequence[int]] = (POOL_WINDOWS, GAUSSIAN_DILATIONS),
        learned_kernel: int = 3,
        dfm: bool = True,
        dsp: bool = True,
        mla: bool = True,
    ) -> None:
        super().__init__()
        self.in_channels = encoder.in_channels
        given = encoder.level_widths
        levels = tuple(widths or given)
        cells = [2**i for i in reversed(range(len(levels)))]
        self.stride = cells[0] * finest
        sizes = zip(given, levels, cells, strict=True)
        self.fusions = nn.ModuleList(
            DifferentialFusion(c, w, cell, learned_kernel) if dfm else Subtraction(c, w) for c, w, cell in sizes
        )
        self.pyramid = DeepSemanticPyramid(levels[-1], *pyramid) if dsp else nn.Identity()
        inner = list(levels[:-1])
        self.decoder = nn.ModuleList(DecoderBlock(c, s) for s, c in zip(inner, levels[1:], strict=True))
        self.head = nn.Conv2d(levels[0], 1, 1)
        self.aux_heads = nn.ModuleList(nn.Conv2d(c, 1, 1) for c in levels[1:] if mla)
        self.apply(_initialise)
        self.encoder = encoder
        for head in (self.head, *self.aux_heads):  # start from few changes: sigmoid(-2) = 0.12
            nn.init.normal_(head.weight, std=0.01)
            nn.init.constant_(head.bias, -2.0)

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """``(B, C, H, W) x 2 -> (B, 1, H, W)`` logits, positive = changed."""
        return self._full_size(self.head(self._decode(before, after)[0]), before)

    def forward_with_aux(self, before: Tensor, after: Tensor) -> list[Tensor]:
        """The final logits ``(B, 1, H, W)``, then one map for each inner level, fine to coarse, all at input size."""
        maps = self._decode(before, after)
        heads = [self.head, *self.aux_heads]
        return [self._full_size(head(x), before) for head, x in zip(heads, maps, strict=False)]

    def features(self, images: Tensor) -> Tensor:
        """Means over the image of all levels of the encoder but the finest: ``(B, C, H, W) -> (B, F)``."""
        return torch.cat([level.mean((2, 3)) for level in self.encoder(images)[1:]], 1)

    def _decode(self, before: Tensor, after: Tensor) -> list[Tensor]:
        self.check_inputs(before, after, self.in_channels)
        if self.training:  # dates share weights and one batch, for the statistics of its normalisation: (2B, C, h, w)
            n = before.shape[0]
            pairs = [(x[:n], x[n:]) for x in self.encoder(torch.cat([before, after], 0))]
        else:  # one after the other, which takes less memory
            pairs = list(zip(self.encoder(before), self.encoder(after), strict=True))
        differences = [fuse(f1, f2) for fuse, (f1, f2) in zip(self.fusions, pairs, strict=True)]
        x = self.pyramid(differences[-1])
        maps = [x]
        for block, skip in zip(reversed(self.decoder), reversed(differences[:-1]), strict=True):
            x = block(x, skip)
            maps.append(x)
        return maps[::-1]

    @staticmethod
    def _full_size(logits: Tensor, like: Tensor) -> Tensor:
        return F.interpolate(logits, size=like.shape[2:], mode="bilinear", align_corners=False)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


@register_model(paper=PAPER, year=2026)
def mlla_sianet(in_channels: int = 3, *, dfm: bool = True, dsp: bool = True, mla: bool = True) -> MLLASiaNet:
    """MLLA_SiaNet, small: residual encoder of four stages, 3 M parameters."""
    encoder = Encoder(in_channels, (16, 32, 96, 192), (1, 2, 2, 2), "half")
    return MLLASiaNet(encoder, dfm=dfm, dsp=dsp, mla=mla)


@register_model(paper=PAPER, year=2026)
def mlla_sianet_large(in_channels: int = 3, *, dfm: bool = True, dsp: bool = True, mla: bool = True) -> MLLASiaNet:
    """MLLA_SiaNet with a ResNet-34 encoder; its encoder loads torchvision's checkpoint."""
    encoder = Encoder(in_channels, (64, 128, 256, 512), (3, 4, 6, 3), "resnet")
    return MLLASiaNet(encoder, dfm=dfm, dsp=dsp, mla=mla)


@register_model(paper=PAPER, year=2026)
def mlla_sianet_light(in_channels: int = 3, *, dfm: bool = True, dsp: bool = True, mla: bool = True) -> MLLASiaNet:
    """MLLA_SiaNet for large scenes on a CPU: three stages from 1/4 on, two fifths of the multiply-adds."""
    encoder = Encoder(in_channels, (24, 64, 128), (1, 2, 2), "quarter")
    network = MLLASiaNet(encoder, 4, dfm=dfm, dsp=dsp, mla=mla)
    network.tile = 1200  # its maps are smaller, so a larger tile costs no more memory
    return network


@register_model(paper=PAPER, year=2026)
def mlla_sianet_lite0(in_channels: int = 3, *, dfm: bool = True, dsp: bool = True, mla: bool = True) -> MLLASiaNet:
    """MLLA_SiaNet on EfficientNet-Lite0 to stride 16, from ImageNet weights; the network that ships."""
    network = MLLASiaNet(
        EfficientNetLite("lite0", in_channels, stride=16),
        widths=(24, 32, 56, 96),
        pyramid=((3, 5, 7), (1, 2)),
        learned_kernel=1,
        dfm=dfm,
        dsp=dsp,
        mla=mla,
    )
    network.overlap = 192  # see docs/seams.md
    return network
