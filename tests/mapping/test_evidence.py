"""Attributes of polygons: what both images show, and what the shift alone could explain."""

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyogrio
import pyogrio.raw
import pytest
import rasterio
from rio_cogeo import cog_validate
from scipy import ndimage

from terradelta.lab.synthetic import SceneConfig, make_scene
from terradelta.mapping.evidence import _is_outline
from terradelta.mapping.run import ChangeMap, MapOptions, map_change
from terradelta.predict.classical.cva import Cva

from .conftest import PixelPredictor, Writer

ALL = MapOptions(min_area_m2=0)


def attributes(made: ChangeMap) -> dict[str, np.ndarray]:
    meta, _, shapes, fields = pyogrio.raw.read(made.polygons, layer="change")
    return dict(zip(meta["fields"], fields, strict=True)) | {"geometry": shapes}


def textured(seed: int = 0, shape: tuple[int, int] = (220, 260)) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(0, 1, (3, *shape)), (0, 3, 3))
    return (90 + 60 * noise / noise.std()).clip(20, 160)


@pytest.fixture
def objects(write_tiff: Writer) -> tuple[Path, Path]:
    """A square that appears (bright, top left), one that vanishes, and one that changes its colour."""
    before, after = textured() * 0.2 + 70, textured() * 0.2 + 70
    after[:, 20:50, 20:60] = 240
    before[:, 120:150, 30:70] = 240
    before[:, 120:150, 160:200], after[:, 120:150, 160:200] = 180, [[[1]], [[1]], [[9]]]
    paths = [write_tiff(f"{n}.tif", v.astype(np.uint8)) for n, v in (("a", before), ("b", after))]
    return paths[0], paths[1]


def test_means_and_outlines(tmp_path, objects):
    made = map_change(*objects, tmp_path / "out", PixelPredictor(), ALL)
    found = attributes(made)
    assert found["outline_in"].tolist() == ["after", "before", "both"]
    assert found["pixels"].tolist() == [1200] * 3
    assert found["after_red"][0] == 240
    assert found["before_red"][0] == pytest.approx(70 + 0.2 * 90, abs=6)
    assert (found["before_red"][2], found["after_blue"][2]) == (180, 9)
    assert found["edge_after"][0] > 5 * found["edge_before"][0]
    assert found["shift_explains"].tolist() == [0, 0, 0]
    evidence = json.loads((made.folder / "receipt.json").read_text())["evidence"]
    assert evidence["outline_in"]["after"]["polygons"] == 1
    assert evidence["outline_in"]["before"]["area_m2"] == pytest.approx(300, rel=1e-2)
    assert evidence["shift_explains"]["polygons"] == 0
    assert "The outline is a stronger edge after in 1 (300 m²)" in made.report.read_text()
    assert cog_validate(made.change, strict=True) == (True, [], [])


def test_sums_do_not_depend_on_tiles(tmp_path, write_tiff: Writer):
    """A polygon over the border of tiles has the mean of a naive loop."""
    rng = np.random.default_rng(1)
    before = rng.integers(20, 60, (3, 1100, 80)).astype(np.uint8)
    after = before.copy()
    after[:, 1000:1060, 10:50] += rng.integers(120, 180, (3, 60, 40)).astype(np.uint8)
    made = map_change(write_tiff("a.tif", before), write_tiff("b.tif", after), tmp_path / "out", PixelPredictor(), ALL)
    found = attributes(made)
    assert found["pixels"].tolist() == [2400]
    for date, values in (("before", before), ("after", after)):
        for band, name in enumerate(("red", "green", "blue")):
            mean = values[band, 1000:1060, 10:50].mean()
            assert found[f"{date}_{name}"][0] == pytest.approx(mean)


S2 = "S2A_MSIL2A_2023{}01T101031_N0509_R022_T32TQM_20230701T130000_{}.tif"
LANDSAT = "LC08_L2SP_232066_20200801_20200910_02_T1_{}_{}.tif"


@pytest.mark.parametrize(
    ("name", "bands", "stored", "values", "known"),
    [
        (S2, ("B04", "B08"), lambda r: r * 1e4 + 1000, "auto", True),
        (LANDSAT, ("red", "nir"), lambda r: (r + 0.2) / 2.75e-5, "auto", True),
        ("a{}{}.tif", ("red", "nir"), lambda r: r * 1e4 + 1000, "s2-offset,s2-offset", True),
        ("a{}{}.tif", ("red", "nir"), lambda r: r.astype("float32"), "auto", True),
        ("a{}{}.tif", ("red", "nir"), lambda r: r * 1e4, "auto", False),  # what the numbers mean is not known
        (S2, ("B04", "B08"), lambda r: r * 1e4 + 1000, "raw", False),
        ("a{}{}.tif", ("B4", "B8"), lambda r: r.astype("float32"), "auto", False),  # of whatever sensor
        (S2, ("B03", "B08"), lambda r: r * 1e4 + 1000, "auto", False),
    ],
)
def test_vegetation_from_reflectance_of_bands_that_are_known(
    tmp_path, write_tiff: Writer, name, bands, stored, values, known
):
    before = np.broadcast_to(np.array([0.06, 0.30])[:, None, None], (2, 60, 60)).copy()
    before[:, ::2] += 0.01
    after = before.copy()
    after[:, 20:40, 20:40] = np.array([0.15, 0.18])[:, None, None]
    paths = []
    for month, reflectance in (("06", before), ("07", after)):
        raw = stored(reflectance)
        raw = raw if raw.dtype == "float32" else np.round(raw).astype("uint16")
        paths.append(write_tiff(name.format(month, month), raw))
        with rasterio.open(paths[-1], "r+") as file:
            file.descriptions = bands
    made = map_change(*paths, tmp_path / "out", Cva(), MapOptions(min_area_m2=0, values=values))
    found = attributes(made)
    assert ("ndvi_before" in found) == known
    if known:
        assert found["ndvi_before"].tolist() == [pytest.approx(0.24 / 0.37, rel=1e-3)]
        assert found["ndvi_after"].tolist() == [pytest.approx(0.03 / 0.33, rel=1e-3)]


def test_bands_that_share_a_name_get_fields_of_their_own(tmp_path, write_tiff: Writer):
    before = np.full((4, 60, 60), 60, np.uint16) + np.arange(60, dtype=np.uint16) % 3
    after = before.copy()
    after[:, 20:40, 20:40] = np.arange(100, 180, 20)[:, None, None]
    paths = [write_tiff("a.tif", before), write_tiff("b.tif", after)]
    for path in paths:
        with rasterio.open(path, "r+") as file:
            file.descriptions = ("Reflectance", "reflectance", "Reflectance 2", "reflectance")
    made = map_change(*paths, tmp_path / "out", Cva(), MapOptions(min_area_m2=0))
    found = attributes(made)
    names = ("reflectance", "reflectance_2", "reflectance_2_2", "reflectance_3")
    largest = found["pixels"].argmax()
    assert [found[f"after_{name}"][largest] for name in names] == [100, 120, 140, 160]
    assert not any("name their bands differently" in line for line in made.receipt.preflight)


def test_a_pure_shift_is_flagged_and_real_change_is_not(tmp_path, write_tiff: Writer):
    """A suburb without change, moved by two pixels, and one bright square that is new."""
    scene = make_scene(SceneConfig(height=320, width=352, change_rate=0).without_nuisance(), 5).before
    after = ndimage.shift(scene.astype(float), (0, 1.6, -1.2), order=3, mode="nearest").clip(1, 255).astype(np.uint8)
    after[:, 200:240, 200:250] = [[[255]], [[20]], [[255]]]
    made = map_change(write_tiff("a.tif", scene), write_tiff("b.tif", after), tmp_path / "out", PixelPredictor(), ALL)
    found = attributes(made)
    new = found["pixels"] > 1000
    assert new.sum() == 1
    assert found["shift_explains"][new].tolist() == [0]
    false_px, flagged_px = found["pixels"][~new].sum(), found["pixels"][~new & (found["shift_explains"] == 1)].sum()
    assert false_px > 500
    assert flagged_px > 0.8 * false_px
    evidence = made.receipt.evidence.shift_explains
    assert evidence.polygons == (found["shift_explains"] == 1).sum()
    assert "alone could explain" in made.report.read_text()
    style = ElementTree.parse(made.folder / "change.qml")
    rules = [rule.get("filter") for rule in style.iter("rule")]
    assert rules == ['"shift_explains" = 1', "ELSE"]
    assert {each.get("value"): each.get("alpha") for each in style.iter("paletteEntry")} == {"0": "0", "1": "255"}


def test_thin_real_change_is_not_flagged(tmp_path, write_tiff: Writer):
    """A new road as wide as the shift: no shift brings it forth."""
    scene = make_scene(SceneConfig(height=320, width=352, change_rate=0).without_nuisance(), 5).before
    after = ndimage.shift(scene.astype(float), (0, 1.6, -1.2), order=3, mode="nearest").clip(1, 255).astype(np.uint8)
    after[:, 160:162, 20:300] = [[[255]], [[20]], [[255]]]
    made = map_change(write_tiff("a.tif", scene), write_tiff("b.tif", after), tmp_path / "out", PixelPredictor(), ALL)
    found = attributes(made)
    road = found["pixels"].argmax()
    assert found["after_green"][road] < 80
    assert found["shift_explains"][road] == 0


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_an_unknown_shift_explains_nothing_and_says_so(tmp_path, write_tiff: Writer):
    values = np.full((3, 60, 60), 60, np.uint8)
    after = values.copy()
    after[:, 20:40, 20:40] = 200
    plain = {"crs": None, "transform": None}
    paths = [write_tiff("a.tif", values, **plain), write_tiff("b.tif", after, **plain)]
    made = map_change(*paths, tmp_path / "out", PixelPredictor(), ALL)
    assert np.isnan(attributes(made)["shift_explains"].astype(float)).all()
    assert made.receipt.evidence.shift_explains is None
    assert made.receipt.evidence.outline_in.after.area_px == 400


def test_a_map_without_change_has_the_fields(tmp_path, write_tiff: Writer):
    values = textured().astype(np.uint8)
    made = map_change(write_tiff("a.tif", values), write_tiff("b.tif", values), tmp_path / "out", PixelPredictor(), ALL)
    found = attributes(made)
    assert {"outline_in", "shift_explains", "before_red"} <= found.keys()
    assert len(found["geometry"]) == 0


def test_an_outline_is_where_a_neighbour_is_not_set():
    mask = np.random.default_rng(0).random((40, 50)) < 0.7
    mask[10:30, 10:40] = True
    assert (_is_outline(mask) == mask & ~ndimage.minimum_filter(mask, 3)).all()
    assert _is_outline(mask)[10:30, 10:40].sum() < 2 * (20 + 30)


def test_a_map_opens_as_one_layer_without_a_warning(tmp_path, objects):
    made = map_change(*objects, tmp_path / "out", PixelPredictor(), ALL)
    assert pyogrio.list_layers(made.polygons).tolist() == [["change", "Polygon"]]
    meta, _, _, _ = pyogrio.raw.read(made.polygons)  # warnings are errors
    assert meta["fields"][0] == "id"


def test_the_order_of_polygons_is_that_of_where_they_end(tmp_path, write_tiff: Writer):
    """Three squares over two rows of tiles of polygons: the one that begins first ends last."""
    before = np.full((3, 1200, 60), 60, np.uint8)
    after = before.copy()
    for top, bottom, left in ((10, 1100, 2), (30, 40, 20), (20, 1010, 40)):
        after[:, top:bottom, left : left + 10] = 240
    made = map_change(write_tiff("a.tif", before), write_tiff("b.tif", after), tmp_path / "out", PixelPredictor(), ALL)
    found = attributes(made)
    assert found["pixels"].tolist() == [100, 9900, 10900]
    assert found["id"].tolist() == [1, 2, 3]
    assert found["after_red"].tolist() == [240] * 3
