"""The loss of SFEARNet: the change, and the edges of the change."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from terradelta.errors import ShapeError
from terradelta.lab.losses._common import at_size_of, check_shapes, known_pixels
from terradelta.lab.losses.dice import dice_loss

__all__ = ["edges_of", "iou_loss", "sfear_loss"]

SMOOTH = 1e-7


def iou_loss(logits: Tensor, target: Tensor) -> Tensor:
    """``1 - Σ p t / (Σ p + Σ t - Σ p t)`` of the changed class over the whole batch, in [0, 1].

    Raises:
        ShapeError: if the shapes differ.
    """
    check_shapes(logits, target)
    probability, target = torch.sigmoid(logits.float()), target.float()
    overlap = (probability * target).sum()
    return 1 - overlap / (probability.sum() + target.sum() - overlap + SMOOTH)


def edges_of(target: Tensor) -> Tensor:
    """Pixels where Sobel's operator answers to the label, 1, others 0; the image is mirrored at its border.

    ``(B, 1, H, W) -> (B, 1, H, W)``. It marks both sides of each edge: a band of two pixels. The released code writes
    the operator's length into one byte and calls more than 20 an edge; of all lengths that a label of 0 and 255 can
    give none ends up between 1 and 20, so the same pixels are edges.
    """
    smooth = torch.tensor([1.0, 2.0, 1.0], device=target.device)
    slope = torch.tensor([-1.0, 0.0, 1.0], device=target.device)
    kernels = torch.stack([torch.outer(smooth, slope), torch.outer(slope, smooth)])[:, None]
    answer = F.conv2d(F.pad((target > 0.5).float(), (1, 1, 1, 1), mode="reflect"), kernels)
    return (answer != 0).any(1, keepdim=True).float()


def sfear_loss(
    outputs: Sequence[Tensor], target: Tensor, *, edge_weight: float = 1.0, mask: Tensor | None = None
) -> Tensor:
    """``IoU(change) + cross-entropy(change) + λ Dice(edges)`` (Li et al. 2025, the released code).

    Args:
        outputs: logits of the change and of its edges, as SFEARNet's `forward_with_aux` returns them; resized to the
            target.
        target: ``(B, 1, H, W)``; that of the edges is made from it.
        edge_weight: λ.
        mask: ``(B, 1, H, W)``, where the label is known; None: everywhere. Whether a pixel is an edge is known where
            its eight neighbours are, too.

    Raises:
        ShapeError: if there are not two outputs, or shapes differ.
    """
    if len(outputs) != 2:
        raise ShapeError(f"sfear_loss takes two outputs (change, edges), not {len(outputs)}; it is SFEARNet's loss")
    change, edges = (at_size_of(target, logits) for logits in outputs)
    change, changed = known_pixels(change, target, mask)
    edge_known = None if mask is None else F.max_pool2d((mask <= 0).float(), 3, stride=1, padding=1) == 0
    edges, are_edges = known_pixels(edges, edges_of(target), edge_known)
    cross_entropy = F.binary_cross_entropy_with_logits(change.float(), changed.float())
    return iou_loss(change, changed) + cross_entropy + edge_weight * dice_loss(edges, are_edges, SMOOTH)
