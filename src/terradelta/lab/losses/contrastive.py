"""Losses of metric learning: on distances of the dates' features, which a network's logits hold.

The logit of such a network is ``SCALE (d - THRESHOLD)`` with the distance d (see
``terradelta.lab.networks.layers.distance``, which has the same two numbers); a test keeps both sides inverse to each
other.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from terradelta.lab.losses._common import at_size_of, check_shapes, known_pixels

__all__ = ["bcl_loss", "distance_of_logit", "double_margin_loss", "wdmc_loss"]

SCALE = 4.0
THRESHOLD = 1.0
BCL_MARGIN = 2.0
WDMC_MARGINS = (0.3, 2.2)
_WHOLLY = 0.9999
"""A resized mask from which a pixel is known: 1 but for rounding."""


def distance_of_logit(logits: Tensor) -> Tensor:
    """The distance that a logit of a metric-learning network stands for, float32 or wider; the shape is kept."""
    wide = logits if logits.element_size() >= 4 else logits.float()
    return wide / SCALE + THRESHOLD


def bcl_loss(
    outputs: Sequence[Tensor], target: Tensor, *, margin: float = BCL_MARGIN, mask: Tensor | None = None
) -> Tensor:
    """Batch-balanced contrastive loss of STANet (Chen & Shi 2020, the released code).

    The mean of d² over the unchanged pixels of the batch, plus the mean of max(margin - d, 0)² over the changed ones.
    The paper's factor of 1/2 is not in the released code, and not here: it only scales the gradient. A class without
    pixels adds nothing.

    Args:
        outputs: logits ``4 (d - 1)`` as `forward_with_aux` returns them; the first counts. Resized to the target.
        target: ``(B, 1, H, W)``.
        margin: distance from which a changed pixel costs nothing.
        mask: ``(B, 1, H, W)``, where the label is known; None: everywhere.

    Raises:
        ShapeError: if shapes differ.
    """
    logits, target = known_pixels(at_size_of(target, outputs[0]), target, mask)
    distance, changed = distance_of_logit(logits), target.to(logits.device).float()
    unchanged_part = ((1 - changed) * distance.square()).sum() / ((1 - changed).sum() + 1e-4)
    changed_part = (changed * (margin - distance).clamp(min=0).square()).sum() / (changed.sum() + 1e-4)
    return unchanged_part + changed_part


def double_margin_loss(
    logits: Tensor, target: Tensor, *, margins: tuple[float, float] = WDMC_MARGINS, weighted: bool = True
) -> Tensor:
    """Contrastive loss with two margins m1 < m2, of one map (DASNet, Chen et al. 2021).

    The mean over pixels of ``w1 (1 - y) max(d - m1, 0)² + w2 y max(m2 - d, 0)²``.

    Args:
        logits: ``(B, 1, h, w)``, ``4 (d - 1)``.
        target: ``(B, 1, h, w)``, from 0 to 1.
        margins: m1 and m2. The paper's m2 is above 2, the largest distance there is, so changed pixels never cost 0.
        weighted: w1 and w2 are the inverse frequencies of the classes in the batch, as in the paper; both 1 otherwise.

    Raises:
        ShapeError: if the shapes differ.
    """
    check_shapes(logits, target)
    distance, changed = distance_of_logit(logits), target.float()
    near, far = margins
    unchanged_cost = (1 - changed) * (distance - near).clamp(min=0).square()
    changed_cost = changed * (far - distance).clamp(min=0).square()
    if not weighted:
        return (unchanged_cost + changed_cost).mean()
    share = changed.mean()
    tiny = 1 / changed.numel()  # a class without pixels has no cost to divide
    return unchanged_cost.mean() / (1 - share).clamp(min=tiny) + changed_cost.mean() / share.clamp(min=tiny)


def wdmc_loss(
    outputs: Sequence[Tensor], target: Tensor, *, weighted: bool = True, mask: Tensor | None = None
) -> Tensor:
    """WDMC loss of DASNet: the sum of `double_margin_loss` over its three embeddings, at their own size.

    Paper: the classes are weighted by their inverse frequency; the released loss has no weights. We take the paper's.
    The label is resized bilinearly with aligned corners, as released, so it is soft at borders.

    Args:
        outputs: as `forward_with_aux` returns them: the final map, which is the first embedding's upsampled and does
            not count, then one map for each embedding. A network with a single map is trained on that.
        target: ``(B, 1, H, W)``.
        weighted: see `double_margin_loss`.
        mask: ``(B, 1, H, W)``, where the label is known; None: everywhere. A pixel of an embedding counts where all
            of the label that it is made of is known.

    Raises:
        ShapeError: if shapes differ.
    """
    maps = outputs[1:] or outputs
    losses = []
    for logits in maps:
        known = None if mask is None else _label_at_size_of(logits, (mask > 0).float()) > _WHOLLY
        pixels = known_pixels(logits, _label_at_size_of(logits, target), known)
        losses.append(double_margin_loss(*pixels, weighted=weighted))
    return torch.stack(losses).sum()


def _label_at_size_of(logits: Tensor, target: Tensor) -> Tensor:
    if target.shape[2:] == logits.shape[2:]:
        return target
    return F.interpolate(target.float(), size=logits.shape[2:], mode="bilinear", align_corners=True)
