"""Shifts that are known, found again; and corrected the right way round."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from scipy import ndimage
from skimage.registration import phase_cross_correlation

from terradelta.errors import RasterError, ShapeError
from terradelta.geo.grid import Tile
from terradelta.geo.shift import ShiftField
from terradelta.lab.synthetic import SceneConfig, make_scene
from terradelta.mapping.provenance import registration_record
from terradelta.raster.pair import open_pair
from terradelta.registration.align import Alignment
from terradelta.registration.blocks import BlockShift, Registration, block_shift, measure_shift

ALL = np.ones((128, 128), bool)
GSD = 0.5
PLACE = Affine(GSD, 0, 600000, 0, -GSD, 3400000)


@pytest.fixture(scope="module")
def suburb() -> np.ndarray:
    """A date of a synthetic suburb: (3, 640, 704)."""
    return make_scene(SceneConfig(height=640, width=704).without_nuisance(), 3).after.astype(np.float32)


def texture(seed: int, side: int = 128, bands: int = 3) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 1, (bands, side, side))
    return ndimage.gaussian_filter(noise, (0, 1.5, 1.5), mode="wrap")


def moved(values: np.ndarray, down, right) -> np.ndarray:
    """What shows at q + shift the thing that ``values`` show at q; the shifts are functions of (rows, columns)."""
    rows, cols = np.mgrid[: values.shape[1], : values.shape[2]].astype(float)
    r, c = rows, cols
    for _ in range(20):  # the inverse of p -> p + shift(p)
        r, c = rows - down(r + 0.5, c + 0.5), cols - right(r + 0.5, c + 0.5)
    return np.stack([ndimage.map_coordinates(band, [r, c], order=3, mode="nearest") for band in values])


def write(path: Path, values: np.ndarray, transform=PLACE, **options) -> Path:
    profile = {
        "count": len(values),
        "height": values.shape[1],
        "width": values.shape[2],
        "crs": "EPSG:32614",
        **options,
    }
    with rasterio.open(path, "w", driver="GTiff", dtype=values.dtype, transform=transform, **profile) as target:
        target.write(values)
    return path


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.3, -0.7), (5.4, -3.25), (-20.5, 11.0)])
def test_a_shift_of_a_block_is_found_as_by_another_library(shift):
    before = texture(0)
    after = np.fft.ifft2(ndimage.fourier_shift(np.fft.fft2(before, axes=(1, 2)), (0, *shift))).real
    after = np.stack([np.fft.ifft2(ndimage.fourier_shift(np.fft.fft2(band), shift)).real for band in before])
    down, right, height, lead = block_shift(before, after, ALL)
    assert (down, right) == pytest.approx(shift, abs=0.03)
    oracle = -phase_cross_correlation(before[0], after[0], upsample_factor=50)[0]
    assert (down, right) == pytest.approx(tuple(oracle), abs=0.05)
    assert BlockShift(0, 0, down, right, height, lead).confident


def test_other_seasons_match_by_their_edges():
    before = texture(1)
    after = np.roll(before, (2, -3), (1, 2))
    for changed in (-after, 40 + 0.1 * after, after[:1], np.sign(after) * np.abs(after) ** 0.3):
        assert block_shift(before, changed, ALL)[:2] == pytest.approx((2, -3), abs=0.15)


def test_what_does_not_belong_together_is_not_believed():
    found = [block_shift(texture(seed, 64), texture(seed + 1000, 64), ALL[:64, :64]) for seed in range(60)]
    assert not any(BlockShift(0, 0, *each).confident for each in found)


def test_stripes_have_no_shift_along_themselves():
    stripes = np.tile(np.sin(np.arange(128) / 3) + np.random.default_rng(0).normal(0, 0.3, 128), (1, 128, 1))
    assert not BlockShift(0, 0, *block_shift(stripes, stripes, ALL)).confident


def test_pixels_without_data_say_nothing():
    before = texture(2)
    after = np.roll(before, (1, 2), (1, 2))
    valid = ALL.copy()
    valid[:, 90:] = False
    before[:, :, 90:], after[:, :, 90:] = 1e6, np.nan  # a strong edge that does not move
    assert block_shift(before, after, valid)[:2] == pytest.approx((1, 2), abs=0.05)
    assert block_shift(before, after, np.zeros_like(valid)) == (0, 0, 0, 0)
    assert block_shift(np.ones((1, 64, 64)), np.ones((1, 64, 64)), ALL[:64, :64]) == (0, 0, 0, 0)


SHIFTS = {
    "constant": (lambda r, c: 0 * r + 1.3, lambda r, c: 0 * r - 2.6),
    "smooth": (lambda r, c: 1.5 * np.sin(r / 250) + c / 500, lambda r, c: -2 * np.cos(c / 300) * r / 640),
}


@pytest.mark.parametrize("kind", ["constant", "smooth"])
def test_a_known_field_is_measured_and_corrected_the_right_way_round(tmp_path, suburb, kind):
    down, right = SHIFTS[kind]
    a, b = write(tmp_path / "a.tif", suburb), write(tmp_path / "b.tif", moved(suburb, down, right))
    with open_pair(a, b) as pair:
        found = measure_shift(pair)
        assert found.field is not None
        rows, cols = np.random.default_rng(0).uniform(60, 580, (2, 300))
        error = np.hypot(*(np.array(found.field.at(rows, cols)) - [down(rows, cols), right(rows, cols)]))
        assert np.median(error) < 0.1
        assert np.percentile(error, 95) < (0.1 if kind == "constant" else 0.25)
        uncorrected = np.abs(pair.read(Tile(64, 64, 512, 512)).after - suburb[:, 64:576, 64:576]).mean()
        pair.coregister(found.field)
        remaining = measure_shift(pair)
        corrected = np.abs(pair.read(Tile(64, 64, 512, 512)).after - suburb[:, 64:576, 64:576]).mean()
    assert found.median_px > 1.5
    assert remaining.median_px < 0.1
    assert corrected < 0.35 * uncorrected


def test_moving_and_warping_are_one_resampling(tmp_path, suburb):
    """The moved date holds what bilinear interpolation gives at the moved places: nothing was resampled before."""
    values = suburb[:, :200, :240]
    a, b = write(tmp_path / "a.tif", values), write(tmp_path / "b.tif", values)
    i, j = np.mgrid[:4, :5]
    field = ShiftField((200, 240), np.stack([2 * np.sin(i + j), 3 * np.cos(i - j)]))
    with open_pair(a, b) as pair:
        pair.coregister(field)
        assert pair.shift is field
        tile = Tile(20, 30, 150, 170)
        window, part = pair.read(tile), pair.read(Tile(77, 64, 33, 41))
        whole = pair.read(pair.grid.tile)
    assert field.cell < 64
    down, right = field.on(tile)
    rows, cols = np.mgrid[20:170, 30:200]
    expected = [ndimage.map_coordinates(band, [rows + down, cols + right], order=1) for band in values]
    steepest = max(np.abs(np.diff(values, axis=axis)).max() for axis in (1, 2))
    assert np.abs(window.after - expected).max() < 0.05 * steepest  # 0.02 pixel along each axis, and GDAL's 0.01
    assert (part.after == window.after[:, 57:90, 34:75]).all()  # a pixel does not depend on the tile
    rows, cols = np.mgrid[:200, :240]
    down, right = field.on(pair.grid.tile)
    inside = (rows + down >= 0) & (rows + down <= 199) & (cols + right >= 0) & (cols + right <= 239)
    assert whole.valid[inside].all()
    far = (rows + down < -1) | (rows + down > 200) | (cols + right < -1) | (cols + right > 240)
    assert far.any()
    assert not whole.valid[far].any()


def test_blocks_far_apart_begin_at_multiples_of_their_side(tmp_path):
    """Files are stored in such squares; near one another, blocks cover the grid evenly instead."""
    for side, apart in ((6700, True), (2000, False)):
        path = tmp_path / f"{side}.tif"
        profile = {"width": side, "height": side, "count": 1, "dtype": "uint8", "crs": "EPSG:32614"}
        with rasterio.open(path, "w", driver="GTiff", transform=PLACE, tiled=True, sparse_ok=True, **profile):
            pass
        with open_pair(path, path) as pair:
            found = measure_shift(pair)
        rows = sorted({block.row - found.side_px / 2 for block in found.blocks})
        assert (len(rows), rows[0]) == (12, 0)
        assert side - 2 * found.side_px <= rows[-1] <= side - found.side_px
        assert all(row % found.side_px == 0 for row in rows) == apart


def test_another_grid_nodata_and_the_preview(tmp_path, suburb):
    """The second date has pixels of another size, begins elsewhere, and lacks a corner."""
    suburb = suburb[:, :, :700]
    shifted = moved(suburb, *SHIFTS["constant"])
    coarse = ndimage.zoom(shifted, (1, 0.8, 0.8), order=1, grid_mode=True, mode="nearest")
    coarse[:, :120, :150] = -1
    a = write(tmp_path / "a.tif", suburb)
    b = write(tmp_path / "b.tif", coarse, Affine(GSD / 0.8, 0, 600000, 0, -GSD / 0.8, 3400000), nodata=-1)
    with open_pair(a, b) as pair:
        found = measure_shift(pair)
        assert found.direction_px == pytest.approx((1.3, -2.6), abs=0.1)
        before = pair.preview.valid.copy()
        pair.coregister(found.field)
        assert measure_shift(pair).median_px < 0.1
        valid = pair.read(pair.grid.tile).valid
        assert pair.preview.valid.shape == before.shape
        assert (pair.preview.valid != before).any()
        assert pair.preflight.placements[1].warped
        pair.coregister(None)
        assert (pair.preview.valid == before).all()
    assert not valid[:140, :170].any()
    assert valid[160:-4, 200:-4].all()


def test_plain_images_are_moved_too(tmp_path, suburb):
    plain = {"crs": None, "transform": Affine.identity()}
    values = suburb[:, :256, :256]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        a = write(tmp_path / "a.tif", values, **plain)
        b = write(tmp_path / "b.tif", moved(values, *SHIFTS["constant"]), **plain)
    with open_pair(a, b) as pair:
        found = measure_shift(pair)
        pair.coregister(found.field)
        remaining = measure_shift(pair)
    assert found.direction_px == pytest.approx((1.3, -2.6), abs=0.1)
    assert remaining.median_px < 0.1
    assert "(" not in found.lines()[0].split(" from ")[0]  # no metres


def test_the_sentences_and_the_record(tmp_path, suburb):
    values = suburb[:, :320, :320]
    with open_pair(
        write(tmp_path / "a.tif", values), write(tmp_path / "b.tif", moved(values, *SHIFTS["constant"]))
    ) as p:
        found = measure_shift(p)
        p.coregister(found.field)
        remaining = measure_shift(p)
    first, warning = found.lines()
    assert first.startswith("The second date lies 2.9")
    assert "(1.5 m) from the first in the median (1." in first
    assert f"{len(found.blocks)} of {len(found.blocks)} blocks match (100%)" in first
    assert warning == (
        "Warning: the dates lie 2.9 pixels (1.5 m) apart; more than 0.5 look like change along edges; --coregister "
        "corrects it."
    )
    (after,) = remaining.lines(corrected=True)
    assert after.startswith("After coregistration the second date lies 0.0")
    assert "more than a smooth shift parts the images" in found.lines(corrected=True)[1]
    record = registration_record(Alignment(found, remaining))
    assert record.corrected
    assert record.found.median_px == pytest.approx(2.907, abs=0.1)
    assert record.found.median_m == pytest.approx(record.found.median_px * 0.5, rel=2e-3)
    assert record.found.field.size_px == (320, 320)
    assert np.array(record.found.field.nodes_px).tolist() == found.field.nodes.tolist()
    assert len(record.found.blocks) == len(found.blocks)
    assert sum(block[4] for block in record.found.blocks) == len(found.used)
    assert record.remaining.median_px == remaining.median_px


def test_images_that_do_not_match_have_no_shift(tmp_path):
    rng = np.random.default_rng(0)
    for name in "ab":
        write(tmp_path / f"{name}.tif", ndimage.gaussian_filter(rng.normal(0, 50, (3, 200, 200)), (0, 1, 1)))
    with open_pair(tmp_path / "a.tif", tmp_path / "b.tif") as pair:
        found = measure_shift(pair)
    assert (found.field, found.used, found.median_px, found.largest_px, found.scatter_px) == (
        None,
        (),
        None,
        None,
        None,
    )
    assert found.direction_px is None
    assert found.lines() == [
        "The shift between the dates is not known: 0 of 25 blocks of 64 pixels match, 4 are needed. "
        "Look at both images whether they lie on one another."
    ]
    assert registration_record(Alignment(found)).found.field is None


def test_a_grid_that_is_too_small(tmp_path):
    paths = [write(tmp_path / f"{name}.tif", np.ones((1, 63, 200), "uint8")) for name in "ab"]
    with open_pair(*paths) as pair:
        found = measure_shift(pair)
        field = ShiftField.constant((9, 9), (0.0, 0.0))
        with pytest.raises(ShapeError, match=r"the shift field is for \(9, 9\) pixels, the grid has \(63, 200\)"):
            pair.coregister(field)
    assert found.lines() == ["The shift between the dates is not known: the common grid is smaller than 64 pixels."]
    assert found.confident_share == 0
    assert isinstance(found, Registration)
    with pytest.raises(RasterError, match="closed"):
        pair.coregister(None)


PAIRS = {
    "naip_nd": ("naip_2009-08-18.tif", "naip_2020-08-31.tif"),
    "s2_port": ("s2_2025-10-09.tif", "s2_2025-10-12.tif"),
    "landsat_taizhou": ("taizhou_2000.tif", "taizhou_2003.tif"),
}


@pytest.mark.parametrize("name", PAIRS)
def test_real_pairs_lie_better_after_coregistration(shared_data, name):
    folder = shared_data / "geo_pairs" / name
    with open_pair(*(folder / file for file in PAIRS[name])) as pair:
        found = measure_shift(pair)
        pair.coregister(found.field)
        remaining = measure_shift(pair)
    assert found.confident_share > 0.8
    assert remaining.median_px < 0.1
    assert remaining.median_px < found.median_px
