"""The records of a map's receipt, from what a run works with."""

import hashlib
import json
import math
import os
from pathlib import Path

from terradelta.card import ModelCard
from terradelta.errors import RasterError
from terradelta.files import sha256_of
from terradelta.geo.grid import Grid
from terradelta.geo.metres import ground_sampling_m
from terradelta.geo.shift import ShiftField
from terradelta.raster.preflight import Preflight
from terradelta.raster.remote import RemoteFile
from terradelta.raster.scaling import Scaling
from terradelta.raster.source import Source
from terradelta.receipt import finite
from terradelta.receipt.map_record import (
    BandRecord,
    FieldRecord,
    FileRecord,
    GridRecord,
    InputRecord,
    ModelRecord,
    PairedRecord,
    PlacementRecord,
    RegistrationRecord,
    ScalingRecord,
    ShiftRecord,
    ValuesRecord,
)
from terradelta.registration.align import Alignment
from terradelta.registration.blocks import LIMIT_PX, Registration

__all__ = [
    "field_record",
    "file_sha256",
    "grid_record",
    "input_record",
    "model_record",
    "paired_record",
    "registration_record",
    "scaling_record",
]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        RasterError: if the file cannot be read.
    """
    try:
        return sha256_of(path)
    except OSError as error:
        raise RasterError(f"{path} cannot be read ({error.strerror})") from error


def input_record(source: Source, placement: PlacementRecord) -> InputRecord:
    """What an input is, which version of it was read, and how it was put on the common grid.

    A local file has its SHA-256; a VRT has one over those of all files that it consists of, which are listed; a file
    behind a URL has what its server says (ETag, date, size).

    Raises:
        RasterError: if a file has vanished.
    """
    files = [
        FileRecord(path=each, sha256=file_sha256(Path(each)), bytes=os.path.getsize(each)) for each in source.files
    ]
    files += [_remote_record(remote) for remote in source.remotes]
    whole = files[0]
    if len(files) > 1:
        digest = hashlib.sha256(json.dumps([[each.sha256, each.etag, each.bytes] for each in files]).encode())
        whole = FileRecord(path=source.path, bytes=sum(each.bytes for each in files), sha256=digest.hexdigest())
    return InputRecord(
        path=source.path,
        bytes=whole.bytes,
        sha256=whole.sha256,
        etag=whole.etag,
        modified=whole.modified,
        driver=source.driver,
        grid=grid_record(source.grid),
        dtypes=tuple(band.dtype for band in source.bands),
        bands=tuple(band.label for band in source.bands),
        alpha_bands=source.alpha,
        nodata=tuple(v if v is None or math.isfinite(v) else str(v) for v in source.nodata),
        masks=source.masks,
        values=ValuesRecord(None if source.meaning is None else source.meaning.origin, source.conversion),
        placement=placement,
        files=tuple(files) if len(files) > 1 else None,
    )


def _remote_record(remote: RemoteFile) -> FileRecord:
    return FileRecord(path=remote.name, bytes=remote.size, etag=remote.etag or None, modified=remote.modified or None)


def grid_record(grid: Grid) -> GridRecord:
    """The grid, with the size of a pixel on the ground."""
    side, t = ground_sampling_m(grid), grid.transform
    crs = None if grid.crs is None else grid.crs.to_string()
    return GridRecord(crs, (t.a, t.b, t.c, t.d, t.e, t.f), grid.height, grid.width, None if side is None else side**2)


def paired_record(preflight: Preflight) -> PairedRecord:
    """What two dates have in common."""
    chosen = preflight.selection
    bands = BandRecord(chosen.names, chosen.before, chosen.after)
    return PairedRecord(bands, preflight.valid_fraction, preflight.sampled_px, preflight.warnings)


def scaling_record(scaling: Scaling) -> ScalingRecord:
    """The stretch of the values."""
    low, high = (tuple(map(finite, ends)) for ends in (scaling.low, scaling.high))
    return ScalingRecord(low, high, scaling.scale)


def model_record(card: ModelCard, runtime: str) -> ModelRecord:
    """The card, and what ran it."""
    return ModelRecord(**vars(card), summary=f"{card.network} on {', '.join(card.bands)}", runtime=runtime)


def field_record(field: ShiftField) -> FieldRecord:
    """A field of shifts by its nodes."""
    nodes = tuple(tuple(tuple(row) for row in axis) for axis in field.nodes.tolist())
    return FieldRecord(field.shape, nodes)


def registration_record(alignment: Alignment) -> RegistrationRecord:
    """How the dates lay on one another, and how they were mapped."""
    remaining = None if alignment.remaining is None else _shift_record(alignment.remaining)
    return RegistrationRecord(
        _shift_record(alignment.found), remaining is not None, remaining, alignment.refused or None
    )


def _shift_record(found: Registration) -> ShiftRecord:
    side, used, median = ground_sampling_m(found.grid), set(found.used), found.median_px
    return ShiftRecord(
        method="correlation of double-angle gradients in blocks",
        block_px=found.side_px,
        confident_share=found.confident_share,
        median_px=median,
        median_m=None if side is None or median is None else median * side,
        direction_px=found.direction_px,
        largest_px=found.largest_px,
        scatter_px=found.scatter_px,
        limit_px=LIMIT_PX,
        field=None if found.field is None else field_record(found.field),
        blocks=tuple(
            (round(b.row, 1), round(b.col, 1), round(b.down_px, 3), round(b.right_px, 3), i in used)
            for i, b in enumerate(found.blocks)
        ),
    )
