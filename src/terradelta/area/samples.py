"""Samples of a change map: drawn at random within each class, labelled by a person, read again."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from pyproj.exceptions import CRSError, ProjError

from terradelta.area.zonal import PixelAreas, read_layer
from terradelta.errors import InputError
from terradelta.files import whole_file
from terradelta.geo.grid import Grid, Tile
from terradelta.products.change import CLASSES, NO_DATA, ChangeRaster
from terradelta.products.gpkg import write_layer

__all__ = ["Samples", "draw_samples", "read_samples", "write_samples"]

LABELS = {
    **dict.fromkeys(("0", "unchanged", "no", "false", "n"), 0),
    **dict.fromkeys(("1", "changed", "change", "yes", "true", "y", "255"), 1),
}
"""Words and numbers that a label may be."""
LAYER = "samples"


@dataclass(frozen=True, eq=False)
class Samples:
    """Labelled points on a map."""

    rows: NDArray[np.int64]
    """``(N,)`` pixels of the map."""
    cols: NDArray[np.int64]
    labels: NDArray[np.int64]
    """``(N,)`` what was there in truth: 0 unchanged, 1 changed."""
    mapped: NDArray[np.int64]
    """``(N,)`` class of the map there."""
    notes: tuple[str, ...] = ()
    """Sentences about points that were left out."""

    def counts(self, inside: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
        """``(2, 2)`` samples by class of the map and of the truth; of those ``inside`` only, if given."""
        chosen = np.ones(len(self.rows), bool) if inside is None else inside
        both = 2 * self.mapped[chosen] + self.labels[chosen]
        return np.bincount(both, minlength=4).reshape(2, 2)


def draw_samples(change: ChangeRaster, counts: Sequence[int], seed: int) -> NDArray[np.int64]:
    """Pixels at random, within each class with equal probability by area, in random order.

    The draw is the same for the same map, counts and seed. The map is read twice; memory is that of a tile.

    Args:
        change: the map.
        counts: how many pixels of each class.
        seed: of the draw.

    Returns:
        ``(N, 2)`` rows and columns; no pixel twice.

    Raises:
        InputError: if a class has fewer pixels than are to be drawn.
    """
    areas, tiles = PixelAreas(change.grid), list(change.tiles())
    sums = np.zeros((len(tiles), len(CLASSES)))
    pixels = np.zeros((len(tiles), len(CLASSES)), np.int64)
    for i, tile in enumerate(tiles):
        values, weights = change.read(tile), np.nan_to_num(areas.on(tile))
        for number in range(len(CLASSES)):
            sums[i, number], pixels[i, number] = weights[values == number].sum(), (values == number).sum()
    rng = np.random.default_rng(seed)
    drawn: list[NDArray[np.int64]] = []
    for number, count in enumerate(counts):
        if count > pixels[:, number].sum():
            have = int(pixels[:, number].sum())
            raise InputError(f"{count} samples are to be drawn among {have} {CLASSES[number]} pixels; draw fewer")
        shares = _dealt(rng, sums[:, number], pixels[:, number], count)
        drawn += [_pick(rng, change, areas, tiles[i], number, int(shares[i])) for i in np.flatnonzero(shares)]
    found = np.concatenate(drawn) if drawn else np.empty((0, 2), np.int64)
    return np.asarray(rng.permutation(found))


def write_samples(path: Path, places: NDArray[np.int64], grid: Grid) -> None:
    """Write points to be labelled: ``id`` and an empty ``label``; the map's class is not told, so as not to sway.

    Args:
        path: ``.gpkg`` (layer ``samples``, in the map's CRS) or ``.csv`` (``id,x,y,label`` in the map's coordinates).
        places: ``(N, 2)`` rows and columns.
        grid: of the map.

    Raises:
        InputError: if the name ends otherwise.
        OutputError: if the file cannot be written.
    """
    a, b, c, d, e, f, *_ = grid.transform
    rows, cols = (places + 0.5).T
    x, y = a * cols + b * rows + c, d * cols + e * rows + f
    ids = np.arange(1, len(places) + 1)
    if path.suffix.lower() not in (".gpkg", ".csv"):
        raise InputError(f"{path}: samples are written as .gpkg or .csv; give such a name")
    with whole_file(path, failures=(RuntimeError,), keep_suffix=True, make_folder=True) as temporary:
        if path.suffix.lower() == ".csv":
            with temporary.open("w", newline="") as stream:
                csv.writer(stream, lineterminator="\n").writerows(
                    [
                        ["id", "x", "y", "label"],
                        *([i, px, py, ""] for i, px, py in zip(ids, x.tolist(), y.tolist(), strict=True)),
                    ]
                )
        else:
            _write_gpkg(temporary, x, y, ids, grid)


def read_samples(path: Path, change: ChangeRaster) -> Samples:
    """Read labelled points and what the map says there.

    Points without a label, off the map, or where the map has no data are left out, and `Samples.notes` says so.

    Args:
        path: a vector file of points in any CRS with a field ``label``; or a CSV with ``label`` and either ``lon`` and
            ``lat`` in degrees or ``x`` and ``y`` in the map's coordinates. Labels are 0 or 1, or such words as
            ``unchanged`` and ``changed``.
        change: the map.

    Raises:
        InputError: if the file cannot be read, a column lacks, a label is unknown, or no point is left.
    """
    x, y, labels = _read_csv(path, change.grid) if path.suffix.lower() == ".csv" else _read_vector(path, change.grid)
    codes = np.array([_code(label, path) for label in labels], np.int64)
    t = ~change.grid.transform
    with np.errstate(invalid="ignore"):
        cols, rows = np.floor(t.a * x + t.b * y + t.c), np.floor(t.d * x + t.e * y + t.f)
        on = (rows >= 0) & (rows < change.grid.height) & (cols >= 0) & (cols < change.grid.width)
    rows, cols = np.where(on, rows, 0).astype(np.int64), np.where(on, cols, 0).astype(np.int64)
    mapped = np.array([change.read(Tile(r, c, 1, 1))[0, 0] for r, c in zip(rows.tolist(), cols.tolist(), strict=True)])
    dropped = {
        "have no label": codes < 0,
        "lie off the map": (codes >= 0) & ~on,
        "lie where the map has no data": (codes >= 0) & on & (mapped == NO_DATA),
    }
    kept = ~np.logical_or.reduce(list(dropped.values()))
    notes = [f"{out.sum()} of {len(codes)} samples {why} and are left out" for why, out in dropped.items() if out.any()]
    if not kept.any():
        raise InputError(
            f"{path} holds no labelled sample on the map ({'; '.join(notes) or 'it is empty'}); label some"
        )
    return Samples(rows[kept], cols[kept], codes[kept], mapped[kept].astype(np.int64), tuple(notes))


def _dealt(
    rng: np.random.Generator, sums: NDArray[np.float64], pixels: NDArray[np.int64], count: int
) -> NDArray[np.int64]:
    """How many samples each tile gets: at random by area, never more than it has pixels."""
    shares = np.zeros(len(sums), np.int64)
    while shares.sum() < count:
        room = np.where(shares < pixels, sums, 0.0)
        shares = np.minimum(shares + rng.multinomial(count - shares.sum(), room / room.sum()), pixels)
    return shares


def _pick(
    rng: np.random.Generator, change: ChangeRaster, areas: PixelAreas, tile: Tile, number: int, count: int
) -> NDArray[np.int64]:
    inside = np.flatnonzero(change.read(tile).ravel() == number)
    weights = np.nan_to_num(areas.on(tile)).ravel()[inside]
    chosen = rng.choice(inside, count, replace=False, p=weights / weights.sum())
    return np.column_stack([tile.row + chosen // tile.width, tile.col + chosen % tile.width])


def _write_gpkg(path: Path, x: Any, y: Any, ids: NDArray[np.int64], grid: Grid) -> None:  # noqa: ANN401  arrays
    columns: dict[str, NDArray[Any]] = {"id": ids, "label": np.zeros(len(ids), np.int32)}
    crs = None if grid.crs is None else grid.crs.to_wkt()
    write_layer(path, LAYER, "Point", shapely.points(x, y), columns, crs, field_mask=[None, np.ones(len(ids), bool)])


def _read_csv(path: Path, grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64], list[Any]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = [{str(k).strip().lower(): v for k, v in row.items()} for row in csv.DictReader(stream)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a CSV file ({error})") from error
    columns = set(rows[0]) if rows else set()
    names = next((pair for pair in (("lon", "lat"), ("x", "y")) if columns >= {*pair, "label"}), None)
    if names is None:
        given = ", ".join(sorted(columns)) or "(none)"
        raise InputError(f"{path} has the columns {given}; it needs label, and lon and lat or x and y")
    try:
        x, y = (np.array([float(row[name]) for row in rows]) for name in names)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: {names[0]} and {names[1]} must be numbers ({error})") from error
    labels: list[Any] = [row["label"] for row in rows]
    return (*(_moved(x, y, "EPSG:4326", grid, path) if names[0] == "lon" else (x, y)), labels)


def _read_vector(path: Path, grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64], list[Any]]:
    meta, shapes, fields = read_layer(path, "points", "a GeoPackage or a CSV file")
    columns: Mapping[str, Any] = {str(n).lower(): v for n, v in zip(meta["fields"], fields, strict=True)}
    if "label" not in columns or shapes is None:
        raise InputError(f"{path} has the fields {', '.join(columns) or '(none)'}; it needs points with a field label")
    points = shapely.from_wkb(shapes)
    if any(point is None or point.geom_type != "Point" for point in points):
        raise InputError(f"{path} holds other things than points; give one point a sample")
    x, y = shapely.get_x(points), shapely.get_y(points)
    labels = list(columns["label"])
    return (*(_moved(x, y, meta["crs"], grid, path) if meta["crs"] and grid.crs is not None else (x, y)), labels)


def _moved(
    x: NDArray[np.float64], y: NDArray[np.float64], crs: str, grid: Grid, path: Path
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates in the CRS of the grid."""
    if grid.crs is None:
        raise InputError(f"{path} holds longitudes and latitudes, but the map has no CRS; give x and y in pixels")
    try:
        x, y = pyproj.Transformer.from_crs(crs, grid.crs.to_wkt(), always_xy=True).transform(x, y)
    except (CRSError, ProjError) as error:
        raise InputError(f"{path}: its CRS {crs} cannot be brought to the map's ({error})") from error
    return np.asarray(x), np.asarray(y)


def _code(label: Any, path: Path) -> int:  # noqa: ANN401  from a file
    """0, 1, or -1 for none."""
    if label is None or (isinstance(label, float) and np.isnan(label)):
        return -1
    text = str(label).strip().lower().removesuffix(".0")
    if not text:
        return -1
    if text not in LABELS:
        raise InputError(f"{path}: the label {label!r} is unknown; use 0 or unchanged, 1 or changed")
    return LABELS[text]
