"""Charts: well-formed, with marks where the data say."""

import math
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from terradelta.html.charts import COLOURS, Axis, Bars, Line, chart

# Of a chart of 440 x 300: left 52, right 12, top 26, bottom 44.
LEFT, RIGHT, TOP, BOTTOM = 52, 440 - 12, 26, 300 - 44


X, Y = Axis("x"), Axis("y")


def drawn(*series: Line | Bars, x: Axis = X, **options: object) -> ET.Element:
    return ET.fromstring(chart(x, Y, series, title="A & B", **options))


def attributes(element: ET.Element, tag: str, *names: str) -> list[tuple[float, ...]]:
    return [tuple(float(each.get(name)) for name in names) for each in element.iter(tag)]


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_few_round_and_inside(low: float, span: float) -> None:
    high = low + span
    ticks = Axis("", low, high).ticks()
    slack = 1e-6 * max(abs(low), abs(high), span)
    assert 3 <= len(ticks) <= 9
    assert all(low - slack <= position <= high + slack for position, _ in ticks)
    step = (ticks[-1][0] - ticks[0][0]) / (len(ticks) - 1)
    mantissa = step / 10 ** math.floor(math.log10(step) + 1e-9)
    assert min(abs(mantissa - each) for each in (1, 2, 2.5, 5, 10)) < 1e-6


def test_ticks_of_zero_to_one() -> None:
    assert [name for _, name in Axis("").ticks()] == ["0", "0.2", "0.4", "0.6", "0.8", "1"]
    assert Axis("", categories=("a", "b")).ticks() == [(0, "a"), (1, "b")]


def test_points_lie_where_the_axes_say() -> None:
    svg = drawn(Line("l", [(0, 0), (1, 1), (0.5, 0.25)], marked=True), legend=False)
    assert attributes(svg, "circle", "cx", "cy") == [
        (LEFT, BOTTOM),
        (RIGHT, TOP),
        ((LEFT + RIGHT) / 2, pytest.approx(BOTTOM - 0.25 * (BOTTOM - TOP))),
    ]
    (path,) = [each.get("d") for each in svg.iter("path") if each.get("stroke-width") == "1.8"]
    assert path == f"M{LEFT:.1f} {BOTTOM:.1f}L{RIGHT:.1f} {TOP:.1f}L240.0 198.5"


def test_what_lies_outside_ends_at_the_axes() -> None:
    svg = drawn(Line("", [(2, -1)], marked=True), legend=False)
    assert attributes(svg, "circle", "cx", "cy") == [(RIGHT, BOTTOM)]


def test_error_bars_and_dashes() -> None:
    svg = drawn(Line("", [(0.5, 0.5)], COLOURS[1], dash="5 4", spans=[(0.25, 0.75)]), legend=False)
    paths = {each.get("d"): each for each in svg.iter("path") if each.get("stroke")}
    assert paths["M240.0 198.5V83.5"].get("stroke") == COLOURS[1]
    assert paths["M240.0 141.0"].get("stroke-dasharray") == "5 4"


def test_bars_share_the_step_and_stand_on_the_axis() -> None:
    x = Axis("x", categories=("a", "b"))
    first, second = Bars("f", (1.0, 0.5)), Bars("s", (0.0, 1.0), COLOURS[1])
    svg = drawn(first, second, x=x, legend=False)
    step = (RIGHT - LEFT) / 2
    rects = attributes(svg, "rect", "x", "y", "width", "height")
    lefts = [LEFT + step * (k + 0.5 + offset) for offset in (-0.4, 0) for k in (0, 1)]
    assert [r[0] for r in rects] == pytest.approx(lefts, abs=0.06)
    assert all(r[2] == pytest.approx(0.4 * step - 1, abs=0.06) for r in rects)
    assert [r[3] for r in rects] == pytest.approx([230, 115, 0, 230])
    assert all(r[1] + r[3] == pytest.approx(BOTTOM, abs=0.06) for r in rects)


def test_names_are_escaped_and_read_out() -> None:
    svg = drawn(Line("p < q", [(0, 0)]), Bars("b", (1.0,)), x=Axis("x & y", categories=("<c>",)))
    texts = ["".join(each.itertext()) for each in svg.iter("text")]
    assert {"p < q", "b", "x & y", "<c>"} <= set(texts)
    assert svg.get("aria-label") == "A & B"
    assert svg.find("title").text == "A & B"
    assert "A & B" not in texts  # the legend stands in its place
    assert "A & B" in ["".join(each.itertext()) for each in drawn(legend=False).iter("text")]


def test_a_line_without_points() -> None:
    assert not [each for each in drawn(Line("", []), legend=False).iter("path") if each.get("stroke")]
