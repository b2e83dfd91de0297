"""Where a file says that its pixels lie, beside an affine transform in a CRS.

- Ground control points: an affine transform where one fits them, else a warped view by GDAL's polynomial.
- Rational polynomial coefficients and geolocation arrays need a terrain model or a choice: refused, with the cure.
- The orientation that cameras write into plain pictures: their upright plane is what is compared.
"""

from collections.abc import Sequence

import numpy as np
import rasterio.shutil
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.enums import Resampling
from rasterio.io import DatasetReader, MemoryFile
from rasterio.transform import from_gcps
from rasterio.vrt import WarpedVRT

from terradelta.errors import GridError, RasterError
from terradelta.geo.grid import Grid

__all__ = ["by_points", "file_grid", "refuse_unplaced", "upright", "warped_by_points"]

_FITS_PX = 0.25
"""Largest distance of a control point from an affine transform that counts as fitting."""
_TURNS = {
    2: Affine(-1, 0, 1, 0, 1, 0),
    3: Affine(-1, 0, 1, 0, -1, 1),
    4: Affine(1, 0, 0, 0, -1, 1),
    5: Affine(0, 1, 0, 1, 0, 0),
    6: Affine(0, -1, 1, 1, 0, 0),
    7: Affine(0, -1, 1, -1, 0, 1),
    8: Affine(0, 1, 0, -1, 0, 1),
}
"""EXIF's orientations: from (col, row) in the file to those of the upright picture, both from 0 to 1."""


def refuse_unplaced(dataset: DatasetReader, name: str) -> None:
    """Refuse a file whose only georeference is one that cannot be followed.

    Raises:
        RasterError: names what the file has, and the cure.
    """
    if dataset.crs is not None or not dataset.transform.is_identity or dataset.gcps[0]:
        return
    if dataset.rpcs is not None:
        raise RasterError(
            f"{name} is placed by rational polynomial coefficients (RPC) only, which need a terrain model; "
            "orthorectify it first, e.g. with 'gdalwarp -rpc -to RPC_DEM=DEM.tif -t_srs EPSG:CODE FILE OUT.tif'"
        )
    if dataset.tags(ns="GEOLOCATION"):
        raise RasterError(
            f"{name} is placed by geolocation arrays only; warp it first, e.g. with "
            "'gdalwarp -geoloc -t_srs EPSG:CODE FILE OUT.tif'"
        )


def by_points(dataset: DatasetReader) -> bool:
    """Whether nothing but ground control points places a file."""
    return bool(dataset.gcps[0]) and dataset.transform.is_identity


def file_grid(dataset: DatasetReader) -> Grid | None:
    """The grid of a file; None where its ground control points fit no affine transform.

    Raises:
        GridError: if its transform is degenerate.
    """
    if not by_points(dataset):
        # Without a world file, the transform of this driver is what happens to be in memory (GDAL 3.10).
        nowhere = dataset.driver == "PNM" and len(dataset.files) == 1
        return Grid(dataset.crs, Affine.identity() if nowhere else dataset.transform, dataset.shape)
    points, crs = dataset.gcps
    if len(points) < 3:
        raise GridError(f"{len(points)} ground control points do not place an image; give it three or more")
    grid = Grid(crs, from_gcps(points), dataset.shape)
    return grid if _misfit(grid, points) <= _FITS_PX else None


def _misfit(grid: Grid, points: Sequence[GroundControlPoint]) -> float:
    """Largest distance of a point from where the grid has it, pixels."""
    placed = [~grid.transform @ (point.x, point.y) for point in points]
    return max(float(np.hypot(x - point.col, y - point.row)) for (x, y), point in zip(placed, points, strict=True))


def warped_by_points(dataset: DatasetReader, name: str) -> str:
    """The text of a VRT that shows a file warped by its ground control points, in their CRS.

    Raises:
        RasterError: if GDAL cannot warp it.
    """
    _, crs = dataset.gcps
    plain = not any(value is not None for value in dataset.nodatavals) and "alpha" not in _colours(dataset)
    if crs is None:
        raise RasterError(f"{name} has ground control points of an unnamed CRS; warp it first with gdalwarp -s_srs")
    options = {"add_alpha": True} if plain else {}
    with (
        WarpedVRT(dataset, src_crs=crs, crs=crs, resampling=Resampling.bilinear, **options) as warped,
        MemoryFile(ext=".vrt") as memory,
    ):
        rasterio.shutil.copy(warped, memory.name, driver="VRT")
        text: bytes = memory.read()
        return text.decode()


def _colours(dataset: DatasetReader) -> set[str]:
    return {each.name for each in dataset.colorinterp}


def upright(dataset: DatasetReader) -> Affine | None:
    """Where a plain picture's pixels (col, row) lie in its upright plane; None where they lie upright in the file."""
    orientation = str(dataset.tags().get("EXIF_Orientation", "1")).strip()
    turn = _TURNS.get(int(orientation)) if orientation in map(str, _TURNS) else None
    if turn is None or dataset.crs is not None or not dataset.transform.is_identity:
        return None
    height, width = dataset.shape
    tall, wide = (width, height) if int(orientation) >= 5 else (height, width)
    scaled: Affine = Affine.scale(wide, tall) @ turn @ Affine.scale(1 / width, 1 / height)
    return scaled
