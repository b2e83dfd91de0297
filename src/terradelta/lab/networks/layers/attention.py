"""Attention of tokens, and the channel and spatial attention of CBAM (Woo, Park, Lee, Kweon, CBAM, ECCV 2018).

`WeightLayer` and `AttentionLayer` are what a layer derives from whose weights can be drawn: those that it gives as its
output, and those that fused kernels never hold.
"""

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "AttentionLayer",
    "Box",
    "ChannelAttention",
    "Pool",
    "SpatialAttention",
    "WeightLayer",
    "attend_tokens",
    "attention_map",
    "mean_attention",
    "query_share",
]

Box = tuple[float, float, float, float]
"""(top, left, bottom, right) of a part of an image, each a share of its height or width."""
Pool = Literal["max", "mean"]
_CHUNK = 2**24
"""Weights that are held at once."""
_SLACK = 1e-6
"""Of a cell: shares are not exact."""


class WeightLayer(nn.Module):
    """A layer whose output are weights: ``(B, C, h, w)`` in (0, 1)."""

    weighs: tuple[str, ...] = ()
    """What each channel weighs, where the channels are few and each means something of its own."""


class AttentionLayer(nn.Module):
    """A layer in which places gather from other places."""

    by_place: bool = True
    """Whether its maps depend on where the queries are chosen."""

    def attention_maps(self, at: Box | None, *inputs: Any, **more: Any) -> dict[str, Tensor]:  # noqa: ANN401  its own
        """Where the queries in a part of the image look, as multiples of even attention.

        Args:
            at: where the queries are; None: everywhere.
            inputs: what the layer is called with, for one pair.
            more: the same by name.

        Returns:
            Maps ``(h, w)``, or ``(N,)`` with N = h w, by a name that tells them apart; empty if there is one only.
        """
        raise NotImplementedError  # pragma: no cover


class ChannelAttention(WeightLayer):
    """Mean and maximum over the image, one MLP for both, sigmoid.

    Args:
        channels: C.
        ratio: the MLP's hidden layer has C / ratio channels.
        pool: ``max``; or ``mean``: the mean stands in for the maximum too, and counts twice.
    """

    def __init__(self, channels: int, ratio: int, pool: Pool = "max") -> None:
        super().__init__()
        self.pool = pool
        self.fc1 = nn.Conv2d(channels, channels // ratio, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // ratio, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, h, w) -> (B, C, 1, 1)`` weights in (0, 1)."""
        mean = x.mean((2, 3), keepdim=True)
        peak = x.amax((2, 3), keepdim=True) if self.pool == "max" else mean
        return torch.sigmoid(self.fc2(F.relu(self.fc1(mean))) + self.fc2(F.relu(self.fc1(peak))))


class SpatialAttention(WeightLayer):
    """7x7 convolution over the mean and the maximum of the channels, sigmoid."""

    def __init__(self, *, bias: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, h, w) -> (B, 1, h, w)`` weights in (0, 1)."""
        return torch.sigmoid(self.conv(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)))


def attend_tokens(query: Tensor, key: Tensor, value: Tensor, *, scale: float | None = None) -> Tensor:
    """``softmax(scale query key^T) value`` of one head, by torch's fused kernels where they can.

    ``(B, N, D), (B, M, D), (B, M, C) -> (B, N, C)``; without ``scale`` it is ``1 / sqrt(D)``. A head's axis goes in and
    out again, because exporters know attention with four axes only.
    """
    q_B1ND, k_B1MD, v_B1MC = (x.unsqueeze(1).contiguous() for x in (query, key, value))
    return F.scaled_dot_product_attention(q_B1ND, k_B1MD, v_B1MC, scale=scale).squeeze(1)


def query_share(size: tuple[int, int], at: Box | None, like: Tensor) -> Tensor:
    """Equal shares for the cells that a part of the image touches, at least one; they add up to 1.

    Args:
        size: (h, w) of the cells that cover the image.
        at: the part; None: all of it.
        like: gives device and dtype.

    Returns:
        ``(1, 1, h, w)``.
    """
    top, left, bottom, right = (0.0, 0.0, 1.0, 1.0) if at is None else at
    share = torch.zeros(1, 1, *size, device=like.device, dtype=like.dtype)
    rows, cols = (
        slice(min(math.floor(a * n + _SLACK), n - 1), max(math.ceil(b * n - _SLACK), math.floor(a * n + _SLACK) + 1))
        for a, b, n in ((top, bottom, size[0]), (left, right, size[1]))
    )
    share[:, :, rows, cols] = 1
    return share / share.sum()


def mean_attention(query: Tensor, key: Tensor, share: Tensor, *, scale: float | None = None) -> Tensor:
    """What `attend_tokens` never holds: its weights, averaged over queries, times the number of keys.

    ``(B, N, D), (B, M, D), (B, N) -> (B, M)``; 1 is even attention. Where all shares of a row of the batch are zero,
    the result is zero.
    """
    scale = 1 / math.sqrt(query.shape[2]) if scale is None else scale
    out = torch.zeros(key.shape[:2], device=key.device, dtype=key.dtype)
    step = max(1, _CHUNK // (key.shape[0] * key.shape[1]))
    for start in range(0, query.shape[1], step):
        part = share[:, start : start + step]
        if part.any():
            weights_BNM = (scale * query[:, start : start + step] @ key.transpose(1, 2)).softmax(2)
            out += (part.unsqueeze(1) @ weights_BNM).squeeze(1)
    return out * key.shape[1] / share.sum(1, keepdim=True).clamp_min(torch.finfo(share.dtype).tiny)


def attention_map(query: Tensor, key: Tensor, at: Box | None, *, scale: float | None = None) -> Tensor:
    """`mean_attention` of the positions in a part of the image: ``(1, D, h, w), (1, D, h', w') -> (h', w')``."""
    share = query_share((query.shape[2], query.shape[3]), at, query)
    q_1ND, k_1MD = (x.flatten(2).transpose(1, 2) for x in (query, key))
    return mean_attention(q_1ND, k_1MD, share.flatten(1), scale=scale).reshape(key.shape[2:])
