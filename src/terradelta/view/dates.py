"""Pictures of the two dates, read from the original images as `map` read them: the same masks, values and shift."""

import contextlib
import dataclasses
import threading
from pathlib import Path
from typing import Any, cast

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import Resampling

from terradelta.errors import InputError, RasterError, TerradeltaError
from terradelta.geo.grid import Grid, Tile
from terradelta.geo.shift import ShiftField
from terradelta.mapping.provenance import input_record
from terradelta.mapping.quicklooks import Shade, shade_of
from terradelta.raster.common_grid import on_reference
from terradelta.raster.nodata import NodataBands, parse_nodata
from terradelta.raster.remote import is_url
from terradelta.raster.source import Source
from terradelta.raster.stac import read_input
from terradelta.raster.warp import Layer
from terradelta.receipt.map_record import InputRecord
from terradelta.view.product import Product

__all__ = ["DATES", "Dates"]

DATES = ("before", "after")
_PREVIEW_SIDE, _OVERVIEW_SIDE = 1024, 2048
"""Sides of what `map` measures its stretch on, and of what is kept of an image without overviews, pixels."""


class Dates:
    """Both dates on the grid that a product is shown on.

    A date that cannot be read has a reason in its place; the other is shown. Safe to use from several threads.

    Args:
        product: whose images they are.
        before: where the first date lies now; None: where the receipt says.
        after: the same for the second date.
    """

    def __init__(self, product: Product, before: str | None = None, after: str | None = None) -> None:
        self._product = product
        self._dates = [_Date(product, i, given) for i, given in enumerate((before, after))]
        self._shade: Shade | None = None
        self._lock = threading.Lock()

    def record(self) -> dict[str, Any]:
        """What a page says of the dates, as JSON-ready values."""
        return {name: date.record() for name, date in zip(DATES, self._dates, strict=True)}

    def problems(self) -> list[str]:
        """Why a date cannot be shown, a sentence each."""
        return [
            f"{date.problem}. Say where the image lies now: --{name} FILE"
            for name, date in zip(DATES, self._dates, strict=True)
            if date.problem
        ]

    def prepare(self) -> None:
        """Thin out what has no overviews, and measure the stretch: the first tiles then need not wait for it."""
        with contextlib.suppress(TerradeltaError):  # it is said where the tile is asked for
            for date in self._dates:
                if date.layer is not None:
                    date.overview()
            self._shading()

    def compare(self) -> None:
        """Compare both files with those that were mapped, by their SHA-256: that takes a second for a gigabyte."""
        for date in self._dates:
            date.compare()

    def picture(self, name: str, tile: Tile, shape: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """A window of the shown grid as a picture.

        Args:
            name: one of `DATES`.
            tile: inside the grid.
            shape: (height, width) of the picture.

        Returns:
            ``(3, *shape)`` red, green, blue, and ``shape``, where the date has data.

        Raises:
            RasterError: if the image cannot be read.
        """
        values, valid = self._dates[DATES.index(name)].read(tile, shape)
        return self._shading().picture(values), valid

    def _shading(self) -> Shade:
        """The stretch of `map`'s own pictures: of both dates together, from a thinned-out view where one is needed."""
        with self._lock:
            if self._shade is None:
                self._shade = self._measured()
            return self._shade

    def _measured(self) -> Shade:
        there = [date for date in self._dates if date.layer is not None]
        if not there:
            raise RasterError("; ".join(date.problem for date in self._dates))
        first, last = there[0], there[-1]
        if all(date.dtype == np.uint8 for date in there):  # nothing to measure
            empty = np.zeros((first.count, 1, 1), np.uint8)
            return shade_of(empty, empty, np.ones((1, 1), bool))
        (before, valid), (after, valid_after) = first.thinned(), last.thinned()
        return shade_of(before, after, valid & valid_after)

    def close(self) -> None:
        """Close the files."""
        for date in self._dates:
            date.close()


class _Date:
    """One date: open, or the reason why not."""

    def __init__(self, product: Product, number: int, given: str | None) -> None:
        receipt = product.receipt
        self._product, self._number = product, number
        self._known = (receipt.inputs.before, receipt.inputs.after)[number]
        self.path, self._given = given or self._known.path, given is not None
        self.layer: Layer | None = None
        self.problem = self.difference = ""
        self._compared = False
        self._overview: tuple[NDArray[Any], NDArray[np.bool_]] | None = None
        self._lock = threading.Lock()
        try:
            if given is None and is_url(self.path):
                raise InputError(f"the image was mapped from {self.path}; the network is asked only by your leave")
            self.layer = self._open(self._source())
        except TerradeltaError as error:
            self.problem = str(error)

    @property
    def selected(self) -> tuple[int, ...]:
        """Numbers of the bands that were compared."""
        bands = self._product.receipt.pair.bands
        return (bands.before, bands.after)[self._number]

    @property
    def count(self) -> int:
        """Number of bands."""
        return len(self.selected)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the values as they are read."""
        source = self._layer().source
        return np.dtype(np.float32) if source.conversion else source.dtype(self.selected)

    def read(self, tile: Tile, shape: tuple[int, int]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Values ``(C, *shape)`` and where they are valid."""
        layer, side = self._layer(), max(self._product.tiles.grid.shape)
        if side > _OVERVIEW_SIDE and min(tile.height / shape[0], tile.width / shape[1]) >= side / _OVERVIEW_SIDE:
            overview = self.overview()
            if overview is not None:
                return _cut(overview, self._product.tiles.grid.shape, tile, shape)
        with self._lock:
            return layer.read_resized(tile, shape)

    def overview(self) -> tuple[NDArray[Any], NDArray[np.bool_]] | None:
        """The whole date thinned out to 2048 pixels a side, once and for all; None where the file has overviews."""
        layer, grid = self._layer(), self._product.tiles.grid
        with self._lock:
            if self._overview is None and max(grid.shape) > _OVERVIEW_SIDE and not layer.has_overviews:
                self._overview = layer.read_decimated(grid.shape_within(_OVERVIEW_SIDE))
            return self._overview

    def thinned(self) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """The whole date, as `map` thins it out for its pictures."""
        layer, grid = self._layer(), self._product.tiles.grid
        shape, overview = grid.shape_within(_PREVIEW_SIDE), self.overview()
        if overview is not None:
            return _cut(overview, grid.shape, grid.tile, shape)
        with self._lock:
            return layer.read_decimated(shape)

    def record(self) -> dict[str, Any]:
        """What a page says of the date."""
        return {
            "path": self.path,
            "name": Path(self.path).name,
            "mapped_path": self._known.path,
            "problem": self.problem or None,
            "difference": self.difference or None,
            "compared": self._compared,
            "bands": list(self._product.receipt.pair.bands.names),
        }

    def compare(self) -> None:
        """Find out whether the file is the one that was mapped."""
        if self.layer is None or self.layer.source.remotes:
            return
        try:
            now = input_record(self.layer.source, self.layer.placement())
        except TerradeltaError as error:
            self.problem = str(error)
            return
        self.difference = _difference(now, self._known)
        self._compared = True

    def close(self) -> None:
        if self.layer is not None:
            with self._lock:
                self.layer.close()

    def _layer(self) -> Layer:
        if self.layer is None:
            raise RasterError(self.problem)
        return self.layer

    def _source(self) -> Source:
        options, names = self._product.receipt.options, self._product.receipt.pair.bands.names
        # A receipt may come from anyone; only who names a VRT here lets it lead to other folders, and to the network.
        source = read_input(self.path, names, allow_outside=self._given)
        numbers = {band.index for band in source.bands}
        if not numbers.issuperset(self.selected):
            raise RasterError(
                f"{self.path} has {len(numbers)} bands, but numbers {', '.join(map(str, self.selected))} were mapped"
            )
        told = parse_nodata(options.nodata)[self._number]
        source = source.with_told(told, cast("NodataBands", options.nodata_bands))
        return dataclasses.replace(source, conversion=self._known.values.converted)

    def _open(self, source: Source) -> Layer:
        shown, grid = self._product.tiles.grid, self._product.grid
        _, placed = on_reference((source, source), None if shown.crs is None else shown)
        if shown.crs is None:
            shown = Grid(None, Affine.scale(1, -1) @ shown.transform, shown.shape)  # undoes `Grid.on_map`
        method = self._known.placement.resampling or "bilinear"
        layer = Layer(placed[self._number], self.selected, shown, Resampling[method])
        registration = self._product.receipt.registration
        record = registration.found.field if registration.corrected and self._number == 1 else None
        if record is not None and shown.shape == grid.shape == record.size_px:
            layer.move(ShiftField(record.size_px, np.array(record.nodes_px, np.float64)))
        return layer


def _cut(
    overview: tuple[NDArray[Any], NDArray[np.bool_]], whole: tuple[int, int], tile: Tile, shape: tuple[int, int]
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """A tile of a grid of shape ``whole``, picked from a thinned-out view of all of it."""
    values, valid = overview
    rows, cols = (
        np.minimum(((start + (np.arange(count) + 0.5) * size / count) * have / length).astype(np.intp), have - 1)
        for start, size, count, have, length in (
            (tile.row, tile.height, shape[0], valid.shape[0], whole[0]),
            (tile.col, tile.width, shape[1], valid.shape[1], whole[1]),
        )
    )
    return values[:, rows[:, None], cols], valid[rows[:, None], cols]


def _difference(now: InputRecord, known: InputRecord) -> str:
    """How a file differs from the one that was mapped; empty if it does not."""
    if now.sha256 == known.sha256:
        return ""
    how = f"{now.bytes:,} bytes, not {known.bytes:,}" if now.bytes != known.bytes else "the same size, other content"
    return f"{now.path} is not the file that was mapped ({how}): what is shown may not be what the map was made of"
