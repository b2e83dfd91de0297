"""Figures for papers: networks side by side (as Fig. 7 to 12 of MCCRNet), and curves of training runs.

Drawn with matplotlib, without its global state. The same input gives the same bytes: no dates, fixed identifiers. Maps
are drawn without interpolation; text is vector outlines in SVG and embedded TrueType in PDF.
"""

import csv
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from terradelta.errors import DataError, InputError, ShapeError, needs
from terradelta.files import whole_file
from terradelta.lab.evaluation.error_maps import OUTCOMES, PAPER, Colour, error_map
from terradelta.lab.metrics import confusion

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "FORMATS",
    "GridRow",
    "check_format",
    "draw_curves",
    "draw_grid",
    "fitted",
    "new_figure",
    "read_log",
    "save_figure",
    "scale_bar",
    "styled",
]

FORMATS = (".png", ".svg", ".pdf")
"""What a figure can be saved as."""
_MM_PER_INCH = 25.4
_WIDTHS_MM = (40.0, 500.0)
_DPI = 300
_GAP_MM = 1.5
"""Between the words over two maps."""
_HANDLE_MM = 9.0
"""Width of a line in a legend, with the gaps around it."""
_STYLE: dict[Any, Any] = {
    "font.size": 7,
    "font.family": "DejaVu Sans",
    "axes.linewidth": 0.5,
    "lines.linewidth": 1,
    "pdf.fonttype": 42,
    "svg.hashsalt": "terradelta",
}
_LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_DASHES = ("-", "--", ":", "-.")
"""Neighbours differ in colour and dash, so that they are told apart in grey too; 28 runs differ in one of the two."""
_PANELS = (("loss", "loss", "log"), ("val_f1", "F1, validation", "linear"), ("lr", "learning rate", "log"))


@contextmanager
def styled() -> Iterator[None]:
    """Matplotlib's settings for what is drawn or saved inside; those of the caller are left as they were."""
    with needs("figures", "figure"):
        import matplotlib as mpl
    with mpl.rc_context(_STYLE):
        yield


@dataclass(frozen=True)
class GridRow:
    """One pair of a grid."""

    name: str
    before: NDArray[np.uint8]
    """``(H, W, 3)``."""
    after: NDArray[np.uint8]
    """``(H, W, 3)``."""
    label: NDArray[np.bool_]
    """``(H, W)``, True = changed."""
    predicted: tuple[NDArray[np.bool_], ...]
    """``(H, W)`` of each network."""
    valid: NDArray[np.bool_] | None = None
    """``(H, W)``, False where there is no data; None: valid everywhere."""
    metres: float | None = None
    """Side of a pixel on the ground, for a scale bar; None: not known, no bar."""


@styled()
def draw_grid(
    rows: Sequence[GridRow], networks: Sequence[str], palette: tuple[Colour, ...] = PAPER, width_mm: float = 180
) -> "Figure":
    """Before, after, truth and the error map of each network, a row a pair, with F1 of each map.

    Args:
        rows: the pairs.
        networks: names over the error maps.
        palette: four colours in the order of `error_maps.OUTCOMES`.
        width_mm: width of the figure; 85 to 90 mm is one column of most journals, 180 mm is two.

    Raises:
        InputError: if there is nothing to draw, or the width is out of range.
        ShapeError: if a row has not one prediction for each network, or shapes differ.
        MissingExtraError: if matplotlib is not installed.
    """
    if not rows or not networks:
        raise InputError(f"{len(rows)} pairs and {len(networks)} networks make no grid; give 1 or more of each")
    for row in rows:
        if len(row.predicted) != len(networks):
            raise ShapeError(f"pair {row.name} has {len(row.predicted)} predictions for {len(networks)} networks")
    heads = ("before", "after", "truth", *networks)
    tile = width_mm / len(heads)
    heads = tuple(fitted(head, tile - _GAP_MM, 7) for head in heads)
    names = [fitted(row.name, tile - _GAP_MM, 6) for row in rows]
    lines = max(map(_lines, heads)) + sum(map(_lines, names)) - len(names)
    height = sum(tile * row.label.shape[0] / row.label.shape[1] + 4 for row in rows) + 9 + 3 * lines
    figure = new_figure(width_mm, height)
    cells = figure.subplots(len(rows), len(heads), squeeze=False)
    for axes, row, name in zip(cells, rows, names, strict=True):
        _draw_row(axes, row, palette)
        axes[0].set_xlabel(name, labelpad=2, fontsize=6)
    for axis, head in zip(cells[0], heads, strict=True):
        axis.set_title(head, pad=3, fontsize=7)
    _legend(figure, palette, any(row.valid is not None and not row.valid.all() for row in rows))
    return figure


def _draw_row(axes: Sequence["Axes"], row: GridRow, palette: tuple[Colour, ...]) -> None:
    truth = error_map(row.label, row.label, row.valid, palette)
    maps = [error_map(found, row.label, row.valid, palette) for found in row.predicted]
    for axis, picture in zip(axes, (row.before, row.after, truth, *maps), strict=True):
        if picture.shape[:2] != row.label.shape:
            raise ShapeError(f"pair {row.name}: an image of {picture.shape[:2]} for a label of {row.label.shape}")
        axis.imshow(picture, interpolation="none")
        axis.set(xticks=[], yticks=[])
    for axis, found in zip(axes[3:], row.predicted, strict=True):
        counts = confusion(found, row.label, row.valid)
        text = f"F1 {counts.f1:.3f}" if counts.tp + counts.fp + counts.fn else "no change"
        axis.set_xlabel(text, labelpad=2, fontsize=6)
    if row.metres is not None:
        scale_bar(axes[0], row.label.shape, row.metres)


def fitted(text: str, width_mm: float, points: float) -> str:
    """A text in lines no wider than ``width_mm``, broken after spaces, ``_``, ``-``, ``.``, or anywhere if need be."""
    lines = [""]
    for part in re.findall(r".+?(?:[\s_.-]+|$)", text):
        for piece in [part] if _width_mm(part, points) <= width_mm else part:
            if lines[-1] and _width_mm(lines[-1] + piece, points) > width_mm:
                lines.append("")
            lines[-1] += piece
    return "\n".join(filter(None, (line.strip() for line in lines)))


def _width_mm(text: str, points: float) -> float:
    """How wide a line of text is drawn."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextToPath

    font = FontProperties(family=_STYLE["font.family"], size=points)
    width, _, _ = TextToPath().get_text_width_height_descent(text.rstrip(), font, ismath=False)
    return float(width) / 72 * _MM_PER_INCH


def _lines(text: str) -> int:
    return text.count("\n") + 1


def scale_bar(axis: "Axes", shape: tuple[int, ...], metres: float) -> None:
    """A white bar with a dark edge, of 1, 2 or 5 times a power of ten metres, at most a third of the width.

    Args:
        axis: shows an image, its first pixel around the origin.
        shape: (height, width) of the image in pixels.
        metres: side of a pixel.
    """
    from matplotlib.patches import Rectangle

    height, width = shape
    longest = width * metres / 3
    power = 10.0 ** math.floor(math.log10(longest))
    length = max(step * power for step in (1, 2, 5) if step * power <= longest)
    left, top = 0.05 * width - 0.5, 0.92 * height - 0.5  # pixel (0, 0) is drawn around the origin
    bar = Rectangle((left, top), length / metres, 0.02 * height, facecolor="white", edgecolor="black", linewidth=0.3)
    axis.add_patch(bar)
    box = {"facecolor": "black", "alpha": 0.6, "pad": 0.8, "linewidth": 0}
    axis.text(left, top - 0.03 * height, f"{length:g} m", color="white", fontsize=5, va="bottom", bbox=box)


def _legend(figure: "Figure", palette: tuple[Colour, ...], no_data: bool) -> None:
    from matplotlib.patches import Patch

    colours = {**dict(zip(OUTCOMES, palette, strict=True)), **({"no data": (128, 128, 128)} if no_data else {})}
    patches = [
        Patch(facecolor="#{:02x}{:02x}{:02x}".format(*colour), edgecolor="black", linewidth=0.4, label=name)
        for name, colour in colours.items()
    ]
    figure.legend(handles=patches, loc="outside lower center", ncols=len(patches), frameon=False, fontsize=6)


def read_log(run: Path) -> dict[str, NDArray[np.float64]]:
    """The columns ``step``, ``loss``, ``lr`` and ``val_f1`` of a run's ``log.csv``; NaN where a cell is empty.

    Raises:
        DataError: if there is no log, or it is not one of `terradelta train`.
    """
    path = run / "log.csv"
    if not path.is_file():
        raise DataError(f"{path} does not exist; give the folder of a training run")
    try:
        with path.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        names = ("step", "loss", "lr")
        columns = {name: np.array([float(row[name]) for row in rows]) for name in names}
        columns["val_f1"] = np.array([float(row.get("val_f1") or "nan") for row in rows])
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path} is not a log of `terradelta train` ({error!r}); give a training run") from error
    if not rows:
        raise DataError(f"{path} holds no step; train first")
    return columns


@styled()
def draw_curves(
    runs: Sequence[tuple[str, dict[str, NDArray[np.float64]]]],
    width_mm: float = 180,
) -> "Figure":
    """Loss of each step, F1 on validation and learning rate against the step, all runs in the same axes.

    Args:
        runs: name and columns (`read_log`) of each run.
        width_mm: width of the figure.

    Raises:
        InputError: if there is no run, or the width is out of range.
        MissingExtraError: if matplotlib is not installed.
    """
    if not runs:
        raise InputError("0 runs make no curves; give 1 or more")
    figure = new_figure(width_mm, max(width_mm / 3.2, 40) + 4 * len(runs))
    for axis, (key, title, scale) in zip(figure.subplots(1, 3), _PANELS, strict=True):
        for k, (name, columns) in enumerate(runs):
            there = np.isfinite(columns[key])
            style = {"color": _LINES[k % len(_LINES)], "linestyle": _DASHES[k % len(_DASHES)]}
            marker = "o" if key == "val_f1" else None
            axis.plot(columns["step"][there], columns[key][there], marker=marker, markersize=2, label=name, **style)
        axis.set(xlabel="step", title=title, yscale=scale)
        axis.grid(linewidth=0.3, alpha=0.5)
        axis.spines[["top", "right"]].set_visible(False)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    widest = max(_width_mm(label, 7) for label in labels) + _HANDLE_MM
    across = max(min(len(runs), 3, int(width_mm / widest)), 1)
    figure.legend(handles, labels, loc="outside lower center", ncols=across, frameon=False)
    return figure


def new_figure(width_mm: float, height_mm: float, layout: Literal["constrained"] | None = "constrained") -> "Figure":
    """An empty figure; to be used within `styled`.

    Args:
        width_mm: width.
        height_mm: height.
        layout: None: axes stay where they are put.

    Raises:
        InputError: if the width is out of range.
    """
    low, high = _WIDTHS_MM
    if not low <= width_mm <= high:
        raise InputError(f"a figure of {width_mm:g} mm cannot be drawn; give a width of {low:g} to {high:g} mm")
    from matplotlib.figure import Figure

    return Figure(figsize=(width_mm / _MM_PER_INCH, height_mm / _MM_PER_INCH), dpi=_DPI, layout=layout)


@styled()
def save_figure(figure: "Figure", path: Path) -> None:
    """Write a figure whole or not at all, as what the name's suffix says; the same figure gives the same bytes.

    Raises:
        InputError: if the suffix is none of `FORMATS`.
        OutputError: if it cannot be written.
    """
    kind = path.suffix.lower()
    check_format(path)
    undated = {".png": {"Software": None}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    with whole_file(path, make_folder=True) as temporary:
        figure.savefig(temporary, format=kind[1:], metadata=undated[kind])


def check_format(path: Path) -> None:
    """Raise InputError if a name does not end in one of `FORMATS`."""
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"{path} is no name of a figure; give one that ends in {', '.join(FORMATS)}")
