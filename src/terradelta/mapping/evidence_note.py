"""Sentences about what both images show inside the polygons."""

from collections.abc import Mapping
from typing import Any

from terradelta.html.text import area, integer

__all__ = ["evidence_note"]


def evidence_note(evidence: Mapping[str, Any]) -> str:
    """The ``evidence`` object of a receipt as a paragraph; empty where there is none."""
    outline, shift = evidence.get("outline_in"), evidence.get("shift_explains")
    parts = []
    if isinstance(outline, Mapping):
        parts.append(
            f"The outline is a stronger edge after in {_count(outline.get('after'))}, before in "
            f"{_count(outline.get('before'))}, on both dates alike in {_count(outline.get('both'))}. This is what the "
            "images show, not a direction that the model gave."
        )
    if isinstance(shift, Mapping) and shift.get("polygons"):
        parts.append(
            f"The measured shift between the dates alone could explain {_count(shift)}: see the field "
            "<code>shift_explains</code>."
        )
    return f'<p class="muted">{" ".join(parts)}</p>' if parts else ""


def _count(found: Any) -> str:  # noqa: ANN401  from JSON
    if not isinstance(found, Mapping):
        return "–"
    size = area(found["area_m2"]) if "area_m2" in found else f"{integer(found.get('area_px'))} pixels"
    return f"{integer(found.get('polygons'))} ({size})"
