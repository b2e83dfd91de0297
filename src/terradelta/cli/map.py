"""Commands that make maps: `map` and `demo`."""

import contextlib
import dataclasses
import itertools
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from terradelta.cli._base import Device, app, console, free_name, progress, say, say_path, wrapped
from terradelta.cli.events import Events, events_of
from terradelta.errors import InputError, needs

if TYPE_CHECKING:
    from terradelta.mapping.run import ChangeMap, MapOptions
    from terradelta.predict.predictor import Predictor

__all__ = ["demo", "map_command"]

MOST_ROWS = 5
"""Of what is said before a run, without --verbose, besides the line on how much is ahead."""


@app.command("map")
def map_command(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to make.")],
    before: Annotated[
        str | None,
        typer.Argument(
            help="Image of the first date, a file, URL or STAC item; its grid is the map's.", show_default=False
        ),
    ] = None,
    after: Annotated[
        str | None, typer.Argument(help="Image of the second date, on any grid.", show_default=False)
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(help="In place of two images, a CSV file of many pairs: before,after[,name,aoi,bands,...]."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Shipped weights (see `models`), hf:OWNER/REPO, FILE.onnx or URL, a training run.  [default: default]"
        ),
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="In place of a model, a method without weights: cva, irmad, pca-kmeans.")
    ] = None,
    aoi: Annotated[
        str | None,
        typer.Option(
            help="Area of interest: WEST,SOUTH,EAST,NORTH in degrees; X_MIN,Y_MIN,X_MAX,Y_MAX,EPSG:CODE; WKT; or a "
            "GeoJSON, GeoPackage, Shapefile or FlatGeobuf."
        ),
    ] = None,
    bands: Annotated[
        str | None,
        typer.Option(help="Bands in the model's order, by number from 1 or name, e.g. 3,2,1; a method takes all."),
    ] = None,
    values: Annotated[
        str,
        typer.Option(
            help="What stored values mean: auto; raw; or for each date one of raw, s2, s2-offset, landsat-c2, "
            "GAIN:OFFSET, e.g. s2,s2-offset."
        ),
    ] = "auto",
    nodata: Annotated[
        str, typer.Option(help="Value that means no data: auto, none, a number, or two of these, e.g. -9999,none.")
    ] = "auto",
    nodata_bands: Annotated[
        str,
        typer.Option(
            help="Whether that must stand in all bands or in any; auto: in all where it could be measured (0, 255)."
        ),
    ] = "auto",
    threshold: Annotated[float | None, typer.Option(help="Probability from which a pixel counts as changed.")] = None,
    min_area: Annotated[
        float | None, typer.Option(help="Leave out smaller polygons, m².  [default: below 10 m² or 4 pixels]")
    ] = None,
    sieve: Annotated[int, typer.Option(help="Make groups of fewer changed pixels unchanged, in the raster too.")] = 0,
    vector: Annotated[
        str, typer.Option(help="Formats of the polygons beside change.gpkg: geoparquet, geojson, flatgeobuf.")
    ] = "gpkg",
    simplify: Annotated[float, typer.Option(help="Tolerance for simpler outlines, m.")] = 0.0,
    device: Device = "cpu",
    precision: Annotated[
        str,
        typer.Option(
            help="Of the network: auto; f32; bf16; int8: faster on CPUs with VNNI or AMX, nearly the same map."
        ),
    ] = "auto",
    tile: Annotated[int | None, typer.Option(help="Side of a tile, pixels.")] = None,
    overlap: Annotated[int | None, typer.Option(help="Pixels that tiles share.")] = None,
    coregister: Annotated[
        bool, typer.Option("--coregister", help="Move the second image by the shift that was measured.")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Discard what an unfinished run left.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Map scenes of more than 10,000,000,000 pixels too.")] = False,
    skip_damaged: Annotated[
        bool, typer.Option("--skip-damaged", help="Count pixels that cannot be read as no data, and record them.")
    ] = False,
    allow_outside: Annotated[
        bool, typer.Option("--allow-outside", help="Let VRTs and STAC files name files outside their folder, and URLs.")
    ] = False,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Use a model on pixels more than 4 times larger or smaller than it knows.")
    ] = False,
    qgis: Annotated[bool, typer.Option("--qgis", help="Also write change.qgs, a QGIS project of all layers.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Say all that the report says of the inputs.")
    ] = False,
    progress_form: Annotated[
        str, typer.Option("--progress", help="bar; or json: an event a line on standard output, see docs/map.md.")
    ] = "bar",
    cluster: Annotated[
        str | None,
        typer.Option(help="Work on a dask cluster: a scheduler's address, or local or local:N for N processes here."),
    ] = None,
) -> None:
    """Map what changed between two images; the same command again goes on with a run that was stopped."""
    from terradelta.mapping.batch import parse_bands
    from terradelta.mapping.memory import keep_little
    from terradelta.mapping.run import MapOptions
    from terradelta.products.vectors import parse_vectors
    from terradelta.raster.aoi import parse_area

    keep_little()
    options = MapOptions(
        bands=None if bands is None else parse_bands(bands),
        aoi=None if aoi is None else parse_area(aoi),
        threshold=threshold,
        min_area_m2=min_area,
        sieve_px=sieve,
        anyway=anyway,
        simplify_m=simplify,
        vectors=parse_vectors(vector),
        tile=tile,
        overlap=overlap,
        coregister=coregister,
        yes=yes,
        fresh=fresh,
        qgis=qgis,
        skip_damaged=skip_damaged,
        allow_outside=allow_outside,
        values=values,
        nodata=nodata,
        nodata_bands=nodata_bands,  # type: ignore[arg-type]  # MapOptions checks it
    )

    def choose() -> "Predictor":
        return _predictor(model, method, device, precision)

    events = events_of(progress_form)
    with contextlib.nullcontext() if events is None else events.errors():
        if pairs is not None and before is None:
            with _workers(options, cluster) as options:
                _map_pairs(pairs, out, options, choose, events)
        elif before is not None and after is not None and pairs is None:
            with _workers(options, cluster) as options:
                made = _map(before, after, out, options, choose, verbose=verbose, events=events)
            (_say_result if events is None else events.done)(made)
        else:
            raise InputError("give two images, BEFORE and AFTER, or a table of many with --pairs FILE.csv")


@app.command()
def demo(
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder to make.  [default: terradelta-demo]")] = None,
    side: Annotated[int, typer.Option(help="Side of the scene, pixels.")] = 1024,
    seed: Annotated[int, typer.Option(help="Which scene.")] = 7,
    open_report: Annotated[bool, typer.Option("--open/--no-open", help="Open the report in the browser.")] = True,
) -> None:
    """Make a realistic georeferenced pair, map it, score it, open the report."""
    from terradelta.cli.demo import make_demo_pair, score_map
    from terradelta.mapping.run import MapOptions
    from terradelta.mapping.staging import check_free

    out = free_name("terradelta-demo") if out is None else out
    check_free(out)
    with console.status("drawing a suburb, twice"):
        files = make_demo_pair(out / "images", side=side, seed=seed)
    say(f"drew {files.before} and {files.after}: the second on another grid, 0.6 m in place of 0.5 m")
    made = _map(
        *(files.before, files.after, out / "map", MapOptions()),
        lambda: _predictor(None, None, "cpu", "auto"),
        lambda at: score_map(at, files.label),
    )
    _say_result(made)
    scores = made.receipt.scores or {}
    say(
        "against the truth: "
        f"precision {scores['precision']:.3f}, recall {scores['recall']:.3f}, F1 {scores['f1']:.3f}. "
        "The scene is synthetic, and the model was trained on none. Its scores on real images: "
        "`terradelta models default`"
    )
    if open_report:
        webbrowser.open(made.report.absolute().as_uri())


def _map(
    before: Path | str,
    after: Path | str,
    out: Path,
    options: "MapOptions",
    choose: Callable[[], "Predictor"],
    scores: Callable[[Path], dict[str, float]] | None = None,
    *,
    verbose: bool = False,
    events: Events | None = None,
) -> "ChangeMap":
    from terradelta.mapping.run import map_change
    from terradelta.mapping.staging import check_free

    check_free(out)
    with console.status("loading the model"):
        predictor = choose()
    announce = _say_lines if verbose else _say_first
    with progress("mapping") if events is None else contextlib.nullcontext(events.progress) as advance:
        return map_change(
            before,
            after,
            out,
            predictor,
            options,
            progress=advance,
            announce=announce if events is None else events.announce,
            scores=scores,
        )


def _map_pairs(
    table: Path, out: Path, options: "MapOptions", choose: Callable[[], "Predictor"], events: Events | None = None
) -> None:
    """Map the pairs of a table; exit code 2 if one failed."""
    from terradelta.mapping.answer import answer_lines
    from terradelta.mapping.batch import INDEX, SUMMARY, map_pairs, read_pairs

    count, failed = len(read_pairs(table)), 0
    with console.status("loading the model"):
        predictor = choose()
    announce = _say_lines if events is None else events.announce
    with progress("mapping") if events is None else contextlib.nullcontext(events.progress) as advance:
        made = map_pairs(table, out, predictor, options, announce=announce, progress=advance)
        for number, outcome in enumerate(made, 1):
            failed += outcome.receipt is None
            line = f"{number} of {count}, {outcome.row.name}: "
            if outcome.receipt is None:
                line += f"failed: {outcome.message}"
            else:
                line += answer_lines(outcome.receipt)[0] + " (done before)" * outcome.resumed
            if events is None:
                console.print(line, style="red" if outcome.receipt is None else None, markup=False)
            else:
                events.pair(number, count, outcome, line)
    if events is None:
        say_path(out / INDEX)
    else:
        events.say("done", folder=str(out.absolute()), report=str((out / INDEX).absolute()))
    if failed:
        raise InputError(f"{failed} of {count} pairs failed; {out / SUMMARY} says why. The others are done")


@contextlib.contextmanager
def _workers(options: "MapOptions", address: str | None) -> Iterator["MapOptions"]:
    """The options with the workers of a cluster, while the block runs."""
    if address is None:
        yield options
        return
    with needs("cluster", "--cluster"):
        from terradelta.mapping.cluster import Cluster
    with console.status("meeting the cluster"):
        cluster = Cluster(address)
    with cluster:
        say(f"workers: {cluster.count()}")
        yield dataclasses.replace(options, workers=cluster)


def _predictor(model: str | None, method: str | None, device: str, precision: str) -> "Predictor":
    from terradelta.predict.classical import load_method
    from terradelta.predict.load import load_predictor

    if method is None:
        return load_predictor("default" if model is None else model, device=device, precision=precision)
    if model is not None:
        raise InputError(f"--model {model} and --method {method} exclude each other; give one of them")
    if device != "cpu":
        raise InputError(f"--method {method} runs on the CPU; leave --device {device} out")
    if precision != "auto":
        raise InputError(f"--method {method} has one precision; leave --precision {precision} out")
    return load_method(method)


def _say_lines(lines: Sequence[str]) -> None:
    for line in lines:
        style = "yellow" if line.startswith("Warning") else "dim"
        console.print(line, style=style, markup=False)


def _say_first(lines: Sequence[str]) -> None:
    """The first sentences that fit into five lines of the terminal; two of them are said whatever their length."""
    rows = [len(wrapped(line, console.width)) for line in lines]
    fitting = sum(total <= MOST_ROWS - 1 for total in itertools.accumulate(rows))
    shown = len(lines) if sum(rows) <= MOST_ROWS else max(2, fitting)
    _say_lines(lines[:shown])
    left = lines[shown:]
    warned = sum(line.startswith("Warning") for line in left)
    if left:
        more = f"{warned} more warning{'' if warned == 1 else 's'}: see" if warned else "More of the inputs:"
        console.print(f"{more} the report, or map --verbose", style="yellow" if warned else "dim", markup=False)


def _say_result(made: "ChangeMap") -> None:
    from terradelta.mapping.answer import answer_lines

    for line in answer_lines(made.receipt):
        console.print(line, markup=False)
    say_path(made.report)
