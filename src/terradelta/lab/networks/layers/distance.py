"""Metric learning under the one contract: distances of features, as logits.

A method of metric learning calls a pixel changed where the distance d of the dates' features is above a threshold. Here
its network returns ``SCALE (d - THRESHOLD)``: zero at the threshold, and at the scale that lets the sigmoid use most of
its range over the distances from 0 to 2 that both methods train for (0.02 at 0, 0.98 at 2). The losses in
``terradelta.lab.losses.contrastive`` invert this line exactly, so what they minimise is the method's own function of d.
As for every network, the threshold that counts is the one that training tunes on validation data.

The published codes compute d with ``pairwise_distance`` on ``(B, C, H, W)``. Torch once reduced the channels there; it
reduces the last axis, the width, today, without a word. Here the axis is named.
"""

from torch import Tensor
from torch.nn import functional as F

__all__ = ["SCALE", "THRESHOLD", "channel_distance", "distance_logits", "logit_of_distance", "upsampled_to"]

SCALE = 4.0
THRESHOLD = 1.0
EPSILON = 1e-6
"""Added to each signed difference, as ``pairwise_distance`` does: at 0 the root has no slope. So swapping the dates
moves the distance, by up to ``2e-6 sqrt(C)`` for C channels."""


def channel_distance(f1: Tensor, f2: Tensor) -> Tensor:
    """Euclidean distance over the channels, at least float32: ``(B, C, h, w) x 2 -> (B, 1, h, w)``."""
    difference = f1 - f2
    wide = difference if difference.element_size() >= 4 else difference.float()
    return (wide + EPSILON).square().sum(1, keepdim=True).sqrt()


def logit_of_distance(distance: Tensor) -> Tensor:
    """The line through ``THRESHOLD``; the shape is kept."""
    return SCALE * (distance - THRESHOLD)


def distance_logits(f1: Tensor, f2: Tensor) -> Tensor:
    """Logits of the distance of both dates' features: ``(B, C, h, w) x 2 -> (B, 1, h, w)``."""
    return logit_of_distance(channel_distance(f1, f2))


def upsampled_to(image: Tensor, logits: Tensor) -> Tensor:
    """Logits at the size of an image ``(B, C, H, W)``, with aligned corners, as the published codes do it."""
    return F.interpolate(logits, size=image.shape[2:], mode="bilinear", align_corners=True)
