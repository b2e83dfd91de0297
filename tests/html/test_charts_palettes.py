"""Palettes as they look without one kind of cones, and in grey.

Simulated by Machado, Oliveira & Fernandes, A Physiologically-based Model for Simulation of Color Vision Deficiency,
IEEE TVCG 15(6), 2009: matrices of severity 1 on linear RGB. Differences are CIEDE2000; about 2 can just be seen side by
side, 10 are seen at a glance. Lightness is CIELAB's L*, 0 to 100, which is what print in grey leaves.
"""

import itertools

import matplotlib as mpl
import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from terradelta.html.charts import COLOURS
from terradelta.html.pictures import CHANGE_COLOUR, RAMP
from terradelta.lab.evaluation.error_maps import PAPER, SAFE
from terradelta.lab.figures.panels import _DASHES, _LINES
from terradelta.products.cog import CHANGE_COLOURS

VISIONS = {
    "usual": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def bytes_of(colour) -> tuple[float, ...]:
    """(red, green, blue) from 0 to 255; of ``#rrggbb`` too."""
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5)) if isinstance(colour, str) else tuple(colour)


def lab(colours, vision: str = "usual") -> np.ndarray:
    """CIELAB of colours as a kind of vision sees them, ``(N, 3)``."""
    encoded = np.array([bytes_of(colour) for colour in colours]) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    seen = (linear @ VISIONS[vision].T).clip(0, 1)
    return rgb2lab(np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055))


def nearest(colours, vision: str) -> float:
    """Smallest difference between two colours of a palette."""
    return min(float(deltaE_ciede2000(a, b)) for a, b in itertools.combinations(lab(colours, vision), 2))


def lightness_step(colours) -> float:
    """Smallest difference in lightness between two colours of a palette."""
    return float(np.diff(np.sort(lab(colours)[:, 0])).min())


def test_the_simulation_keeps_grey_and_confuses_what_it_should():
    for vision in VISIONS:
        np.testing.assert_allclose(lab([(90, 90, 90)], vision), lab([(90, 90, 90)]), atol=0.05)
    red_and_green = ((160, 0, 0), (0, 64, 0))  # alike for protanopes, who lack the long-wave cones
    assert nearest(red_and_green, "protanopia") < 3
    assert nearest(red_and_green, "usual") > 40


@pytest.mark.parametrize("vision", VISIONS)
def test_outcomes_are_told_apart(vision):
    assert nearest(SAFE, vision) > 30
    assert nearest([*SAFE, (128, 128, 128)], vision) > 20  # with no data


def test_outcomes_are_told_apart_in_grey():
    assert lightness_step(SAFE) > 20


def test_the_colours_of_the_papers_are_not_for_everyone():
    """Why there is a second palette: for deuteranopes FP and FN come nearest, and in grey FN and TP."""
    assert nearest(PAPER, "deuteranopia") < 20
    assert lightness_step(PAPER) < 15


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize(
    "colours", [_LINES, COLOURS, ["#56b4e9", *COLOURS[1:5]]], ids=["figures", "pages", "dark pages"]
)
def test_lines_are_told_apart(vision, colours):
    assert nearest(colours, vision) > 10


def test_lines_that_follow_one_another_differ_in_dash_too():
    styles = [(_LINES[k % len(_LINES)], _DASHES[k % len(_DASHES)]) for k in range(28)]
    assert len(set(styles)) == 28
    assert all(one[1] != other[1] for one, other in itertools.pairwise(styles))


@pytest.mark.parametrize("vision", VISIONS)
def test_ramps_grow_in_lightness(vision):
    """Of probabilities in reports, and of heat maps: no two values look alike, and more is lighter."""
    heat = mpl.colormaps["cividis"](np.linspace(0, 1, 11))[:, :3] * 255
    for ramp in (RAMP, heat):
        seen = lab(ramp, vision)
        assert np.diff(seen[:, 0]).min() > 4
        assert all(float(deltaE_ciede2000(a, b)) > 4 for a, b in itertools.pairwise(seen))


@pytest.mark.parametrize("vision", VISIONS)
def test_change_stands_out(vision):
    greys = [(value,) * 3 for value in range(90, 231, 5)]  # of the image under it, see `change_picture`
    assert min(nearest([CHANGE_COLOUR, grey], vision) for grey in greys) > 20
    assert nearest(CHANGE_COLOURS.values(), vision) > 30  # of change.tif
    assert nearest([(255, 0, 0), (90, 90, 90)], vision) > 20  # outlines in QGIS: change, and what a shift explains
