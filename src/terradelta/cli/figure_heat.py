"""The command `figure heat`."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.table import Column, Table
from rich.text import Text

from terradelta.cli._base import Device, PrintableConsole, check_new, console, say, say_path
from terradelta.cli.figure import Names, Width, figure_app, heads_of
from terradelta.errors import DataError, InputError, ShapeError, needs

if TYPE_CHECKING:
    from terradelta.card import ModelCard
    from terradelta.geo.grid import Tile
    from terradelta.lab.figures.heat import HeatPanel, HeatScene
    from terradelta.lab.figures.layer_maps import HeatMap, Layers
    from terradelta.raster.pair import Pair

__all__ = ["heat"]

LONGEST_PX = 1024
"""Of a side of the window: layers keep all their values, and attention sees all of it."""


class Channels(enum.StrEnum):
    """How the channels of a pixel become one value."""

    MEAN = "mean"
    MAX = "max"
    NORM = "norm"


@figure_app.command()
def heat(
    models: Annotated[list[str], typer.Argument(help="Training runs or checkpoints.")],
    before: Annotated[str, typer.Argument(help="Image of the first date.")],
    after: Annotated[str, typer.Argument(help="Image of the second date, on any grid.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write: .png, .svg or .pdf.")] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(help="Layer to draw: NAME or NAME:MAP, e.g. attention.0:before; may be repeated."),
    ] = None,
    layers: Annotated[bool, typer.Option("--layers", help="List the layers and their maps, and draw nothing.")] = False,
    label: Annotated[Path | None, typer.Option(help="The truth, an image on the pixels of the first date.")] = None,
    window: Annotated[
        str | None, typer.Option(help="Part of the pair: ROW,COL,HEIGHT,WIDTH in pixels of the first date.")
    ] = None,
    at: Annotated[
        str | None, typer.Option(help="Draw attention from ROW,COL or ROW,COL,HEIGHT,WIDTH, in pixels as for --window.")
    ] = None,
    reduce: Annotated[Channels, typer.Option(help="How channels become one value.")] = Channels.MEAN,
    opacity: Annotated[float, typer.Option(help="Of the maps over the image, above 0, at most 1.")] = 0.6,
    bands: Annotated[
        str | None, typer.Option(help="Bands in the models' order, by number from 1 or name, e.g. 3,2,1.")
    ] = None,
    names: Names = None,
    width: Width = 180,
    device: Device = "cpu",
) -> None:
    """What layers give, and where attention looks, over the images; several models below one another."""
    asked = _asked(layer, layers, out)
    views = [_View(model, (before, after), window, bands, device) for model in _checkpoints(models)]
    for warning in dict.fromkeys(warning for view in views for warning in view.warnings):
        say(f"Warning: {warning}")
    heads = heads_of(names, [view.card.name for view in views])
    if out is None:
        for head, view in zip(heads, views, strict=True):
            PrintableConsole().print(_table(head, view.layers))
        return
    from terradelta.lab.figures.heat import HeatRow, draw_heat
    from terradelta.lab.figures.panels import save_figure

    scene = views[0].scene(label, at)
    shares = None if scene.chosen is None else views[0].shares(scene.chosen)
    with console.status("looking into the network"):
        columns, found = _maps(asked, [view.layers for view in views], shares, reduce)
    if at is not None and not any(panel and panel.queried for maps in found for panel in maps):
        raise InputError("--at chooses where attention looks from, but no layer drawn has such queries; leave it out")
    rows = [HeatRow(head, tuple(maps)) for head, maps in zip(heads, found, strict=True)]
    save_figure(draw_heat(scene, columns, rows, opacity=opacity, width_mm=width), out)
    say_path(out)


@dataclass(frozen=True)
class _Asked:
    """A layer to draw."""

    name: str
    label: str
    """Which of its maps; empty: all."""

    @classmethod
    def of(cls, text: str) -> "_Asked":
        """From ``NAME`` or ``NAME:MAP``."""
        name, _, label = text.partition(":")
        return cls(name, label)


def _asked(layer: Sequence[str] | None, layers: bool, out: Path | None) -> list[_Asked]:
    """What to draw; nothing for a list of layers.

    Raises:
        InputError: if it is neither or both.
    """
    if layers:
        if layer or out is not None:
            raise InputError("--layers lists the layers and draws nothing; leave --layer and --out out")
        return []
    if not layer or out is None:
        raise InputError("give --layer NAME (--layers lists the names) and a file to write with -o")
    from terradelta.lab.figures.panels import check_format

    check_new(out)
    check_format(out)
    return [_Asked.of(text) for text in layer]


def _checkpoints(models: Sequence[str]) -> list[Path]:
    from terradelta.predict.load import find_checkpoint

    return [find_checkpoint(model) for model in models]


class _View:
    """One model and what it sees of the pair."""

    def __init__(self, model: Path, files: tuple[str, str], window: str | None, bands: str | None, device: str) -> None:
        with needs("train", "`figure heat`"):
            from terradelta.lab.figures.layer_maps import Layers
            from terradelta.lab.networks.checkpoint import load_network
        from terradelta.geo.metres import ground_sampling_m
        from terradelta.mapping.batch import parse_bands
        from terradelta.raster.pair import open_pair

        network, self.card = load_network(model)
        chosen = None if bands is None else list(parse_bands(bands))
        with open_pair(*files, bands=chosen, wanted=self.card.bands) as pair:
            self.warnings = pair.preflight.warnings
            self.tile = _tile(window, pair)
            self.metres = ground_sampling_m(pair.grid)
            self.reference = pair.sources[0].grid
            row, col = pair.grid.map_to(self.reference, [0], [0])
            self.offset = round(float(row[0])), round(float(col[0]))
            self.dates, inputs = _read(pair, self.tile, self.card)
        self.layers: Layers = Layers(network, self.card, *inputs, device)

    def scene(self, label: Path | None, at: str | None) -> "HeatScene":
        """The pair as it is drawn."""
        from terradelta.lab.evaluation.error_maps import to_rgb
        from terradelta.lab.figures.heat import HeatScene

        truth = None if label is None else self._truth(label)
        return HeatScene(*to_rgb(self.dates), truth, self.metres, None if at is None else self._chosen(at))

    def _truth(self, path: Path) -> NDArray[np.bool_]:
        from terradelta.lab.data.images import read_image
        from terradelta.lab.data.labels import LabelCoding, decode_label

        truth = decode_label(read_image(path), path, LabelCoding.BINARY)
        if truth.shape != self.reference.shape:
            raise DataError(
                f"{path} is {truth.shape[0]} x {truth.shape[1]}, the first date {self.reference.height} x "
                f"{self.reference.width}; give a label on its pixels"
            )
        rows, cols = self.tile.slices
        down, right = self.offset
        return truth[rows.start + down : rows.stop + down, cols.start + right : cols.stop + right]

    def _chosen(self, text: str) -> tuple[float, float, float, float]:
        """The place in pixels of the window."""
        numbers = _numbers("--at", text, (2, 4))
        row, col, height, width = [*numbers, 1, 1][:4]
        top, left = row - self.tile.row, col - self.tile.col
        bottom, right = top + height, left + width
        if top < 0 or left < 0 or bottom > self.tile.height or right > self.tile.width:
            raise ShapeError(
                f"--at {text} is not within rows {self.tile.row} to {self.tile.stop_row}, columns {self.tile.col} to "
                f"{self.tile.stop_col}, which are drawn"
            )
        return top, left, bottom, right

    def shares(self, chosen: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        """A place in pixels of the window as shares of what the network sees."""
        height, width = self.layers.covers
        top, left, bottom, right = chosen
        return top / height, left / width, bottom / height, right / width


def _tile(window: str | None, pair: "Pair") -> "Tile":
    from terradelta.geo.grid import Tile

    tile = pair.grid.tile if window is None else Tile(*_numbers("--window", window, (4,)))
    if max(tile.height, tile.width) > LONGEST_PX:
        raise ShapeError(
            f"{tile.height} x {tile.width} pixels are too many to keep all values of a layer; give a part of at most "
            f"{LONGEST_PX} a side with --window ROW,COL,HEIGHT,WIDTH"
        )
    return tile


def _numbers(option: str, text: str, counts: tuple[int, ...]) -> list[int]:
    """Whole numbers with commas between, from 0; sizes, which come third and fourth, from 1."""
    parts = text.split(",")
    if len(parts) not in counts or not all(part.strip().isdecimal() for part in parts) or 0 in map(int, parts[2:]):
        forms = " or ".join("ROW,COL,HEIGHT,WIDTH" if count == 4 else "ROW,COL" for count in counts)
        raise InputError(f"{option} is {text!r}; give {forms} as whole numbers, sizes above 0")
    return [int(part) for part in parts]


def _read(
    pair: "Pair", tile: "Tile", card: "ModelCard"
) -> tuple[tuple[NDArray[Any], NDArray[Any]], tuple[NDArray[Any], NDArray[Any]]]:
    """Both dates as they are in the files, and as the network takes them: ``(C, H, W)`` each."""
    from terradelta.raster.scaling import scaled_dates, scaling_of

    window = pair.read(tile)
    raw = (window.before, window.after)
    return raw, scaled_dates(raw, window.valid, scaling_of(pair, card), card.fill)


def _maps(
    asked: Sequence[_Asked], models: Sequence["Layers"], at: tuple[float, float, float, float] | None, reduce: Channels
) -> tuple[list[str], list[list["HeatPanel | None"]]]:
    """Heads of the columns, and each model's map of each column, None where it has none.

    Raises:
        InputError: if no model has a layer or a map that is asked for.
    """
    found = []
    for layers in models:
        names = dict.fromkeys(one.name for one in asked if layers.has(one.name) or len(models) == 1)
        found.append(layers.heat_maps(list(names), at=at, reduction=reduce.value))
    columns = [column for one in asked for column in _columns(one, models, found)]
    by_place = [{(m.layer, m.label): m for maps in one.values() for m in maps} for one in found]
    heads = [f"{name}\n{label}" if label else name for name, label in columns]
    return heads, [[_panel(maps.get(column)) for column in columns] for maps in by_place]


def _columns(
    one: _Asked, models: Sequence["Layers"], found: Sequence[dict[str, list["HeatMap"]]]
) -> list[tuple[str, str]]:
    """(layer, label) of the maps that a layer has in any model."""
    if not any(one.name in maps for maps in found):
        near = models[0].near(one.name)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise InputError(f"none of the networks has a layer {one.name!r}; {hint}--layers lists them")
    labels = list(dict.fromkeys(each.label for maps in found for each in maps.get(one.name, [])))
    if one.label and one.label not in labels:
        has = f"the maps {', '.join(labels)}" if any(labels) else "one map without a name"
        raise InputError(f"layer {one.name!r} has {has}, not {one.label!r}")
    return [(one.name, label) for label in labels if one.label in ("", label)]


def _panel(found: "HeatMap | None") -> "HeatPanel | None":
    from terradelta.lab.figures.heat import HeatPanel

    if found is None:
        return None
    parts = [part for part in found.label.split("-") if part in ("before", "after")]
    date = parts[-1] if parts else "after"
    unbounded = not found.unit.startswith(("weight", "attention"))
    return HeatPanel(found.layer, date, found.values, found.covers, found.unit, found.queried, unbounded)


def _table(name: str, layers: "Layers") -> Table:
    whole = (Column(head, overflow="fold") for head in ("layer", "class"))  # names are typed again
    table = Table(*whole, "gives", "maps and sizes", title=Text(f"Layers of {name}"))
    for info in layers.table():
        outputs = [f"{label} {' x '.join(map(str, shape))}".strip() for label, shape in info.outputs]
        table.add_row(*map(Text, (info.name, info.kind, info.gives, ", ".join(outputs))))
    return table
