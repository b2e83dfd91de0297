"""FC-EF, FC-Siam-conc and FC-Siam-diff: the first fully convolutional networks for change detection.

Paper: Daudt, Le Saux, Boulch, Fully Convolutional Siamese Networks for Change Detection, ICIP 2018,
doi:10.1109/ICIP.2018.8451652; Fig. 1. Where the paper is silent we follow the authors' released code:

- Both Siamese networks start their decoder from the pooled features of the *second* date alone. The figure does not
  say so; the released code does, and the published scores are its. So even FC-Siam-diff depends on the order of dates.
- The units of the decoder are transposed convolutions of stride 1: ordinary convolutions with flipped kernels.
- The released code pads upsampled maps to the skip's size by replication. Here heights and widths are multiples of
  16, where that padding is empty; it is left out.
- The released code ends with a log-softmax over two classes. The difference of two log-probabilities is the
  difference of their logits, which is what is returned.
- Each date passes the encoder on its own, so batch statistics are those of one date, as in the released code.

Multiply-adds of a 256² pair: 3.10, 4.83, 4.23 G. The 3.58, 5.33, 4.73 G of the literature charge the transposed
convolutions of stride 2 at their output's size.

Shapes: B batch, C channels, H x W input size; level l = 1..4 has size H/2^(l-1) x W/2^(l-1), the bottleneck H/16.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from terradelta.lab.networks._registry import ChangeNetwork, register_model
from terradelta.lab.networks.layers.conv import conv_unit

__all__ = ["FCEF", "FCSiamConc", "FCSiamDiff", "fc_ef", "fc_siam_conc", "fc_siam_diff"]

PAPER = "Daudt et al., Fully Convolutional Siamese Networks for Change Detection, ICIP 2018"
WIDTHS = (16, 32, 64, 128)
ENCODER_UNITS = (2, 2, 3, 3)
DECODER_WIDTHS = ((), (32, 16), (64, 64, 32), (128, 128, 64))
"""Widths of the units of each level's decoder block; level 1 has one unit of 16 and the two-class layer."""
DROPOUT = 0.2


def units(widths: Sequence[int], *, transposed: bool = False) -> nn.Sequential:
    """Units one after another; ``widths`` starts with the input's."""
    return nn.Sequential(*(conv_unit(a, b, DROPOUT, transposed=transposed) for a, b in pairwise(widths)))


class Encoder(nn.Module):
    """Four levels of two or three units, max-pooling after each."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        inputs = (in_channels, *WIDTHS)
        levels = zip(inputs, WIDTHS, ENCODER_UNITS, strict=False)
        self.levels = nn.ModuleList(units((start, *[width] * count)) for start, width, count in levels)

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """``(B, in, H, W)`` -> the four levels, fine to coarse, and the pooled last one ``(B, 128, H/16, W/16)``."""
        skips = []
        for level in self.levels:
            x = level(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        return skips, x


class Decoder(nn.Module):
    """Four times: x2 by a transposed convolution, concatenation with the skip, transposed units; then two classes.

    Args:
        streams: how many encoder maps a level's skip holds side by side.
    """

    def __init__(self, streams: int) -> None:
        super().__init__()
        self.ups = nn.ModuleList(nn.ConvTranspose2d(c, c, 3, 2, 1, output_padding=1) for c in WIDTHS)
        inputs = [width * (1 + streams) for width in WIDTHS]
        blocks = [units((i, *w), transposed=True) for i, w in zip(inputs[1:], DECODER_WIDTHS[1:], strict=True)]
        self.blocks = nn.ModuleList([conv_unit(inputs[0], WIDTHS[0], DROPOUT, transposed=True), *blocks])
        self.head = nn.ConvTranspose2d(WIDTHS[0], 2, 3, padding=1)

    def forward(self, x: Tensor, skips: Sequence[Tensor]) -> Tensor:
        """``(B, 128, H/16, W/16)`` and the skips, fine to coarse ``-> (B, 1, H, W)`` logits."""
        for up, block, skip in zip(reversed(self.ups), reversed(self.blocks), reversed(skips), strict=True):
            x = block(torch.cat([up(x), skip], 1))
        classes = self.head(x)  # (B, 2, H, W): unchanged, changed
        logits: Tensor = classes[:, 1:] - classes[:, :1]
        return logits


class FCEF(ChangeNetwork):
    """FC-EF, early fusion: a U-Net over the bands of both dates side by side.

    Args:
        in_channels: bands of one date.
    """

    stride = 16

    def __init__(self, in_channels: int = 3) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.encoder = Encoder(2 * in_channels)
        self.decoder = Decoder(streams=1)

    def forward_with_aux(self, before: Tensor, after: Tensor) -> list[Tensor]:
        """``(B, C, H, W) x 2`` -> one map of logits ``(B, 1, H, W)``."""
        self.check_inputs(before, after, self.in_channels)
        skips, x = self.encoder(torch.cat([before, after], 1))
        return [self.decoder(x, skips)]


class FCSiamConc(ChangeNetwork):
    """FC-Siam-conc: one encoder for both dates; skips hold the maps of both.

    Args:
        in_channels: bands of one date.
    """

    stride = 16

    def __init__(self, in_channels: int = 3) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.encoder = Encoder(in_channels)
        self.decoder = Decoder(streams=2)

    def forward_with_aux(self, before: Tensor, after: Tensor) -> list[Tensor]:
        """``(B, C, H, W) x 2`` -> one map of logits ``(B, 1, H, W)``."""
        self.check_inputs(before, after, self.in_channels)
        skips1, _ = self.encoder(before)
        skips2, x = self.encoder(after)
        return [self.decoder(x, [torch.cat(pair, 1) for pair in zip(skips1, skips2, strict=True)])]


class FCSiamDiff(ChangeNetwork):
    """FC-Siam-diff: one encoder for both dates; skips hold the absolute difference of their maps.

    Args:
        in_channels: bands of one date.
    """

    stride = 16

    def __init__(self, in_channels: int = 3) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.encoder = Encoder(in_channels)
        self.decoder = Decoder(streams=1)

    def forward_with_aux(self, before: Tensor, after: Tensor) -> list[Tensor]:
        """``(B, C, H, W) x 2`` -> one map of logits ``(B, 1, H, W)``."""
        self.check_inputs(before, after, self.in_channels)
        skips1, _ = self.encoder(before)
        skips2, x = self.encoder(after)
        return [self.decoder(x, [(f1 - f2).abs() for f1, f2 in zip(skips1, skips2, strict=True)])]


@register_model(paper=PAPER, year=2018, loss="fc")
def fc_ef(in_channels: int = 3) -> FCEF:
    """FC-EF: early-fusion U-Net."""
    return FCEF(in_channels)


@register_model(paper=PAPER, year=2018, loss="fc")
def fc_siam_conc(in_channels: int = 3) -> FCSiamConc:
    """FC-Siam-conc: Siamese U-Net whose skips concatenate both dates."""
    return FCSiamConc(in_channels)


@register_model(paper=PAPER, year=2018, loss="fc")
def fc_siam_diff(in_channels: int = 3) -> FCSiamDiff:
    """FC-Siam-diff: Siamese U-Net whose skips are absolute differences."""
    return FCSiamDiff(in_channels)
