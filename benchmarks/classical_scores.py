"""Classical methods on a pair with sparse labels: kappa, F1 and overall accuracy of the maps of `terradelta map`.

    python benchmarks/classical_scores.py BEFORE AFTER CHANGED UNCHANGED [--json FILE]

CHANGED and UNCHANGED are rasters on the first date's grid, above 0 where a pixel is labelled as such; other pixels do
not count. Each method runs with its default parameters, all bands, by the command line.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import rasterio
from map_scene import run_map
from numpy.typing import NDArray

from terradelta.lab.metrics import Confusion, confusion
from terradelta.predict.classical import methods


def labels(path: Path) -> NDArray[np.bool_]:
    """Where a raster is above 0: ``(H, W)``."""
    with rasterio.open(path) as source:
        return np.asarray(source.read(1) > 0)


def score(product: Path, changed: NDArray[np.bool_], unchanged: NDArray[np.bool_]) -> Confusion:
    """Count the labelled pixels of ``change.tif``; those without data count as unchanged."""
    with rasterio.open(product / "change.tif") as source:
        found = source.read(1) == 1
    if found.shape != changed.shape:
        raise SystemExit(f"the map has {found.shape} pixels, the labels {changed.shape}; give dates on one grid")
    return confusion(found, changed, changed | unchanged)


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("changed", type=Path)
    parser.add_argument("unchanged", type=Path)
    parser.add_argument("--json", type=Path, help="file to write")
    arguments = parser.parse_args()
    changed, unchanged = labels(arguments.changed), labels(arguments.unchanged)
    scores = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in methods():
            out = Path(folder) / name
            run_map(arguments.before, arguments.after, out, ["--method", name])
            scores[name] = score(out, changed, unchanged).metrics()
            told = ", ".join(f"{key} {scores[name][key]:.4f}" for key in ("kappa", "f1", "precision", "recall", "oa"))
            print(f"{name:10} {told}", flush=True)
    if arguments.json:
        about = {"pair": [arguments.before.name, arguments.after.name], "labelled_px": int((changed | unchanged).sum())}
        arguments.json.write_text(json.dumps(about | {"methods": scores}, indent=1) + "\n")


if __name__ == "__main__":
    main()
