"""Rows of tiles and whole pairs made by the workers of a dask cluster."""

import hashlib
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from distributed import LocalCluster

from terradelta.errors import InputError, ModelError, OutputError, RasterError
from terradelta.lab.synthetic import SceneConfig, make_scene
from terradelta.mapping.batch import map_pairs
from terradelta.mapping.cluster import HERE, Cluster, PackedModel, pack_model
from terradelta.mapping.run import MapOptions, map_change
from terradelta.predict.classical import load_method
from terradelta.predict.load import DEFAULT_MODEL, load_predictor, shipped_models
from terradelta.predict.openvino import OpenVINOPredictor

from .conftest import BoxPredictor, Writer

PRODUCTS = ("probability.tif", "change.tif", "change.gpkg")
# Workers are threads here, and filters of warnings, which belong to the process, mix.
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


@pytest.fixture(scope="module")
def cluster():
    """Two workers in this process: quick, and what they see can be patched."""
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=HERE) as made,
        Cluster(made.scheduler_address) as cluster,
    ):
        yield cluster


@pytest.fixture
def pair(write_tiff: Writer, pair_values) -> tuple[Path, Path]:
    before, after = (write_tiff(f"{n}.tif", v) for n, v in zip("ab", pair_values, strict=True))
    return before, after


def options(workers: Cluster | None) -> MapOptions:
    return MapOptions(tile=64, overlap=16, min_area_m2=0, workers=workers)


def digests(folder: Path) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in PRODUCTS}


@pytest.mark.parametrize("shared", [True, False])
def test_the_product_is_that_of_one_process_to_the_byte(tmp_path, pair, cluster, monkeypatch, shared):
    alone = map_change(*pair, tmp_path / "alone", BoxPredictor(), options(None))
    if not shared:
        monkeypatch.setattr("terradelta.mapping.cluster._sees", lambda *_: False)
    ticks = []
    made = map_change(
        *(*pair, tmp_path / "made", BoxPredictor(), options(cluster)), progress=lambda *t: ticks.append(t)
    )
    assert digests(made.folder) == digests(alone.folder)
    assert ticks[-1] == (54, 54)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tif", "alone", "b.tif", "made"]


def test_a_fitted_method_and_the_default_network_too(tmp_path, pair, cluster):
    shipped = OpenVINOPredictor(shipped_models()[DEFAULT_MODEL], threads=1)
    for name, predictor in (("cva", load_method("cva")), ("network", shipped)):
        alone = map_change(*pair, tmp_path / f"{name}-alone", predictor, options(None))
        made = map_change(*pair, tmp_path / name, predictor, options(cluster))
        assert digests(made.folder) == digests(alone.folder)


def test_the_model_reaches_each_worker_once(tmp_path, pair, cluster, monkeypatch):
    loaded = []
    load = PackedModel.load
    monkeypatch.setattr(PackedModel, "load", lambda self, threads: (loaded.append(threads), load(self, threads))[1])
    monkeypatch.setattr(BoxPredictor, "identity", "a model that no test before has sent")
    for name in ("one", "two", "three"):
        map_change(*pair, tmp_path / name, BoxPredictor(), options(cluster))
    assert 1 <= len(loaded) <= 2
    assert set(loaded) == {1}


def test_a_model_that_cannot_be_run_alike_is_refused(monkeypatch):
    path = shipped_models()[DEFAULT_MODEL]
    packed = pack_model(OpenVINOPredictor(path, threads=1))
    assert packed.content == path.read_bytes()
    other = PackedModel("another", packed.name, packed.content, packed.precision)
    with pytest.raises(ModelError, match="is another model on"):
        other.load(1)
    monkeypatch.setattr("terradelta.mapping.cluster.cpu_has_bf16", lambda: False)
    with pytest.raises(ModelError, match="no bf16: the result would differ"):
        PackedModel(packed.identity, packed.name, packed.content, "bf16").load(1)


def test_a_model_file_that_has_vanished(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(shipped_models()[DEFAULT_MODEL].read_bytes())
    predictor = OpenVINOPredictor(path, threads=1)
    path.unlink()
    with pytest.raises(ModelError, match="cannot be read any more"):
        pack_model(predictor)


def test_what_fails_on_a_worker_is_told_with_its_name(tmp_path, pair, cluster, monkeypatch):
    def fail(*_: object) -> None:
        raise RasterError("nothing there")

    monkeypatch.setattr("terradelta.mapping.plan.ScenePlan.check_inputs", fail)
    with pytest.raises(RasterError, match=r"nothing there \(on worker \d"):
        map_change(*pair, tmp_path / "out", BoxPredictor(), options(cluster))


def test_another_version_on_the_workers_is_refused(pair, cluster, tmp_path, monkeypatch):
    monkeypatch.setattr("terradelta.mapping.cluster.importlib.metadata.version", lambda _: next(versions))
    versions = iter("1234")
    with pytest.raises(InputError, match="install one version everywhere"):
        cluster._check_versions()
    monkeypatch.undo()
    monkeypatch.setattr("terradelta.mapping.plan.terradelta.__version__", "0.0.1")
    original = map_change
    monkeypatch.setattr("terradelta.mapping.cluster._check_job", _refuse)
    with pytest.raises(InputError, match="another version"):
        original(*pair, tmp_path / "out", BoxPredictor(), options(cluster))


def _refuse(_: object) -> None:
    raise InputError("another version")


def test_pairs_go_to_the_workers_whole(tmp_path, pair, cluster):
    table = tmp_path / "pairs.csv"
    lines = [f"{pair[0]},{pair[1]},p{i}" for i in range(4)] + [f"{tmp_path / 'none.tif'},{pair[1]},bad"]
    table.write_text("before,after,name\n" + "\n".join(lines) + "\n")
    alone = map_change(*pair, tmp_path / "alone", BoxPredictor(), options(None))
    made = list(map_pairs(table, tmp_path / "out", BoxPredictor(), options(cluster)))
    assert [outcome.receipt is None for outcome in made] == [False] * 4 + [True]
    assert "none.tif does not exist" in made[-1].message
    assert all(digests(tmp_path / "out" / f"p{i}") == digests(alone.folder) for i in range(4))
    again = list(map_pairs(table, tmp_path / "out", BoxPredictor(), options(None)))
    assert [outcome.resumed for outcome in again] == [True] * 4 + [False]


def test_pairs_with_an_onnx_file_whose_copy_on_the_worker_is_gone(tmp_path, write_tiff, pair_values, cluster):
    before, after = (write_tiff(f"{n}.tif", v[:, 90:154, 190:254]) for n, v in zip("ab", pair_values, strict=True))
    predictor = OpenVINOPredictor(shipped_models()[DEFAULT_MODEL], threads=1)
    table = tmp_path / "pairs.csv"
    table.write_text("before,after\n" + f"{before},{after}\n" * 4)
    made = list(map_pairs(table, tmp_path / "out", predictor, options(cluster)))
    alone = map_change(before, after, tmp_path / "alone", predictor, options(None))
    assert [outcome.message for outcome in made] == [""] * 4
    assert all(digests(outcome.folder) == digests(alone.folder) for outcome in made)


def _no_room(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_worker_without_room_is_not_a_lost_scheduler(tmp_path, cluster):
    with pytest.raises(OutputError, match=r"No space left on device \(on worker \d.*; make room there"):
        next(cluster.starmap(_no_room, BoxPredictor(), tmp_path, [()]))


def test_pairs_need_a_folder_that_workers_see(tmp_path, pair, cluster, monkeypatch):
    monkeypatch.setattr("terradelta.mapping.cluster._sees", lambda *_: False)
    table = tmp_path / "pairs.csv"
    table.write_text("before,after\n" + f"{pair[0]},{pair[1]}\n" * 4)
    with pytest.raises(InputError, match="does not see the folder"):
        list(map_pairs(table, tmp_path / "out", BoxPredictor(), options(cluster)))


@pytest.mark.parametrize(
    ("address", "words"),
    [("local:0", "1 or more"), ("local:x", "1 or more"), ("tcp://127.0.0.1:9", "no scheduler with workers answers")],
)
def test_addresses(address, words, monkeypatch):
    monkeypatch.setattr("terradelta.mapping.cluster.CONNECT_S", 0.5)
    with pytest.raises(InputError, match=words):
        Cluster(address)


def test_a_folder_that_cannot_be_written_is_no_lost_scheduler(cluster, tmp_path):
    with pytest.raises(OutputError, match=r"seen-by-workers cannot be written \(No such file"):
        next(cluster.starmap(print, BoxPredictor(), tmp_path / "none", [()]))


def test_a_lost_scheduler_leaves_the_rows(tmp_path, pair):
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=HERE) as made,
        Cluster(made.scheduler_address) as cluster,
    ):

        def lose(done: int, total: int) -> None:
            if done >= 18:
                raise OSError("connection reset")

        with pytest.raises(OutputError, match=r"the scheduler at .* is gone") as caught:
            map_change(*pair, tmp_path / "out", BoxPredictor(), options(cluster), progress=lose)
    assert "the same command goes on from there" in caught.value.__notes__[0]
    predictor = BoxPredictor()
    again = map_change(*pair, tmp_path / "out", predictor, options(None))
    alone = map_change(*pair, tmp_path / "alone", BoxPredictor(), options(None))
    assert again.receipt.resumed_tile_rows >= 1
    assert digests(again.folder) == digests(alone.folder)


def test_the_extra_is_named_where_it_is_missing(tmp_path, pair):
    before, after = map(str, pair)
    code = (
        "import sys\nsys.modules['distributed'] = None\nfrom terradelta.cli import main\n"
        f"sys.argv = ['terradelta', 'map', {before!r}, {after!r}, '-o', 'out', '--cluster', 'local']\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert "[cluster]" in " ".join(done.stderr.split())


@pytest.mark.slow
def test_a_killed_worker_loses_nothing(tmp_path, write_tiff):
    """Real processes; one gets SIGKILL in the middle of the run."""
    before = np.random.default_rng(0).integers(60, 100, (3, 640, 640)).astype(np.uint8)
    after = before.copy()
    after[:, 100:400, 200:380] += 140
    dates = [write_tiff("a.tif", before), write_tiff("b.tif", after)]
    method = load_method("cva")
    alone = map_change(*dates, tmp_path / "alone", method, options(None))
    killed: list[int] = []
    with Cluster("local:2") as cluster:
        assert cluster.count() == 2
        workers = cluster.client.run(os.getpid)

        def kill(done: int, total: int) -> None:
            if not killed and done >= total // 6:
                killed.append(next(iter(workers.values())))
                os.kill(killed[0], signal.SIGKILL)

        made = map_change(*dates, tmp_path / "made", method, options(cluster), progress=kill)
    assert killed
    assert digests(made.folder) == digests(alone.folder)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::terradelta.predict.load.PrecisionWarning")
def test_the_int8_network_on_real_processes(tmp_path, write_tiff):
    scene = make_scene(SceneConfig(height=900, width=900), 3)
    pair = [write_tiff("a.tif", scene.before), write_tiff("b.tif", scene.after)]
    predictor = load_predictor("default", precision="int8", threads=1)
    alone = map_change(*pair, tmp_path / "alone", predictor, MapOptions(tile=512))
    with Cluster("local:2") as cluster:
        made = map_change(*pair, tmp_path / "made", predictor, MapOptions(tile=512, workers=cluster))
    assert digests(made.folder) == digests(alone.folder)
    assert made.receipt.model.runtime.startswith("OpenVINOPredictor, int8 and ")


def test_options_travel():
    assert pickle.loads(pickle.dumps(options(None))) == options(None)
