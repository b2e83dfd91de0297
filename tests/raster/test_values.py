"""What values mean, by names, tags and options; the formulas are those of ESA and USGS, worked by hand."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from terradelta.card import STRETCH, ModelCard
from terradelta.errors import InputError, RasterError
from terradelta.raster.bands import Band, match_bands
from terradelta.raster.pair import Reading, open_pair
from terradelta.raster.scaling import scaling_of
from terradelta.raster.source import read_source
from terradelta.raster.values import Meaning, agree, band_names, parse_values, recognise

OLD = "S2A_MSIL2A_20210701T101031_N0301_R022_T32UQD_20210701T134501.tif"
NEW = "S2B_MSIL2A_20230701T101031_N0509_R022_T32UQD_20230701T134501.tif"
UNKNOWN = "T32UQD_20230701T101031_B04_10m.tif"
LANDSAT = "LC08_L2SP_193024_20200702_20200913_02_T1_SR_B4.TIF"
CARD = ModelCard("m", "n", ("red",), (0.5,), (0.25,), stretch=STRETCH)
DN = np.random.default_rng(0).integers(300, 3000, (1, 40, 50)).astype("uint16")


def image(path: Path, values: np.ndarray, **tags: object) -> Path:
    count, height, width = values.shape
    profile = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": values.dtype, "nodata": 0}
    place = Affine(10, 0, 500000, 0, -10, 5200000)
    path.parent.mkdir(exist_ok=True, parents=True)
    with rasterio.open(path, "w", crs="EPSG:32632", transform=place, **profile) as file:
        file.write(values)
        file.update_tags(**tags)
    return path


@pytest.mark.parametrize(
    ("path", "gain", "offset", "origin"),
    [
        (OLD, 1e-4, 0.0, "the product's name, processing baseline 03.01"),
        (NEW, 1e-4, -0.1, "the product's name, processing baseline 05.09"),
        (OLD.replace("N0301", "N0400"), 1e-4, -0.1, "processing baseline 04.00"),
        (NEW.replace("L2A", "L1C").replace(".tif", ".SAFE/GRANULE/x/T32UQD_B04.jp2"), 1e-4, -0.1, "05.09"),
        (LANDSAT, 2.75e-5, -0.2, "the product's name"),
    ],
)
def test_products_are_recognised_by_their_names(path, gain, offset, origin):
    found = recognise(path, {}, [(1.0, 0.0)], ["uint16"])
    assert (found.gain, found.offset) == ((gain,), (offset,))
    assert origin in found.origin


def test_the_files_own_scale_and_the_products_tag_count_more_than_the_name():
    assert recognise(OLD, {}, [(0.5, 3.0)], ["uint16"]) == Meaning("scale and offset in the file", (0.5,), (3.0,))
    found = recognise(OLD, {"PROCESSING_BASELINE": "04.00"}, [(1.0, 0.0)], ["uint16"])
    assert (found.offset, found.origin) == ((-0.1,), "the tag PROCESSING_BASELINE, processing baseline 04.00")
    assert recognise(OLD, {"PROCESSING_BASELINE": "new"}, [(1.0, 0.0)], ["uint16"]).offset == (0.0,)


@pytest.mark.parametrize("path", ["a.tif", "T32/x.tif", "LC08.tif", "S2.tif"])
def test_other_names_say_nothing(path):
    assert recognise(path, {}, [(1.0, 0.0)], ["uint16"]) is None


def test_pictures_and_real_numbers_are_no_longer_the_sensors_values():
    for dtype in ("uint8", "float32"):
        assert recognise(NEW, {}, [(1.0, 0.0)], [dtype]) is None


@pytest.mark.parametrize("path", [UNKNOWN, "S2B_32UQD_20230701_0_L2A.tif", "x/S2A_MSIL2A_20230701.tif"])
def test_a_sensor_without_a_baseline(path):
    found = recognise(path, {}, [(1.0, 0.0)], ["uint16"])
    assert (found.sensor, found.gain) == ("Sentinel-2", ())


def test_landsat_of_level_1_has_no_reflectance():
    found = recognise(LANDSAT.replace("L2SP", "L1TP"), {}, [(1.0, 0.0)], ["uint16"])
    assert (found.sensor, found.gain) == ("Landsat", ())


def test_two_baselines_are_the_classical_trap(tmp_path):
    """The same ground, 1000 added on the second date: no change after conversion, everything changed without."""
    before, after = image(tmp_path / OLD, DN), image(tmp_path / NEW, DN + 1000)
    with open_pair(before, after) as pair:
        window = pair.read(pair.grid.tile)
        lines = pair.preflight.lines()
        after_source = pair.preflight.sources[1]
        assert pair.dtypes == ("float32", "float32")
        scaling = scaling_of(pair, CARD)
        as_trained = scaling_of(pair, CARD.replace(scale=10000.0, stretch=None))
    np.testing.assert_allclose(window.before, DN / 10000, rtol=1e-6)
    np.testing.assert_allclose(window.after, window.before, atol=1e-6)
    assert 0.03 < scaling.low[0] < scaling.high[0] < 0.3
    np.testing.assert_allclose(as_trained.apply(window.after), DN, atol=0.1)  # not clipped, in units of the card
    assert as_trained.lines(("red",)) == [
        "The model takes reflectance times 10000, so both dates were multiplied by it."
    ]
    name = "known from the product's name, processing baseline"
    assert f"The first date's values become reflectance: 0.0001 x value +0 ({name} 03.01)." in lines
    assert f"The second date's values become reflectance: 0.0001 x value -0.1 ({name} 05.09)." in lines
    assert after_source.conversion == ((1e-4, -0.1),)
    with open_pair(before, after, reading=Reading(values="raw")) as pair:
        raw = pair.read(pair.grid.tile)
    np.testing.assert_array_equal(raw.after - raw.before, 1000)
    assert raw.after.dtype == np.uint16


def test_nodata_stays_nodata_when_values_are_converted(tmp_path):
    holes = DN.copy()
    holes[0, :5] = 0
    shifted = image(tmp_path / NEW, holes)
    with rasterio.open(shifted, "r+") as file:
        file.transform = Affine(10, 0, 500003, 0, -10, 5199996)
    for second in (shifted, image(tmp_path / "same" / NEW, holes)):
        with open_pair(image(tmp_path / OLD, DN), second) as pair:
            window = pair.read(pair.grid.tile)
            small = pair.read_decimated(10)
        assert not window.valid[:4].any()
        assert window.valid[8:-2, 2:-2].all()
        assert window.after[0][window.valid].max() < 0.21
        assert small.after.dtype == np.float32
        assert small.after[0][small.valid].max() < 0.21


def test_equal_meanings_are_compared_as_stored(tmp_path):
    before, after = image(tmp_path / "a" / NEW, DN), image(tmp_path / "b" / NEW, DN)
    with open_pair(before, after) as pair:
        assert pair.dtypes == ("uint16", "uint16")
        assert any(
            "mean the same and are compared as stored (known from the product" in x for x in pair.preflight.lines()
        )
    eight = image(tmp_path / "c.tif", DN.astype("uint8") | 1)
    with open_pair(eight, eight) as pair:
        assert not any("values" in line for line in pair.preflight.lines())


def test_landsat_meets_sentinel(tmp_path):
    """Reflectance 0.05 to 0.3 in the numbers of both sensors."""
    reflectance = np.linspace(0.05, 0.3, 2000).reshape(1, 40, 50)
    first = image(tmp_path / NEW, np.round(reflectance * 10000 + 1000).astype("uint16"))
    second = image(tmp_path / LANDSAT, np.round((reflectance + 0.2) / 2.75e-5).astype("uint16"))
    with open_pair(first, second) as pair:
        window = pair.read(pair.grid.tile)
        assert pair.bands == ("band 1",)
    np.testing.assert_allclose(window.before, reflectance, atol=6e-5)
    np.testing.assert_allclose(window.after, reflectance, atol=2e-5)


def test_an_unknown_baseline_beside_a_known_one_is_refused(tmp_path):
    known, unknown = image(tmp_path / NEW, DN), image(tmp_path / UNKNOWN, DN)
    for pair in ((known, unknown), (unknown, known)):
        with pytest.raises(
            RasterError, match=r"B04_10m\.tif is a Sentinel-2 image of unknown .*s2,s2-offset, or --val"
        ):
            open_pair(*pair)
    with open_pair(known, unknown, reading=Reading(values="s2-offset,s2")) as pair:
        window = pair.read(pair.grid.tile)
    np.testing.assert_allclose(window.after - window.before, 0.1, atol=1e-6)


def test_what_is_ambiguous_is_a_warning(tmp_path):
    known, other, unknown = (image(tmp_path / name, DN) for name in (NEW, "other.tif", UNKNOWN))
    with open_pair(known, other) as pair:
        assert any(
            "those of" in text and "say what they mean with --values" in text for text in pair.preflight.warnings
        )
    with open_pair(unknown, unknown) as pair:
        assert any("unknown processing baseline: if 1000 was added" in text for text in pair.preflight.warnings)
    with open_pair(other, other) as pair:
        assert pair.preflight.warnings == ()


def test_an_offset_that_was_added_before_is_noticed(tmp_path):
    """Names and even catalogues say wrongly that the offset is still to be added: then values become negative."""
    with open_pair(image(tmp_path / OLD, DN), image(tmp_path / NEW, DN)) as pair:
        warning = [text for text in pair.preflight.warnings if "negative" in text]
    share = (DN / 10000 - 0.1 < -0.02).mean()
    assert warning[0].startswith(f"{share:.0%} of the values of {tmp_path / NEW} are negative after its offset")


def test_scale_and_offset_in_files(tmp_path):
    before = image(tmp_path / "a.tif", DN)
    after = image(tmp_path / "b.tif", (DN * 2).astype("uint16"))
    for path, scale, offset in ((before, 1e-4, -0.1), (after, 5e-5, -0.1)):
        with rasterio.open(path, "r+") as file:
            file.scales, file.offsets = [scale], [offset]
    with open_pair(before, after) as pair:
        window = pair.read(pair.grid.tile)
    np.testing.assert_allclose(window.before, DN * 1e-4 - 0.1, atol=1e-6)
    np.testing.assert_allclose(window.after, window.before, atol=1e-6)


def test_the_option():
    assert parse_values("auto") is None
    assert parse_values("raw") == (None, None)
    assert parse_values("s2, 0.5:-3") == ((1e-4, 0.0), (0.5, -3.0))
    for text in ("", "s2", "s2,s3", "s2,1", "s2,0:1", "s2,nan:1", "s2,1:inf", "s2,s2,s2", "x" * 1000):
        with pytest.raises(InputError, match="is not understood"):
            parse_values(text)
    with pytest.raises(InputError, match="if one date is raw, the other must be too"):
        parse_values("raw,s2")
    assert agree((None, None), ([0, 1], [0, 1]), ("a", "b"), "s2,s2") == ((None, None), ())


@pytest.mark.parametrize(
    ("path", "codes", "names"),
    [
        ("T32UQD_20230701T101031_B04_10m.jp2", [""], ("red",)),
        ("T32UQD_20230701T101031_B8A_20m.jp2", [""], ("nir08",)),
        (NEW, ["b2", "b8", "b12", ""], ("blue", "nir", "swir22", "")),
        ("x.tif", ["b4", "b8a"], ("red", "nir08")),
        (LANDSAT, [""], ("red",)),
        (LANDSAT.replace("LC08", "LT05"), [""], ("nir",)),
        ("x.tif", ["b4"], ("",)),
    ],
)
def test_the_sensors_own_band_names(path, codes, names):
    assert band_names(path, codes) == names


def test_bands_are_found_by_the_sensors_code_or_the_spectrum(tmp_path):
    path = image(tmp_path / NEW, np.concatenate([DN, DN, DN]))
    with rasterio.open(path, "r+") as file:
        file.descriptions = ("B02", "B04", "B8A")
    bands = read_source(path).bands
    assert match_bands(bands, ["red", "blue"]) == (2, 1)
    assert match_bands(bands, ["B04", "B4", "b02"]) == (2, 2, 1)
    assert match_bands(bands, ["nir"]) == (3,)
    assert match_bands(bands, ["green"]) is None
    assert match_bands([Band(1, "uint8", "B4 NIR"), Band(2, "uint8", "B3 Red")], ["B4 red"]) == (2,)
