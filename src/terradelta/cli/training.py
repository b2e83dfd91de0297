"""Commands of people who train: `train`, `evaluate`, `export`."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from terradelta.cli._base import DATA_HELP, Device, app, check_new, console, needs_train, progress, say, write

if TYPE_CHECKING:
    from terradelta.training.config import Recipe

__all__ = ["evaluate_command", "export", "train"]


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A recipe: FILE.py or FILE.py:FUNCTION, or a network's name.")],
    data: Annotated[str, typer.Option(help=DATA_HELP)],
    run: Annotated[Path, typer.Option("--run", "-o", help="Folder of the run.")],
    also: Annotated[list[str] | None, typer.Option(help="More training pairs: another such place.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped.")] = False,
    device: Annotated[str, typer.Option(help="`auto`, `cpu`, `cuda`.")] = "auto",
    devices: Annotated[int | None, typer.Option(help="Processes that train together, one a device.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps, in place of the recipe's.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Pairs at once on a device, likewise.")] = None,
    crop: Annotated[int | None, typer.Option(help="Side of a training crop in pixels, likewise.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of all random numbers, likewise.")] = None,
) -> None:
    """Train a network; the weights of the best validation F1 land in RUN/best.ckpt."""
    from terradelta.data import open_pairs

    with needs_train("training"):
        from terradelta.training.loop import fit
        from terradelta.training.recipes import load_recipe
    given: dict[str, Any] = {
        "devices": devices,
        "steps": steps,
        "batch_size": batch_size,
        "crop_px": crop,
        "seed": seed,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    chosen: Recipe = dataclasses.replace(load_recipe(recipe), **changes)
    pairs = open_pairs(data, "train")
    for folder in also or []:
        pairs = pairs.joined(open_pairs(folder, "train"))
    card = fit(chosen, pairs, open_pairs(data, "val"), run, resume=resume, device=device, console=console)
    score = card.scores[0]["metrics"]["f1"]
    say(f"best validation F1 {score:.4f} at threshold {card.threshold:g}: {run / 'best.ckpt'}")


@app.command("evaluate")
def evaluate_command(
    model: Annotated[str, typer.Argument(help="`default`, shipped weights, FILE.onnx, or a training run.")],
    data: Annotated[str, typer.Option(help=DATA_HELP)],
    split: Annotated[str, typer.Option(help="Which split.")] = "test",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Receipt to write (JSON).")] = None,
    threshold: Annotated[float | None, typer.Option(help="In place of the card's threshold.")] = None,
    device: Device = "cpu",
) -> None:
    """Score a model on labelled pairs."""
    from terradelta.data import open_pairs
    from terradelta.evaluation import evaluate, evaluation_receipt
    from terradelta.runtime.weights import load_predictor

    if out is not None:
        check_new(out)
    pairs = open_pairs(data, split)
    predictor = load_predictor(model, device=device)
    with progress(f"evaluating on {split}") as advance:
        found = evaluate(predictor, pairs, threshold=threshold, progress=advance)
    receipt = evaluation_receipt(found, predictor.card, pairs)
    if out is not None:
        write(out, json.dumps(receipt, indent=2) + "\n")
    table = Table("", "global", title=Text(f"{predictor.card.name} on {split}, threshold {found.threshold:g}"))
    for name, value in receipt["metrics"].items():
        table.add_row(name, f"{value:.4f}")
    Console().print(table)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="A training run's folder, or a checkpoint.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The ONNX file to write.")],
    receipt: Annotated[
        list[Path] | None, typer.Option(help="Receipt of `evaluate` whose scores go into the card.")
    ] = None,
) -> None:
    """Export a trained network to ONNX and compare it with the original."""
    from terradelta.evaluation import with_receipt

    with needs_train("export"):
        from terradelta.export import export_onnx
        from terradelta.networks.checkpoint import load_network
    check_new(out)
    network, card = load_network(run)
    for path in receipt or []:
        card = with_receipt(card, path)
    with console.status("exporting and comparing"):
        check = export_onnx(network, card, out)
    gaps = ", ".join(f"{precision} {gap:.2g}" for precision, gap in check.largest_difference.items())
    say(f"{out}: {out.stat().st_size / 1e6:.1f} MB; largest difference in probability: {gaps}")
