"""The loss of MCCRNet: classes weighted by their effective number of samples."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from terradelta.errors import InputError
from terradelta.lab.losses._common import at_size_of, check_choice, check_shapes, known_pixels

__all__ = ["eaw_auxiliary_loss", "eaw_loss", "eaw_weights"]

EffectiveNumber = Literal["fraction", "pixels"]
PixelLoss = Literal["ce", "focal"]


def eaw_weights(counts: Tensor, beta: float = 0.5, effective_number: EffectiveNumber = "fraction") -> Tensor:
    """Weights of the classes by their effective number of samples: ``(1 - β) / (1 - β^n)``, Eq. (17) of MCCRNet.

    At β = 0 all weights are 1; as β approaches 1 they approach 1 / n.

    Paper: n is the number of pixels, and β is 0.5. Then β^n is 0 and every weight 0.5: no reweighting at all. With n
    as the class's fraction of the pixels the limits the paper states hold too, and β = 0.5 does reweight (5 % changed:
    14 to 1), so this is the default; ``"pixels"`` gives the printed formula.

    Args:
        counts: ``(K,)`` pixels of each class.
        beta: from 0 to below 1.
        effective_number: what n is.

    Returns:
        ``(K,)`` float32; 0 for a class without pixels.

    Raises:
        InputError: if ``beta`` or ``effective_number`` is not allowed.
    """
    if not 0 <= beta < 1:
        raise InputError(f"beta is {beta}; it must be from 0 to below 1 (0.999 comes near inverse class frequency)")
    check_choice("effective_number", effective_number, get_args(EffectiveNumber))
    n = counts.float()
    if effective_number == "fraction":
        n = n / n.sum().clamp(min=1)
    log_beta = math.log(beta) if beta > 0 else -math.inf
    effective = -torch.expm1(n.clamp(min=1e-20) * log_beta) / (1 - beta)  # exact where β^n is near 1, or is 0
    return torch.where(n > 0, 1 / effective, torch.zeros_like(n))


def eaw_loss(
    logits: Tensor,
    target: Tensor,
    *,
    beta: float = 0.5,
    kind: PixelLoss = "ce",
    effective_number: EffectiveNumber = "fraction",
) -> Tensor:
    """Effective-sample-number adaptively weighted loss of MCCRNet, Eq. (17): mean over pixels of weight times loss.

    Args:
        logits: ``(B, 1, H, W)``, changed minus unchanged for a head of two classes.
        target: ``(B, 1, H, W)``.
        beta: see `eaw_weights`; classes are counted over the whole batch.
        kind: loss of a pixel: cross-entropy (natural logarithm), or focal loss with γ = 2 and no α (Lin et al. 2017;
            the paper prints neither).
        effective_number: see `eaw_weights`.

    Raises:
        ShapeError: if the shapes differ.
        InputError: if an option is not allowed.
    """
    check_shapes(logits, target)
    check_choice("kind", kind, get_args(PixelLoss))
    target = target.float()
    changed = (target > 0.5).sum()
    counts = torch.stack([target.numel() - changed, changed])
    unchanged_weight, changed_weight = eaw_weights(counts, beta, effective_number)
    loss = F.binary_cross_entropy_with_logits(logits.float(), target, reduction="none")
    if kind == "focal":
        loss = loss * torch.expm1(-loss) ** 2  # (1 - p)^γ; p = exp(-loss) is the probability of the true class
    return (loss * torch.lerp(unchanged_weight, changed_weight, target)).mean()


def eaw_auxiliary_loss(
    outputs: Sequence[Tensor],
    target: Tensor,
    *,
    auxiliary_weight: float = 0.4,
    beta: float = 0.5,
    kind: PixelLoss = "ce",
    effective_number: EffectiveNumber = "fraction",
    mask: Tensor | None = None,
) -> Tensor:
    """``EAW(final) + λ EAW(auxiliary)``, Eq. (18) of MCCRNet; several auxiliary outputs all count λ.

    Args:
        outputs: final logits first, then auxiliary ones, as `forward_with_aux` returns them; resized to the target.
        target: ``(B, 1, H, W)``.
        auxiliary_weight: λ.
        beta: see `eaw_weights`; 0 is the plain loss.
        kind: see `eaw_loss`.
        effective_number: see `eaw_weights`.
        mask: ``(B, 1, H, W)``, where the label is known; None: everywhere.

    Raises:
        ShapeError: if shapes differ.
        InputError: if an option is not allowed.
    """
    one = partial(eaw_loss, beta=beta, kind=kind, effective_number=effective_number)
    final, *auxiliary = (one(*known_pixels(at_size_of(target, logits), target, mask)) for logits in outputs)
    return sum((auxiliary_weight * loss for loss in auxiliary), final)
