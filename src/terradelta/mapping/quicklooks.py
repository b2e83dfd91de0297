"""Small pictures of a pair and its change map, for the report."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.enums import Resampling

from terradelta.geo.grid import Grid, Tile
from terradelta.html.pictures import Chip, Picture, Quicklooks
from terradelta.mapping.evidence import in_pixels
from terradelta.products.gpkg import LAYER
from terradelta.products.writer import CHANGE, POLYGONS, PROBABILITY
from terradelta.raster.access import SMALL_CACHE
from terradelta.raster.pair import Pair, PairWindow

__all__ = ["Shade", "quicklooks", "shade_of"]

PERCENTILES = (1, 99)
BINS = 20
"""Of the histogram."""
CHIPS = 6
"""Changes that are shown from near, the largest and the least certain ones."""
CHIP_PX = (96, 448)
"""Smallest and largest side of what is shown of a change, pixels of the grid."""
SHOWN_PX = 224
"""Largest side of the picture of a change."""
AROUND = 1.6
"""Side of what is shown, in units of the longer side of the change's bounding box."""

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Shade:
    """Which raw values are black and which are white on a picture, for red, green and blue."""

    bands: tuple[int, int, int]
    """Positions of red, green and blue among the bands."""
    low: Values
    """``(3,)`` raw values that are black."""
    high: Values
    """``(3,)`` raw values that are white."""
    stretched: bool
    """False: 8-bit values, which are taken as they are."""

    def picture(self, values: NDArray[np.generic]) -> NDArray[np.uint8]:
        """``(C, ...)`` raw values as ``(3, ...)`` red, green, blue; NaN is black."""
        chosen = values[list(self.bands)]
        if not self.stretched:
            return chosen.astype(np.uint8)
        low, high = (ends.reshape(3, *[1] * (values.ndim - 1)) for ends in (self.low, self.high))
        with np.errstate(over="ignore"):
            gain = 255 / np.maximum(high - low, 1e-6)
            shaded = (_finite(chosen).clip(low, high) - low) * gain
        return np.nan_to_num(shaded).clip(0, 255).astype(np.uint8)


def shade_of(before: NDArray[np.generic], after: NDArray[np.generic], valid: NDArray[np.bool_]) -> Shade:
    """How both dates of a pair are shown, alike: 8-bit values as they are, others from their 1st to 99th percentile.

    Args:
        before: ``(C, h, w)`` raw values of the first date; a thinned-out view suffices.
        after: the same of the second date.
        valid: ``(h, w)``.
    """
    bands = (0, 1, 2) if before.shape[0] >= 3 else (0, 0, 0)
    if before.dtype == after.dtype == np.uint8:
        return Shade(bands, np.zeros(3), np.full(3, 255.0), stretched=False)
    dates = [_finite(x[list(bands)]) for x in (before, after)]
    seen = np.concatenate([x[:, valid] for x in dates], axis=1) if valid.any() else np.zeros((3, 1))
    low, high = np.percentile(seen, PERCENTILES, axis=1)
    return Shade(bands, low, high, stretched=True)


def quicklooks(pair: Pair, folder: Path, *, weightless: bool = False) -> Quicklooks:
    """Pictures of at most 1024 pixels a side, from the pair's preview and the finished products in ``folder``.

    8-bit images keep their brightness; others are stretched, both dates alike. Three bands make a colour picture, fewer
    a grey one, more the first three. Beside them: the changes that are the largest and the least certain, from near,
    and the histogram of the whole map.

    Args:
        pair: the open pair.
        folder: of the products.
        weightless: whether a classical method made the map; CVA is then not shown beside it.
    """
    preview = pair.preview
    shade = shade_of(preview.before, preview.after, preview.valid)
    shape = (preview.valid.shape[0], preview.valid.shape[1])
    with rasterio.Env(**SMALL_CACHE), rasterio.open(folder / PROBABILITY) as source:
        probability = source.read(1, out_shape=shape, resampling=Resampling.average)
        histogram = _histogram(source)
    with rasterio.Env(**SMALL_CACHE), rasterio.open(folder / CHANGE) as source:
        change = source.read(1, out_shape=shape) == 1
    valid = preview.valid & np.isfinite(probability)
    largest, doubtful = _chips(pair, folder / POLYGONS, shade)
    return Quicklooks(
        _picture(shade, preview.before),
        _picture(shade, preview.after),
        np.nan_to_num(probability),
        change & valid,
        valid,
        difference=None if weightless else _difference(preview, valid),
        histogram=histogram,
        largest=largest,
        doubtful=doubtful,
    )


def _histogram(source: Any) -> tuple[int, ...]:  # noqa: ANN401  rasterio's reader
    """Valid pixels of a probability map in `BINS` equal steps, block by block."""
    counts = np.zeros(BINS, np.int64)
    for _, window in source.block_windows(1):
        values = source.read(1, window=window)
        steps = (values[np.isfinite(values)] * np.float32(BINS)).astype(np.uint8)
        counts += np.bincount(np.minimum(steps, BINS - 1), minlength=BINS)
    return tuple(counts.tolist())


def _difference(preview: PairWindow, valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Length of the change vector of the standardised bands, as CVA has it, of the preview; 0 where not valid.

    Band by band: the preview of both dates in float64 takes as much memory as the network and more.
    """
    squares = np.zeros(int(valid.sum()))
    for bands in zip(preview.before, preview.after, strict=True):
        first, second = (_standard(band[valid]) for band in bands)
        second -= first
        squares += np.square(second, out=second)
    difference = np.zeros(valid.shape, np.float32)
    difference[valid] = np.sqrt(squares)
    return difference


def _standard(values: NDArray[Any]) -> Values:
    """``(N,)`` with mean 0 and standard deviation 1, or 0 where all are the same."""
    wide = values.astype(np.float64)
    wide -= wide.mean() if wide.size else 0.0
    wide /= (wide.std() if wide.size else 0.0) or 1.0
    return wide


def _chips(pair: Pair, polygons: Path, shade: Shade) -> tuple[tuple[Chip, ...], tuple[Chip, ...]]:
    """The largest changes, and those of the lowest mean probability among the others."""
    import pyogrio.raw  # slow, and not needed before there are products

    size = "area_px" if pair.grid.crs is None else "area_m2"
    rows: dict[str, list[tuple[int, float, float, shapely.Geometry]]] = {}
    for order, number in ((f"{size} DESC", CHIPS), ("mean_probability", 2 * CHIPS)):
        query = f"SELECT id, {size} AS size, mean_probability, geom FROM {LAYER} ORDER BY {order}, id LIMIT {number}"
        _, _, geometry, (ids, sizes, means) = pyogrio.raw.read(polygons, sql=query)
        rows[order] = [
            (int(id_), float(size_), float(mean), shape)
            for id_, size_, mean, shape in zip(ids, sizes, means, shapely.from_wkb(geometry), strict=True)
        ]
    largest, doubtful = rows.values()
    shown = {id_ for id_, *_ in largest}
    others = [row for row in doubtful if row[0] not in shown][:CHIPS]
    found = [tuple(_chip(pair, shade, *row) for row in chosen) for chosen in (largest, others)]
    return found[0], found[1]


def _chip(pair: Pair, shade: Shade, id_: int, size: float, mean: float, shape: shapely.Geometry) -> Chip:
    inside = in_pixels(shape, pair.grid.on_map)
    tile = _around(inside, pair.grid)
    window = pair.read(tile)
    step = -(-max(tile.height, tile.width) // SHOWN_PX)
    thin = np.s_[:, ::step, ::step]
    seen = shapely.clip_by_rect(inside, tile.col, tile.row, tile.stop_col, tile.stop_row)
    path = _path(shapely.simplify(seen, step / 2), (tile.col, tile.row), step)
    before, after = (_picture(shade, values[thin]) for values in (window.before, window.after))
    return Chip(id_, size, mean, before, after, path)


def _around(shape: shapely.Geometry, grid: Grid) -> Tile:
    """A square around a shape in (col, row), within the grid; around a point of it where the shape is too large."""
    left, top, right, bottom = shape.bounds
    extent = max(right - left, bottom - top)
    side = int(np.clip(AROUND * extent, *CHIP_PX))
    centre = ((left + right) / 2, (top + bottom) / 2)
    if extent > side:
        centre = shapely.get_coordinates(shapely.point_on_surface(shape))[0]
    height, width = (min(side, length) for length in grid.shape)
    row = int(np.clip(centre[1] - height / 2, 0, grid.height - height))
    col = int(np.clip(centre[0] - width / 2, 0, grid.width - width))
    return Tile(row, col, height, width)


def _path(shape: shapely.Geometry, corner: tuple[int, int], step: int) -> str:
    """The rings of a shape in (col, row) as an SVG path in pixels of a picture."""
    rings = []
    for part in shapely.get_parts(shape):
        if part.geom_type == "Polygon":
            for ring in (part.exterior, *part.interiors):
                points = (shapely.get_coordinates(ring)[:-1] - corner) / step
                rings.append("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) + "Z")
    return "".join(rings)


def _finite(values: NDArray[Any]) -> Values:
    return np.nan_to_num(values.astype(np.float64))  # values may be beyond float32


def _picture(shade: Shade, values: NDArray[Any]) -> Picture:
    """``(C, h, w) -> (h, w, 3)``."""
    return np.moveaxis(shade.picture(values), 0, 2)
