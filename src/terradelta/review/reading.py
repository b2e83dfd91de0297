"""Reads the verdicts on a product: the rows of its ``review.gpkg``, and the polygons that they are about."""

from dataclasses import dataclass
from pathlib import Path

import pyogrio
import shapely

from terradelta.errors import InputError
from terradelta.products.gpkg import LAYER
from terradelta.products.writer import POLYGONS
from terradelta.raster.access import sealed_vectors
from terradelta.review.store import ReviewStore
from terradelta.review.verdicts import FILE, VerdictRow

__all__ = ["Review", "polygons_of", "read_review_file"]


@dataclass(frozen=True)
class Review:
    """What was said of one product."""

    product: Path
    rows: tuple[VerdictRow, ...]
    """In the order of their numbers; undone ones are left out."""
    polygons: dict[int, shapely.Geometry]
    """All of ``change.gpkg``, by ``id``."""

    @property
    def unjudged(self) -> list[shapely.Geometry]:
        """The polygons of the map without a verdict."""
        judged = {row.polygon for row in self.rows}
        return [shape for number, shape in self.polygons.items() if number not in judged]


def read_review_file(product: Path) -> Review:
    """The verdicts that count, and the polygons of the map.

    Args:
        product: folder that `map` made.

    Raises:
        InputError: if the folder holds no review or no map, they do not belong together, or cannot be read.
    """
    store = ReviewStore(product)
    if not store.path.is_file():
        raise InputError(f"{product} holds no {FILE}; judge its polygons first, with `terradelta view {product}`")
    return Review(product, tuple(row for row in store.rows() if row.undone is None), polygons_of(product))


def polygons_of(product: Path) -> dict[int, shapely.Geometry]:
    """The polygons of a map by their ``id``.

    Raises:
        InputError: if they cannot be read.
    """
    path = product / POLYGONS
    try:
        with sealed_vectors():
            meta, _, blobs, columns = pyogrio.raw.read(path, layer=LAYER)
        numbers = columns[list(meta["fields"]).index("id")]
        return {int(number): shape for number, shape in zip(numbers, shapely.from_wkb(blobs), strict=True)}
    except (RuntimeError, ValueError, shapely.errors.GEOSException) as error:  # pyogrio's are RuntimeErrors
        raise InputError(f"{path} cannot be read ({error}); map again") from error
