"""`open_pair`: two raster files as one pair on one grid, read tile by tile.

The first date (or a given grid) sets the grid; the common grid is the part of it that both dates cover. A date whose
pixels coincide with the grid is read as it is; any other is warped on the fly. Memory is bounded by the tile and by
GDAL's cache, whatever the size of the images.
"""

import dataclasses
import functools
import math
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling

from terradelta.errors import RasterError, ShapeError
from terradelta.geo.grid import Grid, Tile
from terradelta.geo.shift import ShiftField
from terradelta.geo.windows import blocks
from terradelta.raster.array_source import ArraySource, layer_of
from terradelta.raster.bands import BandSelection, select_bands
from terradelta.raster.common_grid import common_tile, on_reference
from terradelta.raster.identity import input_stamp
from terradelta.raster.nodata import NodataBands, find_fill, parse_nodata
from terradelta.raster.overlap import Aoi, AreaOfInterest, area_of_interest
from terradelta.raster.preflight import Preflight, warnings_for
from terradelta.raster.source import Source
from terradelta.raster.stac import read_input
from terradelta.raster.values import agree, parse_values, told
from terradelta.raster.warp import LARGEST, Layer

__all__ = ["Pair", "PairWindow", "Reading", "cache_bytes", "open_pair"]

_MIB = 2**20
_CACHE_BYTES, _CACHE_BLOCKS_BYTES = (16 * _MIB, 512 * _MIB), 128 * _MIB
_TILE_SIDE = 1504
_BIG_BLOCK_PX = 1024 * 1024
_PREVIEW_SIDE = 1024
_SCAN_TILE = 512
_NEGATIVE, _NEGATIVE_SHARE = -0.02, 0.05
"""Reflectance below which a value is no noise; the share of such values that is suspicious."""
_SCAN_LIMIT_PX = 4096 * 4096
_MOST, _BRIGHTEST = 99.0, 2.0
"""Percentile of real numbers, and the largest reflectance that it may be (clouds and glint exceed 1)."""

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Reading:
    """How two files are read."""

    resampling: Resampling = Resampling.bilinear
    """Interpolation for a date that is warped."""
    allow_outside: bool = False
    """Whether a VRT may name files outside its folder, and URLs."""
    values: str = "auto"
    """What stored values mean, see `terradelta.raster.values.parse_values`."""
    nodata: str = "auto"
    """Which values are no data, see `terradelta.raster.nodata.parse_nodata`."""
    nodata_bands: NodataBands = "auto"
    """In which bands a nodata value takes a pixel out: ``all``, ``any``, or as `terradelta.raster.nodata` says."""


@dataclass(frozen=True, eq=False)
class PairWindow:
    """Both dates in one window, on one grid.

    Values of invalid pixels mean nothing; in floats they may be NaN.
    """

    before: NDArray[Any]
    """``(C, h, w)`` raw sensor values in the file's dtype."""
    after: NDArray[Any]
    """``(C, h, w)`` raw sensor values in the file's dtype, which may differ from the first date's."""
    valid: NDArray[np.bool_]
    """``(h, w)``: every selected band of both dates holds a value here."""
    grid: Grid
    """Where the window is; shape ``(h, w)``."""


class Pair:
    """Two dates on one grid with their joint valid mask; made by `open_pair`, closed by leaving its ``with`` block.

    Reading is safe from any thread; one window is read at a time.
    """

    def __init__(self, layers: tuple[Layer, Layer], selection: BandSelection, aoi: AreaOfInterest | None) -> None:
        self._before, self._after = layers
        self._selection = selection
        self._aoi = aoi
        self._cache = cache_bytes(self._before.source, self._after.source)
        self._lock = threading.Lock()
        self._closed = False
        self._stamps: list[list[Any]] | None = None

    @classmethod
    def like(cls, pair: "Pair") -> Self:
        """The same open files, read in a subclass's way; closing either closes both."""
        made = cls((pair._before, pair._after), pair._selection, pair._aoi)
        made._stamps = pair._stamps
        return made

    @property
    def grid(self) -> Grid:
        """The common grid."""
        return self._before.grid

    @property
    def layers(self) -> tuple[Layer, Layer]:
        """The first and the second date on the common grid."""
        return self._before, self._after

    @property
    def selection(self) -> BandSelection:
        """The bands that are read from each date."""
        return self._selection

    @property
    def aoi(self) -> AreaOfInterest | None:
        """The area of interest on the common grid; None: there is none."""
        return self._aoi

    @property
    def sources(self) -> tuple[Source, Source]:
        """The first and the second date's file."""
        return self._before.source, self._after.source

    @property
    def paths(self) -> tuple[str, str]:
        """Absolute paths or URLs of the first and the second date's file, for people."""
        return self._before.source.path, self._after.source.path

    @property
    def stamps(self) -> list[list[Any]]:
        """What tells whether both files are still the same, see `raster.identity`; taken at the first use."""
        self.keep_stamps()
        assert self._stamps is not None
        return self._stamps

    def keep_stamps(self) -> None:
        """Take `stamps` now.

        Raises:
            RasterError: if a file has vanished.
        """
        if self._stamps is None:
            self._stamps = [input_stamp(source) for source in self.sources]

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the selected bands."""
        return self._selection.names

    @property
    def count(self) -> int:
        """Number of selected bands, C."""
        return len(self._selection.before)

    @property
    def dtypes(self) -> tuple[str, str]:
        """Names of the first and the second date's dtype, e.g. ``uint16``."""
        first, second = (
            "float32" if source.conversion else source.dtype(selected).name
            for source, selected in zip(self.sources, (self._selection.before, self._selection.after), strict=True)
        )
        return first, second

    @property
    def spectral(self) -> tuple[str, ...]:
        """The part of the spectrum of each selected band (``red``), by its name or its sensor; empty where unknown.

        It counts as unknown where the dates contradict one another.
        """
        found = []
        for numbers in zip(self._selection.before, self._selection.after, strict=True):
            names = {s.bands[s.positions([n])[0]].spectral for s, n in zip(self.sources, numbers, strict=True)} - {""}
            found.append(names.pop() if len(names) == 1 else "")
        return tuple(found)

    @functools.cached_property
    def reflectance(self) -> tuple[tuple[Values, Values], tuple[Values, Values]] | None:
        """For each date ``(gains, offsets)``, ``(C,)`` each, by which values as they are read become reflectance.

        None where that is not known for both dates. Real numbers whose largest values are below 2 count as reflectance.
        """
        found = []
        selected = (self._selection.before, self._selection.after)
        for source, numbers, values in zip(self.sources, selected, self._dates_of_preview(), strict=True):
            if source.conversion is not None:
                pairs = ((1.0, 0.0),) * len(numbers)
            elif source.meaning is not None and source.meaning.gain:
                pairs = source.meaning.of(source.positions(numbers))
            elif values.dtype.kind == "f" and values.size and np.percentile(values, _MOST) <= _BRIGHTEST:
                pairs = ((1.0, 0.0),) * len(numbers)
            else:
                return None
            gains, offsets = np.array(pairs, np.float64).T
            found.append((gains, offsets))
        return found[0], found[1]

    def _dates_of_preview(self) -> tuple[NDArray[Any], NDArray[Any]]:
        preview = self.preview
        return preview.before[:, preview.valid], preview.after[:, preview.valid]

    @functools.cached_property
    def preview(self) -> PairWindow:
        """The whole pair with at most 1024 pixels a side, read once and kept."""
        return self.read_decimated(_PREVIEW_SIDE)

    @functools.cached_property
    def preflight(self) -> Preflight:
        """What was read and how; the first use reads `preview`."""
        sources = (self._before.source, self._after.source)
        placements = (self._before.placement(), self._after.placement())
        return Preflight(
            sources=sources,
            placements=placements,
            selection=self._selection,
            grid=self.grid,
            aoi=self._aoi is not None,
            valid_fraction=float(self.preview.valid.mean()),
            sampled_px=self.preview.valid.size,
            warnings=(
                *warnings_for(sources, placements, self._selection),
                *self._negative(),
                *self._too_large(),
                *self._fills(),
            ),
        )

    def _negative(self) -> list[str]:
        """Warnings where a conversion makes many values negative: it was done before, perhaps."""
        found, valid = [], self.preview.valid
        for source, values in zip(self.sources, (self.preview.before, self.preview.after), strict=True):
            if source.conversion is not None and valid.any():
                share = float((values[:, valid] < _NEGATIVE).mean())
                if share > _NEGATIVE_SHARE:
                    found.append(
                        f"{share:.0%} of the values of {source.path} are negative after its offset was added: it may "
                        "have been added before; look at both dates, and see --values"
                    )
        return found

    def _too_large(self) -> list[str]:
        """Warnings where values are beyond what can be counted with, and not declared as no data."""
        found = []
        for source, values in zip(self.sources, (self.preview.before, self.preview.after), strict=True):
            declared = any(value is not None and abs(value) >= LARGEST for value in source.nodata)
            share = 0.0 if values.dtype.kind != "f" or declared else float((np.abs(values) >= LARGEST).mean())
            if share:
                found.append(
                    f"{share:.2%} of the values of {source.path} are infinite or beyond {LARGEST:g}, which neither "
                    "networks nor statistics can hold: they count as no data"
                )
        return found

    def _fills(self) -> list[str]:
        """Warnings about values that seem to stand for no data, and are not declared so."""
        found = []
        for k, (date, values) in enumerate((("first", self.preview.before), ("second", self.preview.after))):
            source = self.sources[k]
            fill = find_fill(values, self.preview.valid)
            if fill is None:
                continue
            gains = source.conversion[0] if source.conversion else (1.0, 0.0)
            stored = (fill.value - gains[1]) / gains[0]
            where = "along the border" if fill.collar else "far from all other values"
            option = f"{stored:g}" if date == "first" else f"auto,{stored:g}"
            found.append(
                f"{fill.share:.1%} of the {date} date's valid pixels hold {stored:g} in all bands, {where}: if that "
                f"means no data, say so with --nodata {option}"
            )
        return found

    def read(self, tile: Tile) -> PairWindow:
        """Both dates in one tile of `grid`.

        Args:
            tile: a window that lies inside the grid.

        Raises:
            ShapeError: if the tile reaches beyond the grid.
            RasterError: if a file cannot be read there.
            RemoteError: if a server fails.
        """
        if min(tile.row, tile.col) < 0 or tile.stop_row > self.grid.height or tile.stop_col > self.grid.width:
            raise ShapeError(
                f"rows {tile.row} to {tile.stop_row}, columns {tile.col} to {tile.stop_col} reach beyond the grid of "
                f"{self.grid.height} x {self.grid.width} pixels; give a tile inside it"
            )
        with self._reading():
            before, valid = self._before.read(tile)
            after, valid_after = self._after.read(tile)
        return self._window(before, after, valid & valid_after, tile)

    def read_decimated(self, max_side: int) -> PairWindow:
        """Both dates over the whole grid, thinned out for statistics and thumbnails.

        Pixels are picked, not averaged, except where the file has overviews; then GDAL takes these.

        Args:
            max_side: largest height and width of the result in pixels, 1 or more.

        Raises:
            ShapeError: if ``max_side`` is below 1.
            RasterError: if a file cannot be read.
        """
        shape = self.grid.shape_within(max_side)
        with self._reading():
            before, valid = self._before.read_decimated(shape)
            after, valid_after = self._after.read_decimated(shape)
        return self._window(before, after, valid & valid_after, self.grid.tile)

    @property
    def shift(self) -> ShiftField | None:
        """The field that the second date is moved by; None: it is read where its georeference says."""
        return self._after.field

    def coregister(self, field: ShiftField | None) -> None:
        """Read the second date moved by a field from now on, in the one resampling that also puts it on the grid.

        Args:
            field: where the second date shows what the first one shows at a pixel, measured against the file's own
                georeference (see `terradelta.registration.blocks`); None: read it where its georeference says.

        Raises:
            ShapeError: if the field is for another grid.
            RasterError: if the file cannot be opened again, or the pair is closed.
        """
        if field is not None and field.shape != self.grid.shape:
            raise ShapeError(f"the shift field is for {field.shape} pixels, the grid has {self.grid.shape}; measure it")
        with self._reading():
            self._after.move(field)
        for cached in ("preview", "preflight"):
            self.__dict__.pop(cached, None)

    def _reading(self) -> ExitStack:
        """The lock and, as GDAL's settings belong to a thread, the settings."""
        stack = ExitStack()
        stack.enter_context(self._lock)
        stack.enter_context(rasterio.Env(GDAL_CACHEMAX=self._cache))
        if self._closed:
            stack.close()
            raise RasterError("this pair is closed; read inside the with block of open_pair")
        return stack

    def _window(self, before: NDArray[Any], after: NDArray[Any], valid: NDArray[np.bool_], tile: Tile) -> PairWindow:
        shape = (valid.shape[0], valid.shape[1])
        if self._aoi is not None:
            valid &= self._aoi.inside(tile, shape)
        return PairWindow(before, after, valid, self.grid.crop(tile).resized(shape))

    def close(self) -> None:
        """Close both files; reading is an error afterwards."""
        with self._lock:
            self._closed = True
            self._before.close()
            self._after.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_pair(
    before: str | Path | ArraySource,
    after: str | Path | ArraySource,
    *,
    grid: Grid | None = None,
    bands: Sequence[int | str] | None = None,
    wanted: Sequence[str] | None = None,
    aoi: Aoi | None = None,
    reading: Reading = Reading(),
) -> Pair:
    """Open two raster files as one pair on the grid of the first.

    A date is read as it is where its pixels coincide with the grid's within 0.001 pixel at all four corners of the
    common grid; otherwise it is warped. Images without any CRS are compared pixel by pixel and must be of equal size.

    Args:
        before: first date: a file or http URL of an image or a STAC item, or an array, see `array_source`.
        after: second date, likewise; any CRS, resolution, extent, dtype or order of named bands.
        grid: the grid to use in place of the first date's.
        bands: bands to compare, by number from 1 or by name; all of them by default, alpha bands left out.
        wanted: names of the bands that a model takes; used where ``bands`` is not given: by name where both files
            have them, otherwise the first bands, with a warning in the preflight.
        aoi: area of interest: box (west, south, east, north) or shapely polygon in degrees, or an
            `terradelta.raster.overlap.Area` in any CRS; pixels outside are invalid.
        reading: how files are read.

    Returns:
        The pair, to be used in a ``with`` block.

    Raises:
        RasterError: if a file cannot be opened or, in images of up to 4096 x 4096 pixels, no pixel is valid on both
            dates; larger ones, and arrays of dask, are not searched.
        GridError: if the dates and the area of interest do not share a place, or only one date has a CRS.
        BandError: if the bands do not exist or do not match.

    Example:
        >>> import terradelta as td
        >>> with td.open_pair("before.tif", "after.tif", bands=["red"]) as pair:
        ...     window = pair.preview
        >>> window.before.shape, window.after.dtype.name, bool(window.valid.all())
        ((1, 128, 160), 'uint8', True)
    """
    names = wanted if bands is None else bands
    first, second = (
        date if isinstance(date, ArraySource) else read_input(date, names, allow_outside=reading.allow_outside)
        for date in (before, after)
    )
    told = parse_nodata(reading.nodata)
    first, second = (s.with_told(t, reading.nodata_bands) for s, t in zip((first, second), told, strict=True))
    sources = (first, second)
    selection = select_bands((first.path, first.bands), (second.path, second.bands), bands, wanted)
    sources, selection = _comparable(sources, selection, reading.values)
    reference, sources = on_reference(sources, grid)
    area = None if aoi is None else area_of_interest(aoi, reference)
    tile = common_tile(reference, sources, area)
    with ExitStack() as opened, rasterio.Env(GDAL_CACHEMAX=cache_bytes(*sources)):
        layers = []
        for source, selected in zip(sources, (selection.before, selection.after), strict=True):
            layers.append(layer_of(source, selected, reference.crop(tile), reading.resampling))
            opened.callback(layers[-1].close)
        pair = Pair((layers[0], layers[1]), selection, area and area.within(tile))
        if not any(isinstance(source, ArraySource) and source.lazy for source in sources):
            _require_valid(pair)
        opened.pop_all()
    return pair


def _comparable(
    sources: tuple[Source, Source], selection: BandSelection, values: str
) -> tuple[tuple[Source, Source], BandSelection]:
    """The sources with conversions that make their values mean the same; the selection with warnings about them."""
    first, second = sources
    (before, after), warnings = agree(
        (first.meaning, second.meaning),
        (first.positions(selection.before), second.positions(selection.after)),
        (first.path, second.path),
        values,
    )
    chosen = parse_values(values)
    if chosen is not None:
        first, second = (
            dataclasses.replace(source, meaning=told(kind, len(source.bands)))
            for source, kind in zip((first, second), chosen, strict=True)
        )
    converted = (dataclasses.replace(first, conversion=before), dataclasses.replace(second, conversion=after))
    return converted, dataclasses.replace(selection, warnings=(*selection.warnings, *warnings))


def cache_bytes(*sources: Source) -> int:
    """Size of GDAL's block cache with which no block is decoded more often than it costs little.

    - A file in strips or large blocks gets all that a row of tiles touches, up to 512 MiB: each tile would decode its
      strips from end to end.
    - One in small blocks gets what a tile touches, at least 16 MiB and up to 128 MiB: neighbours in a row find the
      blocks that they share. Those that two rows share are decoded twice, which nobody could measure in a whole run.
    - Behind a URL it gets a row's if 128 MiB do, for what is decoded again may be fetched again.

    A tile is one of 1504 x 1504 pixels here.
    """
    long = sum(_touched(source, source.grid.width) for source in sources if _is_long(source))
    others = [source for source in sources if not _is_long(source)]
    needed = sum(_touched(source, source.grid.width if source.remotes else _TILE_SIDE) for source in others)
    if needed > _CACHE_BLOCKS_BYTES:
        needed = min(sum(_touched(source, _TILE_SIDE) for source in others), _CACHE_BLOCKS_BYTES)
    return min(max(long + needed, _CACHE_BYTES[0]), _CACHE_BYTES[1])


def _is_long(source: Source) -> bool:
    """Whether a block reaches over more than a tile's width."""
    height, width = source.block
    return width >= source.grid.width or height * width >= _BIG_BLOCK_PX


def _touched(source: Source, width: int) -> int:
    """Bytes of the blocks that a window touches which is ``width`` pixels wide and as high as a tile."""
    rows, cols = (math.ceil(side / block) + 1 for side, block in zip((_TILE_SIDE, width), source.block, strict=True))
    share = min(cols * source.block[1] / source.grid.width, 1)
    return round(source.row_bytes * rows * source.block[0] * share)


def _require_valid(pair: Pair) -> None:
    """Search small pairs for a valid pixel; the first tile usually ends the search.

    So does a tile that cannot be read: whoever reads it says so, or goes around it.
    """
    if math.prod(pair.grid.shape) > _SCAN_LIMIT_PX:
        return
    for tile in blocks(pair.grid.shape, _SCAN_TILE):
        try:
            if pair.read(tile).valid.any():
                return
        except RasterError:
            return
    paths = " and ".join(pair.paths)
    raise RasterError(
        f"no pixel is valid on both dates where {paths} overlap; check the nodata value and the mask of both, "
        f"the bands chosen, and the area of interest (values beyond {LARGEST:g} are no data, too)"
    )
