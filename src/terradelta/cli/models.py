"""The commands `models`, `models fetch` and `models push`: what there is, the card of one, from a hub and to it."""

import math
import shlex
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.table import Column, Table
from rich.text import Text
from typer.core import TyperGroup

from terradelta.cli._base import PrintableConsole, app, check_new, console, say, say_path
from terradelta.cli._table import Column as Shown
from terradelta.cli._table import fitted
from terradelta.errors import InputError, ModelError, cure, needs

if TYPE_CHECKING:
    from terradelta.lab.bench.speed import Speed

__all__ = ["fetch_command", "models", "models_app", "push_command"]

NEVER_MEASURED = "–"


class _ShowByDefault(TyperGroup):
    """``models`` and ``models NAME`` are ``models show [NAME]``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401  as in the base class
        """Put the name of the command where there is none."""
        named = args and (args[0] in self.commands or args[0] in ctx.help_option_names)
        return super().parse_args(ctx, args if named or ctx.resilient_parsing else ["show", *args])


models_app = typer.Typer(
    cls=_ShowByDefault, help="List the weights, methods and networks; `models NAME` shows the card of one."
)
app.add_typer(models_app, name="models")


@models_app.command("show")
def models(
    name: Annotated[str | None, typer.Argument(help="Show one card: of weights, or of a network.")] = None,
    speed: Annotated[
        bool, typer.Option("--speed", help="Time the networks on this machine first (minutes), and remember it.")
    ] = False,
    stac: Annotated[bool, typer.Option("--stac", help="Print the card of NAME as a STAC item of a model.")] = False,
) -> None:
    """List the weights that ship, the methods, and the networks that can be trained; with NAME, show a card."""
    if stac:
        _print_item(name)
        return
    out = PrintableConsole()
    if speed:
        _measure(name)
    if name is not None:
        _print_card(out, name)
        return
    out.print(_weights_table(out))
    out.print(_methods_table(out))
    for part in _networks(out):
        out.print(part, markup=False)


def _print_item(name: str | None) -> None:
    import json

    from terradelta.predict.mlm_item import model_item

    if name is None:
        raise InputError("--stac describes one model; give its name: terradelta models NAME --stac")
    print(json.dumps(model_item(name), indent=1, ensure_ascii=False))


def _weights_table(out: Console) -> RenderableType:
    from terradelta.predict.choice import card_of
    from terradelta.predict.load import SHORT_NAMES, shipped_models

    short = {name: f" ({alias})" for alias, name in SHORT_NAMES.items()}
    columns = (
        *(Shown("weights"), Shown("finds", 2, wraps=True), Shown("pixels", 3), Shown("F1", 1)),
        *(Shown("of", 4, wraps=True), Shown("bands", 5), Shown("network", 6)),
    )
    rows = []
    licences: dict[str, list[str]] = {}
    for shipped in shipped_models():
        card = card_of(shipped)
        label = shipped + short.get(shipped, "")
        score = card.scores[-1] if card.scores else {}
        f1 = f"{score['metrics']['f1']:.4f}" if score else ""
        where = f"{score.get('data', '')} {score.get('split', '')}".strip()
        licences.setdefault(card.licence.partition(":")[0].rstrip(".") or "not stated", []).append(shipped)
        pixels = card.sizes.removesuffix(" per pixel")
        finds = card.finds or "not stated"
        rows.append((label, finds, pixels, f1, where, ", ".join(card.bands), card.network))
    limits = "; ".join(f"{', '.join(names)}: {licence}" for licence, names in licences.items())
    return Group(fitted("Weights that ship", columns, rows, out), Text(f"Licence of {limits}."))


def _methods_table(out: Console) -> RenderableType:
    from terradelta.predict.classical import methods

    rows = [(name, str(method.year), method.summary) for name, method in methods().items()]
    columns = (Shown("method"), Shown("year", 1), Shown("what it is", wraps=True))
    return fitted("Methods without weights (map --method)", columns, rows, out)


def _networks(out: Console) -> list[RenderableType]:
    """The table of networks and what has to be said to it; one line where torch is not installed."""
    try:
        from terradelta.lab.bench.facts import network_facts
        from terradelta.lab.bench.published import MARK, headline_f1
        from terradelta.lab.bench.speed import REFERENCE, known_speeds
        from terradelta.lab.networks import list_models, model_info
    except ModuleNotFoundError:
        return [f"Networks to train: {cure('train')}"]
    speeds = known_speeds()
    columns = (
        *(Shown("network"), Shown("published F1", 1), Shown("parameters", 2), Shown("MACs", 3), Shown("year", 4)),
        *(Shown("speed", 5), Shown("symmetric", 6), Shown("paper", 7, wraps=True), Shown("as thop", 8)),
    )
    rows = []
    for network in list_models():
        info, facts = model_info(network), network_facts(network)
        rows.append(
            (
                *(network, headline_f1(network), f"{facts.parameters / 1e6:.2f} M", f"{facts.macs.true / 1e9:.2f} G"),
                *(str(info.year), _relative(speeds.get(network)), "yes" if facts.symmetric else "no"),
                *(info.paper.split(",")[0], f"{facts.macs.thop / 1e9:.2f} G"),
            )
        )
    hint = "" if speeds else f" Not measured on this machine yet ({NEVER_MEASURED}): terradelta models --speed."
    notes = (
        "MACs: multiply-adds of a pair of 256 x 256 pixels; as thop: as papers count them, without attention, and "
        f"transposed convolutions at output size. Speed: pairs a second on one CPU thread, {REFERENCE} = 1.{hint} "
        "Symmetric: swapping the dates changes nothing. Published: as printed by the first source that `models NAME` "
        f"lists; {MARK} contradicts itself."
    )
    return [fitted("Networks that can be trained", columns, rows, out), Text(notes, style="dim")]


def _relative(speed: "Speed | None") -> str:
    return NEVER_MEASURED if speed is None else f"{speed.ratio:.2g}"


def _print_card(out: Console, name: str) -> None:
    import dataclasses

    from terradelta.predict.choice import card_of

    if _is_network(name):
        _print_network(out, name)
        return
    try:
        card = card_of(name)
    except ModelError as error:
        if name.isidentifier() and not _can_list_networks():
            error.add_note(f"If {name} is a network, its card needs the optional dependencies [train]; {cure('train')}")
        raise
    table = Table("", Column(overflow="fold"), title=Text(f"Card of {name}"), show_header=False)
    for field, value in dataclasses.asdict(card).items():
        shown = "\n".join(map(_score, value)) or "none" if field == "scores" else _plain(value)
        table.add_row(field, Text(shown))
    out.print(table)


def _plain(value: Any) -> str:  # noqa: ANN401  any field of a card
    if isinstance(value, dict):
        return "\n".join(f"{key}: {_plain(each)}".replace("\n", "\n  ") for key, each in value.items()) or "none"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _score(score: dict[str, Any]) -> str:
    """One score of a card in a few lines, without the counts of single images."""
    intervals = score.get("intervals", {}).get("metrics", {})
    values = []
    for metric, value in score["metrics"].items():
        low_high = f" ({' to '.join(f'{end:.3f}' for end in intervals[metric])})" if metric in intervals else ""
        values.append(f"{metric} {value:.3f}{low_high}")
    where = ", ".join(str(score[key]) for key in ("data", "split") if key in score)
    pairs = f"{score['pairs']} pairs, " if "pairs" in score else ""
    lines = [f"{where}, {pairs}threshold {score.get('threshold', math.nan):.4g}:"]
    lines.append(f"  {', '.join(values)}")
    lines.append("  " + "; ".join(str(score[key]) for key in ("protocol", "runtime", "created") if key in score))
    kinds: dict[str, list[str]] = {}
    for row in score.get("robustness", ()):
        kinds.setdefault(row["kind"], []).append(f"{row['f1']:.3f} at {row['level']:g}")
    lines += [f"  f1 under {kind}: {', '.join(found)}" for kind, found in kinds.items() if kind != "none"]
    return "\n".join(lines)


def _is_network(name: str) -> bool:
    if not _can_list_networks():
        return False
    from terradelta.lab.networks import list_models

    return name in list_models()


def _can_list_networks() -> bool:
    """Whether torch is there, which defines them."""
    try:
        import terradelta.lab.networks  # noqa: F401
    except ModuleNotFoundError:
        return False
    return True


def _print_network(out: Console, name: str) -> None:
    """The card of a network: paper, what deviates from it, sizes, switches, what others published."""
    from terradelta.lab.bench.facts import network_facts, switches
    from terradelta.lab.bench.speed import REFERENCE, known_speeds
    from terradelta.lab.networks import model_info

    info, facts, speed = model_info(name), network_facts(name), known_speeds().get(name)
    measured = "not measured on this machine yet: terradelta models --speed"
    if speed is not None:
        measured = f"{speed.pairs_per_s:.3g} pairs/s of {speed.side} x {speed.side} pixels, {speed.ratio:.2g} times"
        measured += f" {REFERENCE}'s"
    rows: dict[str, Any] = {
        "what it is": info.summary,
        "paper": info.paper,
        "year": info.year,
        "parameters": f"{facts.parameters:,}",
        "multiply-adds": f"{facts.macs.true:,} of a pair of 256 x 256 pixels; as thop counts {facts.macs.thop:,}",
        "speed here": measured,
        "symmetric": "yes: swapping the dates changes nothing" if facts.symmetric else "no: the order of dates counts",
        "sides": f"multiples of {facts.stride} pixels; predictors pad to them",
        "switches": "\n".join(f"{key} = {value!r}" for key, value in switches(name).items()) or "none",
        "published": "\n".join(_published_lines(name)) or "nothing that we could verify",
        "licence": "the code is under the Apache License 2.0; weights carry the limits of the data they are fitted on",
        "how it follows the paper": _module_text(info.builder),
    }
    table = Table("", "", title=Text(f"Network {name}"), show_header=False)
    for field, value in rows.items():
        table.add_row(field, Text(str(value)))
    out.print(table)


def _published_lines(network: str) -> list[str]:
    from terradelta.lab.bench.published import MARK, contradictions, published_scores

    lines = []
    for row in published_scores(network):
        variant = f"; {row.variant}" if row.variant else ""
        lines.append(f"{row.text()} ({row.source}{variant})")
        lines += [f"  {MARK} {sentence}" for sentence in contradictions(row)]
    return lines


def _module_text(builder: Any) -> str:  # noqa: ANN401  any builder
    """The head of a network's file, its lines joined to paragraphs and list items."""
    import inspect
    import re

    text = inspect.cleandoc(getattr(inspect.getmodule(builder), "__doc__", None) or "")
    return re.sub(r"(?<=\S)\n(?![\n-])\s*", " ", text)


def _measure(name: str | None) -> None:
    with needs("train", "timing networks"):
        from terradelta.lab.bench.speed import measure_speeds, remember_speeds
        from terradelta.lab.networks import list_models
    chosen: dict[str, tuple[str, dict[str, Any]]] = {
        network: (network, {}) for network in list_models() if name in (None, network)
    }
    with console.status("timing") as status:
        remember_speeds(measure_speeds(chosen, progress=lambda label: status.update(f"timing {label}")))


@models_app.command("fetch")
def fetch_command(
    model: Annotated[str, typer.Argument(help="hf:OWNER/REPO[@REVISION], or the URL of an .onnx file.")],
) -> None:
    """Fetch a model into the cache, or its newest version; from then on it needs no network."""
    from terradelta.predict.choice import card_of
    from terradelta.predict.hub import fetch, is_elsewhere
    from terradelta.predict.load import SHORT_NAMES, shipped_models

    if model in (*SHORT_NAMES, *shipped_models()):
        say(f"{model} ships with terradelta: there is nothing to fetch")
        return
    if not is_elsewhere(model):
        names = ", ".join((*SHORT_NAMES, *shipped_models()))
        raise InputError(f"{model!r} is no model to fetch; give hf:OWNER/REPO or a URL. {names} ship already")
    with console.status("fetching"):
        fetched = fetch(model)
    card = card_of(model)
    say(f"{fetched.source}{' at ' * bool(fetched.revision)}{fetched.revision}: {card.purpose()}")
    say(f"Licence: {card.licence or 'not stated'}")
    for name, sha256 in fetched.sha256.items():
        say(f"SHA-256 of {name}: {sha256}")
        say_path(fetched.folder / name)


@models_app.command("push")
def push_command(
    model: Annotated[str, typer.Argument(help="Shipped weights, FILE.onnx, or a training run.")],
    folder: Annotated[Path, typer.Argument(help="Folder to make.")],
) -> None:
    """Prepare a folder for a hub: weights, the card as README with metadata, SHA-256. Nothing is uploaded."""
    from terradelta.predict.choice import card_of
    from terradelta.predict.hub_folder import write_hub_folder
    from terradelta.predict.load import find_model

    check_new(folder)
    source = find_model(model)
    with tempfile.TemporaryDirectory() as scratch:
        layers = source.with_suffix(".safetensors")
        if source.suffix.lower() != ".onnx":
            source, layers = _exported(source, Path(scratch))
        names = write_hub_folder(source, card_of(str(source)), folder, layers if layers.is_file() else None)
    say(f"{folder} holds {', '.join(names)}. Look at README.md first: it says what the card says")
    say("To upload it (pip install huggingface_hub; hf auth login):")
    say(f"hf upload OWNER/REPO {shlex.quote(str(folder))} .")


def _exported(run: Path, folder: Path) -> tuple[Path, Path]:
    """A training run as an ONNX file and as safetensors."""
    from terradelta.cli.train import export

    onnx, layers = folder / "model.onnx", folder / "model.safetensors"
    for file in (onnx, layers):
        export(str(run), file)
    return onnx, layers
