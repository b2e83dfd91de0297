"""STANet: spatial-temporal attention network, trained by metric learning.

Paper: Chen & Shi, A Spatial-Temporal Attention-Based Method and a New Dataset for Remote Sensing Image Change
Detection, Remote Sensing 12(10), 1662, 2020, doi:10.3390/rs12101662. ``attention="base"``, ``"bam"`` and ``"pam"``
are its three variants. Where the paper is silent we follow the authors' released code:

- ResNet-18's last stage has three blocks with dilations 1, 2, 4: 16.9 M parameters and not 11.2 M. ImageNet has no
  weights for the third.
- BAM's learned residual weight exists in the released code and is never used: 16,897,041 parameters, of which
  16,897,040 are used and built here. PAM has no residual.
- The released distance is `torch.nn.functional.pairwise_distance`, which in today's torch reduces the image's width
  and no longer the channels. We take the channels. It adds 1e-6 to each signed difference, and so do we.
- Each date passes the extractor on its own, so batch statistics are those of one date; attention sees both.
- The output is a logit, ``4 (d - 1)`` with the distance d of the attended features: zero at the paper's threshold,
  half of the margin 2. The loss ``bcl`` takes d from it. The distance is upsampled x4 with aligned corners, as
  released.
- Attention spans the whole input (BAM, and PAM's first branch): a pixel depends on its tile. So tiles have the side
  of the training crops.

Multiply-adds of a 256² pair: 12.82 G (base), 17.69 G (BAM), 19.54 G (PAM). The 13.16 G of the literature for PAM
leave attention's products out, and 6.58 G count one date.

Shapes: B batch, C = 64 channels, h = H/4, w = W/4; K = 8 channels of a key; s parts of a side, N = 2 h w / s² tokens.
"""

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from terradelta.errors import ModelError
from terradelta.lab.networks._registry import ChangeNetwork, register_model
from terradelta.lab.networks.layers.attention import AttentionLayer, Box, attend_tokens, mean_attention, query_share
from terradelta.lab.networks.layers.conv import conv_bn_relu
from terradelta.lab.networks.layers.distance import distance_logits, upsampled_to
from terradelta.lab.networks.layers.resnet import ResNet, Stage

__all__ = ["BasicAttention", "Extractor", "PyramidAttention", "STANet", "stanet"]

PAPER = "Chen & Shi, A Spatial-Temporal Attention-Based Method, Remote Sensing 2020, doi:10.3390/rs12101662"
AttentionKind = Literal["base", "bam", "pam"]
CHANNELS = 64
KEY_CHANNELS = 8
REDUCED = 96
PARTS = (1, 2, 4, 8)
"""Parts of a side in PAM's branches."""
STAGES = (Stage(64, 1, (1, 1)), Stage(128, 2, (1, 1)), Stage(256, 2, (1, 1)), Stage(512, 2, (1, 2, 4)))


class Extractor(nn.Module):
    """Neck over the four levels of ResNet-18: each to 96 channels, resized to 1/4, joined, fused to C channels."""

    def __init__(self) -> None:
        super().__init__()
        self.reduce = nn.ModuleList(conv_bn_relu(stage.channels, REDUCED) for stage in STAGES)
        self.fuse = nn.Sequential(
            conv_bn_relu(len(STAGES) * REDUCED, 256, 3), nn.Dropout(0.5), conv_bn_relu(256, CHANNELS)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Four levels, fine to coarse ``-> (B, C, h, w)``."""
        size = levels[0].shape[2:]
        maps = [
            F.interpolate(reduce(x), size=size, mode="bilinear", align_corners=True)
            for reduce, x in zip(self.reduce, levels, strict=True)
        ]
        out: Tensor = self.fuse(torch.cat([maps[-1], *maps[:-1]], 1))  # order of the released code: deepest first
        return out


class BasicAttention(AttentionLayer):
    """BAM: every position of both dates gathers values of all positions of both dates; added to the input.

    Args:
        pool: attention works on means of ``pool`` x ``pool`` positions.
    """

    def __init__(self, pool: int = 1) -> None:
        super().__init__()
        self.pool = pool
        self.query = nn.Conv2d(CHANNELS, KEY_CHANNELS, 1)
        self.key = nn.Conv2d(CHANNELS, KEY_CHANNELS, 1)
        self.value = nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Both dates side by side, ``(B, C, h, 2w) -> (B, C, h, 2w)``."""
        pooled = F.avg_pool2d(x, self.pool)
        q_BNK, k_BNK, v_BNC = (y(pooled).flatten(2).transpose(1, 2) for y in (self.query, self.key, self.value))
        out_BNC = attend_tokens(q_BNK, k_BNK, v_BNC)  # scale: 1 / sqrt(K)
        out = out_BNC.transpose(1, 2).reshape(pooled.shape)
        return x + F.interpolate(out, scale_factor=float(self.pool), mode="nearest")

    def attention_maps(self, at: Box | None, x: Tensor) -> dict[str, Tensor]:
        """See `AttentionLayer`: where positions of one date look on either."""
        pooled = F.avg_pool2d(x, self.pool)
        q_BNK, k_BNK = (y(pooled).flatten(2).transpose(1, 2) for y in (self.query, self.key))
        shares = _shares_of_dates(at, pooled)
        maps = [mean_attention(q_BNK, k_BNK, share.flatten(1)).reshape(pooled.shape[2:]) for share in shares]
        return _by_dates(maps)


class PartitionAttention(AttentionLayer):
    """A branch of PAM: attention within each of ``parts`` x ``parts`` parts of the scene, over both dates.

    Args:
        parts: parts of a side.
        pool: attention works on means of ``pool`` x ``pool`` positions.
    """

    def __init__(self, parts: int, pool: int = 1) -> None:
        super().__init__()
        self.parts, self.pool = parts, pool
        self.query = nn.Sequential(nn.Conv2d(CHANNELS, KEY_CHANNELS, 1), nn.BatchNorm2d(KEY_CHANNELS))
        self.key = nn.Sequential(nn.Conv2d(CHANNELS, KEY_CHANNELS, 1), nn.BatchNorm2d(KEY_CHANNELS))
        self.value = nn.Conv2d(CHANNELS, CHANNELS, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Both dates side by side, ``(B, C, h, 2w) -> (B, C, h, 2w)``."""
        x = F.avg_pool2d(x, self.pool)
        q_PNK, k_PNK, v_PNC = (self._parts(y(x)).transpose(1, 2) for y in (self.query, self.key, self.value))
        out_PNC = attend_tokens(q_PNK, k_PNK, v_PNC)  # scale: 1 / sqrt(K)
        return F.interpolate(self._joined(out_PNC.transpose(1, 2), x), scale_factor=float(self.pool), mode="nearest")

    def attention_maps(self, at: Box | None, x: Tensor) -> dict[str, Tensor]:
        """See `AttentionLayer`: where positions of one date look on either; zero outside of their parts."""
        x = F.avg_pool2d(x, self.pool)
        q_PNK, k_PNK = (self._parts(y(x)).transpose(1, 2) for y in (self.query, self.key))
        shares = _shares_of_dates(at, x)
        seen = [mean_attention(q_PNK, k_PNK, self._parts(share).flatten(1)) for share in shares]
        return _by_dates([self._joined(each.unsqueeze(1), shares[0])[0, 0] for each in seen])

    def _parts(self, x: Tensor) -> Tensor:
        """``(B, C, h, 2w) -> (B s s, C, N)``: a part's tokens are its positions in both dates."""
        s, channels, width = self.parts, x.shape[1], x.shape[3] // 2
        # Slices, not a view: with a view's strides torch's batch normalisation gives a batch of one a wrong gradient.
        x = torch.stack([x[..., :width], x[..., width:]], 3)  # (B, C, h, 2, w)
        x = x.reshape(-1, channels, s, x.shape[2] // s, 2, s, width // s)
        return x.permute(0, 2, 5, 1, 3, 4, 6).reshape(-1, channels, x.shape[3] * 2 * x.shape[6])

    def _joined(self, parts: Tensor, like: Tensor) -> Tensor:
        """What `_parts` took apart: ``(B s s, C, N) -> (B, C, h, 2w)``."""
        s, (_, channels, height, width) = self.parts, like.shape
        x = parts.reshape(-1, s, s, channels, height // s, 2, width // (2 * s))
        return x.permute(0, 3, 1, 4, 5, 2, 6).reshape(-1, channels, height, width)


def _shares_of_dates(at: Box | None, x: Tensor) -> list[Tensor]:
    """For queries of the first date and of the second one: their shares, ``(1, 1, h, 2w)``."""
    share = query_share((x.shape[2], x.shape[3] // 2), at, x)
    none = torch.zeros_like(share)
    return [torch.cat(halves, 3) for halves in ([share, none], [none, share])]


def _by_dates(maps: list[Tensor]) -> dict[str, Tensor]:
    """Maps ``(h, 2w)`` of the queries of each date -> maps ``(h, w)`` by query's and key's date."""
    names = ("before", "after")
    halves = {one: dict(zip(names, each.chunk(2, 1), strict=True)) for one, each in zip(names, maps, strict=True)}
    return {f"{one}-{other}": half for one, both in halves.items() for other, half in both.items()}


class PyramidAttention(nn.Module):
    """PAM: attention within parts of four sizes, joined by a 1x1 convolution; no residual."""

    def __init__(self, pool: int = 1) -> None:
        super().__init__()
        self.branches = nn.ModuleList(PartitionAttention(parts, pool) for parts in PARTS)
        self.fuse = nn.Conv2d(len(PARTS) * CHANNELS, CHANNELS, 1, bias=False)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Both dates side by side, ``(B, C, h, 2w) -> (B, C, h, 2w)``."""
        out: Tensor = self.fuse(torch.cat([branch(x) for branch in self.branches], 1))
        return out


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class STANet(ChangeNetwork):
    """STANet: ResNet-18, attention over space and time, distance of the dates' features.

    Args:
        in_channels: bands of one date.
        attention: ``base`` (none), ``bam`` or ``pam``.
        pool: attention works on means of ``pool`` x ``pool`` positions; the paper's scores have 1.

    Raises:
        ModelError: if an option is not allowed.
    """

    symmetric = True
    tile = 256
    overlap = 128

    def __init__(self, in_channels: int = 3, attention: AttentionKind = "pam", pool: int = 1) -> None:
        super().__init__()
        if attention not in get_args(AttentionKind):
            raise ModelError(f"attention is {attention!r}; it must be one of {', '.join(get_args(AttentionKind))}")
        if pool not in (1, 2, 4, 8):
            raise ModelError(f"pool is {pool}; it must be 1, 2, 4 or 8")
        self.in_channels = in_channels
        self.stride = 32 * pool  # at 1/4, after pooling, a side still has PAM's eight parts
        self.whole_tile = attention != "base"
        self.encoder = ResNet(in_channels, 64, STAGES, without_weights=("layer4.2.",))
        self.extractor = Extractor()
        kinds = {"base": nn.Identity, "bam": BasicAttention, "pam": PyramidAttention}
        self.attention = nn.Identity() if attention == "base" else kinds[attention](pool)

    def forward_with_aux(self, before: Tensor, after: Tensor) -> list[Tensor]:
        """``(B, C, H, W) x 2`` -> one map of logits ``(B, 1, H, W)``, ``4 (d - 1)`` with the distance d."""
        self.check_inputs(before, after, self.in_channels)
        dates = [self.extractor(self.encoder(date)) for date in (before, after)]
        both, width = self.attention(torch.cat(dates, 3)), dates[0].shape[3]
        small = distance_logits(both[..., :width], both[..., width:])  # `chunk` would fix an exported network's width
        return [upsampled_to(before, small)]


@register_model(paper=PAPER, year=2020, loss="bcl")
def stanet(in_channels: int = 3, *, attention: AttentionKind = "pam", pool: int = 1) -> STANet:
    """STANet: ResNet-18 and attention over both dates (base, bam or pam), metric learning."""
    return STANet(in_channels, attention, pool)
