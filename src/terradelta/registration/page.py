"""The shift between the dates, as a figure of arrows and a sentence."""

import math

from terradelta.html.text import fraction, number
from terradelta.receipt.map_record import RegistrationRecord, ShiftRecord

__all__ = ["shift_figure"]

_WIDTH = 720
_TALLEST = 720
_REACH = 0.45
"""Length of the longest arrow, in distances between blocks."""

_Block = tuple[float, float, float, float, bool]


def shift_figure(registration: RegistrationRecord, shape: tuple[int, int]) -> str:
    """HTML of how two dates lie on one another; empty where no block was measured.

    Args:
        registration: of the receipt of a map.
        shape: (height, width) of the grid in pixels.
    """
    found = {
        "As the georeference says": registration.found,
        "After coregistration, as it was mapped": registration.remaining,
    }
    shown = {title: each for title, each in found.items() if each is not None and each.blocks}
    lengths = (math.hypot(down, right) for each in shown.values() for _, _, down, right, used in each.blocks if used)
    longest = max(lengths, default=0.0)  # of both figures: they have one scale
    figures = [_figure(each.blocks, shape, longest, f"{title}: {_words(each)}") for title, each in shown.items()]
    return f'<div class="pair">{"".join(figures)}</div>' if figures else ""


def _figure(blocks: tuple[_Block, ...], shape: tuple[int, int], longest: float, words: str) -> str:
    scale = min(_WIDTH / shape[1], _TALLEST / shape[0])
    height, width = shape[0] * scale, shape[1] * scale
    spacing = math.sqrt(height * width / len(blocks))
    stretch = _REACH * spacing / longest if longest > 0 else 0.0
    marks = "".join(_mark(block, scale, stretch) for block in blocks)
    if longest > 0:
        step = _round(longest)
        marks += f'<path class="arrow" d="{_arrow(12, height + 18, step * stretch, 0.0)}"/>'
        marks += f'<text x="{24 + step * stretch:.1f}" y="{height + 23:.1f}">{step:g} pixels</text>'
    used = sum(block[4] for block in blocks)
    return (
        f'<figure class="shift"><svg viewBox="0 0 {width:.0f} {height + 34:.0f}" role="img" aria-label="Arrows from '
        "where the first date shows something to where the second one does, lengthened "
        f'{stretch / scale:.0f} times">'
        f'<rect class="frame" width="{width:.1f}" height="{height:.1f}"/>{marks}</svg>'
        f"<figcaption>{words} {used} of {len(blocks)} blocks are used (arrows); the others (dots) do "
        "not match, or contradict the rest.</figcaption></figure>"
    )


def _words(shift: ShiftRecord) -> str:
    if shift.median_px is None:
        return f"the shift is not known; {fraction(shift.confident_share)} of the blocks match."
    ground = "" if shift.median_m is None else f" ({number(shift.median_m)} m)"
    return (
        f"{number(shift.median_px)} pixels{ground} in the median, single blocks scatter by {number(shift.scatter_px)}."
    )


def _mark(block: _Block, scale: float, stretch: float) -> str:
    row, col, down, right, used = block
    x, y = col * scale, row * scale
    if not used:
        return f'<circle class="unused" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'
    return f'<path class="arrow" d="{_arrow(x, y, right * stretch, down * stretch)}"/>'


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
