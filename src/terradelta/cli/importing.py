"""The command `import`: published checkpoints of other people's code."""

from pathlib import Path
from typing import Annotated

import typer

from terradelta.cli._base import app, check_new, console, say
from terradelta.errors import InputError, needs

__all__ = ["import_"]


@app.command("import")
def import_(
    files: Annotated[list[Path], typer.Argument(help="The official checkpoint; STANet has two files.")],
    network: Annotated[str, typer.Option(help="Its method, e.g. `bit` or `snunet`; `NAME:ARGUMENT=VALUE` too.")],
    run: Annotated[Path, typer.Option("--run", "-o", help="Folder to write, as of a training run.")],
    scaling: Annotated[str | None, typer.Option(help="By which data it was scaled, e.g. `cdd`.")] = None,
    bands: Annotated[str, typer.Option(help="The bands' names in the network's order.")] = "red,green,blue",
    mean: Annotated[str | None, typer.Option(help="Mean of each band, in units of full scale.")] = None,
    std: Annotated[str | None, typer.Option(help="Standard deviation of each band, likewise.")] = None,
) -> None:
    """Read the official checkpoint of a method and write RUN/best.ckpt, for `map`, `evaluate` and `export`."""
    with needs("train", "import"):
        from terradelta.lab.bench.entries import choose_entries
        from terradelta.lab.networks.checkpoint import save_network
        from terradelta.lab.networks.official import Scaling, import_official
    if (mean is None) != (std is None):
        raise InputError("--mean and --std belong together; give both or neither")
    own = None
    if mean is not None and std is not None:
        own = Scaling(_numbers("--mean", mean), _numbers("--std", std), tuple(bands.split(",")))
    check_new(run)
    (entry,) = choose_entries(network)
    with console.status("reading"):
        imported = import_official(files, entry.network, arguments=entry.network_args, scaling=own or scaling)
    run.mkdir(parents=True)
    save_network(imported.network, imported.card, run / "best.ckpt")
    card, left = imported.card, imported.left_out
    say(f"{run / 'best.ckpt'}: {entry.network}, every weight of the network found and used")
    for reason in dict.fromkeys(left.values()):
        names = [name for name, why in left.items() if why == reason]
        say(f"left out: {len(names)} ({names[0]}{' ...' if len(names) > 1 else ''}): {reason}")
    say(f"bands: {', '.join(card.bands)}; changed from: {card.training['threshold']}")
    for text in (*imported.unknown, "its score: nothing was evaluated here (terradelta evaluate)"):
        say(f"not known: {text}")
    say(f"licence: {card.licence}")


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"{option} is {text!r}; it must be numbers joined by commas, one for each band") from error
