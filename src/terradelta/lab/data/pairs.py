"""Labelled pairs: what one is, where it lies, and the one protocol that training, evaluation and `bench` take.

A `PairFiles` says all that is needed to read its pair, so pairs of different archives can stand in one list. Nothing is
decoded before it is asked for, and only the window that is asked for is kept.
"""

import copy
import hashlib
import os
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from terradelta.errors import DataError, ShapeError
from terradelta.geo.grid import Grid, Tile
from terradelta.lab.data.georeferenced import VECTOR_PARTS, VECTOR_SUFFIXES, GroundReader
from terradelta.lab.data.images import ImageHeader, band_files, read_grid, read_header, read_image
from terradelta.lab.data.labels import LabelCoding, decode_label, split_unknown

__all__ = ["LabelledPair", "PairFiles", "PairList", "PairSource"]

_KEPT_OPEN = 4


@dataclass(frozen=True)
class PairFiles:
    """Where one labelled pair lies, and how it is read."""

    name: str
    before: Path
    """An image, or a folder that holds one file for each band."""
    after: Path
    label: Path
    """An image; with ``on_ground`` also a GeoPackage, a GeoJSON file or a Shapefile of the changed areas."""
    coding: LabelCoding = LabelCoding.BINARY
    """What the values of the label mean."""
    window: Tile | None = None
    """The part of the images that is the pair, in pixels of the first date; all of it if None."""
    on_ground: bool = False
    """Whether the three lie on one another by their georeference, where they have one, and not pixel by pixel."""

    def paths(self) -> Iterator[Path]:
        """All files, in the order before, after, label; the bands of a folder in their order.

        Raises:
            DataError: if one is no file.
        """
        for path in (self.before, self.after, self.label):
            if not (path.is_file() or path.is_dir()):
                raise DataError(f"{path} is no file; put one there or leave the pair out")
            yield from band_files(path) if path.is_dir() else (path,)
            if path.suffix.lower() == ".shp":
                yield from (part for part in map(path.with_suffix, VECTOR_PARTS) if part.is_file())


@dataclass(frozen=True)
class LabelledPair:
    """One labelled pair, or a window of one, in memory."""

    name: str
    before: NDArray[Any]
    """``(C, H, W)`` raw values."""
    after: NDArray[Any]
    """``(C, H, W)`` raw values."""
    label: NDArray[np.bool_]
    """``(H, W)``, True = changed."""
    valid: NDArray[np.bool_] | None = None
    """``(H, W)``, False where a date has no data; images are 0 there, the label False. None: valid everywhere."""
    known: NDArray[np.bool_] | None = None
    """``(H, W)``, False where the label says nothing, and is False. None: known everywhere."""

    @property
    def counted(self) -> NDArray[np.bool_] | None:
        """``(H, W)``, where a score counts: valid and known; None: everywhere."""
        if self.valid is None or self.known is None:
            return self.known if self.valid is None else self.valid
        return self.valid & self.known


class PairSource(Protocol):
    """Labelled pairs of one split. Reading is lazy; an object may be sent to worker processes."""

    @property
    def root(self) -> Path:
        """The folder or the file that names the data."""

    @property
    def name(self) -> str:
        """What the data are called in receipts and tables."""

    @property
    def split(self) -> str:
        """E.g. ``train``."""

    @property
    def files(self) -> tuple[PairFiles, ...]:
        """Where the pairs lie, in an order that does not depend on the machine."""

    def __len__(self) -> int:
        """Number of pairs."""

    def read(self, index: int) -> LabelledPair:
        """One whole pair.

        Raises:
            DataError: if a file is missing or corrupt, sizes differ, or the label has other values than its coding.
        """

    def read_window(self, index: int, window: Tile) -> LabelledPair:
        """A part of one pair; tiled files are decoded only there.

        Raises:
            ShapeError: if the window reaches beyond the pair.
            DataError: as for `read`.
        """

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) in pixels, from the headers of all three files.

        Raises:
            DataError: if a file is missing or no image, or sizes differ.
        """

    def grid(self, index: int) -> Grid | None:
        """Where one pair lies on the ground; None without a CRS.

        Raises:
            DataError: as for `size`.
        """

    def joined(self, other: "PairSource") -> "PairSource":
        """The pairs of both, this one's first."""

    def checksum(self) -> str:
        """SHA-256 over names and bytes of all files, in order: which data a score belongs to."""


class PairList:
    """Labelled pairs given one by one.

    Args:
        root: the folder or the file that names the data.
        split: e.g. ``"train"``.
        files: the pairs, in the order to take them.
        name: what the data are called; the root's name if None.
    """

    def __init__(self, root: Path | str, split: str, files: tuple[PairFiles, ...], name: str | None = None) -> None:
        self.root = Path(root)
        self.split = split
        self.files = files
        self.name = self.root.name if name is None else name
        self._open = _OpenPairs()
        self._sizes: dict[PairFiles, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int) -> LabelledPair:
        """Read one pair.

        Raises:
            DataError: if a file is corrupt, sizes differ, or the label has other values than its coding.
        """
        files = self.files[index]
        if files.window is None and not self.by_georeference(index):
            return _read_pixels(files, None)
        return self.read_window(index, Tile(0, 0, *self.size(index)))

    def read_window(self, index: int, window: Tile) -> LabelledPair:
        """Read a part of one pair; tiled files are decoded only there.

        Raises:
            ShapeError: if the window reaches beyond the pair.
            DataError: as for `read`.
        """
        files = self.files[index]
        if files not in self._sizes:  # three headers a window would cost more than a small window itself
            self._sizes[files] = self.size(index)
        height, width = self._sizes[files]
        if min(window.row, window.col) < 0 or window.stop_row > height or window.stop_col > width:
            raise ShapeError(
                f"{files.name}: rows {window.row} to {window.stop_row}, columns {window.col} to {window.stop_col} "
                f"reach beyond its {height} x {width} pixels; give a window inside it"
            )
        reader = self._open.reader(files)
        if reader is None:
            return _read_pixels(files, window)
        before, after, label, valid, known = reader.read(window)
        masks = (None if mask.all() else mask for mask in (valid, known))
        return LabelledPair(files.name, before, after, label, *masks)

    def read_dates(self, index: int, window: Tile) -> tuple[NDArray[Any], NDArray[Any]]:
        """Both dates ``(C, h, w)`` in a part of one pair that lies inside it, whatever its label is.

        Raises:
            DataError: if an image is missing or corrupt.
        """
        files = self.files[index]
        reader = self._open.reader(files)
        if reader is not None:
            return reader.read(window)[:2]
        part = _in_images(files, window)
        return read_image(files.before, part).values, read_image(files.after, part).values

    def by_georeference(self, index: int) -> bool:
        """Whether the parts of one pair are laid on one another by their georeference, and not pixel by pixel.

        Raises:
            DataError: if they should be and cannot.
        """
        return self._open.reader(self.files[index]) is not None

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of one pair in pixels, from the headers of all three files.

        Raises:
            DataError: if a file is missing or no image, sizes differ, or the pair's window lies outside its images.
        """
        files = self.files[index]
        reader = self._open.reader(files)
        return _size_in_pixels(files) if reader is None else reader.grid.shape

    def grid(self, index: int) -> Grid | None:
        """Where one pair lies; None if its first date has no CRS.

        Raises:
            DataError: as for `size`.
        """
        files = self.files[index]
        reader = self._open.reader(files)
        grid = read_grid(files.before) if reader is None else reader.grid
        return grid if grid is None or reader is not None or files.window is None else grid.crop(files.window)

    def joined(self, other: PairSource) -> "PairList":
        """The pairs of both, this one's first."""
        both = copy.copy(self)
        both.files = (*self.files, *other.files)
        return both

    def checksum(self) -> str:
        """SHA-256 over the names and bytes of all files, in order: which data a score belongs to."""
        digest = hashlib.sha256()
        for files in self.files:
            digest.update(files.name.encode())
            for path in files.paths():
                with path.open("rb") as stream:
                    digest.update(hashlib.file_digest(stream, "sha256").digest())
            if files.window is not None:
                digest.update(repr(files.window).encode())
        return digest.hexdigest()


class _OpenPairs:
    """Readers of georeferenced pairs, a few of them kept open; a copy in another process starts with none."""

    def __init__(self) -> None:
        self._readers: OrderedDict[PairFiles, GroundReader] = OrderedDict()
        self._plain: set[PairFiles] = set()
        """Pairs that were found to have no georeference."""
        self._process = os.getpid()

    def __reduce__(self) -> tuple[type["_OpenPairs"], tuple[()]]:
        return _OpenPairs, ()

    def reader(self, files: PairFiles) -> GroundReader | None:
        """The reader of a pair; None where it is read pixel by pixel."""
        if not files.on_ground or files in self._plain:
            return None
        if self._process != os.getpid():  # a forked process must not read through its parent's handles
            self._readers, self._process = OrderedDict(), os.getpid()
        if files not in self._readers:
            reader = _ground_reader(files)
            if reader is None:
                self._plain.add(files)
                return None
            self._readers[files] = reader
            while len(self._readers) > _KEPT_OPEN:
                self._readers.popitem(last=False)[1].close()
        self._readers.move_to_end(files)
        return self._readers[files]


def _ground_reader(files: PairFiles) -> GroundReader | None:
    polygons = files.label.suffix.lower() in VECTOR_SUFFIXES
    dates = (files.before, files.after)
    if not polygons and not any(read_header(path).placed for path in dates):
        return None
    return GroundReader(files.name, *dates, files.label, files.coding, files.window)


def _read_pixels(files: PairFiles, window: Tile | None) -> LabelledPair:
    part = None if window is None else _in_images(files, window)
    before, after, label = (read_image(path, part) for path in (files.before, files.after, files.label))
    _check_sizes(files, *(ImageHeader.of(image.values) for image in (before, after, label)))
    label, known = split_unknown(label, files.coding)
    changed = decode_label(label, files.label, files.coding)
    return LabelledPair(files.name, before.values, after.values, changed, known=known)


def _in_images(files: PairFiles, window: Tile) -> Tile:
    """A window of the pair as one of its images."""
    if files.window is None:
        return window
    return window.moved(files.window.row, files.window.col)


def _size_in_pixels(files: PairFiles) -> tuple[int, int]:
    before, after, label = (read_header(path) for path in (files.before, files.after, files.label))
    _check_sizes(files, before, after, label)
    part = files.window
    if part is None:
        return before.shape
    if part.stop_row > before.shape[0] or part.stop_col > before.shape[1]:
        raise DataError(
            f"{files.name}: its window, rows {part.row} to {part.stop_row}, columns {part.col} to {part.stop_col}, "
            f"reaches beyond {files.before}, which is {before.shape[0]} x {before.shape[1]}; give one inside it"
        )
    return part.height, part.width


def _check_sizes(files: PairFiles, before: ImageHeader, after: ImageHeader, label: ImageHeader) -> None:
    if before.shape == after.shape == label.shape and before.bands == after.bands:
        return
    odd = files.label if (before.shape, before.bands) == (after.shape, after.bands) else files.after
    raise DataError(
        f"{files.name}: before is {before}, after {after}, label {label}; the three must have one size (and both dates "
        f"the same bands). Crop or resize {odd}; `terradelta data check DIR --fix OUT` makes a copy without such pairs"
    )
