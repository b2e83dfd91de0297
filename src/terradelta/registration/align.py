"""How the two dates lie on one another before a run, and the correction that the user asked for."""

from dataclasses import dataclass

from terradelta.raster.pair import Pair
from terradelta.registration.blocks import LIMIT_PX, Registration, measure_shift

__all__ = ["Alignment", "align"]

_ROUNDS = 3
_GOOD_PX = 0.1
"""Below it the correction is not refined: single blocks are not surer than that."""


@dataclass(frozen=True)
class Alignment:
    """The shift between two dates, before and after a correction."""

    found: Registration
    """As the georeference says."""
    remaining: Registration | None = None
    """After coregistration; None where nothing was corrected."""
    refused: str = ""
    """Why nothing was corrected although it was asked for."""

    @property
    def mapped(self) -> Registration:
        """As the pair is mapped."""
        return self.found if self.remaining is None else self.remaining

    def lines(self) -> list[str]:
        """Sentences for the preflight report."""
        if self.remaining is not None:
            before = [line for line in self.found.lines() if not line.startswith("Warning")]
            return [*before, *self.remaining.lines(corrected=True)]
        if not self.refused:
            return self.found.lines()
        lies_well = self.found.median_px is not None and self.found.median_px <= LIMIT_PX
        start = "The" if lies_well else "Warning: the"
        return [self.found.lines()[0], f"{start} dates were not coregistered: {self.refused}."]


def align(pair: Pair, coregister: bool) -> Alignment:
    """Measure the shift between the dates of a pair; correct it if that is wanted, possible, and makes it smaller.

    A large shift is measured less well than a small one, so what remains is measured and added until it is small.

    Args:
        pair: the pair; with a correction, it reads the second date moved from now on.
        coregister: whether to correct.

    Raises:
        RasterError: if a file cannot be read.
    """
    found = best = measure_shift(pair)
    if not coregister:
        return Alignment(found)
    if found.field is None:
        return Alignment(found, refused="too few blocks match")
    field, kept = found.field, None
    for _ in range(_ROUNDS):
        pair.coregister(field)
        remaining = measure_shift(pair)
        if remaining.field is None or (remaining.median_px or 0.0) >= (best.median_px or 0.0):
            break
        best, kept = remaining, field
        if (best.median_px or 0.0) < _GOOD_PX:
            break
        field = field.plus(remaining.field)
    pair.coregister(kept)
    return Alignment(found, refused="they would not lie better") if kept is None else Alignment(found, best)
