"""People's own data: folders under any usual names, any three folders, and a table of pairs."""

import re
from collections.abc import Mapping
from pathlib import Path

from terradelta.errors import DataError
from terradelta.geo.grid import Tile
from terradelta.lab.data.folder import FolderNames, Scan, match_names
from terradelta.lab.data.georeferenced import VECTOR_SUFFIXES
from terradelta.lab.data.images import SUFFIXES, by_stem
from terradelta.lab.data.labels import LabelCoding
from terradelta.lab.data.layouts import Layout, SplitFolders, split_order, subfolders
from terradelta.lab.data.pair_table import read_rows
from terradelta.lab.data.pairs import PairFiles

__all__ = ["ALL", "LABEL_NAMES", "PairTable", "ThreeFolders", "find_custom_folders"]

ALL = "all"
"""The split of data that have none: every pair."""
DATE_NAMES = (
    *(("a", "b"), ("before", "after"), ("pre", "post"), ("t1", "t2"), ("time1", "time2"), ("image1", "image2")),
    *(("img1", "img2"), ("im1", "im2"), ("date1", "date2"), ("1", "2")),
)
"""Names of the folders of the two dates, in small letters."""
LABEL_NAMES = (
    "label",
    "labels",
    "mask",
    "masks",
    "gt",
    "out",
    "cm",
    "change",
    "changes",
    "groundtruth",
    "ground_truth",
)
"""Names of the folder of labels, in small letters."""
COLUMNS = ("before", "after", "label")
_OPTIONAL = ("name", "split", "window", "coding")

_WORDS = "before|after|pre|post|t1|t2|time1|time2|a|b|1|2|label|labels|mask|gt|change|cm"
_DATE_WORD = re.compile(rf"^(?:{_WORDS})[ _-]|[ _-](?:{_WORDS})$", re.IGNORECASE)


def find_custom_folders(root: Path) -> Layout | None:
    """Folders under usual names in ``root/{split}``, or in ``root`` itself; None where there are none."""
    for folder in subfolders(root):
        names = _names_in(folder)
        if names is not None and SplitFolders(root, names).splits:
            return SplitFolders(root, names)
    names = _names_in(root)
    return None if names is None else ThreeFolders(*names.under(root), root=root)


def _names_in(folder: Path) -> FolderNames | None:
    """What the three folders are called that lie in a folder; None unless all are there."""
    there = {path.name.lower(): path.name for path in subfolders(folder)}
    dates = next((pair for pair in DATE_NAMES if set(pair) <= there.keys()), None)
    label = next((name for name in LABEL_NAMES if name in there), None)
    return FolderNames(there[dates[0]], there[dates[1]], there[label]) if dates and label else None


class ThreeFolders(Layout):
    """A folder for each date and one of labels, whose names agree up to a word for the date.

    ``x.tif`` fits ``x.png``, and ``x_before.tif`` fits ``x_after.tif`` and ``x_label.png``. Pairs lie on one another by
    their georeference where they have one. Splits are those of ``list/{split}.txt`` in the root; without any, the one
    split is ``all``.

    Args:
        before: folder of the first date.
        after: folder of the second date.
        label: folder of labels: images, or GeoPackages, GeoJSON files and Shapefiles.
        root: the folder that names the data; the one above ``before`` if None.
    """

    def __init__(self, before: Path, after: Path, label: Path, root: Path | None = None) -> None:
        super().__init__(before.parent if root is None else root)
        self.folders = (before, after, label)

    @property
    def splits(self) -> tuple[str, ...]:
        """Those that a list names, or ``all``."""
        named = [path.stem for path in sorted((self.root / "list").glob("[!.]*.txt"))]
        return tuple(sorted(named, key=split_order)) or (ALL,)

    def hint(self, split: str) -> str:
        """How to make splits."""
        return f". To split these data, write the names to take into {self.root / 'list' / split}.txt, one a line"

    def scan(self, split: str) -> Scan:
        """What lies in a split.

        Raises:
            DataError: if two files have one name.
        """
        found = self._found()
        before = next(iter(found.values()))
        wanted = sorted(before) if split == ALL else self._listed(split, before)
        return match_names(found, wanted, only=split != ALL, on_ground=True)

    def _found(self) -> dict[str, dict[str, Path]]:
        """The files of each folder by the pair's name: the stem, or what is left of it without a word for the date."""
        suffixes = (SUFFIXES, SUFFIXES, SUFFIXES + VECTOR_SUFFIXES)
        found = [by_stem(folder, allowed) for folder, allowed in zip(self.folders, suffixes, strict=True)]
        if not found[0].keys() & found[1].keys():
            found = [_by_common_name(files) for files in found]
        elif not found[0].keys() & found[2].keys():
            found[2] = _by_common_name(found[2])
        places = [folder.name for folder in self.folders]
        if len(set(places)) < len(places):
            places = [str(folder) for folder in self.folders]
        return dict(zip(places, found, strict=True))

    def _listed(self, split: str, before: Mapping[str, Path]) -> list[str]:
        lines = (self.root / "list" / f"{split}.txt").read_text().splitlines()
        stems = {Path(line.strip()).stem for line in lines if line.strip()}
        return sorted(stem if stem in before else _common_name(stem) for stem in stems)


def _by_common_name(files: Mapping[str, Path]) -> dict[str, Path]:
    common: dict[str, Path] = {}
    for stem, path in files.items():
        name = _common_name(stem)
        if name in common:
            raise DataError(f"{path.parent}: {common[name].name} and {path.name} both belong to {name!r}; rename one")
        common[name] = path
    return common


def _common_name(stem: str) -> str:
    """A name without its word for the date: ``x`` of ``x_before``."""
    return _DATE_WORD.sub("", stem, count=1) or stem


class PairTable(Layout):
    """A CSV file with a line a pair: ``before,after,label``; where wanted, ``name``, ``split``, ``window``, ``coding``.

    Paths are relative to the file's folder. Pairs lie on one another by their georeference where they have one; labels
    may be images, GeoPackages, GeoJSON files or Shapefiles. A window is ``row col height width`` in pixels of the first
    date; with it, parts of one mosaic can stand in different splits. Without a column ``split`` the one split is
    ``all``.

    The coding is a value of `LabelCoding`, ``binary`` by default; with ``masked`` labels may say that they do not know.

    Raises:
        DataError: if the file cannot be read as such a table; the message names the line.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, path.stem)
        self._rows = _read_table(path)

    @property
    def splits(self) -> tuple[str, ...]:
        """Those that the column ``split`` names, or ``all``."""
        return tuple(self._rows)

    def listing(self, split: str) -> str:
        """The table itself."""
        return self.root.name

    def hint(self, split: str) -> str:
        """How to make splits."""
        return ". The column 'split' says which pair belongs to which"

    def scan(self, split: str) -> Scan:
        """What lies in a split."""
        rows = self._rows[split]
        missing = [
            str(path) for files in rows for path in (files.before, files.after, files.label) if not path.exists()
        ]
        whole = [files for files in rows if all(p.exists() for p in (files.before, files.after, files.label))]
        lone = [
            p for files in rows if files not in whole for p in (files.before, files.after, files.label) if p.exists()
        ]
        return Scan(tuple(whole), tuple(missing), tuple(lone))


def _read_table(path: Path) -> dict[str, list[PairFiles]]:
    """The pairs of each split, in the order of the lines."""
    splits: dict[str, list[PairFiles]] = {}
    for line, row in read_rows(path, COLUMNS, _OPTIONAL):
        splits.setdefault(row["split"] or ALL, []).append(_pair(path, line, row))
    _check_names(path, splits)
    return {split: splits[split] for split in sorted(splits, key=split_order)}


def _pair(path: Path, line: int, row: Mapping[str, str]) -> PairFiles:
    before, after, label = (path.parent / Path(row[name]).expanduser() for name in COLUMNS)
    window = _window(path, line, row["window"])
    name = row["name"] or before.stem + (f"_{window.row}_{window.col}" if window else "")
    return PairFiles(name, before, after, label, _coding(path, line, row["coding"]), window, on_ground=True)


def _coding(path: Path, line: int, text: str) -> LabelCoding:
    try:
        return LabelCoding(text or LabelCoding.BINARY.value)
    except ValueError as error:
        allowed = ", ".join(coding.value for coding in LabelCoding)
        raise DataError(f"{path}, line {line}: coding is {text!r}; it must be one of {allowed}, or empty") from error


def _window(path: Path, line: int, text: str) -> Tile | None:
    if not text:
        return None
    try:
        row, col, height, width = (int(word) for word in text.split())
        if min(row, col) < 0 or min(height, width) < 1:
            raise ValueError
    except ValueError as error:
        raise DataError(
            f"{path}, line {line}: window is {text!r}; write row col height width, four whole numbers of pixels"
        ) from error
    return Tile(row, col, height, width)


def _check_names(path: Path, splits: Mapping[str, list[PairFiles]]) -> None:
    for split, pairs in splits.items():
        names = [files.name for files in pairs]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise DataError(
                f"{path}: two pairs of split {split!r} are called {twice!r}; tell them apart in column name"
            )
