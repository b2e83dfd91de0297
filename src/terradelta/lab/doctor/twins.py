"""Images that occur twice: equal, turned, flipped or re-encoded; in one split, in two, or with the dates exchanged.

Candidates are found by the correlation of descriptors (16 x 16, broad brightness taken out) in the eight orientations
of the square, all against all, in blocks. Each is confirmed on the images themselves, read again at 128 x 128. A copy
at another scale of the same extent is found; one that is cropped, shifted or turned by other angles is not.
"""

import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import rasterio.warp
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS

from terradelta.geo.grid import Grid, Tile
from terradelta.lab.data.pairs import PairList
from terradelta.lab.doctor.examine import PairRecord
from terradelta.lab.doctor.measures import band_pass, shrink
from terradelta.raster.access import GDAL_ERRORS

__all__ = ["Twin", "find_shared_places", "find_twins", "turned"]

CANDIDATE, CONFIRMED = 0.8, 0.75
SAME = "same images"
SWAPPED = "same images, dates exchanged"
ONE_DATE = "one image in both"
_EXCHANGE_MARGIN = 0.02
_BLOCK = 512
_MOST_CANDIDATES = 200_000
_FINE_SIDE = 128
_FINE_BLUR_PX = 4.0
_KEPT_FINE = 256
_STRIP_PX = 4 * 2**20
_ORIENTATIONS = 8
_TOUCH = 0.01
"""Share of an area that neighbours may have in common by rounding."""
_VERTICES = 8
_LONLAT = CRS.from_epsg(4326)

Combination = tuple[int, int]


@dataclass(frozen=True)
class Twin:
    """Two pairs that show the same."""

    first: PairRecord
    second: PairRecord
    relation: str
    """`SAME`, `SWAPPED` or `ONE_DATE`."""
    correlation: float
    """Of the images, broad brightness taken out; 1 for equal pixels."""
    orientation: int
    """How the second must be turned: quarter turns, plus 4 if flipped first."""

    @property
    def exact(self) -> bool:
        """Whether pixels are equal, not only alike."""
        first, second = self.first.digests, self.second.digests
        if self.relation == ONE_DATE:
            return bool(set(first) & set(second))
        return first == (second if self.relation == SAME else second[::-1])


def turned(image: NDArray[Any], orientation: int) -> NDArray[Any]:
    """``(..., n, n)`` in one of the eight orientations of the square."""
    flipped = image[..., ::-1] if orientation >= 4 else image
    return np.rot90(flipped, orientation % 4, (-2, -1))


def find_twins(
    records: Sequence[PairRecord],
    sources: Mapping[str, PairList],
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Twin], bool]:
    """All pairs of pairs that share an image, and whether the search was complete.

    Args:
        records: of all pairs that could be read.
        sources: the pairs of each split, to read candidates again.
        progress: called with candidates confirmed and candidates in all.

    Returns:
        The twins; and False if there were so many candidates that the search was cut short.
    """
    exact = _equal_images(records)
    candidates, complete = _candidates(records)
    for key, equal in exact.items():
        candidates.setdefault(key, {}).update(dict.fromkeys(equal, 0))
    fine = _FineImages(sources)
    twins = []
    if progress is not None:
        progress(0, len(candidates))
    for done, ((i, j), combinations) in enumerate(sorted(candidates.items()), 1):
        twin = _confirm(records[i], records[j], combinations, exact.get((i, j), set()), fine)
        if twin is not None:
            twins.append(twin)
        if progress is not None:
            progress(done, len(candidates))
    return twins, complete


def _equal_images(records: Sequence[PairRecord]) -> dict[tuple[int, int], set[Combination]]:
    """Pairs that share equal pixels, pictures of one colour left out."""
    by_digest: dict[bytes, list[tuple[int, int]]] = {}
    for i, record in enumerate(records):
        for date, (digest, descriptor) in enumerate(zip(record.digests, record.descriptors, strict=True)):
            if descriptor is not None:
                by_digest.setdefault(digest, []).append((i, date))
    found: dict[tuple[int, int], set[Combination]] = {}
    for places in by_digest.values():
        for (i, date), (j, other) in itertools.combinations(places, 2):
            if i != j:
                found.setdefault((i, j), set()).add((date, other))
    return found


def _candidates(records: Sequence[PairRecord]) -> tuple[dict[tuple[int, int], dict[Combination, int]], bool]:
    """Pairs with alike descriptors: which dates are alike, in which orientation best; and whether these are all."""
    owners = [(i, date) for i, record in enumerate(records) for date in (0, 1) if record.descriptors[date] is not None]
    best: dict[tuple[int, int], dict[Combination, tuple[float, int]]] = {}
    complete = True
    if len(owners) > 1:
        stack = np.stack([d for record in records for d in record.descriptors if d is not None])
        hits = ((o, *hit) for o in range(_ORIENTATIONS) for hit in _alike(stack, turned(stack, o)))
        for count, (orientation, a, b, value) in enumerate(hits):
            (i, date), (j, other) = owners[a], owners[b]
            of = best.setdefault((i, j), {})
            of[date, other] = max(of.get((date, other), (0.0, 0)), (value, orientation))
            if count == _MOST_CANDIDATES:
                complete = False
                break
    found = {key: {dates: o for dates, (_, o) in of.items()} for key, of in best.items() if key[0] != key[1]}
    return found, complete


def _alike(stack: NDArray[Any], other: NDArray[Any]) -> Iterator[tuple[int, int, float]]:
    """(a, b, correlation) with a < b of all that correlate enough, by blocks of rows."""
    flat, against = (np.ascontiguousarray(x, np.float32).reshape(len(x), -1) for x in (stack, other))
    for start in range(0, len(flat), _BLOCK):
        values = flat[start : start + _BLOCK] @ against[start:].T
        rows, cols = np.nonzero(values >= CANDIDATE)
        for row, col in zip(rows.tolist(), cols.tolist(), strict=True):
            if row < col:
                yield start + row, start + col, float(values[row, col])


def _confirm(
    first: PairRecord,
    second: PairRecord,
    combinations: Mapping[Combination, int],
    exact: set[Combination],
    fine: "_FineImages",
) -> Twin | None:
    orientations = set(combinations.values())
    best: tuple[float, str, int] | None = None
    for orientation in sorted(orientations):
        value: dict[Combination, float] = {}
        for dates in ((0, 0), (0, 1), (1, 0), (1, 1)):
            equal = orientation == 0 and dates in exact
            value[dates] = 1.0 if equal else fine.correlation(first, second, dates, orientation)
        found = _relation(value)
        if found is not None and (best is None or found[0] > best[0]):
            best = (*found, orientation)
    return None if best is None else Twin(first, second, best[1], best[0], best[2])


def _relation(value: Mapping[Combination, float]) -> tuple[float, str] | None:
    """How two pairs are related by the correlations of (date of the first, date of the second)."""
    straight = min(value[0, 0], value[1, 1])
    crossed = min(value[0, 1], value[1, 0])
    if crossed >= CONFIRMED and crossed > straight + _EXCHANGE_MARGIN:
        return crossed, SWAPPED
    if straight >= CONFIRMED:
        return straight, SAME
    single = max(value.values())
    return (single, ONE_DATE) if single >= CONFIRMED else None


class _FineImages:
    """Images read again at 128 x 128, broad brightness taken out; some are kept."""

    def __init__(self, sources: Mapping[str, PairList]) -> None:
        self._sources = sources
        self._kept: OrderedDict[tuple[str, int], NDArray[np.float64]] = OrderedDict()

    def correlation(self, first: PairRecord, second: PairRecord, dates: Combination, orientation: int) -> float:
        """Of a date of each, the second turned."""
        one, other = self._of(first)[dates[0]], turned(self._of(second)[dates[1]], orientation)
        return float((one * other).sum())

    def _of(self, record: PairRecord) -> NDArray[np.float64]:
        """``(2, 128, 128)``, each date of norm 1."""
        key = (record.split, record.index)
        if key not in self._kept:
            self._kept[key] = self._read(record)
            while len(self._kept) > _KEPT_FINE:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    def _read(self, record: PairRecord) -> NDArray[np.float64]:
        height, width = record.shape
        rows = max(_STRIP_PX // width, 1)
        greys: tuple[list[NDArray[np.float64]], ...] = ([], [])
        for row in range(0, height, rows):
            pair = self._sources[record.split].read_dates(record.index, Tile(row, 0, min(rows, height - row), width))
            for grey, values in zip(greys, pair, strict=True):
                strip = values.mean(axis=0, dtype=np.float64)
                share = max(round(_FINE_SIDE * len(strip) / height), 1)
                grey.append(strip if rows >= height else _thinned(strip, share))
        images = [band_pass(shrink(np.concatenate(grey), _FINE_SIDE), _FINE_BLUR_PX) for grey in greys]
        centred = [image - image.mean() for image in images]
        return np.stack([image / max(float(np.linalg.norm(image)), 1e-9) for image in centred])


def _thinned(strip: NDArray[np.float64], rows: int) -> NDArray[np.float64]:
    """A strip of a large image, averaged to about four times the rows and columns that are wanted in the end."""
    fine = (min(4 * rows, strip.shape[0]), min(4 * _FINE_SIDE, strip.shape[1]))
    starts = [np.arange(n) * side // n for n, side in zip(fine, strip.shape, strict=True)]
    sums = np.add.reduceat(np.add.reduceat(strip, starts[0], axis=0), starts[1], axis=1)
    sizes = [np.diff(start, append=side) for start, side in zip(starts, strip.shape, strict=True)]
    means: NDArray[np.float64] = sums / np.outer(*sizes)
    return means


def find_shared_places(records: Sequence[PairRecord]) -> list[tuple[PairRecord, PairRecord, float]]:
    """Pairs of different splits that overlap on the ground, with the share of the smaller one that both cover."""
    outlines = ((record, _outline(record.grid)) for record in records if record.grid is not None)
    placed = [(record, outline) for record, outline in outlines if outline is not None]
    if not placed:
        return []
    tree = shapely.STRtree([outline for _, outline in placed])
    found = []
    for i, (record, outline) in enumerate(placed):
        for j in sorted(int(k) for k in tree.query(outline)):
            other, its = placed[j]
            if j <= i or other.split == record.split:
                continue
            share = outline.intersection(its).area / min(outline.area, its.area)
            if share > _TOUCH:
                found.append((record, other, share))
    return found


def _outline(grid: Grid) -> shapely.Geometry | None:
    """The extent as a polygon in longitude and latitude, with vertices along the sides; None where there is none."""
    along = np.linspace(0, 1, _VERTICES, endpoint=False)
    rows = np.concatenate([0 * along, along, 1 + 0 * along, 1 - along]) * grid.height
    cols = np.concatenate([along, 1 + 0 * along, 1 - along, 0 * along]) * grid.width
    t = grid.transform
    x, y = t.a * cols + t.b * rows + t.c, t.d * cols + t.e * rows + t.f
    try:
        outline = shapely.Polygon(np.column_stack(rasterio.warp.transform(grid.crs, _LONLAT, x, y)))
    except (*GDAL_ERRORS, ValueError):
        return None
    return outline if outline.is_valid and outline.area > 0 else None
