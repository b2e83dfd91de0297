"""Runs that end early and go on: the product is the one of an unbroken run, to the byte."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio

from terradelta.errors import InputError, ModelError, OutputError, RasterError
from terradelta.geo.grid import Tile
from terradelta.geo.raster import open_pair
from terradelta.mapping.damage import read_around_damage
from terradelta.mapping.journal import Journal
from terradelta.mapping.run import MapOptions, map_change

from .conftest import BoxPredictor, PixelPredictor, Writer

SMALL = MapOptions(tile=64, overlap=16, min_area_m2=0)
PRODUCTS = ("probability.tif", "change.tif", "change.gpkg")


@pytest.fixture
def pair(write_tiff: Writer, pair_values) -> tuple[Path, Path]:
    before, after = (write_tiff(f"{n}.tif", v) for n, v in zip("ab", pair_values, strict=True))
    return before, after


def digests(folder: Path) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in PRODUCTS}


def stop_after(tiles: int):
    def progress(done: int, total: int) -> None:
        if done == tiles:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize("tiles", [9, 20, 48, 62])
def test_the_product_is_the_same_and_no_finished_row_is_repeated(tmp_path, pair, tiles):
    whole = map_change(*pair, tmp_path / "whole", BoxPredictor(), SMALL)
    with pytest.raises(KeyboardInterrupt) as caught:
        map_change(*pair, tmp_path / "out", BoxPredictor(), SMALL, progress=stop_after(tiles))
    predictor, ticks, lines = BoxPredictor(), [], []
    made = map_change(
        *(*pair, tmp_path / "out", predictor, SMALL),
        progress=lambda *t: ticks.append(t),
        announce=lines.extend,
    )
    columns, rows = 9, 7
    finished = tiles // columns  # of a row, when its last tile stops the run, the journal does not know yet
    finished -= tiles % columns == 0
    notes = getattr(caught.value, "__notes__", [])
    assert [("the same command goes on from there, --fresh starts anew" in note) for note in notes] == [True] * (
        finished > 0
    )
    assert len(predictor.calls) == columns * (rows - finished)
    assert ticks[0] == (finished * columns + 1, rows * columns)
    said = f"Going on with an unfinished run: {finished} of {rows} tile rows are done."
    assert (said in lines) == (finished > 0)
    assert made.receipt["resumed_tile_rows"] == finished
    assert digests(made.folder) == digests(whole.folder)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tif", "b.tif", "out", "whole"]


def test_fresh_starts_anew(tmp_path, pair):
    with pytest.raises(KeyboardInterrupt):
        map_change(*pair, tmp_path / "out", BoxPredictor(), SMALL, progress=stop_after(30))
    predictor = BoxPredictor()
    map_change(*pair, tmp_path / "out", predictor, MapOptions(tile=64, overlap=32, fresh=True))
    assert len(predictor.calls) > 63


def test_another_threshold_goes_on_other_tiles_and_inputs_do_not(tmp_path, pair):
    with pytest.raises(KeyboardInterrupt):
        map_change(*pair, tmp_path / "out", BoxPredictor(), SMALL, progress=stop_after(30))
    with pytest.raises(InputError, match=r"differs from this one in: tiles\. Give the same inputs and options"):
        map_change(*pair, tmp_path / "out", BoxPredictor(), MapOptions(tile=64, overlap=32))
    with pytest.raises(InputError, match="differs from this one in: model"):
        map_change(*pair, tmp_path / "out", PixelPredictor(), SMALL)
    os.utime(pair[1], (1, 1))
    with pytest.raises(InputError, match="differs from this one in: inputs"):
        map_change(*pair, tmp_path / "out", BoxPredictor(), SMALL)


def test_a_changed_threshold_uses_the_finished_rows(tmp_path, pair):
    with pytest.raises(KeyboardInterrupt):
        map_change(*pair, tmp_path / "out", BoxPredictor(), SMALL, progress=stop_after(62))
    predictor = BoxPredictor()
    options = MapOptions(tile=64, overlap=16, min_area_m2=0, threshold=0.9)
    map_change(*pair, tmp_path / "out", predictor, options)
    assert len(predictor.calls) == 9


def test_an_error_of_the_writer_keeps_the_rows(tmp_path, pair, monkeypatch):
    def full(*_: object) -> None:
        raise OutputError("disk full")

    with monkeypatch.context() as patched, pytest.raises(OutputError, match="disk full"):
        patched.setattr("terradelta.mapping.products.ProductWriter.write", full)
        map_change(*pair, tmp_path / "out", BoxPredictor(), SMALL)
    predictor = BoxPredictor()
    map_change(*pair, tmp_path / "out", predictor, SMALL)
    assert len(predictor.calls) < 63


def test_a_model_that_fails_half_way_keeps_the_rows(tmp_path, pair):
    class Failing(BoxPredictor):
        def logits(self, before, after):
            return super().logits(before, after) * (np.nan if len(self.calls) == 30 else 1)

    with pytest.raises(ModelError, match="no numbers at rows"):
        map_change(*pair, tmp_path / "out", Failing(), SMALL)
    work = next(p for p in tmp_path.iterdir() if p.name.startswith(".out"))
    assert len(list((work / "rows").glob("*.row"))) == 3


def damaged_tiff(path: Path, values: np.ndarray, block: tuple[int, int], write_tiff: Writer) -> Path:
    """A tiled TIFF with one 128-pixel block overwritten."""
    options = {"tiled": True, "blockxsize": 128, "blockysize": 128, "compress": "deflate", "interleave": "pixel"}
    made = write_tiff(path.name, values, **options)
    with rasterio.open(made) as source:
        offset = int(source.tags(ns="TIFF", bidx=1).get(f"BLOCK_OFFSET_{block[1]}_{block[0]}", 0))
    content = bytearray(made.read_bytes())
    content[offset : offset + 200] = b"\x55" * 200
    made.write_bytes(content)
    return made


@pytest.fixture
def damaged(tmp_path, write_tiff: Writer, pair_values) -> tuple[Path, Path]:
    before = write_tiff("a.tif", pair_values[0])
    after = damaged_tiff(tmp_path / "b.tif", pair_values[1], (1, 2), write_tiff)
    with rasterio.open(after) as source, pytest.raises(rasterio.errors.RasterioIOError):
        source.read()
    return before, after


def test_a_damaged_block_ends_the_run_and_says_how_to_skip_it(tmp_path, damaged):
    with pytest.raises(RasterError, match=r"b\.tif.*With --skip-damaged, such pixels count as no data"):
        map_change(*damaged, tmp_path / "out", PixelPredictor(), SMALL)


def test_a_damaged_block_can_be_skipped_and_is_recorded(tmp_path, damaged, pair_values):
    options = MapOptions(tile=64, overlap=16, min_area_m2=0, skip_damaged=True)
    made = map_change(*damaged, tmp_path / "out", PixelPredictor(), options)
    lost = np.zeros((300, 420), bool)
    lost[128:256, 256:384] = True
    with rasterio.open(made.change) as source:
        assert ((source.read(1) == 255) == lost).all()
    recorded = np.zeros_like(lost)
    for each in json.loads((made.folder / "receipt.json").read_text())["damaged"]:
        recorded[each["row"] : each["row"] + each["height"], each["col"] : each["col"] + each["width"]] = True
        assert "b.tif" in each["reason"]
    assert (recorded == lost).all()


def test_a_window_that_is_lost_altogether_has_no_valid_pixel(damaged):
    with open_pair(*damaged) as pair:
        window, damage = read_around_damage(pair, Tile(140, 260, 50, 60))
    assert not window.valid.any()
    assert window.before.shape == (3, 50, 60)
    assert [d.tile for d in damage] == [Tile(140, 260, 50, 60)]


def test_finished_rows_do_not_depend_on_one_another(tmp_path, pair):
    """A row that is lost from the journal is made again, alone."""
    whole = map_change(*pair, tmp_path / "whole", BoxPredictor(), SMALL)
    with pytest.raises(KeyboardInterrupt):
        map_change(*pair, tmp_path / "out", BoxPredictor(), SMALL, progress=stop_after(62))
    work = next(p for p in tmp_path.iterdir() if p.name.startswith(".out"))
    (work / "rows" / "000002.row").unlink()
    predictor = BoxPredictor()
    made = map_change(*pair, tmp_path / "out", predictor, SMALL)
    assert len(predictor.calls) == 2 * 9
    assert digests(made.folder) == digests(whole.folder)


CODE = """
import sys, time
sys.path.insert(0, {folder!r})
from pathlib import Path
from conftest import BoxPredictor
from terradelta.mapping.run import MapOptions, map_change
map_change(Path({before!r}), Path({after!r}), Path({out!r}), BoxPredictor(),
           MapOptions(tile=64, overlap=16, min_area_m2=0), progress=lambda *_: time.sleep(0.004))
"""


def start(pair: tuple[Path, Path], out: Path) -> subprocess.Popen[bytes]:
    code = CODE.format(folder=str(Path(__file__).parent), before=str(pair[0]), after=str(pair[1]), out=str(out))
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)


def kill_at_random(tmp_path: Path, pair: tuple[Path, Path], kills: int, seed: int) -> int:
    """Kill a run at random moments and start it again, over and over; how often it was in its rows when killed."""
    expected = digests(map_change(*pair, tmp_path / "whole", BoxPredictor(), SMALL).folder)
    draw, killed, during, runs = random.Random(seed), 0, 0, 0
    while killed < kills:
        out = tmp_path / f"out-{runs}"
        runs += 1
        while not out.exists():
            process = start(pair, out)
            pause = draw.uniform(0, 0.9) if draw.random() < 0.9 else 60.0
            deadline = time.monotonic() + 30
            work = None
            while process.poll() is None and work is None and time.monotonic() < deadline:
                work = next((p for p in tmp_path.iterdir() if p.name.startswith(f".{out.name}.")), None)
                time.sleep(0.002)
            try:
                process.wait(pause)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                killed += 1
                during += work is not None and any((work / "rows").glob("*.row"))
            else:
                assert process.returncode == 0, process.stderr.read().decode()
            process.stderr.close()
        assert digests(out) == expected
        assert not [p for p in tmp_path.iterdir() if p.name.startswith(f".{out.name}.")]
    return during


def test_killed_once_or_twice(tmp_path, pair):
    assert kill_at_random(tmp_path, pair, kills=2, seed=1) >= 0


@pytest.mark.slow
def test_killed_a_hundred_times(tmp_path, pair):
    assert kill_at_random(tmp_path, pair, kills=100, seed=0) > 30


def test_the_journal_is_found_by_a_link_to_the_same_folder(tmp_path, pair):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(KeyboardInterrupt):
        map_change(*pair, tmp_path / "real" / "out", BoxPredictor(), SMALL, progress=stop_after(30))
    predictor = BoxPredictor()
    map_change(*pair, tmp_path / "link" / "out", predictor, SMALL)
    assert len(predictor.calls) < 63


def test_the_job_holds_what_the_rows_depend_on(tmp_path, pair):
    with pytest.raises(KeyboardInterrupt):
        map_change(*pair, tmp_path / "out", BoxPredictor(), SMALL, progress=stop_after(30))
    work = next(p for p in tmp_path.iterdir() if p.name.startswith(".out"))
    job = json.loads((work / "rows" / "job.json").read_text())
    assert job["tiles"] == [64, 16, 16]
    assert [Path(each[0]).name for each in job["inputs"]] == ["a.tif", "b.tif"]
    assert isinstance(Journal(work / "rows", job), Journal)
