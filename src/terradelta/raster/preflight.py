"""`Preflight`: what was read and how, in a form for machines and one for people."""

from dataclasses import dataclass
from pathlib import Path

from terradelta.geo.grid import Grid
from terradelta.raster.bands import BandSelection
from terradelta.raster.source import Source
from terradelta.receipt.map_record import PlacementRecord

__all__ = ["Preflight", "warnings_for"]

_RATIO_LIMIT = 2.0


@dataclass(frozen=True)
class Preflight:
    """What two inputs are, how they were put on one grid, and what to be careful about."""

    sources: tuple[Source, Source]
    """First and second date."""
    placements: tuple[PlacementRecord, PlacementRecord]
    """First and second date."""
    selection: BandSelection
    grid: Grid
    """The common grid."""
    aoi: bool
    """Whether an area of interest cut the images."""
    valid_fraction: float
    """Fraction of the common grid's pixels that are valid on both dates, 0 to 1, from at most ``sampled_px``."""
    sampled_px: int
    """Number of pixels that ``valid_fraction`` rests on."""
    warnings: tuple[str, ...] = ()
    """Sentences about what may make the result wrong."""

    def lines(self) -> list[str]:
        """Plain sentences, warnings last."""
        dates = ("first", "second")
        described = [_input_line(date, source) for date, source in zip(dates, self.sources, strict=True)]
        placed = [
            _placement_line(date, source, place, self.grid)
            for date, source, place in zip(dates, self.sources, self.placements, strict=True)
        ]
        height, width = self.grid.shape
        area = "the area of interest" if self.aoi else "the overlap of both dates"
        common = f"The common grid is {area}: {height} rows x {width} columns, {_georeference(self.grid)}."
        covered = " and ".join(
            f"{_percent(place.coverage)} of the {date} date" for date, place in zip(dates, self.placements, strict=True)
        )
        bands = f"Bands compared: {', '.join(self.selection.names)}."
        valid = f"{_percent(self.valid_fraction)} of its pixels are valid on both dates (of {self.sampled_px} sampled)."
        kept = f"It holds {covered}; the rest is left out."
        placed += [line for line in _values_lines(self.sources) if line]
        return [*described, *placed, common, kept, bands, valid, *(f"Warning: {text}." for text in self.warnings)]


def warnings_for(
    sources: tuple[Source, Source], placements: tuple[PlacementRecord, PlacementRecord], selection: BandSelection
) -> tuple[str, ...]:
    """What may make a comparison of two inputs wrong, as sentences without a full stop."""
    found = [*selection.warnings, *(text for source in sources for text in source.warnings)]
    before, after = sources[0].dtype(selection.before), sources[1].dtype(selection.after)
    if before != after:
        found.append(
            f"the dates have different dtypes ({before} and {after}): make sure that their values mean the same"
        )
    ratio = placements[1].pixel_ratio / placements[0].pixel_ratio
    if not 1 / _RATIO_LIMIT <= ratio <= _RATIO_LIMIT:
        factor = max(ratio, 1 / ratio)
        which = "finer" if ratio > 1 else "coarser"
        found.append(
            f"the second date's pixels are {factor:.3g} times {which} than the first's: "
            "details that only one date can show may look like change"
        )
    found += [
        f"{Path(source.path).name} holds indices into a colour table, not brightness; expand it to RGB first"
        for source in sources
        if source.palette
    ]
    return tuple(found)


def _input_line(date: str, source: Source) -> str:
    dtypes = ", ".join(dict.fromkeys(band.dtype for band in source.bands))
    bands = ", ".join(band.label for band in source.bands)
    shared = source.shared_nodata([band.index for band in source.bands])
    words = [
        f"{value:g} in {'all bands' if band.index in shared else 'any band'}" if len(source.bands) > 1 else f"{value:g}"
        for band, value in zip(source.bands, source.nodata, strict=True)
        if value is not None
    ]
    nodata = ", ".join(dict.fromkeys(words))
    masked = [f"nodata {nodata}"] if nodata else []
    masked += ["an alpha band"] if source.alpha else []
    masked += ["a mask"] if {"mask", "band_mask"} & set(source.masks) else []
    height, width = source.grid.shape
    count = "1 band" if len(source.bands) == 1 else f"{len(source.bands)} bands"
    return (
        f"The {date} date is {source.path}: {height} rows x {width} columns, {_georeference(source.grid)}, "
        f"{dtypes}, {count} ({bands}), {' and '.join(masked) or 'no nodata'}."
    )


def _values_lines(sources: tuple[Source, Source]) -> list[str]:
    """How stored values became comparable; empty where nothing is known of them."""
    lines = []
    for date, source in zip(("first", "second"), sources, strict=True):
        origin = "as asked" if source.meaning is None else f"known from {source.meaning.origin}"
        if source.conversion is not None:
            terms = ", ".join(dict.fromkeys(f"{gain:g} x value {offset:+g}" for gain, offset in source.conversion))
            lines.append(f"The {date} date's values become reflectance: {terms} ({origin}).")
    if not lines and all(source.meaning is not None and source.meaning.gain for source in sources):
        origins = " and ".join(dict.fromkeys(source.meaning.origin for source in sources if source.meaning))
        lines.append(f"Both dates' values mean the same and are compared as stored (known from {origins}).")
    return lines


def _placement_line(date: str, source: Source, place: PlacementRecord, grid: Grid) -> str:
    if not place.warped:
        row, col = place.shift_px or (0.0, 0.0)
        return f"The {date} date is read as it is, from its row {row:g} and column {col:g} on."
    line = f"The {date} date is warped from {_georeference(source.grid)} to {_georeference(grid)} ({place.resampling})"
    if place.shift_px is not None:
        row, col = place.shift_px
        return f"{line}: the common grid starts at its row {row:.3f} and column {col:.3f}."
    return f"{line}."


def _georeference(grid: Grid) -> str:
    if grid.crs is None:
        return "no CRS"
    height, width = grid.pixel_size
    unit = "degrees" if grid.crs.is_geographic else grid.crs.linear_units
    return f"{grid.crs.to_string()}, pixels of {height:.6g} x {width:.6g} {unit}"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.4g} %"
