"""Twins, pasted change, and what is done to one date: by hand-made crops."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from terradelta.errors import InputError
from terradelta.lab.training.augment import Augmenter, Crop, pasted, twin
from terradelta.lab.training.config import Augmentation

STILL = Augmentation.only()


def _crop(before: float, after: float, label: np.ndarray) -> Crop:
    noise = np.random.default_rng(round(before * 10)).normal(0, 0.05, (3, *label.shape)).astype(np.float32)
    return Crop(0, noise + np.float32(before), noise + np.float32(after), label.astype(np.float32))


def test_a_twin_is_one_date_twice_and_nothing_changed() -> None:
    crop = _crop(0.2, 0.7, np.eye(16))
    seen = set()
    for seed in range(20):
        same = twin(crop, np.random.default_rng(seed))
        np.testing.assert_array_equal(same.before, same.after)
        assert not same.label.any()
        seen.add(round(float(same.before.mean()), 1))
    assert seen == {0.2, 0.7}


def test_pasted_change_is_in_one_date_under_its_label_and_nowhere_else() -> None:
    square = np.zeros((40, 40))
    square[10:20, 12:22] = 1
    ours = np.zeros((40, 40))
    ours[30:34, 30:34] = 1
    crop, other = _crop(0.4, 0.5, ours), _crop(0.1, 0.9, square)
    moved = set()
    for seed in range(12):
        new = pasted(crop, other, np.random.default_rng(seed))
        np.testing.assert_array_equal(new.label, np.maximum(ours, square))
        gaps = [np.abs(a - b).max(0) for a, b in ((new.before, crop.before), (new.after, crop.after))]
        moved.add(tuple(bool(gap.max() > 1e-3) for gap in gaps))
        assert all(gap[:3].max() < 1e-6 and gap[28:].max() < 1e-6 for gap in gaps)
    assert moved <= {(True, False), (False, True)}
    assert len(moved) == 2
    nothing = replace(other, label=np.zeros_like(other.label))
    assert pasted(crop, nothing, np.random.default_rng(0)) is crop


def test_haze_brings_values_towards_a_light_between_mean_and_brightest() -> None:
    image = torch.linspace(0.1, 0.9, 3 * 64).reshape(1, 3, 8, 8)
    label = torch.zeros(1, 1, 8, 8)
    hazy = Augmenter(replace(STILL, p_haze=1.0, haze=0.5))
    for seed in range(8):
        found = hazy(image, image.clone(), label, seed)[0]
        gain = found.std((2, 3)) / image.std((2, 3))
        assert (gain > 0.5 - 1e-4).all()
        assert (gain <= 1 + 1e-4).all()
        assert torch.allclose(gain, gain[:, :1].expand_as(gain), atol=1e-4)
        assert (found.mean((2, 3)) >= image.mean((2, 3)) - 1e-5).all()


def test_a_cast_is_one_factor_a_band_and_jpeg_keeps_the_picture() -> None:
    image = torch.full((1, 3, 16, 16), 0.5)
    label = torch.zeros(1, 1, 16, 16)
    first, second, _ = Augmenter(replace(STILL, p_cast=1.0, cast=0.2))(image, image.clone(), label, 3)
    for date in (first, second):
        factors = date[0].mean((1, 2)) / 0.5
        assert date.std((2, 3)).max() < 1e-6
        assert ((factors > 0.8) & (factors < 1.2)).all()
        assert factors.std() > 0.01
    assert not torch.allclose(first, second)
    smooth = (
        torch.linspace(0.1, 0.9, 256).reshape(1, 1, 16, 16).repeat(1, 3, 1, 1)
        * torch.tensor([1, 0.8, 0.6])[:, None, None]
    )
    found = Augmenter(replace(STILL, p_jpeg=1.0, jpeg=(50, 50)))(smooth, smooth.clone(), label, 3)[0]
    assert 1e-4 < float((found - smooth).abs().mean()) < 0.05
    four = torch.rand(1, 4, 16, 16)
    assert torch.equal(Augmenter(replace(STILL, p_jpeg=1.0))(four, four.clone(), label, 3)[0], four)


@pytest.mark.parametrize("name", ["p_twin", "p_paste", "p_haze", "p_cast", "p_jpeg"])
def test_recipes_of_papers_have_none_of_it(name: str) -> None:
    assert getattr(Augmentation(), name) == 0
    assert getattr(Augmentation.only(), name) == 0


def _dot() -> tuple[torch.Tensor, torch.Tensor]:
    """A bright pixel right of the middle, and no change."""
    image = torch.zeros(1, 3, 33, 33)
    image[..., 16, 26] = 1
    return image, torch.zeros(1, 1, 33, 33)


def _spread(image: torch.Tensor) -> float:
    """Variance of the brightness across one axis, pixels squared: that of the blur, for a single bright pixel."""
    profile = (image[0, 0].sum(0) / image[0, 0].sum()).double()
    columns = torch.arange(len(profile), dtype=torch.float64)
    return float((profile * columns**2).sum() - (profile * columns).sum() ** 2)


def test_blur_of_both_dates_is_one_and_of_each_is_not() -> None:
    image, label = _dot()
    for dates in ("both", "each"):
        blurred = Augmenter(Augmentation.only(p_blur=1.0, blur_px=(1e-3, 1.0), blur_dates=dates))
        spreads = [[_spread(x) for x in blurred(image, image.clone(), label, seed)[:2]] for seed in range(12)]
        assert all(-1e-6 < value < 1 for pair in spreads for value in pair)
        assert max(first for first, _ in spreads) > 0.4
        assert min(first for first, _ in spreads) < 0.1
        assert all(first == pytest.approx(second, abs=1e-6) for first, second in spreads) == (dates == "both")


def test_a_range_of_angles_turns_counterclockwise_from_the_first_to_the_second() -> None:
    image, label = _dot()
    turned = Augmenter(Augmentation.only(rotation_deg=(0.0, 40.0), p_rotation=1.0))
    angles = []
    for seed in range(20):
        before, after, _ = turned(image, image.clone(), label, seed)
        assert torch.equal(before, after)
        row, col = divmod(int(before[0, 0].argmax()), 33)
        angles.append(float(np.degrees(np.arctan2(16 - row, col - 16))))
    assert -3 <= min(angles) < 12
    assert 28 < max(angles) <= 43


@pytest.mark.parametrize("blur_px", [(0.0, 1.0), (2.0, 1.0)])
def test_blur_that_cannot_be(blur_px: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="it must be two numbers above 0, the lower first"):
        Augmentation(blur_px=blur_px)
    with pytest.raises(InputError, match=r"Augmentation.blur_dates is 'one'; it must be one of each, both"):
        Augmentation(blur_dates="one")


def test_unknown_pixels_of_twins_and_under_pasted_change() -> None:
    """A twin is known everywhere, and so is what was pasted; the rest stays unknown."""
    known = np.ones((8, 8), np.float32)
    known[:, 4:] = 0
    crop = Crop(0, *(np.full((3, 8, 8), v, np.float32) for v in (0.2, 0.4)), np.zeros((8, 8), np.float32), known)
    assert twin(crop, np.random.default_rng(0)).known is None
    label = np.zeros((8, 8), np.float32)
    label[2:5, 3:6] = 1
    other = replace(crop, label=label, known=None)
    np.testing.assert_array_equal(pasted(crop, other, np.random.default_rng(0)).known, np.maximum(known, label))
    assert pasted(replace(crop, known=None), other, np.random.default_rng(0)).known is None
