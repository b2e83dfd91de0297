"""`write_report`: one HTML file with the answer first, that opens offline."""

from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from terradelta.files import write_whole
from terradelta.html.page import facts, page, section
from terradelta.html.pictures import Quicklooks
from terradelta.html.text import area, count, fraction, integer, metres, number, place, seconds, text
from terradelta.mapping.answer import nothing_stands_out, polygon_words, sieved_words, smaller_words
from terradelta.mapping.evidence_note import evidence_note
from terradelta.mapping.report_maps import maps, swipe
from terradelta.receipt import MapReceipt, plain
from terradelta.receipt.map_record import InputsRecord, MapResult, ModelRecord, PolygonRecord
from terradelta.registration.page import shift_figure

__all__ = ["render_report", "write_report"]

_SCORES = {"precision": "Precision", "recall": "Recall", "f1": "F1", "iou_changed": "IoU of the changed class"}
_AREA_NOTE = (
    '<p class="muted">These are counts of the map, with its errors. For an area with an interval, label samples: '
    '<code class="nobreak">terradelta area OUT --draw 200 -o samples.gpkg</code>, then '
    '<code class="nobreak">terradelta area OUT --samples samples.gpkg</code>.</p>'
)
_COLUMNS = ("Id", "Area", "Perimeter", "Mean probability", "Max probability", "Location")


def write_report(out: Path, receipt: MapReceipt, quicklooks: Quicklooks) -> None:
    """Write the report of one result.

    Args:
        out: the HTML file; replaced if it exists.
        receipt: of the map.
        quicklooks: reduced arrays of the result.

    Raises:
        OutputError: if the file cannot be written.
    """
    write_whole(out, render_report(receipt, quicklooks))


def render_report(receipt: MapReceipt, quicklooks: Quicklooks) -> str:
    """The report as a string; arguments as for `write_report`."""
    before, after = _names(receipt.inputs)
    sections = (
        _answer(receipt),
        swipe(quicklooks, (text(before), text(after)), receipt.grid),
        maps(quicklooks, receipt.options.threshold, receipt.grid),
        _scores(receipt.scores or {}),
        _polygons(receipt),
        _preflight(receipt),
        _registration(receipt),
        _model(receipt.model),
        _run(receipt),
        _qgis(),
    )
    made_by = f"Made by terradelta {text(receipt.version)}. Every number here is also in receipt.json."
    lead = f"Made {receipt.created}"
    return page("Change report", f"{before} → {after}", sections, made_by, lead=lead, scripts=("report.js",))


def _names(inputs: InputsRecord) -> tuple[str, str]:
    """The names of both dates' files; with their folders where they are alike."""
    before, after = PurePath(inputs.before.path), PurePath(inputs.after.path)
    if before != after and before.name == after.name:
        return str(PurePath(*before.parts[-2:])), str(PurePath(*after.parts[-2:]))
    return before.name, after.name


def _answer(receipt: MapReceipt) -> str:
    """What the model finds, the warnings, then the changed area in large figures."""
    said = "".join(
        f'<p class="warning"><strong>Warning:</strong> {text(line.removeprefix("Warning: "))}</p>'
        for line in receipt.preflight
        if line.startswith("Warning")
    )
    purpose, nothing = f"<p>{text(receipt.model.purpose())}</p>", nothing_stands_out(receipt.model)
    body = _figures(receipt) if nothing is None else f'<p class="none">{text(nothing[0])}</p><p>{text(nothing[1])}</p>'
    return section("answer", "The answer", purpose + said + body)


def _figures(receipt: MapReceipt) -> str:
    """The changed area in all, what the polygons hold of it, and its share."""
    result = receipt.result
    changed_m2, pixels = result.changed_area_m2, count(result.changed_px, "pixel")
    if changed_m2 is None:
        why = "their area on the ground is unknown" if result.unit == "m" else "the images carry no ground units"
        figure, note = pixels, f"changed; {why}"
    else:
        metres2 = "" if changed_m2 < 1e4 else f"{number(changed_m2, 0)} m², "  # it is the figure itself below 1 ha
        figure, note = area(changed_m2), f"changed in all ({metres2}{pixels})"
    number_of, held = polygon_words(result).split(" ", 1)
    tiles = (
        (figure, note, "main"),
        (number_of, text(held), ""),
        (fraction(result.changed_fraction), f"of the {integer(result.valid_px)} pixels with data", ""),
    )
    cards = "".join(f'<div class="card {c}"><dt>{name}</dt><dd>{value}</dd></div>' for value, name, c in tiles)
    words = (smaller_words(result, receipt.options), sieved_words(result, receipt.options))
    rest = "; ".join(each for each in words if each)
    said = f"<p>{text(rest[0].upper() + rest[1:])}.</p>" if rest else ""
    return f'<dl class="cards">{cards}</dl>{said}{_AREA_NOTE}'


def _scores(scores: Mapping[str, float]) -> str:
    """Scores against a known label, as the demo has one."""
    cards = "".join(
        f'<div class="card"><dt>{name}</dt><dd>{fraction(scores[key])}</dd></div>'
        for key, name in _SCORES.items()
        if key in scores
    )
    if not cards:
        return ""
    note = '<p class="muted">The truth is known here, so the map can be scored pixel by pixel.</p>'
    return section("scores", "Against the truth", f'{note}<dl class="cards">{cards}</dl>')


def _polygons(receipt: MapReceipt) -> str:
    rows = receipt.largest_polygons
    if not rows:
        return _no_polygons(receipt.result)
    head = "".join(f'<th scope="col">{name}</th>' for name in _COLUMNS)
    body = "".join(
        f'<tr><th scope="row">{row.id}</th>{_measures(row)}'
        f"<td>{number(row.mean_probability)}</td>"
        f"<td>{number(row.max_probability)}</td>"
        f'<td class="place">{_place(row)}</td></tr>\n'
        for row in rows
    )
    table = (
        f'<div class="scroll" tabindex="0" role="region" aria-labelledby="polygons"><table class="data">'
        f"<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>"
    )
    note = f'<p class="muted">{len(rows)} of {integer(receipt.result.polygons)}; all are in change.gpkg.</p>'
    return section("polygons", "Largest changes", evidence_note(receipt.evidence) + note + table)


def _no_polygons(result: MapResult) -> str:
    small = result.small_polygons
    verbs = ("was", "is") if small == 1 else ("were", "are")
    why = f"; {integer(small)} {verbs[0]} too small and {verbs[1]} in the rasters only" if small else ""
    return section("polygons", "Largest changes", f"<p>There is no polygon in change.gpkg{why}.</p>")


def _measures(row: PolygonRecord) -> str:
    """Area and perimeter of a polygon as two cells."""
    if row.area_px is not None:
        return f"<td>{integer(row.area_px)} pixels</td><td>{integer(row.perimeter_px)} pixels</td>"
    return f"<td>{area(row.area_m2)}</td><td>{metres(row.perimeter_m)}</td>"


def _place(row: PolygonRecord) -> str:
    """Where a polygon is: latitude and longitude, else the position in the image or in its CRS."""
    if row.row is not None:
        return f"row {integer(row.row)}, column {integer(row.col)}"
    if row.x is not None:
        return f"x {number(row.x)}, y {number(row.y)}"
    return place(row.lon, row.lat)


def _preflight(receipt: MapReceipt) -> str:
    body = f"<ul>{''.join(_check(text(sentence)) for sentence in receipt.preflight)}</ul>"
    return section("preflight", "Checks before the run", body)


def _registration(receipt: MapReceipt) -> str:
    """How the two dates lie on one another."""
    figure = shift_figure(receipt.registration, (receipt.grid.height, receipt.grid.width))
    return section("registration", "How the two dates lie on one another", figure) if figure else ""


def _check(sentence: str) -> str:
    said = sentence.removeprefix("Warning: ")
    return f"<li>{said}</li>" if said == sentence else f'<li class="warning"><strong>Warning:</strong> {said}</li>'


def _model(model: ModelRecord) -> str:
    named = {"Name": model.name, "Summary": model.summary, "Paper": model.paper, "Fitted on": model.data}
    rows = {label: text(value) for label, value in named.items() if value}
    rows["Threshold"] = text(_short(model.threshold))
    rows |= {_score_name(score): _score_line(score) for score in model.scores}
    if model.weightless:
        rows |= _fitted("Parameter", model.network_args) | _fitted("Fitted", model.training)
        return section("model", "Method", facts(rows | {"Licence": text(model.licence)}))
    said = (
        text(model.licence)
        if model.licence
        else "The model card names no licence. Ask its author before you publish or sell results."
    )
    warning = f'<p class="warning"><strong>Licence.</strong> {said}</p>'
    return section("model", "Model", warning + facts(rows))


def _fitted(kind: str, values: Mapping[str, Any]) -> dict[str, str]:
    """Parameters and learned numbers of a method."""
    return {f"{kind}: {text(name).replace('_', ' ')}": text(_short(value)) for name, value in values.items()}


def _short(value: Any) -> str:  # noqa: ANN401  from JSON
    """A number with four significant digits; lists in brackets; a dash for None."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(_short(item) for item in value)}]"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "–" if value is None else str(value)


def _score_name(score: Mapping[str, Any]) -> str:
    """Data, split and number of pairs: what tells the scores of a card apart."""
    parts = [text(score.get("data", "unnamed data")), *([text(score["split"])] if score.get("split") else [])]
    parts += [f"{integer(_number(score['pairs']))} pairs"] if score.get("pairs") else []
    return f"Score on {', '.join(parts)}"


def _score_line(score: Mapping[str, Any]) -> str:
    """Scores of a card, which may hold anything."""
    metrics = score.get("metrics")
    metrics = metrics if isinstance(metrics, Mapping) and metrics else score
    parts = [f"{name} {fraction(_number(metrics[key]))}" for key, name in _SCORES.items() if key in metrics]
    parts += [f"protocol {text(score['protocol'])}"] if score.get("protocol") else []
    return ", ".join(parts) or "–"


def _number(value: Any) -> float | None:  # noqa: ANN401  from a card
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _run(receipt: MapReceipt) -> str:
    """Inputs, grid, options and timings."""
    rows: dict[str, str] = {}
    for date, entry in (("Before", receipt.inputs.before), ("After", receipt.inputs.after)):
        sha = f"<br><code>sha256 {text(entry.sha256)}</code>" if entry.sha256 else ""
        rows[date] = text(entry.path) + sha
    grid = receipt.grid
    crs = text(grid.crs) if grid.crs else "no CRS"
    rows["Grid"] = f"{integer(grid.height)} × {integer(grid.width)} pixels (rows × columns), {crs}"
    options = plain(receipt.options)
    rows["Options"] = ", ".join(f"{text(key)}: {_option(value)}" for key, value in options.items())
    return section("run", "Run", "\n".join([facts(rows), _timings(receipt.timings)]))


def _option(value: Any) -> str:  # noqa: ANN401  from JSON
    return " ".join(map(text, value)) if isinstance(value, list | tuple) else text(_short(value))


def _timings(timings: Mapping[str, float]) -> str:
    longest = max(timings.values(), default=0.0) or 1.0
    rows = "".join(
        f'<tr><th scope="row">{text(name)}</th><td>{seconds(value)}</td>'
        f'<td class="bars"><span style="width:{100 * value / longest:.1f}%"></span></td></tr>'
        for name, value in timings.items()
    )
    return f'<table class="timings"><caption>Time by stage</caption><tbody>{rows}</tbody></table>'


def _qgis() -> str:
    steps = (
        "Drag <code>change.gpkg</code> from this report’s folder into QGIS: one polygon a change, with its style.",
        "Drag <code>change.tif</code> and <code>probability.tif</code> below it, and both images below these.",
        "Open the attribute table of the polygons and sort by area or by mean probability to look at the surest first.",
    )
    return section("qgis", "Open it in QGIS", "<ol>" + "".join(f"<li>{step}</li>" for step in steps) + "</ol>")
