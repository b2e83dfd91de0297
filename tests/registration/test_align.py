"""The registration guard of `map`: said, corrected the right way round, refused, resumed."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from tests.mapping.conftest import PixelPredictor, Writer

from terradelta.errors import InputError
from terradelta.geo.shift import ShiftField
from terradelta.lab.synthetic import SceneConfig, make_scene
from terradelta.mapping.plan import MapOptions, make_plan
from terradelta.mapping.provenance import registration_record
from terradelta.mapping.run import map_change
from terradelta.raster.pair import open_pair
from terradelta.registration.align import align
from terradelta.stages import StageClock

SHIFT = (3.4, -2.7)
SMALL = MapOptions(tile=128, overlap=32, min_area_m2=0)


@pytest.fixture(scope="module")
def suburb() -> np.ndarray:
    return make_scene(SceneConfig(height=320, width=352, change_rate=0).without_nuisance(), 5).before


@pytest.fixture
def shifted(write_tiff: Writer, suburb) -> tuple[Path, Path]:
    """Two dates without any change; the second one is shifted."""
    after = ndimage.shift(suburb.astype(float), (0, *SHIFT), order=3, mode="nearest").clip(1, 255).astype(np.uint8)
    return write_tiff("a.tif", suburb), write_tiff("b.tif", after)


def test_a_shift_is_said_and_corrected(tmp_path, shifted):
    lines: dict[bool, list[str]] = {False: [], True: []}
    made = {
        wish: map_change(
            *shifted,
            tmp_path / f"out{wish}",
            PixelPredictor(),
            dataclasses.replace(SMALL, coregister=wish),
            announce=lines[wish].extend,
        )
        for wish in lines
    }
    warned = [line for line in lines[False] if line.startswith("Warning: the dates lie ")]
    assert any("; more than 0.5 look like change along edges; --coregister corrects it." in line for line in warned)
    assert not any(line.startswith("Warning") for line in lines[True])
    assert any("After coregistration the second date lies 0.0" in line for line in lines[True])
    changed = {wish: each.receipt.result.changed_fraction for wish, each in made.items()}
    assert changed[True] < 0.1 * changed[False]
    record = json.loads((made[True].folder / "receipt.json").read_text())["registration"]
    assert record["corrected"]
    assert record["found"]["direction_px"] == pytest.approx(SHIFT, abs=0.1)
    assert record["remaining"]["median_px"] < 0.1
    page = made[True].report.read_text()
    assert "How the two dates lie on one another" in page
    assert page.count("Arrows from where") == 2
    assert made[False].report.read_text().count("Arrows from where") == 1


def test_a_resumed_run_uses_the_same_field(tmp_path, shifted):
    options = dataclasses.replace(SMALL, coregister=True)
    whole = map_change(*shifted, tmp_path / "whole", PixelPredictor(), options)

    def stop(done: int, total: int) -> None:
        if done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        map_change(*shifted, tmp_path / "out", PixelPredictor(), options, progress=stop)
    with pytest.raises(InputError, match="differs from this one in: coregister"):
        map_change(*shifted, tmp_path / "out", PixelPredictor(), SMALL)
    made = map_change(*shifted, tmp_path / "out", PixelPredictor(), options)
    assert made.receipt.resumed_tile_rows > 0
    for name in ("probability.tif", "change.tif", "change.gpkg"):
        assert (made.folder / name).read_bytes() == (whole.folder / name).read_bytes()


def test_the_plan_opens_the_pair_moved(shifted):
    predictor = PixelPredictor()
    with open_pair(*shifted) as pair:
        align(pair, True)
        plan = make_plan(pair, predictor, None, SMALL)
        here = pair.read(pair.grid.tile).after
    assert isinstance(plan.shift, ShiftField)
    with plan.open(predictor, StageClock()) as reader:
        assert (reader.pair.read(reader.pair.grid.tile).after == here).all()


def test_a_pair_without_a_match_is_not_corrected(write_tiff: Writer):
    rng = np.random.default_rng(0)
    noise = (rng.integers(1, 255, (3, 160, 160)).astype(np.uint8) for _ in "ab")
    with open_pair(*(write_tiff(f"{n}.tif", v) for n, v in zip("ab", noise, strict=True))) as pair:
        found = align(pair, True)
        assert pair.shift is None
    assert found.mapped is found.found
    assert found.lines()[-1] == "Warning: the dates were not coregistered: too few blocks match."
    assert registration_record(found).not_corrected_because == "too few blocks match"


def test_a_pair_that_lies_well_is_left_alone(write_tiff: Writer, suburb):
    with open_pair(*(write_tiff(f"{n}.tif", suburb) for n in "ab")) as pair:
        found = align(pair, True)
        assert pair.shift is None
    assert found.lines()[-1] == "The dates were not coregistered: they would not lie better."
