"""Heat maps: what is drawn where, and what cannot be drawn."""

import dataclasses

import numpy as np
import pytest

from terradelta.errors import InputError, ShapeError
from terradelta.lab.figures.heat import HeatPanel, HeatRow, HeatScene, draw_heat
from terradelta.lab.figures.panels import save_figure

SCENE = HeatScene(np.full((4, 8, 3), 60, np.uint8), np.full((4, 8, 3), 90, np.uint8))


def panel(values, **more) -> HeatPanel:
    return HeatPanel(
        **{"group": "a", "date": "after", "values": np.array(values, float), "covers": (4, 8), "unit": "u", **more}
    )


def test_maps_cover_their_part_and_share_a_range():
    maps = (
        panel([[0, 1], [2, 3]], date="before"),
        panel([[4, 5], [6, 10]], covers=(8, 16)),
        panel([[7, 9]], group="b"),
    )
    figure = draw_heat(SCENE, ["x", "y", "z"], [HeatRow("m", maps)], opacity=0.5)
    before, _after, *cells = figure.axes[:5]
    assert [axis.get_title() for axis in figure.axes[:5]] == ["before", "after", "x", "y", "z"]
    assert before.get_ylabel() == "m"
    grey, first = cells[0].get_images()
    assert grey.get_array().tolist() == [[60] * 8] * 4
    assert (first.get_array().tolist(), first.get_alpha()) == ([[0, 1], [2, 3]], 0.5)
    assert cells[1].get_images()[1].get_extent() == [-0.5, 15.5, 7.5, -0.5]
    assert (cells[1].get_xlim(), cells[1].get_ylim()) == ((-0.5, 7.5), (3.5, -0.5))
    everything = [0, 1, 2, 3, 4, 5, 6, 10]
    shared = tuple(np.percentile(everything, (1, 99)))
    assert [cell.get_images()[1].get_clim() for cell in cells[:2]] == [pytest.approx(shared)] * 2
    assert cells[2].get_images()[1].get_clim() == pytest.approx(tuple(np.percentile([7, 9], (1, 99))))
    bars = figure.axes[5:]
    assert [bar.get_xlabel() for bar in bars] == ["u", "u"]
    assert bars[0].get_position().width > 1.9 * bars[1].get_position().width  # under two cells, and under one


def test_axes_do_not_overlap_and_stay_inside():
    rows = [HeatRow(name, (panel([[0, 1]]), panel([[0, 2]], group="b"))) for name in "mn"]
    figure = draw_heat(dataclasses.replace(SCENE, label=np.eye(4, 8, dtype=bool)), ["x", "y"], rows, width_mm=88)
    boxes = [axis.get_position() for axis in figure.axes]
    assert all(0 <= box.x0 < box.x1 <= 1 and 0 <= box.y0 < box.y1 <= 1 for box in boxes)
    for i, one in enumerate(boxes):
        assert not any(
            min(one.x1, other.x1) > max(one.x0, other.x0) and min(one.y1, other.y1) > max(one.y0, other.y0)
            for other in boxes[:i]
        )


def test_a_flat_map_lies_in_the_middle_of_its_range():
    for value in (0.0, 3.0, -2.0):
        figure = draw_heat(SCENE, ["x"], [HeatRow("m", (panel([[value, value]]),))])
        low, high = figure.axes[2].get_images()[1].get_clim()
        assert low < value < high
        assert (low + high) / 2 == pytest.approx(value)


def test_weights_that_hardly_differ_are_flat():
    values = [[0.5, 0.504]]
    tight, wide = (
        draw_heat(SCENE, ["x"], [HeatRow("m", (panel(values, unbounded=unbounded),))])
        .axes[2]
        .get_images()[1]
        .get_clim()
        for unbounded in (True, False)
    )
    assert tight[1] - tight[0] < 0.004
    assert wide == pytest.approx((0.252, 0.752), abs=1e-3)


def test_long_names_fit_beside_their_row():
    short, long = (
        draw_heat(SCENE, ["x"], [HeatRow(name, (panel([[0, 1]]),))]).axes[0].yaxis.label.get_fontsize()
        for name in ("m", "m" * 60)
    )
    assert short == 7
    assert long < 3


def test_what_a_model_lacks_is_said():
    figure = draw_heat(SCENE, ["x"], [HeatRow("m", (panel([[0, 1]]),)), HeatRow("n", (None,))])
    assert [text.get_text() for axis in figure.axes for text in axis.texts] == ["not in this\nnetwork"]


def test_the_chosen_place_is_marked():
    asked, other = panel([[0, 1]], queried=True), panel([[0, 1]], group="b")
    pixel = draw_heat(dataclasses.replace(SCENE, chosen=(1, 2, 1.1, 2.1)), ["x", "y"], [HeatRow("m", (asked, other))])
    assert [len(axis.lines) for axis in pixel.axes[:4]] == [1, 1, 1, 0]
    assert pixel.axes[2].lines[0].get_xydata().tolist() == [[pytest.approx(1.55), pytest.approx(0.55)]]
    region = draw_heat(dataclasses.replace(SCENE, chosen=(1, 2, 3, 6)), ["x", "y"], [HeatRow("m", (asked, other))])
    box = region.axes[2].patches[0].get_bbox()
    assert (box.x0, box.y0, box.x1, box.y1) == (1.5, 0.5, 5.5, 2.5)


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_the_same_figure_is_the_same_bytes(tmp_path, suffix):
    made = []
    for name in "ab":
        scene = dataclasses.replace(SCENE, metres=10.0, label=np.ones((4, 8), bool))
        save_figure(draw_heat(scene, ["x"], [HeatRow("m", (panel([[0, 1]]),))]), tmp_path / f"{name}.{suffix}")
        made.append((tmp_path / f"{name}.{suffix}").read_bytes())
    assert made[0] == made[1]


def test_what_cannot_be_drawn():
    row = HeatRow("m", (panel([[0, 1]]),))
    with pytest.raises(InputError, match="0 models and 1 maps make no figure"):
        draw_heat(SCENE, ["x"], [])
    with pytest.raises(InputError, match="opacity is 0; it must be above 0"):
        draw_heat(SCENE, ["x"], [row], opacity=0)
    with pytest.raises(InputError, match="width of 40 to 500"):
        draw_heat(SCENE, ["x"], [row], width_mm=3)
    with pytest.raises(ShapeError, match="model m has 1 maps for 2 heads"):
        draw_heat(SCENE, ["x", "y"], [row])
    with pytest.raises(ShapeError, match="truth has"):
        draw_heat(dataclasses.replace(SCENE, label=np.ones((2, 2), bool)), ["x"], [row])
