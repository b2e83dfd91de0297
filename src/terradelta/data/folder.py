"""Labelled pairs in LEVIR-CD's folder layout: ``{split}/{A,B,label}/NAME``, optionally ``list/{split}.txt``."""

from pathlib import Path

from terradelta.data.images import SUFFIXES, by_stem
from terradelta.data.pairs import LabelledPair, PairFiles, PairList
from terradelta.errors import DataError

__all__ = ["LabelledPair", "PairFiles", "PairFolder"]


class PairFolder(PairList):
    """The labelled pairs of one split, in sorted order; images are read when asked for.

    Args:
        root: folder that holds ``{split}/A``, ``{split}/B`` and ``{split}/label``.
        split: e.g. ``"train"``.

    Raises:
        DataError: if a folder, an image or a label is missing; the message names the first ones.
    """

    def __init__(self, root: Path | str, split: str) -> None:
        super().__init__(root, split, _match(Path(root), split))


def _match(root: Path, split: str) -> tuple[PairFiles, ...]:
    folders = {part: root / split / part for part in ("A", "B", "label")}
    for folder in folders.values():
        if not folder.is_dir():
            raise DataError(
                f"{folder} is not there; the layout is DIR/{split}/A (before), DIR/{split}/B (after), DIR/{split}/label"
            )
    found = {part: by_stem(folder) for part, folder in folders.items()}
    names = _listed(root, split) or sorted(found["A"])
    if not names:
        raise DataError(f"{folders['A']} holds no image ({', '.join(SUFFIXES)})")
    missing = [f"{split}/{part}/{name}" for name in names for part in found if name not in found[part]]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise DataError(
            f"{root}: no file for {', '.join(missing[:3])}{more}; every pair needs an image in A, in B and in label "
            "under one name (the suffix may differ). Add the files, or leave the name out of "
            f"list/{split}.txt"
        )
    return tuple(PairFiles(name, found["A"][name], found["B"][name], found["label"][name]) for name in names)


def _listed(root: Path, split: str) -> list[str]:
    listing = root / "list" / f"{split}.txt"
    if not listing.is_file():
        return []
    return sorted({Path(line.strip()).stem for line in listing.read_text().splitlines() if line.strip()})
