"""The figure of the shift between the dates."""

import re

import pytest

from terradelta.registration.page import shift_figure

BLOCKS = [
    [100, 50, 2.0, 0.0, True],
    [100, 150, 1.0, 0.0, True],
    [300, 50, 30.0, 9.0, False],
    [300, 150, 0.0, 0.0, True],
]
FOUND = {"median_px": 1.5, "median_m": 0.75, "scatter_px": 0.25, "confident_share": 0.75, "blocks": BLOCKS}


def arrows(html: str) -> list[tuple[float, float, float, float]]:
    """(x, y) of the foot and the tip of every arrow, the legend's last."""
    found = re.findall(r'd="M([\d.-]+) ([\d.-]+)L([\d.-]+) ([\d.-]+)M', html)
    return [tuple(map(float, each)) for each in found]


def test_arrows_point_from_the_first_date_to_the_second():
    html = shift_figure({"found": FOUND}, (400, 200))
    first, second, legend = arrows(html)
    scale = 720 / 400
    assert first[:2] == pytest.approx((50 * scale, 100 * scale))
    assert first[2] == pytest.approx(first[0])
    assert first[3] - first[1] == pytest.approx(2 * (second[3] - second[1]), abs=0.2)  # down, and twice as long
    assert legend[2] - legend[0] == pytest.approx(first[3] - first[1], abs=0.1)
    assert ">2 pixels<" in html
    assert html.count("<circle") == 1
    assert "1.50 pixels (0.75 m) in the median, single blocks scatter by 0.25. 3 of 4 blocks are used" in html


def test_both_figures_have_one_scale():
    after = {**FOUND, "blocks": [[100, 50, 0.2, 0.0, True]], "median_m": None}
    html = shift_figure({"found": FOUND, "remaining": after}, (400, 200))
    *_, small, legend = arrows(html)
    assert html.count("<svg") == 2
    assert small[3] - small[1] == pytest.approx((legend[2] - legend[0]) / 10, abs=0.2)


@pytest.mark.parametrize(
    ("registration", "shape"),
    [
        ({}, (4, 4)),
        ({"found": None}, (4, 4)),
        ({"found": {"blocks": [[1, 2], "x", [1, 2, None, 4, True]]}}, (4, 4)),
        ({"found": FOUND}, (0, 0)),
    ],
)
def test_nothing_to_draw(registration, shape):
    assert shift_figure(registration, shape) == ""


def test_an_unknown_shift_is_said():
    blocks = [[10, 10, 0, 0, False]]
    html = shift_figure({"found": {"blocks": blocks, "confident_share": 0.02}}, (40, 40))
    assert "the shift is not known; 2.0 % of the blocks match" in html
    assert "pixels<" not in html
