"""A predictor without a network, and rasters to map."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from scipy import ndimage

from terradelta.card import STRETCH, ModelCard
from terradelta.predict.predictor import Predictor

STRIDE = 16
REACH = 40


class BoxPredictor(Predictor):
    """Mean difference of the bands over windows of 2 x 40 + 1 pixels: a known, finite receptive field."""

    def __init__(self) -> None:
        card = ModelCard(
            name="box",
            network="none",
            bands=("red", "green", "blue"),
            mean=(0.5,) * 3,
            std=(0.25,) * 3,
            stretch=STRETCH,
            stride=STRIDE,
            tile=256,
            overlap=128,
            gsd_m=(0.4, 0.8),
        )
        super().__init__(card)
        self.calls: list[tuple[int, ...]] = []

    def logits(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        self.calls.append(before.shape)
        difference = np.abs(after - before).mean(1, keepdims=True)
        side = 2 * REACH + 1
        smooth = ndimage.uniform_filter(difference, (1, 1, side, side), mode="constant")
        return (8 * smooth - 2).astype(np.float32)


class PixelPredictor(BoxPredictor):
    """Changed where the bands differ by more than one standard deviation: every pixel for itself."""

    def logits(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        difference = np.abs(after - before).mean(1, keepdims=True)
        return (10 * (difference - 1)).astype(np.float32)


Writer = Callable[..., Path]


@pytest.fixture
def write_tiff(tmp_path: Path) -> Writer:
    """Write ``(C, H, W)`` as a GeoTIFF of half-metre pixels in UTM 14 N; options override rasterio's profile."""

    def write(name: str, values: NDArray[np.generic], **options: object) -> Path:
        path = tmp_path / name
        profile = {
            "driver": "GTiff",
            "count": values.shape[0],
            "height": values.shape[1],
            "width": values.shape[2],
            "dtype": values.dtype.name,
            "crs": "EPSG:32614",
            "transform": Affine(0.5, 0, 600000, 0, -0.5, 3400000),
            **options,
        }
        with rasterio.open(path, "w", **profile) as target:
            target.write(values)
        return path

    return write


@pytest.fixture
def pair_values() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Two dates ``(3, 300, 420)``, equal but for a rectangle of 60 x 80 pixels at row 100, col 200 and one of 4 x 4."""
    rng = np.random.default_rng(0)
    before = rng.integers(60, 100, (3, 300, 420)).astype(np.uint8)
    after = before.copy()
    after[:, 100:160, 200:280] += 140
    after[:, 10:14, 10:14] += 140
    return before, after
