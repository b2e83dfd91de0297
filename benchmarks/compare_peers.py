"""Speed and memory of `terradelta map` beside TorchGeo, geoai and eager PyTorch: one scene, one core, one run.

    python benchmarks/compare_peers.py CACHE [--sides 4096] [--only NAME ...] [--json FILE]

CACHE is a folder for the peers' environments (about 7 GB, made at the first run) and the scenes. Each contender maps
the same synthetic pair in a process of its own that may use one core only. Prints seconds of the whole process, start
included (wall clock and CPU; on a machine that others use, compare CPU), peak resident memory, of our parts' busy
seconds the share that is not the network's, and ratios to ours: the default weights in float32, in bfloat16 where
the CPU has it, and in 8-bit integers; eager PyTorch runs the default
network. With --json also a file of all figures.

TorchGeo: GridGeoSampler and its FCSiamDiff (ResNet-34), windows of 512 without overlap. geoai: `predict_geotiff` with
its default tiles (256, 64 shared, batches of 4) and the same FCSiamDiff. They make one GeoTIFF of probability; we make
two Cloud Optimised GeoTIFFs, polygons, report and receipt. Networks differ, so the ratio is one of whole tools.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import rasterio
from map_scene import write_scenes
from processor import made_on

from terradelta.predict.openvino import cpu_has_bf16

PEERS = {"torchgeo": ("torchgeo==0.8.1", "requests"), "geoai": ("geoai-py==0.40.1",)}
"""TorchGeo imports requests, but does not ask for it."""
TORCH = ("torch==2.14.1", "torchvision==0.29.1")
OURS = {
    f"{model} {precision}": ["--model", model, "--precision", precision]
    for model in ("default",)
    for precision in ("f32", "bf16", "int8")
}
"""Names of our contenders, and their options."""
SCRIPTS = Path(__file__).parent / "peers"


@dataclass(frozen=True)
class Cost:
    """What mapping one scene took."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    parts_s: dict[str, float] | None = None
    """Busy seconds of our parts, which overlap; from the receipt."""

    @property
    def beside_network(self) -> float:
        """Share of our parts' busy seconds that is not the network's."""
        parts = {name: seconds for name, seconds in (self.parts_s or {}).items() if name != "total"}
        return 1 - parts["network"] / sum(parts.values())


def python_of(folder: Path) -> Path:
    """The interpreter of a virtual environment."""
    return folder / "bin" / "python"


def install(cache: Path) -> None:
    """Make the peers' environments, which share one torch, unless they are there."""
    torch = cache / "torch"
    if not torch.exists():
        subprocess.run([sys.executable, "-m", "venv", torch], check=True)
        subprocess.run([python_of(torch), "-m", "pip", "install", "-q", *TORCH], check=True)
    where = "import site; print(site.getsitepackages()[0])"
    shared = subprocess.run([python_of(torch), "-c", where], check=True, capture_output=True, text=True).stdout
    for name, requirements in PEERS.items():
        folder = cache / name
        if folder.exists():
            continue
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        own = subprocess.run([python_of(folder), "-c", where], check=True, capture_output=True, text=True).stdout
        (Path(own.strip()) / "shared_torch.pth").write_text(shared)
        subprocess.run([python_of(folder), "-m", "pip", "install", "-q", *requirements], check=True)


def stack(before: Path, after: Path) -> Path:
    """Both dates as the six bands of one file, which is how geoai takes a pair."""
    path = before.with_name(before.name.replace("before", "stacked"))
    if path.exists():
        return path
    with rasterio.open(before) as first, rasterio.open(after) as second:
        profile = first.profile | {"count": 6}
        with rasterio.open(path, "w", **profile) as target:
            for _, window in first.block_windows(1):
                target.write(first.read(window=window), [1, 2, 3], window=window)
                target.write(second.read(window=window), [4, 5, 6], window=window)
    return path


def run(command: list[str | Path]) -> Cost:
    """Run a command on one core, and measure it."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "0", "CUDA_VISIBLE_DEVICES": ""}
    began = time.perf_counter()
    with subprocess.Popen([str(word) for word in command], env=environment, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command[1]} failed with status {process.returncode}")
    return Cost(time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6)


def scenes(cache: Path, side: int) -> tuple[Path, Path, Path]:
    """Both dates and their stack, made in a process of its own: a child's peak begins with its parent's memory."""
    with ProcessPoolExecutor(1) as pool:
        before, after = pool.submit(write_scenes, cache, side).result()
        return before, after, pool.submit(stack, before, after).result()


def commands(cache: Path, side: int) -> dict[str, list[str | Path]]:
    """What each contender runs."""
    before, after, stacked = scenes(cache, side)
    out = cache / f"out_{side}"
    ours: list[str | Path] = [sys.executable, "-m", "terradelta", "map", before, after]
    able = {name: options for name, options in OURS.items() if "bf16" not in options or cpu_has_bf16()}
    return {
        **{name: [*ours, *options, "-o", free(out, f"_{name.replace(' ', '_')}")] for name, options in able.items()},
        "eager": [sys.executable, SCRIPTS / "eager_scene.py", before, after, free(out, "_eager.tif")],
        "torchgeo": [
            *(python_of(cache / "torchgeo"), SCRIPTS / "torchgeo_scene.py", before, after),
            free(out, "_torchgeo.tif"),
        ],
        "geoai": [
            *(python_of(cache / "geoai"), SCRIPTS / "geoai_scene.py", stacked),
            free(out, "_geoai.tif"),
        ],
    }


def free(out: Path, ending: str) -> Path:
    """A name that nothing has yet."""
    return Path(f"{out}_{time.time_ns()}{ending}")


def ratios(cost: Cost, name: str, base: Cost) -> str:
    """A contender's cost as multiples of one of ours."""
    return (
        f"to {name}: {cost.cpu_s / base.cpu_s:.2f} x CPU, {cost.wall_s / base.wall_s:.2f} x time, "
        f"{cost.peak_mb / base.peak_mb:.2f} x memory"
    )


def main() -> None:
    """Parse, install, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cache", type=Path)
    parser.add_argument("--sides", type=int, nargs="+", default=[4096])
    parser.add_argument("--only", nargs="+", help="contenders to run beside ours")
    parser.add_argument("--json", type=Path, help="file to write")
    arguments = parser.parse_args()
    cache: Path = arguments.cache
    cache.mkdir(parents=True, exist_ok=True)
    install(cache)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for side in arguments.sides:
        ours: dict[str, Cost] = {}
        found[str(side)] = {}
        for name, command in commands(cache, side).items():
            if name not in OURS and arguments.only and name not in arguments.only:
                continue
            cost = run(command)
            if name in OURS:
                receipt = json.loads((Path(command[-1]) / "receipt.json").read_text())
                cost = ours[name] = replace(cost, parts_s=receipt["timings"])
                told = [f"{cost.beside_network:.1%} beside the network"]
            else:
                same = "default" if name == "eager" else ""  # eager PyTorch runs the default network
                told = [ratios(cost, base, ours[base]) for base in ours if base.startswith(same)]
            found[str(side)][name] = asdict(cost)
            print(
                f"{side}² {name:12}: {side * side / 1e6 / cost.cpu_s:.3f} Mpx a CPU second, {cost.cpu_s:.0f} CPU s, "
                f"{cost.wall_s:.0f} s, peak {cost.peak_mb:.0f} MB",
                *told,
                sep="; ",
                flush=True,
            )
            if arguments.json:
                content = {**made_on(), "peers": PEERS, "sides": found}
                arguments.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
