"""Charts as SVG text for an HTML page: no library, no script; readable in light and dark mode and in grey.

A chart is drawn in units of its view box and scales with the page. Colours are those of Okabe and Ito, which are told
apart with every kind of colour vision; series differ in dash or marker too. Positions are (x, y) in data units.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from markupsafe import Markup

from terradelta.html.page import render

__all__ = ["COLOURS", "Axis", "Bars", "Line", "chart"]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Blue, vermilion, green, purple, orange, sky blue."""
_WIDE = 600
"""Units from which a chart is not made narrower on a small screen but moved sideways."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 12.0, 26.0, 44.0

Point = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """One axis: a range of numbers, or categories at 0, 1, 2, ..."""

    label: str
    low: float = 0.0
    high: float = 1.0
    categories: tuple[str, ...] = ()

    def ticks(self) -> list[tuple[float, str]]:
        """Positions and labels: the categories, or four to eight round numbers within the range."""
        if self.categories:
            return [(float(k), name) for k, name in enumerate(self.categories)]
        step = _round_step((self.high - self.low) / 5)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [(k * step, f"{k * step:g}") for k in range(first, last + 1)]

    def limits(self) -> tuple[float, float]:
        """Smallest and largest position on the axis; categories have half a step beside them."""
        return (-0.5, len(self.categories) - 0.5) if self.categories else (self.low, self.high)


def _round_step(step: float) -> float:
    """The number nearest to a step among 1, 2, 2.5 and 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return min((factor * power for factor in (1, 2, 2.5, 5, 10)), key=lambda each: abs(math.log(each / step)))


@dataclass(frozen=True)
class Line:
    """Points joined by a line."""

    name: str
    """For the legend; empty: not in it."""
    points: Sequence[Point]
    colour: str = COLOURS[0]
    """A colour, or ``ink`` for the colour of the text."""
    dash: str = ""
    """SVG dash pattern, such as ``5 4``; empty: solid."""
    marked: bool = False
    """Whether each point has a dot."""
    joined: bool = True
    """Whether the points are joined."""
    spans: Sequence[Point] = ()
    """Low and high end of an error bar at each point; empty: none."""


@dataclass(frozen=True)
class Bars:
    """A bar at each category."""

    name: str
    values: Sequence[float]
    colour: str = COLOURS[0]


@dataclass(frozen=True)
class _Frame:
    """Where data lie in a drawing of (width, height)."""

    x: Axis
    y: Axis
    width: float
    height: float

    @property
    def left(self) -> float:
        """Of the area between the axes, as the following ones."""
        return _LEFT

    @property
    def right(self) -> float:
        """See ``left``."""
        return self.width - _RIGHT

    @property
    def top(self) -> float:
        """See ``left``."""
        return _TOP

    @property
    def bottom(self) -> float:
        """See ``left``."""
        return self.height - _BOTTOM

    def at(self, point: Point) -> Point:
        """Place of a point in the drawing; what lies outside the axes is moved to their end."""
        spans = zip(point, (self.x.limits(), self.y.limits()), strict=True)
        across, up = (min(max((value - low) / (high - low), 0.0), 1.0) for value, (low, high) in spans)
        return self.left + across * (self.right - self.left), self.bottom - up * (self.bottom - self.top)

    def levels(self) -> list[tuple[float, str]]:
        """Height in the drawing and name of the ticks of the vertical axis."""
        return [(self.at((0.0, position))[1], name) for position, name in self.y.ticks()]

    def places(self) -> list[tuple[float, str]]:
        """Place across the drawing and name of the ticks of the horizontal axis."""
        return [(self.at((position, 0.0))[0], name) for position, name in self.x.ticks()]


def chart(
    x: Axis,
    y: Axis,
    series: Sequence[Line | Bars],
    *,
    title: str,
    size: tuple[float, float] = (440, 300),
    legend: bool = True,
) -> Markup:
    """One chart.

    Args:
        x: horizontal axis.
        y: vertical axis.
        series: what is drawn, the first at the bottom. Bars stand side by side and need categories along x.
        title: read out by screen readers, and shown above.
        size: (width, height) of the view box.
        legend: whether to name the series in a row above the chart.
    """
    frame = _Frame(x, y, *size)
    bars = [each for each in series if isinstance(each, Bars)]
    drawn = [_bars(frame, each, bars) if isinstance(each, Bars) else _line(frame, each) for each in series]
    named = [each for each in drawn if each["name"]] if legend else []
    widths = (21 + 6.6 * len(each["name"]) + 14 for each in named)
    values = {"legend": list(zip(accumulate(widths, initial=_LEFT), named, strict=False)), "series": drawn}
    return Markup(render("html/chart.svg.j2", frame=frame, title=title, wide=size[0] > _WIDE, **values))


def _line(frame: _Frame, line: Line) -> dict[str, Any]:
    """Points, error bars and style of a line in the drawing."""
    places = [frame.at(point) for point in line.points]
    ends = zip(line.points, line.spans, strict=False)
    return {
        "name": line.name,
        "colour": "currentColor" if line.colour == "ink" else line.colour,
        "dash": line.dash,
        "path": places if line.joined else [],
        "dots": places if line.marked else [],
        "spans": [(*frame.at((x, low)), frame.at((x, high))[1]) for (x, _), (low, high) in ends],
    }


def _bars(frame: _Frame, bars: Bars, together: Sequence[Bars]) -> dict[str, Any]:
    """Bars of one series in the drawing; several series share 80 % of the step between categories."""
    share = 0.8 / len(together)
    offset = -0.4 + share * together.index(bars)
    low = frame.y.limits()[0]
    rectangles = []
    for k, value in enumerate(bars.values):
        (left, top), (right, bottom) = frame.at((k + offset, value)), frame.at((k + offset + share, low))
        rectangles.append((left, top, right - left - 1, bottom - top, value))
    return {"name": bars.name, "colour": bars.colour, "rectangles": rectangles}
