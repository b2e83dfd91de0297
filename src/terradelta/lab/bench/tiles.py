"""The data of a benchmark: whole training images, and the same tiles of val and test for every network."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from terradelta.errors import DataError
from terradelta.geo.grid import Tile
from terradelta.lab.bench.design import Setup
from terradelta.lab.data import PairFiles, PairList, PairSource, open_pairs
from terradelta.lab.synthetic import SceneConfig, write_dataset

__all__ = ["SYNTHETIC", "TiledPairs", "bench_pairs", "make_synthetic", "tiled"]

SYNTHETIC = "synthetic"
SCENES = {"train": 64, "val": 12, "test": 16}
SCENE = SceneConfig(
    height=256,
    width=256,
    gsd_m=0.7,
    building_density=0.9,
    change_rate=0.10,
    tree_density=0.3,
    site_change=0.3,
    season=0.3,
    sun=0.3,
    illumination=0.3,
    cars=0.5,
    repaint=0.02,
    cloud_cover=0.0,
    haze=0.1,
    compression=0.2,
    misregistration_px=0.3,
    parallax=0.03,
)
"""Suburbs with more change and about half the pseudo-change of the default, so that a few hundred steps teach something
while a difference of colours still does not solve them."""
SAMPLE_SEED = 0


class TiledPairs(PairList):
    """Parts of images as pairs of their own; each file is hashed once, however many parts it has."""

    def __init__(self, source: PairSource, files: tuple[PairFiles, ...]) -> None:
        super().__init__(source.root, source.split, files, source.name)
        self._source = source

    def checksum(self) -> str:
        """SHA-256 of the whole images and of which parts are taken."""
        digest = hashlib.sha256(self._source.checksum().encode())
        digest.update("".join(f"{files.name}\n" for files in self.files).encode())
        return digest.hexdigest()


def tiled(source: PairSource, side: int, limit: int = 0) -> TiledPairs:
    """Tiles of ``side`` pixels that do not overlap, from the upper left; what is left over at the edges is left out.

    Args:
        source: whole pairs; one smaller than a tile is taken whole.
        side: of a tile, in pixels.
        limit: at most so many, drawn with a fixed seed, so that all runs see the same; 0: all.
    """
    files = tuple(part for index in range(len(source)) for part in _parts(source, index, side))
    if limit and limit < len(files):
        chosen = np.sort(np.random.default_rng(SAMPLE_SEED).choice(len(files), limit, replace=False))
        files = tuple(files[k] for k in chosen)
    return TiledPairs(source, files)


def _parts(source: PairSource, index: int, side: int) -> Iterator[PairFiles]:
    whole, (height, width) = source.files[index], source.size(index)
    row0, col0 = (whole.window.row, whole.window.col) if whole.window else (0, 0)
    rows, cols = min(side, height), min(side, width)
    for row in range(0, height - rows + 1, rows):
        for col in range(0, width - cols + 1, cols):
            window = Tile(row0 + row, col0 + col, rows, cols)
            yield PairFiles(
                f"{whole.name} row {row} col {col}", whole.before, whole.after, whole.label, whole.coding, window
            )


def bench_pairs(protocol: Setup, folder: Path, split: str) -> PairSource:
    """The pairs of one split: whole images of train, tiles of the others.

    Args:
        protocol: names the data.
        folder: where the synthetic data lie, see `make_synthetic`.
        split: ``train``, ``val`` or ``test``.

    Raises:
        DataError: if there are no such pairs.
    """
    source = open_pairs(folder if protocol.data == SYNTHETIC else protocol.data, split)
    return source if split == "train" else tiled(source, protocol.crop_px, protocol.tiles)


def make_synthetic(folder: Path) -> None:
    """Draw the synthetic data set of a benchmark; goes on where it was stopped.

    Raises:
        DataError: if the folder holds another data set.
        OutputError: if it cannot be written.
    """
    try:
        write_dataset(folder, SCENES, SCENE, seed=0, vary=False)
    except DataError as error:
        raise DataError(
            f"{error} (this terradelta draws other scenes than the one that began {folder.parent})"
        ) from error
