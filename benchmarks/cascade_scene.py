"""What `map --cascade` saves and keeps on a large scene with little change.

    python benchmarks/cascade_scene.py [--side 8192] [--model default] [--precision auto] [--map 0.9 0.99] [--keep DIR]

Makes synthetic suburbs of units of 1,024 x 1,024 pixels, of which about one in 16 holds new buildings; the others hold
what differs between any two images (`--between`): ``strong`` differences of season, light, haze and place as in the
training scenes, ``weak`` ones of two images of the same season and sensor, or ``none``: the same image twice. Looks at
all tiles at low resolution, and prints how many each recall leaves out. With ``--map RECALL...`` maps each scene with
and without screening, too, each in a process of its own, and prints the tiles left out, the time, and which changes are
kept: those of the label that the map without screening shows, and its changed pixels.
"""

import argparse
import tempfile
from pathlib import Path
from resource import struct_rusage

import numpy as np
import rasterio
from affine import Affine
from map_scene import run_map
from numpy.typing import NDArray
from rasterio.windows import Window
from scipy import ndimage

from terradelta.lab.synthetic import SceneConfig, make_scene
from terradelta.mapping.plan import MapOptions, make_plan
from terradelta.predict.cascade import CARD_ENTRY, screen
from terradelta.predict.load import load_predictor
from terradelta.predict.predictor import Predictor
from terradelta.raster.pair import open_pair

UNIT, KINDS, CHANGED_EVERY = 1024, 6, 16
WEAK = {"season": 0.1, "sun": 0.1, "illumination": 0.15, "haze": 0.05, "cloud_cover": 0.0, "misregistration_px": 0.2}
BETWEEN: dict[str, dict[str, float]] = {"strong": {}, "weak": WEAK, "none": {}}


def write_scene(folder: Path, side: int, between: str) -> tuple[Path, Path, Path]:
    """Write before, after and label; gives the three paths."""
    calm = [_unit(seed, between, 0.0) for seed in range(KINDS)]
    busy = [_unit(100 + seed, between, 0.05) for seed in range(KINDS)]
    paths = (folder / "before.tif", folder / "after.tif", folder / "label.tif")
    files = [rasterio.open(path, "w", **_profile(side, 1 if path.stem == "label" else 3)) for path in paths]
    along = side // UNIT
    for number in range(along * along):
        row, col = divmod(number, along)
        is_busy = number % CHANGED_EVERY == CHANGED_EVERY // 2 + row // 2 % 3
        unit = (busy if is_busy else calm)[number % KINDS]
        for file, values in zip(files, unit, strict=True):
            file.write(values[:, :: -1 if row % 2 else 1], window=Window(col * UNIT, row * UNIT, UNIT, UNIT))
    for file in files:
        file.close()
    return paths


def _unit(seed: int, between: str, change: float) -> list[NDArray[np.uint8]]:
    """``(C, UNIT, UNIT)``: before, after, label."""
    config = SceneConfig(height=UNIT, width=UNIT, change_rate=change, **BETWEEN[between])
    scene = make_scene(config, seed)
    after = scene.before if between == "none" and not change else scene.after
    return [np.asarray(scene.before), np.asarray(after), np.asarray(scene.label, np.uint8)[None]]


def _profile(side: int, count: int) -> dict[str, object]:
    place = {"crs": "EPSG:32614", "transform": Affine(0.5, 0, 600000, 0, -0.5, 3400000)}
    blocks = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "zlevel": 1}
    return {"driver": "GTiff", "width": side, "height": side, "count": count, "dtype": "uint8", **place, **blocks}


def peaks(before: Path, after: Path, predictor: Predictor) -> NDArray[np.float64]:
    """The largest low-resolution probability of each tile."""
    with open_pair(before, after, wanted=predictor.card.bands) as pair:
        plan = make_plan(pair, predictor, None, MapOptions())
        tiles = (pair.read(tile) for row in plan.tiles.rows() for tile in row)
        return np.array([screen(predictor, each.before, each.after).max() for each in tiles])


def kept(label: Path, plain: Path, screened: Path) -> str:
    """How many changes and changed pixels of the plain map the screened one has."""
    truth, first, second = (_ones(path) for path in (label, plain / "change.tif", screened / "change.tif"))
    numbers, count = ndimage.label(truth)
    ids = np.arange(1, count + 1)
    shown, still = (ndimage.maximum(each, numbers, ids) > 0 for each in (first, second))
    return (
        f"of {count} changes the map shows {shown.sum()}, screened {still.sum()}; "
        f"{(first & second).sum() / max(first.sum(), 1):.1%} of the changed pixels kept, "
        f"{(first & second & truth).sum() / max((first & truth).sum(), 1):.1%} of those in the label"
    )


def _cpu_s(used: struct_rusage) -> float:
    return used.ru_utime + used.ru_stime


def _ones(path: Path) -> NDArray[np.bool_]:
    with rasterio.open(path) as file:
        return np.asarray(file.read(1) == 1)


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=8192, help=f"a multiple of {UNIT}")
    parser.add_argument("--model", default="default")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--map", nargs="+", default=[], metavar="RECALL")
    parser.add_argument("--between", nargs="+", choices=BETWEEN, default=list(BETWEEN))
    parser.add_argument("--keep", type=Path, help="folder for the scenes and products; default: temporary")
    arguments = parser.parse_args()
    predictor = load_predictor(arguments.model, precision=arguments.precision, threads=1)
    options = ["--model", arguments.model, "--precision", arguments.precision]
    with tempfile.TemporaryDirectory() as temporary:
        for between in arguments.between:
            folder = (arguments.keep or Path(temporary)) / between
            folder.mkdir(parents=True)
            before, after, label = write_scene(folder, arguments.side, between)
            found = peaks(before, after, predictor)
            print(
                f"{between}: {len(found)} tiles; their peaks {np.quantile(found, (0, 0.25, 0.5, 1)).round(4).tolist()}"
            )
            for row in predictor.card.training[CARD_ENTRY]["rows"]:
                print(f"  {row['recall']}: {(found < row['threshold']).sum()} left out", flush=True)
            if arguments.map:
                compare(folder, (before, after, label), options, arguments.map)


def compare(folder: Path, files: tuple[Path, Path, Path], options: list[str], recalls: list[str]) -> None:
    """Map without screening and with it, and print what it saves and keeps."""
    before, after, label = files
    plain, used = run_map(before, after, folder / "plain", options)
    print(
        f"  mapped: {_cpu_s(used):.1f} s of CPU without screening, network {plain['timings']['network']:.1f} s",
        flush=True,
    )
    for recall in recalls:
        out = folder / f"screened-{recall}"
        made, used = run_map(before, after, out, [*options, "--cascade", recall])
        cascade, timings = made["cascade"], made["timings"]
        print(
            f"  mapped with {recall}: {cascade['skipped']} of {cascade['tiles']} tiles left out; "
            f"{_cpu_s(used):.1f} s of CPU, screen {timings['screen']:.1f} s, "
            f"network {timings.get('network', 0):.1f} s; {kept(label, folder / 'plain', out)}",
            flush=True,
        )


if __name__ == "__main__":
    main()
