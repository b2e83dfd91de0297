"""The product of a map, opened to be looked at; what is none says what to do."""

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from terradelta.errors import InputError
from terradelta.geo.grid import Grid
from terradelta.geo.metres import ground_sampling_m
from terradelta.mapping.answer import answer_lines
from terradelta.mapping.journal import JOB
from terradelta.mapping.run import RECEIPT
from terradelta.mapping.staging import unfinished_rows
from terradelta.products.change import ChangeRaster
from terradelta.products.writer import CHANGE, POLYGONS, PROBABILITY
from terradelta.receipt import MapReceipt, plain, read_receipt
from terradelta.view.tile_grid import SIDE, TileGrid, display_grid

__all__ = ["Product", "map_record", "open_product", "scene_record"]

_NEEDED = (RECEIPT, CHANGE)
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
        "created": receipt.created,
        "crs": None
        if crs is None
        else {"wkt": crs.to_wkt(), "epsg": crs.to_epsg(), "proj4": crs.to_proj4() or None, "unit": _unit(shown)},
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
        },
        "result": plain(receipt.result),
    }


def _unit(grid: Grid) -> str:
    assert grid.crs is not None
    return "degree" if grid.crs.is_geographic else str(grid.crs.linear_units)


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
