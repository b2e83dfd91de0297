"""Matching bands by name, by number and by position."""

import pytest

from terradelta.errors import BandError
from terradelta.raster.bands import Band, match_bands, select_bands

RGB = ("red", "green", "blue")


def described(*names):
    return [Band(i, "uint8", name, "undefined") for i, name in enumerate(names, 1)]


def coloured(*colours):
    return [Band(i, "uint8", "", colour) for i, colour in enumerate(colours, 1)]


def select(before, after, **options):
    return select_bands(("first.tif", before), ("second.tif", after), **options)


@pytest.mark.parametrize(
    ("description", "name"),
    [
        ("B4 Red (665 nm)", "red"),
        ("Band 8: NIR", "nir"),
        ("near-infrared", "nir"),
        ("B8A Red Edge", "rededge"),
        ("red_edge", "rededge"),
        ("R", "red"),
        ("B12", ""),
        ("", ""),
    ],
)
def test_descriptions_are_read_for_the_part_of_the_spectrum(description, name):
    assert Band(1, "uint8", description).spectral == name


def test_red_is_not_the_red_edge():
    assert match_bands(described("Red edge 1", "B4 Red", "red edge 2"), ["red"]) == (2,)
    assert match_bands(described("Red edge 1", "green"), ["red"]) is None


def test_case_and_codes_match():
    bands = described("B2 blue", "B3 GREEN", "B4 Red")
    assert match_bands(bands, RGB) == (3, 2, 1)
    assert match_bands(bands, ("b3", "B4 red")) == (2, 3)


def test_two_bands_of_one_name_match_nothing():
    assert match_bands(described("red", "red", "green"), ["red"]) is None


def test_a_description_counts_more_than_the_colour_that_gdal_guesses():
    false_colour = [Band(1, "uint8", "NIR", "red"), Band(2, "uint8", "Red", "green"), Band(3, "uint8", "B3", "blue")]
    assert match_bands(false_colour, ["red"]) == (2,)
    assert match_bands(false_colour, ["green"]) is None
    assert match_bands(false_colour, ["blue"]) == (3,)


def test_gray_and_undefined_are_no_names():
    assert coloured("gray", "undefined", "nir")[0].names == frozenset()
    assert [band.label for band in coloured("gray", "nir")] == ["band 1", "nir"]


def test_all_bands_follow_the_names_of_the_first_date():
    selection = select(described("B4 red", "B3 green", "B2 blue"), coloured("blue", "green", "red"))
    assert (selection.before, selection.after) == ((1, 2, 3), (3, 2, 1))
    assert selection.names == ("B4 red", "B3 green", "B2 blue")
    assert selection.warnings == ()


def test_the_spectrum_counts_more_than_the_satellites_band_code():
    # Landsat 7 and Landsat 8 share codes, not bands.
    selection = select(described("B3 red", "B4 nir"), described("B4 red", "B5 nir"))
    assert selection.after == (1, 2)


def test_different_names_are_matched_by_position_with_a_warning():
    selection = select(described("red", "green"), described("vv", "vh"))
    assert selection.after == (1, 2)
    assert "matched by position" in selection.warnings[0]


def test_bands_without_names_keep_their_order_silently():
    selection = select(coloured("gray", "undefined"), described("red", "green"))
    assert (selection.before, selection.after, selection.warnings) == ((1, 2), (1, 2), ())


def test_different_counts_name_both_and_the_cure():
    with pytest.raises(BandError, match=r"first.tif has 3 image bands .*second.tif has 1 image band .*bands=\[1, 2"):
        select(coloured(*RGB), coloured("gray"))


def test_chosen_by_number_and_name():
    selection = select(described("blue", "green", "red", "nir"), described("red", "green", "blue"), bands=["Red", 2])
    assert (selection.before, selection.after) == ((3, 2), (1, 2))


def test_numbers_are_literal_and_a_clash_of_names_is_said():
    selection = select(coloured(*RGB), coloured("blue", "green", "red"), bands=[1, 2])
    assert selection.after == (1, 2)
    assert selection.warnings == (
        "band 1 is 'red' in the first date and 'blue' in the second; band numbers were taken as given",
    )


@pytest.mark.parametrize(
    ("bands", "message"),
    [
        ([0], r"first.tif has no image band 0; it has 3 image bands \(1: red, 2: green, 3: blue\)"),
        (["nir"], "has no image band 'nir'.*choose by number or by name"),
        ([], "selects nothing"),
        ("red", r"selects nothing; give a list"),
    ],
)
def test_bands_that_do_not_exist(bands, message):
    with pytest.raises(BandError, match=message):
        select(coloured(*RGB), coloured(*RGB), bands=bands)


def test_an_ambiguous_name_lists_the_candidates():
    with pytest.raises(BandError, match=r"bands 1, 3 of first\.tif are all called 'red'"):
        select(described("B1 red", "x", "B3 red"), described("red", "x", "y"), bands=["red"])


def test_a_models_bands_by_name():
    selection = select(described("B2 blue", "B3 green", "B4 red", "B8 nir"), coloured(*RGB), wanted=RGB)
    assert (selection.before, selection.after, selection.names) == ((3, 2, 1), (1, 2, 3), RGB)
    assert selection.warnings == ()


def test_a_models_bands_by_position_come_with_a_warning():
    selection = select(coloured(*RGB), coloured("gray", *["undefined"] * 3), wanted=RGB)
    assert (selection.before, selection.after) == ((1, 2, 3), (1, 2, 3))
    assert "the first 3 bands were taken in their place" in selection.warnings[0]


def test_too_few_bands_for_the_model():
    with pytest.raises(BandError, match=r"takes 3 bands \(red, green, blue\), but second.tif has 1 image band \("):
        select(coloured(*RGB), coloured("gray"), wanted=RGB)


def test_chosen_bands_must_be_as_many_as_the_model_takes():
    with pytest.raises(BandError, match=r"takes 3 bands .* but bands= selects 2; give 3"):
        select(coloured(*RGB), coloured(*RGB), bands=[1, 2], wanted=RGB)
    assert select(coloured(*RGB), coloured(*RGB), bands=[3, 2, 1], wanted=RGB).before == (3, 2, 1)
