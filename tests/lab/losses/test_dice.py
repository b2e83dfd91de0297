"""Two by two pixels, worked out by hand."""

import math

import pytest
import torch
from torch import Tensor

from terradelta.errors import ShapeError
from terradelta.lab.losses import LOSSES, MLA_WEIGHTS, bce_dice_loss, dice_loss, multi_level_loss
from terradelta.lab.networks import model_info

L3 = math.log(3)  # the logit of 3/4


def _map(*rows: tuple[float, float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)[None, None]


P = _map((L3, -L3), (0, 0))  # probabilities 3/4 1/4, 1/2 1/2
T = _map((1, 0), (0, 1))
# overlap = 3/4 + 1/2 = 5/4; sum of p = 2; sum of t = 2
BCE = -(math.log(3 / 4) + math.log(3 / 4) + math.log(1 / 2) + math.log(1 / 2)) / 4


@pytest.mark.parametrize(("smooth", "expected"), [(0.0, 1 - 2.5 / 4), (1.0, 1 - 3.5 / 5), (3.0, 1 - 5.5 / 7)])
def test_dice_by_hand(smooth: float, expected: float) -> None:
    assert dice_loss(P, T, smooth).item() == pytest.approx(expected)


def test_dice_extremes() -> None:
    sure = 1000 * (2 * T - 1)
    assert dice_loss(sure, T).item() == 0
    assert dice_loss(-sure, T, smooth=0.0).item() == 1
    nothing = torch.zeros_like(T)
    assert dice_loss(torch.full_like(T, -1000), nothing).item() == 0  # no change, none found
    assert dice_loss(torch.zeros_like(T), nothing).item() == pytest.approx(1 - 1 / 3)  # sum of p = 2


def test_dice_is_of_the_batch_not_of_its_images() -> None:
    logits = torch.cat([P, torch.zeros_like(P)])  # second image: all 1/2, no change
    target = torch.cat([T, torch.zeros_like(T)])
    assert dice_loss(logits, target).item() == pytest.approx(1 - 3.5 / (2 + 2 + 2 + 1))


def test_bce_plus_dice_by_hand() -> None:
    assert bce_dice_loss(P, T).item() == pytest.approx(BCE + 0.3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_and_huge_ones_stay_finite(dtype: torch.dtype) -> None:
    logits = torch.full((1, 1, 2, 2), 60_000.0, dtype=dtype, requires_grad=True)
    loss = bce_dice_loss(logits, T.to(dtype))
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


def test_mla_is_the_weighted_sum_over_levels() -> None:
    one = BCE + 0.3
    flat = _map((0, 0), (0, 0))  # a 1 x 1 level with logit 0, upsampled; overlap 1, p 2, t 2
    coarse = math.log(2) + 1 - 3 / 5
    assert multi_level_loss([P, flat[..., :1, :1]], T, (1.0, 0.5)).item() == pytest.approx(one + 0.5 * coarse)
    assert multi_level_loss([P, P, P], T, (1.0, 0.5, 0.25, 9.0)).item() == pytest.approx(1.75 * one)
    assert multi_level_loss([P], T).item() == pytest.approx(one)  # the final level weighs 1


def test_mla_upsamples_the_logits_bilinearly() -> None:
    coarse = _map((0, 4), (0, 4))
    target = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    upsampled = torch.tensor([0.0, 1, 3, 4], dtype=torch.float64).expand(1, 1, 4, 4)
    assert multi_level_loss([coarse], target).item() == pytest.approx(bce_dice_loss(upsampled, target).item())


def test_weights_fall_from_the_final_level_on() -> None:
    assert MLA_WEIGHTS[0] == 1
    assert list(MLA_WEIGHTS) == sorted(MLA_WEIGHTS, reverse=True)


def test_descending_the_gradient_solves_the_pixels() -> None:
    logits = torch.zeros(1, 1, 2, 2, requires_grad=True)
    optimizer = torch.optim.SGD([logits], lr=5.0)
    for _ in range(50):
        optimizer.zero_grad()
        bce_dice_loss(logits, T).backward()
        optimizer.step()
    assert torch.equal(logits.detach() > 0, T > 0.5)


def test_errors() -> None:
    with pytest.raises(ShapeError, match=r"logits \(1, 1, 2, 2\) and target \(1, 2, 2\) must have one shape"):
        dice_loss(P, T[0])
    with pytest.raises(ShapeError, match="must have one shape"):
        bce_dice_loss(P, T[..., :1])
    with pytest.raises(ShapeError, match="2 outputs but 1 weights; give one weight for each output"):
        multi_level_loss([P, P], T, (1.0,))


def test_ifn_weighs_its_five_scales_alike() -> None:
    levels = [P, 2 * P, -P, P + 1, P[..., :1, :1]]
    expected = sum(multi_level_loss([level], T).item() for level in levels)
    assert LOSSES["ifn"](levels, T).item() == pytest.approx(expected)
    assert model_info("ifn").loss == "ifn"
