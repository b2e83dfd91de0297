"""The shift between the dates, as a figure of arrows and a sentence."""

import math
from collections.abc import Mapping
from typing import Any

from terradelta.html.text import finite, fraction, number

__all__ = ["shift_figure"]

_WIDTH = 720
_TALLEST = 720
_REACH = 0.45
"""Length of the longest arrow, in distances between blocks."""

_Block = tuple[float, float, float, float, bool]


def shift_figure(registration: Mapping[str, Any], shape: tuple[float, float]) -> str:
    """HTML of the ``registration`` object of a receipt; empty where it holds no block.

    Args:
        registration: with ``found``, ``remaining`` and ``corrected``; every key may be missing.
        shape: (height, width) of the grid in pixels.
    """
    records = {
        "As the georeference says": registration.get("found"),
        "After coregistration, as it was mapped": registration.get("remaining"),
    }
    blocks = {title: _blocks(record) for title, record in records.items() if isinstance(record, Mapping)}
    lengths = (math.hypot(down, right) for each in blocks.values() for _, _, down, right, used in each if used)
    longest = max(lengths, default=0.0)  # of both figures: they have one scale
    height, width = shape
    if height <= 0 or width <= 0:
        return ""
    figures = [
        _figure(each, shape, longest, f"{title}: {_words(records[title])}") for title, each in blocks.items() if each
    ]
    return f'<div class="pair">{"".join(figures)}</div>' if figures else ""


def _figure(blocks: list[_Block], shape: tuple[float, float], longest: float, words: str) -> str:
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


def _words(record: Any) -> str:  # noqa: ANN401  from JSON
    median, metres = finite(record.get("median_px")), finite(record.get("median_m"))
    if median is None:
        return f"the shift is not known; {fraction(record.get('confident_share'))} of the blocks match."
    ground = "" if metres is None else f" ({number(metres)} m)"
    return (
        f"{number(median)} pixels{ground} in the median, single blocks scatter by {number(record.get('scatter_px'))}."
    )


def _blocks(record: Mapping[str, Any]) -> list[_Block]:
    rows = record.get("blocks")
    blocks = []
    for row in rows if isinstance(rows, list | tuple) else ():
        values = [finite(value) for value in row[:4]] if isinstance(row, list | tuple) and len(row) == 5 else [None]
        if None not in values:
            blocks.append((*values, row[4] is True))
    return blocks


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
