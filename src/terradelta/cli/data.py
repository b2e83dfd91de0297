"""Commands under `data`."""

from pathlib import Path
from typing import Annotated

import typer

from terradelta.cli._base import data_app, progress, say

__all__ = ["synth"]


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
