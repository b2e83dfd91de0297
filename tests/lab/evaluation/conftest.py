"""Two pairs of different sizes and a predictor whose answers are known."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

from terradelta.card import ModelCard
from terradelta.lab.data import PairList, open_pairs
from terradelta.predict.predictor import Predictor

Write = Callable[..., PairList]


class Spoken(Predictor):
    """The second image is the probability in percent."""

    def logits(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        p = np.clip(after * 2.55, 1e-6, 1 - 1e-6)
        return np.asarray(np.log(p / (1 - p)), np.float32)


class Brighter(Predictor):
    """Changed where the second date is brighter: a logit of a tenth a grey level."""

    def logits(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray((after - before).mean(axis=1, keepdims=True) * 25.5 - 3, np.float32)


@pytest.fixture
def card() -> ModelCard:
    return ModelCard("w", "none", ("grey",), (0.0,), (1.0,), threshold=0.75, stride=2)


@pytest.fixture
def write_pairs(tmp_path: Path) -> Write:
    """Write pairs given as name -> (before, after, label), each (H, W) or (C, H, W); with `metres` as GeoTIFFs."""

    def write(content: dict[str, tuple], split: str = "test", metres: float | None = None) -> PairList:
        for name, parts in content.items():
            for part, values in zip(("A", "B", "label"), parts, strict=True):
                image = np.array(values, np.uint8)
                image = image[None] if image.ndim == 2 else image
                path = tmp_path / split / part / (f"{name}.tif" if metres else f"{name}.png")
                path.parent.mkdir(parents=True, exist_ok=True)
                profile = {"driver": "PNG", "count": len(image), "height": image.shape[1], "width": image.shape[2]}
                if metres:
                    place = Affine(metres, 0, 500000, 0, -metres, 3400000)
                    profile |= {"driver": "GTiff", "crs": "EPSG:32614", "transform": place}
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", NotGeoreferencedWarning)
                    with rasterio.open(path, "w", dtype="uint8", **profile) as target:
                        target.write(image)
        return open_pairs(tmp_path, split)

    return write


@pytest.fixture
def pairs(write_pairs: Write) -> PairList:
    """Probabilities in percent, as the value of the second image; size 2 x 2 and 1 x 3."""
    return write_pairs(
        {
            "a": (np.zeros((2, 2)), [[90, 80], [60, 10]], [[1, 0], [1, 0]]),
            "b": (np.zeros((1, 3)), [[10, 20, 70]], [[0, 0, 0]]),
        }
    )


@pytest.fixture
def squares(write_pairs: Write) -> PairList:
    """Six RGB pairs of 48 x 40 pixels: textured ground, and a bright square that appears."""
    rng = np.random.default_rng(0)
    content = {}
    for k in range(6):
        before = rng.integers(60, 120, (3, 48, 40))
        after, label = before + rng.integers(-4, 5, before.shape), np.zeros((48, 40))
        top, left, side = 4 + 3 * k, 5 + 2 * k, 6 + 2 * k
        after[:, top : top + side, left : left + side] += 60
        label[top : top + side, left : left + side] = 1
        content[f"s{k}"] = (before, after, label)
    return write_pairs(content)
