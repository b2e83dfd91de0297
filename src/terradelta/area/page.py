"""A page of areas: mapped, estimated, by region; opens offline."""

from terradelta.html.page import render
from terradelta.html.text import area, area_range, integer, sentence
from terradelta.receipt import AreaReceipt
from terradelta.receipt.area_record import EstimateRecord
from terradelta.receipt.map_record import AreaInterval

__all__ = ["area_page", "interval_sentence"]


def area_page(receipt: AreaReceipt) -> str:
    """The page of what `terradelta area` found."""
    return render("area/page.html.j2", receipt=receipt)


def interval_sentence(interval: AreaInterval, pixels: bool) -> str:
    """The interval of the changed area in a map's receipt, as a paragraph."""
    estimate, basis = interval.area, sentence(interval.basis)
    if estimate is None:
        return f'<p class="muted">The changed area has no interval. {basis}</p>'
    return (
        f"<p>Truly changed, by the model’s scores: <strong>{_size(estimate.value, pixels)}</strong>, 95 % interval "
        f'{_interval(estimate, pixels)}. <span class="muted">{basis}</span></p>'
    )


def _size(value: float | None, pixels: bool) -> str:
    return f"{integer(value)} pixels" if pixels else area(value)


def _interval(estimate: EstimateRecord, pixels: bool) -> str:
    low, high = estimate.low, estimate.high
    return f"{integer(low)} to {integer(high)} pixels" if pixels else area_range(low, high)
