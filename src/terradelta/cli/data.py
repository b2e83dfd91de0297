"""Commands for data sets: `data list`, `data check`, `data tile` and `data synth`."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column, Table
from rich.text import Text

from terradelta.cli._base import DATA_HELP, PrintableConsole, check_new, data_app, progress, say
from terradelta.errors import DataError

if TYPE_CHECKING:
    from terradelta.lab.doctor import Checkup

__all__ = ["check", "list_archives", "synth", "tile"]

FAULTS_FOUND = 3
"""Exit code of `data check` where the data are unfit."""
_NAMED = 3


@data_app.command("list")
def list_archives(name: Annotated[str | None, typer.Argument(help="One archive: all about it.")] = None) -> None:
    """List the public archives that are read as they unpack, or show licence, citation and layout of one."""
    from terradelta.lab.data.archives import ARCHIVES

    if name is None:
        table = Table("name", "pairs (train, val, test)", "size, pixels", "licence")
        for key, archive in ARCHIVES.items():
            counts = " / ".join(f"{archive.pairs[split]:,}" for split in ("train", "val", "test"))
            table.add_row(key, counts, archive.size, archive.licence)
        PrintableConsole().print(table)
        return
    if name.lower() not in ARCHIVES:
        raise DataError(f"{name!r} is none of {', '.join(ARCHIVES)}")
    archive = ARCHIVES[name.lower()]
    rows = Table("", Column(overflow="fold"), title=Text(archive.title), show_header=False)  # addresses stay whole
    counts = ", ".join(f"{count:,} {split}" for split, count in archive.pairs.items())
    facts = {"pairs": counts, "size": f"{archive.size} pixels", "ground sampling distance": archive.gsd}
    facts |= {"shows": archive.shows, "layout": archive.layout, "note": archive.note}
    facts |= {"licence": archive.licence, "cite": archive.citation, "source": archive.source}
    for fact, text in facts.items():
        if text:
            rows.add_row(fact, Text(text))
    PrintableConsole().print(rows)


@data_app.command()
def check(
    data: Annotated[str, typer.Argument(help=DATA_HELP)],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Page to write: FILE.html, or FILE.json.")] = None,
    fix: Annotated[Path | None, typer.Option("--fix", help="Folder for a mended copy, with a log of changes.")] = None,
) -> None:
    """Look for what would spoil training or scores; exits with 3 if there are errors."""
    from terradelta.lab.doctor import check_dataset, mend_dataset

    for path in (out, fix):
        if path is not None:
            check_new(path)
    checkup = check_dataset(data, progress=_stages)
    _print_checkup(checkup)
    if out is not None:
        _write_checkup(out, checkup)
    if fix is not None:
        with progress("mending") as advance:
            changes = mend_dataset(checkup, fix, progress=advance)
        left_out = sum(change.left_out for change in changes)
        say(f"{fix}: {len(changes) - left_out} pairs changed, {left_out} left out (see fixes.csv in it)")
    if checkup.errors:
        raise typer.Exit(FAULTS_FOUND)


def _stages(text: str) -> Callable[[int, int], None]:
    """A progress bar that closes itself when all is done."""
    stack = ExitStack()
    advance = stack.enter_context(progress(text))

    def step(done: int, total: int) -> None:
        advance(done, total)
        if done >= total:
            stack.close()

    return step


def _write_checkup(out: Path, checkup: "Checkup") -> None:
    from terradelta.lab.doctor import checkup_receipt
    from terradelta.lab.doctor.page import write_checkup
    from terradelta.receipt import write_receipt

    if out.suffix.lower() == ".json":
        write_receipt(checkup_receipt(checkup), out, make_folder=True)
    else:
        write_checkup(out, checkup)
    say(f"{out}")


def _print_checkup(checkup: "Checkup") -> None:
    from terradelta.lab.doctor import checkup_receipt, grouped

    receipt = checkup_receipt(checkup)
    table = Table(
        "split", "pairs", "read", "size, pixels", "labels", "changed", "mean", "std", title=Text(checkup.name)
    )
    for split, found in receipt.splits.items():
        sizes = ", ".join(f"{h} x {w}" for h, w, _ in found.sizes[:_NAMED])
        sizes += " ..." if len(found.sizes) > _NAMED else ""
        labels = ", ".join(f"{kind}: {count:,}" for kind, count in found.labels.items())
        share = "" if found.changed_fraction is None else f"{found.changed_fraction:.2%}"
        moments = (" ".join("–" if x is None else f"{x:.3f}" for x in values) for values in (found.mean, found.std))
        table.add_row(split, f"{found.pairs:,}", f"{found.read:,}", sizes, labels, share, *moments)
    PrintableConsole().print(table)
    findings = Table("", "what was found", "where, and what to do", show_lines=True)
    for (severity, kind), group in grouped(checkup.findings).items():
        lines = [finding.message for finding in group[:_NAMED]]
        lines += [f"and {len(group) - _NAMED:,} more"] if len(group) > _NAMED else []
        where = Text("\n".join((*lines, f"What to do: {group[0].cure}.")), overflow="fold")
        findings.add_row(severity.value, Text(f"{kind} ({len(group):,})"), where)
    if checkup.findings:
        PrintableConsole().print(findings)
    counts = vars(receipt.summary).items()
    say(", ".join(f"{count} {severity}{'' if count == 1 else 's'}" for severity, count in counts))


@data_app.command()
def tile(
    data: Annotated[str, typer.Argument(help=DATA_HELP)],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to make, in LEVIR-CD's layout.")],
    size: Annotated[int, typer.Option(help="Side of a tile, pixels.")] = 256,
    overlap: Annotated[int, typer.Option(help="Pixels that neighbours share.")] = 0,
    edges: Annotated[bool, typer.Option("--edges", help="Also cut what is left at the edges, with overlap.")] = False,
) -> None:
    """Cut all splits into tiles as papers do: 256 x 256, no overlap; goes on where it was stopped."""
    from terradelta.lab.data.tiling import Tiling, tile_dataset

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
    from terradelta.lab.synthetic import SceneConfig, write_dataset

    counts = {"train": train_pairs, "val": val_pairs, "test": test_pairs}
    with progress("drawing") as advance:
        write_dataset(folder, counts, SceneConfig(height=side, width=side), seed, progress=advance)
    say(f"{folder}: {', '.join(f'{n} {split}' for split, n in counts.items())}")
