"""`open_pairs`: the one way from what a user names to labelled pairs."""

from pathlib import Path

from terradelta.data.folder import PairFolder
from terradelta.data.pairs import PairSource

__all__ = ["open_pairs"]


def open_pairs(location: Path | str, split: str) -> PairSource:
    """The labelled pairs of one split.

    Args:
        location: a folder in LEVIR-CD's layout.
        split: e.g. ``"train"``, ``"val"`` or ``"test"``.

    Raises:
        DataError: if there are no such pairs, or files of them are missing.
    """
    return PairFolder(location, split)
