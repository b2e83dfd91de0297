"""The command `bench`: many networks, one protocol, one table."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, RenderableType

from terradelta.cli._base import PrintableConsole, app, progress, say, say_path
from terradelta.cli._table import Column, fitted
from terradelta.errors import InputError, needs

if TYPE_CHECKING:
    from terradelta.lab.bench.design import Entry
    from terradelta.lab.bench.tables import Table as Report

__all__ = ["bench"]

RANKS = {
    **{"network": 0, "F1 %": 1, "remark": 2, "learnt": 3, "IoU %": 4, "published F1 %": 5, "runs": 6},
    **{"parameters M": 7, "speed": 8},
}
"""Columns of the terminal, and which of them go first where there is no room."""


@app.command()
def bench(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the benchmark; the same command goes on in it.")],
    data: Annotated[str, typer.Option(help="Folder with {train,val,test}/{A,B,label}, or `synthetic`.")] = "synthetic",
    networks: Annotated[
        str | None, typer.Option(help="`all`, or names with arguments: bit,snunet:width=16.  [default: all]")
    ] = None,
    ablation: Annotated[
        str | None, typer.Option(help="In place of networks: mccrnet-modules, mccrnet-loss, mlla, mlla-imagenet.")
    ] = None,
    small: Annotated[bool, typer.Option("--small", help="Narrower variants of wide networks.")] = False,
    seeds: Annotated[int, typer.Option(help="Runs of each network: seeds 0, 1, ...")] = 1,
    steps: Annotated[int, typer.Option(help="Optimiser steps of each run.")] = 300,
    crop: Annotated[int, typer.Option(help="Side of training crops and of scored tiles, pixels.")] = 64,
    batch: Annotated[int, typer.Option(help="Pairs in a step.")] = 4,
    tiles: Annotated[int, typer.Option(help="Score at most so many tiles of val and of test; 0: all.")] = 0,
    device: Annotated[str, typer.Option(help="`cpu` or `cuda`.")] = "cpu",
    bf16: Annotated[
        bool,
        typer.Option(
            "--bf16", help="Train in bfloat16 where the CPU has it and that is accurate enough, as on `cuda`."
        ),
    ] = False,
) -> None:
    """Train and score many networks by one protocol; OUT/table.{md,csv,tex,html} hold the result."""
    with needs("train", "bench"):
        from terradelta.lab.bench.benchmark import run_bench
        from terradelta.lab.bench.design import Setup
        from terradelta.lab.bench.summary import unlearnt
    place = data if data == "synthetic" else str(Path(data).absolute())
    protocol = Setup(place, steps, crop, batch, tiles, device, bf16)
    entries = _entries(networks, ablation, small)
    made = run_bench(protocol, entries, range(seeds), out, ablation=ablation, progress=progress, announce=say)
    console = PrintableConsole()
    console.print(_short_table(made.table, console))
    failed = [o.entry.label for o in made.outcomes if o.failures]
    if failed:
        say(f"failed: {', '.join(failed)}; the table says why, and the same command tries them again")
    poor = unlearnt(made.outcomes)
    if poor:
        say(f"no better than a baseline: {', '.join(poor)}")
    say_path(made.files[-1])
    if failed:
        raise typer.Exit(1)


def _entries(networks: str | None, ablation: str | None, small: bool) -> "list[Entry]":
    from terradelta.lab.bench.entries import ablation_entries, choose_entries

    if ablation is None:
        return choose_entries(networks or "all", small=small)
    if networks is not None:
        raise InputError(f"--networks {networks} and --ablation {ablation} exclude each other; give one of them")
    return ablation_entries(ablation, small=small)


def _short_table(full: "Report", console: Console) -> RenderableType:
    """The columns that fit into a terminal."""
    chosen = [k for k, column in enumerate(full.columns) if column.name in RANKS]
    names = [full.columns[k].name for k in chosen]
    columns = [Column(name, RANKS[name], wraps=name == "remark") for name in names]
    return fitted(full.title, columns, [[row[k] for k in chosen] for row in full.shown()], console)
