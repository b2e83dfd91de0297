"""All that a server needs of one product: opened once, closed at the end."""

import functools
import getpass
import importlib
import secrets
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from terradelta.errors import RasterError
from terradelta.geo.grid import Tile
from terradelta.products.writer import POLYGONS, PROBABILITY
from terradelta.review.store import ReviewStore
from terradelta.view.dates import DATES, Dates
from terradelta.view.labelling import LabellingTask
from terradelta.view.polygon_index import PolygonIndex
from terradelta.view.probability import Probability
from terradelta.view.product import Product, open_product
from terradelta.view.tile_grid import SIDE

__all__ = ["FORMATS", "PROBABILITY_LAYER", "Session", "ViewOptions", "default_author"]

FORMATS = {"png": "image/png", "webp": "image/webp", "jpg": "image/jpeg"}
PROBABILITY_LAYER = "probability"
_TOKEN_BYTES = 24
_TILES = 1024
_HEAD_START_S = 1.0
"""How long a page goes before what takes a second of CPU and would keep its files waiting."""
_OPTIONS = {"png": {"ZLEVEL": 6}, "webp": {"QUALITY": 85}, "jpg": {"QUALITY": 88}}
_DRIVER = {"png": "PNG", "webp": "WEBP", "jpg": "JPEG"}


@dataclass(frozen=True)
class ViewOptions:
    """How a product is looked at."""

    before: str | None = None
    """Where the first date lies now; None: where the receipt says."""
    after: str | None = None
    author: str | None = None
    """Who gives verdicts; None: the user's name."""
    task: Path | None = None
    """Samples to be labelled; the map's answer is hidden then."""


class Session:
    """One product, opened to be looked at; safe to use from several threads.

    Args:
        folder: that `map` made.
        options: how.

    Raises:
        InputError: if the folder is no product, its review is of another one, or the task's file holds no samples.
    """

    def __init__(self, folder: Path, options: ViewOptions = ViewOptions()) -> None:
        self.product: Product = open_product(folder)
        self.token = secrets.token_urlsafe(_TOKEN_BYTES)
        self.author = options.author or default_author()
        self.task = None if options.task is None else LabellingTask(self.product, options.task)
        self.dates = Dates(self.product, options.before, options.after)
        missing = self.product.missing
        at = self.product.folder
        self.probability = None if PROBABILITY in missing else Probability(at / PROBABILITY, self.product.tiles.grid)
        threshold = self.product.receipt.options.threshold
        self.polygons = None if POLYGONS in missing else PolygonIndex(at / POLYGONS, threshold)
        self.review = None if POLYGONS in missing else ReviewStore(at)
        self.shown = threading.Event()
        """Set once a page has begun to ask."""
        self._tile = functools.lru_cache(_TILES)(self._make_tile)

    def begin(self) -> None:
        """Do in a thread what need not be waited for: load what tiles need, compare the images with those mapped."""
        threading.Thread(target=self._begin, name="terradelta-view-begin", daemon=True).start()

    def _begin(self) -> None:
        self.shown.wait(_HEAD_START_S)
        importlib.import_module("rio_tiler.reader")
        self.dates.prepare()
        self.dates.compare()

    def tile(self, layer: str, level: int, x: int, y: int, extension: str) -> bytes | None:
        """A tile as a picture; None where there is none.

        Args:
            layer: one of `DATES`, or `PROBABILITY_LAYER`.
            level: see `TileGrid`.
            x: column of the tile.
            y: row of the tile.
            extension: one of `FORMATS`; a probability has ``png`` only.
        """
        return self._tile(layer, level, x, y, extension)

    def _make_tile(self, layer: str, level: int, x: int, y: int, extension: str) -> bytes | None:
        found = self.product.tiles.window(level, x, y)
        if found is None:
            return None
        window, shape = found
        values, valid = self.picture(layer, window, shape)
        whole = np.zeros((len(values), SIDE, SIDE), np.uint8)
        known = np.zeros((SIDE, SIDE), bool)
        whole[:, : shape[0], : shape[1]], known[: shape[0], : shape[1]] = values, valid
        return encoded(whole, known, extension)

    def picture(self, layer: str, window: Tile, shape: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """A window of the shown grid: ``(C, *shape)``, and where there is data.

        Raises:
            RasterError: if the file is missing or cannot be read.
        """
        if layer in DATES:
            return self.dates.picture(layer, window, shape)
        if self.probability is None:
            raise RasterError(f"{self.product.folder / PROBABILITY} is missing; map the pair again")
        return self.probability.picture(window, shape)

    def close(self) -> None:
        """Close all files."""
        self.dates.close()
        if self.probability is not None:
            self.probability.close()


def encoded(values: NDArray[np.uint8], valid: NDArray[np.bool_], extension: str) -> bytes:
    """A picture ``(C, h, w)`` as a file; transparent where not valid, unless it is a JPEG."""
    from rio_tiler.models import ImageData  # slow to import

    masked = np.ma.MaskedArray(values, np.broadcast_to(~valid, values.shape))
    image = ImageData(masked)
    return bytes(image.render(add_mask=extension != "jpg", img_format=_DRIVER[extension], **_OPTIONS[extension]))


def default_author() -> str:
    """The user's name."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "unknown"
