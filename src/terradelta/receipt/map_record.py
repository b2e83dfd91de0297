"""The receipt of `terradelta map`: everything needed to trust a change map, or to make it again."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from terradelta.card import ModelCard
from terradelta.receipt.codec import Receipt

__all__ = [
    "BandRecord",
    "DamageRecord",
    "EvidenceRecord",
    "FieldRecord",
    "FileRecord",
    "GridRecord",
    "InputRecord",
    "InputsRecord",
    "MapReceipt",
    "MapResult",
    "ModelRecord",
    "OptionsRecord",
    "OutlineRecord",
    "PairedRecord",
    "PlacementRecord",
    "PolygonRecord",
    "PolygonsRecord",
    "RegistrationRecord",
    "ScalingRecord",
    "ShiftRecord",
    "ValuesRecord",
]


@dataclass(frozen=True)
class GridRecord:
    """A grid of pixels."""

    crs: str | None
    """None for images without georeference."""
    transform: tuple[float, float, float, float, float, float]
    """Column and row to x and y: ``x = a col + b row + c``, ``y = d col + e row + f``; a to f, rasterio's order."""
    height: int
    """Pixels."""
    width: int
    """Pixels."""
    pixel_area_m2: float | None
    """Of the middle pixel, on the ellipsoid; None where it has no place there."""


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """Which version of a file was read."""

    path: str
    """Absolute path, or the URL without what may be secret."""
    bytes: int
    sha256: str | None = None
    """Of a local file."""
    etag: str | None = None
    """The server's mark of the version of a file behind a URL."""
    modified: str | None = None
    """The server's date of the last change."""


@dataclass(frozen=True)
class ValuesRecord:
    """What the values of a file mean."""

    known_from: str | None
    """What says so, e.g. the sensor's product; None where nothing does."""
    converted: tuple[tuple[float, float], ...] | None
    """Gain and offset of each band, by which values became reflectance; None: they were taken as stored."""


@dataclass(frozen=True)
class PlacementRecord:
    """How a date was put on the common grid."""

    warped: bool
    """False: pixels were read as they are, by a whole-pixel offset."""
    shift_px: tuple[float, float] | None
    """(row, col) of the common grid's first pixel in the file; None where CRS, resolution or orientation differ."""
    pixel_ratio: float
    """Pixels of the file along one pixel of the common grid."""
    coverage: float
    """Fraction of the file's own area that lies in the common grid, 0 to 1."""
    resampling: str | None
    """GDAL's name of the interpolation; None where nothing was warped."""


@dataclass(frozen=True, kw_only=True)
class InputRecord(FileRecord):
    """One date. ``sha256`` and ``bytes`` are those of all ``files`` where there are many, as in a VRT."""

    driver: str
    """GDAL's name of the format."""
    grid: GridRecord
    dtypes: tuple[str, ...]
    """Of each band."""
    bands: tuple[str, ...]
    """What to call each band."""
    alpha_bands: tuple[int, ...]
    """Their numbers, from 1."""
    nodata: tuple[float | str | None, ...]
    """Of each band: a number, ``nan``, ``inf`` or ``-inf``, or none."""
    masks: tuple[str, ...]
    """Which mask each band has: all_valid, nodata, alpha, mask or band_mask."""
    values: ValuesRecord
    placement: PlacementRecord
    files: tuple[FileRecord, ...] | None = None
    """All that the date consists of, where that is more than one file."""


@dataclass(frozen=True)
class InputsRecord:
    """Both dates."""

    before: InputRecord
    after: InputRecord


@dataclass(frozen=True)
class BandRecord:
    """The bands that were compared."""

    names: tuple[str, ...]
    before: tuple[int, ...]
    """Numbers in the first file, from 1."""
    after: tuple[int, ...]
    """Numbers in the second file, from 1."""


@dataclass(frozen=True)
class PairedRecord:
    """What the two dates have in common."""

    bands: BandRecord
    valid_fraction: float
    """Fraction of the grid's pixels that are valid on both dates, 0 to 1, from ``sampled_px`` of them."""
    sampled_px: int
    warnings: tuple[str, ...]
    """What may make the comparison wrong, without a full stop."""


@dataclass(frozen=True)
class ScalingRecord:
    """Raw values ``low`` became 0, ``high`` became ``scale``, on both dates; one each for every band."""

    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    scale: float


@dataclass(frozen=True)
class ModelRecord(ModelCard):
    """The card of the model or method, and what ran it."""

    summary: str = ""
    runtime: str = ""
    """With its precision."""


@dataclass(frozen=True)
class OptionsRecord:
    """What was asked for, completed by the card."""

    min_area_m2: float
    """Smaller polygons were left out of the GeoPackage; pixels for images without georeference."""
    min_px: int
    """Polygons of fewer pixels were left out, too."""
    sieve_px: int
    """Groups of fewer changed pixels that share edges became unchanged before anything was counted; 0: none did."""
    simplify_m: float
    """Tolerance of the outlines, metres or pixels."""
    aoi: tuple[float, float, float, float] | str | None
    """Area of interest: west, south, east, north in degrees, or WKT with the CRS in front."""
    threshold: float
    """Probability from which a pixel counts as changed."""
    tile: int | tuple[int, int]
    """Side of the tiles, or height and width, pixels."""
    overlap: int
    """Pixels that neighbouring tiles share."""
    bands: tuple[str, ...]
    nodata: str = "auto"
    """Which values were no data."""
    nodata_bands: str = "auto"
    """Whether a nodata value had to stand in ``all`` bands or in ``any``."""


@dataclass(frozen=True, kw_only=True)
class MapResult:
    """What the map says in numbers."""

    unit: Literal["m", "px"]
    """``px`` for images without georeference."""
    valid_px: int
    changed_px: int
    changed_fraction: float
    """Of the valid pixels."""
    changed_area_m2: float | None = None
    """All changed pixels on the ellipsoid, small polygons included; None without georeference, or where PROJ cannot
    measure."""
    changed_area_px: float | None = None
    """In place of ``changed_area_m2`` for images without georeference."""
    sieved_px: int
    """Pixels that the sieve made unchanged; they count as unchanged everywhere."""
    polygons: int
    """In the GeoPackage."""
    polygons_area_m2: float | None = None
    """Of the polygons in the GeoPackage: the changed area in all without that of the small ones."""
    polygons_area_px: float | None = None
    """In place of ``polygons_area_m2``."""
    small_polygons: int
    """Below the smallest area: in the rasters only."""
    small_area_m2: float | None = None
    """Of the small polygons."""
    small_area_px: float | None = None
    """In place of ``small_area_m2``."""


@dataclass(frozen=True, kw_only=True)
class PolygonRecord:
    """One change."""

    id: int
    """In the GeoPackage."""
    area_m2: float | None = None
    """On the ellipsoid."""
    area_px: float | None = None
    """In place of ``area_m2`` for images without georeference."""
    perimeter_m: float | None = None
    perimeter_px: float | None = None
    """In place of ``perimeter_m``."""
    mean_probability: float
    max_probability: float
    lon: float | None = None
    """Degrees, of a point inside."""
    lat: float | None = None
    x: float | None = None
    """In the CRS, where that has no place on the earth."""
    y: float | None = None
    row: float | None = None
    """Pixels, for images without georeference."""
    col: float | None = None


@dataclass(frozen=True)
class DamageRecord:
    """A window that could not be read and counts as no data; pixels of the common grid."""

    row: int
    col: int
    height: int
    width: int
    reason: str


@dataclass(frozen=True)
class FieldRecord:
    """A smooth field of shifts: splines through nodes that lie evenly over the grid."""

    size_px: tuple[int, int]
    """(height, width) of the grid."""
    nodes_px: tuple[tuple[tuple[float, ...], ...], ...]
    """``(2, n, m)``: how many pixels lower, and further right, the second date lies."""


@dataclass(frozen=True)
class ShiftRecord:
    """How one date lies on the other, from blocks of the pair."""

    method: str
    block_px: int
    """Side of a block; 0 where the grid is too small for one."""
    confident_share: float
    """Share of the blocks whose shift is to be believed, 0 to 1."""
    median_px: float | None
    """Median length of the field at the used blocks; None where the shift is not known."""
    median_m: float | None
    direction_px: tuple[float, float] | None
    """Median shift down and to the right."""
    largest_px: float | None
    scatter_px: float | None
    """Robust standard deviation, along one axis, of the used blocks around the field."""
    limit_px: float
    """A median beyond it is a warning."""
    field: FieldRecord | None
    blocks: tuple[tuple[float, float, float, float, bool], ...]
    """Of each block: row and column of its centre, its shift down and to the right, and whether the field rests on it;
    pixels."""


@dataclass(frozen=True)
class RegistrationRecord:
    """How the two dates lie on one another, before and after a correction."""

    found: ShiftRecord
    """As the georeference says."""
    corrected: bool
    remaining: ShiftRecord | None
    """As it was mapped, after a correction."""
    not_corrected_because: str | None
    """Why not, although it was asked for."""


@dataclass(frozen=True, kw_only=True)
class PolygonsRecord:
    """How many polygons, and their area."""

    polygons: int
    area_m2: float | None = None
    area_px: float | None = None


@dataclass(frozen=True)
class OutlineRecord:
    """Polygons by the date on which their outline is the stronger edge."""

    after: PolygonsRecord
    before: PolygonsRecord
    both: PolygonsRecord


@dataclass(frozen=True)
class EvidenceRecord:
    """What both images show inside the polygons."""

    shift_explains: PolygonsRecord | None
    """Those that the shift between the dates alone could explain; None where it is not known."""
    outline_in: OutlineRecord


@dataclass(frozen=True, kw_only=True)
class MapReceipt(Receipt):
    """The receipt of a change map."""

    kind: ClassVar[str] = "map"
    command: ClassVar[str] = "terradelta map"
    cure: ClassVar[str] = "map the pair again"

    python: str
    """Version of the interpreter."""
    preflight: tuple[str, ...]
    """What was said before the run, as sentences."""
    inputs: InputsRecord
    grid: GridRecord
    """Of the rasters."""
    pair: PairedRecord
    scaling: ScalingRecord | None
    """None where values were taken as they are."""
    model: ModelRecord
    options: OptionsRecord
    result: MapResult
    largest_polygons: tuple[PolygonRecord, ...]
    """At most 12, largest first."""
    damaged: tuple[DamageRecord, ...]
    resumed_tile_rows: int
    """Rows of tiles that an earlier run had finished."""
    registration: RegistrationRecord
    evidence: EvidenceRecord
    scores: dict[str, float] | None = None
    """By names, fractions, against a truth that is known, as the demo has one."""
    timings: dict[str, float]
    """Busy seconds by stage, which overlap, and ``total``: the wall clock."""
