"""How often a method without weights finds change where there is none: one date against itself, disturbed.

    python benchmarks/false_alarms.py GEO_PAIRS -o docs/receipts/false_alarms.json

GEO_PAIRS is a folder of georeferenced pairs. Every image in it is cut into windows of 128 x 128 pixels; each is paired
with itself under each disturbance (those of ``terradelta evaluate --robustness``) and sensor noise of 1 % on both.
Printed and written: the share of windows in which the method says that something changed, and the mean share of pixels
that it then marks.
"""

import argparse
import json
import tempfile
import warnings
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

from terradelta.card import ModelCard
from terradelta.geo.grid import Tile
from terradelta.lab.evaluation.perturbations import KINDS, Kind, disturb
from terradelta.predict.classical import load_method, methods
from terradelta.raster.pair import open_pair

SIDE = 128
NOISE = next(kind for kind in KINDS if kind.name == "noise")
LEVELS = {"noise": (1, 4), "brightness": (1.25,), "contrast": (0.75,), "haze": (25,), "colour cast": (20,)}
LEVELS |= {"misregistration": (0.5, 1), "blur": (1,), "jpeg": (70, 30)}


def windows(folder: Path) -> list[tuple[str, np.ndarray]]:
    """Name and ``(C, 128, 128)`` values of every whole window without nodata."""
    found = []
    for path in sorted(folder.glob("*/*.tif")):
        with rasterio.open(path) as source:
            if source.count < 3:
                continue
            values, valid = source.read(), source.dataset_mask() > 0
        for row, col in np.ndindex(values.shape[1] // SIDE, values.shape[2] // SIDE):
            cut = np.s_[row * SIDE : (row + 1) * SIDE, col * SIDE : (col + 1) * SIDE]
            if valid[cut].all():
                found.append((f"{path.stem} {row} {col}", values[:, *cut]))
    return found


def write(path: Path, values: np.ndarray) -> Path:
    """A georeferenced image of the values."""
    place = {"crs": "EPSG:32614", "transform": Affine(10, 0, 500000, 0, -10, 4500000)}
    with rasterio.open(path, "w", "GTiff", SIDE, SIDE, len(values), dtype=values.dtype.name, **place) as target:
        target.write(values)
    return path


def disturbed(kind: Kind, level: float, values: np.ndarray, key: str) -> tuple[np.ndarray, np.ndarray]:
    """The values twice, disturbed, with noise of 1 % of full scale of its own on each."""
    bands = tuple(f"band {k}" for k in range(1, len(values) + 1))
    card = ModelCard("none", "none", bands, (0.0,) * len(bands), (1.0,) * len(bands))
    dates = values, values
    for each, strength in ((kind, level), (NOISE, 1)):
        dates = disturb(each, strength, *dates, card, key=key)
    return dates


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--every", type=int, default=1, help="take one window of so many")
    parser.add_argument("-o", "--out", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    kinds = {kind.name: kind for kind in KINDS}
    chosen = windows(arguments.folder)[:: arguments.every]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("a.tif", "b.tif")]
        for name, level in ((name, level) for name, levels in LEVELS.items() for level in levels):
            counts: dict[str, list[float]] = {method: [] for method in methods()}
            for key, values in chosen:
                dates = disturbed(kinds[name], level, values, key)
                for path, date in zip(paths, dates, strict=True):
                    write(path, date)
                with open_pair(*paths) as pair:
                    whole = pair.read(Tile(0, 0, SIDE, SIDE))
                    for method, shares in counts.items():
                        fitted = load_method(method).fit(pair)
                        marked = fitted.predict(whole.before[None], whole.after[None]) >= 0.5
                        shares.append(float(marked.mean()) if fitted.stands_out else 0.0)
            alarms = {method: float(np.mean([share > 0 for share in shares])) for method, shares in counts.items()}
            marked_px = {method: round(float(np.mean(shares)), 5) for method, shares in counts.items()}
            rows.append({"disturbance": name, "level": level, "false_alarms": alarms, "marked": marked_px})
            print(rows[-1], flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps({"windows": len(chosen), "side_px": SIDE, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
