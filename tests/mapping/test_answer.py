"""What a run says first: what is compared, and the answer in words."""

from dataclasses import replace

import numpy as np
import pytest
from tests.mapping.conftest import PixelPredictor, Writer
from tests.mapping.test_report import RECEIPT

from terradelta.card import NO_LIMIT, ModelCard
from terradelta.errors import ModelError
from terradelta.geo.grid import Grid
from terradelta.mapping.answer import answer_lines, nothing_stands_out
from terradelta.mapping.run import MapOptions, map_change
from terradelta.predict.classical import load_method

CARD = ModelCard("houses", "net", ("red", "nir"), (0.0, 0.0), (1.0, 1.0))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"finds": "changed buildings", "gsd_m": (0.4, 1.0)},
            "finds changed buildings, nothing else; trained on images of 0.4 to 1 m per pixel (red, nir).",
        ),
        ({"gsd_m": (2.0, 2.0)}, "does not state what it was trained to find; trained on images of 2 m per pixel"),
        (
            {"finds": "fields"},
            "finds fields, nothing else; trained on images whose pixel size is not stated (red, nir).",
        ),
    ],
)
def test_what_a_model_finds(fields, words):
    assert words in CARD.replace(**fields).purpose()


def test_what_a_method_finds():
    words = "The method cva finds whatever looks different, whatever the cause: season and light, too."
    assert CARD.replace(name="cva", licence=NO_LIMIT).purpose() == words


def test_the_answer_holds_both_numbers():
    assert answer_lines(RECEIPT) == [
        "changed: 1.34 ha (13,412 m²), 5.6 % of what both dates show",
        "71 polygons hold 1.30 ha (13,012 m²); 9 smaller ones below 10 m² or 4 pixels hold 400 m², in the rasters only",
    ]
    larger = replace(RECEIPT, result=replace(RECEIPT.result, small_area_m2=39181.0))
    assert "or 4 pixels hold 3.92 ha (39,181 m²), in the rasters only" in answer_lines(larger)[1]


def test_one_thing_is_no_plural():
    result = replace(
        *(RECEIPT.result,), unit="px", changed_px=1, changed_area_m2=None, changed_area_px=1.0, polygons=1,
        polygons_area_m2=None, polygons_area_px=1.0, small_polygons=1, small_area_m2=None, small_area_px=1.0,
    )  # fmt: skip
    options = replace(RECEIPT.options, min_area_m2=0.0, min_px=4)
    lines = answer_lines(replace(RECEIPT, result=result, options=options))
    assert lines[0].startswith("changed: 1 pixel, ")
    assert lines[1] == "1 polygon holds 1 pixel; 1 smaller one below 4 pixels holds 1 pixel, in the rasters only"
    none = replace(result, polygons=0, small_polygons=0)
    assert answer_lines(replace(RECEIPT, result=none))[1] == "no polygon"


def test_nothing_that_stands_out_is_said_in_words():
    method = CARD.replace(name="cva", licence=NO_LIMIT, training={"coherence": 0.391, "stands_out": False})
    model = replace(RECEIPT.model, **vars(method))
    assert answer_lines(replace(RECEIPT, model=model)) == [
        "No change that cva could tell from noise.",
        "What differs does not lie together: its coherence is 0.39, change has 0.5 or more.",
    ]
    for training in ({}, {"coherence": 0.9, "stands_out": True}, {"stands_out": False}):
        assert nothing_stands_out(method.replace(training=training)) is None
    assert nothing_stands_out(method.replace(licence="x")) is None


def test_a_pair_of_noise_gets_no_change(tmp_path, write_tiff: Writer):
    rng = np.random.default_rng(0)
    scene = rng.integers(40, 200, (3, 8, 8)).repeat(12, axis=1).repeat(12, axis=2)
    before, after = (
        write_tiff(name, np.clip(scene + rng.normal(0, 4, scene.shape), 0, 255).astype(np.uint8)) for name in ("a", "b")
    )
    made = map_change(before, after, str(tmp_path / "out"), load_method("cva"))
    assert made.receipt.result.changed_px == 0
    assert answer_lines(made.receipt)[0] == "No change that cva could tell from noise."
    assert "No change that cva could tell from noise." in made.report.read_text()


def test_a_model_stops_on_pixels_of_another_kind(tmp_path, write_tiff: Writer, pair_values):
    from affine import Affine

    wide = Affine(10, 0, 600000, 0, -10, 3400000)
    before, after = (write_tiff(f"{n}.tif", v, transform=wide) for n, v in zip("ab", pair_values, strict=True))
    predictor = PixelPredictor()
    predictor.card = predictor.card.replace(finds="changed buildings")
    words = (
        "the pixels are 10 m wide, but the model box was trained to find changed buildings on images of 0.4 to 0.8 m "
        "per pixel: its result would mean nothing. Take a method that is fitted to the pair, --method irmad; or let "
        "the model try with --anyway"
    )
    with pytest.raises(ModelError) as caught:
        map_change(before, after, tmp_path / "out", predictor)
    assert str(caught.value) == words
    assert not (tmp_path / "out").exists()
    made = map_change(before, after, tmp_path / "out", predictor, MapOptions(anyway=True))
    purpose, warning, *_ = made.receipt.preflight
    assert purpose.startswith("The model box finds changed buildings, nothing else; ")
    assert warning.startswith("Warning: the pixels are 10 m wide, but the model was trained on 0.4 to 0.8 m per pixel")
    page = made.report.read_text()
    said = warning.removeprefix("Warning: ").partition(" --method")[0]
    assert page.index("finds changed buildings") < page.index(said) < page.index("card main")


def test_weights_for_such_pixels_are_named():
    card = PixelPredictor().card
    others = {"fields": card.replace(finds="fields", gsd_m=(1.2, 2.0)), "streets": card.replace(finds="streets")}
    warning = PixelPredictor().remarks(_grid(2.0), lambda: others)[1]
    assert warning.endswith("size, --model fields was trained to find fields, and --method irmad finds any change.")


def test_weights_that_fit_ask_for_no_others():
    assert not any("Warning" in line for line in PixelPredictor().remarks(_grid(0.6), None))


def test_the_factor_is_four():
    predictor = PixelPredictor()
    for side, stops in ((3.1, False), (3.3, True), (0.11, False), (0.09, True)):
        grid = _grid(side)
        if stops:
            with pytest.raises(ModelError, match="its result would mean nothing"):
                predictor.check_resolution(grid)
        else:
            predictor.check_resolution(grid)


def _grid(side: float) -> Grid:
    from affine import Affine
    from rasterio.crs import CRS

    return Grid(CRS.from_epsg(32614), Affine(side, 0, 500000, 0, -side, 3400000), (10, 10))


@pytest.mark.parametrize(
    ("side_m", "options", "kept", "smallest"),
    [
        (0.5, MapOptions(), [4800], (10.0, 4)),  # 16 pixels are 4 m²
        (30.0, MapOptions(anyway=True), [4800, 16], (10.0, 4)),
        (0.5, MapOptions(min_area_m2=0), [4800, 16], (0, 0)),
        (0.5, MapOptions(min_area_m2=0, sieve_px=17), [4800], (0, 0)),
    ],
)
def test_what_is_left_out(tmp_path, write_tiff: Writer, pair_values, side_m, options, kept, smallest):
    import pyogrio.raw
    import rasterio
    from affine import Affine

    place = Affine(side_m, 0, 600000, 0, -side_m, 3400000)
    before, after = (write_tiff(f"{n}.tif", v, transform=place) for n, v in zip("ab", pair_values, strict=True))
    made = map_change(before, after, tmp_path / "out", PixelPredictor(), options)
    pixels = pyogrio.raw.read(made.polygons, layer="change", columns=["pixels"])[3][0]
    assert sorted(pixels.tolist(), reverse=True) == kept
    result = made.receipt.result
    assert (made.receipt.options.min_area_m2, made.receipt.options.min_px) == smallest
    assert result.polygons_area_m2 + result.small_area_m2 == pytest.approx(result.changed_area_m2)
    assert result.polygons_area_m2 == pytest.approx(sum(kept) * side_m**2, rel=2e-3)
    sieved = 16 if options.sieve_px else 0
    assert (result.sieved_px, result.changed_px) == (sieved, 4816 - sieved)
    assert made.receipt.options.sieve_px == options.sieve_px
    words = "the sieve made 16 pixels in groups below 17 unchanged"
    assert (words in answer_lines(made.receipt)[1]) == bool(sieved) == (words[1:] in made.report.read_text())
    with rasterio.open(made.change) as change:
        assert (change.read(1) == 1).sum() == 4816 - sieved


def test_three_pixels_of_ten_metres_are_too_few(tmp_path, write_tiff: Writer):
    from affine import Affine

    before = np.full((3, 64, 64), 80, np.uint8)
    after = before.copy()
    after[:, 5, 5:8] += 140
    after[:, 20:22, 20:22] += 140
    place = Affine(10, 0, 600000, 0, -10, 3400000)
    paths = [write_tiff(f"{n}.tif", v, transform=place) for n, v in (("a", before), ("b", after))]
    made = map_change(*paths, tmp_path / "out", PixelPredictor(), MapOptions(anyway=True))
    assert (made.receipt.result.polygons, made.receipt.result.small_polygons) == (1, 1)
    assert made.receipt.result.small_area_m2 == pytest.approx(300, rel=2e-3)
