"""Losses. Logits and targets are ``(B, 1, H, W)``; targets are 0 or 1, positive = changed.

All losses of `LOSSES` take ``mask=``: where the label is known. What stands in other pixels does not count.
"""

from collections.abc import Callable
from functools import partial

from torch import Tensor

from terradelta.lab.losses.contrastive import bcl_loss, distance_of_logit, double_margin_loss, wdmc_loss
from terradelta.lab.losses.dice import IFN_WEIGHTS, MLA_WEIGHTS, bce_dice_loss, dice_loss, multi_level_loss
from terradelta.lab.losses.eaw import eaw_auxiliary_loss, eaw_loss, eaw_weights
from terradelta.lab.losses.edges import edges_of, iou_loss, sfear_loss
from terradelta.lab.losses.methods import MSOF_WEIGHTS, ce_dice_loss, cross_entropy_loss, fc_loss, msof_loss

__all__ = [
    "IFN_WEIGHTS",
    "LOSSES",
    "MLA_WEIGHTS",
    "MSOF_WEIGHTS",
    "bce_dice_loss",
    "bcl_loss",
    "ce_dice_loss",
    "cross_entropy_loss",
    "dice_loss",
    "distance_of_logit",
    "double_margin_loss",
    "eaw_auxiliary_loss",
    "eaw_loss",
    "eaw_weights",
    "edges_of",
    "fc_loss",
    "iou_loss",
    "msof_loss",
    "multi_level_loss",
    "sfear_loss",
    "wdmc_loss",
]

LOSSES: dict[str, Callable[..., Tensor]] = {
    "multi_level": multi_level_loss,
    "eaw_ce": partial(eaw_auxiliary_loss, kind="ce"),
    "eaw_focal": partial(eaw_auxiliary_loss, kind="focal"),
    "ce": partial(eaw_auxiliary_loss, kind="ce", beta=0.0),
    "bcl": bcl_loss,
    "ifn": partial(multi_level_loss, weights=IFN_WEIGHTS),
    "wdmc": wdmc_loss,
    "wdmc_released": partial(wdmc_loss, weighted=False),
    "sfear": sfear_loss,
    "cross_entropy": cross_entropy_loss,
    "fc": fc_loss,
    "ce_dice": ce_dice_loss,
    "msof": msof_loss,
}
"""What a recipe can choose: name -> loss of (outputs, target, mask=None)."""
