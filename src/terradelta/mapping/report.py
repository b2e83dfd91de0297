"""`write_report`: one HTML file with the answer first, that opens offline."""

from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from terradelta.area.page import interval_sentence
from terradelta.card import NO_LIMIT
from terradelta.files import write_whole
from terradelta.html.page import facts, page, section
from terradelta.html.pictures import Quicklooks
from terradelta.html.text import area, finite, fraction, integer, metres, number, place, seconds, text
from terradelta.mapping.evidence_note import evidence_note
from terradelta.mapping.report_maps import maps, swipe
from terradelta.registration.page import shift_figure

__all__ = ["render_report", "write_report"]

_SCORES = {"precision": "Precision", "recall": "Recall", "f1": "F1", "iou_changed": "IoU of the changed class"}
_COLUMNS = ("Id", "Area", "Perimeter", "Mean probability", "Max probability", "Location")


def write_report(out: Path, receipt: Mapping[str, Any], quicklooks: Quicklooks) -> None:
    """Write the report of one result.

    Args:
        out: the HTML file; replaced if it exists.
        receipt: content of ``receipt.json``; every key may be missing.
        quicklooks: reduced arrays of the result.

    Raises:
        OutputError: if the file cannot be written.
    """
    write_whole(out, render_report(receipt, quicklooks))


def render_report(receipt: Mapping[str, Any], quicklooks: Quicklooks) -> str:
    """The report as a string; arguments as for `write_report`."""
    grid = _dict(receipt, "grid")
    sections = (
        _answer(receipt),
        swipe(quicklooks, _names(receipt), grid),
        maps(quicklooks, _threshold(receipt), grid),
        _scores(receipt),
        _polygons(receipt),
        _preflight(receipt),
        _registration(receipt),
        _model(receipt),
        _run(receipt),
        _qgis(),
    )
    created = receipt.get("created")
    lead = f"Made {created}" if created else ""
    return page("Change report", _title(receipt), sections, _made_by(receipt), lead=lead, scripts=("report.js",))


def _dict(receipt: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """The object at a path of keys; empty where there is none."""
    value: Any = receipt
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return dict(value) if isinstance(value, Mapping) else {}


def _list(receipt: Mapping[str, Any], key: str) -> list[Any]:
    value = receipt.get(key)
    return list(value) if isinstance(value, list | tuple) else []


def _file_name(receipt: Mapping[str, Any], date: str) -> str:
    """The name of a date's file; with its folder where both files have the same name."""
    paths = [_dict(receipt, "inputs", each).get("path") for each in (date, "before", "after")]
    own, first, second = (PurePath(str(path)) if path else None for path in paths)
    if own is None:
        return ""
    alike = first is not None and second is not None and first != second and first.name == second.name
    return str(PurePath(*own.parts[-2:])) if alike else own.name


def _title(receipt: Mapping[str, Any]) -> str:
    before, after = _file_name(receipt, "before"), _file_name(receipt, "after")
    return f"{before} → {after}" if before and after else "What changed"


def _made_by(receipt: Mapping[str, Any]) -> str:
    version = receipt.get("version")
    name = f"terradelta {text(version)}" if version else "terradelta"
    return f"Made by {name}. Every number here is also in receipt.json."


def _answer(receipt: Mapping[str, Any]) -> str:
    """The changed area in large figures, then the number of polygons and the share."""
    result = _dict(receipt, "result")
    if not result:
        return ""
    changed_m2 = result.get("changed_area_m2")
    pixels = f"{integer(result.get('changed_px'))} pixels"
    if finite(changed_m2) is None:
        why = "their area on the ground is unknown" if result.get("unit") == "m" else "the images carry no ground units"
        figure, note = pixels, f"changed; {why}"
    else:
        figure, note = area(changed_m2), f"changed ({number(changed_m2, 0)} m², {pixels})"
    tiles = (
        (figure, note, "main"),
        (integer(result.get("polygons")), "separate changes (polygons)", ""),
        (fraction(result.get("changed_fraction")), f"of the {integer(result.get('valid_px'))} pixels with data", ""),
    )
    cards = "".join(f'<div class="card {c}"><dt>{name}</dt><dd>{value}</dd></div>' for value, name, c in tiles)
    interval = interval_sentence(_dict(result, "changed_area_interval"), result.get("unit") == "px")
    return section("answer", "The answer", f'<dl class="cards">{cards}</dl>{interval}')


def _names(receipt: Mapping[str, Any]) -> tuple[str, str]:
    """What to call both dates."""
    before, after = (text(_file_name(receipt, date) or f"the {date} image") for date in ("before", "after"))
    return before, after


def _threshold(receipt: Mapping[str, Any]) -> float | None:
    own = finite(_dict(receipt, "options").get("threshold"))
    return finite(_dict(receipt, "model").get("threshold")) if own is None else own


def _scores(receipt: Mapping[str, Any]) -> str:
    """Scores against a known label, as the demo has one."""
    scores = _dict(receipt, "scores")
    cards = "".join(
        f'<div class="card"><dt>{name}</dt><dd>{fraction(scores[key])}</dd></div>'
        for key, name in _SCORES.items()
        if key in scores
    )
    if not cards:
        return ""
    note = '<p class="muted">The truth is known here, so the map can be scored pixel by pixel.</p>'
    return section("scores", "Against the truth", f'{note}<dl class="cards">{cards}</dl>')


def _polygons(receipt: Mapping[str, Any]) -> str:
    rows = [row for row in _list(receipt, "largest_polygons") if isinstance(row, Mapping)]
    if not rows:
        return _no_polygons(_dict(receipt, "result"))
    head = "".join(f'<th scope="col">{name}</th>' for name in _COLUMNS)
    body = "".join(
        f'<tr><th scope="row">{text(row.get("id"))}</th>{_measures(row)}'
        f"<td>{number(row.get('mean_probability'))}</td>"
        f"<td>{number(row.get('max_probability'))}</td>"
        f'<td class="place">{_place(row)}</td></tr>\n'
        for row in rows
    )
    table = (
        f'<div class="scroll" tabindex="0" role="region" aria-labelledby="polygons"><table class="data">'
        f"<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>"
    )
    total = _dict(receipt, "result").get("polygons")
    note = f'<p class="muted">{len(rows)} of {integer(total)}; all are in change.gpkg.</p>' if total is not None else ""
    return section("polygons", "Largest changes", evidence_note(_dict(receipt, "evidence")) + note + table)


def _no_polygons(result: Mapping[str, Any]) -> str:
    if result.get("polygons") != 0:
        return ""
    small = result.get("small_polygons")
    why = f"; {integer(small)} were smaller than the smallest area and are in the rasters only" if small else ""
    return section("polygons", "Largest changes", f"<p>There is no polygon in change.gpkg{why}.</p>")


def _measures(row: Mapping[str, Any]) -> str:
    """Area and perimeter of a polygon as two cells."""
    if "area_px" in row:
        return f"<td>{integer(row['area_px'])} pixels</td><td>{integer(row.get('perimeter_px'))} pixels</td>"
    return f"<td>{area(row.get('area_m2'))}</td><td>{metres(row.get('perimeter_m'))}</td>"


def _place(row: Mapping[str, Any]) -> str:
    """Where a polygon is: latitude and longitude, else the position in the image or in its CRS."""
    if "row" in row:
        return f"row {integer(row['row'])}, column {integer(row.get('col'))}"
    if "x" in row:
        return f"x {number(row['x'])}, y {number(row.get('y'))}"
    return place(row.get("lon"), row.get("lat"))


def _preflight(receipt: Mapping[str, Any]) -> str:
    if not isinstance(receipt.get("preflight"), list | tuple):
        return ""
    items = "".join(_check(text(sentence)) for sentence in _list(receipt, "preflight"))
    body = f"<ul>{items}</ul>" if items else "<p>The two images fitted each other; nothing had to be said.</p>"
    return section("preflight", "Checks before the run", body)


def _registration(receipt: Mapping[str, Any]) -> str:
    """How the two dates lie on one another."""
    grid = _dict(receipt, "grid")
    shape = finite(grid.get("height")) or 0.0, finite(grid.get("width")) or 0.0
    figure = shift_figure(_dict(receipt, "registration"), shape)
    return section("registration", "How the two dates lie on one another", figure) if figure else ""


def _check(sentence: str) -> str:
    said = sentence.removeprefix("Warning: ")
    return f"<li>{said}</li>" if said == sentence else f'<li class="warning"><strong>Warning:</strong> {said}</li>'


def _model(receipt: Mapping[str, Any]) -> str:
    model = _dict(receipt, "model")
    if not model:
        return ""
    labels = {"name": "Name", "summary": "Summary", "paper": "Paper", "data": "Fitted on", "threshold": "Threshold"}
    rows = {label: text(_short(model[key])) for key, label in labels.items() if model.get(key) not in (None, "")}
    for score in _list(model, "scores"):
        if isinstance(score, Mapping):
            rows[_score_name(score)] = _score_line(score)
    licence = model.get("licence")
    if licence == NO_LIMIT:
        rows |= _fitted("Parameter", _dict(model, "network_args")) | _fitted("Fitted", _dict(model, "training"))
        return section("model", "Method", facts(rows | {"Licence": text(licence)}))
    said = (
        text(licence)
        if licence
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
    parts += [f"{integer(score['pairs'])} pairs"] if score.get("pairs") else []
    return f"Score on {', '.join(parts)}"


def _score_line(score: Mapping[str, Any]) -> str:
    metrics = _dict(score, "metrics") or dict(score)
    parts = [f"{name} {fraction(metrics[key])}" for key, name in _SCORES.items() if key in metrics]
    parts += [f"protocol {text(score['protocol'])}"] if score.get("protocol") else []
    return ", ".join(parts) or "–"


def _run(receipt: Mapping[str, Any]) -> str:
    """Inputs, grid, options and timings."""
    rows: dict[str, str] = {}
    for date in ("before", "after"):
        entry = _dict(receipt, "inputs", date)
        if entry:
            sha = entry.get("sha256")
            rows[date.capitalize()] = text(entry.get("path")) + (f"<br><code>sha256 {text(sha)}</code>" if sha else "")
    grid = _dict(receipt, "grid")
    if grid:
        crs = text(grid.get("crs")) if grid.get("crs") else "no CRS"
        rows["Grid"] = f"{integer(grid.get('height'))} × {integer(grid.get('width'))} pixels (rows × columns), {crs}"
    options = _dict(receipt, "options")
    if options:
        rows["Options"] = ", ".join(f"{text(key)}: {_option(value)}" for key, value in options.items())
    parts = [facts(rows)] if rows else []
    timings = _timings(_dict(receipt, "timings"))
    return section("run", "Run", "\n".join([*parts, timings])) if parts or timings else ""


def _option(value: Any) -> str:  # noqa: ANN401  from JSON
    return " ".join(map(text, value)) if isinstance(value, list | tuple) else text(_short(value))


def _timings(timings: Mapping[str, Any]) -> str:
    numbers = {name: finite(value) for name, value in timings.items()}
    values = {name: value for name, value in numbers.items() if value is not None and value >= 0}
    if not values:
        return ""
    longest = max(values.values()) or 1.0
    rows = "".join(
        f'<tr><th scope="row">{text(name)}</th><td>{seconds(value)}</td>'
        f'<td class="bars"><span style="width:{100 * value / longest:.1f}%"></span></td></tr>'
        for name, value in values.items()
    )
    return f'<table class="timings"><caption>Time by stage</caption><tbody>{rows}</tbody></table>'


def _qgis() -> str:
    steps = (
        "Drag <code>change.gpkg</code> from this report’s folder into QGIS: one polygon a change, with its style.",
        "Drag <code>change.tif</code> and <code>probability.tif</code> below it, and both images below these.",
        "Open the attribute table of the polygons and sort by area or by mean probability to look at the surest first.",
    )
    return section("qgis", "Open it in QGIS", "<ol>" + "".join(f"<li>{step}</li>" for step in steps) + "</ol>")
