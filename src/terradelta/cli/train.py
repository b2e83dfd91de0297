"""Commands of people who train: `train`, `average`, `export`."""

import dataclasses
import shlex
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from terradelta.cli._base import DATA_HELP, app, check_new, console, progress, say, say_terms
from terradelta.errors import InputError, needs

if TYPE_CHECKING:
    from terradelta.lab.training.config import Recipe

__all__ = ["average", "export", "train"]


@app.command()
def train(
    run: Annotated[Path, typer.Option("--run", "-o", help="Folder of the run.")],
    recipe: Annotated[
        str | None,
        typer.Argument(help="METHOD_ARCHIVE, FILE.py, FILE.py:FUNCTION, or a network's name; optional with --from."),
    ] = None,
    data: Annotated[str | None, typer.Option(help=DATA_HELP)] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", help="Weights to fit further: by name, a run, a checkpoint or .safetensors."),
    ] = None,
    review: Annotated[
        list[Path] | None, typer.Option(help="With --from: learn from the verdicts on this product of `map`.")
    ] = None,
    also: Annotated[
        list[str] | None,
        typer.Option(help="More training pairs: another such place. With --from, earlier data for --replay."),
    ] = None,
    replay: Annotated[float, typer.Option(help="With --from: share of the crops that --also gives.")] = 0.25,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped.")] = False,
    device: Annotated[str, typer.Option(help="`auto`, `cpu`, `cuda`.")] = "auto",
    devices: Annotated[int | None, typer.Option(help="Processes that train together, one a device.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps, in place of the recipe's.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Pairs at once on a device, likewise.")] = None,
    crop: Annotated[int | None, typer.Option(help="Side of a training crop in pixels, likewise.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of all random numbers, likewise.")] = None,
) -> None:
    """Train a network, or fit weights further on a few labels (--from); the result lands in RUN/best.ckpt."""
    given: dict[str, Any] = {
        "devices": devices,
        "steps": steps,
        "batch_size": batch_size,
        "crop_px": crop,
        "seed": seed,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    _check_asked(recipe, start, data, review)
    for place in (*([data] if data else []), *(also or [])):
        say_terms(place)
    if recipe is not None:
        changes |= {} if start is None else {"start": start, "encoder_weights": None}
        _train(recipe, changes, str(data), also or [], run, resume, device)
        return
    with needs("train", "training"):
        from terradelta.lab.training.finetune import FineTuning, finetune
    wanted = FineTuning(str(start), run, data, tuple(review or ()), tuple(also or ()), replay, changes, resume, device)
    for line in finetune(wanted, progress=progress, announce=say).lines():
        say(line)
    say(f"{run / 'best.ckpt'}: use it with `terradelta map ... --model {run}`")


def _check_asked(recipe: str | None, start: str | None, data: str | None, review: list[Path] | None) -> None:
    """Raise InputError where what to train, or on what, is not clear."""
    if recipe is None and start is None:
        raise InputError("give a recipe, e.g. mlla_sianet_lite0_levir, or weights to fit further (--from buildings)")
    if review and (start is None or recipe is not None):
        raise InputError("--review goes with --from alone: name the weights to fit further, and no recipe")
    if data is None and not review:
        raise InputError("give labelled pairs (--data), or with --from products that were judged (--review)")


def _train(
    recipe: str, changes: dict[str, Any], data: str, also: list[str], run: Path, resume: bool, device: str
) -> None:
    """Train a recipe from its own beginning, or from weights of its network."""
    from terradelta.lab.data import open_pairs

    with needs("train", "training"):
        from terradelta.lab.training.loop import fit
        from terradelta.lab.training.recipes import load_recipe
    chosen: Recipe = dataclasses.replace(load_recipe(recipe), **changes)
    pairs = open_pairs(data, "train")
    for folder in also:
        pairs = pairs.joined(open_pairs(folder, "train"))
    card = fit(
        chosen, pairs, open_pairs(data, "val"), run, resume=resume, device=device, progress=progress, announce=say
    )
    score = card.scores[0]["metrics"]["f1"]
    say(f"best validation F1 {score:.4f} at threshold {card.threshold:g}: {run / 'best.ckpt'}")


@app.command()
def average(
    runs: Annotated[list[Path], typer.Argument(help="Runs that went on from one another, or from the same weights.")],
    run: Annotated[Path, typer.Option("--run", "-o", help="Folder to write, as of a training run.")],
) -> None:
    """Average the weights of several runs into RUN/best.ckpt, which is often better than each of them."""
    with needs("train", "average"):
        from terradelta.lab.networks.checkpoint import save_network
        from terradelta.lab.training.average import average as averaged
    check_new(run)
    network, card = averaged(runs)
    run.mkdir(parents=True)
    save_network(network, card, run / "best.ckpt")
    say(
        f"{run / 'best.ckpt'}: the average of {len(runs)} runs, threshold {card.threshold:.3f}: the mean of theirs. "
        "Whether it is better, validation pairs tell: "
        f"terradelta evaluate {shlex.quote(str(run))} --data DATA --split val"
    )


@app.command()
def export(
    model: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="A training run, a checkpoint, or what to copy: weights by name, an ONNX file.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The ONNX file to write, or FILE.safetensors.")],
    receipt: Annotated[
        list[Path] | None, typer.Option(help="Receipt of `evaluate` whose scores go into the card.")
    ] = None,
    half_weights: Annotated[
        bool, typer.Option("--half-weights", help="Store weights as float16: half the size, nearly the same result.")
    ] = False,
    int8: Annotated[
        str | None,
        typer.Option(
            help="Make it int8, with ranges from this data: labelled pairs, two images BEFORE,AFTER, or a CSV file of "
            "such pairs. Labels are not read."
        ),
    ] = None,
    domain: Annotated[
        str | None,
        typer.Option(help="Let `map` warn of images unlike these: labelled pairs with splits train and val."),
    ] = None,
) -> None:
    """Export a trained network to ONNX and compare it with the original; or its weights to safetensors."""
    from terradelta.predict.load import find_checkpoint, find_model

    check_new(out)
    if out.suffix.lower() == ".safetensors":
        if receipt or half_weights or int8 is not None or domain is not None:
            raise InputError(f"--receipt, --half-weights, --int8 and --domain are for ONNX files; {out} is none")
        _export_safetensors(find_checkpoint(model), out)
        return
    run = find_model(model)
    exported = run.suffix.lower() == ".onnx"
    if half_weights and (exported or int8 is not None):
        wanted = "floating point, so leave --int8 out" if int8 is not None else "the training run or its checkpoint"
        raise InputError(f"--half-weights needs {wanted}" + f"; {run} is exported already" * exported)
    if domain is not None and (exported or int8 is not None):
        raise InputError("--domain needs the training run or its checkpoint, and no --int8, which keeps what is there")
    if int8 is not None:
        if receipt:
            raise InputError("--int8 changes the result, so older receipts do not hold; evaluate the new file instead")
        _export_int8(run, out, int8)
    elif exported:
        _copy(run, out, receipt or [])
    else:
        _export(run, out, receipt or [], half_weights=half_weights, domain=domain)


def _export_safetensors(run: Path, out: Path) -> None:
    """Write the weights of a checkpoint, with its card, as safetensors."""
    with needs("train", "export"):
        from terradelta.lab.networks.checkpoint import load_network, save_safetensors
    save_safetensors(*load_network(run), out)
    say(f"{out}: {out.stat().st_size / 1e6:.1f} MB, kernels in float16")


def _export(
    run: Path, out: Path, receipts: list[Path], *, half_weights: bool = False, domain: str | None = None
) -> None:
    """Export a checkpoint."""
    from terradelta.lab.evaluation import with_receipt

    with needs("train", "export"):
        from terradelta.lab.export.domain import measure_domain
        from terradelta.lab.export.to_onnx import export_onnx
        from terradelta.lab.networks.checkpoint import load_network
    network, card = load_network(run)
    for path in receipts:
        card = with_receipt(card, path)
    with console.status("exporting and comparing"):
        seen = None if domain is None else measure_domain(network, card, domain)
        check = export_onnx(network, card, out, half_weights=half_weights, domain=seen)
    gaps = ", ".join(f"{precision} {gap:.2g}" for precision, gap in check.largest_difference.items())
    say(f"{out}: {out.stat().st_size / 1e6:.1f} MB; largest difference in probability: {gaps}")


def _export_int8(run: Path, out: Path, data: str) -> None:
    """Export to a temporary file unless it is exported, then quantise."""
    from terradelta.lab.export.int8_crops import read_calibration
    from terradelta.predict.load import load_predictor

    with needs("quantize", "--int8"):
        from terradelta.lab.export.quantise import CROP_SIDE, CROPS, quantise_onnx
    with tempfile.TemporaryDirectory() as folder:
        source = run
        if run.suffix.lower() != ".onnx":
            source = Path(folder) / "float32.onnx"
            _export(run, source, [])
        with console.status("reading pairs") as status:
            crops = read_calibration(data, load_predictor(str(source), threads=1).card, CROPS, CROP_SIDE)
            check = quantise_onnx(source, crops, out, advance=status.update)
    kept = f", {len(check.kept_float)} of {check.layers} layers in float32" if check.kept_float else ""
    say(
        f"{out}: {out.stat().st_size / 1e6:.1f} MB, calibrated on {crops.pairs} pairs{kept}. Difference in "
        f"probability: mean {check.mean_difference:.2g}, 99.9 % of pixels below {check.p999_difference:.2g}, largest "
        f"{check.largest_difference:.2g}; {check.class_changed:.3%} of pixels change class. Evaluate it before use"
    )


def _copy(model: Path, out: Path, receipts: list[Path]) -> None:
    """Copy an ONNX file with the scores of receipts in its card."""
    from terradelta.lab.evaluation import with_receipt
    from terradelta.predict.load import load_predictor
    from terradelta.predict.onnx_card import copy_with_card

    card = load_predictor(str(model)).card
    for path in receipts:
        card = with_receipt(card, path)
    copy_with_card(str(model), card, out)
    say(f"{out}: a copy of {model} with {len(card.scores)} scores in its card")
