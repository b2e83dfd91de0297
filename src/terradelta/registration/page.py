"""The shift between the dates, as a figure of arrows and a sentence."""

import math
from typing import Any

from markupsafe import Markup

from terradelta.html.page import render
from terradelta.receipt.map_record import RegistrationRecord, ShiftRecord

__all__ = ["shift_figure"]

_WIDTH = 720
_TALLEST = 720
_REACH = 0.45
"""Length of the longest arrow, in distances between blocks."""


def shift_figure(registration: RegistrationRecord, shape: tuple[int, int]) -> Markup:
    """How two dates lie on one another, as HTML; empty where no block was measured.

    Args:
        registration: of the receipt of a map.
        shape: (height, width) of the grid in pixels.
    """
    found = {
        "As the georeference says": registration.found,
        "After coregistration, as it was mapped": registration.remaining,
    }
    known = {title: each for title, each in found.items() if each is not None and each.blocks}
    lengths = (math.hypot(down, right) for each in known.values() for _, _, down, right, used in each.blocks if used)
    longest = max(lengths, default=0.0)  # of both figures: they have one scale
    figures = [{"title": title, "shift": each, **_drawn(each, shape, longest)} for title, each in known.items()]
    return Markup(render("registration/shift.html.j2", figures=figures) if figures else "")


def _drawn(shift: ShiftRecord, shape: tuple[int, int], longest: float) -> dict[str, Any]:
    """Where the marks of one figure lie, in units of its drawing."""
    scale = min(_WIDTH / shape[1], _TALLEST / shape[0])
    height, width = shape[0] * scale, shape[1] * scale
    stretch = _REACH * math.sqrt(height * width / len(shift.blocks)) / longest if longest > 0 else 0.0
    key = None
    if longest > 0:
        step = _round(longest)
        key = {"px": step, "x": 24 + step * stretch, "path": _arrow(12, height + 18, step * stretch, 0.0)}
    return {
        "height": height,
        "width": width,
        "lengthened": stretch / scale,
        "dots": [(col * scale, row * scale) for row, col, _, _, used in shift.blocks if not used],
        "arrows": [
            _arrow(col * scale, row * scale, right * stretch, down * stretch)
            for row, col, down, right, used in shift.blocks
            if used
        ],
        "key": key,
    }


def _arrow(x: float, y: float, right: float, down: float) -> str:
    """A path from a point, with a head a third of its length or 7 units."""
    length = math.hypot(right, down)
    if length < 0.5:
        return f"M{x - 1.5:.1f} {y:.1f}h3"
    head = min(7.0, length / 3) / length
    tip_x, tip_y = x + right, y + down
    sides = [(tip_x - head * (right + turn * down / 2), tip_y - head * (down - turn * right / 2)) for turn in (1, -1)]
    return f"M{x:.1f} {y:.1f}L{tip_x:.1f} {tip_y:.1f}" + "".join(
        f"M{a:.1f} {b:.1f}L{tip_x:.1f} {tip_y:.1f}" for a, b in sides
    )


def _round(value: float) -> float:
    """The largest of 1, 2 and 5 times a power of ten that is not above a value."""
    power = 10.0 ** math.floor(math.log10(value))
    return max(step * power for step in (1, 2, 5) if step * power <= value * (1 + 1e-9))
