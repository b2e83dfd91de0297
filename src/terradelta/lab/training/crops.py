"""Training crops: crop k of a run depends on (seed, k) alone, so a resumed run sees what an unbroken one does."""

import signal
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from terradelta.card import ModelCard
from terradelta.errors import DataError
from terradelta.geo.grid import Tile
from terradelta.lab.data.pairs import LabelledPair, PairSource
from terradelta.lab.training.augment import Augmenter, Crop, pasted, twin
from terradelta.lab.training.config import Recipe
from terradelta.machine import cores
from terradelta.raster.scaling import choose_scaling

__all__ = ["Crop", "CropDataset", "collate", "crop_loader", "loading_processes", "measure_bands"]

DRAWS = 8
"""Pairs that are tried for a crop near change, in data where few pairs hold any."""
WHOLLY = 0.9999
"""A resized mask from which a pixel is known: 1 but for rounding."""
STRIP_PX = 2**24
"""Labels of large pairs are looked through in strips of about this many pixels."""


class _Changed:
    """Where a label has changed pixels, to draw one of them: packed bits and counts of rows, an eighth of the label."""

    def __init__(self, strips: Iterable[NDArray[np.bool_]]) -> None:
        rows = [(np.packbits(strip, axis=1), strip.sum(1)) for strip in strips]
        self.bits = np.concatenate([bits for bits, _ in rows])
        self.ends = np.cumsum(np.concatenate([counts for _, counts in rows]))

    @property
    def count(self) -> int:
        return int(self.ends[-1])

    def pixel(self, number: int) -> tuple[int, int]:
        """(row, col) of changed pixel ``number`` in reading order."""
        row = int(np.searchsorted(self.ends, number, side="right"))
        before = int(self.ends[row - 1]) if row else 0
        return row, int(np.flatnonzero(np.unpackbits(self.bits[row]))[number - before])


class CropDataset(Dataset[Crop]):
    """Crop k for any k >= 0: endless, seeded, without epochs.

    Pairs are decoded once and kept, within ``recipe.cache_mb``. One that would take more than a quarter of that is read
    in the windows of its crops instead, which is quick for tiled files.
    """

    def __init__(self, pairs: PairSource, recipe: Recipe) -> None:
        self.pairs = pairs
        self.recipe = recipe
        self._sizes: dict[int, tuple[int, int]] = {}
        self._changed: dict[int, _Changed] = {}
        self._cache: OrderedDict[int, LabelledPair] = OrderedDict()
        self._cached_bytes = 0
        self._chances: NDArray[np.float64] | None = None

    def __getitem__(self, index: int) -> Crop:
        rng = np.random.default_rng((self.recipe.seed, index))
        near_change = bool(rng.uniform() < self.recipe.change_crops)
        crop = self._draw(index, rng, near_change)
        chosen = self.recipe.augmentation
        if chosen.p_paste and rng.uniform() < chosen.p_paste:
            crop = pasted(crop, self._draw(index, rng, near_change=True), rng)
        if chosen.p_twin and rng.uniform() < chosen.p_twin:
            crop = twin(crop, rng)
        return crop

    def _draw(self, index: int, rng: np.random.Generator, near_change: bool) -> Crop:
        """A window of some pair, turned and resized to a crop."""
        number = self._number(rng, near_change)
        cut = self._cut(number, self._window(number, rng, near_change))
        before, after, label, *known = _turn(cut, rng, self.recipe.augmentation.orientations)
        size = self.recipe.crop_px
        scale = np.float32(self.recipe.scale)
        dates = [_resize(x.astype(np.float32) / scale, size) for x in (before, after)]
        mask = _resize(label.astype(np.float32), size)[0] >= 0.5
        told = [_resize(x.astype(np.float32), size)[0] > WHOLLY for x in known]
        masks = [x.astype(np.float32) for x in (mask & told[0] if told else mask, *told)]
        return Crop(index, dates[0], dates[1], *masks)

    def _number(self, rng: np.random.Generator, near_change: bool) -> int:
        """Which pair; for a crop near change, one that holds some, unless a few draws find none."""
        number = 0
        for _ in range(DRAWS if near_change else 1):
            number = self._any_number(rng)
            if near_change and self._where_changed(number).count:
                break
        return number

    def _any_number(self, rng: np.random.Generator) -> int:
        if self.recipe.replay is not None:
            own, share = self.recipe.replay
            return int(rng.integers(own, len(self.pairs)) if rng.uniform() < share else rng.integers(own))
        if self.recipe.sampling == "pairs" and not self.recipe.oftener:
            return int(rng.integers(len(self.pairs)))
        if self._chances is None:
            self._chances = np.cumsum([self._chance(k) for k in range(len(self.pairs))])
        return int(np.searchsorted(self._chances, rng.uniform() * self._chances[-1], side="right"))

    def _chance(self, number: int) -> float:
        """How often a pair is drawn, up to a factor that all share."""
        size = self._size(number) if self.recipe.sampling == "area" else (1, 1)
        return size[0] * size[1] * self.recipe.weight_of(self.pairs.files[number].name)

    def _cut(self, number: int, window: tuple[int, int, int]) -> list[NDArray[Any]]:
        """Both dates, the label ``(1, side, side)`` and, unless it is everywhere, where that is known.

        The window may reach over the image.
        """
        inner, pads = _inside(window, self._size(number))
        if self._is_large(number):
            pair = self._checked(self._part(number, inner))
            parts = _arrays(pair)
        else:
            parts = [x[:, *inner.slices] for x in _arrays(self._read(number))]
        if not any(map(any, pads)):
            return parts
        return [np.pad(x, ((0, 0), *pads), mode="reflect") for x in parts]

    def _part(self, number: int, window: Tile) -> LabelledPair:
        pair = self.pairs.read_window(number, window)
        if self.recipe.stretch is not None and not pair.before.dtype == pair.after.dtype == np.uint8:
            raise DataError(
                f"{pair.name}: its values are stretched by those of the whole pair, which is too large to be kept "
                "(Recipe.cache_mb); cut it with `terradelta data tile`"
            )
        return pair

    def _size(self, number: int) -> tuple[int, int]:
        if number not in self._sizes:
            self._sizes[number] = self.pairs.size(number)
        return self._sizes[number]

    def _is_large(self, number: int) -> bool:
        height, width = self._size(number)
        return height * width * (2 * len(self.recipe.bands) + 1) > self.recipe.cache_mb * 2**20 / 4

    def _read(self, number: int) -> LabelledPair:
        if number in self._cache:
            self._cache.move_to_end(number)
            return self._cache[number]
        pair = self._checked(self.pairs.read(number))
        self._cache[number] = pair
        self._cached_bytes += _nbytes(pair)
        while self._cached_bytes > self.recipe.cache_mb * 2**20 and len(self._cache) > 1:
            self._cached_bytes -= _nbytes(self._cache.popitem(last=False)[1])
        return pair

    def _checked(self, pair: LabelledPair) -> LabelledPair:
        if pair.before.shape[0] != len(self.recipe.bands):
            raise DataError(
                f"{pair.name}: {pair.before.shape[0]} bands, but the recipe names {len(self.recipe.bands)} "
                f"({', '.join(self.recipe.bands)}); set Recipe.bands and the network's in_channels"
            )
        return pair if self.recipe.stretch is None else self._stretched(pair)

    def _stretched(self, pair: LabelledPair) -> LabelledPair:
        """The pair with its values as `Scoring.predict` takes them, by what it holds as a whole."""
        n = len(self.recipe.bands)
        stretch = {"scale": self.recipe.scale, "stretch": self.recipe.stretch}
        card = ModelCard(self.recipe.name, self.recipe.network, self.recipe.bands, (0.0,) * n, (1.0,) * n, **stretch)  # type: ignore[arg-type]
        scaling = choose_scaling(pair.before, pair.after, pair.valid, card)
        if scaling is None:
            return pair
        return replace(pair, before=scaling.apply(pair.before), after=scaling.apply(pair.after))

    def _where_changed(self, number: int) -> _Changed:
        if number not in self._changed:
            self._changed[number] = _Changed(self._label_strips(number))
        return self._changed[number]

    def _label_strips(self, number: int) -> Iterator[NDArray[np.bool_]]:
        if not self._is_large(number):
            yield self._read(number).label
            return
        height, width = self._size(number)
        rows = max(STRIP_PX // width, 1)
        for row in range(0, height, rows):
            yield self.pairs.read_window(number, Tile(row, 0, min(rows, height - row), width)).label

    def _window(self, number: int, rng: np.random.Generator, near_change: bool) -> tuple[int, int, int]:
        """(row, col, side) of the window to cut; it may reach over the image, where it is reflected."""
        low, high = self.recipe.zoom_of(self.pairs.files[number].name)
        side = round(self.recipe.crop_px * float(np.exp(rng.uniform(np.log(low), np.log(high)))))
        size = np.array(self._size(number))
        side = min(side, 2 * int(size.min()) - 1)
        jitter = rng.uniform(0, 1, 2)
        corner = np.floor(jitter * (size - side + 1)).astype(int)
        if near_change:
            changed = self._where_changed(number)
            if changed.count:
                corner = changed.pixel(int(rng.integers(changed.count))) - np.floor(jitter * side).astype(int)
        row, col = np.clip(corner, np.minimum(size - side, 0), np.maximum(size - side, 0))
        return int(row), int(col), side


def _nbytes(pair: LabelledPair) -> int:
    return sum(x.nbytes for x in _arrays(pair))


def _arrays(pair: LabelledPair) -> list[NDArray[Any]]:
    """Both dates, label and, unless it is everywhere, where that is known; ``(C, H, W)`` each."""
    parts = [pair.before, pair.after, pair.label[None]]
    return parts if pair.known is None else [*parts, pair.known[None]]


def _inside(window: tuple[int, int, int], size: tuple[int, int]) -> tuple[Tile, tuple[tuple[int, int], ...]]:
    """The part of a window inside an image, and how many rows and columns are missing at its (start, end)."""
    *corner, side = window
    spans = [(max(at, 0), min(at + side, length)) for at, length in zip(corner, size, strict=True)]
    pads = tuple((start - at, at + side - stop) for at, (start, stop) in zip(corner, spans, strict=True))
    (top, bottom), (left, right) = spans
    return Tile(top, left, bottom - top, right - left), pads


def _turn(arrays: Iterable[NDArray[Any]], rng: np.random.Generator, orientations: str) -> list[NDArray[Any]]:
    """One of the allowed orientations of the square, the same for all."""
    quarter, flip = int(rng.integers(4)), bool(rng.integers(2))
    if orientations == "none":
        quarter, flip = 0, False
    elif orientations == "flips":  # half a turn is both flips
        quarter = quarter // 2 * 2
    turned = [np.rot90(x, quarter, (1, 2)) for x in arrays]
    return [np.ascontiguousarray(x[:, :, ::-1] if flip else x) for x in turned]


def _resize(values: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """``(C, side, side) -> (C, size, size)``, bilinear; what shrinks is smoothed first, so that nothing aliases."""
    if values.shape[1:] == (size, size):
        return values
    tensor = torch.nn.functional.interpolate(
        torch.from_numpy(values)[None], size=(size, size), mode="bilinear", align_corners=False, antialias=True
    )
    return np.asarray(tensor[0].numpy())


def collate(augmenter: Augmenter | None, card: ModelCard, seed: int) -> Callable[[list[Crop]], tuple[Tensor, ...]]:
    """A function that makes a batch of crops: augmented, normalised by the card.

    A batch is (before, after, label) and, if the label of a crop is not known everywhere, where it is, 0 or 1.

    Each crop is augmented from its own number, so it does not matter with which others it shares a batch: one large
    batch, several accumulated ones and several devices see the same crops. This costs no more than all at once.
    """

    def one(crop: Crop) -> tuple[Tensor, Tensor, Tensor]:
        before, after = torch.from_numpy(crop.before)[None], torch.from_numpy(crop.after)[None]
        label = torch.from_numpy(crop.label)[None, None]
        if crop.known is not None:  # what comes in at the corners is known: it is unchanged
            label = torch.cat([label, 1 - torch.from_numpy(crop.known)[None, None]], 1)
        if augmenter is None:
            return before, after, label
        own_seed = int(np.random.SeedSequence((seed, crop.index)).generate_state(1)[0])
        return augmenter(before, after, label, own_seed)

    def batch(crops: list[Crop]) -> tuple[Tensor, ...]:
        parts = list(zip(*map(one, crops), strict=True))
        before, after = (torch.cat(dates) for dates in parts[:2])
        label = torch.cat([x[:, :1] for x in parts[2]])
        dates = [torch.from_numpy(card.normalise(x.numpy() * np.float32(card.scale))) for x in (before, after)]
        tensors = dates[0], dates[1], (label >= 0.5).float()
        if all(crop.known is None for crop in crops):
            return tensors
        return *tensors, torch.cat([_known(x) for x in parts[2]])

    return batch


def _known(label: Tensor) -> Tensor:
    """``(1, 1, H, W)``, 1 where a label is known whose second map, if it has one, is 0 there."""
    return (label[:, 1:] <= 1 - WHOLLY).float() if label.shape[1] > 1 else torch.ones_like(label)


class _Batches(Sampler[list[int]]):
    """Numbers of the crops of batch ``start`` to ``stop``, for one of ``world`` devices."""

    def __init__(self, start: int, stop: int, size: int, rank: int, world: int) -> None:
        self.start, self.stop, self.size, self.rank, self.world = start, stop, size, rank, world

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[int]]:
        for number in range(self.start, self.stop):
            first = (number * self.world + self.rank) * self.size
            yield list(range(first, first + self.size))


def _leave_interrupts_to_parent(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def loading_processes(wanted: int) -> int:
    """``wanted``, but no more than there are cores for this process: samples are the same for any number."""
    return min(wanted, cores())


def crop_loader(
    pairs: PairSource, recipe: Recipe, card: ModelCard, start_step: int, *, rank: int = 0, world: int = 1
) -> DataLoader[Crop]:
    """Batches ``(before, after, label)`` of the steps from ``start_step`` on, ``recipe.accumulate`` of them a step."""
    dataset = CropDataset(pairs, recipe)
    start, stop = (step * recipe.accumulate for step in (start_step, recipe.steps))
    workers = loading_processes(recipe.workers)
    return DataLoader(
        dataset,
        batch_sampler=_Batches(start, stop, recipe.batch_size, rank, world),
        collate_fn=collate(Augmenter(recipe.augmentation), card, recipe.seed),
        num_workers=workers,
        worker_init_fn=_leave_interrupts_to_parent,
        persistent_workers=workers > 0,
        # The loader draws a number when it starts; from the global generator, a resumed run would be one ahead.
        generator=torch.Generator(),
    )


def measure_bands(pairs: PairSource, recipe: Recipe, samples: int = 64) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each band over both dates of some training crops, in units of the scale."""
    crops = CropDataset(pairs, recipe)
    values = [x for k in range(samples) for x in (crops[k].before, crops[k].after)]
    bands = np.stack(values).astype(np.float64).swapaxes(0, 1).reshape(len(recipe.bands), -1)  # (C, n)
    std = np.maximum(bands.std(1), 1e-3)
    return tuple(np.round(bands.mean(1), 4).tolist()), tuple(np.round(std, 4).tolist())
