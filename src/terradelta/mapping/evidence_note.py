"""Sentences about what both images show inside the polygons."""

from terradelta.html.text import area, integer
from terradelta.receipt.map_record import EvidenceRecord, PolygonsRecord

__all__ = ["evidence_note"]


def evidence_note(evidence: EvidenceRecord) -> str:
    """What the images show, as a paragraph."""
    outline, shift = evidence.outline_in, evidence.shift_explains
    parts = [
        f"The outline is a stronger edge after in {_count(outline.after)}, before in {_count(outline.before)}, on both "
        f"dates alike in {_count(outline.both)}. This is what the images show, not a direction that the model gave."
    ]
    if shift is not None and shift.polygons:
        parts.append(
            f"The measured shift between the dates alone could explain {_count(shift)}: see the field "
            "<code>shift_explains</code>."
        )
    return f'<p class="muted">{" ".join(parts)}</p>'


def _count(found: PolygonsRecord) -> str:
    size = area(found.area_m2) if found.area_px is None else f"{integer(found.area_px)} pixels"
    return f"{integer(found.polygons)} ({size})"
