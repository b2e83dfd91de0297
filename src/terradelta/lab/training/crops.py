"""Training crops: crop k of a run depends on (seed, k) alone, so a resumed run sees what an unbroken one does."""

import signal
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import kornia.augmentation as K
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from terradelta.card import ModelCard
from terradelta.errors import DataError
from terradelta.geo.grid import Tile
from terradelta.lab.data.pairs import LabelledPair, PairSource
from terradelta.lab.training.config import Augmentation, Recipe
from terradelta.machine import cores

__all__ = ["Crop", "CropDataset", "collate", "crop_loader", "loading_processes", "measure_bands"]

STRIP_PX = 2**24
"""Labels of large pairs are looked through in strips of about this many pixels."""


@dataclass(frozen=True)
class Crop:
    """One training crop; values in units of the recipe's scale."""

    index: int
    before: NDArray[np.float32]
    """``(C, crop, crop)``."""
    after: NDArray[np.float32]
    label: NDArray[np.float32]
    """``(crop, crop)``, 0 or 1."""


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

    def __getitem__(self, index: int) -> Crop:
        rng = np.random.default_rng((self.recipe.seed, index))
        number = int(rng.integers(len(self.pairs)))
        cut = self._cut(number, self._window(number, rng))
        before, after, label = _turn(cut, rng, self.recipe.augmentation.orientations)
        size = self.recipe.crop_px
        scale = np.float32(self.recipe.scale)
        dates = [_resize(x.astype(np.float32) / scale, size) for x in (before, after)]
        mask = _resize(label.astype(np.float32), size)[0] >= 0.5
        return Crop(index, dates[0], dates[1], mask.astype(np.float32))

    def _cut(self, number: int, window: tuple[int, int, int]) -> list[NDArray[Any]]:
        """Both dates and the label ``(1, side, side)`` in a window that may reach over the image."""
        inner, pads = _inside(window, self._size(number))
        if self._is_large(number):
            pair = self._checked(self.pairs.read_window(number, inner))
            parts: list[NDArray[Any]] = [pair.before, pair.after, pair.label[None]]
        else:
            pair = self._read(number)
            parts = [x[:, *inner.slices] for x in (pair.before, pair.after, pair.label[None])]
        if not any(map(any, pads)):
            return parts
        return [np.pad(x, ((0, 0), *pads), mode="reflect") for x in parts]

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
        return pair

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

    def _window(self, number: int, rng: np.random.Generator) -> tuple[int, int, int]:
        """(row, col, side) of the window to cut; it may reach over the image, where it is reflected."""
        low, high = self.recipe.zoom_of(self.pairs.files[number].name)
        side = round(self.recipe.crop_px * float(np.exp(rng.uniform(np.log(low), np.log(high)))))
        size = np.array(self._size(number))
        side = min(side, 2 * int(size.min()) - 1)
        jitter = rng.uniform(0, 1, 2)
        corner = np.floor(jitter * (size - side + 1)).astype(int)
        if rng.uniform() < self.recipe.change_crops:
            changed = self._where_changed(number)
            if changed.count:
                corner = changed.pixel(int(rng.integers(changed.count))) - np.floor(jitter * side).astype(int)
        row, col = np.clip(corner, np.minimum(size - side, 0), np.maximum(size - side, 0))
        return int(row), int(col), side


def _nbytes(pair: LabelledPair) -> int:
    return int(pair.before.nbytes + pair.after.nbytes + pair.label.nbytes)


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


class Augmenter:
    """Random changes to a batch of crops from one seed."""

    def __init__(self, config: Augmentation) -> None:
        self.config = config
        # kornia computes what it then does not use, so what never happens is not there.
        self.geometry = self.colour = self.noise = None
        if config.p_rotation:
            rotation = K.RandomRotation(config.rotation_deg, p=config.p_rotation)
            self.geometry = K.AugmentationSequential(rotation, data_keys=["input", "input", "mask"])
        strengths = (config.brightness, config.contrast, config.saturation, config.hue)
        colour = [K.ColorJiggle(*strengths, p=config.p_colour)] if config.p_colour else []
        blur = [K.RandomGaussianBlur((5, 5), (0.3, 1.5), p=config.p_blur)] if config.p_blur else []
        if colour or blur:
            self.colour = K.AugmentationSequential(*colour, *blur, data_keys=["input"])
        # Colours and noise lead beyond 0 and 1, where no image has values; nothing else does, so decibels stay whole.
        self.cuts_off = bool(config.p_colour or config.p_noise)
        if config.p_noise:
            self.noise = K.RandomGaussianNoise(0.0, config.noise, p=config.p_noise)

    def __call__(self, before: Tensor, after: Tensor, label: Tensor, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        """``(B, C, H, W)`` in [0, 1] twice and ``(B, 1, H, W)`` in {0, 1}; the same sizes come back."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if self.geometry is not None:
                before, after, label = self.geometry(before, after, label)
            after = self._shift(after)
            before, after = (self._photometric(x) for x in (before, after))
        return before, after, label

    def _photometric(self, x: Tensor) -> Tensor:
        if x.shape[1] == 3:
            x = x if self.colour is None else self.colour(x)
        elif self.config.p_colour:
            moves = torch.rand(x.shape[0], 1, 1, 1) < self.config.p_colour
            x = x * (1 + moves * (2 * torch.rand(x.shape[0], x.shape[1], 1, 1) - 1) * self.config.brightness)
        if not self.cuts_off:
            return x
        noisy: Tensor = x if self.noise is None else self.noise(x)
        return noisy.clamp(0, 1)

    def _shift(self, x: Tensor) -> Tensor:
        shifted = []
        for image in x:
            moves = self.config.shift_px and torch.rand(()) < self.config.p_shift
            shifted.append(_moved(image, self.config.shift_px) if moves else image)
        return torch.stack(shifted)


def _moved(image: Tensor, reach: int) -> Tensor:
    """Move ``(C, H, W)`` by up to ``reach`` whole pixels along each axis; the border is repeated."""
    d_row, d_col = (int(v) for v in torch.randint(0, 2 * reach + 1, (2,)))
    padded = torch.nn.functional.pad(image[None], (reach,) * 4, mode="replicate")[0]
    return padded[:, d_row : d_row + image.shape[1], d_col : d_col + image.shape[2]]


def collate(augmenter: Augmenter | None, card: ModelCard, seed: int) -> Callable[[list[Crop]], tuple[Tensor, ...]]:
    """A function that makes a batch of crops: augmented, normalised by the card.

    Each crop is augmented from its own number, so it does not matter with which others it shares a batch: one large
    batch, several accumulated ones and several devices see the same crops. This costs no more than all at once.
    """

    def one(crop: Crop) -> tuple[Tensor, Tensor, Tensor]:
        before, after = torch.from_numpy(crop.before)[None], torch.from_numpy(crop.after)[None]
        label = torch.from_numpy(crop.label)[None, None]
        if augmenter is None:
            return before, after, label
        own_seed = int(np.random.SeedSequence((seed, crop.index)).generate_state(1)[0])
        return augmenter(before, after, label, own_seed)

    def batch(crops: list[Crop]) -> tuple[Tensor, ...]:
        before, after, label = (torch.cat(parts) for parts in zip(*map(one, crops), strict=True))
        dates = [torch.from_numpy(card.normalise(x.numpy() * np.float32(card.scale))) for x in (before, after)]
        return dates[0], dates[1], (label >= 0.5).float()

    return batch


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
