"""The command `evaluate`: scores with intervals, by a stated protocol, in a receipt."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from terradelta.cli._base import DATA_HELP, Device, app, check_new, progress, say, say_terms, write
from terradelta.errors import InputError

if TYPE_CHECKING:
    from terradelta.lab.data.pairs import PairSource
    from terradelta.lab.evaluation import Details, Evaluation, Scoring
    from terradelta.predict.predictor import Predictor
    from terradelta.receipt import EvaluationReceipt
    from terradelta.receipt.evaluation_record import (
        AgainstRecord,
        CalibrationRecord,
        ProtocolRecord,
        RobustnessRecord,
        SizesRecord,
        SweepRecord,
    )

__all__ = ["evaluate_command"]


@app.command("evaluate")
def evaluate_command(
    model: Annotated[str, typer.Argument(help="`default`, `fast`, shipped weights, FILE.onnx, or a training run.")],
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
    from terradelta.lab.data import open_pairs
    from terradelta.lab.evaluation import Details, evaluate, evaluation_receipt, thinned
    from terradelta.predict.load import load_predictor
    from terradelta.predict.onnx_card import weights_identity
    from terradelta.receipt import write_receipt

    protocols = _protocols(protocol, patch)
    _check_request(split, threshold, sweep, calibrate, (out, html, calibrate))
    say_terms(data)
    pairs = open_pairs(data, split)
    pairs = pairs if limit is None else thinned(pairs, limit)
    predictor = load_predictor(model, device=device, precision=precision)
    rival = None if against is None else _rival(against, pairs, protocols[0], device)
    with progress(f"evaluating on {split}") as advance:
        details = Details(examples=3 if html is not None else 0)
        found = evaluate(
            predictor, pairs, threshold=threshold, protocol=protocols[0], details=details, progress=advance
        )
    receipt = evaluation_receipt(
        found, predictor.card, pairs, weights=weights_identity(predictor), runtime=predictor.runtime
    )
    _print_scores(receipt, f"{predictor.card.name} on {split}, threshold {found.threshold:g}")
    if len(protocols) > 1:
        receipt = replace(receipt, protocols=_by_protocol(found, predictor, pairs, protocols[1:]))
        _print_protocols(receipt.protocols or ())
    if sweep:
        receipt = replace(receipt, sweep=_swept(found))
    if rival is not None:
        receipt = replace(receipt, against=_compared(receipt, found, rival, pairs))
    if robustness:
        receipt = replace(receipt, robustness=_robustness(predictor, pairs, found, out))
    if calibrate is not None:
        receipt = replace(receipt, calibrated=_calibrated(found, predictor, pairs, model, calibrate))
    if html is not None:
        _write_page(html, receipt, details)
    if out is not None:
        write_receipt(receipt, out, make_folder=True)
        _journal(out).unlink(missing_ok=True)


def _protocols(name: str, patch: int) -> list["Scoring"]:
    from terradelta.lab.evaluation import PROTOCOLS, Scoring

    if name not in (*PROTOCOLS, "all"):
        raise InputError(f"there is no protocol {name!r}; give one of {', '.join((*PROTOCOLS, 'all'))}")
    return [Scoring(each, patch) for each in (PROTOCOLS if name == "all" else (name,))]


def _check_request(
    split: str, threshold: float | None, sweep: bool, calibrate: Path | None, files: tuple[Path | None, ...]
) -> None:
    """Refuse what cannot be done before hours are spent on it."""
    from terradelta.lab.evaluation.calibrate import refuse_test

    if threshold is not None and not 0 < threshold <= 1:
        raise InputError(f"threshold is {threshold}; it must be above 0 and at most 1")
    if sweep:
        refuse_test(split, "choosing a threshold")
    if calibrate is not None:
        refuse_test(split, "calibrating")
    for path in files:
        if path is not None:
            check_new(path)


def _print_scores(receipt: "EvaluationReceipt", title: str) -> None:
    known = receipt.intervals
    intervals = {} if known is None else {**known.metrics, **known.per_image}
    table = Table("", "global", "95 % interval over images", title=Text(title))
    for name, value in vars(receipt.metrics).items():
        table.add_row(name, f"{value:.4f}", _interval(intervals.get(name)))
    if receipt.average_precision is not None:
        table.add_row("average precision", f"{receipt.average_precision:.4f}", "")
    table.add_section()
    for name, value in vars(receipt.per_image).items():
        if name != "images":
            table.add_row(name.replace("_", " "), f"{value:.4f}", _interval(intervals.get(name)))
    table.add_section()
    if receipt.calibration is not None:
        found = receipt.calibration
        for name, value in (("ece", found.ece), ("brier", found.brier), ("nll", found.nll)):
            table.add_row(f"calibration: {name}", f"{value:.4f}", "")
    for row in receipt.boundary or ():
        table.add_row(f"boundary f1 within {row.tolerance_px:g} px", f"{row.f1:.4f}", "")
    Console().print(table)
    if receipt.by_size is not None:
        _print_sizes(receipt.by_size)


def _interval(pair: Iterable[float] | None) -> str:
    return "" if not pair else " to ".join(f"{value:.4f}" for value in pair)


def _print_sizes(by_size: "SizesRecord") -> None:
    unit, rows = ("px", by_size.px) if by_size.m2 is None else ("m2", by_size.m2)
    table = Table(f"size of the change, {unit}", "f1", "precision", "recall", "changes", "found", title="By size")
    for row in rows:
        name = f"{row.at_least:g} and more" if row.below is None else f"{row.at_least:g} to {row.below:g}"
        scores = (f"{value:.4f}" for value in (row.f1, row.precision, row.recall))
        table.add_row(name, *scores, str(row.objects.changes), str(row.objects.found))
    Console().print(table)


def _by_protocol(
    found: "Evaluation", predictor: "Predictor", pairs: "PairSource", more: list["Scoring"]
) -> tuple["ProtocolRecord", ...]:
    """Scores by every protocol, with the change from the first."""
    from terradelta.lab.evaluation import evaluate
    from terradelta.receipt.evaluation_record import MetricsRecord, ProtocolRecord

    first = found.total.metrics()
    rows = [ProtocolRecord(found.protocol.name, found.protocol.text, MetricsRecord(**first))]
    for protocol in more:
        with progress(f"evaluating by {protocol.name}") as advance:
            other = evaluate(predictor, pairs, threshold=found.threshold, protocol=protocol, progress=advance)
        scores = other.total.metrics()
        gap = MetricsRecord(**{name: scores[name] - first[name] for name in scores})
        rows.append(ProtocolRecord(protocol.name, protocol.text, MetricsRecord(**scores), gap))
    return tuple(rows)


def _print_protocols(rows: tuple["ProtocolRecord", ...]) -> None:
    more = [(row.name, row.difference) for row in rows if row.difference is not None]
    table = Table("", *(row.name for row in rows), *(f"{name} - whole" for name, _ in more))
    for name in vars(rows[0].metrics):
        scores = (f"{getattr(row.metrics, name):.4f}" for row in rows)
        table.add_row(name, *scores, *(f"{getattr(gap, name):+.4f}" for _, gap in more))
    Console().print(table)


def _swept(found: "Evaluation") -> "SweepRecord":
    from terradelta.lab.evaluation.calibrate import sweep, sweep_curve
    from terradelta.receipt.evaluation_record import SweepRecord

    curve = sweep_curve(found)
    swept = SweepRecord(sweep(found), curve.columns, curve.curve)
    table = Table("threshold by", "threshold", "precision", "recall", "f1", "iou_changed", "miou", title="Sweep")
    for row in swept.chosen:
        if row.threshold is None:
            table.add_row(row.rule, "none reaches it")
            continue
        names = ("precision", "recall", "f1", "iou_changed", "miou")
        table.add_row(row.rule, f"{row.threshold:.3f}", *(f"{getattr(row.metrics, name):.4f}" for name in names))
    Console().print(table)
    return swept


def _rival(
    against: str, pairs: "PairSource", protocol: "Scoring", device: str
) -> "Predictor | tuple[str, dict[str, tuple[int, int, int, int]]]":
    """What to compare with: a model, or the name and the counts that its receipt holds. Refused before work is done."""
    from terradelta.lab.evaluation import read_images
    from terradelta.predict.load import load_predictor

    if Path(against).suffix.lower() != ".json":
        return load_predictor(against, device=device)
    return read_images(Path(against), pairs.checksum(), protocol.text)


def _compared(
    receipt: "EvaluationReceipt",
    found: "Evaluation",
    rival: "Predictor | tuple[str, dict[str, tuple[int, int, int, int]]]",
    pairs: "PairSource",
) -> "AgainstRecord":
    from terradelta.lab.evaluation import against_record, compare, evaluate

    runtime = None
    if isinstance(rival, tuple):
        name, images = rival
    else:
        name, runtime = rival.card.name, rival.runtime
        with progress(f"evaluating {name}") as advance:
            scored = evaluate(rival, pairs, protocol=found.protocol, progress=advance)
        images = {each: counts.as_tuple() for each, counts in scored.images}
    result = compare(images, {name: counts.as_tuple() for name, counts in found.images})
    made = against_record(result, name, runtime)
    table = Table("", name, receipt.model, "difference", "95 % interval", title=Text(f"Compared with {name}"))
    for metric, value in vars(made.its_metrics).items():
        gap = f"{getattr(made.difference, metric):+.4f}"
        row = (f"{value:.4f}", f"{getattr(made.metrics, metric):.4f}", gap)
        table.add_row(metric, *row, _interval(made.intervals.get(metric)))
    Console().print(table)
    say(
        f"F1: p = {made.p_f1:.4f} (two-sided permutation test over {made.images} images); "
        f"{made.images_with_higher_f1} images better, {made.images_with_lower_f1} worse"
    )
    return made


def _write_page(path: Path, receipt: "EvaluationReceipt", details: "Details") -> None:
    from terradelta.lab.evaluation.page import render_evaluation

    write(path, render_evaluation(receipt, details))
    say(f"page: {path}")


def _journal(out: Path) -> Path:
    return out.with_name(f"{out.name}.robustness")


def _robustness(
    predictor: "Predictor", pairs: "PairSource", found: "Evaluation", out: Path | None
) -> "RobustnessRecord":
    from terradelta.lab.evaluation import robustness, robustness_record

    journal = None if out is None else _journal(out)
    if journal is not None:
        say(f"{journal} keeps what is done: the same command goes on from there if this run is stopped")
    with progress("robustness") as advance:
        scored = robustness(
            predictor,
            pairs,
            threshold=found.threshold,
            protocol=found.protocol,
            journal=journal,
            progress=advance,
        )
    card = robustness_record(scored)
    table = Table("disturbance", "level", "f1", "change", "95 % interval", "precision", "recall", title="Robustness")
    for row in card.rows:
        change = "" if row.f1_change is None else f"{row.f1_change:+.4f}"
        scores = (f"{row.precision:.4f}", f"{row.recall:.4f}")
        table.add_row(row.kind, row.label, f"{row.f1:.4f}", change, _interval(row.f1_change_interval), *scores)
    Console().print(table)
    return card


def _calibrated(
    found: "Evaluation", predictor: "Predictor", pairs: "PairSource", model: str, out: Path
) -> "CalibrationRecord":
    from terradelta.lab.evaluation import calibrated_card
    from terradelta.predict.onnx_card import copy_with_card

    card, record = calibrated_card(found, predictor.card, pairs)
    copy_with_card(model, card, out)
    say(
        f"{out}: temperature {card.temperature:g}, bias {card.logit_bias:g}, threshold {card.threshold:.4f}; "
        f"ECE {record.ece_before:.4f} -> {record.ece_after:.4f}, "
        f"NLL {record.nll_before:.4f} -> {record.nll_after:.4f}"
    )
    return record
