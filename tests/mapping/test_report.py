import base64
import dataclasses
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from rasterio.io import MemoryFile

from terradelta.card import NO_LIMIT
from terradelta.errors import OutputError, ShapeError
from terradelta.html.pictures import (
    CHANGE_COLOUR,
    RAMP,
    Chip,
    Quicklooks,
    change_picture,
    data_uri,
    probability_picture,
)
from terradelta.html.text import area, fraction, metres, number, place, seconds
from terradelta.mapping.report import render_report, write_report
from terradelta.receipt import MapReceipt, from_json, to_json
from terradelta.receipt.map_record import (
    BandRecord,
    EvidenceRecord,
    GridRecord,
    InputRecord,
    InputsRecord,
    MapResult,
    ModelRecord,
    OptionsRecord,
    OutlineRecord,
    PairedRecord,
    PlacementRecord,
    PolygonRecord,
    PolygonsRecord,
    RegistrationRecord,
    ShiftRecord,
    ValuesRecord,
)

VOID = {"meta", "img", "input", "br"}
GRID = GridRecord("EPSG:32614", (0.5, 0.0, 6e5, 0.0, -0.5, 3e6), 800, 1200, 0.25)


def an_input(path: str, sha256: str | None = None) -> InputRecord:
    return InputRecord(
        path=path,
        bytes=9,
        sha256=sha256,
        driver="GTiff",
        grid=GRID,
        dtypes=("uint8",),
        bands=("red",),
        alpha_bands=(),
        nodata=(None,),
        masks=("all_valid",),
        values=ValuesRecord(None, None),
        placement=PlacementRecord(False, (0.0, 0.0), 1.0, 1.0, None),
    )


def some(number: int, area_m2: float) -> PolygonsRecord:
    return PolygonsRecord(polygons=number, area_m2=area_m2)


RECEIPT = MapReceipt(
    version="1.2.3",
    created="2026-01-02T03:04:05Z",
    python="3.11",
    inputs=InputsRecord(an_input("/x/old.tif", "ab" * 32), an_input("/x/new.tif")),
    grid=GRID,
    pair=PairedRecord(BandRecord(("red",), (1,), (1,)), 1.0, 9, ()),
    preflight=("The second image was resampled.",),
    scaling=None,
    model=ModelRecord(
        name="small",
        network="net",
        bands=("red",),
        mean=(0.0,),
        std=(1.0,),
        paper="A paper, https://doi.org/10.1",
        licence="Research only.",
        threshold=0.4,
        scores=({"data": "set", "split": "test", "metrics": {"f1": 0.875}},),
        runtime="here",
    ),
    options=OptionsRecord(10.0, 4, 0, 0.0, None, 0.4, 512, 64, ("red",)),
    timings={"predict": 6.25, "write": 250.0},
    result=MapResult(
        unit="m",
        changed_area_m2=13412.4,
        changed_px=53650,
        valid_px=960000,
        changed_fraction=0.0559,
        polygons=71,
        sieved_px=0,
        polygons_area_m2=13012.4,
        small_polygons=9,
        small_area_m2=400.0,
    ),
    largest_polygons=(
        PolygonRecord(
            id=7,
            area_m2=410.2,
            perimeter_m=88.4,
            mean_probability=0.931,
            max_probability=0.99,
            lon=-97.74,
            lat=30.25,
        ),
    ),
    damaged=(),
    resumed_tile_rows=0,
    registration=RegistrationRecord(
        ShiftRecord("correlation", 0, 0.0, None, None, None, None, None, 0.5, None, ()), False, None, None
    ),
    evidence=EvidenceRecord(None, OutlineRecord(some(40, 9000.0), some(30, 4000.0), some(1, 412.0))),
    scores={"precision": 0.9, "recall": 0.8, "f1": 0.847, "iou_changed": 0.735},
)


@pytest.fixture
def quicklooks():
    rng = np.random.default_rng(0)
    before, after = rng.integers(1, 255, (2, 40, 60, 3), dtype=np.uint8)
    change = np.zeros((40, 60), bool)
    change[10:15, 20:30] = True
    valid = np.ones((40, 60), bool)
    valid[:, :5] = False
    return Quicklooks(before, after, change.astype(np.float32), change, valid)


class Page(HTMLParser):
    """Reads a page strictly: every element that opens closes, in order."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.texts, self.styles = [], [], [], []
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"{tag} repeats an attribute: {names}"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"closes nothing: {tag}"
        assert self.open.pop() == tag

    def handle_data(self, data):
        (self.styles if self.open and self.open[-1] in ("style", "script") else self.texts).append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


def test_page_shows_every_part(quicklooks):
    text = Page(render_report(RECEIPT, quicklooks)).text
    for expected in (
        "old.tif → new.tif", "Made 2026-01-02", "1.34 ha", "changed in all (13,412 m², 53,650 pixels)", "71",
        "polygons hold 1.30 ha (13,012 m²)", "5.6 %",
        "9 smaller ones below 10 m² or 4 pixels hold 400 m², in the rasters only",
        "of the 960,000 pixels",
        "200 m", "Grid north is up.", "90.0 %", "73.5 %", "410 m²", "88 m", "0.93", "30.25000° N, 97.74000° W",
        "1 of 71; all are in change.gpkg", "The second image was resampled.", "Licence. Research only.",
        "Score on set, test F1 87.5 %", "sha256 abab", "800 × 1,200 pixels (rows × columns), EPSG:32614", "tile: 512",
        "6.25 s", "4 min 10 s", "terradelta 1.2.3", "changed from 0.40 on", "QGIS",
        "after in 40 (9,000 m²), before in 30 (4,000 m²)", "label samples: terradelta area OUT --draw 200",
    ):  # fmt: skip
        assert expected in text, expected


def test_answer_comes_first(quicklooks):
    page = Page(render_report(RECEIPT, quicklooks))
    sections = [attrs["aria-labelledby"] for tag, attrs in page.tags if tag == "section"]
    assert sections == ["answer", "pictures", "maps", "scores", "polygons", "preflight", "model", "run", "qgis"]


def test_changes_from_near_histogram_and_cva_have_their_sections(quicklooks):
    picture = np.zeros((30, 30, 3), np.uint8)
    chips = [Chip(number, 812.0, 0.41, picture, picture, "M1.0 2.0L3.0 2.0L3.0 5.0Z") for number in (7, 8)]
    counts = (1000, *[0] * 18, 10)
    more = replace(
        quicklooks, largest=chips[:1], doubtful=chips[1:], histogram=counts, difference=quicklooks.probability
    )
    html = render_report(RECEIPT, more)
    page = Page(html)
    sections = [attrs["aria-labelledby"] for tag, attrs in page.tags if tag == "section"]
    assert sections[:6] == ["answer", "pictures", "maps", "chips", "scores", "polygons"]
    assert "doubt" in sections
    assert "Change 7: 812 m², mean probability 0.41" in page.text
    assert "The least certain of the others" in page.text
    assert [attrs["d"] for tag, attrs in page.tags if tag == "path"].count("M1.0 2.0L3.0 2.0L3.0 5.0Z") == 8
    assert "Pixels by their probability of change" in page.text
    assert "whatever the cause" in page.text
    assert len(html) < 5e6


def test_each_score_of_a_card_has_its_line(quicklooks):
    scores = [
        {"data": "set", "split": split, "pairs": pairs, "threshold": 0.123456789, "metrics": {"f1": f1}}
        for split, pairs, f1 in (("val", 9, 0.5), ("test", 8, 0.25), ("test", 20, 0.75))
    ]
    model = RECEIPT.model.replace(scores=tuple(scores), threshold=0.123456789)
    options = replace(RECEIPT.options, threshold=0.123456789)
    text = Page(render_report(replace(RECEIPT, model=model, options=options), quicklooks)).text
    lines = ("Score on set, val, 9 pairs F1 50.0 %", "set, test, 8 pairs F1 25.0 %", "set, test, 20 pairs F1 75.0 %")
    assert all(line in text for line in lines)
    assert "Threshold 0.1235" in text
    assert "threshold: 0.1235" in text


def test_nothing_is_loaded_from_outside(quicklooks):
    page = Page(render_report(RECEIPT, quicklooks))
    for tag, attrs in page.tags:
        assert tag not in ("link", "iframe", "object", "a")
        for name in ("src", "href", "srcset", "data", "action"):
            assert attrs.get(name, "data:").startswith("data:")
    assert not re.search(r"https?:|//|url\(|@import", "".join(page.styles))


def test_pictures_have_sizes_and_alternative_texts(quicklooks):
    page = Page(render_report(RECEIPT, quicklooks))
    images = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(images) == 4
    for image in images:
        assert (image["width"], image["height"]) == ("60", "40")
        assert len(image["alt"]) > 10
        content = base64.b64decode(image["src"].split(",")[1])
        with MemoryFile(content) as memory, pytest.warns(Warning, match="geo"), memory.open() as source:
            assert source.shape == (40, 60)
    slider = next(attrs for tag, attrs in page.tags if tag == "input")
    assert "aria-label" in slider


def test_labels_refer_to_headings(quicklooks):
    page = Page(render_report(RECEIPT, quicklooks))
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {attrs["aria-labelledby"] for _, attrs in page.tags if "aria-labelledby" in attrs} <= set(ids)


BAD = '"><script>alert(1)</script>&'


def _poisoned(value):
    """The same with every text, key and value, replaced by markup."""
    if dataclasses.is_dataclass(value):
        kept = ("unit",)  # of a fixed choice
        changes = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return replace(value, **{name: v if name in kept else _poisoned(v) for name, v in changes.items()})
    if isinstance(value, dict):
        return {k if k in ("metrics", "data", "split") else BAD: _poisoned(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(map(_poisoned, value))
    return BAD if isinstance(value, str) else value


def test_everything_from_the_receipt_is_escaped(quicklooks):
    receipt = replace(RECEIPT, registration=RegistrationRecord(SHIFT, True, SHIFT, "x"))
    method = receipt.model.replace(licence=NO_LIMIT, network_args={"a": ["b"]}, training={"c": {"d": "e"}})
    plain = replace(receipt, model=replace(_poisoned(method), licence=NO_LIMIT))
    for poisoned in (_poisoned(receipt), plain):
        html = render_report(poisoned, quicklooks)
        page = Page(html)
        assert html.count("<script>") == 1
        assert [tag for tag, _ in page.tags].count("script") == 1
        assert "alert(1)" in page.text


SHIFT = ShiftRecord("c", 64, 0.5, 1.0, 0.5, (1.0, 0.0), 1.0, 0.1, 0.5, None, ((32.0, 32.0, 1.0, 0.0, True),))


def test_a_shift_that_was_measured_has_its_section(quicklooks):
    page = Page(render_report(replace(RECEIPT, registration=RegistrationRecord(SHIFT, False, None, None)), quicklooks))
    assert "registration" in [attrs["aria-labelledby"] for tag, attrs in page.tags if tag == "section"]


@pytest.mark.parametrize("cards", [{}, {"metrics": None}, {"metrics": {"f1": "x"}}, {"pairs": "x"}, {"f1": 10**400}])
def test_scores_of_a_card_may_hold_anything(quicklooks, cards):
    page = Page(render_report(replace(RECEIPT, model=RECEIPT.model.replace(scores=(cards,))), quicklooks))
    assert "Score on unnamed data" in page.text


def test_without_ground_units_the_answer_is_in_pixels(quicklooks):
    result = replace(RECEIPT.result, unit="px", changed_area_m2=None, changed_area_px=1234.0, changed_px=1234)
    grid = GridRecord(None, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), 40, 60, None)
    text = Page(render_report(replace(RECEIPT, result=result, grid=grid), quicklooks)).text
    assert "1,234 pixels" in text
    assert "no ground units" in text
    assert "no CRS" in text
    assert "Grid north" not in text


@pytest.mark.parametrize(
    ("pixel_area_m2", "width", "label", "percent"),
    [(0.25, 1200, "200 m", 33.333), (100, 5000, "10 km", 20), (1, 64, "20 m", 31.25)],
)
def test_scale_bar_has_a_round_length(quicklooks, pixel_area_m2, width, label, percent):
    grid = replace(GRID, pixel_area_m2=pixel_area_m2, width=width)
    page = render_report(replace(RECEIPT, grid=grid), quicklooks)
    assert page.count(f'<span style="width:{percent:.3f}%"></span>{label}</div>') == 3


@pytest.mark.parametrize("pixel_area_m2", [0, -1, 1e308, None])
def test_no_scale_bar_without_a_sensible_pixel(quicklooks, pixel_area_m2):
    page = render_report(replace(RECEIPT, grid=replace(GRID, pixel_area_m2=pixel_area_m2)), quicklooks)
    assert 'class="scale"' not in page


def test_model_without_licence_warns(quicklooks):
    assert (
        "names no licence"
        in Page(render_report(replace(RECEIPT, model=RECEIPT.model.replace(licence="")), quicklooks)).text
    )


def test_write_report_replaces_and_leaves_nothing_else(quicklooks, tmp_path):
    out = tmp_path / "report.html"
    out.write_text("old")
    write_report(out, from_json(MapReceipt, to_json(RECEIPT)), quicklooks)
    assert out.read_text(encoding="utf-8") == render_report(RECEIPT, quicklooks)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_write_report_where_no_file_can_be(quicklooks, tmp_path):
    with pytest.raises(OutputError, match=r"report.html cannot be written .*; give a place that can be"):
        write_report(tmp_path / "absent" / "report.html", RECEIPT, quicklooks)


def test_quicklooks_of_other_shapes(quicklooks):
    with pytest.raises(ShapeError, match=r"quicklook 'valid' has shape \(3, 3\); give \(40, 60\)"):
        dataclasses.replace(quicklooks, valid=np.ones((3, 3), bool))
    with pytest.raises(ShapeError, match=r"quicklook 'after' has shape \(40, 60\); give \(40, 60, 3\)"):
        dataclasses.replace(quicklooks, after=np.ones((40, 60), np.uint8))


def test_change_picture_colours_the_change_only(quicklooks):
    picture = change_picture(quicklooks).astype(int)
    coloured = picture.max(axis=2) - picture.min(axis=2) > 40
    assert coloured[quicklooks.change].all()
    assert tuple(picture[9, 25]) == CHANGE_COLOUR  # the outline, one pixel outside
    near = np.zeros_like(coloured)
    near[9:16, 19:31] = True
    assert not coloured[~near].any()
    assert set(picture[:, :5].ravel()) == {188, 160}


def test_probability_picture_follows_the_ramp(quicklooks):
    picture = probability_picture(quicklooks)
    assert tuple(picture[12, 25]) == RAMP[-1]
    assert tuple(picture[0, 40]) == RAMP[0]
    half = dataclasses.replace(quicklooks, probability=np.full((40, 60), np.nan))
    assert tuple(probability_picture(half)[0, 40]) == RAMP[0]


def test_lossless_pictures_are_exact(quicklooks):
    content = base64.b64decode(data_uri(quicklooks.before, lossless=True).removeprefix("data:image/png;base64,"))
    with MemoryFile(content) as memory, pytest.warns(Warning, match="geo"), memory.open() as source:
        assert np.array_equal(np.moveaxis(source.read(), 0, 2), quicklooks.before)


def _contrast(first, second):
    """WCAG 2: ratio of relative luminances."""

    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_text_has_contrast_in_light_and_dark(quicklooks):
    style = "".join(Page(render_report(RECEIPT, quicklooks)).styles)
    themes = re.findall(r":root \{([^}]*)\}", style)[:2]
    assert len(themes) == 2
    for theme in themes:
        colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{3,6})", theme))
        colours = {k: "#" + "".join(2 * c for c in v[1:]) if len(v) == 4 else v for k, v in colours.items()}
        for ink in ("ink", "muted", "accent"):
            for paper in ("ground", "card"):
                assert _contrast(colours[ink], colours[paper]) >= 4.5, (ink, paper)
        assert _contrast(colours["ink"], colours["warn"]) >= 4.5


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (area(9999.4), "9,999 m²"), (area(10_000), "1.00 ha"), (area(2_500_000), "2.50 km²"), (area(0), "0 m²"),
        (area(None), "–"), (area(float("nan")), "–"),
        (fraction(0.1234), "12.3 %"), (fraction(0.0123), "1.2 %"), (fraction(0.000123), "0.012 %"),
        (fraction(0), "0.0 %"), (number(10**400), "–"),
        (number(1234.567), "1,234.57"), (metres(87.6), "88 m"), (metres(None), "–"),
        (seconds(0.5), "0.50 s"), (seconds(61), "61 s"), (seconds(125), "2 min 5 s"),
        (place(-97.5, 30), "30.00000° N, 97.50000° W"), (place(151.2, -33.9), "33.90000° S, 151.20000° E"),
        (place(None, 1), "–"),
    ],
)  # fmt: skip
def test_numbers_as_text(given, expected):
    assert given == expected


def test_polygons_of_plain_images_are_in_pixels(quicklooks):
    row = PolygonRecord(
        id=3, area_px=1234.0, perimeter_px=56.0, row=7.5, col=9.5, mean_probability=0.5, max_probability=0.5
    )
    text = Page(render_report(replace(RECEIPT, largest_polygons=(row,)), quicklooks)).text
    assert "1,234 pixels" in text
    assert "56 pixels" in text
    assert "row 8, column 10" in text


def test_polygons_without_place_on_earth(quicklooks):
    row = PolygonRecord(id=3, area_m2=12.0, perimeter_m=56.0, x=7.25, y=-9.5, mean_probability=0.5, max_probability=0.5)
    assert "x 7.25, y -9.50" in Page(render_report(replace(RECEIPT, largest_polygons=(row,)), quicklooks)).text


def test_no_polygon_is_said(quicklooks):
    none = replace(RECEIPT.result, polygons=0, small_polygons=2)
    text = Page(render_report(replace(RECEIPT, largest_polygons=(), result=none), quicklooks)).text
    assert "There is no polygon in change.gpkg; 2 were too small and are in the rasters only" in text


def test_unknown_area_is_given_in_pixels(quicklooks):
    result = replace(RECEIPT.result, changed_area_m2=None, changed_px=1234)
    text = Page(render_report(replace(RECEIPT, result=result), quicklooks)).text
    assert "1,234 pixels" in text
    assert "their area on the ground is unknown" in text


def test_files_of_one_name_are_told_apart_by_their_folders(quicklooks):
    inputs = InputsRecord(an_input("/x/A/1.jpg"), an_input("/x/B/1.jpg"))
    assert "A/1.jpg → B/1.jpg" in Page(render_report(replace(RECEIPT, inputs=inputs), quicklooks)).text


def test_warnings_stand_out(quicklooks):
    html = render_report(replace(RECEIPT, preflight=("All is well.", "Warning: look at it.")), quicklooks)
    assert "<li>All is well.</li>" in html
    assert '<li class="warning"><strong>Warning:</strong> look at it.</li>' in html


def test_tall_pictures_fit_on_a_screen(quicklooks):
    assert "max-width:max" not in render_report(RECEIPT, quicklooks)
    arrays = [f.name for f in dataclasses.fields(quicklooks) if f.default is dataclasses.MISSING]
    tall = Quicklooks(*(np.swapaxes(getattr(quicklooks, name), 0, 1) for name in arrays))
    assert render_report(RECEIPT, tall).count("max-width:max(9rem,56.7vh)") == 3
