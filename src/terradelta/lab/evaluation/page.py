"""`render_evaluation`: a receipt of `evaluate` as one HTML page that opens offline."""

from collections.abc import Iterator, Sequence
from typing import Any

from markupsafe import Markup

from terradelta.html.charts import COLOURS, Axis, Bars, Line, chart
from terradelta.html.page import render
from terradelta.lab.evaluation import Details, Example
from terradelta.lab.evaluation.error_maps import OUTCOMES, PAPER, SAFE, error_map, shrink, to_rgb
from terradelta.receipt import EvaluationReceipt
from terradelta.receipt.evaluation_record import ReliabilityRecord, RobustnessRecord, SizeRecord

__all__ = ["render_evaluation"]

_METRICS = {
    "precision": "Precision",
    "recall": "Recall",
    "f1": "F1 of the changed class",
    "iou_changed": "IoU of the changed class",
    "miou": "Mean IoU of both classes",
    "oa": "Overall accuracy",
    "kappa": "Kappa",
}
_MEANS = {
    "mean_f1_of_images_with_change": "Mean F1 over images with change",
    "mean_iou_of_images_with_change": "Mean IoU over images with change",
    "mean_oa": "Mean overall accuracy over images",
}
_PALETTES = {"paper": PAPER, "safe": SAFE}
_PICTURE_PX = 480
_ISO_F1 = (0.2, 0.4, 0.6, 0.8)


def render_evaluation(receipt: EvaluationReceipt, details: Details | None = None) -> str:
    """The page as a string.

    Args:
        receipt: of the evaluation; what was not counted has no section.
        details: holds the best and the worst images; None: the page has no pictures.
    """
    return render(
        "lab/evaluation/page.html.j2",
        receipt=receipt,
        metrics=_METRICS,
        means=_MEANS,
        precision_recall=_precision_recall,
        reliability=_reliability,
        size_chart=_size_chart,
        size_name=_size_name,
        sweep_chart=_sweep_chart,
        disturbance_chart=_disturbance_chart,
        palettes=_PALETTES,
        outcomes=OUTCOMES,
        examples=[] if details is None else list(_examples(details)),
    )


def _precision_recall(receipt: EvaluationReceipt) -> Markup:
    iso = []
    for f1 in _ISO_F1:
        points = [(r, f1 * r / (2 * r - f1)) for k in range(1, 101) if (r := k / 100) > f1 / 2]
        iso.append(Line("", [(r, p) for r, p in points if p <= 1], "ink", dash="1 4"))
    curve = () if receipt.precision_recall is None else receipt.precision_recall.curve
    metrics = receipt.metrics
    series = [
        *iso,
        Line("all thresholds", [(recall, precision) for _, recall, precision, *_ in curve]),
        Line("the threshold", [(metrics.recall, metrics.precision)], COLOURS[1], marked=True, joined=False),
    ]
    return chart(Axis("recall"), Axis("precision"), series, title="Precision and recall")


def _reliability(bins: Sequence[ReliabilityRecord]) -> Markup:
    series = [
        Line("calibrated", [(0, 0), (1, 1)], "ink", dash="5 4"),
        Line("found", [(row.mean_probability, row.changed) for row in bins], marked=True),
    ]
    return chart(Axis("mean probability"), Axis("share of changed pixels"), series, title="Reliability")


def _size_name(row: SizeRecord) -> str:
    low, high = row.at_least, row.below
    return f"{low:,.0f} +" if high is None else f"{low:,.0f}–{high:,.0f}"


def _size_chart(rows: Sequence[SizeRecord], unit: str) -> Markup:
    x = Axis(f"size of the change, {unit}", categories=tuple(map(_size_name, rows)))
    series = [
        Bars("F1 of pixels", [row.f1 for row in rows]),
        Bars("F1 of objects", [row.objects.f1 for row in rows], COLOURS[4]),
    ]
    return chart(x, Axis("F1"), series, title=f"F1 by size in {unit}", size=(900, 280))


def _sweep_chart(curve: Sequence[Sequence[float]]) -> Markup:
    series = [
        Line(name, [(point[0], point[k]) for point in curve], COLOURS[k - 1], dash=dash)
        for k, (name, dash) in enumerate((("precision", ""), ("recall", "6 3"), ("F1", "2 3")), 1)
    ]
    return chart(Axis("threshold"), Axis("score"), series, title="Scores by threshold", size=(900, 280))


def _disturbance_chart(kind: str, scored: RobustnessRecord) -> Markup:
    """One kind of disturbance: F1 at its levels, beside that of the undisturbed images."""
    clean, unit = scored.rows[0].f1, scored.kinds[kind].unit
    rows = [row for row in scored.rows[1:] if row.kind == kind]
    x = Axis(unit if unit != "-" else "", categories=tuple("" if unit == "-" else f"{row.level:g}" for row in rows))
    ends = [row.f1_change_interval or (row.f1_change or 0.0,) * 2 for row in rows]
    series = [
        Line("", [(-0.5, clean), (len(rows) - 0.5, clean)], "ink", dash="5 4"),
        Line(
            "",
            [(float(k), row.f1) for k, row in enumerate(rows)],
            marked=True,
            spans=[(clean + low, clean + high) for low, high in ends],
        ),
    ]
    return chart(x, Axis("F1"), series, title=kind, size=(300, 210), legend=False)


def _examples(details: Details) -> Iterator[dict[str, Any]]:
    """Name, scores and pictures of each image to look at: those with most errors, then those with the best F1."""
    for rank, found in (("most errors", details.worst), ("best F1", details.best)):
        yield from (_example(rank, example) for example in found)


def _example(rank: str, example: Example) -> dict[str, Any]:
    pair = example.pair
    before, after = (shrink(picture, _PICTURE_PX) for picture in to_rgb((pair.before, pair.after)))
    errors = {
        style: shrink(error_map(example.predicted, pair.label, pair.counted, palette), _PICTURE_PX, mix=False)
        for style, palette in _PALETTES.items()
    }
    return {
        "name": pair.name,
        "rank": rank,
        "counts": example.counts,
        "before": before,
        "after": after,
        "errors": errors,
    }
