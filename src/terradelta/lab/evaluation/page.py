"""`render_evaluation`: a receipt of `evaluate` as one HTML page that opens offline."""

from terradelta.html.charts import COLOURS, Axis, Bars, Line, chart, grid_of_charts
from terradelta.html.page import data_table, facts, page, section
from terradelta.html.pictures import data_uri
from terradelta.html.text import fraction, integer, number, text
from terradelta.lab.evaluation import Details, Example
from terradelta.lab.evaluation.error_maps import OUTCOMES, PAPER, SAFE, error_map, shrink, to_rgb
from terradelta.receipt import EvaluationReceipt
from terradelta.receipt.evaluation_record import (
    DisturbanceRecord,
    Interval,
    MetricsRecord,
    ProbabilitiesRecord,
    SizeRecord,
)

__all__ = ["render_evaluation"]

_NAMES = {
    "precision": "Precision",
    "recall": "Recall",
    "f1": "F1 of the changed class",
    "iou_changed": "IoU of the changed class",
    "miou": "Mean IoU of both classes",
    "oa": "Overall accuracy",
    "kappa": "Kappa",
    "mean_f1_of_images_with_change": "Mean F1 over images with change",
    "mean_iou_of_images_with_change": "Mean IoU over images with change",
    "mean_oa": "Mean overall accuracy over images",
}
_PICTURE_PX = 480
_ISO_F1 = (0.2, 0.4, 0.6, 0.8)


def render_evaluation(receipt: EvaluationReceipt, details: Details | None = None) -> str:
    """The page as a string.

    Args:
        receipt: of the evaluation; what was not counted has no section.
        details: holds the best and the worst images; None: the page has no pictures.
    """
    data = receipt.data
    sections = (
        _headline(receipt),
        _scores(receipt),
        _curves(receipt),
        _sizes(receipt),
        _boundary(receipt),
        _protocols(receipt),
        _sweep(receipt),
        _against(receipt),
        _robustness(receipt),
        "" if details is None else _examples(details),
        _how(receipt),
    )
    title = f"{receipt.model} on {data.folder}, {data.split}"
    footer = f"Made by terradelta {text(receipt.version)}. Every number here is also in the receipt."
    return page("Evaluation", title, sections, footer, styles=("evaluation.css",))


def _headline(receipt: EvaluationReceipt) -> str:
    metrics = vars(receipt.metrics)
    intervals = {} if receipt.intervals is None else receipt.intervals.metrics
    cards = []
    for name, style in (("f1", "main"), ("precision", ""), ("recall", ""), ("iou_changed", "")):
        interval = f" ({_interval(intervals[name])})" if name in intervals else ""
        cards.append(
            f'<div class="card {style}"><dt>{_NAMES[name]}{interval}</dt><dd>{fraction(metrics[name])}</dd></div>'
        )
    note = (
        f"{integer(receipt.data.pairs)} pairs, {text(receipt.protocol)}; changed from a probability of "
        f"{number(receipt.threshold, 3)} on. In brackets: 95 % confidence interval over images."
    )
    body = f'<dl class="cards">{"".join(cards)}</dl><p class="muted">{note}</p>'
    return section("answer", "The answer", body)


def _interval(pair: Interval) -> str:
    return f"{fraction(pair[0])} to {fraction(pair[1])}"


def _scores(receipt: EvaluationReceipt) -> str:
    known = receipt.intervals
    intervals = {} if known is None else {**known.metrics, **known.per_image}
    rows = [
        (_NAMES[name], number(value, 4), _ends(intervals[name]) if name in intervals else "")
        for name, value in {**vars(receipt.metrics), **vars(receipt.per_image)}.items()
        if name in _NAMES
    ]
    found = receipt.calibration
    if found is not None:
        rows += [
            ("Average precision", number(receipt.average_precision, 4), ""),
            ("Expected calibration error", number(found.ece, 4), ""),
            ("Brier score", number(found.brier, 4), ""),
            ("NLL, nats a pixel", number(found.nll, 4), ""),
        ]
    return section("scores", "Scores", data_table(("", "score", "95 % interval"), rows, "scores"))


def _ends(pair: Interval) -> str:
    return f"{pair[0]:.4f} to {pair[1]:.4f}"


def _curves(receipt: EvaluationReceipt) -> str:
    """Precision-recall curve and reliability diagram."""
    if receipt.precision_recall is None or receipt.calibration is None:
        return ""
    curve = [(recall, precision) for _, recall, precision in receipt.precision_recall.curve]
    charts = (_precision_recall(receipt, curve), _reliability(receipt.calibration))
    return section("curves", "Probabilities", f'<div class="figures">{"".join(charts)}</div>')


def _precision_recall(receipt: EvaluationReceipt, curve: list[tuple[float, float]]) -> str:
    metrics = receipt.metrics
    iso = []
    for f1 in _ISO_F1:
        points = [(r, f1 * r / (2 * r - f1)) for k in range(1, 101) if (r := k / 100) > f1 / 2]
        iso.append(Line("", [(r, p) for r, p in points if p <= 1], "ink", dash="1 4"))
    series = [
        *iso,
        Line("all thresholds", curve),
        Line("the threshold", [(metrics.recall, metrics.precision)], COLOURS[1], marked=True, joined=False),
    ]
    svg = chart(Axis("recall"), Axis("precision"), series, title="Precision and recall")
    words = (
        f"Precision and recall at all thresholds; average precision {number(receipt.average_precision, 3)}. "
        "Dotted: F1 of 0.2, 0.4, 0.6 and 0.8."
    )
    return f"<figure>{svg}<figcaption>{words}</figcaption></figure>"


def _reliability(calibration: ProbabilitiesRecord) -> str:
    rows = calibration.reliability
    series = [
        Line("calibrated", [(0, 0), (1, 1)], "ink", dash="5 4"),
        Line("found", [(row.mean_probability, row.changed) for row in rows], marked=True),
    ]
    svg = chart(Axis("mean probability"), Axis("share of changed pixels"), series, title="Reliability")
    pixels, below = (rows[0].pixels, rows[0].below) if rows else (0, 0.0)
    total = max(sum(row.pixels for row in rows), 1)
    words = (
        f"Of the pixels of each fifteenth of the probability, the share that has changed. "
        f"ECE {calibration.ece:.4f}; {fraction(pixels / total)} of all pixels lie below "
        f"{number(below)}."
    )
    return f"<figure>{svg}<figcaption>{words}</figcaption></figure>"


def _sizes(receipt: EvaluationReceipt) -> str:
    if receipt.by_size is None:
        return ""
    parts = []
    for rows, words in ((receipt.by_size.m2, "m²"), (receipt.by_size.px, "pixels")):
        if rows:
            parts += [_size_chart(rows, words), _size_table(rows, words)]
    note = (
        '<p class="muted">Each connected component of the label is one change. Its pixels are the TP and FN of its '
        "bin; the FP of a predicted component go to the bin of the change that it shares most pixels with, or of its "
        "own size if it meets none. A change is found if at least half of it is.</p>"
    )
    return section("sizes", "By the size of the change", note + "\n".join(parts))


def _size_name(row: SizeRecord) -> str:
    low, high = row.at_least, row.below
    return f"{low:,.0f} +" if high is None else f"{low:,.0f}–{high:,.0f}"


def _size_chart(rows: tuple[SizeRecord, ...], words: str) -> str:
    x = Axis(f"size of the change, {words}", categories=tuple(_size_name(row) for row in rows))
    series = [
        Bars("F1 of pixels", [row.f1 for row in rows]),
        Bars("F1 of objects", [row.objects.f1 for row in rows], COLOURS[4]),
    ]
    svg = chart(x, Axis("F1"), series, title=f"F1 by size in {words}", size=(900, 280))
    return f"<figure>{svg}</figure>"


def _size_table(rows: tuple[SizeRecord, ...], words: str) -> str:
    head = (f"size, {words}", "F1", "precision", "recall", "changes", "found", "predicted", "right")
    cells = []
    for row in rows:
        scores, objects = (number(value, 3) for value in (row.f1, row.precision, row.recall)), row.objects
        counts = map(integer, (objects.changes, objects.found, objects.predicted, objects.right))
        cells.append((_size_name(row), *scores, *counts))
    return data_table(head, cells, "sizes")


def _boundary(receipt: EvaluationReceipt) -> str:
    if receipt.boundary is None:
        return ""
    rows = [
        (
            f"{row.tolerance_px:g} pixel{'s' if row.tolerance_px != 1 else ''}",
            *(number(value, 3) for value in (row.f1, row.precision, row.recall)),
        )
        for row in receipt.boundary
    ]
    table = data_table(("within", "F1", "precision", "recall"), rows, "boundary")
    return section("boundary", "Outlines", table)


def _protocols(receipt: EvaluationReceipt) -> str:
    rows = receipt.protocols
    if not rows:
        return ""
    more = [(row.name, row.difference) for row in rows if row.difference is not None]
    head = ("", *(text(row.name) for row in rows), *(f"{text(name)} − whole" for name, _ in more))
    cells = []
    for name in vars(receipt.metrics):
        scores = (number(_metric(row.metrics, name), 4) for row in rows)
        gaps = (f"{_metric(difference, name):+.4f}" for _, difference in more)
        cells.append((_NAMES[name], *scores, *gaps))
    notes = "".join(f"<li>{text(row.name)}: {text(row.protocol)}</li>" for row in rows)
    return section("protocols", "By protocol", f"<ul>{notes}</ul>{data_table(head, cells, 'protocols')}")


def _metric(metrics: MetricsRecord, name: str) -> float:
    value: float = getattr(metrics, name)
    return value


def _sweep(receipt: EvaluationReceipt) -> str:
    sweep = receipt.sweep
    if sweep is None:
        return ""
    curve = sweep.curve
    series = [
        Line(name, [(point[0], point[k]) for point in curve], COLOURS[k - 1], dash=dash)
        for k, (name, dash) in enumerate((("precision", ""), ("recall", "6 3"), ("F1", "2 3")), 1)
    ]
    svg = chart(Axis("threshold"), Axis("score"), series, title="Scores by threshold", size=(900, 280))
    head = ("chosen by", "threshold", "precision", "recall", "F1", "IoU", "mean IoU")
    names = ("precision", "recall", "f1", "iou_changed", "miou")
    rows = []
    for row in sweep.chosen:
        scores = (number(None if row.metrics is None else _metric(row.metrics, name), 3) for name in names)
        rows.append((text(row.rule), number(row.threshold, 3), *scores))
    return section("sweep", "Thresholds", f"<figure>{svg}</figure>{data_table(head, rows, 'sweep')}")


def _against(receipt: EvaluationReceipt) -> str:
    against = receipt.against
    if against is None:
        return ""
    other = text(against.model)
    rows = [
        (
            _NAMES[name],
            number(value, 4),
            number(_metric(against.metrics, name), 4),
            f"{_metric(against.difference, name):+.4f}",
            _ends(against.intervals[name]) if name in against.intervals else "",
        )
        for name, value in vars(against.its_metrics).items()
    ]
    head = ("", other, text(receipt.model), "difference", "95 % interval")
    note = (
        f"<p>F1 differs with p = {number(against.p_f1, 4)} (two-sided permutation test over "
        f"{integer(against.images)} images): higher on {integer(against.images_with_higher_f1)} of them, "
        f"lower on {integer(against.images_with_lower_f1)}.</p>"
    )
    return section("against", f"Compared with {other}", note + data_table(head, rows, "against"))


def _robustness(receipt: EvaluationReceipt) -> str:
    card = receipt.robustness
    if card is None or not card.rows:
        return ""
    clean, *rows = card.rows
    charts = [
        _panel(name, [row for row in rows if row.kind == name], clean.f1, kind.unit)
        for name, kind in card.kinds.items()
    ]
    caption = (
        f"F1 with the threshold kept, on {integer(card.images)} images; dashed: undisturbed, "
        f"{number(clean.f1, 3)}. Bars: 95 % interval of the change over images."
    )
    kinds = "".join(f"<li><strong>{text(name)}</strong>: {text(each.what)}</li>" for name, each in card.kinds.items())
    skipped = "".join(
        f"<li><strong>{text(name)}</strong>: left out, {text(why)}</li>" for name, why in card.skipped.items()
    )
    head = ("disturbance", "level", "F1", "change", "95 % interval", "precision", "recall")
    cells = [
        (
            text(row.kind),
            text(row.label),
            number(row.f1, 3),
            "" if row.f1_change is None else f"{row.f1_change:+.3f}",
            "" if row.f1_change_interval is None else _ends(row.f1_change_interval),
            number(row.precision, 3),
            number(row.recall, 3),
        )
        for row in card.rows
    ]
    body = f"{grid_of_charts(charts, caption)}<ul>{kinds}{skipped}</ul>{data_table(head, cells, 'robustness')}"
    return section("robustness", "Robustness", body)


def _panel(kind: str, rows: list[DisturbanceRecord], clean: float, unit: str) -> str:
    """One kind of disturbance: F1 at its levels, beside that of the undisturbed images."""
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


def _examples(details: Details) -> str:
    keys = "".join(
        f'<span class="{css}">'
        + "".join(
            f'<span class="key" style="background:rgb({",".join(map(str, colour))})"></span> {name}'
            for name, colour in zip(OUTCOMES, palette, strict=True)
        )
        + "</span>"
        for css, palette in (("paper", PAPER), ("safe", SAFE))
    )
    switch = (
        '<p><label><input type="checkbox" id="colours"> Colours for every kind of colour vision</label>'
        f"{keys} (TN: rightly unchanged, FP: false alarm, FN: missed, TP: rightly changed)</p>"
    )
    shown = [("most errors", example) for example in details.worst] + [("best F1", example) for example in details.best]
    figures = "\n".join(_example(rank, example) for rank, example in shown)
    if not figures:
        return ""
    return section(
        "images",
        "Images with most errors, and those with the best F1",
        f'{switch}<div class="examples">{figures}</div>',
    )


def _example(rank: str, example: Example) -> str:
    pair, counts = example.pair, example.counts
    before, after = (shrink(picture, _PICTURE_PX) for picture in to_rgb((pair.before, pair.after)))
    pictures = [
        f'<img alt="{when}: {text(pair.name)}" src="{data_uri(picture)}">'
        for when, picture in (("Before", before), ("After", after))
    ]
    maps = []
    for css, palette in (("paper", PAPER), ("safe", SAFE)):
        painted = shrink(error_map(example.predicted, pair.label, pair.valid, palette), _PICTURE_PX, mix=False)
        maps.append(f'<img class="{css}" alt="Error map: {text(pair.name)}" src="{data_uri(painted, lossless=True)}">')
    caption = (
        f"{text(pair.name)} ({rank}): F1 {number(counts.f1, 3)}, precision {number(counts.precision, 3)}, "
        f"recall {number(counts.recall, 3)}. Before, after, errors."
    )
    body = f'<div class="triple">{"".join(pictures)}<div>{"".join(maps)}</div></div>'
    return f"<figure>{body}<figcaption>{caption}</figcaption></figure>"


def _how(receipt: EvaluationReceipt) -> str:
    data, scaling = receipt.data, receipt.scaling
    rows = {
        "Model": f"{text(receipt.model)} ({text(receipt.network)})",
        "Weights": f"<code>{text(receipt.weights)}</code>",
        "Computed by": text(receipt.runtime or "not recorded"),
        "Temperature, bias": f"{scaling.temperature:g}, {scaling.logit_bias:g}",
        "Data": f"{text(data.folder)}, {text(data.split)}, {integer(data.pairs)} pairs<br>"
        f"<code>sha256 {text(data.sha256)}</code>",
        "Protocol": text(receipt.protocol),
        "Threshold": f"{receipt.threshold:g}",
        "Pixels": ", ".join(f"{name.upper()} {integer(count)}" for name, count in vars(receipt.confusion_px).items()),
        "Made": text(receipt.created),
    }
    intervals = receipt.intervals
    if intervals is not None:
        rows["Intervals"] = f"{text(intervals.method)}, {integer(intervals.resamples)} resamples, seed {intervals.seed}"
    return section("how", "How it was counted", facts(rows))
