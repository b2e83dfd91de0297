"""Labelled pairs: what one is, where it lies, and the one protocol that training, evaluation and `bench` take.

A `PairFiles` says all that is needed to read its pair, so pairs of different archives can stand in one list. Nothing is
decoded before it is asked for, and only the window that is asked for is kept.
"""

import copy
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from terradelta.data.images import ImageHeader, band_files, read_header, read_image
from terradelta.data.labels import LabelCoding, decode_label
from terradelta.errors import DataError, ShapeError
from terradelta.geo.grid import Tile

__all__ = ["LabelledPair", "PairFiles", "PairList", "PairSource"]


@dataclass(frozen=True)
class PairFiles:
    """Where one labelled pair lies, and how it is read."""

    name: str
    before: Path
    """An image, or a folder that holds one file for each band."""
    after: Path
    label: Path
    coding: LabelCoding = LabelCoding.BINARY
    """What the values of the label mean."""
    window: Tile | None = None
    """The part of the images that is the pair, in pixels of the first date; all of it if None."""

    def paths(self) -> Iterator[Path]:
        """All files, in the order before, after, label; the bands of a folder in their order."""
        for path in (self.before, self.after, self.label):
            yield from band_files(path) if path.is_dir() else (path,)


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

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int) -> LabelledPair:
        """Read one pair.

        Raises:
            DataError: if a file is corrupt, sizes differ, or the label has other values than its coding.
        """
        files = self.files[index]
        if files.window is not None:
            return self.read_window(index, Tile(0, 0, files.window.height, files.window.width))
        before, after, label = (read_image(path) for path in (files.before, files.after, files.label))
        _check_sizes(files.name, *(ImageHeader.of(x.values) for x in (before, after, label)))
        return LabelledPair(files.name, before.values, after.values, decode_label(label, files.label, files.coding))

    def read_window(self, index: int, window: Tile) -> LabelledPair:
        """Read a part of one pair; tiled files are decoded only there.

        Raises:
            ShapeError: if the window reaches beyond the pair.
            DataError: as for `read`.
        """
        files = self.files[index]
        height, width = self.size(index)
        if min(window.row, window.col) < 0 or window.stop_row > height or window.stop_col > width:
            raise ShapeError(
                f"{files.name}: rows {window.row} to {window.stop_row}, columns {window.col} to {window.stop_col} "
                f"reach beyond its {height} x {width} pixels; give a window inside it"
            )
        inner = _shifted(window, files.window)
        before, after, label = (read_image(path, inner) for path in (files.before, files.after, files.label))
        return LabelledPair(files.name, before.values, after.values, decode_label(label, files.label, files.coding))

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of one pair in pixels, from the headers of all three files.

        Raises:
            DataError: if a file is missing or no image, or sizes differ.
        """
        files = self.files[index]
        before, after, label = (read_header(path) for path in (files.before, files.after, files.label))
        _check_sizes(files.name, before, after, label)
        if files.window is None:
            return before.shape
        return files.window.height, files.window.width

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


def _shifted(window: Tile, part: Tile | None) -> Tile:
    if part is None:
        return window
    return Tile(window.row + part.row, window.col + part.col, window.height, window.width)


def _check_sizes(name: str, before: ImageHeader, after: ImageHeader, label: ImageHeader) -> None:
    if before.shape == after.shape == label.shape and before.bands == after.bands:
        return
    raise DataError(
        f"{name}: before is {before}, after {after}, label {label}; "
        "the three must have one size (and both dates the same bands)"
    )
