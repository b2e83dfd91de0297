"""Samples of a map that a person labels in the browser, without being told what the map says there."""

import contextlib
import math
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from terradelta.area.measure import AreaReport, area_receipt, measure
from terradelta.area.samples import LAYER
from terradelta.errors import InputError, OutputError
from terradelta.geo.grid import Tile
from terradelta.products.change import CLASSES
from terradelta.receipt import plain
from terradelta.view.product import Product

__all__ = ["LabellingTask"]

_REACH_PX = 64
"""Pixels to each side of a sample that its window shows."""
_BUSY_S = 20.0
UNSURE = "unsure"
"""The field that is added for samples of which nobody can tell."""
_CODES: dict[object, int | None] = {0: 0, 1: 1, "unchanged": 0, "changed": 1, "unsure": None}
_RTREE = ("ST_IsEmpty", "ST_MinX", "ST_MaxX", "ST_MinY", "ST_MaxY")


class LabellingTask:
    """A GeoPackage of samples, as `terradelta area --draw` writes it; labels are written into it one by one.

    Args:
        product: the map that they were drawn from.
        path: the file.

    Raises:
        InputError: if it holds no such samples.
    """

    def __init__(self, product: Product, path: Path) -> None:
        self._product, self.path, self._lock = product, path, threading.Lock()
        if path.suffix.lower() != ".gpkg" or not path.is_file():
            raise InputError(
                f"{path} is no GeoPackage of samples; make one: terradelta area {product.folder} --draw 200 -o {path}"
            )
        self._places = self._read_places()

    def record(self) -> dict[str, Any]:
        """The samples in random order with what was labelled so far, as JSON-ready values.

        A label is ``changed``, ``unchanged``, ``unsure``, or None where nothing was said yet.
        """
        with self._database() as database:
            chosen = f"id, label, {UNSURE if _has_unsure(database) else 0}"
            found = database.execute(f'SELECT {chosen} FROM "{LAYER}"').fetchall()
        labels = {number: _word(label, unsure) for number, label, unsure in found}
        samples = [{"id": number, **place, "label": labels.get(number)} for number, place in self._places.items()]
        done = sum(each["label"] is not None for each in samples)
        return {"file": self.path.name, "total": len(samples), "labelled": done, "samples": samples}

    def label(self, number: int, label: object) -> None:
        """Write a label so that it is on the disk when this returns.

        Args:
            number: id of the sample.
            label: 0 or ``unchanged``, 1 or ``changed``; ``unsure``, which counts as no label; None takes it back.

        Raises:
            InputError: if there is no such sample or label.
            OutputError: if the file cannot be written.
        """
        if isinstance(label, bool) or not (label is None or (isinstance(label, int | str) and label in _CODES)):
            raise InputError(f"the label is {label!r:.40}; it must be unchanged (0), changed (1), unsure or null")
        if number not in self._places:
            raise InputError(f"there is no sample {number}; ids are 1 to {len(self._places)}")
        code = None if label is None else _CODES[label]
        with self._lock, self._database() as database:
            for name in _RTREE:  # named by triggers of the spatial index, which a label does not set off
                database.create_function(name, 1, _never)
            database.execute("BEGIN IMMEDIATE")
            if not _has_unsure(database):
                database.execute(f'ALTER TABLE "{LAYER}" ADD COLUMN {UNSURE} INTEGER')
            values = (code, 1 if label == "unsure" else None, number)
            database.execute(f'UPDATE "{LAYER}" SET label = ?, {UNSURE} = ? WHERE id = ?', values)
            database.execute("COMMIT")

    def interval(self) -> dict[str, Any]:
        """The changed area with its interval, in sentences and as a receipt of `terradelta area`.

        ``ready`` says whether there is one. Whoever stops labelling when the result looks right makes it wrong, so the
        first sentence says what lacks a label.
        """
        left = sum(each["label"] is None for each in self.record()["samples"])
        early = [f"{left} of {len(self._places)} samples have no label yet: this is not the result."] if left else []
        try:
            found = measure(self._product.folder, samples=self.path)
        except InputError as error:
            return {"ready": False, "lines": [*early, f"{error}."], "receipt": None}
        ready = found.whole.changed is not None and not left
        return {"ready": ready, "lines": [*early, *_lines(found)], "receipt": plain(area_receipt(found))}

    def _read_places(self) -> dict[int, dict[str, Any]]:
        import pyogrio.raw  # slow to import
        import shapely

        try:
            meta, _, shapes, fields = pyogrio.raw.read(self.path, layer=LAYER)
        except (OSError, RuntimeError, ValueError) as error:
            raise InputError(f"{self.path} cannot be read as samples ({error}); draw them again") from error
        names = list(meta["fields"])
        if not {"id", "label"} <= set(names):
            raise InputError(f"{self.path} has the fields {', '.join(names) or '(none)'}; it needs id and label")
        points = shapely.from_wkb(shapes)
        numbers = [int(number) for number in fields[names.index("id")]]
        if len(set(numbers)) != len(numbers):
            raise InputError(f"{self.path} has an id twice; draw the samples again")
        places = zip(numbers, shapely.get_x(points).tolist(), shapely.get_y(points).tolist(), strict=True)
        return {number: self._place(x, y) for number, x, y in places}

    def _place(self, x: float, y: float) -> dict[str, Any]:
        """Where a sample is, its pixel, and the window to show around it; extents are x_min, y_min, x_max, y_max."""
        grid, t = self._product.grid, ~self._product.grid.transform
        col, row = math.floor(t.a * x + t.b * y + t.c), math.floor(t.d * x + t.e * y + t.f)
        if not (0 <= row < grid.height and 0 <= col < grid.width):
            raise InputError(f"{self.path} has a sample off the map, at x {x:.12g}, y {y:.12g}; give those of this map")
        window = Tile(row - _REACH_PX, col - _REACH_PX, 2 * _REACH_PX + 1, 2 * _REACH_PX + 1)
        pixel = grid.crop(Tile(row, col, 1, 1)).bounds
        return {"x": x, "y": y, "pixel": list(pixel), "window": list(grid.crop(window).bounds)}

    @contextlib.contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        try:
            with contextlib.closing(sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None)) as database:
                database.execute("PRAGMA synchronous = FULL")
                yield database
        except sqlite3.Error as error:
            raise OutputError(f"{self.path} cannot be used ({error}); close other programs that write to it") from error


def _has_unsure(database: sqlite3.Connection) -> bool:
    return any(name == UNSURE for _, name, *_ in database.execute(f'PRAGMA table_info("{LAYER}")'))


def _word(label: float | None, unsure: int | None) -> str | None:
    """What a page calls a label."""
    if label is None:
        return "unsure" if unsure else None
    return CLASSES[int(label)] if label in (0, 1) else None


def _lines(found: AreaReport) -> list[str]:
    """The result in sentences."""
    whole, changed = found.whole, found.whole.changed
    unit = "m²" if whole.tally.unit == "m" else "pixels"
    lines = [whole.note] if whole.note else []
    if changed is not None:
        lines.insert(
            0,
            f"Changed: {changed.value:,.0f} {unit}, with a 95 % interval of {changed.low:,.0f} to {changed.high:,.0f}. "
            f"The map shows {whole.mapped:,.0f} {unit}.",
        )
    if found.accuracy is not None:
        parts = [
            f"{name} accuracy {100 * each.value:.0f} % (± {100 * each.quantile * each.error:.0f} %)"
            for name, each in (("user's", found.accuracy.users[1]), ("producer's", found.accuracy.producers[1]))
        ]
        lines.append(f"Of change: {', '.join(parts)}.")
    return [*lines, f"Basis: {found.basis}", *(f"{note}." for note in found.notes)]


def _never(_: object) -> None:
    raise sqlite3.DataError("the spatial index is not written here")
