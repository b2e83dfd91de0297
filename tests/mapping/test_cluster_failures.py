"""A scheduler and workers in processes of their own: killed, stopped, or out of memory while a run goes on."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from terradelta.errors import OutputError
from terradelta.mapping.cluster import Cluster
from terradelta.mapping.run import MapOptions, map_change
from terradelta.predict.classical import load_method

from .conftest import BoxPredictor, Writer

pytestmark = pytest.mark.slow
PRODUCTS = ("probability.tif", "change.tif", "change.gpkg")
TILES = ("--tile", "64", "--overlap", "16")
SMALL = MapOptions(tile=64, overlap=16)
SECONDS = 240.0


def digests(folder: Path) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in PRODUCTS}


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.002)


class Outside:
    """`dask scheduler` and `dask worker`, as a user starts them."""

    def __init__(self, folder: Path, workers: int = 2, memory: str = "0", **settings: str) -> None:
        folder.mkdir()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        environment |= {f"DASK_DISTRIBUTED__{key}": value for key, value in settings.items()}
        place = ("--scheduler-file", str(folder / "scheduler.json"), "--no-dashboard")
        self.log = (folder / "log.txt").open("w")

        def start(name: str, *arguments: str) -> subprocess.Popen[bytes]:
            command = [sys.executable, "-m", f"distributed.cli.dask_{name}", *place, *arguments]
            return subprocess.Popen(command, stderr=self.log, stdout=self.log, env=environment, cwd=folder)

        self.scheduler = start("scheduler", "--host", "127.0.0.1", "--port", "0")
        self.workers = start(
            *("worker", "--nworkers", str(workers), "--nthreads", "1", "--memory-limit", memory),
            *("--death-timeout", "30"),
        )
        wait_until(lambda: (folder / "scheduler.json").exists() and (folder / "scheduler.json").read_text() != "")
        self.address = json.loads((folder / "scheduler.json").read_text())["address"]

    def close(self) -> None:
        found = psutil.Process(self.workers.pid).children(recursive=True) if self.workers.poll() is None else []
        for each in (self.scheduler, self.workers):
            each.kill()
            each.wait()
        for each in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        self.log.close()


@contextlib.contextmanager
def outside(folder: Path, **options: str) -> Iterator[Outside]:
    made = Outside(folder, **options)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(autouse=True)
def patience(monkeypatch) -> None:
    """On a machine with other work, a worker takes long to start."""
    monkeypatch.setattr("terradelta.mapping.cluster.CONNECT_S", SECONDS)


@pytest.fixture
def pair(write_tiff: Writer) -> tuple[Path, Path]:
    """1,024 x 1,024 pixels: 22 rows of 22 tiles."""
    before = np.random.default_rng(0).integers(60, 100, (3, 1024, 1024)).astype(np.uint8)
    after = before.copy()
    after[:, 100:400, 200:380] += 140
    return write_tiff("a.tif", before), write_tiff("b.tif", after)


def command(pair: tuple[Path, Path], out: Path, address: str) -> subprocess.Popen[str]:
    words = ["map", *map(str, pair), "-o", str(out), "--method", "cva", *TILES, "--cluster", address]
    return subprocess.Popen(
        [sys.executable, "-m", "terradelta", *words],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "200"},
        stderr=subprocess.PIPE,
        text=True,
    )


def rows_of(out: Path) -> int:
    work = next(iter(out.parent.glob(f".{out.name}.*")), None)
    return 0 if work is None else len(list((work / "rows").glob("*.row")))


def test_a_killed_scheduler_leaves_what_is_finished_and_another_one_goes_on(tmp_path, pair):
    alone = map_change(*pair, tmp_path / "alone", load_method("cva"), SMALL)
    out = tmp_path / "made" / "out"
    with outside(tmp_path / "first") as first:
        process = command(pair, out, first.address)
        wait_until(lambda: process.poll() is not None or rows_of(out) >= 3)
        first.scheduler.kill()
        error = process.communicate(timeout=SECONDS)[1]
    assert process.returncode == 1
    assert "is gone" in error
    assert "the same command goes on from there" in error
    assert "Traceback" not in error
    assert [path.name.startswith(".out.") for path in out.parent.iterdir()] == [True]
    kept = rows_of(out)
    assert 3 <= kept < 22
    with outside(tmp_path / "second") as second:
        again = command(pair, out, second.address)
        assert again.wait(SECONDS) == 0, again.communicate()[1]
        again.communicate()
    assert json.loads((out / "receipt.json").read_text())["resumed_tile_rows"] == kept
    assert digests(out) == digests(alone.folder)
    assert [path.name for path in out.parent.iterdir()] == ["out"]


@pytest.mark.parametrize(("rows", "seconds"), [(2, 3), (2, None), (0, None)])
def test_a_worker_that_is_cut_off(tmp_path, pair, rows, seconds):
    """Stopped after some rows, or before it gets the model: it comes back in time, or the scheduler gives it up."""
    alone = map_change(*pair, tmp_path / "alone", load_method("cva"), SMALL)
    settings = {"SCHEDULER__WORKER_TTL": "15 seconds"} if seconds is None else {}
    stopped: list[psutil.Process] = []
    with outside(tmp_path / "cluster", **settings) as made, Cluster(made.address) as cluster:
        wait_until(lambda: cluster.count() == 2)
        workers = list(cluster.client.run(os.getpid).values())

        def stop(done: int, total: int) -> None:
            if not stopped and rows_of(tmp_path / "out") >= rows:
                stopped.append(psutil.Process(workers[0]))
                stopped[0].suspend()
                if seconds is not None:
                    time.sleep(seconds)
                    stopped[0].resume()

        try:
            options = MapOptions(tile=64, overlap=16, workers=cluster)
            found = map_change(*pair, tmp_path / "out", load_method("cva"), options, progress=stop)
        finally:
            for each in stopped:
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.resume()
    assert stopped
    assert digests(found.folder) == digests(alone.folder)


def test_tasks_that_end_one_worker_after_the_other(tmp_path):
    """The nanny ends a worker above its memory; after two of them, the run gives up, and says what helps."""

    def swell(*_: object) -> None:
        held = []
        for _ in range(200):
            held.append(np.ones(2**22))  # 32 MiB, 6 GiB in all
            time.sleep(0.05)

    settings = {"memory": "1500MB", "SCHEDULER__ALLOWED_FAILURES": "1"}
    with outside(tmp_path / "cluster", **settings) as made, Cluster(made.address) as cluster:
        with pytest.raises(OutputError, match=r"ended 2 workers, one after the other; they may lack memory"):
            next(cluster.starmap(swell, BoxPredictor(), tmp_path, [()]))
        assert list(cluster.starmap(_one, BoxPredictor(), tmp_path, [()])) == [1]  # the cluster lives


def _one(*_: object) -> int:
    return 1


def test_stopping_by_hand_leaves_a_journal(tmp_path, pair):
    """Ctrl-C in the middle of a run on a cluster."""
    out = tmp_path / "out"
    with outside(tmp_path / "cluster") as made:
        process = command(pair, out, made.address)
        wait_until(lambda: process.poll() is not None or rows_of(out) >= 2)
        process.send_signal(signal.SIGINT)
        error = process.communicate(timeout=SECONDS)[1]
    assert process.returncode not in (0, None)
    assert "the same command goes on from there" in error
    assert "Traceback" not in error
    assert not out.exists()
    assert rows_of(out) >= 2
