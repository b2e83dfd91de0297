"""A plan can be worked on by any process: what another one makes of it is the same."""

import os
import pickle
import time

import numpy as np
import pytest
import rasterio
from affine import Affine

from terradelta.errors import InputError, RasterError
from terradelta.mapping.damage import TolerantPair
from terradelta.mapping.journal import Journal
from terradelta.mapping.plan import MapOptions, make_plan
from terradelta.mapping.run import map_change
from terradelta.mapping.scene import SceneRows, predict_rows
from terradelta.predict.classical.cva import Cva
from terradelta.raster.pair import open_pair
from terradelta.raster.scaling import scaling_of
from terradelta.stages import StageClock

from .conftest import BoxPredictor, Writer


@pytest.fixture
def paths(write_tiff: Writer, pair_values):
    return [write_tiff(f"{n}.tif", v.astype(np.uint16) * 9) for n, v in zip("ab", pair_values, strict=True)]


def plan_of(paths, predictor, **options):
    with open_pair(*paths, wanted=predictor.card.bands) as pair:
        scaling = scaling_of(pair, predictor.card)
        return make_plan(pair, predictor, scaling, MapOptions(tile=64, overlap=16, **options))


def test_rows_made_from_a_pickled_plan_in_any_order_are_the_same(tmp_path, paths):
    predictor = BoxPredictor()
    plan = plan_of(paths, predictor)
    copy = pickle.loads(pickle.dumps(plan))
    assert copy == plan
    scenes = []
    for name, numbers in (("up", range(6)), ("down", reversed(range(6)))):
        journal = Journal(tmp_path / name, plan.job)
        for number in numbers:
            with copy.open(predictor, StageClock()) as reader:
                assert list(predict_rows(reader, copy.tiles, journal, [number])) == [number]
        rows = SceneRows(journal, copy.tiles)
        scenes.append(np.concatenate([piece for n in range(6) for _, piece in rows.pieces(n)]))
        rows.close()
    assert np.array_equal(*scenes)
    assert scenes[0].shape == (300, 420)


def test_another_file_under_the_same_name_is_refused(paths):
    plan = plan_of(paths, BoxPredictor())
    os.utime(paths[0], (1, 1))
    with pytest.raises(RasterError, match=r"a\.tif has changed since the run began"), plan.open(None, StageClock()):
        pass


def test_damage_is_skipped_where_the_plan_says_so(paths):
    for skip in (False, True):
        plan = plan_of(paths, BoxPredictor(), skip_damaged=skip)
        with plan.open(BoxPredictor(), StageClock()) as reader:
            assert isinstance(reader.pair, TolerantPair) == skip


def test_a_scene_of_a_trillion_pixels_is_asked_about_before_anything_is_read(tmp_path):
    """A sparse file of some kilobytes."""
    path = tmp_path / "a.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=1,
        height=10**6,
        width=10**6,
        dtype="uint8",
        crs="EPSG:32614",
        transform=Affine(0.5, 0, 600000, 0, -0.5, 3400000),
        tiled=True,
        blockxsize=16384,
        blockysize=16384,
        sparse_ok=True,
        BIGTIFF="YES",
    ):
        pass
    said = []
    started = time.process_time()
    with pytest.raises(
        InputError, match=r"1,000,000 x 1,000,000 pixels, 2,000,000\.0 MB .* give an area of interest .*--yes"
    ):
        map_change(path, path, tmp_path / "out", Cva(), announce=said.extend)
    assert said == []
    assert time.process_time() - started < 20
    assert not list(tmp_path.glob(".out*"))


def test_how_much_is_ahead_is_said_first(tmp_path, paths):
    said = []
    map_change(*paths, tmp_path / "out", Cva(), announce=said.append)
    assert said[0] == ["To be mapped: 300 x 420 pixels, 1.5 MB uncompressed in both dates."]
