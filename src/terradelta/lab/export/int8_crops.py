"""Crops of image pairs on which a network's ranges are measured; no label is read."""

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from terradelta.card import ModelCard
from terradelta.errors import DataError
from terradelta.geo.grid import Tile
from terradelta.lab.data.custom import ALL
from terradelta.lab.data.opening import find_data
from terradelta.lab.data.pair_table import read_rows
from terradelta.raster.pair import Pair, open_pair
from terradelta.raster.scaling import Scaling, choose_scaling, scaled_dates, scaling_of

__all__ = ["CalibrationCrops", "LabelledCrops", "read_calibration"]

Dates = tuple[NDArray[np.float32], NDArray[np.float32]]
_TRIES = 20
"""Places that are drawn in a scene until one holds data."""


@dataclass(frozen=True)
class CalibrationCrops:
    """Crops of a fixed set of pairs, as raw values ``(C, side, side)`` of both dates."""

    name: str
    """What the data are called."""
    pairs: int
    """From how many pairs they were cut."""
    sha256: str
    """Hash of the crops' values, in order."""
    crops: tuple[Dates, ...]


class _Pairs(Protocol):
    """What crops are cut from."""

    name: str

    def __len__(self) -> int: ...

    def size(self, index: int) -> tuple[int, int]: ...

    def crop(self, index: int, window: Tile) -> Dates | None: ...


def read_calibration(location: str, card: ModelCard, count: int, side: int, seed: int = 0) -> CalibrationCrops:
    """Cut crops at random places of pairs that are spread evenly over the data.

    Args:
        location: labelled pairs as for training: the split ``train``, or all where there are no splits; or
            ``BEFORE,AFTER``, two images; or a CSV file with columns ``before`` and ``after``, one pair a line.
        card: of the model; says bands and scale.
        count: how many crops.
        side: height and width of a crop in pixels; of smaller images, as much as there is, in multiples of the stride.
        seed: of the places.

    Raises:
        DataError: if there are no such pairs, or none of them is as large as the model's stride or holds data.
        BandError: if the pairs do not have the model's bands.
    """
    rng = np.random.default_rng(seed)
    with ExitStack() as stack:
        pairs = _open(location, card, stack)
        crops: list[Dates] = []
        used: set[int] = set()
        for index in np.linspace(0, len(pairs) - 1, count).round().astype(int).tolist():
            found = _draw(pairs, index, card.stride, side, rng)
            if found is not None:
                used.add(index)
                crops.append(found)
    if not crops:
        raise DataError(
            f"{location}: no pair holds data in {card.stride} x {card.stride} pixels, the least that model "
            f"{card.name!r} takes; give larger images"
        )
    digest = hashlib.sha256()
    for dates in crops:
        for values in dates:
            digest.update(values.tobytes())
    return CalibrationCrops(pairs.name, len(used), digest.hexdigest(), tuple(crops))


def _draw(pairs: _Pairs, index: int, stride: int, side: int, rng: np.random.Generator) -> Dates | None:
    """A crop of one pair; None where it is too small, or nothing was found that holds data."""
    height, width = pairs.size(index)
    rows, cols = (min(side, extent) // stride * stride for extent in (height, width))
    if rows == 0 or cols == 0:
        return None
    for _ in range(_TRIES):
        row, col = int(rng.integers(height - rows + 1)), int(rng.integers(width - cols + 1))
        found = pairs.crop(index, Tile(row, col, rows, cols))
        if found is not None:
            return found
    return None


def _open(location: str, card: ModelCard, stack: ExitStack) -> _Pairs:
    table = Path(location).expanduser()
    if table.suffix.lower() == ".csv" and table.is_file():
        rows = [row for _, row in read_rows(table, ("before", "after"), ("label",))]
        if not any(row["label"] for row in rows):
            return _Scenes(table.name, [_beside(table, row["before"], row["after"]) for row in rows], card, stack)
    images = [part.strip() for part in location.split(",")]
    if len(images) == 2 and all(Path(image).expanduser().is_file() for image in images):
        names = f"{Path(images[0]).name}, {Path(images[1]).name}"
        return _Scenes(names, [(Path(images[0]).expanduser(), Path(images[1]).expanduser())], card, stack)
    return LabelledCrops(location, card)


def _beside(table: Path, before: str, after: str) -> tuple[Path, Path]:
    """Paths as the table's folder sees them."""
    return table.parent / Path(before).expanduser(), table.parent / Path(after).expanduser()


class LabelledCrops:
    """Windows of pairs as for training, as the model takes them; their labels are not decoded.

    Args:
        location: see `read_calibration`.
        card: of the model.
        split: None: ``train``, or all where there are no splits.
    """

    def __init__(self, location: str, card: ModelCard, split: str | None = None) -> None:
        self._card = card
        self._scaling: tuple[int, Scaling | None] | None = None
        _, layout = find_data(location)
        self._pairs = layout.pairs(split or ("train" if "train" in layout.splits else ALL))
        self.name = f"{self._pairs.name} {self._pairs.split}"

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self._pairs)

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of a pair."""
        return self._pairs.size(index)

    def crop(self, index: int, window: Tile) -> Dates | None:
        """Both dates in a window of a pair, ``(C, h, w)``."""
        if self._scaling is None or self._scaling[0] != index:
            self._scaling = index, self._scaling_of(index)
        found = scaled_dates(self._pairs.read_dates(index, window), None, self._scaling[1], self._card.fill)
        return found[0].astype(np.float32), found[1].astype(np.float32)

    def _scaling_of(self, index: int) -> Scaling | None:
        """What the whole pair needs; most cards and 8-bit images need nothing, so nothing more is read."""
        if self._card.stretch is None:
            return None
        height, width = self._pairs.size(index)
        corner = self._pairs.read_dates(index, Tile(0, 0, 1, 1))
        if choose_scaling(*corner, None, self._card) is None:
            return None
        return choose_scaling(*self._pairs.read_dates(index, Tile(0, 0, height, width)), None, self._card)


class _Scenes:
    """Pairs of images without labels, on one grid, scaled as `map` does."""

    def __init__(self, name: str, files: Sequence[tuple[Path, Path]], card: ModelCard, stack: ExitStack) -> None:
        self.name = name
        self._files, self._card, self._stack = files, card, stack
        self._open: tuple[int, Pair, Scaling | None] | None = None

    def __len__(self) -> int:
        return len(self._files)

    def size(self, index: int) -> tuple[int, int]:
        pair, _ = self._pair(index)
        return pair.grid.shape

    def crop(self, index: int, window: Tile) -> Dates | None:
        pair, scaling = self._pair(index)
        found = pair.read(window)
        if found.valid.mean() < 0.5:
            return None
        before, after = scaled_dates((found.before, found.after), found.valid, scaling, self._card.fill)
        return before.astype(np.float32), after.astype(np.float32)

    def _pair(self, index: int) -> tuple[Pair, Scaling | None]:
        if self._open is None or self._open[0] != index:
            self._stack.close()  # one pair at a time: a table may list thousands
            before, after = self._files[index]
            pair = self._stack.enter_context(open_pair(before, after, wanted=self._card.bands))
            self._open = index, pair, scaling_of(pair, self._card)
        return self._open[1:]
