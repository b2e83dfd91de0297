"""Costs of `terradelta map --cluster`, measured here; time with up to 1,000 workers, simulated; the two compared.

    python benchmarks/scale.py measure -o COSTS.json [--model default]
    python benchmarks/scale.py check COSTS.json
    python benchmarks/scale.py predict COSTS.json [--chart FILE.png]

``measure`` maps synthetic pairs of two sizes in one process, each stage by itself, and runs empty tasks on a local
cluster. Costs are seconds of CPU, so that other processes disturb little; what depends on the size of a scene is a
constant and a slope, from the two sizes. ``check`` maps scenes and pairs on local clusters of 1 and more processes and
prints the time beside the simulated one; one network only waits, as for an accelerator, so that more workers than
cores can be tried. ``predict`` simulates scenes and pairs for 1 to 1,000 workers, see `scale_simulation` for what is
assumed.
"""

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from map_scene import cheap_network, write_scenes
from scale_costs import SMALL, SMALL_SIDES, Link, Profile, Waiting, measure_all, read_costs
from scale_simulation import Costs, Outcome, Site, simulate

from terradelta.mapping.batch import map_pairs
from terradelta.mapping.cluster import Cluster
from terradelta.mapping.run import MapOptions, map_change
from terradelta.predict.openvino import OpenVINOPredictor
from terradelta.predict.predictor import Predictor

PAIRS, PAIR_SIDE = 5_000, 4096
WORKER_BYTES_S = 1e9
"""One worker's connection."""
LIFETIME_S = 7 * 86_400.0
"""Of a worker, in the mean: of 1,000, six are lost every hour."""
COUNTS = (1, 2, 4, 8, 16, 64, 250, 500, 1000)


def free_cores(seconds: float = 2.0) -> float:
    """Cores that others leave to us, by processes that do nothing but count."""
    count = os.cpu_count() or 1
    with multiprocessing.get_context("spawn").Pool(count) as pool:
        pool.map(_spin, [0.05] * count, chunksize=1)  # both have started
        return float(sum(pool.map(_spin, [seconds] * count, chunksize=1)))


def _spin(seconds: float) -> float:
    begun, used = time.perf_counter(), time.process_time()
    while time.perf_counter() - begun < seconds:
        pass
    return (time.process_time() - used) / (time.perf_counter() - begun)


def check(costs: Path, folder: Path, counts: Sequence[int], pairs: int) -> None:
    """Print measured and simulated times on local clusters."""
    profiles, link = read_costs(costs)
    cheap = OpenVINOPredictor(cheap_network(folder / "cheap.onnx"), threads=1)
    dates = write_scenes(folder, SMALL_SIDES[1])
    small = write_scenes(folder, SMALL_SIDES[0])
    table = folder / "pairs.csv"
    table.write_text("before,after\n" + f"{small[0]},{small[1]}\n" * pairs)
    print(f"{'what':28} workers  cores free  measured  simulated  error")
    for count in counts:
        for name, predictor in (("small tiles", cheap), ("waiting", Waiting(cheap.card))):
            if name == "waiting" or count <= 2:
                rows, each = profiles[name].scene(SMALL_SIDES[1], link)
                _compare(f"scene, {name}", count, rows, each, partial(_map_scene, dates, predictor))
        if count <= 2:
            each = profiles["small tiles"].pair(SMALL_SIDES[0], link)
            _compare(f"{pairs} pairs", count, pairs, each, partial(_map_pairs, table, cheap))


def _map_scene(dates: tuple[Path, Path], predictor: Predictor, out: Path, options: MapOptions) -> None:
    map_change(*dates, out, predictor, options)


def _map_pairs(table: Path, predictor: Predictor, out: Path, options: MapOptions) -> None:
    for outcome in map_pairs(table, out, predictor, options):
        if outcome.receipt is None:
            raise SystemExit(outcome.message)


def _compare(name: str, count: int, tasks: int, costs: Costs, run: Callable[[Path, MapOptions], object]) -> None:
    before = free_cores()
    with tempfile.TemporaryDirectory() as out, Cluster(f"local:{count}") as cluster:
        begun = time.perf_counter()
        run(Path(out) / "map", replace(SMALL, workers=cluster))
        wall = time.perf_counter() - begun
    cores = (before + free_cores()) / 2
    found = simulate(tasks, costs, Site(cores=cores), count).seconds
    print(f"{name:28} {count:7}  {cores:10.2f}  {wall:7.1f}s  {found:8.1f}s  {found / wall - 1:+.0%}", flush=True)


def cases(profiles: dict[str, Profile], link: Link, model: str) -> list[tuple[str, int, float, Costs]]:
    """(name, tasks, megapixels of a task, costs) of what is predicted."""
    found = []
    for side in (32_768, 262_144):
        rows, costs = profiles[model].scene(side, link)
        found.append((f"one scene of {side:,}²", rows, side * side / 1e6 / rows, costs))
    costs = profiles[model].pair(PAIR_SIDE, link)
    return [*found, (f"{PAIRS:,} pairs of {PAIR_SIDE:,}²", PAIRS, PAIR_SIDE**2 / 1e6, costs)]


def predict(path: Path, model: str, storage: float, chart: Path | None) -> None:
    """Print throughput by number of workers as a table in Markdown, and draw it."""
    profiles, link = read_costs(path)
    site = Site(storage * 1e9, WORKER_BYTES_S, lifetime_s=LIFETIME_S, replace_s=120.0, slow_share=0.02, slow_factor=2.0)
    curves: dict[str, list[tuple[float, Outcome]]] = {}
    for name, tasks, megapixels, costs in cases(profiles, link, model):
        runs = [simulate(tasks, costs, site, count, chunks=2) for count in COUNTS]
        curves[name] = [(tasks * megapixels / each.seconds, each) for each in runs]
        repeated = runs[-1].repeated
        print(f"{name}: {tasks} tasks of {costs.task_s:.1f} s; with {COUNTS[-1]} workers {repeated} begun again")
    print("\n| workers | " + " | ".join(curves) + " |\n" + "|---" * (len(curves) + 1) + "|")
    for number, count in enumerate(COUNTS):
        cells = (
            f"{curve[number][0]:,.2f} Mpx/s ({curve[number][0] / curve[0][0]:.1f}x), {curve[number][1].limit} "
            f"{curve[number][1].busy[curve[number][1].limit]:.0%}"
            for curve in curves.values()
        )
        print(f"| {count} | " + " | ".join(cells) + " |")
    if chart is not None:
        draw(curves, chart)


def draw(curves: dict[str, list[tuple[float, Outcome]]], path: Path) -> None:
    """A chart of speed-up by number of workers."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    axes.plot(COUNTS, COUNTS, color="0.7", linewidth=1, label="as many times as workers")
    for (name, curve), mark in zip(curves.items(), "os^", strict=True):
        axes.plot(COUNTS, [speed / curve[0][0] for speed, _ in curve], marker=mark, markersize=4, label=name)
    axes.set(xscale="log", yscale="log", xlabel="workers, one core each", ylabel="times the speed of one worker")
    axes.grid(which="major", color="0.9")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = parser.add_subparsers(dest="step", required=True)
    measured = steps.add_parser("measure")
    measured.add_argument("-o", "--out", type=Path, required=True)
    measured.add_argument("--model", nargs="+", default=["default"])
    checked = steps.add_parser("check")
    checked.add_argument("costs", type=Path)
    checked.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    checked.add_argument("--pairs", type=int, default=8)
    predicted = steps.add_parser("predict")
    predicted.add_argument("costs", type=Path)
    predicted.add_argument("--model", default="default")
    predicted.add_argument("--storage", type=float, default=5.0, help="GB/s that the shared storage gives in all")
    predicted.add_argument("--chart", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        if arguments.step == "measure":
            arguments.out.write_text(json.dumps(measure_all(arguments.model, Path(temporary)), indent=1) + "\n")
        elif arguments.step == "check":
            check(arguments.costs, Path(temporary), arguments.workers, arguments.pairs)
        else:
            predict(arguments.costs, arguments.model, arguments.storage, arguments.chart)


if __name__ == "__main__":
    main()
