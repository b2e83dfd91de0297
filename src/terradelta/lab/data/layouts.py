"""Layouts: how a place holds its splits. The archives' own ones are in `archives`."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

from terradelta.errors import DataError
from terradelta.lab.data.folder import LEVIR, FolderNames, Scan, scan_folders
from terradelta.lab.data.pairs import PairList

__all__ = ["SPLITS", "Layout", "SplitFolders", "folders_within", "split_order", "subfolders"]

SPLITS = ("train", "val", "test")
_DEPTH = 4


class Layout(ABC):
    """A place that holds labelled pairs in splits.

    Args:
        root: the folder or file.
        name: what the data are called; the root's name if None.
    """

    def __init__(self, root: Path, name: str | None = None) -> None:
        self.root = root
        self.name = root.name if name is None else name

    @property
    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """The splits that are there."""

    @property
    def own_splits(self) -> tuple[str, ...]:
        """The splits that share no pair with another."""
        return tuple(split for split in self.splits if split != "trainval")

    @abstractmethod
    def scan(self, split: str) -> Scan:
        """What lies in a split that is there, whole or not.

        Raises:
            DataError: if there is nothing, or the names are ambiguous.
        """

    def listing(self, split: str) -> str:
        """The file that names the pairs of a split, for messages."""
        return f"list/{split}.txt"

    def pairs(self, split: str) -> PairList:
        """The labelled pairs of a split.

        Raises:
            DataError: if there is no such split, or a pair of it is not complete.
        """
        if split not in self.splits:
            there = f"there are {', '.join(self.splits)}" if self.splits else "there is none"
            raise DataError(f"{self.root} has no split {split!r}; {there}{self.hint(split)}")
        return PairList(self.root, split, self.scan(split).complete(self.root, self.listing(split)), self.name)

    def hint(self, split: str) -> str:
        """What to do where a split is not there; the end of a sentence."""
        return ". Name one of them, or add the missing one in the same layout"


class SplitFolders(Layout):
    """``{split}/{before,after,label}/NAME`` under three names of folders.

    Args:
        root: the folder of the splits.
        names: what the three folders are called.
        name: what the data are called; the root's name if None.
    """

    def __init__(self, root: Path, names: FolderNames = LEVIR, name: str | None = None) -> None:
        super().__init__(root, name)
        self.names = names

    @property
    def splits(self) -> tuple[str, ...]:
        """The folders that hold the three, the usual ones first."""
        found = [path.name for path in subfolders(self.root) if _holds(path, self.names)]
        return tuple(sorted(found, key=split_order))

    def scan(self, split: str) -> Scan:
        """What lies in a split that is there, whole or not.

        Raises:
            DataError: if there is no image, or two have one name.
        """
        return scan_folders(self.root, split, self.names)


def split_order(name: str) -> tuple[int, str]:
    """A key to sort splits by: train, val, test, then the others by name."""
    return (SPLITS.index(name) if name in SPLITS else len(SPLITS), name)


def folders_within(root: Path) -> Iterator[Path]:
    """The folder and those inside it down to the fourth level, the nearest first, in sorted order."""
    level = [root]
    for _ in range(_DEPTH + 1):
        yield from level
        level = [inner for folder in level for inner in subfolders(folder)]


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, in sorted order; hidden ones left out."""
    with os.scandir(folder) as entries:  # unlike Path.is_dir, it asks the system once, not once a file
        return sorted(Path(entry.path) for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _holds(folder: Path, names: FolderNames) -> bool:
    return all(part.is_dir() for part in names.under(folder))
