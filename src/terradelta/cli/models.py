"""The command `models`: what there is."""

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from terradelta.cli._base import app

__all__ = ["models"]


@app.command()
def models(name: Annotated[str | None, typer.Argument(help="Show one card.")] = None) -> None:
    """List the weights that ship, the methods, and the networks that can be trained; with NAME, show a card."""
    from terradelta.runtime.weights import DEFAULT_MODEL, load_predictor, shipped_models

    out = Console()
    if name is not None:
        _print_card(out, name)
        return
    table = Table("weights", "network", "bands", "F1", "on", "licence", title="Weights that ship")
    for shipped in shipped_models():
        card = load_predictor(shipped, threads=1).card
        label = f"{shipped} (default)" if shipped == DEFAULT_MODEL else shipped
        score = card.scores[-1] if card.scores else {}
        f1 = f"{score['metrics']['f1']:.4f}" if score else ""
        where = f"{score.get('data', '')} {score.get('split', '')}".strip()
        table.add_row(*map(Text, (label, card.network, ", ".join(card.bands), f1, where, card.licence)))
    out.print(table)
    out.print(_methods_table())
    out.print(_networks_table())


def _print_card(out: Console, name: str) -> None:
    import dataclasses

    from terradelta.runtime.weights import load_predictor

    table = Table("", "", title=Text(f"Card of {name}"), show_header=False)
    for field, value in dataclasses.asdict(load_predictor(name, threads=1).card).items():
        shown = json.dumps(value, indent=1) if isinstance(value, dict | tuple | list) else str(value)
        table.add_row(field, Text(shown))
    out.print(table)


def _methods_table() -> Table:
    from terradelta.runtime.classical import methods

    table = Table("method", "year", "what it is", title="Methods without weights (map --method)")
    for name, method in methods().items():
        table.add_row(name, str(method.year), method.summary)
    return table


def _networks_table() -> Table | Text:
    try:
        from terradelta.networks import create_model, list_models, model_info
    except ModuleNotFoundError:
        return Text("Networks to train: pip install 'terradelta[train]'")
    table = Table("network", "year", "parameters", "what it is", title="Networks that can be trained")
    for network in list_models():
        info = model_info(network)
        count = sum(p.numel() for p in create_model(network).parameters())
        table.add_row(network, str(info.year), f"{count / 1e6:.2f} M", info.summary)
    return table
