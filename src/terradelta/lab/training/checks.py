"""A look at all the data before the first step: hours into a run is too late to learn that a file is damaged."""

from collections.abc import Callable

import numpy as np
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


class _Checks(Dataset[str]):
    """What is wrong with each pair, in words; nothing if it can be used."""

    def __init__(self, pairs: PairSource, bands: tuple[str, ...], decode: bool) -> None:
        self.pairs, self.bands, self.decode = pairs, bands, decode

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> str:
        try:
            self._look(index)
        except InputError as error:
            return str(error)
        return ""

    def _look(self, index: int) -> None:
        height, width = self.pairs.size(index)  # refuses missing files and sizes that differ
        files = self.pairs.files[index]
        bands = read_header(files.before).bands
        if bands != len(self.bands):
            raise DataError(
                f"{files.name}: {bands} bands, but the recipe names {len(self.bands)} ({', '.join(self.bands)}); set "
                "Recipe.bands and the network's in_channels"
            )
        rows = max(STRIP_PX // width, 1)
        for row in range(0, height if self.decode else 0, rows):
            pair = self.pairs.read_window(index, Tile(row, 0, min(rows, height - row), width))
            for date, values in (("before", pair.before), ("after", pair.after)):
                if not np.isfinite(values).all():
                    raise DataError(
                        f"{pair.name}: the image {date} holds values that are no numbers; fill them, or leave it out"
                    )


def check_pairs(
    pairs: PairSource,
    bands: tuple[str, ...],
    *,
    decode: bool = True,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Make sure that every pair can be trained on.

    Args:
        pairs: training or validation pairs.
        bands: names of the bands that images must have.
        decode: read every file as a whole: a truncated file, a label with other values than its coding or an image
            with values that are no numbers shows itself only then. Takes about 0.1 s for a pair of 1024 x 1024 pixels.
            Without it, names, sizes and bands are checked.
        workers: processes that read.
        progress: called with (done, total) after every pair.

    Raises:
        DataError: names the first pairs that cannot be used, and why.
    """
    checks = _Checks(pairs, bands, decode)
    found: list[str] = []
    for done, wrong in enumerate(DataLoader(checks, batch_size=None, num_workers=loading_processes(workers)), 1):
        found += [wrong] if wrong else []
        if progress is not None:
            progress(done, len(checks))
    if found:
        more = f"\n... and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise DataError(
            f"{len(found)} of {len(checks)} {pairs.split} pairs cannot be used; nothing was trained:\n"
            + "\n".join(found[:SHOWN])
            + more
        )
