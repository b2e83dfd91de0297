"""Crops and augmentation: what is random, what moves together, what never changes."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from terradelta.card import ModelCard
from terradelta.errors import DataError
from terradelta.lab.data import PairList, open_pairs
from terradelta.lab.data.labels import LabelCoding
from terradelta.lab.training import crops
from terradelta.lab.training.config import Augmentation, Recipe
from terradelta.lab.training.crops import (
    Augmenter,
    CropDataset,
    _Batches,
    _Changed,
    _inside,
    collate,
    crop_loader,
    measure_bands,
)
from terradelta.raster.scaling import choose_scaling

BANDS = ("red", "green", "blue")
CARD = ModelCard("w", "none", BANDS, (0.5, 0.4, 0.3), (0.2, 0.25, 0.5))
PLAIN = Recipe("x", crop_px=32, zoom=(("", 1.0, 1.0),), batch_size=2, steps=4, mean=CARD.mean, std=CARD.std)
STILL = Augmentation(p_rotation=0, p_colour=0, p_blur=0, p_noise=0, p_shift=0)


def _smooth(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    label = np.zeros((height, width), np.uint8)
    for _ in range(5):
        row, col = rng.integers(0, height - 12), rng.integers(0, width - 12)
        label[row : row + 12, col : col + 16] = 255
    return label


@pytest.fixture
def marked(tmp_path: Path, write_pair: Callable[..., None]) -> PairList:
    """Both images are 200 where the label is, else 0."""
    rng = np.random.default_rng(2)
    for name, size in (("a", (80, 60)), ("b", (24, 90)), ("c", (33, 33))):
        label = _smooth(rng, *size)
        image = np.stack([label // 255 * 200] * 3)
        write_pair(tmp_path, "train", name, image, image, label)
    return open_pairs(tmp_path, "train")


def _one(root: Path, write_pair: Callable[..., None], image: np.ndarray, label: np.ndarray | None = None) -> PairList:
    write_pair(root, "train", "one", image, image, np.zeros(image.shape[1:], np.uint8) if label is None else label)
    return open_pairs(root, "train")


# ---- crops ----------------------------------------------------------------------------------------------------------


def test_a_crop_depends_on_its_number_and_the_seed_alone(marked: PairList) -> None:
    forwards, backwards = CropDataset(marked, PLAIN), CropDataset(marked, PLAIN)
    first = [forwards[k] for k in range(6)]
    second = [backwards[k] for k in reversed(range(6))][::-1]
    for a, b in zip(first, second, strict=True):
        assert a.index == b.index
        for part in ("before", "after", "label"):
            np.testing.assert_array_equal(getattr(a, part), getattr(b, part))
    assert len({crop.before.tobytes() for crop in first}) > 3
    other = CropDataset(marked, replace(PLAIN, seed=1))
    assert any((other[k].before != first[k].before).any() for k in range(6))


@pytest.mark.parametrize("zoom", [(1.0, 1.0), (0.4, 0.9), (1.1, 2.0)])
def test_the_label_follows_the_image_through_window_turn_and_zoom(marked: PairList, zoom: tuple[float, float]) -> None:
    dataset = CropDataset(marked, replace(PLAIN, zoom=(("", *zoom),)))
    changed = 0
    for k in range(40):
        crop = dataset[k]
        assert crop.before.shape == crop.after.shape == (3, 32, 32)
        assert crop.before.dtype == crop.label.dtype == np.float32
        level = crop.before[0] / np.float32(200 / 255)  # 1 where the label is, resampled as the label is
        sure = np.abs(level - 0.5) > 1e-3
        np.testing.assert_array_equal(crop.label[sure], level[sure] > 0.5)
        np.testing.assert_array_equal(crop.before, crop.after)
        assert set(np.unique(crop.label)) <= {0, 1}
        changed += crop.label.sum()
    assert changed > 1000


def test_all_eight_orientations_occur_and_are_shared(tmp_path: Path, write_pair: Callable[..., None]) -> None:
    rng = np.random.default_rng(0)
    image, label = rng.integers(0, 256, (3, 32, 32)).astype(np.uint8), _smooth(rng, 32, 32)
    dataset = CropDataset(_one(tmp_path, write_pair, image, label), PLAIN)
    turned = [np.rot90(image, k, (1, 2)) for k in range(4)]
    turned = [*turned, *(x[:, :, ::-1] for x in turned)]
    masks = [np.rot90(label, k) for k in range(4)]
    masks = [*masks, *(x[:, ::-1] for x in masks)]
    seen = set()
    for k in range(80):
        crop = dataset[k]
        found = np.rint(crop.before * 255).astype(np.uint8)
        which = next(i for i, x in enumerate(turned) if (x == found).all())
        np.testing.assert_array_equal(crop.label, masks[which] == 255)
        seen.add(which)
    assert seen == set(range(8))


@pytest.mark.parametrize(("orientations", "count"), [("flips", 4), ("none", 1)])
def test_fewer_orientations(tmp_path: Path, write_pair: Callable[..., None], orientations: str, count: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, 32, 32)).astype(np.uint8)
    recipe = replace(PLAIN, augmentation=Augmentation.only(orientations=orientations))
    dataset = CropDataset(_one(tmp_path, write_pair, image), recipe)
    seen = {np.rint(dataset[k].before * 255).astype(np.uint8).tobytes() for k in range(40)}
    flips = [image, image[:, ::-1], image[:, :, ::-1], image[:, ::-1, ::-1]]
    assert seen == {np.ascontiguousarray(x).tobytes() for x in flips[:count]}


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0, 12), (0.6, 96, 150), (1.0, 200, 200)])
def test_the_share_of_crops_near_change(
    tmp_path: Path, write_pair: Callable[..., None], share: float, low: int, high: int
) -> None:
    """One changed pixel in 300 x 300: a crop anywhere holds it with probability below 2 %."""
    label = np.zeros((300, 300), np.uint8)
    label[120, 200] = 255
    pairs = _one(tmp_path, write_pair, np.zeros((3, 300, 300), np.uint8), label)
    dataset = CropDataset(pairs, replace(PLAIN, change_crops=share))
    labels = [dataset[k].label for k in range(200)]
    assert low <= sum(bool(x.any()) for x in labels) <= high
    at = np.array([np.argwhere(x)[0] for x in labels if x.any()])
    if share == 1:  # the pixel lies anywhere in the crop, not always in its middle
        assert at.min() <= 2
        assert at.max() >= 29


@pytest.mark.parametrize(("zoom", "slope"), [(0.5, 0.5), (1.0, 1.0), (2.0, 2.0)])
def test_zoom_is_the_windows_side_over_the_crops(
    tmp_path: Path, write_pair: Callable[..., None], zoom: float, slope: float
) -> None:
    ramp = np.broadcast_to(np.arange(120, dtype=np.uint8), (3, 120, 120))
    dataset = CropDataset(_one(tmp_path, write_pair, ramp), replace(PLAIN, zoom=(("", zoom, zoom),)))
    for k in range(8):
        inner = dataset[k].before[0, 4:-4, 4:-4] * 255
        steps = np.abs([np.diff(inner, axis=0).mean(), np.diff(inner, axis=1).mean()])
        assert steps.max() == pytest.approx(slope, rel=0.02)
        assert steps.min() == pytest.approx(0, abs=1e-3)


@given(st.integers(2, 12), st.integers(2, 12), st.data())
def test_windows_over_the_border_are_reflected(height: int, width: int, data: st.DataObject) -> None:
    side = data.draw(st.integers(1, 2 * min(height, width) - 1))
    row, col = (data.draw(st.integers(min(n - side, 0), max(n - side, 0))) for n in (height, width))
    values = np.arange(height * width).reshape(1, height, width)

    def mirrored(i: int, n: int) -> int:
        i = abs(i)
        return i if i < n else 2 * (n - 1) - i

    expected = [
        [values[0, mirrored(row + i, height), mirrored(col + j, width)] for j in range(side)] for i in range(side)
    ]
    inner, pads = _inside((row, col, side), (height, width))
    found = np.pad(values[0][inner.slices], pads, mode="reflect")
    np.testing.assert_array_equal(found, expected)


@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 20))), st.integers(1, 4))
def test_changed_pixels_in_reading_order(label: np.ndarray, rows: int) -> None:
    changed = _Changed(label[row : row + rows] for row in range(0, len(label), rows))
    assert changed.count == label.sum()
    assert [changed.pixel(k) for k in range(changed.count)] == [tuple(at) for at in np.argwhere(label)]


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (7, 20), (31, 33)])
def test_images_smaller_than_the_crop(tmp_path: Path, write_pair: Callable[..., None], size: tuple[int, int]) -> None:
    image = np.full((3, *size), 51, np.uint8)
    label = np.full(size, 255, np.uint8)
    dataset = CropDataset(_one(tmp_path, write_pair, image, label), replace(PLAIN, zoom=(("", 0.5, 2.0),)))
    for k in range(6):
        np.testing.assert_allclose(dataset[k].before, np.full((3, 32, 32), 0.2), atol=1e-6)
        np.testing.assert_array_equal(dataset[k].label, np.ones((32, 32)))


def test_images_are_kept_within_the_cache(marked: PairList, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    original = PairList.read
    monkeypatch.setattr(PairList, "read", lambda self, index: reads.append(index) or original(self, index))
    monkeypatch.setattr(CropDataset, "_is_large", lambda self, number: False)
    roomy, tight = CropDataset(marked, PLAIN), CropDataset(marked, replace(PLAIN, cache_mb=0))
    for k in range(30):
        roomy[k]
    assert sorted(reads) == [0, 1, 2]
    reads.clear()
    crops = [tight[k].before for k in range(30)]
    assert len(reads) > 10
    assert all((a == roomy[k].before).all() for k, a in enumerate(crops))


@pytest.mark.parametrize("change_crops", [0.0, 0.6])
def test_large_images_are_read_in_windows_and_give_the_same_crops(
    marked: PairList, monkeypatch: pytest.MonkeyPatch, change_crops: float
) -> None:
    recipe = replace(PLAIN, zoom=(("", 0.5, 1.6),), change_crops=change_crops)
    small, large = CropDataset(marked, recipe), CropDataset(marked, replace(recipe, cache_mb=0))
    whole = [small[k] for k in range(40)]
    monkeypatch.setattr(crops, "STRIP_PX", 90 * 7)
    monkeypatch.setattr(PairList, "read", None)  # nothing is read as a whole
    sides: list[int] = []
    original = PairList.read_window
    monkeypatch.setattr(
        PairList, "read_window", lambda self, n, tile: sides.append(tile.height) or original(self, n, tile)
    )
    for k, expected in enumerate(whole):
        found = large[k]
        for part in ("before", "after", "label"):
            np.testing.assert_array_equal(getattr(found, part), getattr(expected, part))
    assert len(sides) > 40 if change_crops else len(sides) == 40
    assert max(sides) <= 52


def test_other_bands_than_the_recipes(marked: PairList) -> None:
    recipe = replace(PLAIN, bands=("grey",), mean=(0.5,), std=(1.0,))
    with pytest.raises(
        DataError, match=r"3 bands, but the recipe names 1 \(grey\); set Recipe.bands and the network's"
    ):
        CropDataset(marked, recipe)[0]


# ---- augmentation ---------------------------------------------------------------------------------------------------


def _batch(seed: int = 0, size: int = 64, n: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """An image that is 0.8 where the label is, else 0.2; and the label."""
    rng = np.random.default_rng(seed)
    label = torch.from_numpy(np.stack([_smooth(rng, size, size) for _ in range(n)]) > 0).float()[:, None]
    return (0.2 + 0.6 * label).expand(n, 3, size, size).contiguous(), label


def test_rotation_turns_both_dates_and_the_label_together() -> None:
    image, label = _batch()
    turn = Augmenter(replace(STILL, p_rotation=1.0, rotation_deg=20.0))
    before, after, turned = turn(image, image.clone(), label, 5)
    assert torch.equal(before, after)
    assert set(turned.unique().tolist()) <= {0, 1}
    assert (turned != label).float().mean() > 0.02
    seen = before[:, :1] > 0.5
    overlap = (seen & (turned > 0.5)).sum() / (seen | (turned > 0.5)).sum()
    assert overlap > 0.93  # the image is interpolated, the label is not


def test_each_date_has_its_own_colours_and_the_label_stays() -> None:
    image, label = _batch()
    before, after, kept = Augmenter(replace(STILL, p_colour=1.0))(image, image.clone(), label, 5)
    assert torch.equal(kept, label)
    assert not torch.allclose(before, after, atol=0.02)
    assert before.min() >= 0
    assert after.max() <= 1


@pytest.mark.parametrize("reach", [1, 3])
def test_the_second_date_is_moved_by_whole_pixels(reach: int) -> None:
    image, label = _batch(n=12)
    shift = Augmenter(replace(STILL, p_shift=1.0, shift_px=reach))
    before, after, kept = shift(image, image.clone(), label, 3)
    assert torch.equal(before, image)
    assert torch.equal(kept, label)
    moves = set()
    m = reach
    for one, moved in zip(image, after, strict=True):
        fits = {
            (r, c)
            for r in range(-m, m + 1)
            for c in range(-m, m + 1)
            if torch.equal(one.roll((r, c), (1, 2))[:, m:-m, m:-m], moved[:, m:-m, m:-m])
        }
        assert fits
        moves |= fits if len(fits) == 1 else set()
    assert len(moves) > 2


def test_noise_and_blur_and_bands_other_than_three() -> None:
    image, label = _batch()
    noisy = Augmenter(replace(STILL, p_noise=1.0, noise=0.05))(image, image.clone(), label, 3)[0]
    assert (noisy - image).std() == pytest.approx(0.05, rel=0.1)
    blurred = Augmenter(replace(STILL, p_blur=1.0))(image, image.clone(), label, 3)[0]
    assert blurred.diff(dim=3).abs().max() < image.diff(dim=3).abs().max()
    assert blurred.mean() == pytest.approx(image.mean().item(), abs=0.01)
    four = torch.rand(2, 4, 16, 16)
    assert torch.equal(Augmenter(STILL)(four, four.clone(), label[:2, :, :16, :16], 3)[0], four)
    before, after, _ = Augmenter(replace(STILL, brightness=0.2, p_colour=1.0))(
        four, four.clone(), label[:2, :, :16, :16], 3
    )
    gain = before.mean((2, 3)) / four.mean((2, 3))
    assert 0.7 < gain.min() < gain.max() < 1.3
    assert not torch.allclose(before, after)


def test_augmentation_is_seeded_and_leaves_the_global_numbers_alone() -> None:
    image, label = _batch()
    everything = Augmenter(Augmentation(p_rotation=1, p_colour=1, p_blur=1, p_noise=1, p_shift=1))
    state = torch.get_rng_state()
    first, other = (everything(image, image.clone(), label, seed) for seed in (1, 2))
    torch.rand(3)
    again = Augmenter(everything.config)(image, image.clone(), label, 1)
    torch.set_rng_state(state)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    everything(image, image.clone(), label, 1)
    assert torch.equal(torch.get_rng_state(), state)


# ---- batches --------------------------------------------------------------------------------------------------------


def test_a_batch_is_normalised_by_the_card(marked: PairList) -> None:
    crops = [CropDataset(marked, PLAIN)[k] for k in range(3)]
    before, after, label = collate(None, CARD, 0)(crops)
    mean, std = (np.array(v)[:, None, None] for v in (CARD.mean, CARD.std))
    expected = np.stack([(crop.before - mean) / std for crop in crops])
    np.testing.assert_allclose(before.numpy(), expected, atol=1e-5)
    assert torch.equal(before, after)
    assert label.shape == (3, 1, 32, 32)
    np.testing.assert_array_equal(label[:, 0].numpy(), np.stack([crop.label for crop in crops]))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize(("cores", "wanted", "made"), [(2, 4, 2), (8, 4, 4), (1, 4, 1), (2, 0, 0)])
def test_no_more_processes_load_than_there_are_cores(squares, monkeypatch, cores: int, wanted: int, made: int) -> None:
    """torch would warn of it, in the middle of a run of ours."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    loader = crop_loader(squares("train"), replace(PLAIN, workers=wanted, steps=3), CARD, 0)
    assert loader.num_workers == made
    assert loader.persistent_workers == (made > 0)


def test_batches_are_the_same_for_any_number_of_workers(squares: Callable[[str], PairList]) -> None:
    found = []
    for workers in (0, 1):
        loader = crop_loader(squares("train"), replace(PLAIN, workers=workers, steps=3), CARD, 0)
        found.append(list(loader))
        assert len(loader) == len(found[-1]) == 3
    for here, there in zip(*found, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True))


def test_a_loader_that_starts_later_gives_the_later_batches(squares: Callable[[str], PairList]) -> None:
    whole = list(crop_loader(squares("train"), PLAIN, CARD, 0))
    rest = list(crop_loader(squares("train"), PLAIN, CARD, 3))
    assert len(rest) == 1
    assert all(torch.equal(a, b) for a, b in zip(rest[0], whole[3], strict=True))
    assert not torch.equal(whole[0][0], whole[1][0])


def test_starting_a_loader_draws_no_global_random_number(squares: Callable[[str], PairList]) -> None:
    state = torch.get_rng_state()
    next(iter(crop_loader(squares("train"), PLAIN, CARD, 0)))
    assert torch.equal(torch.get_rng_state(), state)


def test_devices_share_the_crops_of_a_step() -> None:
    ranks = [list(_Batches(2, 5, 3, rank, 2)) for rank in range(2)]
    assert [a + b for a, b in zip(*ranks, strict=True)] == [list(range(6 * step, 6 * step + 6)) for step in (2, 3, 4)]


def test_measured_bands_are_those_of_the_images(tmp_path: Path, write_pair: Callable[..., None]) -> None:
    image = np.zeros((3, 32, 32), np.uint8)
    image[0, ::2], image[1], image[2] = 255, 51, 0
    mean, std = measure_bands(_one(tmp_path, write_pair, image), PLAIN, samples=2)
    assert mean == pytest.approx((0.5, 0.2, 0.0), abs=1e-4)
    assert std == pytest.approx((0.5, 1e-3, 1e-3), abs=1e-4)


def test_area_draws_large_images_more_often_and_change_is_looked_for_in_other_pairs(
    tmp_path: Path, write_pair: Callable[..., None]
) -> None:
    """Three pairs of 32 x 32 and one of 96 x 96, which has 9 of 12 parts of the area; only the small ``c`` changes."""
    for level, (name, side) in enumerate((("a", 32), ("b", 32), ("c", 32), ("d", 96)), 1):
        label = np.full((side, side), 255 if name == "c" else 0, np.uint8)
        image = np.full((3, side, side), level * 50, np.uint8)
        write_pair(tmp_path, "train", name, image, image, label)
    pairs = open_pairs(tmp_path, "train")

    def drawn(**fields: object) -> np.ndarray:
        dataset = CropDataset(pairs, replace(PLAIN, **fields))
        levels = [round(float(dataset[k].before.mean()) * 255 / 50) for k in range(240)]
        return np.bincount(levels, minlength=5)[1:]

    assert (np.abs(drawn(change_crops=0.0) - 60) < 25).all()
    assert abs(drawn(change_crops=0.0, sampling="area")[3] - 180) < 25
    assert drawn(change_crops=1.0)[2] > 200
    assert abs(drawn(change_crops=0.0, oftener=(("a", 3.0),))[0] - 120) < 25
    assert abs(drawn(change_crops=0.0, sampling="area", oftener=(("a", 9.0), ("", 1.0)))[0] - 108) < 25


def test_values_are_cut_off_only_where_colours_or_noise_were_changed() -> None:
    decibels, label = torch.full((1, 3, 16, 16), -12.0), torch.zeros(1, 1, 16, 16)
    still = Augmenter(replace(STILL, p_shift=1.0, p_blur=1.0))(decibels, decibels.clone(), label, 1)
    torch.testing.assert_close(still[1], decibels)
    assert (Augmenter(replace(STILL, p_noise=1.0))(decibels, decibels.clone(), label, 1)[0] == 0).all()


@pytest.fixture
def half_known(tmp_path: Path, write_pair: Callable[..., None]) -> PairList:
    """Red is 200 where the label is, blue 255 where it is not known: in stripes of 8 columns."""
    rng = np.random.default_rng(2)
    for name, size in (("a", (80, 60)), ("b", (24, 90)), ("c", (33, 33))):
        label = np.where(_smooth(rng, *size) > 0, 1, 0).astype(np.uint8)
        label[:, np.arange(size[1]) // 8 % 3 == 1] = 255
        red, blue = ((label == value) * np.uint8(shown) for value, shown in ((1, 200), (255, 255)))
        image = np.stack([red, red, blue])
        write_pair(tmp_path, "train", name, image, image, label)
    files = open_pairs(tmp_path, "train").files
    return PairList(tmp_path, "train", tuple(replace(each, coding=LabelCoding.MASKED) for each in files))


@pytest.mark.parametrize("zoom", [1.0, 0.4, 2.1])
def test_the_mask_follows_the_image_through_window_turn_and_zoom(half_known: PairList, zoom: float) -> None:
    """Windows reach over the images, too. A pixel is known where no unknown one was mixed into it."""
    recipe = replace(PLAIN, crop_px=40, zoom=(("", zoom, zoom),), augmentation=STILL)
    shares = []
    for k in range(30):
        crop = CropDataset(half_known, recipe)[k]
        assert crop.known is not None
        unknown = crop.before[2]
        assert not crop.known[unknown > 1e-3].any()
        assert crop.known[unknown < 1e-5].all()
        np.testing.assert_array_equal(crop.label, (crop.before[0] * 255 >= 100 - 1e-3) & (crop.known > 0))
        shares.append(crop.known.mean())
    assert 0 < np.mean(shares) < 1


def test_a_masked_batch_has_a_mask_and_otherwise_the_same_numbers(half_known: PairList) -> None:
    """Random numbers do not depend on whether labels are known, so the images are those of the plain labels."""
    recipe = replace(PLAIN, augmentation=Augmentation(p_rotation=1.0, p_paste=0.0, p_twin=0.0), change_crops=0.0)
    nonzero = tuple(replace(each, coding=LabelCoding.NONZERO) for each in half_known.files)
    plain = PairList(half_known.root, "train", nonzero)
    batches = [list(crop_loader(pairs, recipe, CARD, 0)) for pairs in (half_known, plain)]
    for masked, unmasked in zip(*batches, strict=True):
        before, after, label, known = masked
        assert len(unmasked) == 3
        assert torch.equal(before, unmasked[0])
        assert torch.equal(after, unmasked[1])
        assert known.shape == label.shape
        assert set(known.unique().tolist()) == {0.0, 1.0}
        assert not label[known == 0].any()


def test_a_batch_of_known_and_masked_crops(half_known: PairList) -> None:
    crops_of = [CropDataset(half_known, replace(PLAIN, augmentation=STILL))[k] for k in range(2)]
    mixed = [replace(crops_of[0], known=None), crops_of[1]]
    known = collate(Augmenter(STILL), CARD, 0)(mixed)[3]
    assert known[0].all()
    np.testing.assert_array_equal(known[1, 0], crops_of[1].known)


def test_replay_gives_its_share_of_the_crops(marked: PairList, tmp_path: Path, write_pair) -> None:
    image = np.full((3, 40, 40), 77, np.uint8)
    for k in range(20):
        write_pair(tmp_path / "other", "train", f"o{k}", image, image, np.zeros((40, 40), np.uint8))
    both = marked.joined(open_pairs(tmp_path / "other", "train"))
    own = len(marked)
    for share in (0.0, 0.25, 1.0):
        data = CropDataset(both, replace(PLAIN, change_crops=0.0, replay=(own, share)))
        numbers = np.array([data._number(np.random.default_rng(k), near_change=False) for k in range(400)])
        assert (numbers >= own).mean() == pytest.approx(share, abs=0.07)
        assert len(set(numbers[numbers < own])) == (own if share < 1 else 0)
        assert len(set(numbers[numbers >= own])) == (20 if share else 0)


def test_values_that_are_not_8_bit_are_stretched_as_for_prediction(tmp_path: Path, write_image) -> None:
    rng = np.random.default_rng(0)
    values = [rng.integers(100, 4000, (3, 40, 40)).astype(np.uint16) for _ in range(2)]
    for name, image in zip(("A", "B"), values, strict=True):
        write_image(tmp_path / "train" / name / "x.tif", image)
    write_image(tmp_path / "train" / "label" / "x.png", np.zeros((40, 40), np.uint8))
    recipe = replace(PLAIN, crop_px=40, stretch=(1.0, 99.0), augmentation=Augmentation.only())
    crop = CropDataset(open_pairs(tmp_path, "train"), recipe)[0]
    scaling = choose_scaling(*values, None, CARD.replace(stretch=(1.0, 99.0)))
    np.testing.assert_allclose(crop.before, scaling.apply(values[0]) / 255, atol=1e-6)
    np.testing.assert_allclose(crop.after, scaling.apply(values[1]) / 255, atol=1e-6)
    with pytest.raises(DataError, match="cut it with `terradelta data tile`"):
        CropDataset(open_pairs(tmp_path, "train"), replace(recipe, cache_mb=0))[0]
