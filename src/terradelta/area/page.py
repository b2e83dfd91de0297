"""A page of areas: mapped, estimated, by region; opens offline."""

from collections.abc import Mapping
from typing import Any

from terradelta.html.page import data_table, page, section
from terradelta.html.text import area, area_range, fraction, integer, sentence, text

__all__ = ["area_page", "interval_sentence"]


def area_page(record: Mapping[str, Any]) -> str:
    """The page of what `terradelta area` found; every key may be missing."""
    whole = _dict(record, "whole_map")
    pixels = record.get("unit") == "px"
    regions = [each for each in record.get("regions") or [] if isinstance(each, Mapping)]
    sections = [_answer(whole, pixels, sentence(record.get("basis") or whole.get("note") or "")), _accuracy(record)]
    if regions:
        head = ("Region", "Mapped", "Estimated", "95 % interval", "Samples")
        table = data_table(head, [_row(each, pixels) for each in regions], "regions")
        sections.append(section("regions", "By region", table))
    notes = [f'<p class="warning">{text(note)}.</p>' for note in record.get("notes") or []]
    title = f"Changed area of {record.get('map', 'a map')}"
    return page("Area report", title, notes + sections, f"Made by terradelta {text(record.get('version', ''))}.")


def interval_sentence(interval: Mapping[str, Any], pixels: bool) -> str:
    """The ``changed_area_interval`` of a map's receipt as a paragraph; empty where there is none."""
    if not interval:
        return ""
    estimate, basis = _dict(interval, "area"), sentence(interval.get("basis"))
    if not estimate:
        return f'<p class="muted">The changed area has no interval. {basis}</p>'
    value = _size(estimate.get("value"), pixels)
    return (
        f"<p>Truly changed, by the model’s scores: <strong>{value}</strong>, 95 % interval "
        f'{_interval(estimate, pixels)}. <span class="muted">{basis}</span></p>'
    )


def _answer(whole: Mapping[str, Any], pixels: bool, basis: str) -> str:
    mapped = _mapped(whole, pixels)
    estimate = _dict(whole, "changed_area")
    cards = [("mapped as changed", mapped, "" if estimate else "main")]
    if estimate:
        cards.insert(0, ("changed, estimated", _size(estimate.get("value"), pixels), "main"))
        cards.append(("95 % interval", _interval(estimate, pixels), ""))
    body = "".join(f'<div class="card {css}"><dt>{name}</dt><dd>{value}</dd></div>' for name, value, css in cards)
    return section("answer", "The answer", f'<dl class="cards">{body}</dl><p class="muted">{basis}</p>')


def _accuracy(record: Mapping[str, Any]) -> str:
    accuracy = _dict(record, "accuracy")
    if not accuracy:
        return ""
    head = ("Class", "User’s accuracy", "Producer’s accuracy")
    keys = ("users_accuracy", "producers_accuracy")
    rows = [(text(name), *(_share(_dict(each, k)) for k in keys)) for name, each in _dict(accuracy, "classes").items()]
    table = data_table(head, rows, "accuracy")
    overall = f"Overall accuracy {_share(_dict(accuracy, 'overall_accuracy'))}. ± is half of the 95 % interval."
    return section("accuracy", "Accuracy of the map", f'{table}<p class="muted">{overall}</p>')


def _row(region: Mapping[str, Any], pixels: bool) -> tuple[str, ...]:
    estimate = _dict(region, "changed_area")
    found = (
        (_size(estimate.get("value"), pixels), _interval(estimate, pixels))
        if estimate
        else ("–", text(region.get("note")))
    )
    return (text(region.get("name")), _mapped(region, pixels), *found, integer(region.get("samples")))


def _mapped(region: Mapping[str, Any], pixels: bool) -> str:
    return _size(_dict(region, "area_px" if pixels else "area_m2").get("changed"), pixels)


def _size(value: Any, pixels: bool) -> str:  # noqa: ANN401  from JSON
    return f"{integer(value)} pixels" if pixels else area(value)


def _interval(estimate: Mapping[str, Any], pixels: bool) -> str:
    low, high = estimate.get("low"), estimate.get("high")
    return f"{integer(low)} to {integer(high)} pixels" if pixels else area_range(low, high)


def _share(estimate: Mapping[str, Any]) -> str:
    low, high = estimate.get("low"), estimate.get("high")
    half = (high - low) / 2 if isinstance(low, float) and isinstance(high, float) else None
    return f"{fraction(estimate.get('value'))} ± {fraction(half)}"


def _dict(record: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = record.get(key) if isinstance(record, Mapping) else None
    return dict(value) if isinstance(value, Mapping) else {}
