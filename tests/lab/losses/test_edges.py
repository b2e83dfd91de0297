"""SFEARNet's loss: by hand, and its edges against scipy's Sobel operator."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from terradelta.errors import ShapeError
from terradelta.lab.losses import LOSSES, dice_loss, edges_of, iou_loss, sfear_loss

L3 = math.log(3)  # the logit of 3/4


def _map(*rows: tuple[float, ...]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)[None, None]


P = _map((L3, -L3), (0, 0))  # probabilities 3/4 1/4, 1/2 1/2
T = _map((1, 0), (0, 1))


def test_iou_by_hand() -> None:
    """Overlap 3/4 + 1/2 = 5/4; sums 2 and 2; union 11/4."""
    assert iou_loss(P, T).item() == pytest.approx(1 - 5 / 11)
    assert iou_loss(1000 * (2 * T - 1), T).item() == pytest.approx(0, abs=1e-6)
    assert iou_loss(-1000 * (2 * T - 1), T).item() == 1


def test_edges_are_where_sobel_s_operator_answers() -> None:
    """As the released code finds them: a length in one byte, above 20."""
    rng = np.random.default_rng(0)
    for share in (0.02, 0.3, 0.5, 0.97):
        label = ndimage.zoom((rng.random((6, 9)) < share).astype(np.uint8), 3, order=0)
        label ^= rng.random(label.shape) < 0.05
        values = 255.0 * label
        length = np.hypot(ndimage.sobel(values, 0, mode="mirror"), ndimage.sobel(values, 1, mode="mirror"))
        expected = (length.astype(np.int64) % 256) > 20
        assert 0 < expected.mean() < 1
        found = edges_of(torch.from_numpy(label)[None, None])
        np.testing.assert_array_equal(found[0, 0].numpy(), expected.astype(np.float32))


def test_edges_of_a_square_are_a_band_of_two_pixels() -> None:
    target = torch.zeros(2, 1, 10, 10)
    target[0, :, 3:7, 3:7] = 1
    edges = edges_of(target)
    assert edges[0].sum() == 6 * 6 - 2 * 2
    assert edges[1].sum() == 0


def test_the_loss_is_the_sum_of_its_parts() -> None:
    target = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    target[..., 2:6, 2:6] = 1
    torch.manual_seed(0)
    change, edges = torch.randn(2, 1, 1, 8, 8, dtype=torch.float64)
    p = torch.sigmoid(change)
    entropy = -(target * p.log() + (1 - target) * (1 - p).log()).mean()
    parts = iou_loss(change, target) + entropy, dice_loss(edges, edges_of(target), 1e-7)
    torch.testing.assert_close(sfear_loss([change, edges], target).double(), sum(parts).double(), rtol=1e-5, atol=1e-6)
    found = LOSSES["sfear"]([change, edges], target) + parts[1]
    torch.testing.assert_close(sfear_loss([change, edges], target, edge_weight=2.0), found)


def test_nothing_changed_is_finite() -> None:
    outputs = [torch.zeros(1, 1, 4, 4, requires_grad=True) for _ in range(2)]
    loss = sfear_loss(outputs, torch.zeros(1, 1, 4, 4))
    loss.backward()
    assert loss.isfinite()
    assert all(out.grad.isfinite().all() for out in outputs)


def test_errors() -> None:
    with pytest.raises(ShapeError, match=r"takes two outputs \(change, edges\), not 1; it is SFEARNet's loss"):
        sfear_loss([P], T)
    with pytest.raises(ShapeError, match="must have one shape"):
        iou_loss(P, T[..., :1])
