"""Losses of the compared methods, as their papers or released codes have them; each docstring names which.

A head of two classes gives one logit here, the difference of its two, so the cross-entropy of its softmax is the
binary cross-entropy of that logit.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from terradelta.errors import InputError, ShapeError
from terradelta.lab.losses._common import at_size_of, check_shapes, known_pixels

__all__ = ["MSOF_WEIGHTS", "ce_dice_loss", "cross_entropy_loss", "fc_loss", "msof_loss"]

MSOF_WEIGHTS = (1.0, 0.5, 0.75, 0.5, 0.5)
"""Of the fused output and of X(0,4) to X(0,1), as in UNet++_MSOF's code."""


def cross_entropy_loss(outputs: Sequence[Tensor], target: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Cross-entropy of the final map, mean over pixels (BIT); auxiliary outputs do not count.

    Args:
        outputs: the final map first.
        target: ``(B, 1, H, W)``.
        mask: ``(B, 1, H, W)``, where the label is known; None: everywhere.

    Raises:
        ShapeError: if the shapes differ.
    """
    logits, target = known_pixels(outputs[0], target, mask)
    return F.binary_cross_entropy_with_logits(logits.float(), target.float())


def fc_loss(
    outputs: Sequence[Tensor],
    target: Tensor,
    modifier: float = 10.0,
    floor: float = 0.01,
    mask: Tensor | None = None,
) -> Tensor:
    """Weighted negative log-likelihood of the FC networks' code.

    Unchanged pixels weigh ``modifier * 2 p``, changed ones ``2 (1 - p)``, with p the share that changed; the sum is
    divided by that of the weights, as torch's ``NLLLoss`` does.

    Code: p is measured once on the training data. We take that of the batch, at least ``floor``, so that the loss needs
    no number of the data set, and a batch without change still has one.

    Args:
        outputs: the final map first; the others do not count.
        target: ``(B, 1, H, W)``.
        modifier: the code's ``FP_MODIFIER``.
        floor: smallest p.
        mask: ``(B, 1, H, W)``, where the label is known; None: everywhere.

    Raises:
        ShapeError: if the shapes differ.
        InputError: if ``floor`` is not between 0 and 1.
    """
    logits, target = known_pixels(outputs[0], target, mask)
    if not 0 < floor < 1:
        raise InputError(f"floor is {floor}; it must be between 0 and 1")
    target = target.float()
    share = target.mean().clamp(floor, 1 - floor)
    weights = torch.lerp(modifier * 2 * share, 2 * (1 - share), target)
    return F.binary_cross_entropy_with_logits(logits.float(), target, weights, reduction="sum") / weights.sum()


def ce_dice_loss(
    outputs: Sequence[Tensor], target: Tensor, epsilon: float = 1e-7, mask: Tensor | None = None
) -> Tensor:
    """Cross-entropy plus soft Dice, mean of both classes over the whole batch (SNUNet's code); summed over outputs.

    ``1 - mean_k 2 Σ p_k t_k / (Σ p_k + Σ t_k + ε)``; the code's focal loss has γ = 0, which is cross-entropy.

    Code: its Dice is meant to be over the batch, as here and as its comments say, but labels come as ``(B, H, W)``, so
    that the sums run over images and rows alone: one Dice for each image column, averaged. We keep to what is meant.

    Args:
        outputs: logits of all maps; resized to the target.
        target: ``(B, 1, H, W)``.
        epsilon: keeps a class without pixels from a division by 0.
        mask: ``(B, 1, H, W)``, where the label is known; None: everywhere.

    Raises:
        ShapeError: if the shapes differ.
    """
    pixels = (known_pixels(at_size_of(target, logits), target, mask) for logits in outputs)
    return sum((_ce_dice(*each, epsilon) for each in pixels), target.new_zeros(()))


def _ce_dice(logits: Tensor, target: Tensor, epsilon: float) -> Tensor:
    check_shapes(logits, target)
    target = target.float()
    changed = torch.sigmoid(logits.float())
    classes = ((changed, target), (1 - changed, 1 - target))
    dice = [2 * (p * t).sum() / (p.sum() + t.sum() + epsilon) for p, t in classes]
    return F.binary_cross_entropy_with_logits(logits.float(), target) + 1 - (dice[0] + dice[1]) / 2


def msof_loss(
    outputs: Sequence[Tensor],
    target: Tensor,
    weights: Sequence[float] = MSOF_WEIGHTS,
    mask: Tensor | None = None,
) -> Tensor:
    """UNet++_MSOF: ``Σ_l w_l (BCE + (1 - D) / 2)``, ``D = (2 Σ p t + 1) / (Σ t + Σ p / 2 + 1)`` over the batch.

    Code: Dice counts the prediction by half, so D can pass 1. The class weights that the code names have no effect
    there (they are broadcast to a factor of 1), so there are none here.

    Args:
        outputs: the fused map, then the side outputs of X(0,4) to X(0,1).
        target: ``(B, 1, H, W)``.
        weights: one for each output.
        mask: ``(B, 1, H, W)``, where the label is known; None: everywhere.

    Raises:
        ShapeError: if there are more outputs than weights, or shapes differ.
    """
    if len(outputs) > len(weights):
        raise ShapeError(f"{len(outputs)} outputs but {len(weights)} weights; give one weight for each output")
    pairs = zip(outputs, weights, strict=False)
    weighted = ((w, known_pixels(at_size_of(target, logits), target, mask)) for logits, w in pairs)
    return sum((w * _msof(*each) for w, each in weighted), target.new_zeros(()))


def _msof(logits: Tensor, target: Tensor) -> Tensor:
    check_shapes(logits, target)
    target = target.float()
    p = torch.sigmoid(logits.float())
    dice = (2 * (p * target).sum() + 1) / (target.sum() + 0.5 * p.sum() + 1)
    return F.binary_cross_entropy_with_logits(logits.float(), target) + 0.5 * (1 - dice)
