"""The compared methods' losses: worked by hand on four pixels, and against torch's losses of two classes."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from terradelta.errors import InputError, ShapeError
from terradelta.lab.losses import LOSSES, MSOF_WEIGHTS, ce_dice_loss, cross_entropy_loss, fc_loss, msof_loss

HALF = torch.zeros(1, 1, 2, 2)
"""Probability 1/2 everywhere."""
ONE = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
LN2 = math.log(2)


def _random(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of two classes, their difference, and a target."""
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randn(3, 2, 5, 4, generator=generator)
    target = (torch.rand(3, 1, 5, 4, generator=generator) < 0.3).float()
    return classes, classes[:, 1:] - classes[:, :1], target


def test_cross_entropy_is_that_of_two_classes_and_ignores_auxiliary_outputs() -> None:
    classes, logits, target = _random()
    expected = F.cross_entropy(classes, target[:, 0].long())
    torch.testing.assert_close(cross_entropy_loss([logits, logits * 100], target), expected)


@pytest.mark.parametrize("modifier", [10.0, 1.0])
def test_fc_is_the_weighted_likelihood_of_the_code(modifier: float) -> None:
    classes, logits, target = _random()
    share = target.mean().item()
    weights = torch.tensor([modifier * 2 * share, 2 * (1 - share)])
    expected = F.nll_loss(F.log_softmax(classes, 1), target[:, 0].long(), weights)
    torch.testing.assert_close(fc_loss([logits], target, modifier=modifier), expected)


def test_fc_counts_at_least_the_floor() -> None:
    """No change in the batch: all weights are equal, so the loss is the plain mean, and not 0 / 0."""
    assert fc_loss([HALF], torch.zeros_like(HALF)).item() == pytest.approx(LN2)
    with pytest.raises(InputError, match="floor is 0; it must be between 0 and 1"):
        fc_loss([HALF], ONE, floor=0)


def test_ce_dice_by_hand() -> None:
    """p = 1/2, one changed pixel of four: Dice 2 (1/2) / (2 + 1) = 1/3 and 2 (3/2) / (2 + 3) = 3/5, mean 7/15."""
    assert ce_dice_loss([HALF], ONE).item() == pytest.approx(LN2 + 1 - 7 / 15)
    assert ce_dice_loss([HALF, HALF[..., :1, :1]], ONE).item() == pytest.approx(2 * (LN2 + 1 - 7 / 15))


def test_msof_by_hand() -> None:
    """p = 1/2: D = (2 (1/2) + 1) / (1 + 1 + 1) = 2/3."""
    one = LN2 + 0.5 * (1 - 2 / 3)
    assert msof_loss([HALF], ONE).item() == pytest.approx(one)
    assert msof_loss([HALF] * 5, ONE).item() == pytest.approx(sum(MSOF_WEIGHTS) * one)
    assert msof_loss([HALF, HALF], ONE, weights=(1.0, 3.0)).item() == pytest.approx(4 * one)
    with pytest.raises(ShapeError, match="6 outputs but 5 weights; give one weight for each output"):
        msof_loss([HALF] * 6, ONE)


@pytest.mark.parametrize("name", ["cross_entropy", "fc", "ce_dice", "msof"])
def test_the_right_answer_costs_least_and_gradients_point_to_it(name: str) -> None:
    _, _, target = _random()
    right = 20 * (2 * target - 1)
    assert LOSSES[name]([right], target) < 1e-3
    logits = torch.zeros_like(target, requires_grad=True)
    LOSSES[name]([logits], target).backward()
    assert ((logits.grad < 0) == (target > 0.5)).all()


@pytest.mark.parametrize("name", ["cross_entropy", "fc"])
def test_shapes_must_fit(name: str) -> None:
    with pytest.raises(ShapeError):
        LOSSES[name]([HALF[..., :1]], ONE)
