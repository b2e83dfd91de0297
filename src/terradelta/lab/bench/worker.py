"""One job in a process of its own: train, choose the threshold on val, score test, leave a receipt.

Started by `terradelta.lab.bench.runner` as ``python -m terradelta.lab.bench.worker FOLDER DATA``; FOLDER holds
``job.json``, or ``request.json`` of networks to time. The process ends when the one that started it does, however that
ended, because its standard input is then closed.
"""

import csv
import json
import os
import shutil
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from terradelta.errors import TerradeltaError
from terradelta.files import write_whole
from terradelta.lab.bench.baselines import AllChanged, ChangeVector
from terradelta.lab.bench.design import Job
from terradelta.lab.bench.recipe import bench_recipe
from terradelta.lab.bench.speed import measure_speeds
from terradelta.lab.bench.tiles import bench_pairs
from terradelta.lab.data import PairSource
from terradelta.lab.evaluation import evaluate, evaluation_receipt
from terradelta.lab.training.loop import fit
from terradelta.machine import peak_bytes
from terradelta.predict.load import load_predictor
from terradelta.predict.predictor import Predictor
from terradelta.receipt import plain, write_receipt

__all__ = ["JOB", "RECEIPT", "REQUEST", "RESULT", "SPEED", "TRAINING", "main", "run_job", "run_speed"]

JOB, RESULT, RECEIPT, TRAINING = "job.json", "result.json", "receipt.json", "run"
REQUEST, SPEED = "request.json", "speed.json"
ORPHANED, FAILED, INTERRUPTED = 3, 1, 130


def main(arguments: Sequence[str]) -> int:
    """Run the job of a folder; the exit code."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    folder, data = Path(arguments[0]), Path(arguments[1])
    try:
        if (folder / JOB).is_file():
            run_job(Job.from_json((folder / JOB).read_text()), folder, data)
        else:
            run_speed(folder)
    except KeyboardInterrupt:
        return INTERRUPTED
    except TerradeltaError as error:
        print(f"{error}", file=sys.stderr)
        return FAILED
    except Exception as error:
        traceback.print_exc()
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return FAILED
    return 0


def _end_with_parent() -> None:
    while os.read(0, 1):  # not through sys.stdin, whose lock would be held when the interpreter ends
        pass
    os._exit(ORPHANED)  # checkpoints and results appear whole, so there is nothing to tidy up


def run_job(job: Job, folder: Path, data: Path) -> None:
    """Run one job; ``folder`` then holds ``receipt.json`` and, last of all, ``result.json``.

    Args:
        job: entry, seed and protocol.
        folder: its own; holds the training run too, from which a job that was stopped goes on.
        data: folder of the synthetic data set, if the protocol asks for it.

    Raises:
        TerradeltaError: if data or training fail.
    """
    val, test = (bench_pairs(job.protocol, data, split) for split in ("val", "test"))
    if job.entry.network:
        predictor, threshold, details = _trained(job, folder, data, val)
    else:
        predictor, threshold, details = _baseline(job.entry.label, val)
    found = evaluate(predictor, test, threshold=threshold)
    receipt = evaluation_receipt(found, predictor.card, test, runtime=predictor.runtime)
    write_receipt(receipt, folder / RECEIPT)
    result = {name: plain(getattr(receipt, name)) for name in ("metrics", "threshold", "data")}
    write_whole(folder / RESULT, json.dumps({**result, **details, "peak_bytes": peak_bytes()}, indent=2))
    (folder / TRAINING / "last.ckpt").unlink(missing_ok=True)  # several times the weights; nobody goes on from it


def _trained(job: Job, folder: Path, data: Path, val: PairSource) -> tuple[Predictor, float, dict[str, Any]]:
    train = bench_pairs(job.protocol, data, "train")
    run = folder / TRAINING
    if not (run / "last.ckpt").is_file():
        shutil.rmtree(run, ignore_errors=True)  # stopped before its first checkpoint
    card = fit(bench_recipe(job, train), train, val, run, resume=True, device=job.protocol.device, announce=_log)
    device = "cuda" if job.protocol.device == "cuda" else "cpu"
    predictor = load_predictor(str(run), device=device, threads=1)
    with (run / "log.csv").open(newline="") as stream:
        log = list(csv.DictReader(stream))
    details = {
        "training_s": sum(job.protocol.batch_size / float(row["pairs_per_s"]) for row in log),
        "val_f1": card.scores[0]["metrics"]["f1"],
        "first_loss": float(log[0]["loss"]),
        "last_loss": float(log[-1]["loss"]),
    }
    return predictor, card.threshold, details


def _log(sentence: str) -> None:
    print(sentence, file=sys.stderr)


def _baseline(label: str, val: PairSource) -> tuple[Predictor, float, dict[str, Any]]:
    bands = len(val.read(0).before)
    if label == "all changed":
        return AllChanged(bands), 0.5, {}
    if label == "CVA":
        return ChangeVector(bands, tuned=False), 0.5, {}
    predictor = ChangeVector(bands, tuned=True)
    chosen = evaluate(predictor, val, threshold=0.5).histogram.best_threshold()
    return predictor, chosen, {}


def run_speed(folder: Path) -> None:
    """Time the networks that ``request.json`` names, one after another, into ``speed.json``."""
    request = json.loads((folder / REQUEST).read_text())
    networks = {label: (name, arguments) for label, (name, arguments) in request["networks"].items()}
    speeds = measure_speeds(networks, side=request["side"])
    write_whole(
        folder / SPEED,
        json.dumps({"request": request, "speeds": {label: vars(speed) for label, speed in speeds.items()}}, indent=2),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
