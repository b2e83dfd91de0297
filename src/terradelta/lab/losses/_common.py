"""What several losses need: sizes, checks."""

from torch import Tensor
from torch.nn import functional as F

from terradelta.errors import InputError, ShapeError

__all__ = ["at_size_of", "check_choice", "check_shapes"]


def at_size_of(target: Tensor, logits: Tensor) -> Tensor:
    """Logits at the target's height and width, bilinear."""
    if logits.shape[2:] == target.shape[2:]:
        return logits
    return F.interpolate(logits.float(), size=target.shape[2:], mode="bilinear", align_corners=False)


def check_choice(name: str, given: str, allowed: tuple[str, ...]) -> None:
    """Raise InputError unless ``given`` is one of ``allowed``."""
    if given not in allowed:
        raise InputError(f"{name} is {given!r}; it must be one of {', '.join(allowed)}")


def check_shapes(logits: Tensor, target: Tensor) -> None:
    """Raise ShapeError unless both have one shape."""
    if logits.shape != target.shape:
        raise ShapeError(f"logits {tuple(logits.shape)} and target {tuple(target.shape)} must have one shape")
