"""The common grid of two images: the reference that both are read on, and the part of it that they share."""

import dataclasses

import pyproj
from affine import Affine

from terradelta.errors import GridError
from terradelta.geo.grid import Grid, Tile, is_local
from terradelta.raster.longitudes import around, eastward
from terradelta.raster.overlap import AreaOfInterest, footprint, tile_within
from terradelta.raster.source import Source

__all__ = ["common_tile", "on_reference"]


def on_reference(sources: tuple[Source, Source], grid: Grid | None) -> tuple[Grid, tuple[Source, Source]]:
    """The reference grid, and the sources with grids that can be compared with it.

    Args:
        sources: both dates' files.
        grid: the grid to use; None: the first date's.

    Raises:
        GridError: if only one date has a CRS, or none has and they are not of one size and place.
    """
    _check_local(sources)
    first, second = sources
    lacking = [source.path for source in sources if source.grid.crs is None]
    if len(lacking) == 1:
        raise GridError(
            f"{lacking[0]} has no CRS, but the other date has one; assign it with "
            f"'gdal_edit.py -a_srs EPSG:CODE FILE' or 'rio edit-info --crs EPSG:CODE FILE'"
        )
    if not lacking:
        if grid is not None and grid.crs is None:
            raise GridError("the given grid has no CRS, but both images have one; give a grid with a CRS")
        first = dataclasses.replace(first, grid=eastward(first.grid))
        reference = grid or first.grid
        return reference, (first, around(second, reference))
    if grid is not None:
        raise GridError("images without a CRS cannot be put on a given grid; leave grid out, or assign a CRS to both")
    _check_plain(first, second)
    pixels = Grid(None, Affine.identity(), _upright_shape(first))
    planes = (Grid(None, source.upright or Affine.identity(), source.grid.shape) for source in sources)
    turned = [dataclasses.replace(source, grid=plane) for source, plane in zip(sources, planes, strict=True)]
    return pixels, (turned[0], turned[1])


def _upright_shape(source: Source) -> tuple[int, int]:
    """(height, width) of a picture as viewers show it."""
    height, width = source.grid.shape
    return (width, height) if source.upright is not None and source.upright.a == 0 else (height, width)


def _check_local(sources: tuple[Source, Source]) -> None:
    """Raise GridError if one date's CRS is a local plane, which says no place on the Earth, and the other's is not."""
    local = [source for source in sources if source.grid.crs is not None and is_local(source.grid.crs)]
    if len(local) != 1:
        return
    (source,) = local
    name = pyproj.CRS.from_wkt(source.grid.crs.to_wkt()).name  # type: ignore[union-attr]
    raise GridError(
        f"{source.path} has the local CRS {name!r:.100}, which says no place on the Earth, so it cannot be laid on the "
        f"other date; if you know what it stands for, assign that: 'gdal_edit.py -a_srs {_code(name)} FILE'"
    )


def _code(name: str) -> str:
    """The code of the CRS of a name, as ``EPSG:2154``."""
    try:
        found = pyproj.CRS.from_user_input(name).to_authority()
    except pyproj.exceptions.CRSError:
        found = None
    return ":".join(found) if found else "EPSG:CODE"


def _check_plain(first: Source, second: Source) -> None:
    """Two images without a CRS: nothing but equal sizes says that they show the same place."""
    if _upright_shape(first) != _upright_shape(second):
        sizes = ["{} is {} x {}".format(s.path, *_upright_shape(s)) for s in (first, second)]
        raise GridError(
            f"without a CRS both images must have the same size, but {sizes[0]} and {sizes[1]} pixels (rows x columns);"
            " crop or resize one, or assign a CRS to both"
        )
    placed = [source.grid.transform for source in (first, second) if not source.grid.transform.is_identity]
    if len(placed) == 2 and first.grid.offset_in(second.grid) != (0, 0):
        raise GridError(
            f"{first.path} and {second.path} lie at different places of an unnamed CRS (world files); "
            "assign the CRS to both, e.g. with 'rio edit-info --crs EPSG:CODE FILE'"
        )


def common_tile(reference: Grid, sources: tuple[Source, Source], area: AreaOfInterest | None) -> Tile:
    """The part of the reference grid that both dates and the area of interest cover.

    Raises:
        GridError: if they share no place.
    """
    first, second = (footprint(source.grid, reference) for source in sources)
    shared = first.intersection(second)
    if shared.area == 0:
        extents = "; ".join(f"{source.path}: {_extent(source.grid)}" for source in sources)
        raise GridError(
            f"the images do not overlap{'' if reference == sources[0].grid else ' on the given grid'} "
            f"({extents}); give two images of the same place, and check that both have the right CRS"
        )
    tile = tile_within(shared, reference)
    if tile is None:
        raise GridError(
            f"the overlap of {sources[0].path} and {sources[1].path} holds no whole pixel of the common grid; "
            "give images that share more of the place"
        )
    cropped = tile if area is None else area.crop(tile)
    if cropped is None:
        raise GridError(
            f"the area of interest lies outside the overlap of both images ({_extent(reference.crop(tile))}); "
            "check its order (west, south, east, north) and its CRS"
        )
    return cropped


def _extent(grid: Grid) -> str:
    try:
        west, south, east, north = grid.lonlat_bounds()
    except GridError:
        return f"{grid.bounds} in {grid.crs}"
    return f"longitude {west:.5f} to {east:.5f}, latitude {south:.5f} to {north:.5f}"
