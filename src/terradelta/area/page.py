"""A page of areas: mapped, estimated, by region; opens offline."""

from importlib.resources import files

from terradelta.html.text import area, area_range, fraction, integer, sentence, text
from terradelta.receipt import AreaReceipt
from terradelta.receipt.area_record import EstimateRecord, RegionRecord
from terradelta.receipt.map_record import AreaInterval

__all__ = ["area_page", "interval_sentence"]


def area_page(receipt: AreaReceipt) -> str:
    """The page of what `terradelta area` found."""
    style = (files("terradelta.html") / "assets" / "report.css").read_text(encoding="utf-8")
    whole, pixels = receipt.whole_map, receipt.unit == "px"
    sections = [_answer(whole, pixels, sentence(receipt.basis or whole.note or "")), _accuracy(receipt)]
    if receipt.regions:
        rows = "".join(_row(each, pixels) for each in receipt.regions)
        head = "".join(
            f'<th scope="col">{name}</th>' for name in ("Region", "Mapped", "Estimated", "95 % interval", "Samples")
        )
        sections.append(_section("regions", "By region", _scroll(head, rows)))
    notes = "".join(f'<p class="warning">{text(note)}.</p>' for note in receipt.notes)
    title = f"Changed area of {text(receipt.map)}"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark">\n<title>{title}</title>\n<style>{style}</style>\n</head>\n'
        f'<body>\n<main><header><p class="kicker">Area report</p><h1>{title}</h1></header>\n{notes}{"".join(sections)}'
        f"<footer><p>Made by terradelta {text(receipt.version)}.</p></footer></main>\n</body>\n</html>\n"
    )


def interval_sentence(interval: AreaInterval, pixels: bool) -> str:
    """The interval of the changed area in a map's receipt, as a paragraph."""
    estimate, basis = interval.area, sentence(interval.basis)
    if estimate is None:
        return f'<p class="muted">The changed area has no interval. {basis}</p>'
    return (
        f"<p>Truly changed, by the model’s scores: <strong>{_size(estimate.value, pixels)}</strong>, 95 % interval "
        f'{_interval(estimate, pixels)}. <span class="muted">{basis}</span></p>'
    )


def _answer(whole: RegionRecord, pixels: bool, basis: str) -> str:
    mapped, estimate = _mapped(whole), whole.changed_area
    cards = [("mapped as changed", mapped, "" if estimate else "main")]
    if estimate is not None:
        cards.insert(0, ("changed, estimated", _size(estimate.value, pixels), "main"))
        cards.append(("95 % interval", _interval(estimate, pixels), ""))
    body = "".join(f'<div class="card {css}"><dt>{name}</dt><dd>{value}</dd></div>' for name, value, css in cards)
    return _section("answer", "The answer", f'<dl class="cards">{body}</dl><p class="muted">{basis}</p>')


def _accuracy(receipt: AreaReceipt) -> str:
    accuracy = receipt.accuracy
    if accuracy is None:
        return ""
    rows = ""
    for name, each in (("unchanged", accuracy.classes.unchanged), ("changed", accuracy.classes.changed)):
        cells = "".join(f"<td>{_share(share)}</td>" for share in (each.users_accuracy, each.producers_accuracy))
        rows += f'<tr><th scope="row">{name}</th>{cells}</tr>'
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Class", "User’s accuracy", "Producer’s accuracy"))
    overall = f"Overall accuracy {_share(accuracy.overall_accuracy)}. ± is half of the 95 % interval."
    return _section("accuracy", "Accuracy of the map", f'{_scroll(head, rows)}<p class="muted">{overall}</p>')


def _row(region: RegionRecord, pixels: bool) -> str:
    estimate = region.changed_area
    found = (
        ("–", text(region.note)) if estimate is None else (_size(estimate.value, pixels), _interval(estimate, pixels))
    )
    cells = "".join(f"<td>{value}</td>" for value in (_mapped(region), *found, integer(region.samples)))
    return f'<tr><th scope="row">{text(region.name)}</th>{cells}</tr>'


def _mapped(region: RegionRecord) -> str:
    if region.area_px is not None:
        return _size(region.area_px.changed, pixels=True)
    return _size(None if region.area_m2 is None else region.area_m2.changed, pixels=False)


def _size(value: float | None, pixels: bool) -> str:
    return f"{integer(value)} pixels" if pixels else area(value)


def _interval(estimate: EstimateRecord, pixels: bool) -> str:
    low, high = estimate.low, estimate.high
    return f"{integer(low)} to {integer(high)} pixels" if pixels else area_range(low, high)


def _share(estimate: EstimateRecord) -> str:
    return f"{fraction(estimate.value)} ± {fraction((estimate.high - estimate.low) / 2)}"


def _section(name: str, heading: str, body: str) -> str:
    return f'<section aria-labelledby="{name}">\n<h2 id="{name}">{heading}</h2>\n{body}\n</section>'


def _scroll(head: str, rows: str) -> str:
    return f'<div class="scroll"><table class="data"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
