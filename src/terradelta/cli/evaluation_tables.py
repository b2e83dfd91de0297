"""What the command `evaluate` prints: a table for each part of a receipt."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from terradelta.cli._base import PrintableConsole, say
from terradelta.cli._table import Column, fitted

if TYPE_CHECKING:
    from terradelta.receipt import EvaluationReceipt
    from terradelta.receipt.evaluation_record import SizesRecord

__all__ = ["print_part"]


def print_part(part: str, receipt: "EvaluationReceipt", copy: Path | None) -> None:
    """Print the part of a receipt that has just come; see `run_session`.

    Args:
        part: its name.
        receipt: the receipt so far.
        copy: the calibrated copy of the model.
    """
    if part == "calibrated":
        _calibrated(receipt, copy)
    else:
        _PARTS[part](receipt)


def _scores(receipt: "EvaluationReceipt") -> None:
    known = receipt.intervals
    intervals = {} if known is None else {**known.metrics, **known.per_image}
    title = f"{receipt.model} on {receipt.data.split}, threshold {receipt.threshold:g}"
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
    PrintableConsole().print(table)
    if receipt.by_size is not None:
        _sizes(receipt.by_size)


def _print(title: str, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    console = PrintableConsole()
    console.print(fitted(title, columns, rows, console))


def _interval(pair: Iterable[float] | None) -> str:
    return "" if not pair else " to ".join(f"{value:.4f}" for value in pair)


def _sizes(by_size: "SizesRecord") -> None:
    unit, rows = ("px", by_size.px) if by_size.m2 is None else ("m2", by_size.m2)
    table = Table(f"size of the change, {unit}", "f1", "precision", "recall", "changes", "found", title="By size")
    for row in rows:
        name = f"{row.at_least:g} and more" if row.below is None else f"{row.at_least:g} to {row.below:g}"
        scores = (f"{value:.4f}" for value in (row.f1, row.precision, row.recall))
        table.add_row(name, *scores, str(row.objects.changes), str(row.objects.found))
    PrintableConsole().print(table)


def _protocols(receipt: "EvaluationReceipt") -> None:
    rows = receipt.protocols or ()
    more = [(row.name, row.difference) for row in rows if row.difference is not None]
    table = Table("", *(row.name for row in rows), *(f"{name} - whole" for name, _ in more))
    for name in vars(receipt.metrics):
        scores = (f"{getattr(row.metrics, name):.4f}" for row in rows)
        table.add_row(name, *scores, *(f"{getattr(gap, name):+.4f}" for _, gap in more))
    PrintableConsole().print(table)


def _sweep(receipt: "EvaluationReceipt") -> None:
    names = ("f1", "precision", "recall", "iou_changed", "miou")
    columns = (
        *(Column("threshold by"), Column("threshold"), Column("f1"), Column("precision", 1), Column("recall", 1)),
        *(Column("iou_changed", 2), Column("miou", 3)),
    )
    rows = []
    for row in () if receipt.sweep is None else receipt.sweep.chosen:
        if row.threshold is None:
            rows.append((row.rule, "none", *("" for _ in names)))
            continue
        rows.append((row.rule, f"{row.threshold:.3f}", *(f"{getattr(row.metrics, name):.4f}" for name in names)))
    _print("Sweep", columns, rows)


def _against(receipt: "EvaluationReceipt") -> None:
    found = receipt.against
    if found is None:
        return
    columns = (*map(Column, ("", "this", "other", "difference")), Column("95 % interval", 1))
    rows = []
    for name, value in vars(found.its_metrics).items():
        row = (f"{getattr(found.metrics, name):.4f}", f"{value:.4f}", f"{getattr(found.difference, name):+.4f}")
        rows.append((name, *row, _interval(found.intervals.get(name))))
    _print(f"{receipt.model} (this) against {found.model} (other)", columns, rows)
    say(
        f"F1: p = {found.p_f1:.4f} (two-sided permutation test over {found.images} images); "
        f"{found.images_with_higher_f1} images better, {found.images_with_lower_f1} worse"
    )


def _robustness(receipt: "EvaluationReceipt") -> None:
    columns = (
        *(Column("disturbance"), Column("level"), Column("f1"), Column("change"), Column("95 % interval", 1)),
        *(Column("precision", 2), Column("recall", 3)),
    )
    rows = []
    for row in () if receipt.robustness is None else receipt.robustness.rows:
        change = "" if row.f1_change is None else f"{row.f1_change:+.4f}"
        scores = (f"{row.precision:.4f}", f"{row.recall:.4f}")
        rows.append((row.kind, row.label, f"{row.f1:.4f}", change, _interval(row.f1_change_interval), *scores))
    _print("Robustness", columns, rows)


def _calibrated(receipt: "EvaluationReceipt", copy: Path | None) -> None:
    found = receipt.calibrated
    if found is not None:
        say(
            f"{copy}: temperature {found.temperature:g}, bias {found.logit_bias:g}, threshold {found.threshold:.4f}; "
            f"ECE {found.ece_before:.4f} -> {found.ece_after:.4f}, NLL {found.nll_before:.4f} -> {found.nll_after:.4f}"
        )


_PARTS: dict[str, Callable[["EvaluationReceipt"], None]] = {
    "scores": _scores,
    "protocols": _protocols,
    "sweep": _sweep,
    "against": _against,
    "robustness": _robustness,
}
