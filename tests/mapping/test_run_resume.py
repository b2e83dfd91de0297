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

from terradelta.errors import InputError, ModelError, OutputError, OutputExistsError, RasterError
from terradelta.mapping.journal import Journal
from terradelta.mapping.run import MapOptions, map_change
from terradelta.mapping.staging import check_free

from .conftest import BoxPredictor, PixelPredictor, Writer

SMALL = MapOptions(tile=64, overlap=16, min_area_m2=0)
PRODUCTS = ("probability.tif", "change.tif", "change.gpkg", "item.json", "thumbnail.jpg")
PATIENCE_S = 600.0
"""A run takes seconds; on a machine with much other work, minutes."""


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


@pytest.mark.parametrize("tiles", [9, 20, 48, 53])
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
    columns, rows = 9, 6
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
    assert made.receipt.resumed_tile_rows == finished
    assert digests(made.folder) == digests(whole.folder)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tif", "b.tif", "out", "whole"]


def test_fresh_starts_anew(tmp_path, pair):
    with pytest.raises(KeyboardInterrupt):
        map_change(*pair, tmp_path / "out", BoxPredictor(), SMALL, progress=stop_after(30))
    predictor = BoxPredictor()
    map_change(*pair, tmp_path / "out", predictor, MapOptions(tile=64, overlap=32, fresh=True))
    assert len(predictor.calls) > 54


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
        map_change(*pair, tmp_path / "out", BoxPredictor(), SMALL, progress=stop_after(53))
    predictor = BoxPredictor()
    options = MapOptions(tile=64, overlap=16, min_area_m2=0, threshold=0.9)
    map_change(*pair, tmp_path / "out", predictor, options)
    assert len(predictor.calls) == 9


def test_an_error_of_the_writer_keeps_the_rows(tmp_path, pair, monkeypatch):
    def full(*_: object) -> None:
        raise OutputError("disk full")

    with monkeypatch.context() as patched, pytest.raises(OutputError, match="disk full"):
        patched.setattr("terradelta.products.writer.ProductWriter.write", full)
        map_change(*pair, tmp_path / "out", BoxPredictor(), SMALL)
    predictor = BoxPredictor()
    map_change(*pair, tmp_path / "out", predictor, SMALL)
    assert len(predictor.calls) < 54


def test_a_model_that_fails_half_way_keeps_the_rows(tmp_path, pair):
    class Failing(BoxPredictor):
        def logits(self, before, after):
            return super().logits(before, after) * (np.nan if len(self.calls) == 30 else 1)

    with pytest.raises(ModelError, match="no numbers at rows"):
        map_change(*pair, tmp_path / "out", Failing(), SMALL)
    work = next(p for p in tmp_path.iterdir() if p.name.startswith(".out"))
    assert len(list((work / "rows").glob("*.row"))) == 3


def test_finished_rows_do_not_depend_on_one_another(tmp_path, pair):
    """A row that is lost from the journal is made again, alone."""
    whole = map_change(*pair, tmp_path / "whole", BoxPredictor(), SMALL)
    with pytest.raises(KeyboardInterrupt):
        map_change(*pair, tmp_path / "out", BoxPredictor(), SMALL, progress=stop_after(53))
    work = next(p for p in tmp_path.iterdir() if p.name.startswith(".out"))
    (work / "rows" / "000002.row").unlink()
    predictor = BoxPredictor()
    made = map_change(*pair, tmp_path / "out", predictor, SMALL)
    assert len(predictor.calls) == 2 * 9
    assert digests(made.folder) == digests(whole.folder)


def test_an_input_that_vanishes_ends_the_run_and_keeps_the_rows(tmp_path, pair):
    aside = tmp_path / "aside.tif"

    def vanish(done: int, total: int) -> None:
        if done == 30:
            pair[1].rename(aside)

    with pytest.raises(RasterError, match=r"b\.tif was there when the run began, but is no more") as caught:
        map_change(*pair, tmp_path / "out", BoxPredictor(), SMALL, progress=vanish)
    assert "same command goes on" in caught.value.__notes__[0]
    assert not (tmp_path / "out").exists()
    aside.rename(pair[1])
    predictor = BoxPredictor()
    map_change(*pair, tmp_path / "out", predictor, SMALL)
    assert predictor.calls == []


def test_an_input_that_changes_ends_the_run(tmp_path, pair):
    def change(done: int, total: int) -> None:
        if done == 30:
            os.utime(pair[0], (1, 1))

    with pytest.raises(RasterError, match=r"a\.tif has changed since the run began; the result would be a mixture"):
        map_change(*pair, tmp_path / "out", BoxPredictor(), SMALL, progress=change)
    with pytest.raises(InputError, match=r"unfinished run that differs from this one in: inputs\..*--fresh to discard"):
        map_change(*pair, tmp_path / "out", BoxPredictor(), SMALL)
    map_change(*pair, tmp_path / "out", BoxPredictor(), MapOptions(tile=64, overlap=16, fresh=True))


def test_a_second_run_on_the_same_folder_is_refused_and_harms_nothing(tmp_path, pair):
    refused = []

    def again(done: int, total: int) -> None:
        if done in (5, 30):
            with pytest.raises(OutputExistsError, match=r"another process is making .*out at this moment; wait"):
                map_change(*pair, tmp_path / "out", BoxPredictor(), MapOptions(tile=64, overlap=16, fresh=True))
            refused.append(done)

    whole = map_change(*pair, tmp_path / "whole", BoxPredictor(), SMALL)
    made = map_change(*pair, tmp_path / "out", BoxPredictor(), SMALL, progress=again)
    assert refused == [5, 30]
    assert digests(made.folder) == digests(whole.folder)


FULL = """
import resource, signal, sys
sys.path.insert(0, {folder!r})
from pathlib import Path
from conftest import BoxPredictor
from terradelta.errors import OutputError
from terradelta.mapping.run import MapOptions, map_change
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
try:
    map_change(Path({before!r}), Path({after!r}), Path({out!r}), BoxPredictor(),
               MapOptions(tile=64, overlap=16, min_area_m2=0))
except OutputError as error:
    print(error, *getattr(error, "__notes__", []))
"""


@pytest.mark.parametrize(("limit", "kept"), [(1_000, False), (40_000, True)])
def test_a_full_disk(tmp_path, pair, limit, kept):
    """A limit on the size of files stands in for it: first no row fits, then all rows do, but the product does not."""
    names = {"before": str(pair[0]), "after": str(pair[1]), "out": str(tmp_path / "out")}
    code = FULL.format(folder=str(Path(__file__).parent), limit=limit, **names)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ("same command goes on from there" in done.stdout) == kept
    assert "ake room" in done.stdout
    assert any(p.name.startswith(".out") for p in tmp_path.iterdir()) == kept
    predictor = BoxPredictor()
    made = map_change(*pair, tmp_path / "out", predictor, SMALL)
    assert (len(predictor.calls) < 54) == kept
    assert digests(made.folder) == digests(map_change(*pair, tmp_path / "whole", BoxPredictor(), SMALL).folder)


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


def rows_of(out: Path) -> int:
    """How many rows of tiles an unfinished run has in its journal; -1 before it works at all."""
    work = next(iter(out.parent.glob(f".{out.name}.*")), None)
    return -1 if work is None else len(list((work / "rows").glob("*.row")))


def kill_once(process: subprocess.Popen[bytes], out: Path, draw: random.Random) -> bool:
    """Kill the run at a random moment after a random row of tiles; False if it ended before that."""
    target, pause = draw.randint(rows_of(out), 6), draw.uniform(0, 0.06)
    deadline = time.monotonic() + PATIENCE_S
    while process.poll() is None and rows_of(out) < target:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    time.sleep(pause)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def kill_at_random(tmp_path: Path, pair: tuple[Path, Path], kills: int, seed: int) -> list[int]:
    """Kill runs at random moments and start them again, over and over; how many rows were done at each kill."""
    expected = digests(map_change(*pair, tmp_path / "whole", BoxPredictor(), SMALL).folder)
    draw, killed = random.Random(seed), []
    for run in range(10 * kills):
        if len(killed) == kills:
            return killed
        out = tmp_path / f"out-{run}"
        while not out.exists():
            before = rows_of(out)
            process = start(pair, out)
            if len(killed) < kills and draw.random() < 0.8 and kill_once(process, out, draw):
                killed.append(rows_of(out))
                assert killed[-1] >= before or out.exists()  # no finished row is lost
            else:
                _, error = process.communicate(timeout=PATIENCE_S)
                assert process.returncode == 0, error.decode()
            process.stderr.close()
        assert digests(out) == expected
        with pytest.raises(OutputExistsError):  # which also clears up after a kill that came when the product was out
            check_free(out)
        assert list(tmp_path.glob(f".{out.name}.*")) == []
    raise AssertionError(f"only {len(killed)} of {kills} kills came before the end of a run")


def test_killed_twice(tmp_path, pair):
    assert len(kill_at_random(tmp_path, pair, kills=2, seed=1)) == 2


@pytest.mark.slow
def test_killed_a_hundred_times(tmp_path, pair):
    killed = kill_at_random(tmp_path, pair, kills=100, seed=0)
    assert len(killed) == 100
    assert set(killed) >= {0, 1, 2, 3, 4, 5, 6}


def test_the_journal_is_found_by_a_link_to_the_same_folder(tmp_path, pair):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(KeyboardInterrupt):
        map_change(*pair, tmp_path / "real" / "out", BoxPredictor(), SMALL, progress=stop_after(30))
    predictor = BoxPredictor()
    map_change(*pair, tmp_path / "link" / "out", predictor, SMALL)
    assert len(predictor.calls) < 54


def test_the_job_holds_what_the_rows_depend_on(tmp_path, pair):
    with pytest.raises(KeyboardInterrupt):
        map_change(*pair, tmp_path / "out", BoxPredictor(), SMALL, progress=stop_after(30))
    work = next(p for p in tmp_path.iterdir() if p.name.startswith(".out"))
    job = json.loads((work / "rows" / "job.json").read_text())
    assert job["tiles"] == [64, 64, 16, 16]
    assert [Path(each[0]).name for each in job["inputs"]] == ["a.tif", "b.tif"]
    assert isinstance(Journal(work / "rows", job), Journal)


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
@pytest.mark.parametrize("what", ["mask", "nodata", "content"])
def test_a_run_does_not_go_on_with_another_input(tmp_path, pair, what):
    """Each changes what is read, and leaves the image's size and date as they were."""
    with pytest.raises(KeyboardInterrupt):
        map_change(*pair, tmp_path / "out", BoxPredictor(), SMALL, progress=stop_after(20))
    before = pair[0]
    times = (before.stat().st_atime_ns, before.stat().st_mtime_ns)
    if what == "content":
        content = bytearray(before.read_bytes())
        content[-1] ^= 1
        before.write_bytes(content)
    elif what == "mask":
        with rasterio.open(before) as file:
            size = {"height": file.height, "width": file.width}
        with rasterio.open(f"{before}.msk", "w", driver="GTiff", count=1, dtype="uint8", **size) as file:
            file.write(np.eye(*size.values(), dtype="uint8")[None] * 255)
    else:
        Path(f"{before}.aux.xml").write_text(
            '<PAMDataset><PAMRasterBand band="1"><NoDataValue>70</NoDataValue></PAMRasterBand></PAMDataset>'
        )
    os.utime(before, ns=times)
    with pytest.raises(InputError, match=r"differs from this one in: inputs"):
        map_change(*pair, tmp_path / "out", BoxPredictor(), SMALL)
