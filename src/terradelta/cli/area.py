"""The command `area`: how much changed, with an interval."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from terradelta.cli._base import app, check_new, console, say, say_path
from terradelta.cli.view import open_page
from terradelta.errors import InputError

if TYPE_CHECKING:
    from terradelta.area.estimate import Estimate
    from terradelta.area.measure import AreaReport

__all__ = ["area_command"]


@app.command("area")
def area_command(
    product: Annotated[Path, typer.Argument(help="Folder that `map` made.")],
    samples: Annotated[
        Path | None, typer.Option(help="Labelled samples: points with a field label, or a CSV with lon,lat,label.")
    ] = None,
    regions: Annotated[Path | None, typer.Option(help="Polygons: areas for each of them too.")] = None,
    draw: Annotated[int | None, typer.Option(help="Draw so many samples to be labelled, and write them to -o.")] = None,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
    view: Annotated[bool, typer.Option("--view", help="With --draw: label them in the browser.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write: .json, .csv, .html, .gpkg; samples: .gpkg, .csv.")
    ] = None,
) -> None:
    """Tell how much changed, with a confidence interval, from labelled samples of a map."""
    from terradelta.area.measure import draw as draw_samples
    from terradelta.area.measure import measure

    if out is not None:
        check_new(out)
    if draw is not None:
        if out is None or samples or regions or (view and out.suffix.lower() != ".gpkg"):
            raise InputError("--draw only writes samples: give -o SAMPLES.gpkg, and no --samples, --regions")
        unchanged, changed = draw_samples(product, draw, out, seed)
        say(f"drew {changed} samples among changed and {unchanged} among unchanged pixels")
        say("Look at each on both dates, and write 1 (changed) or 0 (unchanged) into its field label")
        say_path(out)
        if view:
            say(f"To go on later: terradelta view {product} --task {out}")
            open_page(product, task=out)
        return
    if view:
        raise InputError("--view labels samples that are drawn with it: add --draw 200, or see `terradelta view`")
    found = measure(product, samples=samples, regions=regions)
    console.print(_table(found))
    for line in _lines(found):
        say(line)
    if out is not None:
        found.write(out)
        say_path(out)


def _table(found: "AreaReport") -> Table:
    unit = "m²" if found.whole.tally.unit == "m" else "pixels"
    table = Table(box=None)
    for name in ("", f"mapped, {unit}", f"changed, {unit}", "95 % interval", "samples"):
        table.add_column(name, justify="left" if not name else "right")
    for each in (found.whole, *found.regions):
        samples = "" if each.samples is None else str(each.samples)
        table.add_row(Text(each.tally.name), f"{each.mapped:,.0f}", *_estimated(each.changed), samples)
    return table


def _estimated(estimate: "Estimate | None") -> tuple[str, str]:
    return (
        ("–", "–") if estimate is None else (f"{estimate.value:,.0f}", f"{estimate.low:,.0f} to {estimate.high:,.0f}")
    )


def _lines(found: "AreaReport") -> list[str]:
    lines = [f"Basis: {found.basis}"] if found.basis else []
    if found.accuracy is not None:
        overall, users, producers = found.accuracy.overall, found.accuracy.users[1], found.accuracy.producers[1]
        parts = (("overall accuracy", overall), ("user's", users), ("producer's accuracy of change", producers))
        lines.append("; ".join(f"{name} {each.value:.3f} ± {each.quantile * each.error:.3f}" for name, each in parts))
    lines += [f"{note}." for note in found.notes]
    noted = dict.fromkeys(f"{each.tally.name}: {each.note}" for each in (found.whole, *found.regions) if each.note)
    return lines + (list(noted) if found.basis else [found.whole.note])
