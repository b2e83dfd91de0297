"""Small images with the real formats of data sets."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

from .doctor.doctor_scenes import Builder

DRIVERS = {".png": "PNG", ".jpg": "JPEG", ".tif": "GTiff", ".bmp": "BMP"}
WriteImage = Callable[..., Path]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    kind = NotGeoreferencedWarning
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings(f"ignore::{kind.__module__}.{kind.__qualname__}"))


@pytest.fixture(scope="session")
def write_image() -> WriteImage:
    """``write_image(path, values, **profile)``: values ``(H, W)`` or ``(C, H, W)``; the suffix chooses the format."""

    def write(path: Path, values: NDArray[np.generic], colormap: dict[int, tuple[int, ...]] | None = None, **profile):
        path.parent.mkdir(parents=True, exist_ok=True)
        values = values if values.ndim == 3 else values[None]
        size = {"count": values.shape[0], "height": values.shape[1], "width": values.shape[2]}
        with rasterio.open(path, "w", driver=DRIVERS[path.suffix], dtype=values.dtype, **size, **profile) as target:
            target.write(values)
            if colormap is not None:
                target.write_colormap(1, colormap)
        return path

    return write


@pytest.fixture(scope="session")
def noise() -> Callable[..., NDArray[np.uint8]]:
    """``noise(seed, bands, height, width)``: an image of random values, 0 to 255."""

    def make(seed: int, bands: int = 3, height: int = 20, width: int = 24) -> NDArray[np.uint8]:
        return np.random.default_rng(seed).integers(0, 256, (bands, height, width), np.uint8)

    return make


@pytest.fixture
def data(tmp_path: Path, write_image: WriteImage) -> Builder:
    """A healthy data set of five pairs in ``tmp_path / "data"``."""
    return Builder(tmp_path / "data", write_image).healthy()
