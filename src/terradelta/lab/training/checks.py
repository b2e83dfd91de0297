"""A look at all the data before the first step: hours into a run is too late to learn that a file is damaged."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from terradelta.errors import DataError, InputError
from terradelta.geo.grid import Tile
from terradelta.lab.data.images import read_header
from terradelta.lab.data.pairs import PairSource
from terradelta.lab.training.crops import loading_processes

__all__ = ["check_pairs"]

SHOWN = 3
STRIP_PX = 2**26
"""Pairs of more pixels are read in strips of about this many."""
MANY_BEYOND, SOME_BEYOND, FAINT = 0.5, 0.01, 0.02
"""Shares of values beyond 0 to scale that are refused, and warned of; share of the scale that images must reach, below
which the noise of the augmentation drowns them."""


@dataclass(frozen=True)
class _Values:
    """How the values of some images lie to 0 and a scale."""

    count: int = 0
    beyond: int = 0
    low: float = np.inf
    high: float = -np.inf

    @classmethod
    def of(cls, values: NDArray[Any], scale: float) -> Self:
        beyond = int(np.count_nonzero((values < 0) | (values > scale)))
        return cls(values.size, beyond, float(values.min()), float(values.max()))

    def __add__(self, other: "_Values") -> "_Values":
        low, high = min(self.low, other.low), max(self.high, other.high)
        return _Values(self.count + other.count, self.beyond + other.beyond, low, high)


class _Checks(Dataset[tuple[str, _Values]]):
    """What is wrong with each pair, in words, nothing if it can be used; and how its values lie."""

    def __init__(self, pairs: PairSource, bands: tuple[str, ...], decode: bool, scale: float) -> None:
        self.pairs, self.bands, self.decode, self.scale = pairs, bands, decode, scale

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[str, _Values]:
        try:
            return "", self._look(index)
        except InputError as error:
            return str(error), _Values()

    def _look(self, index: int) -> _Values:
        height, width = self.pairs.size(index)  # refuses missing files and sizes that differ
        files = self.pairs.files[index]
        bands = read_header(files.before).bands
        if bands != len(self.bands):
            raise DataError(
                f"{files.name}: {bands} bands, but the recipe names {len(self.bands)} ({', '.join(self.bands)}); set "
                "Recipe.bands and the network's in_channels"
            )
        rows, found = max(STRIP_PX // width, 1), _Values()
        for row in range(0, height if self.decode else 0, rows):
            pair = self.pairs.read_window(index, Tile(row, 0, min(rows, height - row), width))
            for date, values in (("before", pair.before), ("after", pair.after)):
                if not np.isfinite(values).all():
                    raise DataError(
                        f"{pair.name}: the image {date} holds values that are no numbers; fill them, or leave it out"
                    )
                found += _Values.of(values, self.scale)
        return found


def _as_it_is(checked: Any) -> Any:  # noqa: ANN401  one sample, as batches are off
    return checked


def check_pairs(
    pairs: PairSource,
    bands: tuple[str, ...],
    *,
    scale: float = np.inf,
    decode: bool = True,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> str:
    """Make sure that every pair can be trained on.

    Args:
        pairs: training or validation pairs.
        bands: names of the bands that images must have.
        scale: the raw value that counts as 1, if augmentation cuts values off at 0 and 1; infinite: nothing is cut off.
        decode: read every file as a whole: a truncated file, a label with other values than its coding or an image
            with values that are no numbers shows itself only then. Takes about 0.1 s for a pair of 1024 x 1024 pixels.
            Without it, names, sizes and bands are checked.
        workers: processes that read.
        progress: called with (done, total) after every pair.

    Returns:
        A warning about values beyond 0 to ``scale``, or an empty text.

    Raises:
        DataError: names the first pairs that cannot be used, and why; or most values lie beyond 0 to ``scale``, or all
            of them close to 0.
    """
    checks = _Checks(pairs, bands, decode, scale)
    found: list[str] = []
    values = _Values()
    loader = DataLoader(checks, batch_size=None, collate_fn=_as_it_is, num_workers=loading_processes(workers))
    for done, (wrong, lie) in enumerate(loader, 1):
        found += [wrong] if wrong else []
        values += lie
        if progress is not None:
            progress(done, len(checks))
    if found:
        more = f"\n... and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise DataError(
            f"{len(found)} of {len(checks)} {pairs.split} pairs cannot be used; nothing was trained:\n"
            + "\n".join(found[:SHOWN])
            + more
        )
    return _of_scale(pairs.split, values, scale)


def _of_scale(split: str, values: _Values, scale: float) -> str:
    if not values.count or not np.isfinite(scale):
        return ""
    share = values.beyond / values.count
    lie = f"{split} images hold values from {values.low:g} to {values.high:g}"
    cure = (
        "set Recipe.scale to the value that counts as 1 (10000 for Sentinel-2), bring the values to 0 to scale (for "
        "decibels add an offset), or leave out what cuts them off: Augmentation with p_colour=0 and p_noise=0"
    )
    if share > MANY_BEYOND:
        raise DataError(
            f"the {lie}, and {share:.0%} of them lie beyond 0 to {scale:g}, the recipe's scale, where augmentation "
            f"cuts them off: nothing would be left to learn from. {cure[0].upper()}{cure[1:]}"
        )
    if values.high < FAINT * scale:
        raise DataError(
            f"the {lie}, but the recipe's scale is {scale:g}: the noise that augmentation adds would drown them. Set "
            "Recipe.scale to the value that counts as 1"
        )
    if share > SOME_BEYOND:
        return (
            f"the {lie}; {share:.1%} of them lie beyond 0 to {scale:g}, and augmentation cuts them off. If that is too "
            f"much, {cure}"
        )
    return ""
