"""Labels that are not known everywhere: for every loss of the table, only what is known counts."""

from typing import Any

import pytest
import torch
from torch import Tensor

from terradelta.errors import ShapeError
from terradelta.lab.losses import LOSSES

EVERY_LOSS = sorted(LOSSES)
OWN_SIZE = ("wdmc", "wdmc_released")
"""Losses that resize the label to the outputs."""


def _case(name: str, size: int = 12) -> tuple[list[Tensor], Tensor, Tensor]:
    """Outputs, target and mask."""
    generator = torch.Generator().manual_seed(3)
    outputs = [2 * torch.randn(2, 1, size, size, generator=generator, dtype=torch.float64) for _ in range(2)]
    if name in OWN_SIZE:
        outputs.append(torch.randn(2, 1, size // 2, size // 2, generator=generator, dtype=torch.float64))
    target = (torch.rand(2, 1, size, size, generator=generator) < 0.3).float()
    mask = torch.ones(2, 1, size, size)
    mask[0, 0, :, 5:] = 0
    mask[1, 0, 3:7, 2:9] = 0
    return outputs, target, mask


def _loss(name: str, outputs: Any, target: Tensor, **mask: Tensor) -> Tensor:
    return LOSSES[name](outputs, target, **mask)


@pytest.mark.parametrize("name", EVERY_LOSS)
def test_what_stands_in_unknown_pixels_does_not_count(name: str) -> None:
    outputs, target, mask = _case(name)
    want = _loss(name, outputs, target, mask=mask)
    other = [x.clone() for x in outputs]
    for x in other:
        if x.shape == mask.shape:
            x[mask == 0] = torch.inf
    assert torch.equal(_loss(name, other, torch.where(mask > 0, target, 1 - target), mask=mask), want)
    assert want != _loss(name, outputs, target)


@pytest.mark.parametrize("name", EVERY_LOSS)
def test_unknown_pixels_get_no_gradient(name: str) -> None:
    outputs, target, mask = _case(name)
    first = outputs[1 if name in OWN_SIZE else 0].requires_grad_()
    _loss(name, outputs, target, mask=mask).backward()
    assert not first.grad[mask == 0].any()
    assert first.grad[mask > 0].any()


@pytest.mark.parametrize("name", sorted(set(EVERY_LOSS) - {"sfear"}))
def test_it_is_the_loss_of_the_known_pixels_alone(name: str) -> None:
    """Edges need neighbours, so SFEARNet's loss is left out."""
    outputs, target, mask = _case(name)
    outputs = outputs[:2]
    alone = [x[mask > 0].view(1, 1, 1, -1) for x in outputs]
    want = _loss(name, alone, target[mask > 0].view(1, 1, 1, -1))
    assert _loss(name, outputs, target, mask=mask).item() == pytest.approx(want.item(), rel=1e-6)


def test_an_edge_counts_where_all_its_neighbours_are_known() -> None:
    """A single changed pixel, its edge in columns 2 to 4; from column 4 on unknown, so of edges 0 to 2 are known."""
    target = torch.zeros(1, 1, 7, 7)
    target[0, 0, 3, 3] = 1
    mask = torch.ones_like(target)
    mask[..., 4:] = 0
    change, edges = torch.zeros(1, 1, 7, 7), torch.zeros(1, 1, 7, 7)
    edges[..., 3:] = torch.inf
    base = LOSSES["sfear"]([change, torch.zeros_like(edges)], target, mask=mask)
    assert torch.equal(LOSSES["sfear"]([change, edges], target, mask=mask), base)
    edges[..., 2] = 1
    assert LOSSES["sfear"]([change, edges], target, mask=mask) != base


@pytest.mark.parametrize("name", EVERY_LOSS)
def test_all_known_and_no_mask_are_alike(name: str) -> None:
    outputs, target, _ = _case(name)
    masked = _loss(name, outputs, target, mask=torch.ones_like(target)).item()
    assert masked == pytest.approx(_loss(name, outputs, target).item(), rel=1e-6)


@pytest.mark.parametrize("name", EVERY_LOSS)
def test_nothing_known_is_finite_and_pulls_nowhere(name: str) -> None:
    outputs, target, mask = _case(name)
    for x in outputs:
        x.requires_grad_()
    loss = _loss(name, outputs, target, mask=torch.zeros_like(mask))
    loss.backward()
    assert loss.isfinite()
    assert not any(x.grad is not None and x.grad.any() for x in outputs)


def test_a_mask_of_another_shape() -> None:
    outputs, target, mask = _case("ce")
    with pytest.raises(ShapeError, match="must have one shape"):
        _loss("ce", outputs, target, mask=mask[:1])
