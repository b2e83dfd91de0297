"""One job: train, choose the threshold on val, score test, leave a receipt. One that fails says why in a file."""

import csv
import json
import shutil
import traceback
from pathlib import Path
from typing import Any

from terradelta.errors import TerradeltaError
from terradelta.files import write_whole
from terradelta.lab.bench.baselines import AllChanged, ChangeVector
from terradelta.lab.bench.design import Job
from terradelta.lab.bench.recipe import bench_recipe
from terradelta.lab.bench.tiles import bench_pairs
from terradelta.lab.data import PairSource
from terradelta.lab.evaluation import evaluate, evaluation_receipt
from terradelta.lab.training.loop import Shown, fit
from terradelta.predict.load import load_predictor
from terradelta.predict.predictor import Predictor
from terradelta.receipt import plain, write_receipt
from terradelta.strangers import read_json

__all__ = ["FAILED", "RECEIPT", "RESULT", "TRAINING", "failure_of", "run_job", "try_job"]

RESULT, RECEIPT, TRAINING, FAILED = "result.json", "receipt.json", "run", "failed.json"


def try_job(job: Job, folder: Path, data: Path, shown: Shown) -> str | None:
    """As `run_job`; why it failed, None if it did not. The reason stays in ``failed.json`` until the next try.

    Raises:
        OutputError: if the folder cannot be written.
    """
    (folder / FAILED).unlink(missing_ok=True)
    try:
        run_job(job, folder, data, shown)
    except Exception as error:  # whatever it is, it must not end the other jobs
        why = str(error) if isinstance(error, TerradeltaError) else f"{type(error).__name__}: {error}"
        content = {"why": why, "traceback": traceback.format_exc()}
        write_whole(folder / FAILED, json.dumps(content, indent=2), make_folder=True)
        return why
    return None


def failure_of(folder: Path) -> str | None:
    """Why the job of a folder failed when it was last tried; None if it did not."""
    try:
        return str(read_json((folder / FAILED).read_text(), ours=True)["why"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def run_job(job: Job, folder: Path, data: Path, shown: Shown) -> None:
    """Run one job; ``folder`` then holds ``receipt.json`` and, last of all, ``result.json``.

    Args:
        job: entry, seed and protocol.
        folder: its own; holds the training run too, from which a job that was stopped goes on.
        data: folder of the synthetic data set, if the protocol asks for it.
        shown: where progress is shown.

    Raises:
        TerradeltaError: if data or training fail.
        KeyboardInterrupt: after Ctrl-C, once the training's step under way is saved.
    """
    val, test = (bench_pairs(job.protocol, data, split) for split in ("val", "test"))
    if job.entry.network:
        predictor, threshold, details = _trained(job, folder, data, val, shown)
    else:
        predictor, threshold, details = _baseline(job.entry.label, val)
    found = evaluate(predictor, test, threshold=threshold)
    receipt = evaluation_receipt(found, predictor.card, test, runtime=predictor.runtime)
    write_receipt(receipt, folder / RECEIPT, make_folder=True)
    result = {name: plain(getattr(receipt, name)) for name in ("metrics", "threshold", "data")}
    write_whole(folder / RESULT, json.dumps({**result, **details}, indent=2))
    (folder / TRAINING / "last.ckpt").unlink(missing_ok=True)  # several times the weights; nobody goes on from it


def _trained(
    job: Job, folder: Path, data: Path, val: PairSource, shown: Shown
) -> tuple[Predictor, float, dict[str, Any]]:
    train = bench_pairs(job.protocol, data, "train")
    run = folder / TRAINING
    if not (run / "last.ckpt").is_file():
        shutil.rmtree(run, ignore_errors=True)  # stopped before its first checkpoint
    recipe, device = bench_recipe(job, train), job.protocol.device
    progress, announce = shown.progress, shown.announce
    card = fit(recipe, train, val, run, resume=True, device=device, progress=progress, announce=announce)
    predictor = load_predictor(str(run), device="cuda" if job.protocol.device == "cuda" else "cpu")
    with (run / "log.csv").open(newline="") as stream:
        log = list(csv.DictReader(stream))
    details = {
        "training_s": sum(job.protocol.batch_size / float(row["pairs_per_s"]) for row in log),
        "val_f1": card.scores[0]["metrics"]["f1"],
        "first_loss": float(log[0]["loss"]),
        "last_loss": float(log[-1]["loss"]),
    }
    return predictor, card.threshold, details


def _baseline(label: str, val: PairSource) -> tuple[Predictor, float, dict[str, Any]]:
    bands = len(val.read(0).before)
    if label == "all changed":
        return AllChanged(bands), 0.5, {}
    if label == "CVA":
        return ChangeVector(bands, tuned=False), 0.5, {}
    predictor = ChangeVector(bands, tuned=True)
    chosen = evaluate(predictor, val, threshold=0.5).histogram.best_threshold()
    return predictor, chosen, {}
