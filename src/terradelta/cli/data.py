"""Commands for data sets: `data list`, `data tile` and `data synth`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from terradelta.cli._base import DATA_HELP, data_app, progress, say
from terradelta.errors import DataError

__all__ = ["list_archives", "synth", "tile"]


@data_app.command("list")
def list_archives(name: Annotated[str | None, typer.Argument(help="One archive: all about it.")] = None) -> None:
    """List the public archives that are read as they unpack, or show licence, citation and layout of one."""
    from terradelta.data.archives import ARCHIVES

    if name is None:
        table = Table("name", "pairs (train, val, test)", "size, pixels", "licence")
        for key, archive in ARCHIVES.items():
            counts = " / ".join(f"{archive.pairs[split]:,}" for split in ("train", "val", "test"))
            table.add_row(key, counts, archive.size, archive.licence)
        Console().print(table)
        return
    if name.lower() not in ARCHIVES:
        raise DataError(f"{name!r} is none of {', '.join(ARCHIVES)}")
    archive = ARCHIVES[name.lower()]
    rows = Table(title=Text(archive.title), show_header=False)
    counts = ", ".join(f"{count:,} {split}" for split, count in archive.pairs.items())
    facts = {"pairs": counts, "size": f"{archive.size} pixels", "ground sampling distance": archive.gsd}
    facts |= {"shows": archive.shows, "layout": archive.layout, "note": archive.note}
    facts |= {"licence": archive.licence, "cite": archive.citation, "source": archive.source}
    for fact, text in facts.items():
        if text:
            rows.add_row(fact, Text(text))
    Console().print(rows)


@data_app.command()
def tile(
    data: Annotated[str, typer.Argument(help=DATA_HELP)],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to make, in LEVIR-CD's layout.")],
    size: Annotated[int, typer.Option(help="Side of a tile, pixels.")] = 256,
    overlap: Annotated[int, typer.Option(help="Pixels that neighbours share.")] = 0,
    edges: Annotated[bool, typer.Option("--edges", help="Also cut what is left at the edges, with overlap.")] = False,
) -> None:
    """Cut all splits into tiles as papers do: 256 x 256, no overlap; goes on where it was stopped."""
    from terradelta.data.tiling import Tiling, tile_dataset

    with progress("cutting") as advance:
        counts = tile_dataset(data, out, Tiling(size, overlap, edges), progress=advance)
    say(f"{out}: {', '.join(f'{n:,} {split}' for split, n in counts.tiles.items())}")
    if counts.left_over:
        say(f"{counts.left_over:.1%} of the pixels lie in no tile (--edges takes what is left at the edges)")
    if counts.without_data or counts.too_small:
        say(f"left out: {counts.without_data} tiles without data somewhere, {counts.too_small} pairs below a tile")


@data_app.command()
def synth(
    folder: Annotated[Path, typer.Argument(help="Folder to make, in LEVIR-CD's layout.")],
    train_pairs: Annotated[int, typer.Option("--train", help="Pairs to train on.")] = 200,
    val_pairs: Annotated[int, typer.Option("--val", help="Pairs to choose on.")] = 40,
    test_pairs: Annotated[int, typer.Option("--test", help="Pairs to score on.")] = 40,
    side: Annotated[int, typer.Option(help="Side of a pair, pixels.")] = 512,
    seed: Annotated[int, typer.Option(help="Which scenes.")] = 0,
) -> None:
    """Make synthetic labelled pairs; goes on where it was stopped."""
    from terradelta.data.synthetic import SceneConfig, write_dataset

    counts = {"train": train_pairs, "val": val_pairs, "test": test_pairs}
    with progress("drawing") as advance:
        write_dataset(folder, counts, SceneConfig(height=side, width=side), seed, progress=advance)
    say(f"{folder}: {', '.join(f'{n} {split}' for split, n in counts.items())}")
