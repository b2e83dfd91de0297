"""The commands `figure grid` and `figure curves`; `figure heat` is in ``heat.py``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from terradelta.cli._base import DATA_HELP, Device, app, check_new, progress, say_path, say_terms
from terradelta.errors import InputError

if TYPE_CHECKING:
    from terradelta.lab.data.pairs import PairSource
    from terradelta.lab.figures.panels import GridRow
    from terradelta.predict.predictor import Predictor

__all__ = ["Names", "Width", "curves", "figure_app", "grid", "heads_of"]

figure_app = typer.Typer(no_args_is_help=True, help="Figures for papers: networks side by side, curves, heat maps.")
app.add_typer(figure_app, name="figure")

Out = Annotated[Path, typer.Option("--out", "-o", help="File to write: .png, .svg or .pdf.")]
Width = Annotated[float, typer.Option(help="Width in mm: about 88 is one column of a journal, 180 is two.")]
Names = Annotated[str | None, typer.Option(help="Names to show, with commas between.")]


@figure_app.command()
def grid(
    models: Annotated[list[str], typer.Argument(help="Models, as in `evaluate`.")],
    data: Annotated[str, typer.Option(help=DATA_HELP)],
    out: Out,
    split: Annotated[str, typer.Option(help="Which part of the data.")] = "test",
    limit: Annotated[int, typer.Option(help="So many pairs, evenly spread.")] = 4,
    names: Names = None,
    safe: Annotated[bool, typer.Option("--safe", help="Colours for every kind of colour vision.")] = False,
    width: Width = 180,
    device: Device = "cpu",
) -> None:
    """Before, after, truth and the error map of each model, side by side."""
    from terradelta.lab.data import open_pairs
    from terradelta.lab.evaluation import thinned
    from terradelta.lab.evaluation.error_maps import PAPER, SAFE
    from terradelta.lab.figures.panels import check_format, draw_grid, save_figure
    from terradelta.predict.load import load_predictor

    check_new(out)
    check_format(out)
    predictors = [load_predictor(model, device=device) for model in models]
    heads = heads_of(names, [predictor.card.name for predictor in predictors])
    say_terms(data)
    pairs = thinned(open_pairs(data, split), limit)
    rows = []
    with progress("predicting") as advance:
        for index in range(len(pairs)):
            rows.append(_row(pairs, index, predictors))
            advance(index + 1, len(pairs))
    save_figure(draw_grid(rows, heads, SAFE if safe else PAPER, width), out)
    say_path(out)


@figure_app.command()
def curves(
    runs: Annotated[list[Path], typer.Argument(help="Folders of training runs.")],
    out: Out,
    names: Names = None,
    width: Width = 180,
) -> None:
    """Loss, validation F1 and learning rate of training runs."""
    from terradelta.lab.figures.panels import check_format, draw_curves, read_log, save_figure

    check_new(out)
    check_format(out)
    heads = heads_of(names, [run.resolve().name for run in runs])
    logs = [(head, read_log(run)) for head, run in zip(heads, runs, strict=True)]
    save_figure(draw_curves(logs, width), out)
    say_path(out)


def heads_of(names: str | None, default: list[str]) -> list[str]:
    """The names to show.

    Raises:
        InputError: if they are not as many as there are things to name.
    """
    if names is None:
        return default
    heads = [name.strip() for name in names.split(",")]
    if len(heads) != len(default):
        raise InputError(f"--names gives {len(heads)} names for {len(default)}; give one for each")
    return heads


def _row(pairs: "PairSource", index: int, predictors: "list[Predictor]") -> "GridRow":
    from terradelta.geo.metres import ground_sampling_m
    from terradelta.lab.evaluation import WHOLE
    from terradelta.lab.evaluation.error_maps import to_rgb
    from terradelta.lab.figures.panels import GridRow

    pair = pairs.read(index)
    found = tuple(
        WHOLE.predict(each, pair.before, pair.after, pair.valid) >= each.card.threshold for each in predictors
    )
    place = pairs.grid(index)
    metres = None if place is None else ground_sampling_m(place)
    return GridRow(pair.name, *to_rgb((pair.before, pair.after)), pair.label, found, pair.counted, metres)
