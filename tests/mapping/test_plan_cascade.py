"""Tiles that are screened out: which, and that all else stays as it is."""

import pickle

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st

from terradelta.errors import InputError, ModelError
from terradelta.mapping.journal import Journal
from terradelta.mapping.plan import MapOptions, make_plan
from terradelta.mapping.run import map_change
from terradelta.mapping.scene import SceneRows, predict_rows
from terradelta.predict.cascade import CARD_ENTRY
from terradelta.predict.classical import load_method
from terradelta.raster.pair import open_pair
from terradelta.stages import StageClock

from .conftest import PixelPredictor, Writer

MEASURED = {
    "rows": [{"recall": 0.99, "threshold": 0.5}],
    "factor": 4,
    "changes": 500,
    "data": "made up",
    "split": "val",
}
SCREENED = MapOptions(tile=64, overlap=16, cascade=0.99, min_area_m2=0)
PLAIN = MapOptions(tile=64, overlap=16, min_area_m2=0)


@pytest.fixture(autouse=True, scope="module")
def small_blocks():
    """Blocks of 4 pixels, so that tiles may share 16."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("terradelta.mapping.plan.BLOCK_PX", 4)
        yield


class Screening(PixelPredictor):
    def __init__(self) -> None:
        super().__init__()
        self.card = self.card.replace(training={CARD_ENTRY: MEASURED})

    def logits(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        self.calls.append(before.shape)
        return super().logits(before, after)


@pytest.fixture
def pair(write_tiff: Writer, pair_values):
    return [write_tiff(f"{n}.tif", values) for n, values in zip("ab", pair_values, strict=True)]


def probability(folder) -> np.ndarray:
    with rasterio.open(folder / "probability.tif") as file:
        return file.read(1)


def test_only_what_low_resolution_does_not_show_is_missed(tmp_path, pair):
    """The rectangle of 60 x 80 pixels is kept; that of 4 x 4, which fills no block of 4 x 4, is not."""
    predictor = Screening()
    made = map_change(*pair, tmp_path / "screened", predictor, SCREENED)
    whole = map_change(*pair, tmp_path / "plain", Screening(), PLAIN)
    expected = probability(whole.folder)
    assert (expected[10:14, 10:14] > 0.9).all()
    expected[10:14, 10:14] = 0
    assert np.array_equal(probability(made.folder), expected)
    found = made.receipt.cascade
    full = [call for call in predictor.calls if max(call) > 16]
    assert 0 < found["skipped"] == found["tiles"] - len(full) == len(found["skipped_tiles"])
    for row, col, height, width in found["skipped_tiles"]:
        assert (expected[row : row + height, col : col + width] < 0.5).all()
    assert (found["asked"], found["recall"], found["level"], found["changes"]) == (0.99, 0.99, 0.95, 500)
    assert made.receipt.damaged == ()
    assert "Tiles are screened at 1/4 of the resolution" in " ".join(made.receipt.preflight)
    assert f"Screening left out {found['skipped']} of {found['tiles']} tiles" in made.report.read_text()
    assert whole.receipt.cascade is None


def test_a_stopped_run_and_other_processes_give_the_same(tmp_path, pair):
    whole = map_change(*pair, tmp_path / "whole", Screening(), SCREENED)

    def stop(done: int, _: int) -> None:
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        map_change(*pair, tmp_path / "again", Screening(), SCREENED, progress=stop)
    again = map_change(*pair, tmp_path / "again", Screening(), SCREENED)
    assert again.receipt.resumed_tile_rows > 0
    assert again.receipt.cascade == whole.receipt.cascade
    for name in ("probability.tif", "change.tif", "change.gpkg"):
        assert (again.folder / name).read_bytes() == (whole.folder / name).read_bytes()
    with open_pair(*pair, wanted=("red", "green", "blue")) as opened:
        plan = make_plan(opened, Screening(), None, SCREENED)
    copy, rows = pickle.loads(pickle.dumps(plan)), len(plan.tiles.row_spans)
    journal = Journal(tmp_path / "rows", copy.job)
    for number in reversed(range(rows)):
        with copy.open(Screening(), StageClock()) as reader:
            assert list(predict_rows(reader, copy.tiles, journal, [number])) == [number]
    scene = SceneRows(journal, copy.tiles)
    joined = np.concatenate([piece for number in range(rows) for _, piece in scene.pieces(number)])
    scene.close()
    assert np.abs(joined - probability(whole.folder)).max() < 1 / 1024


def test_a_run_without_screening_is_another_job(tmp_path, pair):
    def stop(done: int, _: int) -> None:
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        map_change(*pair, tmp_path / "out", Screening(), SCREENED, progress=stop)
    with pytest.raises(InputError, match="differs from this one in: cascade"):
        map_change(*pair, tmp_path / "out", Screening(), PLAIN)


@settings(max_examples=10)
@given(st.integers(0, 99), st.integers(1, 5), st.sampled_from([(64, 16), (96, 32), (48, 16)]))
def test_changes_that_fill_a_low_pixel_are_never_lost(tmp_path_factory, seed, count, tiling):
    """Wherever rectangles of 8 x 8 pixels or more lie, and however the scene is tiled."""
    rng = np.random.default_rng(seed)
    before = np.full((3, 150, 210), 60, np.uint8)
    after = before.copy()
    for _ in range(count):
        row, col, height, width = rng.integers((0, 0, 8, 8), (140, 200, 40, 40))
        row, col = row // 4 * 4, col // 4 * 4
        after[:, row : row + height, col : col + width] = 220
    folder = tmp_path_factory.mktemp("any")
    paths = [folder / "a.tif", folder / "b.tif"]
    for path, values in zip(paths, (before, after), strict=True):
        profile = {"driver": "GTiff", "count": 3, "height": 150, "width": 210, "dtype": "uint8", "crs": "EPSG:32614"}
        with rasterio.open(path, "w", transform=rasterio.Affine(0.5, 0, 6e5, 0, -0.5, 3.4e6), **profile) as file:
            file.write(values)
    with open_pair(*paths, wanted=("red", "green", "blue")) as opened:
        plan = make_plan(opened, Screening(), None, MapOptions(tile=tiling[0], overlap=tiling[1], cascade=0.9))
        journal = Journal(folder / "rows", plan.job)
        numbers = range(len(plan.tiles.row_spans))
        list(predict_rows(plan.reader(opened, Screening(), StageClock()), plan.tiles, journal, numbers))
    scene = SceneRows(journal, plan.tiles)
    joined = np.concatenate([piece for number in numbers for _, piece in scene.pieces(number)])
    scene.close()
    changed = (after != before).any(axis=0)
    assert not (joined >= 0.5)[~changed].any()
    # A sliver at a border may lie in a tile that shows nothing else; what fills a low-resolution pixel may not be lost.
    filled = changed[:148, :208].reshape(37, 4, 52, 4).all(axis=(1, 3))
    assert filled.any()
    assert (joined >= 0.5)[:148, :208].reshape(37, 4, 52, 4).all(axis=(1, 3))[filled].all()


def test_what_cannot_be_screened_is_refused(tmp_path, pair, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("terradelta.mapping.plan.BLOCK_PX", 64)
        with pytest.raises(InputError, match="only if tiles share 176 pixels or more, not 16"):
            map_change(*pair, tmp_path / "out", Screening(), SCREENED)
    with pytest.raises(ModelError, match="not measured what screening keeps"):
        map_change(*pair, tmp_path / "out", PixelPredictor(), SCREENED)
    with pytest.raises(InputError, match="--cascade screens with a network; the method cva has none"):
        map_change(*pair, tmp_path / "out", load_method("cva"), SCREENED)
    assert not (tmp_path / "out").exists()
