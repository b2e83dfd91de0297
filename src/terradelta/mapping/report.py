"""`write_report`: one HTML file with the answer first, that opens offline."""

import math
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from markupsafe import Markup

from terradelta.files import write_whole
from terradelta.html.charts import Axis, Bars, chart
from terradelta.html.page import render
from terradelta.html.pictures import (
    CHANGE_COLOUR,
    RAMP,
    Quicklooks,
    change_picture,
    difference_picture,
    probability_picture,
)
from terradelta.html.text import fraction, integer, number, place
from terradelta.mapping.answer import nothing_stands_out, polygon_words, sieved_words, smaller_words
from terradelta.receipt import MapReceipt, plain
from terradelta.receipt.map_record import GridRecord, InputsRecord, ModelRecord, PolygonRecord
from terradelta.registration.page import shift_figure

__all__ = ["render_report", "write_report"]

_SCORES = {"precision": "Precision", "recall": "Recall", "f1": "F1", "iou_changed": "IoU of the changed class"}
_SHORTEST_M, _LONGEST_M = 0.1, 4.1e7  # of a picture that gets a scale bar: up to the length of the equator


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
    grid, scores, valid = receipt.grid, receipt.scores or {}, quicklooks.valid
    return render(
        "mapping/report.html.j2",
        receipt=receipt,
        quicklooks=quicklooks,
        names=_names(receipt.inputs),
        scale=_scale(grid),
        north_up=_north_up(grid),
        shown_changed=float(quicklooks.change[valid].mean()) if valid.any() else None,
        change_picture=change_picture,
        change_colour=CHANGE_COLOUR,
        probability_picture=probability_picture,
        difference_picture=difference_picture,
        histogram=_histogram(quicklooks.histogram),
        ramp=RAMP,
        scores={name: scores[key] for key, name in _SCORES.items() if key in scores},
        place_of=_place,
        shift_figure=shift_figure(receipt.registration, (grid.height, grid.width)),
        weightless=receipt.model.weightless,
        nothing=nothing_stands_out(receipt.model),
        polygons_hold=polygon_words(receipt.result),
        left_out=[
            words
            for words in (smaller_words(receipt.result, receipt.options), sieved_words(receipt.result, receipt.options))
            if words
        ],
        model_rows=_model(receipt.model),
        options=", ".join(f"{key}: {_option(value)}" for key, value in plain(receipt.options).items()),
    )


def _names(inputs: InputsRecord) -> tuple[str, str]:
    """The names of both dates' files; with their folders where they are alike."""
    before, after = PurePath(inputs.before.path), PurePath(inputs.after.path)
    if before != after and before.name == after.name:
        return str(PurePath(*before.parts[-2:])), str(PurePath(*after.parts[-2:]))
    return before.name, after.name


def _scale(grid: GridRecord) -> dict[str, Any] | None:
    """A bar of a round length, at most a third of the picture's width; None without ground units."""
    width_m = math.sqrt(max(grid.pixel_area_m2 or 0.0, 0.0)) * grid.width
    if not _SHORTEST_M <= width_m <= _LONGEST_M:
        return None
    power = 10 ** math.floor(math.log10(width_m / 3))
    length = max(step * power for step in (1, 2, 5) if step * power <= width_m / 3)
    label = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    return {"percent": 100 * length / width_m, "label": label}


def _north_up(grid: GridRecord) -> bool:
    a, b, _, d, e, _ = grid.transform
    return bool(grid.crs) and b == d == 0 and e < 0 < a


def _place(row: PolygonRecord) -> str:
    """Where a polygon is: latitude and longitude, else the position in the image or in its CRS."""
    if row.row is not None:
        return f"row {integer(row.row)}, column {integer(row.col)}"
    if row.x is not None:
        return f"x {number(row.x)}, y {number(row.y)}"
    return place(row.lon, row.lat)


def _histogram(counts: tuple[int, ...]) -> Markup | None:
    """How many pixels have which probability, in powers of ten; None without pixels."""
    if not any(counts):
        return None
    n = len(counts)
    names = tuple(f"{k / n:g}" if k % 5 == 0 else "" for k in range(n))
    powers = [math.log10(count) if count > 0 else 0.0 for count in counts]
    return chart(
        Axis("probability of change, from ... on", categories=names),
        Axis("pixels, as a power of ten", 0.0, max(1.0, math.ceil(max(powers)))),
        [Bars("", powers)],
        title="Pixels by their probability of change",
        legend=False,
    )


def _model(model: ModelRecord) -> dict[str, str]:
    """What the card says, by name."""
    named = {"Name": model.name, "Summary": model.summary, "Paper": model.paper, "Fitted on": model.data}
    rows = {label: str(value) for label, value in named.items() if value}
    rows["Threshold"] = _short(model.threshold)
    rows |= {f"Fetched: {key}": value for key, value in (model.origin or {}).items()}
    rows |= {_score_name(score): _score_line(score) for score in model.scores}
    if model.weightless:
        rows |= _fitted("Parameter", model.network_args) | _fitted("Fitted", model.training)
        rows["Licence"] = model.licence
    return rows


def _fitted(kind: str, values: Mapping[str, Any]) -> dict[str, str]:
    """Parameters and learned numbers of a method."""
    return {f"{kind}: {name.replace('_', ' ')}": _short(value) for name, value in values.items()}


def _short(value: Any) -> str:  # noqa: ANN401  from JSON
    """A number with four significant digits; lists in brackets; a dash for None."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(_short(item) for item in value)}]"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "–" if value is None else str(value)


def _option(value: Any) -> str:  # noqa: ANN401  from JSON
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else _short(value)


def _score_name(score: Mapping[str, Any]) -> str:
    """Data, split and number of pairs: what tells the scores of a card apart."""
    parts = [str(score.get("data", "unnamed data")), *([str(score["split"])] if score.get("split") else [])]
    parts += [f"{integer(_number(score['pairs']))} pairs"] if score.get("pairs") else []
    return f"Score on {', '.join(parts)}"


def _score_line(score: Mapping[str, Any]) -> str:
    """Scores of a card, which may hold anything."""
    metrics = score.get("metrics")
    metrics = metrics if isinstance(metrics, Mapping) and metrics else score
    parts = [f"{name} {fraction(_number(metrics[key]))}" for key, name in _SCORES.items() if key in metrics]
    parts += [f"protocol {score['protocol']}"] if score.get("protocol") else []
    return ", ".join(parts) or "–"


def _number(value: Any) -> float | None:  # noqa: ANN401  from a card
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
