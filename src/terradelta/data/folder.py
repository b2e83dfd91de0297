"""Labelled pairs in LEVIR-CD's folder layout: ``{split}/{A,B,label}/NAME``, optionally ``list/{split}.txt``."""

import copy
import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from terradelta.errors import DataError

__all__ = ["LabelledPair", "PairFiles", "PairFolder"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
CHANGED_VALUES = ({0, 255}, {0, 1})


@dataclass(frozen=True)
class PairFiles:
    """Where one labelled pair lies."""

    name: str
    before: Path
    after: Path
    label: Path


@dataclass(frozen=True)
class LabelledPair:
    """One labelled pair in memory."""

    name: str
    before: NDArray[Any]
    """``(C, H, W)`` raw values."""
    after: NDArray[Any]
    """``(C, H, W)`` raw values."""
    label: NDArray[np.bool_]
    """``(H, W)``, True = changed."""


class PairFolder:
    """The labelled pairs of one split, in sorted order; images are read when asked for.

    Args:
        root: folder that holds ``{split}/A``, ``{split}/B`` and ``{split}/label``.
        split: e.g. ``"train"``.

    Raises:
        DataError: if a folder, an image or a label is missing; the message names the first ones.
    """

    def __init__(self, root: Path | str, split: str) -> None:
        self.root = Path(root)
        self.split = split
        self.files = _match(self.root, split)

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int) -> LabelledPair:
        """Read one pair.

        Raises:
            DataError: if a file is corrupt, sizes differ, or the label is not binary.
        """
        files = self.files[index]
        before, after = _read(files.before), _read(files.after)
        label = _read(files.label)
        if not before.shape == after.shape or label.shape[1:] != before.shape[1:]:
            raise DataError(
                f"{files.name}: before is {_size(before)}, after {_size(after)}, label {_size(label)}; "
                "the three must have one size (and both dates the same bands)"
            )
        return LabelledPair(files.name, before, after, _binary(label, files.label))

    def joined(self, other: "PairFolder") -> "PairFolder":
        """The pairs of both, this one's first."""
        both = copy.copy(self)
        both.files = (*self.files, *other.files)
        return both

    def checksum(self) -> str:
        """SHA-256 over the names and bytes of all files, in order: which data a score belongs to."""
        digest = hashlib.sha256()
        for files in self.files:
            digest.update(files.name.encode())
            for path in (files.before, files.after, files.label):
                digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()


def _match(root: Path, split: str) -> tuple[PairFiles, ...]:
    folders = {part: root / split / part for part in ("A", "B", "label")}
    for folder in folders.values():
        if not folder.is_dir():
            raise DataError(
                f"{folder} is not there; the layout is DIR/{split}/A (before), DIR/{split}/B (after), DIR/{split}/label"
            )
    found = {part: _by_stem(folder) for part, folder in folders.items()}
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


def _by_stem(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES}


def _listed(root: Path, split: str) -> list[str]:
    listing = root / "list" / f"{split}.txt"
    if not listing.is_file():
        return []
    return sorted({Path(line.strip()).stem for line in listing.read_text().splitlines() if line.strip()})


def _read(path: Path) -> NDArray[Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            # GDAL's quick way to decode a PNG at once returns noise for a truncated file, without an error.
            with rasterio.Env(GDAL_PNG_WHOLE_IMAGE_OPTIM="NO"), rasterio.open(path) as source:
                values: NDArray[Any] = source.read()
    except RasterioError as error:
        raise DataError(f"{path} cannot be read ({error}); replace the file or leave the pair out") from error
    return values


def _binary(label: NDArray[Any], path: Path) -> NDArray[np.bool_]:
    values = set(np.unique(label[0]).tolist())
    if label.shape[0] > 1 and not (label == label[:1]).all():
        raise DataError(f"{path}: a label with {label.shape[0]} differing bands; it must have one band, 0 = unchanged")
    if not any(values <= allowed for allowed in CHANGED_VALUES):
        raise DataError(
            f"{path}: label values {sorted(values)[:8]}; allowed are 0 and 255, or 0 and 1 (0 = unchanged). "
            "A label saved as JPEG has values between: threshold it at 128 and save it as PNG"
        )
    return np.asarray(label[0] > 0)


def _size(values: NDArray[Any]) -> str:
    return f"{values.shape[0]} bands of {values.shape[1]} x {values.shape[2]}"
