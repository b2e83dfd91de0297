"""EAW loss of MCCRNet: worked out by hand, its limits, and its place in recipes."""

import json
import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from terradelta.errors import InputError, ShapeError
from terradelta.lab.losses import LOSSES, eaw_auxiliary_loss, eaw_loss, eaw_weights, multi_level_loss
from terradelta.lab.training.config import Recipe

# One changed pixel of four. Probabilities of "changed": 1/5, 1/2, 1/2, 3/4.
LOGITS = torch.tensor([[[[math.log(1 / 4), 0.0], [0.0, math.log(3)]]]])
TARGET = torch.tensor([[[[0.0, 1.0], [0.0, 0.0]]]])
CE_CHANGED = math.log(2)
CE_UNCHANGED = math.log(5 / 4) + math.log(2) + math.log(4)


def test_by_hand_with_fractions() -> None:
    w1 = 0.5 / (1 - 0.5**0.25)  # n1 = 1/4
    w0 = 0.5 / (1 - 0.5**0.75)  # n0 = 3/4
    expected = (w1 * CE_CHANGED + w0 * CE_UNCHANGED) / 4
    assert eaw_loss(LOGITS, TARGET).item() == pytest.approx(expected, rel=1e-6)


def test_by_hand_with_pixels() -> None:
    w1 = 0.5 / (1 - 0.5)  # n1 = 1
    w0 = 0.5 / (1 - 0.125)  # n0 = 3
    expected = (w1 * CE_CHANGED + w0 * CE_UNCHANGED) / 4
    assert eaw_loss(LOGITS, TARGET, effective_number="pixels").item() == pytest.approx(expected, rel=1e-6)


def test_by_hand_focal() -> None:
    """γ = 2: (1 - p)^2 with p the true class's probability: 1/2 for the changed pixel, 4/5, 1/2, 1/4 for the others."""
    changed = math.log(2) / 4
    unchanged = math.log(5 / 4) / 25 + math.log(2) / 4 + math.log(4) * 9 / 16
    assert eaw_loss(LOGITS, TARGET, beta=0, kind="focal").item() == pytest.approx((changed + unchanged) / 4, rel=1e-6)


def test_it_is_the_weighted_cross_entropy_of_two_classes() -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(2, 2, 5, 7, generator=generator)
    target = (torch.rand(2, 1, 5, 7, generator=generator) < 0.2).float()
    weights = eaw_weights(torch.bincount(target.flatten().long(), minlength=2), 0.5)
    expected = F.cross_entropy(z, target[:, 0].long(), weights, reduction="none").mean()
    torch.testing.assert_close(eaw_loss(z[:, 1:] - z[:, :1], target), expected)


@pytest.mark.parametrize("effective_number", ["fraction", "pixels"])
def test_beta_0_does_not_reweight(effective_number: str) -> None:
    counts = torch.tensor([10**12, 7, 1])
    assert eaw_weights(counts, 0, effective_number).tolist() == [1, 1, 1]
    plain = F.binary_cross_entropy_with_logits(LOGITS, TARGET)
    torch.testing.assert_close(eaw_loss(LOGITS, TARGET, beta=0, effective_number=effective_number), plain)


@pytest.mark.parametrize(("effective_number", "n"), [("fraction", (0.9, 0.1)), ("pixels", (900.0, 100.0))])
def test_beta_towards_1_is_the_inverse_class_frequency(effective_number: str, n: tuple[float, float]) -> None:
    weights = eaw_weights(torch.tensor([900, 100]), 1 - 1e-9, effective_number)
    assert weights.tolist() == pytest.approx([1 / n[0], 1 / n[1]], rel=1e-5)


def test_one_half_reweights_fractions_and_not_pixels() -> None:
    counts = torch.tensor([95_000, 5_000])
    unchanged, changed = eaw_weights(counts).tolist()
    assert changed / unchanged == pytest.approx(14.2, abs=0.1)
    assert eaw_weights(counts, 0.5, "pixels").tolist() == [0.5, 0.5]


@given(
    counts=st.lists(st.integers(1, 10**12), min_size=1, max_size=6),
    beta=st.floats(0.0, 1 - 1e-9),
    effective_number=st.sampled_from(["fraction", "pixels"]),
)
def test_weights_of_any_counts(counts: list[int], beta: float, effective_number: str) -> None:
    """Finite, between the limits, never rising with the count; a rare class may come out as high as 1 / n."""
    weights = eaw_weights(torch.tensor(counts), beta, effective_number).double()
    n = [c / sum(counts) if effective_number == "fraction" else float(c) for c in counts]
    assert weights.isfinite().all()
    for weight, number in zip(weights.tolist(), n, strict=True):
        low, high = sorted([1.0, 1 / number])
        assert low * (1 - 1e-5) <= weight <= high * (1 + 1e-5)
    rising = [w for _, w in sorted(zip(counts, weights.tolist(), strict=True))]
    assert all(earlier >= later * (1 - 1e-5) for earlier, later in pairwise(rising))


@given(counts=st.lists(st.integers(1, 60), min_size=2, max_size=4), digits=st.integers(1, 99))
def test_weights_in_exact_arithmetic(counts: list[int], digits: int) -> None:
    beta = Fraction(digits, 100)
    expected = [float((1 - beta) / (1 - beta**n)) for n in counts]
    assert eaw_weights(torch.tensor(counts), float(beta), "pixels").tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("effective_number", ["fraction", "pixels"])
@pytest.mark.parametrize("beta", [0.0, 0.5, 0.999999])
def test_a_class_that_is_absent_has_no_weight_and_breaks_nothing(beta: float, effective_number: str) -> None:
    assert eaw_weights(torch.tensor([50, 0]), beta, effective_number)[1] == 0
    assert eaw_weights(torch.tensor([0, 0]), beta, effective_number).tolist() == [0, 0]
    logits = LOGITS.clone().requires_grad_()
    loss = eaw_loss(logits, torch.zeros_like(TARGET), beta=beta, effective_number=effective_number)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("kind", ["ce", "focal"])
def test_certain_and_wrong_is_finite(kind: str) -> None:
    logits = torch.tensor([[[[-1e4, 1e4], [1e4, -1e4]]]], requires_grad=True)
    loss = eaw_loss(logits, torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]]), kind=kind)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("kind", ["ce", "focal"])
def test_gradient(kind: str) -> None:
    logits = LOGITS.double().requires_grad_()

    def loss(z: Tensor) -> Tensor:
        return eaw_loss(z, TARGET, kind=kind)

    loss(logits).backward()
    assert logits.grad is not None
    step = torch.zeros_like(LOGITS)
    for i in range(4):
        step.zero_().view(-1)[i] = 1e-2
        slope = (loss(LOGITS + step) - loss(LOGITS - step)) / 2e-2
        assert slope.item() == pytest.approx(logits.grad.flatten()[i].item(), rel=2e-3)


def test_auxiliary_outputs_count_four_tenths() -> None:
    other = LOGITS.flip(3)
    final, coarse = eaw_loss(LOGITS, TARGET), eaw_loss(other, TARGET)
    torch.testing.assert_close(eaw_auxiliary_loss([LOGITS, other], TARGET), final + 0.4 * coarse)
    torch.testing.assert_close(eaw_auxiliary_loss([LOGITS, other], TARGET, auxiliary_weight=1), final + coarse)
    torch.testing.assert_close(eaw_auxiliary_loss([LOGITS], TARGET), final)


def test_auxiliary_outputs_are_resized() -> None:
    small = torch.full((1, 1, 1, 1), 0.7)
    expected = eaw_loss(LOGITS, TARGET) + 0.4 * eaw_loss(torch.full_like(LOGITS, 0.7), TARGET)
    torch.testing.assert_close(eaw_auxiliary_loss([LOGITS, small], TARGET), expected)


def test_what_recipes_can_choose() -> None:
    outputs = [LOGITS, LOGITS.flip(2)]
    assert LOSSES["multi_level"] is multi_level_loss
    torch.testing.assert_close(LOSSES["eaw_ce"](outputs, TARGET), eaw_auxiliary_loss(outputs, TARGET, kind="ce"))
    torch.testing.assert_close(LOSSES["eaw_focal"](outputs, TARGET), eaw_auxiliary_loss(outputs, TARGET, kind="focal"))
    assert Recipe("x").loss == "multi_level"
    assert json.loads(Recipe("x", loss="eaw_focal").to_json())["loss"] == "eaw_focal"
    with pytest.raises(InputError, match=r"loss is 'dice'; it must be one of multi_level, eaw_ce, eaw_focal"):
        Recipe("x", loss="dice")


def test_errors() -> None:
    with pytest.raises(InputError, match=r"beta is 1; it must be from 0 to below 1"):
        eaw_loss(LOGITS, TARGET, beta=1)
    with pytest.raises(InputError, match=r"beta is -0\.1"):
        eaw_weights(torch.tensor([1, 2]), -0.1)
    with pytest.raises(InputError, match=r"effective_number is 'area'; it must be one of fraction, pixels"):
        eaw_weights(torch.tensor([1, 2]), 0.5, "area")
    with pytest.raises(InputError, match=r"kind is 'dice'; it must be one of ce, focal"):
        eaw_loss(LOGITS, TARGET, kind="dice")
    with pytest.raises(ShapeError, match=r"logits \(1, 1, 2, 2\) and target \(1, 1, 2, 1\)"):
        eaw_loss(LOGITS, TARGET[..., :1])


def test_ce_is_plain_cross_entropy_with_the_auxiliary_weight():
    """What EAW is compared with in MCCRNet's table 4."""
    generator = torch.Generator().manual_seed(3)
    final, coarse = (torch.randn(2, 1, 4, 4, generator=generator) for _ in range(2))
    target = (torch.rand(2, 1, 4, 4, generator=generator) < 0.2).float()

    def mean_nll(logits: torch.Tensor) -> float:
        p = 1 / (1 + np.exp(-logits.double().numpy()))
        return float(-np.log(np.where(target.numpy() > 0.5, p, 1 - p)).mean())

    expected = mean_nll(final) + 0.4 * mean_nll(coarse)
    assert LOSSES["ce"]([final, coarse], target).item() == pytest.approx(expected, rel=1e-5)
