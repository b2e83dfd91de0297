"""`open_pairs`: the one way from what a user names to labelled pairs.

A location is one of

- a folder: one of the public archives as it unpacks, found by its layout; or ``{split}/{A,B,label}`` as in LEVIR-CD;
  or folders of other usual names, with splits or without;
- ``NAME:DIR``: the archive of that name, somewhere in a folder;
- ``BEFORE_DIR,AFTER_DIR,LABEL_DIR``: any three folders;
- a CSV file of pairs.
"""

import warnings
from pathlib import Path

from terradelta.errors import DataError
from terradelta.lab.data.archives import ARCHIVES, Archive, count_notes, find_archive
from terradelta.lab.data.custom import LABEL_NAMES, PairTable, ThreeFolders, find_custom_folders
from terradelta.lab.data.folder import LEVIR
from terradelta.lab.data.layouts import Layout, SplitFolders, folders_within
from terradelta.lab.data.pairs import PairSource

__all__ = ["ArchiveWarning", "find_data", "open_pairs"]

_PACKED = (".zip", ".rar", ".7z", ".tar", ".gz", ".tgz")


class ArchiveWarning(UserWarning):
    """A public archive does not hold the number of pairs that it should."""


def open_pairs(location: Path | str, split: str) -> PairSource:
    """The labelled pairs of one split.

    Args:
        location: a folder, ``NAME:DIR``, ``BEFORE_DIR,AFTER_DIR,LABEL_DIR``, or a CSV file.
        split: e.g. ``"train"``, ``"val"`` or ``"test"``; ``"all"`` for data without splits.

    Raises:
        DataError: if there are no such pairs, or files of them are missing.

    Warns:
        ArchiveWarning: if a public archive has more or fewer pairs than it should.

    Example:
        >>> import terradelta as td
        >>> pairs = td.open_pairs("pairs", "test")
        >>> len(pairs), pairs.read(0).label.shape
        (1, (64, 64))
    """
    archive, layout = find_data(location)
    pairs = layout.pairs(split)
    if archive is not None:
        for note in count_notes(archive, split, [files.name for files in pairs.files]):
            warnings.warn(note, ArchiveWarning, stacklevel=2)
    return pairs


def find_data(location: Path | str) -> tuple[Archive | None, Layout]:
    """What a location is: which public archive, if one, and how its splits lie.

    Raises:
        DataError: if there is nothing, nothing known, or more than one archive.
    """
    path = Path(location).expanduser()
    if path.is_dir():
        return _in_folder(path)
    if path.is_file():
        return None, PairTable(path)
    text = str(location)
    key, _, rest = text.partition(":")
    if key.lower() in ARCHIVES and rest:
        return _named(ARCHIVES[key.lower()], Path(rest).expanduser())
    folders = [Path(part.strip()).expanduser() for part in text.split(",")]
    if len(folders) == 3:
        return None, _three(folders)
    raise DataError(
        f"{text} does not exist; give a folder, a CSV file of pairs, BEFORE_DIR,AFTER_DIR,LABEL_DIR, or NAME:DIR with "
        f"one of {', '.join(ARCHIVES)} as NAME"
    )


def _in_folder(root: Path) -> tuple[Archive | None, Layout]:
    plain = SplitFolders(root, LEVIR)
    if plain.splits:
        archive = ARCHIVES["levir-cd"]
        found = archive.find((root,))
        return (None, plain) if found is None else (archive, found)
    known = find_archive(root)
    if known is not None:
        return known
    own = find_custom_folders(root)
    if own is None:
        raise DataError(
            f"{root} holds no labelled pairs that are known; give a folder with {{train,val,test}}/{{A,B,label}}, or "
            f"one with a folder for each date (before, after) and one of labels ({', '.join(LABEL_NAMES[:4])}), a "
            f"public archive as it unpacks, or a CSV file of pairs{_packed(root)}"
        )
    return None, own


def _named(archive: Archive, root: Path) -> tuple[Archive, Layout]:
    if not root.is_dir():
        raise DataError(f"{root} is no folder; give the one into which {archive.title} was unpacked")
    layout = archive.find(tuple(folders_within(root)))
    if layout is None:
        raise DataError(f"{root} does not hold {archive.title}; it unpacks as {archive.layout}{_packed(root)}")
    return archive, layout


def _packed(root: Path) -> str:
    """A hint on files that are still to be unpacked; the end of a sentence."""
    packed = sorted(path.name for path in root.iterdir() if path.suffix.lower() in _PACKED)
    return f". It holds {packed[0]}: unpack it first" if packed else ""


def _three(folders: list[Path]) -> Layout:
    lacking = [folder for folder in folders if not folder.is_dir()]
    if lacking:
        raise DataError(f"{lacking[0]} is no folder; give BEFORE_DIR,AFTER_DIR,LABEL_DIR")
    return ThreeFolders(*folders)
