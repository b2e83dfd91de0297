"""Pairs that lie on one another by their georeference: GeoTIFF mosaics, with labels as rasters or as polygons.

The grid is the first date's, where both dates have data. The second date and a raster label are put on it window by
window, polygons are drawn on it window by window: nothing is read beyond the window.
"""

import contextlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import rasterio
import rasterio.warp
import shapely
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.features import rasterize
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from terradelta.errors import DataError, InputError, RasterError
from terradelta.geo.grid import Grid, Tile
from terradelta.lab.data.images import Image, palette_of
from terradelta.lab.data.labels import LabelCoding, decode_label, split_unknown
from terradelta.raster.access import GDAL_ERRORS, SMALL_CACHE, sealed_vectors
from terradelta.raster.pair import open_pair
from terradelta.raster.source import read_source

__all__ = ["VECTOR_PARTS", "VECTOR_SUFFIXES", "GroundReader"]

VECTOR_SUFFIXES = (".gpkg", ".geojson", ".json", ".shp")
"""Of labels that are polygons."""
VECTOR_PARTS = (".shx", ".dbf", ".prj", ".cpg")
"""Files that belong to a Shapefile."""
_AREAS = ("Polygon", "MultiPolygon", "CurvePolygon", "MultiSurface", "Unknown", "GeometryCollection")

Parts = tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]


class GroundReader:
    """One pair, open; close it after use. Not to be taken into another process.

    Args:
        name: the pair's name, for messages.
        before: image of the first date, with a CRS.
        after: image of the second date, with a CRS.
        label: an image or a file of polygons.
        coding: what the values of an image mean; polygons are areas of change.
        part: the part of the first date to take, in its pixels; all if None.

    Raises:
        DataError: if a file cannot be read, or the three do not share a place.
    """

    def __init__(
        self, name: str, before: Path, after: Path, label: Path, coding: LabelCoding, part: Tile | None
    ) -> None:
        self.name = name
        with self._reporting(), ExitStack() as files:
            self._pair = files.enter_context(open_pair(before, after))
            first = read_source(before).grid
            corner = self._pair.grid.offset_in(first)
            if corner is None:  # the common grid is cut from the first date's
                raise AssertionError(f"{name}: the common grid does not lie on the first date's")
            self._tile = _within(self._pair.grid, corner, part, name)
            self.grid = self._pair.grid.crop(self._tile)
            self._label: _Polygons | _Raster
            if label.suffix.lower() in VECTOR_SUFFIXES:
                self._label = _Polygons(label, self.grid)
            else:
                in_first = (corner[0] + self._tile.row, corner[1] + self._tile.col)
                self._label = _Raster(label, coding, self.grid, first, in_first)
                files.callback(self._label.close)
            self._files = files.pop_all()

    def read(self, window: Tile) -> Parts:
        """Both dates ``(C, h, w)``; label, where dates are valid, where the label is known, ``(h, w)``; on `grid`.

        Raises:
            DataError: if a file cannot be read there.
        """
        with self._reporting():
            inner = window.moved(self._tile.row, self._tile.col)
            pair = self._pair.read(inner)
            label, known = self._label.read(window)
        valid = pair.valid
        before, after = (np.where(valid, values, 0).astype(values.dtype) for values in (pair.before, pair.after))
        return before, after, label & valid & known, valid, known

    def close(self) -> None:
        """Close all files."""
        self._files.close()

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except DataError:
            raise
        except InputError as error:
            raise DataError(f"{self.name}: {error}") from error


def _within(grid: Grid, corner: tuple[int, int], part: Tile | None, name: str) -> Tile:
    """The part of the first date as a tile of the common grid, whose first pixel is ``corner`` of the first date."""
    if part is None:
        return grid.tile
    top, left = max(part.row - corner[0], 0), max(part.col - corner[1], 0)
    bottom, right = min(part.stop_row - corner[0], grid.height), min(part.stop_col - corner[1], grid.width)
    if bottom <= top or right <= left:
        raise DataError(
            f"{name}: rows {part.row} to {part.stop_row}, columns {part.col} to {part.stop_col} of the first date lie "
            f"outside the part that both dates cover ({grid.height} x {grid.width} pixels from row {corner[0]}, column "
            f"{corner[1]}); give a window inside it"
        )
    return Tile(top, left, bottom - top, right - left)


class _Raster:
    """A label that is an image, on a grid by nearest neighbour; a nodata value other than 0 means: no label here."""

    def __init__(self, path: Path, coding: LabelCoding, grid: Grid, first: Grid, corner: tuple[int, int]) -> None:
        """Open the label for a grid whose first pixel is ``corner`` of the first date, which has the grid ``first``."""
        self._path, self._coding, self._corner = path, coding, corner
        with _reading(path), ExitStack() as files:
            source = files.enter_context(read_source(path).open())
            self._nodata, self._palette = source.nodata, palette_of(source)
            self._source, self._warped = source, source.crs is not None
            if source.crs is not None:
                place = {"crs": grid.crs, "transform": grid.transform, "height": grid.height, "width": grid.width}
                options = {"resampling": Resampling.nearest, "src_nodata": None, "add_alpha": True}
                self._source = files.enter_context(WarpedVRT(source, **options, **place))
            elif source.shape != first.shape:
                raise DataError(
                    f"{path} has no CRS and is {source.shape[0]} x {source.shape[1]} pixels, the first date "
                    f"{first.height} x {first.width}; give a label of its size, or one with a CRS"
                )
            self.close = files.pop_all().close

    def read(self, window: Tile) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Label and where it is known, ``(h, w)``, in a window of the grid."""
        row, col = (0, 0) if self._warped else self._corner
        with _reading(self._path):
            values = self._source.read(window=Window(window.col + col, window.row + row, window.width, window.height))
        known = np.ones(values.shape[1:], np.bool_)
        if self._warped:
            values, known = values[:-1], values[-1] > 0
        unchanged = 1 if self._coding is LabelCoding.ONE_TWO else 0
        inside = np.where(known, values, unchanged).astype(values.dtype)
        image, said = split_unknown(Image(inside, self._palette, self._nodata), self._coding)
        known = known if said is None else known & said
        return decode_label(image, self._path, self._coding), known


class _Polygons:
    """A label that is areas of change: a pixel is changed where its centre lies in one."""

    def __init__(self, path: Path, grid: Grid) -> None:
        self._path, self._grid = path, grid
        with _reading(path):
            self._layer = _area_layer(path)
            info = pyogrio.read_info(path, layer=self._layer)
        if not info["crs"]:
            raise DataError(f"{path} has no CRS; assign the one of its coordinates, e.g. with ogr2ogr -a_srs EPSG:CODE")
        self._crs = CRS.from_user_input(info["crs"])
        if grid.crs is None:
            raise DataError(f"{path}: polygons need images with a CRS; give a label image, or assign the CRS")
        self._to_grid = None
        if self._crs != grid.crs:
            self._to_grid = Transformer.from_crs(info["crs"], grid.crs.to_wkt(), always_xy=True)

    def read(self, window: Tile) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Label and where it is known, ``(h, w)``, in a window of the grid."""
        part = self._grid.crop(window)
        with _reading(self._path):
            box = rasterio.warp.transform_bounds(part.crs, self._crs, *part.bounds)
            wkb = pyogrio.raw.read(self._path, layer=self._layer, columns=[], bbox=_widened(box))[2]
            shapes = [shape for shape in shapely.from_wkb(wkb) if shape is not None and not shape.is_empty]
        if self._to_grid is not None:
            shapes = [shapely.transform(shape, self._moved) for shape in shapes]
        known = np.ones(part.shape, np.bool_)
        if not shapes:
            return np.zeros(part.shape, np.bool_), known
        return rasterize(shapes, out_shape=part.shape, transform=part.transform, dtype=np.uint8) > 0, known

    def _moved(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack(self._to_grid.transform(points[:, 0], points[:, 1]))  # type: ignore[union-attr]


def _area_layer(path: Path) -> str:
    layers = [str(name) for name, kind in pyogrio.list_layers(path) if kind and kind.split(" ")[0] in _AREAS]
    if len(layers) != 1:
        found = f"{len(layers)} layers of polygons ({', '.join(layers)})" if layers else "no layer of polygons"
        raise DataError(f"{path} holds {found}; give a file with one layer, whose polygons are the changed areas")
    return layers[0]


def _widened(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """A box a hundredth larger on each side: a curved edge may leave the box of its ends."""
    x, y = (box[2] - box[0]) / 100, (box[3] - box[1]) / 100
    return box[0] - x, box[1] - y, box[2] + x, box[3] + y


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        with rasterio.Env(**SMALL_CACHE), sealed_vectors():
            yield
    except (*GDAL_ERRORS, RasterError, pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise DataError(f"{path} cannot be read ({error}); replace the file or leave the pair out") from error
