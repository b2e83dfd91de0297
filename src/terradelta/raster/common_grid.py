"""The common grid of two images: the reference that both are read on, and the part of it that they share."""

import dataclasses

from affine import Affine

from terradelta.errors import GridError
from terradelta.geo.grid import Grid, Tile
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
        return grid or first.grid, sources
    if grid is not None:
        raise GridError("images without a CRS cannot be put on a given grid; leave grid out, or assign a CRS to both")
    _check_plain(first, second)
    pixels = Grid(None, Affine.identity(), first.grid.shape)
    return pixels, (dataclasses.replace(first, grid=pixels), dataclasses.replace(second, grid=pixels))


def _check_plain(first: Source, second: Source) -> None:
    """Two images without a CRS: nothing but equal sizes says that they show the same place."""
    if first.grid.shape != second.grid.shape:
        sizes = [f"{s.path} is {s.grid.height} x {s.grid.width}" for s in (first, second)]
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
