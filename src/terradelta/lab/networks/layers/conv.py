"""Convolutions with what usually follows them."""

from torch import nn

__all__ = ["conv_bn_relu", "conv_unit"]


def conv_bn_relu(
    in_channels: int, out_channels: int, kernel: int = 1, dilation: int = 1, *, groups: int = 1, bias: bool = False
) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU: ``(B, in, h, w) -> (B, out, h, w)``; the size is kept."""
    padding = dilation * (kernel // 2)
    conv = nn.Conv2d(in_channels, out_channels, kernel, padding=padding, dilation=dilation, groups=groups, bias=bias)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


def conv_unit(in_channels: int, out_channels: int, dropout: float, *, transposed: bool = False) -> nn.Sequential:
    """3x3 convolution (or a transposed one of stride 1) with a bias, batch normalisation, ReLU, channel dropout.

    ``(B, in, h, w) -> (B, out, h, w)``; the size is kept.
    """
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    conv = kind(in_channels, out_channels, 3, padding=1)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True), nn.Dropout2d(dropout))
