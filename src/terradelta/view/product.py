"""The product of a map, opened to be looked at; what is none says what to do."""

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
from rasterio.crs import CRS

import terradelta
from terradelta.errors import InputError
from terradelta.geo.grid import Grid
from terradelta.geo.metres import ground_sampling_m, lonlat_transformer
from terradelta.mapping.answer import answer_lines
from terradelta.mapping.journal import JOB
from terradelta.mapping.run import RECEIPT
from terradelta.mapping.staging import unfinished_rows
from terradelta.predict.load import INT8, shipped_models
from terradelta.products.change import ChangeRaster
from terradelta.products.writer import CHANGE, POLYGONS, PROBABILITY
from terradelta.receipt import MapReceipt, finite, plain, read_receipt
from terradelta.receipt.map_record import ModelRecord
from terradelta.view.tile_grid import SIDE, TileGrid, display_grid

__all__ = ["Product", "map_record", "open_product", "scene_record"]

_NEEDED = (RECEIPT, CHANGE)
_LATTICE = 17
"""Points along each side of the lattice of longitudes and latitudes."""
_WANTED = (PROBABILITY, POLYGONS)


@dataclass(frozen=True)
class Product:
    """A folder that `map` made."""

    folder: Path
    receipt: MapReceipt
    grid: Grid
    """Of the rasters; for images without a CRS, row r lies at y = -r."""
    tiles: TileGrid
    missing: tuple[str, ...]
    """Files that belong to a product and are not there."""


def open_product(folder: Path) -> Product:
    """Open a folder that `map` made.

    Raises:
        InputError: if it is none; the message says what it is, and what to do.
    """
    if not folder.is_dir():
        raise InputError(
            _unfinished(folder)
            or f"{folder} is no folder that is there; give one that `terradelta map BEFORE AFTER -o {folder}` made"
        )
    lacking = [name for name in _NEEDED if not (folder / name).is_file()]
    if lacking:
        raise InputError(_unfinished(folder) or _not_one(folder, lacking))
    receipt = read_receipt(MapReceipt, folder / RECEIPT)
    with ChangeRaster(folder / CHANGE) as change:
        grid = change.grid
    if grid.shape != (receipt.grid.height, receipt.grid.width):
        raise InputError(
            f"{folder / CHANGE} has {grid.height} x {grid.width} pixels, but the receipt beside it says "
            f"{receipt.grid.height} x {receipt.grid.width}: they are of different products; map the pair again"
        )
    missing = tuple(name for name in _WANTED if not (folder / name).is_file())
    return Product(folder.resolve(), receipt, grid, TileGrid(display_grid(grid)), missing)


def scene_record(product: Product) -> dict[str, Any]:
    """What a page needs to know of a product, as JSON-ready values; without what the map says."""
    shown, receipt = product.tiles.grid, product.receipt
    crs = shown.crs
    return {
        "name": product.folder.name,
        "out": str(product.folder),
        "created": receipt.created,
        "version": terradelta.__version__,
        "crs": None if crs is None else _crs_record(crs),
        "lonlat": _lattice(shown),
        "extent": list(shown.bounds),
        "height": shown.height,
        "width": shown.width,
        "transform": list(shown.transform)[:6],
        "grid": {
            "height": product.grid.height,
            "width": product.grid.width,
            "transform": list(product.grid.transform)[:6],
            "resampled": shown != product.grid,
        },
        "tile_size": SIDE,
        "resolutions": product.tiles.resolutions,
        "metres_per_pixel": ground_sampling_m(shown),
        "north_up": crs is not None,
        "complete": not product.missing,
        "missing": list(product.missing),
    }


def map_record(product: Product) -> dict[str, Any]:
    """What the map says, as JSON-ready values: the answer, the doubts, the model and its threshold."""
    receipt = product.receipt
    return {
        "threshold": receipt.options.threshold,
        "min_area": receipt.options.min_area_m2,
        "area_unit": "px" if receipt.result.unit == "px" else "m2",
        "answer": answer_lines(receipt),
        "doubts": [line.removeprefix("Warning: ") for line in receipt.preflight if line.startswith("Warning")],
        "preflight": [line for line in receipt.preflight if not line.startswith("Warning")],
        "model": {
            "name": receipt.model.name,
            "purpose": receipt.model.purpose(),
            "licence": receipt.model.licence,
            "weightless": receipt.model.weightless,
            "finds": receipt.model.finds,
            "trained_on": receipt.model.sizes,
        },
        "commands": {"teach": _teach(product), "weights": _weights_note(receipt.model)},
        "result": plain(receipt.result),
    }


def _teach(product: Product) -> str:
    """The command that fits the map's model further on its verdicts, into a run named for how often that was done."""
    model = product.receipt.model
    earlier = re.fullmatch(r"taught(\d*)", model.name)
    run = "taught" if earlier is None else f"taught{int(earlier[1] or 1) + 1}"
    return shlex.join(["terradelta", "train", "--from", _weights(model), "--review", str(product.folder), "-o", run])


def _weights(model: ModelRecord) -> str:
    """What `train --from` takes for the weights of a map."""
    if model.weightless:
        return "default"
    if model.origin is not None:
        source, revision = model.origin.get("source", ""), model.origin.get("revision")
        return f"{source.partition('@')[0]}@{revision}" if revision else source
    shipped = model.name.removesuffix(INT8)
    return shipped if shipped in shipped_models() else model.name


def _weights_note(model: ModelRecord) -> str | None:
    """What to replace in the command; None if it is whole: a card has the name of a model, not where it lies."""
    if model.weightless or model.origin is not None or _weights(model) in shipped_models():
        return None
    return f"For {model.name} give the training run, checkpoint or .safetensors with which the pair was mapped."


def _crs_record(crs: CRS) -> dict[str, Any]:
    known = pyproj.CRS.from_wkt(crs.to_wkt())
    unit = "degree" if crs.is_geographic else str(crs.linear_units)
    return {
        "wkt": crs.to_wkt(),
        "name": known.name,
        "epsg": crs.to_epsg(),
        "proj4": crs.to_proj4().replace("=True", "") or None,
        "unit": unit,
    }


def _lattice(grid: Grid) -> dict[str, Any] | None:
    """Longitudes and latitudes, degrees on WGS 84, of points that lie evenly over the extent, row by row from the top.

    None without a CRS; single points are None where the CRS has no place on the earth.
    """
    to_lonlat = None if grid.crs is None else lonlat_transformer(grid.crs)
    if to_lonlat is None:
        return None
    x_min, y_min, x_max, y_max = grid.bounds
    x, y = np.meshgrid(np.linspace(x_min, x_max, _LATTICE), np.linspace(y_max, y_min, _LATTICE))
    lon, lat = ([finite(round(v, 9)) for v in values.ravel().tolist()] for values in to_lonlat.transform(x, y))
    return {"rows": _LATTICE, "cols": _LATTICE, "lon": lon, "lat": lat}


def _not_one(folder: Path, lacking: list[str]) -> str:
    below = sorted(path.parent.name for path in folder.glob(f"*/{RECEIPT}"))
    if below:
        shown = ", ".join(below[:3]) + (", ..." if len(below) > 3 else "")
        return f"{folder} holds {len(below)} products of a batch ({shown}); give one of them: {folder / below[0]}"
    what = "is empty" if not any(folder.iterdir()) else f"lacks {' and '.join(lacking)}"
    return f"{folder} is no product of `terradelta map`: it {what}. Give a folder that was made by it"


def _unfinished(out: Path) -> str | None:
    """What to say of a run that was to make a folder and has not ended."""
    rows = unfinished_rows(out)
    if rows is None:
        return None
    try:
        inputs = json.loads((rows / JOB).read_bytes())["inputs"]
        before, after = (shlex.quote(str(each[0])) for each in inputs)
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        before, after = "BEFORE", "AFTER"
    return (
        f"the run that makes {out} is not finished. If it is not running any more, the same command goes on where it "
        f"ended: terradelta map {before} {after} -o {shlex.quote(str(out))}, with the options that it had"
    )
