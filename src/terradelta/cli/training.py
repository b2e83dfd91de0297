"""Commands of people who train: `train`, `export`."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from terradelta.cli._base import DATA_HELP, app, check_new, console, needs_train, say, say_terms
from terradelta.errors import InputError

if TYPE_CHECKING:
    from terradelta.training.config import Recipe

__all__ = ["export", "train"]


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="METHOD_ARCHIVE, FILE.py, FILE.py:FUNCTION, or a network's name.")],
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
    for place in (data, *(also or [])):
        say_terms(place)
    pairs = open_pairs(data, "train")
    for folder in also or []:
        pairs = pairs.joined(open_pairs(folder, "train"))
    card = fit(chosen, pairs, open_pairs(data, "val"), run, resume=resume, device=device, console=console)
    score = card.scores[0]["metrics"]["f1"]
    say(f"best validation F1 {score:.4f} at threshold {card.threshold:g}: {run / 'best.ckpt'}")


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="A training run's folder, a checkpoint, or an ONNX file to copy.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The ONNX file to write.")],
    receipt: Annotated[
        list[Path] | None, typer.Option(help="Receipt of `evaluate` whose scores go into the card.")
    ] = None,
    half_weights: Annotated[
        bool, typer.Option("--half-weights", help="Store weights as float16: half the size, nearly the same result.")
    ] = False,
) -> None:
    """Export a trained network to ONNX and compare it with the original."""
    from terradelta.evaluation import with_receipt

    check_new(out)
    if run.suffix.lower() == ".onnx":
        if half_weights:
            raise InputError(f"--half-weights needs the training run or its checkpoint; {run} is exported already")
        _copy(run, out, receipt or [])
        return
    with needs_train("export"):
        from terradelta.export import export_onnx
        from terradelta.networks.checkpoint import load_network
    network, card = load_network(run)
    for path in receipt or []:
        card = with_receipt(card, path)
    with console.status("exporting and comparing"):
        check = export_onnx(network, card, out, half_weights=half_weights)
    gaps = ", ".join(f"{precision} {gap:.2g}" for precision, gap in check.largest_difference.items())
    say(f"{out}: {out.stat().st_size / 1e6:.1f} MB; largest difference in probability: {gaps}")


def _copy(model: Path, out: Path, receipts: list[Path]) -> None:
    """Copy an ONNX file with the scores of receipts in its card."""
    from terradelta.evaluation import with_receipt
    from terradelta.runtime.recard import copy_with_card
    from terradelta.runtime.weights import load_predictor

    card = load_predictor(str(model)).card
    for path in receipts:
        card = with_receipt(card, path)
    copy_with_card(str(model), card, out)
    say(f"{out}: a copy of {model} with {len(card.scores)} scores in its card")
