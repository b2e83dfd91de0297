"""Losses of distances: worked out by hand, and on the distances that the networks' logits hold."""

import math

import pytest
import torch
from torch import Tensor

from terradelta.errors import ShapeError
from terradelta.lab.losses import LOSSES, bcl_loss, distance_of_logit, double_margin_loss, wdmc_loss
from terradelta.lab.networks import create_model
from terradelta.lab.networks.layers import distance as of_networks
from terradelta.lab.networks.layers.distance import logit_of_distance


def _map(*rows: tuple[float, float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)[None, None]


# Distances 0.5 and 1.5 are unchanged, 1 and 3 changed.
D = _map((0.5, 1.0), (1.5, 3.0))
T = _map((0, 1), (0, 1))
LOGITS = 4 * (D - 1)


def test_the_loss_takes_back_exactly_what_the_networks_return() -> None:
    distance = torch.linspace(0, 3, 301, dtype=torch.float64)
    torch.testing.assert_close(distance_of_logit(logit_of_distance(distance)), distance, rtol=0, atol=1e-15)
    assert distance_of_logit(torch.zeros(1)).item() == of_networks.THRESHOLD
    assert distance_of_logit(torch.ones(1, dtype=torch.float16)).dtype == torch.float32


def test_bcl_by_hand() -> None:
    unchanged = (0.25 + 2.25) / 2
    changed = (1 + 0) / 2  # a distance beyond the margin of 2 costs nothing
    assert bcl_loss([LOGITS], T).item() == pytest.approx(unchanged + changed, rel=1e-4)
    assert bcl_loss([LOGITS], T, margin=4).item() == pytest.approx(unchanged + (9 + 1) / 2, rel=1e-4)


def test_bcl_is_balanced_whatever_the_share_of_changes() -> None:
    """One changed pixel among many weighs as much as all the others together."""
    logits = torch.zeros(1, 1, 100, 100)  # d = 1 everywhere
    target = torch.zeros_like(logits)
    target[..., 0, 0] = 1
    assert bcl_loss([logits], target).item() == pytest.approx(2, rel=2e-4)


@pytest.mark.parametrize("label", [0.0, 1.0])
@pytest.mark.parametrize("name", ["bcl", "wdmc", "wdmc_released"])
def test_a_class_without_pixels_breaks_nothing(name: str, label: float) -> None:
    logits = LOGITS.clone().requires_grad_()
    loss = LOSSES[name]([logits], torch.full_like(T, label))
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()
    assert logits.grad.abs().max() > 0


def test_double_margins_by_hand() -> None:
    """Unchanged: (0.5 - 0.3)² and (1.5 - 0.3)²; changed: (2.2 - 1)² and, beyond the margin, 0."""
    unchanged, changed = 0.04 + 1.44, 1.44 + 0
    assert double_margin_loss(LOGITS, T, weighted=False).item() == pytest.approx((unchanged + changed) / 4)
    # inverse frequencies: 2 and 2
    assert double_margin_loss(LOGITS, T).item() == pytest.approx((2 * unchanged + 2 * changed) / 4)
    found = double_margin_loss(LOGITS, T, margins=(1.0, 1.5), weighted=False)
    assert found.item() == pytest.approx((0.25 + 0.25) / 4)


def test_weights_are_the_inverse_frequencies() -> None:
    target = _map((0, 0), (0, 1))
    unchanged, changed = 0.04 + 0.49 + 1.44, 0.0
    assert double_margin_loss(LOGITS, target).item() == pytest.approx(unchanged / 4 / 0.75 + changed / 4 / 0.25)
    target = _map((1, 0), (0, 0))
    unchanged, changed = 0.49 + 1.44 + 7.29, 1.7**2
    assert double_margin_loss(LOGITS, target).item() == pytest.approx(unchanged / 4 / 0.75 + changed / 4 / 0.25)


def test_soft_labels_share_their_cost() -> None:
    half = torch.full_like(T, 0.5)
    unchanged = 0.04 + 0.49 + 1.44 + 7.29
    changed = 1.7**2 + 1.2**2 + 0.7**2
    assert double_margin_loss(LOGITS, half, weighted=False).item() == pytest.approx((unchanged + changed) / 2 / 4)


def test_wdmc_adds_the_three_embeddings_and_not_the_final_map() -> None:
    final = torch.full((1, 1, 4, 4), 99.0, dtype=torch.float64)
    target = T.repeat_interleave(2, 2).repeat_interleave(2, 3)
    small = torch.nn.functional.interpolate(target, size=(2, 2), mode="bilinear", align_corners=True)
    assert torch.equal(small, T.float().double())  # corners are aligned: the corner pixels' labels
    maps = [LOGITS, LOGITS.flip(3), LOGITS + 1]
    expected = sum(double_margin_loss(x, T) for x in maps)
    torch.testing.assert_close(wdmc_loss([final, *maps], target), expected)
    expected = sum(double_margin_loss(x, T, weighted=False) for x in maps)
    torch.testing.assert_close(LOSSES["wdmc_released"]([final, *maps], target), expected)


def test_wdmc_of_a_single_map() -> None:
    torch.testing.assert_close(wdmc_loss([LOGITS], T), double_margin_loss(LOGITS, T))


@pytest.mark.parametrize("name", ["bcl", "wdmc"])
def test_gradient_is_the_slope(name: str) -> None:
    logits = LOGITS.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: LOSSES[name]([z], T), logits, eps=1e-6, atol=1e-6)


@pytest.mark.parametrize(("network", "options"), [("stanet", {"attention": "base"}), ("dasnet", {"width": 0.0625})])
def test_descending_moves_the_distances_apart(network: str, options: dict[str, object]) -> None:
    """A few steps on one pair: unchanged pixels come nearer, changed ones go further, and the loss falls."""
    torch.manual_seed(0)
    model = create_model(network, **options).train()
    loss_of = LOSSES["bcl" if network == "stanet" else "wdmc"]
    before = torch.randn(2, 3, 64, 64)
    after = before.clone()
    after[:, :, 16:48, 16:48] = torch.randn(2, 3, 32, 32)
    target = torch.zeros(2, 1, 64, 64)
    target[:, :, 16:48, 16:48] = 1
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(8):
        loss = loss_of(model.forward_with_aux(before, after), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(math.isfinite(x) for x in losses)
    assert min(losses[4:]) < 0.8 * losses[0]


def test_shapes_that_differ() -> None:
    with pytest.raises(ShapeError, match=r"logits \(1, 1, 2, 2\) and target \(1, 2, 2\)"):
        double_margin_loss(LOGITS, T[0])
    with pytest.raises(ShapeError, match="must have one shape"):
        bcl_loss([LOGITS.repeat(2, 1, 1, 1)], T)
