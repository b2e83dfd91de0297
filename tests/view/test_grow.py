from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine

from terradelta.errors import InputError, RasterError
from terradelta.geo.grid import Grid
from terradelta.view import grow as grow_module
from terradelta.view.grow import grow
from terradelta.view.probability import Probability

PLACE = Affine(2, 0, 100, 0, -2, 50)


@pytest.fixture
def probability(tmp_path: Path) -> Probability:
    """Two regions of 0.6 that touch at a corner, a hole in the first, an upper part of 0.9; no data at the right."""
    values = np.zeros((12, 12), np.float32)
    values[1:6, 1:6], values[6:9, 6:9], values[3, 3], values[1, 1:6] = 0.6, 0.6, 0.1, 0.9
    values[:, 11] = np.nan
    profile = {"driver": "GTiff", "count": 1, "height": 12, "width": 12, "dtype": "float32", "nodata": np.nan}
    with rasterio.open(tmp_path / "p.tif", "w", crs="EPSG:32614", transform=PLACE, **profile) as target:
        target.write(values, 1)
    with rasterio.open(tmp_path / "p.tif") as source:
        return Probability(tmp_path / "p.tif", Grid(source.crs, source.transform, source.shape))


def at(row: float, col: float) -> tuple[float, float]:
    return PLACE @ (col + 0.5, row + 0.5)


def cells(row: int, col: int, height: int, width: int) -> shapely.Polygon:
    (x, y), (right, bottom) = PLACE @ (col, row), PLACE @ (col + width, row + height)
    return shapely.box(x, bottom, right, y)


def test_pixels_that_share_edges_hang_together(probability: Probability):
    found = grow(probability, *at(2, 2), 0.5)
    assert found.shape.equals(cells(1, 1, 5, 5) - cells(3, 3, 1, 1))
    assert (found.pixels, found.cut) == (24, False)
    assert grow(probability, *at(7, 7), 0.5).shape.equals(cells(6, 6, 3, 3))
    assert grow(probability, *at(1, 2), 0.8).shape.equals(cells(1, 1, 1, 5))


def test_where_nothing_grows_the_reason_is_told(probability: Probability):
    assert grow(probability, *at(3, 3), 0.5).startswith("The probability there is 0.100, below the threshold 0.5")
    assert grow(probability, *at(0, 11), 0.5) == "The map has no data there."


def test_how_far_it_reaches(probability: Probability, monkeypatch):
    monkeypatch.setattr(grow_module, "REACH_PX", 2)
    found = grow(probability, *at(2, 2), 0.5)
    assert (found.cut, found.shape.equals(cells(1, 1, 4, 4) - cells(3, 3, 1, 1))) == (True, True)
    assert not grow(probability, *at(7, 7), 0.5).cut


@pytest.mark.parametrize("threshold", [0, -1, 1.01, float("nan")])
def test_thresholds_that_are_none(probability: Probability, threshold: float):
    with pytest.raises(InputError, match="must be above 0 and at most 1"):
        grow(probability, *at(2, 2), threshold)


@pytest.mark.parametrize("point", [(0, 0), (99, 50), (100, 51), (124, 40), (float("nan"), 40), (float("inf"), 40)])
def test_points_off_the_map(probability: Probability, point: tuple[float, float]):
    with pytest.raises(InputError, match="lies off the map"):
        grow(probability, *point, 0.5)


def test_a_file_that_is_no_probability(tmp_path: Path):
    (tmp_path / "p.tif").write_bytes(b"nothing")
    with pytest.raises(RasterError, match=r"p\.tif cannot be opened"):
        Probability(tmp_path / "p.tif", Grid(None, PLACE, (1, 1)))
