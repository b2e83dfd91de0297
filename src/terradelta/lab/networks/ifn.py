"""IFN: deeply supervised image fusion network.

Paper: Zhang, Yue, Tapete, Jiang, Shangguan, Huang, Liu, A deeply supervised image fusion network for change detection
in high resolution bi-temporal remote sensing images, ISPRS J. Photogramm. 166, 2020,
doi:10.1016/j.isprsjprs.2020.06.003. Deviations and choices:

- One VGG16 for both dates, as in the paper; the released torch code takes two. With one it has 35,994,813 parameters,
  of which it never uses 267,264 (channel attention of stage 1, two normalisations): 35,727,549 are built here.
- The paper freezes VGG16 with ImageNet weights. Here weights start random, so it learns unless ``freeze_encoder``;
  load ImageNet weights first (keys are torchvision's: ``encoder.features.N``).
- The released loss applies a sigmoid to maps that have passed one. Here all maps are logits.
- The loss ``ifn`` is cross-entropy plus Dice at five scales, which weigh the same. The released Keras code resizes the
  label to each scale; here the logits of each scale are upsampled to the label.
- Until March 2021 the released torch code had a mean in the place of channel attention's maximum, and one spatial
  attention for all five stages. We follow what it has had since: a maximum, and one for each stage.
- PReLU has one slope a layer, as in the released torch code; the Keras one has a slope for each position.
- Channel attention pools over the whole input: a pixel depends on its tile. So tiles have the side of training crops.

Multiply-adds of a 256² pair: 78.92 G. The 82.3 G of the literature charge the transposed convolutions at their
output's size.

Shapes: B batch, C channels; stage s = 1..5, coarse to fine, has size H/2^(5-s) x W/2^(5-s).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from terradelta.errors import ModelError
from terradelta.lab.networks._registry import ChangeNetwork, register_model
from terradelta.lab.networks.layers.attention import ChannelAttention, SpatialAttention
from terradelta.lab.networks.layers.vgg import VGG16_WIDTHS, vgg_features

__all__ = ["IFN", "ifn"]

PAPER = "Zhang et al., A deeply supervised image fusion network, ISPRS 2020, doi:10.1016/j.isprsjprs.2020.06.003"
STAGES = ((512, 512), (512, 256, 256), (256, 128, 128), (128, 64, 64), (64, 32, 16))
"""Widths of the convolutions of the difference stages, coarse to fine."""
CHANNEL_RATIO = 8


class VGG16Encoder(nn.Module):
    """VGG16 without its last pooling; keys as in torchvision's ``vgg16``."""

    def __init__(self, in_channels: int, width: float = 1.0) -> None:
        super().__init__()
        self.features = vgg_features(in_channels, [_scaled(block, width) for block in VGG16_WIDTHS])[:-1]

    def forward(self, x: Tensor) -> list[Tensor]:
        """``(B, in, H, W)`` -> the last map of each of the five blocks, coarse to fine."""
        levels = []
        for layer in self.features.children():
            if isinstance(layer, nn.MaxPool2d):
                levels.append(x)
            x = layer(x)
        levels.append(x)
        return levels[::-1]


def prelu_unit(in_channels: int, out_channels: int, dropout: float) -> nn.Sequential:
    """3x3 convolution, PReLU, batch normalisation, dropout; the size is kept."""
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
    return nn.Sequential(conv, nn.PReLU(), nn.BatchNorm2d(out_channels), nn.Dropout(dropout))


class Stage(nn.Module):
    """Convolutions, spatial attention, normalisation; a 1x1 head for deep supervision.

    Args:
        in_channels: channels of the maps put together.
        widths: those of its convolutions.
        dropout: share of values that its units drop in training.
    """

    def __init__(self, in_channels: int, widths: Sequence[int], dropout: float) -> None:
        super().__init__()
        sizes = zip([in_channels, *widths[:-1]], widths, strict=True)
        self.convs = nn.Sequential(*(prelu_unit(a, b, dropout) for a, b in sizes))
        self.spatial = SpatialAttention()
        self.norm = nn.BatchNorm2d(widths[-1])
        self.head = nn.Conv2d(widths[-1], 1, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, C, h, w)`` -> features ``(B, C', h, w)`` and their logits ``(B, 1, h, w)``."""
        x = self.convs(x)
        x = self.norm(x * self.spatial(x))
        return x, self.head(x)


class FusionStage(nn.Module):
    """A stage after x2 upsampling, concatenation with both dates' maps, and channel attention.

    Args:
        in_channels: channels of the stage before.
        date_channels: channels of one date's map.
        widths: those of its convolutions.
        dropout: share of values that its units drop in training.
    """

    def __init__(self, in_channels: int, date_channels: int, widths: Sequence[int], dropout: float) -> None:
        super().__init__()
        together = in_channels + 2 * date_channels
        self.up = nn.ConvTranspose2d(in_channels, in_channels, 2, 2)
        self.channel = ChannelAttention(together, CHANNEL_RATIO)
        self.stage = Stage(together, widths, dropout)

    def forward(self, x: Tensor, f1: Tensor, f2: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, C, h, w)``, each date's ``(B, D, 2h, 2w)`` -> features ``(B, C', 2h, 2w)`` and their logits."""
        together = torch.cat([self.up(x), f1, f2], 1)
        out: tuple[Tensor, Tensor] = self.stage(together * self.channel(together))
        return out


class IFN(ChangeNetwork):
    """IFN: VGG16 for both dates, five difference stages with attention, each supervised.

    Args:
        in_channels: bands of one date.
        dropout: share of values that each unit drops in training. The paper's is 0.6; several ports leave it out.
        freeze_encoder: keep VGG16's weights as they are, as in the paper.
        width: factor for all widths, for work on a CPU.

    Raises:
        ModelError: if the width is too small.
    """

    stride = 16
    whole_tile = True
    tile = 256
    overlap = 128

    def __init__(
        self, in_channels: int = 3, *, dropout: float = 0.6, freeze_encoder: bool = False, width: float = 1.0
    ) -> None:
        super().__init__()
        if not width >= 1 / 16:
            raise ModelError(f"width {width} must be at least 0.0625: the last stage has 16 channels")
        self.in_channels = in_channels
        self.encoder = VGG16Encoder(in_channels, width)
        self.encoder.requires_grad_(not freeze_encoder)
        dates = _scaled([block[-1] for block in reversed(VGG16_WIDTHS)], width)
        all_widths = [_scaled(widths, width) for widths in STAGES]
        self.first = Stage(2 * dates[0], all_widths[0], dropout)
        outs = [widths[-1] for widths in all_widths]
        stages = zip(outs, dates[1:], all_widths[1:], strict=False)
        self.stages = nn.ModuleList(FusionStage(before, date, widths, dropout) for before, date, widths in stages)

    def forward_with_aux(self, before: Tensor, after: Tensor) -> list[Tensor]:
        """``(B, C, H, W) x 2`` -> logits ``(B, 1, H, W)``, then those of stages 4 to 1 at 1/2, 1/4, 1/8 and 1/16."""
        self.check_inputs(before, after, self.in_channels)
        pairs = list(zip(self.encoder(before), self.encoder(after), strict=True))
        x, logits = self.first(torch.cat(pairs[0], 1))
        outputs = [logits]
        for stage, (f1, f2) in zip(self.stages, pairs[1:], strict=True):
            x, logits = stage(x, f1, f2)
            outputs.append(logits)
        return outputs[::-1]


def _scaled(widths: Sequence[int], factor: float) -> list[int]:
    return [round(width * factor) for width in widths]


@register_model(paper=PAPER, year=2020, loss="ifn")
def ifn(in_channels: int = 3, *, dropout: float = 0.6, freeze_encoder: bool = False, width: float = 1.0) -> IFN:
    """IFN (DSIFN): VGG16, attention, deep supervision at five scales."""
    return IFN(in_channels, dropout=dropout, freeze_encoder=freeze_encoder, width=width)
