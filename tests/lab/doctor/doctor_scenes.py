"""Data sets for the doctor: healthy ones, to be given one fault."""

from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from terradelta.lab.doctor import Checkup, check_dataset, grouped

SIDE = 72
UTM = "EPSG:32614"
TIFF = {"A": ".tif", "B": ".tif"}


def scene(seed: int, side: int = SIDE) -> np.ndarray:
    """A picture with structure at several scales, as images of the ground have: ``(3, side, side)`` uint8."""
    rng = np.random.default_rng(seed)
    grey = sum(gaussian_filter(rng.normal(size=(side, side)), s) * s for s in (0.7, 2, 5))
    grey = 120 + 40 * grey / grey.std()
    return np.clip(grey[None] + rng.normal(0, 2, (3, side, side)) + [[[5]], [[0]], [[-5]]], 0, 255).astype(np.uint8)


def square(seed: int, value: int = 255, side: int = SIDE) -> np.ndarray:
    label = np.zeros((side, side), np.uint8)
    row, col = np.random.default_rng(seed).integers(0, side - 20, 2)
    label[row : row + 18, col : col + 18] = value
    return label


class Builder:
    """Writes pairs; pair k of a split has scenes of its own unless others are given."""

    def __init__(self, root: Path, write_image) -> None:
        self.root, self.write_image = root, write_image

    def pair(self, split: str, name: str, seed: int, before=None, after=None, label=None, suffixes=None) -> None:
        parts = {
            "A": scene(2 * seed) if before is None else before,
            "B": scene(2 * seed + 1) if after is None else after,
            "label": square(seed) if label is None else label,
        }
        for part, values in parts.items():
            suffix = (suffixes or {}).get(part, ".png")
            self.write_image(self.root / split / part / f"{name}{suffix}", values)

    def healthy(self) -> "Builder":
        for k, split in enumerate(("train", "train", "train", "val", "test")):
            self.pair(split, f"p{k}", 100 + k)
        return self

    def check(self) -> Checkup:
        return check_dataset(self.root)


def kinds(checkup: Checkup) -> dict[str, int]:
    return {kind: len(found) for (_, kind), found in grouped(checkup.findings).items()}
