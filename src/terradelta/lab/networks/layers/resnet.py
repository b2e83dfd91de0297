"""ResNet (He, Zhang, Ren, Sun, Deep Residual Learning, CVPR 2016) with dilation; keys as in torchvision's ResNet."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["BasicBlock", "Bottleneck", "ResNet", "Stage"]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; the first one has the stride and the dilation."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, dilation, dilation, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample = _shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, h, w) -> (B, C', h/s, w/s)``."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + shortcut)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution around a quarter of the channels, and a shortcut; the 3x3 one has the stride."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        inner = out_channels // 4
        self.conv1 = nn.Conv2d(in_channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = _shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, h, w) -> (B, C', h/s, w/s)``."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.relu(self.bn3(self.conv3(x)) + shortcut)


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module | None:
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))


class Stage(NamedTuple):
    """A stage of a ResNet."""

    channels: int
    """Channels of its output."""
    stride: int
    """Stride of its first block."""
    dilations: tuple[int, ...]
    """One for each block."""


class ResNet(nn.Module):
    """7x7 stem at 1/2, max-pool, then the stages; without pooling and classifier.

    Bottlenecks begin as their shortcuts: the last normalisation of each starts with weight zero (Goyal et al.,
    Accurate, Large Minibatch SGD, arXiv:1706.02677, Sec. 5.1). With ones, torchvision's default, the many blocks of
    random weights leave so little of the image in the deepest map that a few hundred steps from there teach nothing.

    Args:
        in_channels: bands.
        stem: channels of the stem.
        stages: from 1/4 on.
        block: `BasicBlock` or `Bottleneck`.
        without_weights: beginnings of the keys that an ImageNet classifier does not have, such as ``layer4.2.``.
    """

    def __init__(
        self,
        in_channels: int,
        stem: int,
        stages: Sequence[Stage],
        block: type[BasicBlock | Bottleneck] = BasicBlock,
        without_weights: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.without_weights = without_weights
        self.conv1 = nn.Conv2d(in_channels, stem, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.stages = len(stages)
        channels = stem
        for i, stage in enumerate(stages, 1):
            blocks = []
            for j, dilation in enumerate(stage.dilations):
                blocks.append(block(channels, stage.channels, stage.stride if j == 0 else 1, dilation))
                channels = stage.channels
            setattr(self, f"layer{i}", nn.Sequential(*blocks))
        self.apply(_initialise)

    def forward(self, x: Tensor) -> list[Tensor]:
        """``(B, in, H, W)`` -> the map of each stage, fine to coarse."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        levels = []
        for i in range(self.stages):
            x = self.get_submodule(f"layer{i + 1}")(x)
            levels.append(x)
        return levels


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, Bottleneck):
        nn.init.zeros_(module.bn3.weight)
