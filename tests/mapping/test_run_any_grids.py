"""Any two grids, any tile and overlap: a map is what the predictor gives for the whole pair at once."""

import re

import numpy as np
import rasterio
from affine import Affine
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from terradelta.errors import GridError, RasterError
from terradelta.mapping.run import MapOptions, map_change
from terradelta.predict.predictor import Predictor
from terradelta.raster.pair import open_pair

from .conftest import STRIDE, PixelPredictor

ORIGIN = (600_000.0, 3_400_000.0)


@st.composite
def grids(draw):
    """(height, width, transform) near the origin; pixels of 0.4 to 2 m, perhaps rotated."""
    height, width = draw(st.integers(1, 150)), draw(st.integers(1, 150))
    size = draw(st.sampled_from([0.4, 0.5, 1.0, 2.0]))
    east, south = (draw(st.sampled_from([0.0, 0.5, 3.0, 7.25, 20.0])) for _ in range(2))
    place = Affine.translation(ORIGIN[0] + east, ORIGIN[1] - south) @ Affine.scale(size, -size)
    return height, width, place @ Affine.rotation(draw(st.sampled_from([0, 0, 0, 30])))


@st.composite
def tilings(draw):
    tiles = draw(st.integers(1, 8))
    return tiles * STRIDE, draw(st.integers(0, tiles // 2)) * STRIDE


def write(path, grid, seed):
    height, width, place = grid
    values = np.random.default_rng(seed).integers(1, 255, (3, height, width)).astype(np.uint8)
    values[:, : height // 4, : width // 3] = 0
    profile = {"driver": "GTiff", "count": 3, "height": height, "width": width, "dtype": "uint8", "nodata": 0}
    with rasterio.open(path, "w", crs="EPSG:32614", transform=place, **profile) as file:
        file.write(values)
    return path


@settings(max_examples=25)
@given(grids(), grids(), tilings(), st.integers(0, 99))
def test_a_map_is_the_prediction_of_the_whole_pair(tmp_path_factory, first, second, tiling, seed):
    folder = tmp_path_factory.mktemp("any")
    paths = [write(folder / "a.tif", first, seed), write(folder / "b.tif", second, seed + 1)]
    predictor: Predictor = PixelPredictor()
    try:
        with open_pair(*paths) as pair:
            window, grid = pair.read(pair.grid.tile), pair.grid
    except (GridError, RasterError) as error:
        if not re.search("do not overlap|holds no whole pixel|no pixel is valid", str(error)):
            raise
        reject()
    expected = predictor.predict(window.before[None], window.after[None])[0]
    tile, overlap = tiling
    made = map_change(*paths, folder / "out", predictor, MapOptions(tile=tile, overlap=overlap, min_area_m2=0))
    with rasterio.open(made.probability) as file:
        found = file.read(1)
        assert (file.shape, file.transform) == (grid.shape, grid.transform)
    assert (np.isnan(found) == ~window.valid).all()
    # Warped values may differ by a level between windows (GDAL approximates the transform); unwarped ones may not.
    gap = np.abs(found - expected)[window.valid]
    assert np.percentile(gap, 95) <= 0.5 / 1024 + 1e-5
    with rasterio.open(made.change) as file:
        change = file.read(1)
    assert ((change == 1) == (found >= predictor.card.threshold)).all()
    assert made.receipt.result.changed_px == (change == 1).sum()
