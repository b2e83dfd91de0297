"""SFEARNet's encoder: MiT (Xie et al., SegFormer, NeurIPS 2021), as SFEARNet's released code has it.

Shapes: B batch, C channels of a stage, h x w its size, N = h w, M positions of a smaller map.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from terradelta.lab.networks.layers.attention import AttentionLayer, Box, mean_attention, query_share

__all__ = ["EfficientAttention", "EncoderStage", "MiT", "initialise", "map_of", "published_name", "tokens_of"]

HEADS = (1, 2, 5, 8)
REDUCTIONS = (8, 4, 2, 1)
"""Keys and values are taken from a map smaller by this."""
BLOCKS = 2
"""Blocks of each stage."""
DROP_PATH = 0.1


class EfficientAttention(AttentionLayer):
    """Multi-head attention of all positions to the positions of a smaller map.

    Args:
        channels: C.
        heads: number of heads.
        reduction: keys and values come from patches of ``reduction`` x ``reduction`` positions.
    """

    def __init__(self, channels: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(channels, channels)
        self.shrink = nn.Conv2d(channels, channels, reduction, reduction) if reduction > 1 else None
        self.norm = nn.LayerNorm(channels) if reduction > 1 else None
        self.key_value = nn.Linear(channels, 2 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """``(B, N, C)`` of a map of ``size`` ``-> (B, N, C)``."""
        key, value = self.key_value(self._source(x, size)).chunk(2, 2)
        out = F.scaled_dot_product_attention(self._split(self.query(x)), self._split(key), self._split(value))
        merged: Tensor = self.out(out.transpose(1, 2).flatten(2))
        return merged

    def attention_maps(self, at: Box | None, x: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
        """See `AttentionLayer`: mean of the heads, on the smaller map."""
        key, _ = self.key_value(self._source(x, size)).chunk(2, 2)
        q_KND, k_KMD = self._split(self.query(x))[0], self._split(key)[0]
        share = query_share(size, at, x).flatten(1).expand(self.heads, -1)
        return {"": mean_attention(q_KND, k_KMD, share).mean(0)}

    def _source(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """What keys and values are taken from, ``(B, M, C)``."""
        if self.shrink is None or self.norm is None:
            return x
        out: Tensor = self.norm(tokens_of(self.shrink(map_of(x, size))))
        return out

    def _split(self, x: Tensor) -> Tensor:
        batch, tokens, channels = x.shape
        return x.reshape(batch, tokens, self.heads, channels // self.heads).transpose(1, 2)  # (B, heads, N, D)


class MixFeedForward(nn.Module):
    """Linear layer to 4C, 3x3 convolution of each channel (which tells positions apart), GELU, and back."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = 4 * channels
        self.widen = nn.Linear(channels, hidden)
        self.mix = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.narrow = nn.Linear(hidden, channels)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """``(B, N, C)`` of a map of ``size`` ``-> (B, N, C)``."""
        x = tokens_of(self.mix(map_of(self.widen(x), size)))
        out: Tensor = self.narrow(F.gelu(x, approximate="tanh"))
        return out


class DropPath(nn.Module):
    """In training, leave a branch out for some images of the batch (Huang et al., Stochastic Depth, ECCV 2016).

    Args:
        share: of the images; what stays is scaled up to keep the mean.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """``(B, N, C) -> (B, N, C)``."""
        if not self.training or self.share == 0:
            return x
        keep = torch.empty(x.shape[0], 1, 1, device=x.device, dtype=x.dtype).bernoulli_(1 - self.share)
        return x * keep / (1 - self.share)


class MixBlock(nn.Module):
    """Attention and feed-forward, each after a layer norm and added to its input."""

    def __init__(self, channels: int, heads: int, reduction: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.attention = EfficientAttention(channels, heads, reduction)
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.feed_forward = MixFeedForward(channels)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """``(B, N, C)`` of a map of ``size`` ``-> (B, N, C)``."""
        x = x + self.drop_path(self.attention(self.norm1(x), size))
        out: Tensor = x + self.drop_path(self.feed_forward(self.norm2(x), size))
        return out


class EncoderStage(nn.Module):
    """Overlapping patches by a strided convolution, blocks, layer norm.

    Args:
        in_channels: channels of the stage before.
        channels: C.
        index: number of the stage, from 0.
    """

    def __init__(self, in_channels: int, channels: int, index: int) -> None:
        super().__init__()
        kernel, stride = (7, 4) if index == 0 else (3, 2)
        self.embed = nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2)
        self.embed_norm = nn.LayerNorm(channels)
        rates = [DROP_PATH * (BLOCKS * index + i) / (len(HEADS) * BLOCKS - 1) for i in range(BLOCKS)]
        self.blocks = nn.ModuleList(MixBlock(channels, HEADS[index], REDUCTIONS[index], rate) for rate in rates)
        self.norm = nn.LayerNorm(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, in, h, w) -> (B, C, h/s, w/s)``, s = 4 in the first stage and 2 in the others."""
        x = self.embed(x)
        size = (x.shape[2], x.shape[3])
        tokens = self.embed_norm(tokens_of(x))
        for block in self.blocks:
            tokens = block(tokens, size)
        return map_of(self.norm(tokens), size)


class MiT(nn.ModuleList):
    """The four stages, fine to coarse; takes MiT's ImageNet classifiers."""

    def __init__(self, in_channels: int, widths: Sequence[int]) -> None:
        inputs = (in_channels, *widths)
        super().__init__(EncoderStage(a, b, i) for i, (a, b) in enumerate(zip(inputs, widths, strict=False)))
        self.apply(initialise)

    def from_published(self, weights: Mapping[str, Any]) -> dict[str, Any]:
        """What this encoder takes of a checkpoint in SegFormer's layout, under its own names.

        The weights were fitted on red, green, blue, and SFEARNet's released code hands them blue, green, red. Here
        images stay red, green, blue, and the kernels of the first convolution are turned round instead: the same sums.
        """
        names = {key: published_name(key) for key in self.state_dict()}
        found = {key: weights[name] for key, name in names.items() if name in weights}
        if FIRST in found:
            found[FIRST] = found[FIRST].flip(1)
        return found


FIRST = "0.embed.weight"
_PARTS = {
    "embed": "patch_embed{0}.proj",
    "embed_norm": "patch_embed{0}.norm",
    "norm": "norm{0}",
    "norm1": "norm1",
    "norm2": "norm2",
    "attention.query": "attn.q",
    "attention.shrink": "attn.sr",
    "attention.norm": "attn.norm",
    "attention.key_value": "attn.kv",
    "attention.out": "attn.proj",
    "feed_forward.widen": "mlp.fc1",
    "feed_forward.mix": "mlp.dwconv.dwconv",
    "feed_forward.narrow": "mlp.fc2",
}


def published_name(key: str) -> str:
    """The name that SegFormer's and SFEARNet's code give to a weight of `MiT`."""
    index, *parts, kind = key.split(".")
    stage = int(index) + 1
    if parts[0] == "blocks":
        return f"block{stage}.{parts[1]}.{_PARTS['.'.join(parts[2:])]}.{kind}"
    return f"{_PARTS['.'.join(parts)].format(stage)}.{kind}"


def tokens_of(x: Tensor) -> Tensor:
    """``(B, C, h, w) -> (B, N, C)``."""
    return x.flatten(2).transpose(1, 2)


def map_of(x: Tensor, size: tuple[int, int]) -> Tensor:
    """``(B, N, C) -> (B, C, h, w)``, where size is (h, w)."""
    return x.transpose(1, 2).reshape(x.shape[0], x.shape[2], *size)


def initialise(module: nn.Module) -> None:
    """As MiT does: truncated normal for linear layers, He et al.'s for convolutions."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
