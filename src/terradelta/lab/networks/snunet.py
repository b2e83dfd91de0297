"""SNUNet-CD with its ensemble channel attention module (ECAM).

Paper: Fang, Li, Shao, Li, SNUNet-CD: A Densely Connected Siamese Network for Change Detection of VHR Images, IEEE
GRSL 19, 2022 (early access 2021), doi:10.1109/LGRS.2021.3056416; Fig. 1. Where it is silent we follow the authors'
released code:

- Only the second date has a level 4, and the decoder's first column is upsampled from the second date alone; the
  first date enters by the skips. So the order of dates matters.
- ECAM *adds* the intra-group attention, a value in (0, 1), to the features; it does not multiply by it.
- ECAM pools by mean and maximum, as the paper prints. In the authors' code the layer called maximum was a mean until
  May 2021, and that is what the paper's scores and the released weights were made with: ``ecam_pool="mean"``. Both have
  the same weights; under the other pool 1.3 % of a released network's decisions flip.
- Attention pools over the whole input: a pixel depends on its tile. So tiles have the side of the training crops.
- Without ECAM (ablation) each of the four top nodes has a two-class head and a 1x1 convolution fuses their logits.
- Each date passes the encoder on its own, so batch statistics are those of one date.

Multiply-adds of a 256² pair: 11.68, 46.60, 104.76 G for widths 16, 32, 48. The 54.83 G of the literature for 32 charge
the transposed convolutions at their output's size.

Shapes: B batch, n base width; level i = 0..4 has n 2^i channels and size H/2^i x W/2^i. X(i,j): level i, column j.
"""

from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from terradelta.errors import ModelError
from terradelta.lab.networks._registry import ChangeNetwork, register_model
from terradelta.lab.networks.layers.attention import ChannelAttention, Pool

__all__ = ["EnsembleChannelAttention", "SNUNet", "snunet"]

PAPER = "Fang et al., SNUNet-CD: A Densely Connected Siamese Network, IEEE GRSL 2022, doi:10.1109/LGRS.2021.3056416"
LEVELS = 5
NODES = 4
"""Nodes of the top row, X(0,1) to X(0,4)."""
INTRA_RATIO, INTER_RATIO = 4, 16


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions; the first one's output, before its normalisation, is added to the second's."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, h, w) -> (B, C', h, w)``."""
        shortcut = self.conv1(x)
        x = self.bn2(self.conv2(F.relu(self.bn1(shortcut))))
        return F.relu(x + shortcut)


class EnsembleChannelAttention(nn.Module):
    """ECAM: the four top nodes weighed within a node and between nodes, then two classes."""

    def __init__(self, width: int, pool: Pool = "max") -> None:
        super().__init__()
        self.intra = ChannelAttention(width, INTRA_RATIO, pool)
        self.inter = ChannelAttention(NODES * width, INTER_RATIO, pool)
        self.head = nn.Conv2d(NODES * width, 2, 1)

    def forward(self, nodes: list[Tensor]) -> list[Tensor]:
        """Four ``(B, n, H, W)`` -> one map of class scores ``(B, 2, H, W)``, in a list."""
        together = torch.cat(nodes, 1)  # (B, 4n, H, W)
        intra = self.intra(torch.stack(nodes).sum(0)).repeat(1, NODES, 1, 1)  # (B, 4n, 1, 1)
        return [self.head(self.inter(together) * (together + intra))]


class DeepSupervision(nn.Module):
    """What ECAM is compared with: a head for each top node, and a 1x1 convolution over their scores."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Conv2d(width, 2, 1) for _ in range(NODES))
        self.fuse = nn.Conv2d(2 * NODES, 2, 1)

    def forward(self, nodes: list[Tensor]) -> list[Tensor]:
        """Four ``(B, n, H, W)`` -> class scores ``(B, 2, H, W)``: fused, then those of X(0,4) to X(0,1)."""
        scores = [head(node) for head, node in zip(self.heads, nodes, strict=True)]
        return [self.fuse(torch.cat(scores, 1)), *reversed(scores)]


class SNUNet(ChangeNetwork):
    """SNUNet-CD: Siamese encoder, nested decoder with dense skips, ECAM.

    Args:
        in_channels: bands of one date.
        width: channels n of the finest level; a multiple of 4.
        ecam: ensemble channel attention; False: deep supervision (ablation).
        ecam_pool: ``max``, as the paper prints; ``mean``, what the paper's scores and the released weights have.

    Raises:
        ModelError: if the width is no positive multiple of 4, or there is no such pool.
    """

    stride = 16
    tile = 256
    overlap = 128

    def __init__(self, in_channels: int = 3, width: int = 32, *, ecam: bool = True, ecam_pool: Pool = "max") -> None:
        super().__init__()
        if ecam_pool not in get_args(Pool):
            raise ModelError(f"ecam_pool is {ecam_pool!r}; it must be one of {', '.join(get_args(Pool))}")
        if width < 4 or width % 4:
            raise ModelError(f"width {width} must be a positive multiple of 4: attention divides it by 4")
        self.in_channels = in_channels
        self.whole_tile = ecam
        widths = [width * 2**i for i in range(LEVELS)]
        self.encoder = nn.ModuleList(
            ResidualBlock(a, b) for a, b in zip([in_channels, *widths[:-1]], widths, strict=True)
        )
        self.ups = nn.ModuleDict()
        self.blocks = nn.ModuleDict()
        for i, j in _decoder_nodes():
            below, here = widths[i + 1], widths[i]
            self.ups[f"{i}_{j}"] = nn.ConvTranspose2d(below, below, 2, 2)
            self.blocks[f"{i}_{j}"] = ResidualBlock((j + 1) * here + below, here)
        self.top = EnsembleChannelAttention(width, ecam_pool) if ecam else DeepSupervision(width)
        self.apply(_initialise)

    def forward_with_aux(self, before: Tensor, after: Tensor) -> list[Tensor]:
        """``(B, C, H, W) x 2`` -> logits ``(B, 1, H, W)``: the final map; without ECAM also X(0,4) to X(0,1)."""
        self.check_inputs(before, after, self.in_channels)
        dates1, dates2 = self._encode(before, LEVELS - 1), self._encode(after, LEVELS)
        columns = {(i, 0): x for i, x in enumerate(dates2)}
        skips = [list(pair) for pair in zip(dates1, dates2, strict=False)]  # of each level; columns 1, 2... follow
        for i, j in _decoder_nodes():
            up = self.ups[f"{i}_{j}"](columns[i + 1, j - 1])
            columns[i, j] = self.blocks[f"{i}_{j}"](torch.cat([*skips[i], up], 1))
            skips[i].append(columns[i, j])
        scores = self.top([columns[0, j + 1] for j in range(NODES)])
        return [classes[:, 1:] - classes[:, :1] for classes in scores]

    def _encode(self, x: Tensor, levels: int) -> list[Tensor]:
        maps = [self.encoder[0](x)]
        for block in self.encoder[1:levels]:
            maps.append(block(F.max_pool2d(maps[-1], 2)))
        return maps


def _decoder_nodes() -> list[tuple[int, int]]:
    """(level, column) of the decoder's nodes, each after those that it needs: column by column."""
    return [(i, j) for j in range(1, LEVELS) for i in range(LEVELS - j)]


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


@register_model(paper=PAPER, year=2021, loss="ce_dice")
def snunet(in_channels: int = 3, *, width: int = 32, ecam: bool = True, ecam_pool: Pool = "max") -> SNUNet:
    """SNUNet-CD with ECAM: Siamese nested U-Net; the paper has widths 16, 32 and 48."""
    return SNUNet(in_channels, width, ecam=ecam, ecam_pool=ecam_pool)
