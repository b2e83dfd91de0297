"""UNet++_MSOF: nested U-Net over both dates with multiple side-output fusion.

Paper: Peng, Zhang, Guan, End-to-End Change Detection for High Resolution Satellite Images Using Improved UNet++,
Remote Sensing 11(11), 1382, 2019, doi:10.3390/rs11111382. Deviations and choices:

- The text reads as if the side *outputs* were fused; the released code applies the fifth head to the concatenated
  *features* of the four top nodes. We follow the code.
- The residual of a unit is its first convolution's activation, before normalisation. X(0,0) has none, as in the code.
- SELU comes before batch normalisation, whose constants are Keras's (epsilon 0.001, momentum 0.99).
- No dropout: it is commented out in the code.
- The "11.00 M" parameters of the literature are not what the released code builds: 9,050,565.

Multiply-adds of a 256² pair: 29.86 G. The 34.0 G of a common counter charge the transposed convolutions at their
output's size.

Shapes: B batch; level i = 0..4 has 32 2^i channels and size H/2^i x W/2^i. X(i,j): level i, column j.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from terradelta.lab.networks._registry import ChangeNetwork, register_model

__all__ = ["ConvUnit", "UNetPlusPlusMSOF", "unetpp_msof"]

PAPER = "Peng et al., End-to-End Change Detection Using Improved UNet++, Remote Sensing 2019, doi:10.3390/rs11111382"
WIDTHS = (32, 64, 128, 256, 512)
NODES = 4
"""Nodes of the top row, X(0,1) to X(0,4)."""


class ConvUnit(nn.Module):
    """Twice 3x3 convolution, SELU, batch normalisation; the first activation is added to the result.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        residual: add the first activation.
    """

    def __init__(self, in_channels: int, out_channels: int, *, residual: bool = True) -> None:
        super().__init__()
        self.residual = residual
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.bn1 = _norm(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.bn2 = _norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, h, w) -> (B, C', h, w)``."""
        first = F.selu(self.conv1(x))
        out: Tensor = self.bn2(F.selu(self.conv2(self.bn1(first))))
        return out + first if self.residual else out


class UNetPlusPlusMSOF(ChangeNetwork):
    """UNet++_MSOF.

    Args:
        in_channels: bands of one date.
    """

    stride = 16

    def __init__(self, in_channels: int = 3) -> None:
        super().__init__()
        self.in_channels = in_channels
        inputs = (2 * in_channels, *WIDTHS)
        self.encoder = nn.ModuleList(
            ConvUnit(a, b, residual=i > 0) for i, (a, b) in enumerate(zip(inputs, WIDTHS, strict=False))
        )
        self.ups = nn.ModuleDict()
        self.blocks = nn.ModuleDict()
        for i, j in _decoder_nodes():
            self.ups[f"{i}_{j}"] = nn.ConvTranspose2d(WIDTHS[i + 1], WIDTHS[i], 2, 2)
            self.blocks[f"{i}_{j}"] = ConvUnit((j + 1) * WIDTHS[i], WIDTHS[i])
        self.side_heads = nn.ModuleList(nn.Conv2d(WIDTHS[0], 1, 1) for _ in range(NODES))
        self.head = nn.Conv2d(NODES * WIDTHS[0], 1, 1)
        self.apply(_initialise)

    def forward_with_aux(self, before: Tensor, after: Tensor) -> list[Tensor]:
        """``(B, C, H, W) x 2`` -> logits ``(B, 1, H, W)``: fused, then the side outputs of X(0,4) to X(0,1)."""
        self.check_inputs(before, after, self.in_channels)
        rows = [[x] for x in self._encode(torch.cat([before, after], 1))]
        for i, j in _decoder_nodes():
            up = self.ups[f"{i}_{j}"](rows[i + 1][j - 1])
            rows[i].append(self.blocks[f"{i}_{j}"](torch.cat([up, *rows[i]], 1)))
        top = rows[0][1:]
        sides = [head(node) for head, node in zip(self.side_heads, top, strict=True)]
        return [self.head(torch.cat(top, 1)), *reversed(sides)]

    def _encode(self, x: Tensor) -> list[Tensor]:
        maps = [self.encoder[0](x)]
        for unit in self.encoder[1:]:
            maps.append(unit(F.max_pool2d(maps[-1], 2)))
        return maps


def _decoder_nodes() -> list[tuple[int, int]]:
    """(level, column) of the decoder's nodes, each after those that it needs: column by column."""
    return [(i, j) for j in range(1, NODES + 1) for i in range(len(WIDTHS) - j)]


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def _initialise(module: nn.Module) -> None:
    """He et al.'s normal initialisation on convolutions; biases 0."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


@register_model(paper=PAPER, year=2019, loss="msof")
def unetpp_msof(in_channels: int = 3) -> UNetPlusPlusMSOF:
    """UNet++_MSOF: early-fusion nested U-Net, four side outputs and their fusion."""
    return UNetPlusPlusMSOF(in_channels)
