"""The figure of the shift between the dates."""

import re
from dataclasses import replace

import pytest

from terradelta.receipt.map_record import RegistrationRecord, ShiftRecord
from terradelta.registration.page import shift_figure

BLOCKS = (
    (100.0, 50.0, 2.0, 0.0, True),
    (100.0, 150.0, 1.0, 0.0, True),
    (300.0, 50.0, 30.0, 9.0, False),
    (300.0, 150.0, 0.0, 0.0, True),
)
FOUND = ShiftRecord("correlation", 64, 0.75, 1.5, 0.75, (1.0, 1.0), 2.0, 0.25, 0.5, None, BLOCKS)


def only(found: ShiftRecord) -> RegistrationRecord:
    return RegistrationRecord(found, corrected=False, remaining=None, not_corrected_because=None)


def arrows(html: str) -> list[tuple[float, float, float, float]]:
    """(x, y) of the foot and the tip of every arrow, the legend's last."""
    found = re.findall(r'd="M([\d.-]+) ([\d.-]+)L([\d.-]+) ([\d.-]+)M', html)
    return [tuple(map(float, each)) for each in found]


def test_arrows_point_from_the_first_date_to_the_second():
    html = " ".join(shift_figure(only(FOUND), (400, 200)).split())
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
    after = replace(FOUND, blocks=((100.0, 50.0, 0.2, 0.0, True),), median_m=None)
    html = shift_figure(RegistrationRecord(FOUND, True, after, None), (400, 200))
    *_, small, legend = arrows(html)
    assert html.count("<svg") == 2
    assert small[3] - small[1] == pytest.approx((legend[2] - legend[0]) / 10, abs=0.2)


def test_nothing_to_draw():
    assert shift_figure(only(replace(FOUND, blocks=())), (4, 4)) == ""


def test_an_unknown_shift_is_said():
    unknown = replace(FOUND, blocks=((10.0, 10.0, 0.0, 0.0, False),), confident_share=0.02, median_px=None)
    html = shift_figure(only(unknown), (40, 40))
    assert "the shift is not known; 2.0 % of the blocks match" in html
    assert "pixels<" not in html
