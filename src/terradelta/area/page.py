"""A page of areas: mapped, estimated, by region; opens offline."""

from terradelta.html.page import render
from terradelta.receipt import AreaReceipt

__all__ = ["area_page"]


def area_page(receipt: AreaReceipt) -> str:
    """The page of what `terradelta area` found."""
    return render("area/page.html.j2", receipt=receipt)
