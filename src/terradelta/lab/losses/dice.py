"""Binary cross-entropy, Dice, and their sum on several levels."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from terradelta.errors import ShapeError
from terradelta.lab.losses._common import at_size_of, check_shapes, known_pixels

__all__ = ["IFN_WEIGHTS", "MLA_WEIGHTS", "bce_dice_loss", "dice_loss", "multi_level_loss"]

MLA_WEIGHTS = (1.0, 0.5, 0.3, 0.2, 0.1)
"""Weights of the decoder levels, final map first (the abstract of MLLA_SiaNet prints none)."""
IFN_WEIGHTS = (1.0,) * 5
"""IFN (Zhang et al. 2020) weighs its five scales alike."""


def dice_loss(logits: Tensor, target: Tensor, smooth: float = 1.0) -> Tensor:
    """Soft Dice loss of the changed class over the whole batch, in [0, 1].

    ``1 - (2 Σ p t + s) / (Σ p + Σ t + s)``; taken over the batch and not per image, because most images hold no change.

    Raises:
        ShapeError: if the shapes differ.
    """
    check_shapes(logits, target)
    probability = torch.sigmoid(logits.float())
    target = target.float()
    overlap = (probability * target).sum()
    return 1 - (2 * overlap + smooth) / (probability.sum() + target.sum() + smooth)


def bce_dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy (mean over pixels, natural logarithm) plus `dice_loss`.

    Raises:
        ShapeError: if the shapes differ.
    """
    check_shapes(logits, target)
    bce = F.binary_cross_entropy_with_logits(logits.float(), target.float())
    return bce + dice_loss(logits, target)


def multi_level_loss(
    outputs: Sequence[Tensor],
    target: Tensor,
    weights: Sequence[float] = MLA_WEIGHTS,
    mask: Tensor | None = None,
) -> Tensor:
    """MLA loss: ``Σ_l w_l (BCE + Dice)(logits_l, target)``, logits upsampled to the target's size.

    Args:
        outputs: logits of the decoder levels, final map first, as `forward_with_aux` returns them.
        target: ``(B, 1, H, W)``.
        weights: one for each level; more than there are outputs are ignored.
        mask: ``(B, 1, H, W)``, where the label is known; None: everywhere.

    Raises:
        ShapeError: if there are more outputs than weights, or shapes differ.
    """
    if len(outputs) > len(weights):
        raise ShapeError(f"{len(outputs)} outputs but {len(weights)} weights; give one weight for each output")
    total = torch.zeros((), device=target.device)
    for logits, weight in zip(outputs, weights, strict=False):
        total = total + weight * bce_dice_loss(*known_pixels(at_size_of(target, logits), target, mask))
    return total
