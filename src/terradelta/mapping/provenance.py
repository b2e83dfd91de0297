"""The receipt of a change map: everything needed to trust it, or to make it again."""

import dataclasses
import datetime
import hashlib
import json
import math
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import terradelta
from terradelta.card import ModelCard
from terradelta.errors import RasterError
from terradelta.files import write_whole
from terradelta.geo.grid import Grid
from terradelta.geo.metres import ground_sampling_m
from terradelta.raster.source import Source

__all__ = [
    "file_sha256",
    "grid_record",
    "input_record",
    "model_record",
    "newest",
    "now",
    "resolution_warnings",
    "write_receipt",
]

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


def input_record(source: Source) -> dict[str, Any]:
    """An input's identity, as JSON-ready values.

    A local file has its SHA-256; a VRT has one over those of all files that it consists of, which are listed; a file
    behind a URL has what its server says (ETag, date, size).

    Raises:
        RasterError: if a file has vanished.
    """
    parts: list[dict[str, Any]] = [
        {"path": file, "sha256": file_sha256(Path(file)), "bytes": _stat(file)[1]} for file in source.files
    ]
    parts += [remote.to_dict() for remote in source.remotes]
    if len(parts) == 1:
        return {**parts[0], "path": source.path}
    digest = hashlib.sha256(json.dumps([[p.get("sha256"), p.get("etag"), p["bytes"]] for p in parts]).encode())
    size = sum(part["bytes"] for part in parts)
    return {"path": source.path, "sha256": digest.hexdigest(), "bytes": size, "files": parts}


def newest(sources: Sequence[Source]) -> datetime.datetime:
    """When the newest file of some inputs was last changed; 1970 where no server says."""
    local = [_stat(file)[2] / 1e9 for source in sources for file in source.files]
    remote = [each.modified_s for source in sources for each in source.remotes]
    return datetime.datetime.fromtimestamp(max([0.0, *local, *[s for s in remote if s is not None]]), datetime.UTC)


def _stat(file: str) -> tuple[str, int, int]:
    """Path, bytes, and time of the last change in nanoseconds."""
    try:
        found = os.stat(file)
    except OSError as error:
        raise RasterError(f"{file} was there when the run began, but is no more ({error.strerror})") from error
    return file, found.st_size, found.st_mtime_ns


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
    write_whole(path, json.dumps(_finite(receipt), indent=2, allow_nan=False, default=float) + "\n")


def _finite(value: Any) -> Any:  # noqa: ANN401  any JSON value
    """The value with None in place of NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {name: _finite(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
