"""The command `evaluate`: scores with intervals, by a stated protocol, in a receipt."""

from pathlib import Path
from typing import Annotated

import typer

from terradelta.cli._base import DATA_HELP, Device, app, check_new, progress, say, say_terms, write
from terradelta.cli.evaluation_tables import print_part

__all__ = ["evaluate_command"]


@app.command("evaluate")
def evaluate_command(
    model: Annotated[str, typer.Argument(help="`default`, weights that ship, hf:OWNER/REPO, FILE.onnx or URL, a run.")],
    data: Annotated[str, typer.Option(help=DATA_HELP)],
    split: Annotated[str, typer.Option(help="Which split.")] = "test",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Receipt to write (JSON).")] = None,
    html: Annotated[Path | None, typer.Option(help="Page with figures to write (HTML).")] = None,
    threshold: Annotated[float | None, typer.Option(help="In place of the card's threshold.")] = None,
    protocol: Annotated[
        str, typer.Option(help="`whole` images, `patches`, patches with `overlap`, or `all` with their difference.")
    ] = "whole",
    patch: Annotated[int, typer.Option(help="Side of a patch in pixels.")] = 256,
    limit: Annotated[int | None, typer.Option(help="Take at most so many pairs, evenly spread.")] = None,
    sweep: Annotated[bool, typer.Option("--sweep", help="Show thresholds to choose from; not on test.")] = False,
    calibrate: Annotated[
        Path | None, typer.Option(help="Copy of the model to write, calibrated on this split; not on test.")
    ] = None,
    against: Annotated[str | None, typer.Option(help="Another model, or its receipt, to compare with.")] = None,
    robustness: Annotated[bool, typer.Option("--robustness", help="Score under known disturbances as well.")] = False,
    device: Device = "cpu",
    precision: Annotated[
        str, typer.Option(help="Of MODEL: auto; f32, the same on every CPU; bf16; int8. The receipt says which ran.")
    ] = "auto",
) -> None:
    """Score a model on labelled pairs."""
    from terradelta.lab.evaluation.page import render_evaluation
    from terradelta.lab.evaluation.session import Request, choose_protocols, run_session
    from terradelta.receipt import write_receipt

    journal = out.with_name(f"{out.name}.robustness") if robustness and out is not None else None
    request = Request(
        model,
        data,
        split,
        threshold,
        protocols=choose_protocols(protocol, patch),
        limit=limit,
        sweep=sweep,
        calibrate=calibrate,
        against=against,
        robustness=robustness,
        journal=journal,
        examples=0 if html is None else 3,
        device=device,
        precision=precision,
    )
    for path in (out, html, calibrate):
        if path is not None:
            check_new(path)
    say_terms(data)
    if journal is not None:
        say(f"{journal} keeps what is done: the same command goes on from there if this run is stopped")
    receipt, details = run_session(
        request, progress=progress, tell=lambda part, made: print_part(part, made, calibrate)
    )
    if html is not None:
        write(html, render_evaluation(receipt, details))
        say(f"page: {html}")
    if out is not None:
        write_receipt(receipt, out, make_folder=True)
    if journal is not None:
        journal.unlink(missing_ok=True)
