"""What a run says first, on the terminal and on the report: what was compared, and the answer in words."""

from terradelta.card import ModelCard
from terradelta.geo.metres import ground_sampling_m
from terradelta.html.text import area_both, count, fraction
from terradelta.predict.classical.coherence import COHERENT
from terradelta.raster.preflight import Preflight
from terradelta.receipt import MapReceipt
from terradelta.receipt.map_record import MapResult, OptionsRecord

__all__ = [
    "answer_lines",
    "changed_words",
    "nothing_stands_out",
    "pair_summary",
    "polygon_words",
    "sieved_words",
    "smaller_words",
]


def pair_summary(found: Preflight) -> str:
    """One sentence on what is compared."""
    height, width = found.grid.shape
    side = ground_sampling_m(found.grid)
    size = "" if side is None else f" of {side:.3g} m"
    warped = [date for date, place in zip(("first", "second"), found.placements, strict=True) if place.warped]
    moved = f"; the {' and the '.join(warped)} date {'are' if len(warped) == 2 else 'is'} warped" if warped else ""
    return (
        f"Compared: {height:,} x {width:,} pixels{size}, {fraction(found.valid_fraction)} valid on both dates{moved}."
    )


def nothing_stands_out(card: ModelCard) -> tuple[str, str] | None:
    """That a method found nothing, and why; None where it found something, was not asked, or is a model."""
    value = card.training.get("coherence")
    if not card.weightless or card.training.get("stands_out", True) or not isinstance(value, float | int):
        return None
    reason = f"What differs does not lie together: its coherence is {value:.2f}, change has {COHERENT:g} or more."
    return f"No change that {card.name} could tell from noise.", reason


def changed_words(result: MapResult) -> str:
    """The changed area in all: ``19.91 ha (199,059 m²)``, or pixels where the ground has no units."""
    if result.changed_area_m2 is not None:
        return area_both(result.changed_area_m2)
    return count(result.changed_px, "pixel") + (" of unknown area" if result.unit == "m" else "")


def polygon_words(result: MapResult) -> str:
    """What the polygons hold, e.g. ``5 polygons hold 19.54 ha (195,356 m²)``."""
    if not result.polygons:
        return "no polygon"
    held = _size(result.polygons_area_m2, result.polygons_area_px)
    return f"{count(result.polygons, 'polygon')} {'holds' if result.polygons == 1 else 'hold'} {held}"


def smaller_words(result: MapResult, options: OptionsRecord) -> str:
    """What is in the rasters only; empty if nothing is."""
    if not result.small_polygons:
        return ""
    held = _size(result.small_area_m2, result.small_area_px)
    verb = "holds" if result.small_polygons == 1 else "hold"
    named = f"{count(result.small_polygons, 'smaller one')} {_least_words(result, options)}"
    return f"{named} {verb} {held}, in the rasters only"


def sieved_words(result: MapResult, options: OptionsRecord) -> str:
    """What the sieve took away; empty if nothing."""
    if not result.sieved_px:
        return ""
    return f"the sieve made {count(result.sieved_px, 'pixel')} in groups below {options.sieve_px} unchanged"


def _least_words(result: MapResult, options: OptionsRecord) -> str:
    """Below which size polygons are left out."""
    least = [f"{options.min_area_m2:g} {'m²' if result.unit == 'm' else 'pixels'}"] if options.min_area_m2 else []
    least += [count(options.min_px, "pixel")] if options.min_px else []
    return f"below {' or '.join(least)}"


def answer_lines(receipt: MapReceipt) -> list[str]:
    """The answer for a terminal."""
    result, nothing = receipt.result, nothing_stands_out(receipt.model)
    if nothing is not None:
        return list(nothing)
    share = f"{fraction(result.changed_fraction)} of what both dates show"
    parts = (polygon_words(result), smaller_words(result, receipt.options), sieved_words(result, receipt.options))
    return [f"changed: {changed_words(result)}, {share}", "; ".join(part for part in parts if part)]


def _size(area_m2: float | None, area_px: float | None) -> str:
    if area_px is not None:
        return count(round(area_px), "pixel")
    return "an unknown area" if area_m2 is None else area_both(area_m2)
