"""Convolutions of VGG16 (Simonyan, Zisserman, Very Deep Convolutional Networks, ICLR 2015)."""

from collections.abc import Callable, Sequence

from torch import nn

__all__ = ["VGG16_WIDTHS", "vgg_features"]

VGG16_WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Channels of VGG16's convolutions, block by block."""


def vgg_features(
    in_channels: int,
    blocks: Sequence[Sequence[int]],
    pool: Callable[[int], nn.Module] = lambda _: nn.MaxPool2d(2),
    dilations: Sequence[int] = (1, 1, 1, 1, 1),
) -> nn.Sequential:
    """Blocks of 3x3 convolution and ReLU, each followed by a pooling layer; indices as in torchvision's ``vgg16``.

    Args:
        in_channels: bands.
        blocks: channels of each convolution, block by block.
        pool: number of a block, from 0, to the layer behind it.
        dilations: of the convolutions of each block.
    """
    layers: list[nn.Module] = []
    for i, (block, dilation) in enumerate(zip(blocks, dilations, strict=False)):
        for width in block:
            conv = nn.Conv2d(in_channels, width, 3, padding=dilation, dilation=dilation)
            layers += [conv, nn.ReLU(inplace=True)]
            in_channels = width
        layers.append(pool(i))
    features = nn.Sequential(*layers)
    features.apply(_initialise)
    return features


def _initialise(module: nn.Module) -> None:
    """As torchvision's VGG does: without batch normalisation torch's default lets the signal fade."""
    if isinstance(module, nn.Conv2d) and module.bias is not None:
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(module.bias)
