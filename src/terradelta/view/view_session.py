"""All that a server needs of one product: opened once, closed at the end."""

import functools
import getpass
import shlex
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from terradelta.errors import RasterError
from terradelta.geo.grid import Tile
from terradelta.html.pictures import file_content
from terradelta.products.writer import POLYGONS, PROBABILITY
from terradelta.review.store import ReviewStore
from terradelta.view.dates import DATES, Dates
from terradelta.view.gate import lasting_token, random_token
from terradelta.view.labelling import LabellingTask
from terradelta.view.polygon_index import PolygonIndex
from terradelta.view.probability import Probability
from terradelta.view.product import Product, open_product
from terradelta.view.tile_grid import SIDE

__all__ = ["FORMATS", "PROBABILITY_LAYER", "Session", "ViewOptions", "default_author"]

FORMATS = {"png": "image/png", "webp": "image/webp", "jpg": "image/jpeg"}
PROBABILITY_LAYER = "probability"
_TILES = 256
_HEAD_START_S, _QUIET_S = 1.0, 2.0
"""How long a page goes before what would keep its files waiting; how long nothing is asked for before images are read
whole, to compare them: that can take seconds of CPU.
"""
_PAUSES = 5
"""Who never rests is told all the same."""
_OPTIONS = {"png": {"compress_level": 6}, "webp": {"quality": 85, "method": 2}, "jpg": {"quality": 88}}
_KIND = {"png": "PNG", "webp": "WEBP", "jpg": "JPEG"}


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
    lasting: bool = False
    """Whether the address is the same when the map is shown again, see `lasting_token`."""

    def command(self, folder: Path) -> str:
        """The command that shows a product like this."""
        given = {"before": self.before, "after": self.after, "author": self.author, "task": self.task}
        words = [word for name, value in given.items() if value is not None for word in (f"--{name}", str(value))]
        return shlex.join(["terradelta", "view", str(folder), *words])


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
        known = str(self.product.folder), self.product.receipt.created, str(options.task)
        self.token = lasting_token(*known) if options.lasting else random_token()
        self.command = options.command(self.product.folder)
        """What starts this again."""
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
        self._asked = time.monotonic()
        """When a picture was asked for, by the monotonic clock."""
        self._tile = functools.lru_cache(_TILES)(self._make_tile)

    def begin(self) -> None:
        """Do in a thread what need not be waited for: thin out the images, compare them with those that were mapped."""
        threading.Thread(target=self._begin, name="terradelta-view-begin", daemon=True).start()

    def _begin(self) -> None:
        self.shown.wait(_HEAD_START_S)
        self._asked = time.monotonic()
        self.dates.prepare()
        for _ in range(_PAUSES):
            time.sleep(max(0.0, _QUIET_S - (time.monotonic() - self._asked)))
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
        self._asked = time.monotonic()
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
    alpha = np.where(valid, np.uint8(255), np.uint8(0))[None]
    bands = values if extension == "jpg" else np.concatenate([values, alpha])
    return file_content(np.moveaxis(bands, 0, 2), _KIND[extension], **_OPTIONS[extension])


def default_author() -> str:
    """The user's name."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "unknown"
