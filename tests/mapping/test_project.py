"""Which files the QGIS project of a run names, and how it stretches them."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from terradelta.mapping.project import project_of
from terradelta.mapping.quicklooks import shade_of
from terradelta.mapping.run import MapOptions, map_change
from terradelta.raster.pair import Reading, open_pair

from .conftest import PixelPredictor, Writer


def sources(xml: str) -> list[str]:
    return [layer.findtext("datasource") or "" for layer in ElementTree.fromstring(xml).iter("maplayer")]


def test_a_run_writes_it_with_paths_from_its_folder(tmp_path: Path, write_tiff: Writer, pair_values) -> None:
    (tmp_path / "in").mkdir()
    before, after = (write_tiff(f"in/{n} é.tif", v) for n, v in zip("ab", pair_values, strict=True))
    made = map_change(before, after, tmp_path / "x" / "out", PixelPredictor(), MapOptions(qgis=True))
    named = sources((made.folder / "change.qgs").read_text(encoding="utf-8"))
    assert named[-2:] == ["../../in/b é.tif", "../../in/a é.tif"]
    for name in named:
        assert (made.folder / name.partition("|")[0]).is_file()
    assert not list(made.folder.rglob("*partial*"))


def test_stored_values_are_stretched_though_others_were_compared(tmp_path: Path, write_tiff: Writer) -> None:
    """Both dates become reflectance; the second has an offset, and its file is drawn from 1000 higher on."""
    rng = np.random.default_rng(0)
    values = rng.integers(200, 3000, (3, 64, 64)).astype(np.uint16)
    before, after = write_tiff("a.tif", values), write_tiff("b.tif", values + np.uint16(1000))
    with open_pair(before, after, reading=Reading(values="s2,s2-offset")) as pair:
        tree = ElementTree.fromstring(project_of(pair, tmp_path / "out"))
        shade = shade_of(pair.preview.before, pair.preview.after, pair.preview.valid)
    assert shade.stretched
    later, earlier = (
        layer.find("pipe/rasterrenderer/redContrastEnhancement") for layer in list(tree.iter("maplayer"))[-2:]
    )
    assert later is not None
    assert earlier is not None
    for end, reflectance in zip(("minValue", "maxValue"), (shade.low[0], shade.high[0]), strict=True):
        assert float(earlier.findtext(end) or "") == pytest.approx(1e4 * reflectance)
        assert float(later.findtext(end) or "") == pytest.approx(1e4 * reflectance + 1000)


def test_8_bit_values_stay_and_no_valid_pixel_has_limits_too() -> None:
    values = np.arange(12, dtype=np.uint16).reshape(3, 2, 2)
    assert not shade_of(values.astype(np.uint8), values.astype(np.uint8), np.ones((2, 2), bool)).stretched
    shade = shade_of(values, values, np.zeros((2, 2), bool))
    assert (shade.low.tolist(), shade.high.tolist()) == ([0.0] * 3, [0.0] * 3)


def test_a_url_is_opened_by_gdal(tmp_path: Path, write_tiff: Writer, file_server) -> None:
    values = np.zeros((3, 32, 32), np.uint8)
    write_tiff("served/b.tif", values)
    with open_pair(write_tiff("a.tif", values), file_server.url("b.tif")) as pair:
        assert sources(project_of(pair, tmp_path / "out"))[-2:] == [f"/vsicurl/{file_server.url('b.tif')}", "../a.tif"]
