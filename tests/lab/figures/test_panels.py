"""Figures for papers: exact pixels, same bytes, and what cannot be drawn."""

import base64
import io
import itertools
import re
import sys

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from terradelta import cli
from terradelta.errors import DataError, InputError, MissingExtraError, OutputError, ShapeError
from terradelta.lab.evaluation.error_maps import SAFE
from terradelta.lab.figures.panels import GridRow, draw_curves, draw_grid, fitted, read_log, save_figure

LOG = "step,loss,lr,val_f1\n1,2.5,0.1,\n2,1.5,0.05,0.25\n"


def row(**more) -> GridRow:
    label = np.array([[0, 0, 1, 1]] * 2, bool)
    found = np.array([[0, 1, 0, 1]] * 2, bool)
    dates = (np.full((2, 4, 3), 7, np.uint8), np.full((2, 4, 3), 9, np.uint8))
    return GridRow(
        **{"name": "p", "before": dates[0], "after": dates[1], "label": label, "predicted": (found,), **more}
    )


def words(figure) -> list[str]:
    """The text in all axes."""
    return [t for a in figure.axes for t in (a.get_title(), a.get_xlabel(), *(each.get_text() for each in a.texts))]


def test_an_svg_holds_the_exact_pixels(tmp_path):
    save_figure(draw_grid([row()], ["n"], SAFE), tmp_path / "g.svg")
    parts = re.findall(r"base64,([A-Za-z0-9+/=\s]+)", (tmp_path / "g.svg").read_text())
    pictures = [np.asarray(Image.open(io.BytesIO(base64.b64decode(part))).convert("RGB")) for part in parts]
    assert len(pictures) == 4
    assert pictures[3].tolist() == [[[0, 0, 0], [230, 159, 0], [0, 114, 178], [255, 255, 255]]] * 2
    assert pictures[2].tolist() == [[[0] * 3, [0] * 3, [255] * 3, [255] * 3]] * 2


def test_scores_names_and_scale_bar():
    text = words(draw_grid([row(metres=300.0)], ["net"]))
    assert {"before", "after", "truth", "net", "F1 0.500", "p", "200 m"} <= set(text)
    bar = draw_grid([row(metres=300.0)], ["net"]).axes[0].patches[0].get_bbox()
    assert bar.width == pytest.approx(200 / 300)
    assert bar.x0 > -0.5
    assert bar.y1 < 1.5  # inside the image
    nothing = np.zeros((2, 4), bool)
    assert "no change" in words(draw_grid([row(label=nothing, predicted=(nothing,))], ["net"]))


def boxes(figure, texts) -> list[tuple[float, float]]:
    """Left and right end of texts in a drawn figure, as shares of its width."""
    figure.draw_without_rendering()
    found = (text.get_window_extent() for text in texts)
    return [(box.x0 / figure.bbox.width, box.x1 / figure.bbox.width) for box in found]


def test_long_names_stay_over_their_maps_and_inside_the_figure():
    long = ["mlla_sianet_levir_subset_int8", "n" * 60, "short"]
    grid = draw_grid([row(name="a_very_long_name_of_a_pair", predicted=(row().label,) * 3)], long, width_mm=88)
    titles = [axis.title for axis in grid.axes]
    ends = boxes(grid, [*titles, grid.axes[0].xaxis.label])
    assert all(0 <= left < right <= 1 for left, right in ends)
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(ends[: len(titles)]))
    assert titles[3].get_text().replace("\n", "") == long[0]
    assert "\n" in titles[3].get_text()
    assert titles[5].get_text() == "short"


@pytest.mark.parametrize(("width", "across"), [(88, 1), (300, 3)])
def test_the_legend_of_curves_fits(tmp_path, width, across):
    (tmp_path / "log.csv").write_text(LOG)
    runs = [(f"a_run_with_quite_a_long_name_{k}", read_log(tmp_path)) for k in range(3)]
    figure = draw_curves(runs, width)
    ends = boxes(figure, figure.legends)
    assert all(0 <= left < right <= 1 for left, right in ends)
    assert figure.legends[0]._ncols == across


def test_words_are_broken_where_they_can_be():
    assert fitted("before", 20, 7) == "before"
    assert fitted("a b", 1, 7) == "a\nb"
    assert fitted("mlla_sianet_levir", 14, 7).split("\n") == ["mlla_", "sianet_", "levir"]
    assert "".join(fitted("x" * 40, 5, 7).split("\n")) == "x" * 40
    assert fitted("", 5, 7) == ""


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_the_same_figure_is_the_same_bytes(tmp_path, suffix):
    made = []
    for name in "ab":
        save_figure(draw_grid([row(metres=1.0)], ["net"]), tmp_path / f"{name}.{suffix}")
        made.append((tmp_path / f"{name}.{suffix}").read_bytes())
    assert made[0] == made[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"a.{suffix}", f"b.{suffix}"]


def test_curves_show_what_the_log_says(tmp_path):
    (tmp_path / "log.csv").write_text(LOG)
    loss, f1, rate = draw_curves([("a", read_log(tmp_path))]).axes
    assert loss.lines[0].get_xydata().tolist() == [[1, 2.5], [2, 1.5]]
    assert f1.lines[0].get_xydata().tolist() == [[2, 0.25]]
    assert rate.lines[0].get_xydata().tolist() == [[1, 0.1], [2, 0.05]]


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "does not exist"), ("a,b\n1,2\n", "is not a log"), ("step,loss,lr\n", "holds no step")],
)
def test_bad_logs(tmp_path, text, message):
    if text is not None:
        (tmp_path / "log.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_log(tmp_path)


def test_what_cannot_be_drawn(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="make no grid"):
        draw_grid([], ["n"])
    with pytest.raises(InputError, match="make no curves"):
        draw_curves([])
    with pytest.raises(InputError, match="width of 40 to 500"):
        draw_grid([row()], ["n"], width_mm=3)
    with pytest.raises(ShapeError, match="1 predictions for 2 networks"):
        draw_grid([row()], ["n", "m"])
    with pytest.raises(ShapeError, match="an image of"):
        draw_grid([row(before=np.zeros((3, 3, 3), np.uint8))], ["n"])
    with pytest.raises(InputError, match="no name of a figure"):
        save_figure(draw_grid([row()], ["n"]), tmp_path / "g.gif")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        save_figure(draw_grid([row()], ["n"]), tmp_path / "file" / "g.png")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match="figures"):
        draw_grid([row()], ["n"])


def test_the_command_curves(tmp_path):
    (tmp_path / "log.csv").write_text(LOG)
    call = ["figure", "curves", str(tmp_path), "-o", str(tmp_path / "c.png")]
    wrong = CliRunner().invoke(cli.app, [*call, "--names", "a,b"])
    assert (wrong.exit_code, "--names gives 2 names for 1" in " ".join(wrong.output.split())) == (2, True)
    assert CliRunner().invoke(cli.app, call).exit_code == 0
    assert (tmp_path / "c.png").is_file()
    assert CliRunner().invoke(cli.app, call).exit_code == 2  # it is there already


def test_the_command_grid(tmp_path):
    data, out = tmp_path / "d", tmp_path / "g.png"
    made = CliRunner().invoke(cli.app, ["data", "synth", str(data), "--train", "1", "--test", "1", "--side", "64"])
    assert made.exit_code == 0, made.output
    call = ["figure", "grid", "default", "--data", str(data), "--limit", "1", "--safe", "-o", str(out)]
    done = CliRunner().invoke(cli.app, call)
    assert done.exit_code == 0, done.output
    pixels = np.asarray(Image.open(out).convert("RGB"))
    side = pixels.shape[1] // 4
    tile = pixels[side // 3 : side // 3 * 2, 3 * side + side // 4 : 3 * side + side // 4 * 3].reshape(-1, 3)
    assert {tuple(map(int, colour)) for colour in np.unique(tile, axis=0)} <= set(SAFE)
