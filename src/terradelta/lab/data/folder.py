"""Labelled pairs in folders: ``{split}/{A,B,label}/NAME`` as in LEVIR-CD, optionally ``list/{split}.txt``.

Data sets that differ from it only in the names of the three folders are read by the same code.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from terradelta.errors import DataError
from terradelta.lab.data.images import SUFFIXES, by_stem
from terradelta.lab.data.labels import LabelCoding
from terradelta.lab.data.pairs import PairFiles

__all__ = ["LEVIR", "FolderNames", "Scan", "match_names", "scan_folders"]


@dataclass(frozen=True)
class FolderNames:
    """What the folders of the two dates and of the labels are called, and what the labels' values mean."""

    before: str
    after: str
    label: str
    coding: LabelCoding = LabelCoding.BINARY

    def under(self, folder: Path) -> tuple[Path, Path, Path]:
        """The three folders in a folder."""
        return folder / self.before, folder / self.after, folder / self.label


LEVIR = FolderNames("A", "B", "label")


@dataclass(frozen=True)
class Scan:
    """What lies in one split, whole or not."""

    files: tuple[PairFiles, ...]
    """The pairs that are complete, in sorted order."""
    missing: tuple[str, ...] = ()
    """What the others lack: ``split/folder/name``, or a path."""
    unmatched: tuple[Path, ...] = ()
    """Images that belong to no complete pair."""

    def complete(self, root: Path, listing: str) -> tuple[PairFiles, ...]:
        """The pairs, if none is incomplete.

        Args:
            root: where they lie, for the message.
            listing: the file that names the pairs to take, for the message.

        Raises:
            DataError: if a pair is incomplete; the message names the first missing files.
        """
        if not self.missing:
            return self.files
        more = f" and {len(self.missing) - 3} more" if len(self.missing) > 3 else ""
        raise DataError(
            f"{root}: no file for {', '.join(self.missing[:3])}{more}; every pair needs an image of both dates and a "
            f"label under one name (the suffix may differ). Add the files, or leave the name out of {listing}"
        )


def scan_folders(root: Path, split: str, names: FolderNames) -> Scan:
    """What ``root/split`` holds; the three folders must be there.

    Raises:
        DataError: if the first holds no image, or two images have one name.
    """
    folders = dict(zip((names.before, names.after, names.label), names.under(root / split), strict=True))
    found = {f"{split}/{part}": by_stem(folder) for part, folder in folders.items()}
    listed = _listed(root, split)
    wanted = listed or sorted(found[f"{split}/{names.before}"])
    if not wanted:
        raise DataError(f"{folders[names.before]} holds no image ({', '.join(SUFFIXES)})")
    return match_names(found, wanted, only=bool(listed), coding=names.coding)


def match_names(
    found: Mapping[str, Mapping[str, Path]],
    wanted: Sequence[str],
    *,
    only: bool,
    coding: LabelCoding = LabelCoding.BINARY,
    on_ground: bool = False,
) -> Scan:
    """Pairs from files that go by one name in three places.

    Args:
        found: files by name, in the order before, after, label; the keys say where they lie.
        wanted: the pairs to make, in order.
        only: whether other names than those wanted are no business of this split.
        coding: what the labels' values mean.
        on_ground: whether georeference counts.
    """
    whole = [name for name in wanted if all(name in files for files in found.values())]
    missing = tuple(f"{place}/{name}" for name in wanted for place, files in found.items() if name not in files)
    before, after, label = found.values()
    pairs = (PairFiles(n, before[n], after[n], label[n], coding, on_ground=on_ground) for n in whole)
    concerned = set(wanted) if only else {name for files in found.values() for name in files}
    lone = [files.get(name) for name in sorted(concerned.difference(whole)) for files in found.values()]
    return Scan(tuple(pairs), missing, tuple(path for path in lone if path is not None))


def _listed(root: Path, split: str) -> list[str]:
    listing = root / "list" / f"{split}.txt"
    if not listing.is_file():
        return []
    return sorted({Path(line.strip()).stem for line in listing.read_text().splitlines() if line.strip()})
