"""One verdict of a review, and the table that holds them."""

from dataclasses import dataclass
from typing import Literal

import shapely

__all__ = ["FILE", "LAYER", "SCHEMA", "Kind", "Verdict", "VerdictRow"]

FILE = "review.gpkg"
"""Of a review, in the folder of the product that it judges."""
LAYER = "verdicts"
SCHEMA = 1
"""Version of the table; stands in the table ``terradelta_review`` (key, value) with the product's identity."""

Verdict = Literal["accept", "reject", "unsure"]
Kind = Literal["judged", "drawn", "erased"]


@dataclass(frozen=True)
class VerdictRow:
    """One row of ``verdicts``; rows are only added, and an undone one keeps its place with the time of its undoing.

    In the order of their numbers, rows that are not undone paint the labels of their areas, later ones over earlier
    ones: accepted and drawn is changed, rejected and erased is unchanged, unsure is unknown.
    """

    number: int
    """From 1, the GeoPackage's fid; the order in which verdicts were given."""
    kind: Kind
    """``judged``: a polygon of ``change.gpkg``; ``drawn``: an area that the map missed, or a piece of a split polygon;
    ``erased``: an area in which nothing changed."""
    polygon: int | None
    """Field ``id`` of the polygon of ``change.gpkg`` that is meant; None for what was drawn freely."""
    verdict: Verdict
    author: str
    time: str
    """ISO 8601, UTC."""
    undone: str | None
    """Time of its undoing; None while it counts."""
    geometry: shapely.Geometry
    """Polygon or multipolygon in the coordinates of ``change.gpkg``."""
