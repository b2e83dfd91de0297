"""What both images show inside each polygon: attributes that help to judge a change.

The networks here are trained to find change, not its direction, so none is claimed. What is measured instead, for each
polygon: the mean of every band before and after; NDVI; how strong an edge its outline is on each date (a new building
has an outline after, and none before); and whether the shift between the dates alone could explain it.

The shift explains a polygon if both hold: it is nowhere wider than the local shift, twice the scatter of single blocks
and the one pixel that rasters round up; and reading the second date where the shift puts it takes away at least half of
the difference inside. The first alone would flag every thin road, the second every object that moved.

It is measured at changed pixels, tile by tile, and summed over each polygon while polygons are made.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import ndimage

from terradelta.geo.gradients import gaussian_gradients
from terradelta.geo.grid import Grid, Tile
from terradelta.products.polygons import ChangePolygon
from terradelta.raster.pair import Pair, PairWindow
from terradelta.receipt.map_record import EvidenceRecord, OutlineRecord, PolygonsRecord
from terradelta.registration.blocks import Registration

__all__ = ["MARGIN_PX", "Evidence", "in_pixels"]

Array = NDArray[np.float64]
Places = tuple[NDArray[np.intp], NDArray[np.intp]]

MARGIN_PX = 16
"""How far around a tile the images are read."""
_MOST_BANDS = 16
_LEAST_SHIFT_PX = 0.25
_EXPLAINED = 0.5
_EDGE_RATIO = 1.5
_SIGMA_PX = 1.0
_THIN, _ENOUGH_PX = 8, 1000
_OUTLINE_PX = 5  # a network's outline is off by some pixels: the strongest gradient of 5 x 5 pixels counts
_RED, _NIR = ("red",), ("nir", "nir08")
_LARGEST = 1e100


class Evidence:
    """Fields of polygons, from both images.

    They are ``before_BAND`` and ``after_BAND`` (means of the raw values; the first 16 bands), ``ndvi_before`` and
    ``ndvi_after`` (of mean reflectance, where that, red and near infrared are known), ``edge_before`` and
    ``edge_after`` (gradient along the outline, in median gradients of the surroundings), ``outline_in`` (``after``,
    ``before`` or ``both``: where that is at least 1.5 times as strong) and ``shift_explains`` (null where the shift is
    not known).

    ``fields`` has their names and types.

    Args:
        pair: as it is mapped.
        registration: the shift between the dates of ``pair`` as it is read.
        read: gives both dates in a tile, as ``pair.read`` does.
        on_map: the grid that the polygons are on.
    """

    def __init__(
        self, pair: Pair, registration: Registration, read: Callable[[Tile], PairWindow], on_map: Grid
    ) -> None:
        bands = pair.bands[:_MOST_BANDS]
        names = _field_names(bands)
        self.grid, self._on_map = pair.grid, on_map
        self._registration, self._read, self._bands = registration, read, len(names)
        self._reflectance = pair.reflectance
        known = pair.spectral[:_MOST_BANDS] if self._reflectance is not None else ()
        self._red = next((known.index(name) for name in _RED if name in known), None)
        self._nir = next((known.index(name) for name in _NIR if name in known), None)
        numbers = [f"{date}_{name}" for date in ("before", "after") for name in names]
        numbers += ["ndvi_before", "ndvi_after"] if self._red is not None and self._nir is not None else []
        self.fields: dict[str, type] = dict.fromkeys([*numbers, "edge_before", "edge_after"], float)
        self.fields |= {"outline_in": str, "shift_explains": bool}
        self._outlines = {each: (0, 0.0) for each in ("after", "before", "both")}
        self._explained = (0, 0.0)

    def values(self, tile: Tile, mask: NDArray[np.bool_]) -> list[Array]:
        """What is to be summed over polygons: ``(N,)`` each, at the N pixels where ``mask``, ``(h, w)``, is true.

        Both dates' bands, whether a pixel is on an outline, the edge before and after, the difference as read and with
        the shift undone, and the length of the shift.

        Raises:
            RasterError: if a file cannot be read.
        """
        around = tile.grown(MARGIN_PX, self.grid.shape)
        window = self._read(around)
        first, second = (_date(values[: self._bands], window.valid) for values in (window.before, window.after))
        at = np.nonzero(mask)
        on_outline = _is_outline(mask)[at]
        at = (at[0] + (tile.row - around.row), at[1] + (tile.col - around.col))
        field = self._registration.field
        shift = np.zeros((2, len(on_outline))) if field is None else field.on(around)[:, *at]
        edges, gaps = _edges(first, second, at, on_outline), _gaps(first, second, at, shift)
        return [np.nan_to_num(each) for each in (*first.at(at), *second.at(at), on_outline * 1.0, *edges, *gaps)]

    def of(self, polygon: ChangePolygon) -> list[Any]:
        """The values of `fields` for a polygon with the sums of `values`; counts it for `summary`."""
        n = self._bands
        outline, edge_before, edge_after, *_ = polygon.sums[2 * n :]
        means = [value / polygon.pixels for value in polygon.sums[: 2 * n]]
        found: list[Any] = [value if math.isfinite(value) else None for value in means]
        if self._red is not None and self._nir is not None and self._reflectance is not None:
            for part, (gains, offsets) in zip((means[:n], means[n:]), self._reflectance, strict=True):
                red, nir = (part[band] * gains[band] + offsets[band] for band in (self._red, self._nir))
                found.append(_ndvi(red, nir))
        edges = [edge_before / outline if outline else None, edge_after / outline if outline else None]
        outline_in, explained = _outline_in(*edges), self._is_explained(polygon)
        area = polygon.area if math.isfinite(polygon.area) else 0.0
        if outline_in is not None:
            number, total = self._outlines[outline_in]
            self._outlines[outline_in] = number + 1, total + area
        if explained:
            self._explained = self._explained[0] + 1, self._explained[1] + area
        return [*found, *edges, outline_in, explained]

    def summary(self) -> EvidenceRecord:
        """Numbers and areas of polygons by ``outline_in``, and of those that the shift explains, for the receipt."""
        pixels = self.grid.crs is None

        def count(found: tuple[int, float]) -> PolygonsRecord:
            return PolygonsRecord(
                polygons=found[0], area_m2=None if pixels else found[1], area_px=found[1] if pixels else None
            )

        known = self._registration.field is not None
        outlines = OutlineRecord(**{name: count(found) for name, found in self._outlines.items()})
        return EvidenceRecord(count(self._explained) if known else None, outlines)

    def _is_explained(self, polygon: ChangePolygon) -> bool | None:
        if self._registration.field is None:
            return None
        plain, shifted, shift = polygon.sums[2 * self._bands + 3 :]
        length = shift / polygon.pixels
        if length < _LEAST_SHIFT_PX or shifted > _EXPLAINED * plain:
            return False
        limit = length + 2 * (self._registration.scatter_px or 0.0) + 1
        return bool(in_pixels(polygon.geometry, self._on_map).buffer(-limit / 2).is_empty)


def in_pixels(shape: shapely.Polygon, grid: Grid) -> shapely.Polygon:
    """A polygon in (col, row)."""
    t = ~grid.transform
    return shapely.transform(shape, lambda points: points @ [[t.a, t.d], [t.b, t.e]] + (t.c, t.f))


def _is_outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether a pixel is set and any of its eight neighbours is not; beyond the border is as at the border."""
    inner: NDArray[np.bool_] = ndimage.binary_erosion(mask, np.ones((3, 3)), border_value=1)
    return mask & ~inner


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
