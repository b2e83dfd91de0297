"""Real jobs, in this process where that is enough, by the command line where it is not."""

import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from terradelta.errors import DataError, InputError, OutputError, OutputExistsError
from terradelta.files import take_lock, write_whole
from terradelta.lab.bench import benchmark as run_module
from terradelta.lab.bench import job as job_module
from terradelta.lab.bench.benchmark import run_bench
from terradelta.lab.bench.design import Entry, Job, Setup
from terradelta.lab.bench.job import FAILED, RECEIPT, RESULT, TRAINING, failure_of, run_job, try_job
from terradelta.lab.bench.recipe import bench_recipe
from terradelta.lab.data import open_pairs
from terradelta.lab.networks.layers.efficientnet_lite import MEAN, STD
from terradelta.lab.training.config import IMAGENET_MEAN
from terradelta.lab.training.loop import CollapseWarning, Shown, shown_by
from terradelta.predict.load import load_predictor

ROOT = Path(__file__).parents[3]
TINY = {"steps": 4, "crop_px": 32, "batch_size": 2}
ENTRY = Entry("fc_ef", "fc_ef")

pytestmark = pytest.mark.filterwarnings(f"ignore::{CollapseWarning.__module__}.{CollapseWarning.__qualname__}")


QUIET = shown_by(None, None)


def naive_scores(predictor: Any, root: Path, threshold: float, side: int) -> dict[str, float]:
    """Precision and recall over non-overlapping tiles, counted pixel by pixel sets."""
    pairs, tp, predicted, changed = open_pairs(root, "test"), 0, 0, 0
    for k in range(len(pairs)):
        pair = pairs.read(k)
        for row in range(0, pair.label.shape[0] - side + 1, side):
            for col in range(0, pair.label.shape[1] - side + 1, side):
                part = (slice(None), slice(row, row + side), slice(col, col + side))
                probability = predictor.predict(pair.before[part][None], pair.after[part][None])[0]
                mask, label = probability >= threshold, pair.label[part[1:]]
                tp, predicted, changed = tp + (mask & label).sum(), predicted + mask.sum(), changed + label.sum()
    return {"precision": tp / max(predicted, 1), "recall": tp / changed}


def test_an_encoder_from_imagenet_sees_values_as_its_weights_did(squares: Path):
    train, protocol = open_pairs(squares, "train"), Setup(str(squares), **TINY, bf16=True)
    fresh = Entry("x", "mlla_sianet_lite0", {"mla": False})
    recipe = bench_recipe(Job(fresh, 0, protocol), train)
    assert (recipe.encoder_weights, recipe.mean, recipe.precision) == (None, None, "bf16-mixed")
    recipe = bench_recipe(Job(dataclasses.replace(fresh, encoder_weights="imagenet"), 0, protocol), train)
    assert (recipe.encoder_weights, recipe.mean, recipe.std) == ("imagenet", MEAN, STD)
    assert recipe.network_args == {"in_channels": 3, "mla": False}
    other = Entry("y", "bit", encoder_weights="imagenet")
    assert bench_recipe(Job(other, 0, protocol), train).mean == IMAGENET_MEAN


def test_a_job_trains_and_scores_test_by_its_receipt(squares: Path, tmp_path: Path):
    protocol = Setup(str(squares), **TINY)
    run_job(Job(ENTRY, 0, protocol), tmp_path, tmp_path, QUIET)
    result = json.loads((tmp_path / RESULT).read_text())
    receipt = json.loads((tmp_path / RECEIPT).read_text())
    assert receipt["data"]["split"] == "test"
    assert receipt["data"]["pairs"] == 2 * 4
    assert result["metrics"] == receipt["metrics"]
    with (tmp_path / TRAINING / "log.csv").open() as stream:
        log = list(csv.DictReader(stream))
    assert len(log) == 4
    assert result["first_loss"] == float(log[0]["loss"])
    assert result["training_s"] > 0
    assert not (tmp_path / TRAINING / "last.ckpt").exists()
    predictor = load_predictor(str(tmp_path / TRAINING), threads=1)
    assert predictor.card.threshold == result["threshold"]
    naive = naive_scores(predictor, squares, result["threshold"], 32)
    for name, value in naive.items():
        assert result["metrics"][name] == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize("label", ["all changed", "CVA", "CVA, tuned"])
def test_baselines_are_scored_by_the_same_protocol(squares: Path, tmp_path: Path, label: str):
    run_job(Job(Entry(label, ""), 0, Setup(str(squares), **TINY)), tmp_path, tmp_path, QUIET)
    metrics = json.loads((tmp_path / RESULT).read_text())["metrics"]
    if label == "all changed":
        share = np.mean([open_pairs(squares, "test").read(k).label.mean() for k in range(2)])
        assert metrics["f1"] == pytest.approx(2 * share / (1 + share))
    else:
        assert metrics["f1"] > 0.5  # bright squares on noise are what CVA can find


def test_a_run_without_a_checkpoint_begins_anew(squares: Path, tmp_path: Path):
    (tmp_path / TRAINING).mkdir()
    (tmp_path / TRAINING / "recipe.json").write_text('{"half')
    run_job(Job(ENTRY, 0, Setup(str(squares), **TINY)), tmp_path, tmp_path, QUIET)
    assert (tmp_path / RESULT).is_file()


def test_a_job_that_fails_says_why_until_it_does_not(squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    job = Job(Entry("x", "bit", {"no": 1}), 0, Setup(str(squares), **TINY))
    why = try_job(job, tmp_path, tmp_path, QUIET)
    assert str(why).startswith("network 'bit' cannot be built")
    assert failure_of(tmp_path) == why
    good = Job(Entry("all changed", ""), 0, job.protocol)
    with monkeypatch.context() as patch:
        patch.setattr(job_module, "evaluate", lambda *_, **__: {}["of ours"])
        assert try_job(good, tmp_path, tmp_path, QUIET) == "KeyError: 'of ours'"
        assert "job.py" in json.loads((tmp_path / FAILED).read_text())["traceback"]
    assert try_job(good, tmp_path, tmp_path, QUIET) is None
    assert failure_of(tmp_path) is None


def test_one_that_fails_does_not_end_the_others_and_finished_ones_are_kept(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    tried = []

    def train(job: Job, folder: Path, data: Path, shown: Shown) -> str | None:
        tried.append(job.name)
        if job.entry.label == "bad":
            write_whole(folder / FAILED, '{"why": "no reason"}', make_folder=True)
            return "no reason"
        return try_job(job, folder, data, shown)

    monkeypatch.setattr(run_module, "try_job", train)
    entries = [Entry("bad", "bit"), ENTRY]
    made = run_bench(Setup(str(squares), **TINY), entries, [0], tmp_path)
    assert tried == ["all changed", "CVA", "CVA, tuned", "bad, seed 0", "fc_ef, seed 0"]
    assert [len(outcome.results) for outcome in made.outcomes] == [1, 1, 1, 0, 1]
    assert "failed: no reason" in (tmp_path / "table.md").read_text()
    assert set(json.loads((tmp_path / "speed.json").read_text())) == {"fc_ef"}
    tried.clear()
    run_bench(Setup(str(squares), **TINY), entries, [0], tmp_path)
    assert tried == ["bad, seed 0"]


def test_ctrl_c_ends_the_bench(squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(job_module, "fit", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_bench(Setup(str(squares), **TINY), [ENTRY, Entry("bit", "bit")], [0], tmp_path)
    assert [path.parent.name[:2] for path in sorted(tmp_path.glob("runs/*/result.json"))] == ["al", "cv", "cv"]
    assert not list(tmp_path.glob("runs/*/failed.json"))


def test_only_one_process_at_a_time(squares: Path, tmp_path: Path):
    with (tmp_path / ".lock").open("w") as lock:
        assert take_lock(lock)
        with pytest.raises(OutputExistsError, match="another process is benchmarking into"):
            run_bench(Setup(str(squares), **TINY), [ENTRY], [0], tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="give a folder that you may write to"):
        run_bench(Setup(str(squares), **TINY), [ENTRY], [0], tmp_path / "file" / "x")


def test_another_protocol_is_refused_and_another_folder_too(squares: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(run_module, "try_job", lambda *_: None)
    protocol, out = Setup(str(squares), **TINY), tmp_path / "out"
    run_bench(protocol, [ENTRY], [0], out)
    run_bench(protocol, [ENTRY, Entry("bit", "bit")], [0, 1], out)  # more of the same is welcome
    with pytest.raises(InputError, match="was begun by another protocol"):
        run_bench(Setup(str(squares), 5, 32, 2), [ENTRY], [0], out)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x").write_text("")
    with pytest.raises(OutputExistsError, match="holds no benchmark"):
        run_bench(protocol, [ENTRY], [0], tmp_path / "other")
    with pytest.raises(DataError, match="no labelled pairs that are known"):
        run_bench(Setup(str(tmp_path), **TINY), [ENTRY], [0], tmp_path / "new")


def command(out: Path, data: Path, *options: str) -> tuple[list[str], dict[str, str]]:
    words = [sys.executable, "-m", "terradelta", "bench", "-o", str(out), "--data", str(data), *options]
    return words, os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


@pytest.mark.slow
def test_the_command_survives_being_killed(squares: Path, tmp_path: Path):
    """SIGKILL in the middle of a run; then what was finished is kept, and the scores are those of an unbroken bench."""
    options = ("--networks", "fc_ef,bit:nothing=1", "--steps", "40", "--crop", "32", "--batch", "2")
    words, environment = command(tmp_path / "broken", squares, *options)
    process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    runs = tmp_path / "broken" / "runs"
    deadline = time.monotonic() + 300
    while not list(runs.glob("fc-ef-*/run/last.ckpt")):
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (broken,) = runs.glob("fc-ef-*")
    assert not (broken / RESULT).exists()
    before = {path: path.stat().st_mtime_ns for path in runs.glob("*/result.json")}
    assert before  # the baselines
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1  # a network failed
    assert "failed: bit nothing=1; the table says why" in " ".join(done.stderr.split())
    assert all(path.stat().st_mtime_ns == mtime for path, mtime in before.items())
    assert "resuming after step" in done.stderr
    table = (tmp_path / "broken" / "table.md").read_text()
    assert "failed: network 'bit' cannot be built" in table
    speeds = json.loads((tmp_path / "broken" / "speed.json").read_text())
    assert set(speeds) == {"fc_ef"}
    words, environment = command(tmp_path / "whole", squares, *options)
    subprocess.run(words, env=environment, capture_output=True, check=False)
    results = [
        json.loads(next((tmp_path / name / "runs").glob("fc-ef-*/result.json")).read_text())["metrics"]
        for name in ("broken", "whole")
    ]
    assert results[0] == results[1]


def test_networks_and_an_ablation_exclude_each_other(tmp_path: Path):
    words, environment = command(tmp_path / "out", tmp_path, "--networks", "bit", "--ablation", "mlla")
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "exclude each other; give one of them" in " ".join(done.stderr.split())
    assert not (tmp_path / "out").exists()
