"""The receipt of `terradelta data check`: what is wrong with a data set, and what to do about it."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from terradelta.receipt.codec import Receipt

__all__ = ["CheckupReceipt", "CheckupSummary", "FindingRecord", "SplitRecord"]


@dataclass(frozen=True)
class SplitRecord:
    """The numbers of one split, over the pairs that could be read."""

    pairs: int
    read: int
    """Pairs that could be read."""
    sizes: tuple[tuple[int, int, int], ...]
    """Height, width, and how many pairs have them."""
    bands: tuple[int, ...]
    """Numbers of bands that occur."""
    dtypes: tuple[str, ...]
    labels: dict[str, int]
    """How many labels there are of each kind."""
    pixels: int
    """Of labels that can be read."""
    changed_fraction: float | None
    """Of those pixels."""
    pairs_with_change: int
    scale: float
    """Raw value that counts as 1 in ``mean`` and ``std``."""
    mean: tuple[float | None, ...]
    """Of each band over both dates."""
    std: tuple[float | None, ...]


@dataclass(frozen=True)
class CheckupSummary:
    """How many findings there are, by how bad they are."""

    error: int
    warning: int
    note: int


@dataclass(frozen=True)
class FindingRecord:
    """One observation on one pair, one split or the whole data set."""

    severity: Literal["error", "warning", "note"]
    kind: str
    """The same for all findings of a kind."""
    message: str
    cure: str
    """What to do."""
    pairs: tuple[tuple[str, str], ...]
    """(split, name) of the pairs concerned."""
    correlation: float | None = None
    """How alike two images are, where that is the finding."""


@dataclass(frozen=True, kw_only=True)
class CheckupReceipt(Receipt):
    """The receipt of a check of labelled pairs."""

    kind: ClassVar[str] = "checkup"
    command: ClassVar[str] = "terradelta data check"
    cure: ClassVar[str] = "make one with -o FILE.json"

    data: str
    """Name of the data set."""
    archive: str | None
    """The public archive that it is, if it is one."""
    licence: str | None
    citation: str | None
    splits: dict[str, SplitRecord]
    summary: CheckupSummary
    findings: tuple[FindingRecord, ...]
    """The worst first."""
