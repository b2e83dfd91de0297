"""The demonstration: a synthetic pair whose truth is known, on two grids, as in practice."""

from pathlib import Path

import numpy as np
import rasterio
from rasterio.windows import from_bounds

from terradelta.lab.data.pairs import PairFiles
from terradelta.lab.metrics import confusion
from terradelta.lab.synthetic import SceneConfig, make_scene, other_grid, write_pair
from terradelta.products.writer import CHANGE

__all__ = ["make_demo_pair", "score_map"]

SECOND_GSD_M = 0.6
SECOND_SHIFT_M = (3.7, -2.2)


def make_demo_pair(folder: Path, *, side: int = 1024, seed: int = 7) -> PairFiles:
    """Write ``before.tif``, ``after.tif`` (0.6 m, shifted origin) and ``label.tif`` of a synthetic suburb.

    Args:
        folder: folder to make.
        side: height and width of the first date, pixels of 0.5 m; at least 64.
        seed: which scene.
    """
    scene = make_scene(SceneConfig(height=side, width=side), seed)
    folder.mkdir(parents=True, exist_ok=True)
    return write_pair(scene, folder, after_grid=other_grid(scene.grid, SECOND_GSD_M, SECOND_SHIFT_M))


def score_map(product: Path, label: Path) -> dict[str, float]:
    """Metrics, as fractions, of the ``change.tif`` in ``product`` against a label on the same grid or a larger one."""
    with rasterio.open(product / CHANGE) as source:
        change, bounds = source.read(1), source.bounds
    with rasterio.open(label) as source:
        window = from_bounds(*bounds, source.transform).round_offsets().round_lengths()
        truth = source.read(1, window=window) > 0
    return confusion(change == 1, truth, np.asarray(change != 255)).metrics()
