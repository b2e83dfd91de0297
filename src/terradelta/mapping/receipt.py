"""The receipt of a change map: everything needed to trust it, or to make it again."""

import dataclasses
import datetime
import hashlib
import json
import math
import platform
from pathlib import Path
from typing import Any

import terradelta
from terradelta.card import ModelCard
from terradelta.errors import OutputError, RasterError
from terradelta.geo.grid import Grid
from terradelta.geo.ground import ground_sampling_m

__all__ = ["file_sha256", "grid_record", "model_record", "now", "resolution_warnings", "write_receipt"]

RESOLUTION_SLACK = 1.5


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        RasterError: if the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise RasterError(f"{path} cannot be read ({error.strerror})") from error


def now() -> str:
    """The present time, UTC, to the second, ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def grid_record(grid: Grid) -> dict[str, Any]:
    """The grid as JSON-ready values; the transform's six numbers are in rasterio's order."""
    side = ground_sampling_m(grid)
    return {
        "crs": None if grid.crs is None else grid.crs.to_string(),
        "transform": list(grid.transform)[:6],
        "height": grid.height,
        "width": grid.width,
        "pixel_area_m2": None if side is None else side**2,
    }


def model_record(card: ModelCard, runtime: str) -> dict[str, Any]:
    """The card, and what ran it."""
    return {**dataclasses.asdict(card), "summary": f"{card.network} on {', '.join(card.bands)}", "runtime": runtime}


def resolution_warnings(card: ModelCard, grid: Grid) -> list[str]:
    """A sentence if the pixels are much larger or smaller than those that the model was trained on."""
    side = ground_sampling_m(grid)
    if side is None or card.gsd_m is None:
        return []
    low, high = card.gsd_m
    if low / RESOLUTION_SLACK <= side <= high * RESOLUTION_SLACK:
        return []
    return [
        f"Warning: the pixels are {side:.3g} m wide, but the model was trained on {low:g} to {high:g} m. "
        "Its result here is untested: look at it before you use it."
    ]


def write_receipt(receipt: dict[str, Any], path: Path) -> None:
    """Write the receipt as indented JSON; numbers that are not finite (areas that PROJ cannot measure) become null.

    Raises:
        OutputError: if it cannot be written.
    """
    receipt = {"version": terradelta.__version__, "python": platform.python_version(), **receipt}
    try:
        path.write_text(json.dumps(_finite(receipt), indent=2, allow_nan=False, default=float) + "\n")
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror})") from error


def _finite(value: Any) -> Any:  # noqa: ANN401  any JSON value
    """The value with None in place of NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {name: _finite(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
