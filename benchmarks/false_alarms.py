"""How often a method without weights finds change where there is none: one date against itself, disturbed.

    python benchmarks/false_alarms.py FOLDER... -o docs/receipts/false_alarms.csv

Each FOLDER holds images of one kind. Windows of 128 x 128 pixels without nodata are taken from its images, spread
evenly over them; each is paired with itself under each disturbance (those of ``terradelta evaluate --robustness``) and
sensor noise of 1 % on both. Written, for each folder and for all: how many windows there were, in how many of them the
method says that something changed, that share with its 95 % interval (Wilson, Probable inference, J. Am. Stat. Assoc.
22(158), 1927), and the mean share of pixels that it marks. Windows of one image are not independent places; the
interval says what chance alone would do if they were.
"""

import argparse
import csv
import math
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
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
UNITS = {kind.name: kind.unit for kind in KINDS}
COLUMNS = ("images", "disturbance", "level", "method", "windows", "alarms", "rate", "low", "high", "marked")


def windows(folder: Path, most: int) -> list[tuple[str, np.ndarray]]:
    """Name and ``(C, 128, 128)`` values of whole windows without nodata, spread evenly over the images of a folder."""
    found = []
    for path in sorted(each for each in folder.iterdir() if each.suffix in (".tif", ".png", ".jpg")):
        with rasterio.open(path) as source:
            if source.count < 3:
                continue
            valid = source.dataset_mask() > 0
        for row, col in np.ndindex(valid.shape[0] // SIDE, valid.shape[1] // SIDE):
            if valid[row * SIDE : (row + 1) * SIDE, col * SIDE : (col + 1) * SIDE].all():
                found.append((path, row, col))
    chosen = [found[(2 * k + 1) * len(found) // (2 * most)] for k in range(most)] if len(found) > most else found
    return [(f"{path.stem} {row} {col}", _read(path, row, col)) for path, row, col in chosen]


def _read(path: Path, row: int, col: int) -> np.ndarray:
    with rasterio.open(path) as source:
        values: np.ndarray = source.read(window=((row * SIDE, (row + 1) * SIDE), (col * SIDE, (col + 1) * SIDE)))
    return values


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


def marks(values: np.ndarray, key: str) -> Iterator[tuple[str, float, str, float]]:
    """Disturbance, level, method and the share of pixels that it marks, for one window."""
    kinds = {kind.name: kind for kind in KINDS}
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("a.tif", "b.tif")]
        for name, level in ((name, level) for name, levels in LEVELS.items() for level in levels):
            for path, date in zip(paths, disturbed(kinds[name], level, values, key), strict=True):
                write(path, date)
            with open_pair(*paths) as pair:
                whole = pair.read(Tile(0, 0, SIDE, SIDE))
                for method in methods():
                    fitted = load_method(method).fit(pair)
                    changed = fitted.predict(whole.before[None], whole.after[None]) >= 0.5
                    yield name, level, method, float(changed.mean()) if fitted.stands_out else 0.0


def wilson(hits: int, of: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of a share."""
    share, square = hits / of, z * z / of
    middle, half = share + square / 2, z * math.sqrt(share * (1 - share) / of + square / of / 4)
    return max(0.0, (middle - half) / (1 + square)), min(1.0, (middle + half) / (1 + square))


def table(shares: dict[tuple[str, str, float, str], list[float]]) -> list[dict[str, object]]:
    """A row for each folder, disturbance and method, and those of all folders together."""
    together: dict[tuple[str, str, float, str], list[float]] = defaultdict(list)
    for (_, disturbance, level, method), values in shares.items():
        together["all", disturbance, level, method] += values
    rows = []
    for key, values in {**shares, **together}.items():
        alarms = sum(share > 0 for share in values)
        low, high = wilson(alarms, len(values))
        numbers = (len(values), alarms, *(f"{x:.4f}" for x in (alarms / len(values), low, high, np.mean(values))))
        rows.append(dict(zip(COLUMNS, (*key, *numbers), strict=True)))
    return rows


def markdown(rows: Iterable[Mapping[str, object]]) -> list[str]:
    """The rows of all folders together as a table of docs/evaluation.md: a share, its interval, in percent."""
    cells: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        if row["images"] == "all":
            rate, low, high = (100 * float(str(row[name])) for name in ("rate", "low", "high"))
            label = f"{row['disturbance']} {float(str(row['level'])):g} {UNITS[str(row['disturbance'])]}".strip()
            cells[label].append(f"{rate:.0f} ({low:.0f} to {high:.0f})")
    return [f"| {' | '.join([label, *found])} |" for label, found in cells.items()]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--windows", type=int, default=10, help="at most so many of each folder")
    parser.add_argument("-o", "--out", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    shares: dict[tuple[str, str, float, str], list[float]] = defaultdict(list)
    for folder in arguments.folders:
        for key, values in windows(folder, arguments.windows):
            for *found, share in marks(values, key):
                shares[folder.name, *found].append(share)
            print(folder.name, key, flush=True)
            if arguments.out:
                with arguments.out.open("w", newline="") as target:
                    writer = csv.DictWriter(target, COLUMNS, lineterminator="\n")
                    writer.writeheader()
                    writer.writerows(table(shares))
    print(*markdown(table(shares)), sep="\n")


if __name__ == "__main__":
    main()
