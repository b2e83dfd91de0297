"""A page of areas: mapped, estimated, by region; opens offline."""

from terradelta.html.page import data_table, page, section
from terradelta.html.text import area, area_range, fraction, integer, sentence, text
from terradelta.receipt import AreaReceipt
from terradelta.receipt.area_record import EstimateRecord, RegionRecord

__all__ = ["area_page"]


def area_page(receipt: AreaReceipt) -> str:
    """The page of what `terradelta area` found."""
    whole, pixels = receipt.whole_map, receipt.unit == "px"
    sections = [_answer(whole, pixels, sentence(receipt.basis or whole.note or "")), _accuracy(receipt)]
    if receipt.regions:
        head = ("Region", "Mapped", "Estimated", "95 % interval", "Samples")
        table = data_table(head, [_row(each, pixels) for each in receipt.regions], "regions")
        sections.append(section("regions", "By region", table))
    notes = [f'<p class="warning">{text(note)}.</p>' for note in receipt.notes]
    made_by = f"Made by terradelta {text(receipt.version)}."
    return page("Area report", f"Changed area of {receipt.map}", notes + sections, made_by)


def _answer(whole: RegionRecord, pixels: bool, basis: str) -> str:
    mapped, estimate = _mapped(whole), whole.changed_area
    cards = [("mapped as changed", mapped, "" if estimate else "main")]
    if estimate is not None:
        cards.insert(0, ("changed, estimated", _size(estimate.value, pixels), "main"))
        cards.append(("95 % interval", _interval(estimate, pixels), ""))
    body = "".join(f'<div class="card {css}"><dt>{name}</dt><dd>{value}</dd></div>' for name, value, css in cards)
    return section("answer", "The answer", f'<dl class="cards">{body}</dl><p class="muted">{basis}</p>')


def _accuracy(receipt: AreaReceipt) -> str:
    accuracy = receipt.accuracy
    if accuracy is None:
        return ""
    head = ("Class", "User’s accuracy", "Producer’s accuracy")
    classes = (("unchanged", accuracy.classes.unchanged), ("changed", accuracy.classes.changed))
    rows = [(name, _share(each.users_accuracy), _share(each.producers_accuracy)) for name, each in classes]
    table = data_table(head, rows, "accuracy")
    overall = f"Overall accuracy {_share(accuracy.overall_accuracy)}. ± is half of the 95 % interval."
    return section("accuracy", "Accuracy of the map", f'{table}<p class="muted">{overall}</p>')


def _row(region: RegionRecord, pixels: bool) -> tuple[str, ...]:
    estimate = region.changed_area
    found = (
        ("–", text(region.note)) if estimate is None else (_size(estimate.value, pixels), _interval(estimate, pixels))
    )
    return (text(region.name), _mapped(region), *found, integer(region.samples))


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
