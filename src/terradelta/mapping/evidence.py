"""What both images show inside each polygon: attributes that help to judge a change.

The networks here are trained to find change, not its direction, so none is claimed. What is measured instead, for each
polygon: the mean of every band before and after; NDVI; how strong an edge its outline is on each date (a new building
has an outline after, and none before); and whether the shift between the dates alone could explain it.

The shift explains a polygon if both hold: it is nowhere wider than the local shift, twice the scatter of single blocks
and the one pixel that rasters round up; and reading the second date where the shift puts it takes away at least half of
the difference inside. The first alone would flag every thin road, the second every object that moved.

The map is read in tiles with change in them; memory is that of a tile and of the polygons not yet ended.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio.features
import shapely
from affine import Affine
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import ndimage

from terradelta.errors import OutputError
from terradelta.geo.gradients import gaussian_gradients
from terradelta.geo.grid import Grid, Tile
from terradelta.mapping.evidence_style import STYLE
from terradelta.products.change import ChangeRaster
from terradelta.products.gpkg import LAYER
from terradelta.products.writer import CHANGE, POLYGONS
from terradelta.raster.pair import Pair
from terradelta.registration.blocks import Registration

__all__ = ["add_evidence"]

Array = NDArray[np.float64]
Places = tuple[NDArray[np.intp], NDArray[np.intp]]

_MARGIN_PX = 16
_MOST_BANDS = 16
_LEAST_SHIFT_PX = 0.25
_EXPLAINED = 0.5
_EDGE_RATIO = 1.5
_SIGMA_PX = 1.0
_THIN, _ENOUGH_PX = 8, 1000
_OUTLINE_PX = 5  # a network's outline is off by some pixels: the strongest gradient of 5 x 5 pixels counts
_RED, _NIR = ("red",), ("nir", "nir08")
_LARGEST = 1e100
_ENVELOPES = {0: 0, 1: 32, 2: 48, 3: 48, 4: 64}
_EXTRA = 7  # pixels, outline pixels, edges before and after, difference as read and shifted, shift


@dataclass
class _Sums:
    """What is known so far of a polygon."""

    shape: shapely.Polygon
    """In pixels, (col, row)."""
    values: Array
    """Sums of the bands before, those after, and `_EXTRA` others."""


def add_evidence(pair: Pair, folder: Path, registration: Registration) -> dict[str, Any]:
    """Add fields to the polygons of a finished product, and let its style show them.

    Fields: ``before_BAND`` and ``after_BAND`` (means of the raw values; the first 16 bands), ``ndvi_before`` and
    ``ndvi_after`` (of mean reflectance, where that, red and near infrared are known),
    ``edge_before`` and ``edge_after`` (gradient along the
    outline, in median gradients of the surroundings), ``outline_in`` (``after``, ``before`` or ``both``: where that is
    at least 1.5 times as strong) and ``shift_explains`` (1, 0; null where the shift is not known).

    Args:
        pair: as it was mapped.
        folder: of the product; ``change.tif`` and ``change.gpkg`` are in it.
        registration: the shift between the dates of ``pair`` as it is read.

    Returns:
        Numbers and areas of polygons by ``outline_in``, and of those that the shift explains, for the receipt.

    Raises:
        RasterError: if a file cannot be read.
        OutputError: if the GeoPackage cannot be changed.
    """
    fields = _Fields(pair, registration)
    path = folder / POLYGONS
    try:
        with contextlib.closing(sqlite3.connect(path)) as database, database, ChangeRaster(folder / CHANGE) as change:
            for name in ("ST_IsEmpty", "ST_MinX", "ST_MaxX", "ST_MinY", "ST_MaxY"):  # named by GDAL's triggers
                database.create_function(name, 1, lambda _: 0)
            for name, kind in fields.columns.items():
                database.execute(f'ALTER TABLE "{LAYER}" ADD COLUMN "{name}" {kind}')
            database.execute("UPDATE layer_styles SET styleQML = ?", (STYLE,))
            assigned = ", ".join(f'"{name}" = ?' for name in fields.columns)
            for number, sums in _measured(pair, change, database, registration):
                database.execute(f'UPDATE "{LAYER}" SET {assigned} WHERE "fid" = ?', (*fields.of(sums), number))
            return _summary(database, registration.field is not None)
    except (OSError, sqlite3.Error) as error:
        raise OutputError(f"{path} cannot be changed ({error}); make room, or write elsewhere") from error


class _Fields:
    """Names of the fields, and their values from sums."""

    def __init__(self, pair: Pair, registration: Registration) -> None:
        names = _field_names(pair.bands[:_MOST_BANDS])
        self._bands, self._registration = len(names), registration
        self._reflectance, known = pair.reflectance, pair.spectral[:_MOST_BANDS]
        known = known if self._reflectance is not None else ()
        self._red = next((known.index(name) for name in _RED if name in known), None)
        self._nir = next((known.index(name) for name in _NIR if name in known), None)
        numbers = [f"{date}_{name}" for date in ("before", "after") for name in names]
        numbers += ["ndvi_before", "ndvi_after"] if self._red is not None and self._nir is not None else []
        self.columns = dict.fromkeys([*numbers, "edge_before", "edge_after"], "REAL")
        self.columns |= {"outline_in": "TEXT", "shift_explains": "BOOLEAN"}

    def of(self, sums: _Sums) -> list[Any]:
        """Values in the order of the columns."""
        n = self._bands
        pixels, outline, edge_before, edge_after, *_ = sums.values[2 * n :].tolist()
        means = sums.values[: 2 * n] / pixels
        found: list[Any] = [None if not np.isfinite(value) else value for value in means.tolist()]
        if self._red is not None and self._nir is not None and self._reflectance is not None:
            for part, (gains, offsets) in zip((means[:n], means[n:]), self._reflectance, strict=True):
                mean = part * gains[:n] + offsets[:n]
                found.append(_ndvi(mean[self._red], mean[self._nir]))
        edges = [edge_before / outline if outline else None, edge_after / outline if outline else None]
        return [*found, *edges, _outline_in(*edges), self._explained(sums)]

    def _explained(self, sums: _Sums) -> int | None:
        if self._registration.field is None:
            return None
        pixels, *_, plain, shifted, shift = sums.values[2 * self._bands :].tolist()
        length = shift / pixels
        if length < _LEAST_SHIFT_PX or shifted > _EXPLAINED * plain:
            return 0
        limit = length + 2 * (self._registration.scatter_px or 0.0) + 1
        return int(sums.shape.buffer(-limit / 2).is_empty)


def _measured(
    pair: Pair, change: ChangeRaster, database: sqlite3.Connection, registration: Registration
) -> Iterator[tuple[int, _Sums]]:
    """(fid, sums) of every polygon, once no further row of tiles can add to it."""
    opened: dict[int, _Sums] = {}
    for tile in change.tiles():
        if tile.col == 0:
            yield from _ended(opened, tile.row)
        mask = change.read(tile) == 1
        if mask.any():
            _add(opened, pair, _polygons(database, change.grid, tile), tile, mask, registration)
    yield from _ended(opened, change.grid.height)


def _ended(opened: dict[int, _Sums], row: int) -> Iterator[tuple[int, _Sums]]:
    for number in sorted(number for number, sums in opened.items() if sums.shape.bounds[3] <= row + 0.5):
        yield number, opened.pop(number)


def _polygons(database: sqlite3.Connection, grid: Grid, tile: Tile) -> dict[int, shapely.Polygon]:
    """Polygons that touch a tile, by fid, in pixels (col, row)."""
    left, low, right, high = grid.crop(tile).bounds
    rows = database.execute(
        f'SELECT "fid", "geom" FROM "{LAYER}" WHERE "fid" IN (SELECT "id" FROM "rtree_{LAYER}_geom" '
        'WHERE "maxx" >= ? AND "minx" <= ? AND "maxy" >= ? AND "miny" <= ?)',
        (left, right, low, high),
    ).fetchall()
    # A GeoPackage's geometry is WKB behind a header of 8 bytes and an envelope.
    shapes = shapely.from_wkb([blob[8 + _ENVELOPES[blob[3] >> 1 & 7] :] for _, blob in rows])
    t = ~grid.transform
    moved = shapely.transform(shapes, lambda p: p @ [[t.a, t.d], [t.b, t.e]] + (t.c, t.f))
    return dict(zip((number for number, _ in rows), moved, strict=True))


def _add(
    opened: dict[int, _Sums],
    pair: Pair,
    polygons: dict[int, shapely.Polygon],
    tile: Tile,
    mask: NDArray[np.bool_],
    registration: Registration,
) -> None:
    """Add what a tile shows of its polygons."""
    numbers = [number for number, shape in polygons.items() if shape.area > 0]
    if not numbers:
        return
    labels = rasterio.features.rasterize(
        zip(_geojson([polygons[number] for number in numbers]), range(1, len(numbers) + 1), strict=True),
        out_shape=(tile.height, tile.width),
        transform=Affine.translation(tile.col, tile.row),
        dtype="int32",
    )
    labels[~mask] = 0
    height, width = pair.grid.shape
    top, left = max(0, tile.row - _MARGIN_PX), max(0, tile.col - _MARGIN_PX)
    bottom, right = min(height, tile.stop_row + _MARGIN_PX), min(width, tile.stop_col + _MARGIN_PX)
    around = Tile(top, left, bottom - top, right - left)
    window = pair.read(around)
    n = min(len(window.before), _MOST_BANDS)
    first, second = (_date(values[:n], window.valid) for values in (window.before, window.after))
    at = np.nonzero(labels)
    ids, on_outline = labels[at], _is_outline(labels)[at]
    at = (at[0] + (tile.row - top), at[1] + (tile.col - left))
    shift = np.zeros((2, len(ids))) if registration.field is None else registration.field.on(around)[:, *at]
    values = [*first.at(at), *second.at(at), *_edges(first, second, at, on_outline), *_gaps(first, second, at, shift)]
    for i, sums in enumerate(_sums(values, ids, on_outline, len(numbers), n).T):
        if sums[2 * n] > 0:
            known = opened.setdefault(numbers[i], _Sums(polygons[numbers[i]], np.zeros(2 * n + _EXTRA)))
            known.values += sums


def _geojson(shapes: list[shapely.Polygon]) -> Iterator[dict[str, Any]]:
    """Polygons as rasterio takes them; shapely's own way makes them one vertex at a time."""
    rings, owner = shapely.get_rings(shapes, return_index=True)
    ends = np.cumsum(shapely.get_num_coordinates(rings))[:-1]
    lines = iter([part.tolist() for part in np.split(shapely.get_coordinates(rings), ends)])
    for count in np.bincount(owner).tolist():
        yield {"type": "Polygon", "coordinates": [next(lines) for _ in range(count)]}


def _is_outline(labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Whether any of a pixel's eight neighbours has another label."""
    found = np.zeros(labels.shape, bool)
    for one, other in (
        (np.s_[1:], np.s_[:-1]),
        (np.s_[:, 1:], np.s_[:, :-1]),
        (np.s_[1:, 1:], np.s_[:-1, :-1]),
        (np.s_[1:, :-1], np.s_[:-1, 1:]),
    ):
        differ = labels[one] != labels[other]
        found[one] |= differ
        found[other] |= differ
    return found


def _sums(values: list[Array], ids: NDArray[np.int32], on_outline: NDArray[np.bool_], count: int, bands: int) -> Array:
    """``(2 * bands + _EXTRA, count)``: sums over each polygon, over its outline for the edges."""

    def total(each: Array) -> Array:
        return np.asarray(np.bincount(ids, np.nan_to_num(each), minlength=count + 1)[1:], np.float64)

    planes, rest = values[: 2 * bands], values[2 * bands :]
    return np.stack([total(each) for each in (*planes, np.ones(len(ids)), on_outline.astype(np.float64), *rest)])


@dataclass(frozen=True)
class _Date:
    """The bands of one date in a window, and what makes them comparable."""

    bands: list[NDArray[Any]]
    """``(h, w)`` each: finite raw values, their mean where not valid."""
    valid: NDArray[np.bool_]
    means: list[float]
    spreads: list[float]
    """Standard deviation of each band; 1 where it has none."""

    def at(self, places: Places) -> list[Array]:
        """``(N,)`` each: raw values of the bands at N pixels."""
        return [band[places].astype(np.float64) for band in self.bands]

    def between(self, places: Array) -> list[Array]:
        """As `at` for places between pixels, interpolated linearly; ``(2, N)`` rows and columns."""
        return [ndimage.map_coordinates(b, places, np.float64, order=1, mode="nearest") for b in self.bands]

    def standard(self, values: list[Array]) -> Array:
        """``(C, N)``: raw values in each band's standard deviations around its mean."""
        return np.stack([(v - m) / s for v, m, s in zip(values, self.means, self.spreads, strict=True)])

    def grey(self) -> NDArray[np.float32]:
        """``(h, w)``: mean of the bands in their standard deviations."""
        total = np.zeros(self.valid.shape, np.float32)
        for band, mean, spread in zip(self.bands, self.means, self.spreads, strict=True):
            exact = band if band.dtype.itemsize > 2 else band.astype(np.float32)
            total += (exact - exact.dtype.type(mean)) * exact.dtype.type(1 / (spread * len(self.bands)))
        return total


def _date(values: NDArray[Any], valid: NDArray[np.bool_]) -> _Date:
    date = _Date([], valid, [], [])
    thin = _thinned(valid)
    for band in values:
        # Beyond this, no image has values; squares of larger ones would overflow.
        finite = band.astype(np.float64).clip(-_LARGEST, _LARGEST) if band.dtype.itemsize > 2 else band
        sample = finite[thin][valid[thin]].astype(np.float64)
        mean = float(sample.mean()) if sample.size else 0.0
        date.means.append(mean)
        date.spreads.append(float(sample.std()) or 1.0 if sample.size else 1.0)
        date.bands.append(finite if valid.all() else np.where(valid, finite, finite.dtype.type(mean)))
    return date


def _thinned(valid: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Every eighth row and column, if that leaves enough valid pixels for statistics; else all."""
    thin = np.s_[::_THIN, ::_THIN]
    return thin if valid[thin].sum() >= _ENOUGH_PX else np.s_[:, :]


def _gaps(first: _Date, second: _Date, at: Places, shift: Array) -> list[Array]:
    """``(N,)`` each at N pixels: difference as read, difference with the shift undone, length of the shift."""
    length = np.hypot(*shift)
    before = first.standard(first.at(at))
    gap = undone = np.abs(before - second.standard(second.at(at))).mean(axis=0)
    if length.size and length.max() >= _LEAST_SHIFT_PX:
        undone = np.abs(before - second.standard(second.between(at + shift))).mean(axis=0)
    return [gap, undone, length]


def _edges(first: _Date, second: _Date, at: Places, on_outline: NDArray[np.bool_]) -> list[Array]:
    """``(N,)`` each at N pixels: the edge before and after; 0 off the outlines."""
    found = []
    for date in (first, second):
        edges = np.zeros(len(on_outline))
        edges[on_outline] = _edge_strength(date, (at[0][on_outline], at[1][on_outline]))
        found.append(edges)
    return found


def _edge_strength(date: _Date, at: Places) -> Array:
    """``(N,)``: the strongest gradient near N pixels, in medians of the window."""
    down, right = gaussian_gradients(date.grey(), _SIGMA_PX)
    down *= down
    right *= right
    down += right
    squares = sliding_window_view(np.pad(down, _OUTLINE_PX // 2, mode="edge"), (_OUTLINE_PX, _OUTLINE_PX))
    thin = _thinned(date.valid)
    sample, near = (np.sqrt(each.max(axis=(1, 2))) for each in (squares[thin][date.valid[thin]], squares[at]))
    typical = float(np.median(sample)) if sample.size else 0.0
    return np.asarray(near / (typical or 1.0), np.float64)


def _outline_in(before: float | None, after: float | None) -> str | None:
    if before is None or after is None:
        return None
    if after >= _EDGE_RATIO * before:
        return "after" if after > 0 else "both"
    return "before" if before >= _EDGE_RATIO * after else "both"


def _ndvi(red: float, nir: float) -> float | None:
    return (nir - red) / (nir + red) if red >= 0 and nir >= 0 and red + nir > 0 else None


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name.lower()).strip("_") or "band"


def _field_names(bands: tuple[str, ...]) -> list[str]:
    """A name for each band, no two alike: bands may share theirs, or differ in signs only."""
    found: list[str] = []
    for band in bands:
        name = _plain(band)
        tries = (f"{name}_{number}" for number in range(2, len(bands) + 2))
        found.append(name if name not in found else next(each for each in tries if each not in found))
    return found


def _summary(database: sqlite3.Connection, known: bool) -> dict[str, Any]:
    columns = [row[1] for row in database.execute(f'PRAGMA table_info("{LAYER}")')]
    area = "area_m2" if "area_m2" in columns else "area_px"

    def count(condition: str) -> dict[str, float]:
        query = f'SELECT count(*), coalesce(sum("{area}"), 0) FROM "{LAYER}" WHERE {condition}'
        number, total = database.execute(query).fetchone()
        return {"polygons": number, area: total}

    return {
        "shift_explains": count("shift_explains = 1") if known else None,
        "outline_in": {each: count(f"outline_in = '{each}'") for each in ("after", "before", "both")},
    }
