"""What is said of a pair before the run."""

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS

from terradelta.raster.pair import open_pair

UTM = CRS.from_epsg(32614)


def write(path, values, transform, crs=UTM, **profile):
    count, height, width = values.shape
    profile = {"count": count, "height": height, "width": width, "dtype": values.dtype, **profile}
    with rasterio.open(path, "w", driver="GTiff", transform=transform, crs=crs, **profile) as file:
        file.write(values)
    return path


@pytest.fixture
def shifted(tmp_path):
    """Two dates, the second a quarter of a pixel right of and half a pixel below the first."""
    values = np.full((1, 40, 50), 9, "uint8")
    values[0, 1:21] = 0
    first = write(tmp_path / "a.tif", values, Affine(4, 0, 500000, 0, -4, 5200000), nodata=0)
    second = write(tmp_path / "b.tif", np.full((1, 40, 50), 9, "uint16"), Affine(4, 0, 500001, 0, -4, 5199998))
    return first, second


def test_the_sentences(shifted):
    with open_pair(*shifted) as pair:
        lines = pair.preflight.lines()
    first, second = shifted
    grid = "EPSG:32614, pixels of 4 x 4 metre"
    assert lines == [
        f"The first date is {first}: 40 rows x 50 columns, {grid}, uint8, 1 band (band 1), nodata 0.",
        f"The second date is {second}: 40 rows x 50 columns, {grid}, uint16, 1 band (band 1), no nodata.",
        "The first date is read as it is, from its row 1 and column 1 on.",
        f"The second date is warped from {grid} to {grid} (bilinear): "
        "the common grid starts at its row 0.500 and column 0.750.",
        f"The common grid is the overlap of both dates: 39 rows x 49 columns, {grid}.",
        "It holds 95.55 % of the first date and 95.55 % of the second date; the rest is left out.",
        "Bands compared: band 1.",
        "48.72 % of its pixels are valid on both dates (of 1911 sampled).",
        "Warning: the dates have different dtypes (uint8 and uint16): make sure that their values mean the same.",
    ]


@pytest.mark.parametrize(("pixel", "word"), [(15.0, "3.75 times coarser"), (1.0, "4 times finer"), (7.9, None)])
def test_a_large_difference_in_resolution_is_a_warning(tmp_path, pixel, word):
    values = np.full((1, 120, 120), 9, "uint8")
    first = write(tmp_path / "a.tif", values, Affine(4, 0, 500000, 0, -4, 5200000))
    second = write(tmp_path / "b.tif", values, Affine(pixel, 0, 500000, 0, -pixel, 5200000))
    with open_pair(first, second) as pair:
        warnings = pair.preflight.warnings
    assert len(warnings) == (word is not None)
    assert all(f"the second date's pixels are {word} than the first's" in text for text in warnings)


def test_another_crs_is_named_and_a_palette_is_a_warning(tmp_path):
    values = np.full((1, 40, 50), 9, "uint8")
    first = write(tmp_path / "a.tif", values, Affine(4, 0, 500000, 0, -4, 5200000))
    second = write(tmp_path / "b.tif", values, Affine(5e-5, 0, -99, 0, -4e-5, 46.9527), CRS.from_epsg(4326))
    with rasterio.open(second, "r+") as file:
        file.write_colormap(1, {9: (1, 2, 3, 255)})
    with open_pair(first, second) as pair:
        lines, warnings = pair.preflight.lines(), pair.preflight.warnings
    assert lines[3] == (
        "The second date is warped from EPSG:4326, pixels of 4e-05 x 5e-05 degrees "
        "to EPSG:32614, pixels of 4 x 4 metre (bilinear)."
    )
    assert warnings == ("b.tif holds indices into a colour table, not brightness; expand it to RGB first",)


def test_bands_chosen_by_position_are_a_warning(shifted):
    with open_pair(*shifted, wanted=("red",)) as pair:
        assert "the first 1 bands were taken in their place (band 1)" in pair.preflight.warnings[0]
        assert pair.preflight.lines()[-2].startswith("Warning: the files do not both name the bands red")
