"""The command line: thin; every command is a function of the package with a progress bar around it."""

import itertools
import json
import math
import os
import signal
import sys
import webbrowser
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

import terradelta
from terradelta.errors import InputError, MissingExtraError, OutputError, OutputExistsError, TerradeltaError

if TYPE_CHECKING:
    from terradelta.mapping.run import ChangeMap, MapOptions
    from terradelta.runtime.classical import Method
    from terradelta.runtime.predictor import Predictor
    from terradelta.training.config import Recipe

__all__ = ["app", "main"]

console = Console(stderr=True, highlight=False)
USER_FAULT, FAILURE, INTERRUPTED, TERMINATED = 2, 1, 130, 143


class Terminated(BaseException):
    """SIGTERM came; raised so that temporary folders are removed on the way out."""


class Commands(TyperGroup):
    """Errors become one message and an exit code: 2 for the input, 1 for writing or setup, 130 or 143 for a signal."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401  as in the base class
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except TerradeltaError as error:
            _say_error(str(error))
            raise typer.Exit(USER_FAULT if isinstance(error, InputError) else FAILURE) from error
        except MemoryError as error:
            _say_error("out of memory; use smaller tiles (--tile) or close other programs")
            raise typer.Exit(FAILURE) from error
        except (OSError, UnicodeError) as error:
            _say_error(f"{error}; check the names and permissions of the files and folders given")
            raise typer.Exit(FAILURE) from error
        except Terminated as error:
            raise typer.Exit(TERMINATED) from error
        except KeyboardInterrupt as error:
            console.print("[yellow]interrupted[/yellow]: nothing unfinished was left under its final name")
            raise typer.Exit(INTERRUPTED) from error


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="What changed between two images of the same place: a map, polygons, numbers you can defend.",
)
data_app = typer.Typer(no_args_is_help=True, help="Data sets: make synthetic ones.")
app.add_typer(data_app, name="data")

Device = Annotated[str, typer.Option(help="`cpu`, or `cuda` for a training run.")]


def main() -> None:
    """Entry point."""
    signal.signal(signal.SIGTERM, _terminate)
    sys.unraisablehook = _report_unraisable
    app()


def _report_unraisable(found: "sys.UnraisableHookArgs") -> None:
    """Python's report, but not for GDAL's messages that rasterio cannot decode: our own error follows."""
    if not isinstance(found.exc_value, UnicodeError):
        sys.__unraisablehook__(found)


def _terminate(number: int, frame: object) -> NoReturn:
    raise Terminated


@app.command("map")
def map_command(
    before: Annotated[Path, typer.Argument(help="Image of the first date; its grid is the map's.")],
    after: Annotated[Path, typer.Argument(help="Image of the second date, on any grid.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to make.")],
    model: Annotated[
        str | None,
        typer.Option(help="Shipped weights (see `models`), FILE.onnx, or a training run.  [default: default]"),
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="In place of a model, a method without weights: cva, irmad, pca-kmeans.")
    ] = None,
    aoi: Annotated[
        str | None, typer.Option(help="Area of interest: WEST,SOUTH,EAST,NORTH in degrees, or a GeoJSON file.")
    ] = None,
    bands: Annotated[
        str | None,
        typer.Option(help="Bands in the model's order, by number from 1 or name, e.g. 3,2,1; a method takes all."),
    ] = None,
    threshold: Annotated[float | None, typer.Option(help="Probability from which a pixel counts as changed.")] = None,
    min_area: Annotated[float, typer.Option(help="Leave out smaller polygons, m².")] = 10.0,
    simplify: Annotated[float, typer.Option(help="Tolerance for simpler outlines, m.")] = 0.0,
    device: Device = "cpu",
    tile: Annotated[int | None, typer.Option(help="Side of a tile, pixels.")] = None,
    overlap: Annotated[int | None, typer.Option(help="Pixels that tiles share.")] = None,
) -> None:
    """Map what changed between two images."""
    from terradelta.mapping.run import MapOptions

    options = MapOptions(
        bands=None if bands is None else _bands(bands),
        aoi=None if aoi is None else _area(aoi),
        threshold=threshold,
        min_area_m2=min_area,
        simplify_m=simplify,
        tile=tile,
        overlap=overlap,
    )
    _say_result(_map(before, after, out, options, lambda: _predictor(model, method, device)))


@app.command()
def demo(
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder to make.  [default: terradelta-demo]")] = None,
    side: Annotated[int, typer.Option(help="Side of the scene, pixels.")] = 1024,
    seed: Annotated[int, typer.Option(help="Which scene.")] = 7,
    open_report: Annotated[bool, typer.Option("--open/--no-open", help="Open the report in the browser.")] = True,
) -> None:
    """Make a realistic georeferenced pair, map it, score it, open the report."""
    from terradelta.demo import make_demo_pair, score_map
    from terradelta.mapping.run import MapOptions
    from terradelta.mapping.staging import check_free

    out = _free_name("terradelta-demo") if out is None else out
    check_free(out)
    with console.status("drawing a suburb, twice"):
        files = make_demo_pair(out / "images", side=side, seed=seed)
    _say(f"drew {files.before} and {files.after}: the second on another grid, 0.6 m in place of 0.5 m")
    made = _map(
        *(files.before, files.after, out / "map", MapOptions()),
        lambda: _predictor(None, None, "cpu"),
        lambda at: score_map(at, files.label),
    )
    _say_result(made)
    scores = made.receipt["scores"]
    console.print(
        "against the truth: "
        f"precision {scores['precision']:.3f}, recall {scores['recall']:.3f}, F1 {scores['f1']:.3f}. "
        "The scene is synthetic; the model was trained on others of its kind too. Its scores on real images: "
        "`terradelta models default`"
    )
    if open_report:
        webbrowser.open(made.report.absolute().as_uri())


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A recipe: FILE.py or FILE.py:FUNCTION, or a network's name.")],
    data: Annotated[Path, typer.Option(help="Folder with {train,val}/{A,B,label}.")],
    run: Annotated[Path, typer.Option("--run", "-o", help="Folder of the run.")],
    also: Annotated[list[Path] | None, typer.Option(help="More training pairs: another such folder.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped.")] = False,
    device: Annotated[str, typer.Option(help="`auto`, `cpu`, `cuda`.")] = "auto",
) -> None:
    """Train a network; the weights of the best validation F1 land in RUN/best.ckpt."""
    from terradelta.data.folder import PairFolder

    with _needs_train("training"):
        from terradelta.training.loop import fit
        from terradelta.training.recipes import load_recipe
    chosen: Recipe = load_recipe(recipe)
    pairs = PairFolder(data, "train")
    for folder in also or []:
        pairs = pairs.joined(PairFolder(folder, "train"))
    card = fit(chosen, pairs, PairFolder(data, "val"), run, resume=resume, device=device, console=console)
    score = card.scores[0]["metrics"]["f1"]
    _say(f"best validation F1 {score:.4f} at threshold {card.threshold:g}: {run / 'best.ckpt'}")


@app.command("evaluate")
def evaluate_command(
    model: Annotated[str, typer.Argument(help="`default`, shipped weights, FILE.onnx, or a training run.")],
    data: Annotated[Path, typer.Option(help="Folder with {split}/{A,B,label}.")],
    split: Annotated[str, typer.Option(help="Which split.")] = "test",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Receipt to write (JSON).")] = None,
    threshold: Annotated[float | None, typer.Option(help="In place of the card's threshold.")] = None,
    device: Device = "cpu",
) -> None:
    """Score a model on labelled pairs."""
    from terradelta.data.folder import PairFolder
    from terradelta.evaluation import evaluate, evaluation_receipt
    from terradelta.runtime.weights import load_predictor

    if out is not None and out.exists():
        raise OutputExistsError(f"{out} is there already; nothing was overwritten. Remove it or give another name")
    pairs = PairFolder(data, split)
    predictor = load_predictor(model, device=device)
    with _progress(f"evaluating on {split}") as advance:
        found = evaluate(predictor, pairs, threshold=threshold, progress=advance)
    receipt = evaluation_receipt(found, predictor.card, pairs)
    if out is not None:
        _write(out, json.dumps(receipt, indent=2) + "\n")
    table = Table("", "global", title=Text(f"{predictor.card.name} on {split}, threshold {found.threshold:g}"))
    for name, value in receipt["metrics"].items():
        table.add_row(name, f"{value:.4f}")
    Console().print(table)


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


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="A training run's folder, or a checkpoint.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The ONNX file to write.")],
    receipt: Annotated[
        list[Path] | None, typer.Option(help="Receipt of `evaluate` whose scores go into the card.")
    ] = None,
) -> None:
    """Export a trained network to ONNX and compare it with the original."""
    from terradelta.evaluation import with_receipt

    with _needs_train("export"):
        from terradelta.export import export_onnx
        from terradelta.networks.checkpoint import load_network
    if out.exists():
        raise OutputExistsError(f"{out} is there already; nothing was overwritten. Remove it or give another name")
    network, card = load_network(run)
    for path in receipt or []:
        card = with_receipt(card, path)
    with console.status("exporting and comparing"):
        check = export_onnx(network, card, out)
    gaps = ", ".join(f"{precision} {gap:.2g}" for precision, gap in check.largest_difference.items())
    _say(f"{out}: {out.stat().st_size / 1e6:.1f} MB; largest difference in probability: {gaps}")


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
    with _progress("drawing") as advance:
        write_dataset(folder, counts, SceneConfig(height=side, width=side), seed, progress=advance)
    _say(f"{folder}: {', '.join(f'{n} {split}' for split, n in counts.items())}")


def _map(
    before: Path,
    after: Path,
    out: Path,
    options: "MapOptions",
    choose: Callable[[], "Predictor | Method"],
    scores: Callable[[Path], dict[str, float]] | None = None,
) -> "ChangeMap":
    from terradelta.mapping.run import map_change
    from terradelta.mapping.staging import check_free

    check_free(out)
    with console.status("loading the model"):
        predictor = choose()
    with _progress("mapping") as advance:
        return map_change(before, after, out, predictor, options, progress=advance, announce=_say_lines, scores=scores)


def _predictor(model: str | None, method: str | None, device: str) -> "Predictor | Method":
    from terradelta.runtime.classical import load_method
    from terradelta.runtime.weights import load_predictor

    if method is None:
        return load_predictor("default" if model is None else model, device=device)
    if model is not None:
        raise InputError(f"--model {model} and --method {method} exclude each other; give one of them")
    if device != "cpu":
        raise InputError(f"--method {method} runs on the CPU; leave --device {device} out")
    return load_method(method)


def _say_lines(lines: Sequence[str]) -> None:
    for line in lines:
        style = "yellow" if line.startswith("Warning") else "dim"
        console.print(line, style=style, markup=False)


def _say_result(made: "ChangeMap") -> None:
    result = made.receipt["result"]
    area = _area_words(result)
    seconds = made.receipt["timings"]["total"]
    console.print(
        f"changed: {area} ({result['changed_fraction']:.2%} of what both dates show) "
        f"in {result['polygons']:,} polygons, {seconds:.1f} s",
        markup=False,
    )
    print(made.report)


def _area_words(result: Mapping[str, Any]) -> str:
    if result["unit"] == "px":
        return f"{result['changed_area_px']:,.0f} pixels"
    area = result["changed_area_m2"]
    return f"{area:,.0f} m²" if math.isfinite(area) else f"{result['changed_px']:,} pixels of unknown area"


@contextmanager
def _progress(text: str) -> Iterator[Callable[[int, int], None]]:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(text, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def _needs_train(feature: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(feature, "train") from error


def _free_name(name: str) -> Path:
    """``name``, or ``name-2``, ``name-3``, ... in the present folder: the first that is not taken."""
    candidates = (Path(name if i == 1 else f"{name}-{i}") for i in itertools.count(1))
    return next(path for path in candidates if not path.exists())


def _bands(text: str) -> tuple[str | int, ...]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    return tuple(int(part) if part.isdecimal() else part for part in parts)


def _area(text: str) -> Any:  # noqa: ANN401  a box or a shapely geometry
    if os.path.isfile(text):  # also False where the name itself is impossible
        return _geojson_area(Path(text))
    try:
        west, south, east, north = (float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(
            f"--aoi {text!r} is neither a file nor four numbers; give WEST,SOUTH,EAST,NORTH in degrees, "
            "or a GeoJSON file"
        ) from error
    return (west, south, east, north)


def _geojson_area(path: Path) -> Any:  # noqa: ANN401  a shapely geometry
    import shapely

    try:
        collection = shapely.from_geojson(path.read_text())
    except (shapely.errors.GEOSException, UnicodeDecodeError, OSError) as error:
        raise InputError(f"--aoi {path}: not a GeoJSON file ({error})") from error
    area = shapely.union_all(shapely.get_parts(collection))
    if area.is_empty or area.area == 0:
        raise InputError(f"--aoi {path}: holds no polygon")
    return area


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


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror})") from error


def _say(text: str) -> None:
    console.print(text, markup=False)


def _say_error(message: str) -> None:
    console.print("[red]error:[/red]", end=" ")
    console.print(message, markup=False)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(terradelta.__version__)
        raise typer.Exit
