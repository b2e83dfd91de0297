"""Attention of tokens, and the channel and spatial attention of CBAM (Woo, Park, Lee, Kweon, CBAM, ECCV 2018)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["ChannelAttention", "SpatialAttention", "attend_tokens"]


class ChannelAttention(nn.Module):
    """Mean and maximum over the image, one MLP for both, sigmoid.

    Args:
        channels: C.
        ratio: the MLP's hidden layer has C / ratio channels.
    """

    def __init__(self, channels: int, ratio: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // ratio, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // ratio, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, h, w) -> (B, C, 1, 1)`` weights in (0, 1)."""
        mean, peak = x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
        return torch.sigmoid(self.fc2(F.relu(self.fc1(mean))) + self.fc2(F.relu(self.fc1(peak))))


class SpatialAttention(nn.Module):
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
