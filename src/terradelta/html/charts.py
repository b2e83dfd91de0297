"""Charts as SVG text for an HTML page: no library, no script; readable in light and dark mode and in grey.

A chart is drawn in units of its view box and scales with the page. Colours are those of Okabe and Ito, which are told
apart with every kind of colour vision; series differ in dash or marker too. Positions are (x, y) in data units.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

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

    def at(self, point: Point) -> Point:
        """Place of a point in the drawing; what lies outside the axes is moved to their end."""
        spans = zip(point, (self.x.limits(), self.y.limits()), strict=True)
        across, up = (min(max((value - low) / (high - low), 0.0), 1.0) for value, (low, high) in spans)
        inner_width, inner_height = self.width - _LEFT - _RIGHT, self.height - _TOP - _BOTTOM
        return _LEFT + across * inner_width, self.height - _BOTTOM - up * inner_height


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
    parts = [_bars(frame, each, bars) if isinstance(each, Bars) else _line(frame, each) for each in series]
    named = [each for each in series if each.name] if legend else []
    head = _legend(named) if named else f'<text class="title" x="{_LEFT:g}" y="14">{escape(title)}</text>'
    body = "\n".join([head, _axes(frame), *parts])
    css = "chart wide" if size[0] > _WIDE else "chart"
    return Markup(
        f'<svg class="{css}" viewBox="0 0 {size[0]:g} {size[1]:g}" role="img" aria-label="{escape(title)}">\n'
        f"<title>{escape(title)}</title>\n{body}\n</svg>"
    )


def _axes(frame: _Frame) -> str:
    low_x, high_x = frame.x.limits()
    low_y, high_y = frame.y.limits()
    parts = []
    for position, name in frame.y.ticks():
        left, level = frame.at((low_x, position))
        right, _ = frame.at((high_x, position))
        parts.append(f'<path class="grid" d="M{left:.1f} {level:.1f}H{right:.1f}"/>')
        parts.append(
            f'<text class="tick" x="{left - 6:.1f}" y="{level + 4:.1f}" text-anchor="end">{escape(name)}</text>'
        )
    for position, name in frame.x.ticks():
        place, bottom = frame.at((position, low_y))
        parts.append(
            f'<text class="tick" x="{place:.1f}" y="{bottom + 15:.1f}" text-anchor="middle">{escape(name)}</text>'
        )
    (left, bottom), (right, top) = frame.at((low_x, low_y)), frame.at((high_x, high_y))
    parts.append(f'<path class="axis" d="M{left:.1f} {top:.1f}V{bottom:.1f}H{right:.1f}"/>')
    middle = (left + right) / 2
    parts.append(
        f'<text class="label" x="{middle:.1f}" y="{frame.height - 8:.1f}" text-anchor="middle">'
        f"{escape(frame.x.label)}</text>"
    )
    parts.append(
        f'<text class="label" transform="translate(13 {(top + bottom) / 2:.1f}) rotate(-90)" text-anchor="middle">'
        f"{escape(frame.y.label)}</text>"
    )
    return "\n".join(parts)


def _line(frame: _Frame, line: Line) -> str:
    colour = "currentColor" if line.colour == "ink" else line.colour
    places = [frame.at(point) for point in line.points]
    parts = []
    for (x, _), (low, high) in zip(line.points, line.spans, strict=False):
        (at, bottom), (_, top) = frame.at((x, low)), frame.at((x, high))
        parts.append(f'<path d="M{at:.1f} {bottom:.1f}V{top:.1f}" stroke="{colour}" stroke-width="1.4"/>')
    if line.joined and places:
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        dash = f' stroke-dasharray="{line.dash}"' if line.dash else ""
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.8"{dash}/>')
    if line.marked:
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.2" fill="{colour}"/>' for x, y in places]
    return "\n".join(parts)


def _bars(frame: _Frame, bars: Bars, together: Sequence[Bars]) -> str:
    """Bars of one series; several series share 80 % of the step between categories."""
    share = 0.8 / len(together)
    offset = -0.4 + share * together.index(bars)
    low = frame.y.limits()[0]
    parts = []
    for k, value in enumerate(bars.values):
        left, top = frame.at((k + offset, value))
        right, bottom = frame.at((k + offset + share, low))
        parts.append(
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{right - left - 1:.1f}" height="{bottom - top:.1f}" '
            f'fill="{bars.colour}"><title>{value:.4g}</title></rect>'
        )
    return "\n".join(parts)


def _legend(series: Sequence[Line | Bars]) -> str:
    """Names with a sample of the line or the bar, in a row."""
    parts, at = [], _LEFT
    for each in series:
        colour = "currentColor" if each.colour == "ink" else each.colour
        if isinstance(each, Bars):
            parts.append(f'<rect x="{at:.1f}" y="6" width="16" height="9" fill="{colour}"/>')
        else:
            parts.append(_sample(each, colour, at))
        parts.append(f'<text class="key-name" x="{at + 21:.1f}" y="14">{escape(each.name)}</text>')
        at += 21 + 6.6 * len(each.name) + 14
    return "\n".join(parts)


def _sample(line: Line, colour: str, at: float) -> str:
    dash = f' stroke-dasharray="{line.dash}"' if line.dash else ""
    path = f'<path d="M{at:.1f} 10H{at + 17:.1f}" stroke="{colour}" stroke-width="1.8"{dash}/>' if line.joined else ""
    dot = f'<circle cx="{at + 8.5:.1f}" cy="10" r="3.2" fill="{colour}"/>' if line.marked else ""
    return path + dot
