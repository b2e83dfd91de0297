"""What several losses need: sizes, checks."""

import torch
from torch import Tensor
from torch.nn import functional as F

from terradelta.errors import InputError, ShapeError

__all__ = ["at_size_of", "check_choice", "check_shapes", "known_pixels"]


def at_size_of(target: Tensor, logits: Tensor) -> Tensor:
    """Logits at the target's height and width, bilinear."""
    if logits.shape[2:] == target.shape[2:]:
        return logits
    return F.interpolate(logits.float(), size=target.shape[2:], mode="bilinear", align_corners=False)


def known_pixels(logits: Tensor, target: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Logits and target of the pixels whose label is known, ``(1, 1, 1, n)`` each; as they are if ``mask`` is None.

    A batch without a known pixel gives one pixel whose logit is 0 and has no gradient.

    Args:
        logits: ``(B, 1, H, W)``.
        target: ``(B, 1, H, W)``.
        mask: ``(B, 1, H, W)``, True or above 0 where the label is known; None: everywhere.

    Raises:
        ShapeError: if the shapes differ.
    """
    check_shapes(logits, target)
    if mask is None:
        return logits, target
    if mask.shape != target.shape:
        raise ShapeError(f"mask {tuple(mask.shape)} and target {tuple(target.shape)} must have one shape")
    known = mask > 0
    if not known.any():
        return 0 * torch.where(known, logits, 0).sum().view(1, 1, 1, 1), target.new_zeros(1, 1, 1, 1)
    return logits[known].view(1, 1, 1, -1), target[known].view(1, 1, 1, -1)


def check_choice(name: str, given: str, allowed: tuple[str, ...]) -> None:
    """Raise InputError unless ``given`` is one of ``allowed``."""
    if given not in allowed:
        raise InputError(f"{name} is {given!r}; it must be one of {', '.join(allowed)}")


def check_shapes(logits: Tensor, target: Tensor) -> None:
    """Raise ShapeError unless both have one shape."""
    if logits.shape != target.shape:
        raise ShapeError(f"logits {tuple(logits.shape)} and target {tuple(target.shape)} must have one shape")
