"""Heat maps of layers over the images, models below one another: the layout of MCCRNet's Fig. 13 and 14.

A map is drawn over the grey image of the date that it lies on. Colours are those of cividis, which are told apart with
every kind of colour vision and grow evenly in lightness. Maps have their own size; between the middles of their cells
colours are interpolated. The maps of one layer of one model share a range: from the 1st to the 99th percentile of their
values, since single cells at the border would else take all the colours. A bar with a tip goes on beyond its end.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from terradelta.errors import InputError, ShapeError
from terradelta.lab.evaluation.error_maps import Picture
from terradelta.lab.figures.panels import new_figure, scale_bar, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["HeatPanel", "HeatRow", "HeatScene", "draw_heat"]

_COLOURS = "cividis"
_PERCENTILES = (1, 99)
_LEFT_MM, _HEAD_MM, _GAP_MM, _EDGE_MM = 5.5, 6.5, 1.5, 1.0
_BAR_MM, _BELOW_MM = 1.4, 8.5
"""Height of a bar of colours, and of all that is below a map."""
_LETTER_MM = 0.2
"""Width of a letter for each point of its size, and a little more."""
_LEAST = 0.01
"""Difference of weights, or of multiples of even attention, below which a map is flat."""
_POINT = 0.04
"""Share of a side below which a chosen place is marked by a cross in place of its outline."""


@dataclass(frozen=True)
class HeatScene:
    """The pair that the maps lie on."""

    before: Picture
    """``(H, W, 3)``."""
    after: Picture
    """``(H, W, 3)``."""
    label: NDArray[np.bool_] | None = None
    """``(H, W)``, True = changed; None: not known."""
    metres: float | None = None
    """Side of a pixel on the ground, for a scale bar; None: not known, no bar."""
    chosen: tuple[float, float, float, float] | None = None
    """(top, left, bottom, right) in pixels of the place that attention is asked for; None: none."""

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return self.after.shape[0], self.after.shape[1]


@dataclass(frozen=True)
class HeatPanel:
    """One map."""

    group: str
    """Maps of one group in a row share a range and a bar."""
    date: str
    """``before`` or ``after``: the image that it is drawn on."""
    values: NDArray[np.floating]
    """``(h, w)``."""
    covers: tuple[int, int]
    """(height, width) in pixels of the part of the image that it covers, from the upper left; may go beyond it."""
    unit: str
    """What the values are."""
    queried: bool = False
    """Whether it is attention from the chosen place, which is then marked."""
    unbounded: bool = True
    """Whether the values have no natural scale; else a range below 0.01 is drawn as flat."""


@dataclass(frozen=True)
class HeatRow:
    """One model."""

    name: str
    panels: tuple[HeatPanel | None, ...]
    """None where the model has no such map."""


@styled()
def draw_heat(
    scene: HeatScene, heads: Sequence[str], rows: Sequence[HeatRow], *, opacity: float = 0.6, width_mm: float = 180
) -> "Figure":
    """Before, after, truth where it is known, and the maps of each model, a row a model.

    Args:
        scene: the pair.
        heads: words over the maps.
        rows: the models.
        opacity: of the maps over the image, above 0 and at most 1.
        width_mm: width of the figure; 85 to 90 mm is one column of most journals, 180 mm is two.

    Raises:
        InputError: if there is nothing to draw, or opacity or width is out of range.
        ShapeError: if a row has not one panel for each head, or images and label differ in size.
        MissingExtraError: if matplotlib is not installed.
    """
    if not rows or not heads:
        raise InputError(f"{len(rows)} models and {len(heads)} maps make no figure; give 1 or more of each")
    if not 0 < opacity <= 1:
        raise InputError(f"opacity is {opacity:g}; it must be above 0 and at most 1")
    for row in rows:
        if len(row.panels) != len(heads):
            raise ShapeError(f"model {row.name} has {len(row.panels)} maps for {len(heads)} heads")
    images = _images(scene)
    names = [*images, *heads]
    sheet = _Sheet(width_mm, len(rows), len(names), scene.shape)
    figure = new_figure(width_mm, sheet.height_mm, layout=None)
    for number, row in enumerate(rows):
        axes = [figure.add_axes(sheet.cell(number, col)) for col in range(len(names))]
        for axis, picture in zip(axes, images.values(), strict=False):
            axis.imshow(picture, interpolation="none")
            _frame(axis, scene)
        axes[0].set_ylabel(row.name, fontsize=min(7.0, sheet.tile_height_mm / _LETTER_MM / max(len(row.name), 1)))
        _draw_maps(axes[len(images) :], row, scene, opacity)
        for first, last, norm, extend, unit in _bars(row, len(images)):
            _draw_bar(figure.add_axes(sheet.bar(number, first, last)), norm, extend, unit)
    _write_heads(figure.axes, names, sheet)
    if scene.metres is not None:
        scale_bar(figure.axes[0], scene.shape, scene.metres)
    return figure


def _write_heads(axes: Sequence["Axes"], names: Sequence[str], sheet: "_Sheet") -> None:
    longest = max(len(line) for name in names for line in name.split("\n"))
    size = min(6.0, sheet.tile_mm / _LETTER_MM / longest)
    for axis, name in zip(axes, names, strict=False):  # the first row's
        axis.set_title(name, pad=2, fontsize=size)


@dataclass(frozen=True)
class _Sheet:
    """Where cells and bars lie, as (left, bottom, width, height) in shares of the figure."""

    width_mm: float
    rows: int
    cols: int
    shape: tuple[int, int]
    """(height, width) of the images in pixels."""

    @property
    def tile_mm(self) -> float:
        """Width of a cell."""
        return (self.width_mm - _LEFT_MM - _EDGE_MM - (self.cols - 1) * _GAP_MM) / self.cols

    @property
    def tile_height_mm(self) -> float:
        """Height of a cell."""
        return self.tile_mm * self.shape[0] / self.shape[1]

    @property
    def height_mm(self) -> float:
        """Height of the figure."""
        return _HEAD_MM + self.rows * (self.tile_height_mm + _BELOW_MM)

    def cell(self, row: int, col: int) -> tuple[float, float, float, float]:
        """The place of a map."""
        top = _HEAD_MM + row * (self.tile_height_mm + _BELOW_MM)
        return self._place(self._left_mm(col), top, self.tile_mm, self.tile_height_mm)

    def bar(self, row: int, first: int, last: int) -> tuple[float, float, float, float]:
        """The place of the bar under the cells of the columns ``first`` to ``last``."""
        top = _HEAD_MM + row * (self.tile_height_mm + _BELOW_MM) + self.tile_height_mm + _GAP_MM
        inset = 0.05 * self.tile_mm
        left, right = self._left_mm(first) + inset, self._left_mm(last) + self.tile_mm - inset
        return self._place(left, top, right - left, _BAR_MM)

    def _left_mm(self, col: int) -> float:
        return _LEFT_MM + col * (self.tile_mm + _GAP_MM)

    def _place(self, left: float, top: float, width: float, height: float) -> tuple[float, float, float, float]:
        bottom = self.height_mm - top - height
        return left / self.width_mm, bottom / self.height_mm, width / self.width_mm, height / self.height_mm


def _images(scene: HeatScene) -> dict[str, Picture]:
    images = {"before": scene.before, "after": scene.after}
    if scene.label is not None:
        images["truth"] = np.repeat(scene.label[..., None] * np.uint8(255), 3, axis=2)
    for name, picture in images.items():
        if picture.shape[:2] != scene.shape:
            raise ShapeError(f"{name} has {picture.shape[:2]} pixels, the second date {scene.shape}; they must agree")
    return images


def _groups(row: HeatRow) -> list[list[int]]:
    """Positions of neighbouring panels of one group."""
    groups: list[list[int]] = []
    for i, panel in enumerate(row.panels):
        before = row.panels[i - 1] if i else None
        if panel is None:
            continue
        if before is not None and before.group == panel.group:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def _draw_maps(axes: Sequence["Axes"], row: HeatRow, scene: HeatScene, opacity: float) -> None:
    norms = {i: norm for first, last, norm, _, _ in _bars(row, 0) for i in range(first, last + 1)}
    for i, (axis, panel) in enumerate(zip(axes, row.panels, strict=True)):
        if panel is None:
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_color("#bbbbbb")
            middle = {"horizontalalignment": "center", "verticalalignment": "center"}
            axis.text(0.5, 0.5, "not in this\nnetwork", middle, transform=axis.transAxes, fontsize=5)
        else:
            _draw_map(axis, panel, scene, opacity, norms[i])


def _bars(row: HeatRow, skipped: int) -> list[tuple[int, int, Any, str, str]]:
    """First and last column, range, open ends and unit of each bar; ``skipped`` columns stand before the maps."""
    from matplotlib.colors import Normalize

    bars = []
    for group in _groups(row):
        panels = [panel for panel in (row.panels[i] for i in group) if panel is not None]
        low, high, extend = _range([panel.values for panel in panels], 0.0 if panels[0].unbounded else _LEAST)
        bars.append((group[0] + skipped, group[-1] + skipped, Normalize(low, high), extend, panels[0].unit))
    return bars


def _draw_bar(axis: "Axes", norm: Any, extend: Any, unit: str) -> None:  # noqa: ANN401  matplotlib's own
    from matplotlib.cm import ScalarMappable

    bar = axis.figure.colorbar(ScalarMappable(norm, _COLOURS), cax=axis, orientation="horizontal", extend=extend)
    bar.set_label(unit, fontsize=5, labelpad=1)
    axis.tick_params(labelsize=5, length=1.5, width=0.4, pad=1)
    axis.locator_params(nbins=3)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:.3g}")  # no factor beside the axis
    bar.outline.set_linewidth(0.4)


def _range(maps: Sequence[NDArray[np.floating]], least: float) -> tuple[float, float, Any]:
    """Lowest and highest value that colours tell apart, at least so far apart, and where there are values beyond."""
    values = np.concatenate([each.ravel() for each in maps]).astype(np.float64)
    low, high = (float(end) for end in np.percentile(values, _PERCENTILES))
    if high - low <= max(least, 1e-6 * max(abs(low), abs(high), 1e-30)):  # a flat map: in the middle of the bar
        middle, half = (low + high) / 2, max(abs(low) * 0.5, least, 1e-6)
        return middle - half, middle + half, "neither"
    below, above = bool(values.min() < low), bool(values.max() > high)
    return low, high, ("neither", "min", "max", "both")[below + 2 * above]


def _draw_map(axis: "Axes", panel: HeatPanel, scene: HeatScene, opacity: float, norm: Any) -> None:  # noqa: ANN401
    image = scene.before if panel.date == "before" else scene.after
    axis.imshow(image.mean(axis=2), cmap="gray", vmin=0, vmax=255, interpolation="none")
    height, width = panel.covers
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)  # pixel (0, 0) is drawn around the origin
    axis.imshow(panel.values, cmap=_COLOURS, norm=norm, alpha=opacity, extent=extent, interpolation="bilinear")
    _frame(axis, scene, mark=panel.queried)


def _frame(axis: "Axes", scene: HeatScene, *, mark: bool = True) -> None:
    height, width = scene.shape
    axis.set(xticks=[], yticks=[], xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    if mark and scene.chosen is not None:
        _mark(axis, scene.chosen, scene.shape)


def _mark(axis: "Axes", chosen: tuple[float, float, float, float], shape: tuple[int, int]) -> None:
    """A white cross or outline with a dark edge."""
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import AbstractPathEffect, withStroke

    top, left, bottom, right = (each - 0.5 for each in chosen)
    edge: list[AbstractPathEffect] = [withStroke(linewidth=2, foreground="black")]
    if bottom - top < _POINT * shape[0] and right - left < _POINT * shape[1]:
        middle = ((left + right) / 2, (top + bottom) / 2)
        axis.plot(*middle, "+", color="white", markersize=6, markeredgewidth=0.9, path_effects=edge)
        return
    box = Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor="white", linewidth=0.9)
    box.set_path_effects(edge)
    axis.add_patch(box)
