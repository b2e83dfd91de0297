"""The receipt of `terradelta area`: how much changed, with intervals."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from terradelta.receipt.codec import Receipt

__all__ = [
    "AccuracyRecord",
    "AreaReceipt",
    "ClassAccuracies",
    "ClassAreas",
    "ClassPixels",
    "ClassRecord",
    "EstimateRecord",
    "RegionRecord",
]


@dataclass(frozen=True)
class EstimateRecord:
    """A number with its 95 % interval."""

    value: float
    standard_error: float
    low: float
    """May be below 0 where the sample says little."""
    high: float


@dataclass(frozen=True)
class ClassPixels:
    """Pixels of each class of the map."""

    unchanged: int
    changed: int


@dataclass(frozen=True)
class ClassAreas:
    """Area of each class of the map; None where PROJ cannot measure."""

    unchanged: float | None
    changed: float | None


@dataclass(frozen=True, kw_only=True)
class RegionRecord:
    """Mapped and estimated change of one region, or of the whole map."""

    name: str
    pixels: ClassPixels
    area_m2: ClassAreas | None = None
    """Mapped, on the ellipsoid."""
    area_px: ClassAreas | None = None
    """In place of ``area_m2`` for images without georeference."""
    no_data_px: int
    samples: int | None
    """Labelled samples in it."""
    changed_area: EstimateRecord | None
    """Truly changed, in the unit of the map; None where there is nothing to estimate it from."""
    note: str | None
    """Why there is no estimate, or what to mind."""


@dataclass(frozen=True)
class ClassRecord:
    """What the samples say of one class of the map."""

    mapped_area: float
    area: EstimateRecord
    """True area."""
    users_accuracy: EstimateRecord
    """Share of the mapped area that is right."""
    producers_accuracy: EstimateRecord
    """Share of the true area that was mapped."""


@dataclass(frozen=True)
class ClassAccuracies:
    """Both classes of the map."""

    unchanged: ClassRecord
    changed: ClassRecord


@dataclass(frozen=True)
class AccuracyRecord:
    """Accuracies of the whole map, from samples (Olofsson et al. 2014)."""

    classes: ClassAccuracies
    overall_accuracy: EstimateRecord
    samples: tuple[tuple[int, ...], ...]
    """By class of the map (rows) and of the truth (columns)."""
    area_proportions: tuple[tuple[float, ...], ...]
    """Likewise: shares of the whole area."""


@dataclass(frozen=True, kw_only=True)
class AreaReceipt(Receipt):
    """The receipt of the areas of a map."""

    kind: ClassVar[str] = "area"
    command: ClassVar[str] = "terradelta area"
    cure: ClassVar[str] = "make one with -o FILE.json"

    map: str
    """Name of the map's folder."""
    unit: Literal["m", "px"]
    """Of the estimates: m², or pixels."""
    basis: str | None
    """What the estimates rest on; None without any."""
    whole_map: RegionRecord
    regions: tuple[RegionRecord, ...]
    accuracy: AccuracyRecord | None
    """Only from samples."""
    notes: tuple[str, ...]
