"""A small product to be judged."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from tests.mapping.conftest import PixelPredictor

from terradelta.mapping.run import MapOptions, map_change

CHANGES = ((10, 20, 12, 16), (40, 60, 8, 8), (70, 10, 6, 20))
"""Row, column, height and width of what changed, in the order of the polygons' ids."""
SHAPE = (100, 140)
PLACE = Affine(0.5, 0, 600000, 0, -0.5, 3400000)


def write_dates(folder: Path, **options: object) -> tuple[Path, Path]:
    """Both dates as 8-bit GeoTIFFs of half-metre pixels in UTM 14 N; options override rasterio's profile."""
    rng = np.random.default_rng(0)
    before = rng.integers(60, 100, (3, *SHAPE)).astype(np.uint8)
    after = before.copy()
    for row, col, height, width in CHANGES:
        after[:, row : row + height, col : col + width] += 140
    paths = folder / "before.tif", folder / "after.tif"
    profile = {"driver": "GTiff", "count": 3, "height": SHAPE[0], "width": SHAPE[1], "dtype": "uint8"}
    for path, values in zip(paths, (before, after), strict=True):
        place = {"crs": "EPSG:32614", "transform": PLACE}
        with rasterio.open(path, "w", **{**profile, **place, **options}) as target:
            target.write(values)
    return paths


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both dates and their product ``out``; not to be written to."""
    folder = tmp_path_factory.mktemp("made")
    map_change(*write_dates(folder), folder / "out", PixelPredictor(), MapOptions(min_area_m2=0))
    return folder


@pytest.fixture
def product(made: Path, tmp_path: Path) -> Path:
    """A copy of the product; its images stay where they were."""
    return Path(shutil.copytree(made / "out", tmp_path / "out"))


def box(row: float, col: float, height: float, width: float) -> list[list[float]]:
    """A closed ring around pixels, in the CRS of the product."""
    corners = ((col, row), (col + width, row), (col + width, row + height), (col, row + height), (col, row))
    return [[PLACE.a * x + PLACE.c, PLACE.e * y + PLACE.f] for x, y in corners]
