"""Buildings: shapes, colours and which of them change."""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

__all__ = ["Building", "Look", "Part", "commercial_look", "footprint", "house_look", "local_box", "shrunk"]

Colour = tuple[float, float, float]

# Sunlit reflectance of roofs with their weights: shingles from dark grey to brown, tile, metal.
_ROOFS: tuple[tuple[Colour, float], ...] = (
    ((0.33, 0.32, 0.31), 4.0),
    ((0.42, 0.40, 0.38), 5.0),
    ((0.50, 0.48, 0.45), 3.0),
    ((0.45, 0.39, 0.34), 3.0),
    ((0.55, 0.48, 0.40), 2.0),
    ((0.55, 0.42, 0.34), 0.6),
    ((0.80, 0.80, 0.80), 0.6),
)
_FLAT_ROOFS: tuple[Colour, ...] = ((0.82, 0.82, 0.80), (0.68, 0.67, 0.64), (0.52, 0.51, 0.50), (0.74, 0.70, 0.63))


@dataclass(frozen=True)
class Part:
    """One rectangle of a roof, in the building's own axes (u along the street, v away from it), in metres."""

    u: float
    v: float
    half_u: float
    half_v: float
    base_m: float
    """Height of the eaves."""
    pitch: float = 0.0
    """Rise over run of the roof; 0 is flat."""
    gable: bool = False
    """Two faces instead of four."""
    tone: float = 1.0
    """Factor on the building's colour."""


@dataclass(frozen=True)
class Look:
    """What a building looks like on one date."""

    parts: tuple[Part, ...]
    colour: Colour


@dataclass(frozen=True)
class Building:
    """A building and its look on both dates; None where it does not stand."""

    centre_m: tuple[float, float]
    """(row, col) from the scene's centre."""
    angle: float
    """Direction of u in radians, from the column axis towards the row axis."""
    lot: tuple[int, int, int]
    """Index of its lot: street, side, number."""
    looks: tuple[Look | None, Look | None]

    @property
    def changed(self) -> bool:
        """Whether it appeared, disappeared or was rebuilt in another shape."""
        before, after = self.looks
        if before is None or after is None:
            return before is not after
        return before.parts != after.parts


def house_look(rng: np.random.Generator, lot_m: float, base_colour: int) -> Look:
    """A house with one to three wings, on a lot of the given width in metres."""
    half_u = min(lot_m / 2 - float(rng.uniform(1.2, 2.4)), 9.5)
    half_v = float(rng.uniform(5.5, 7.8))
    base, pitch = float(rng.choice([3.0, 3.2, 5.6])), float(rng.uniform(0.35, 0.7))
    gable = bool(rng.random() < 0.25)
    parts = [Part(0.0, 0.0, half_u, half_v, base, pitch, gable)]
    side = float(rng.choice([-1.0, 1.0]))
    wing = float(rng.uniform(2.8, 3.6))
    if rng.random() < 0.8:  # garage towards the street
        depth = float(rng.uniform(1.5, 3.5))
        parts.append(Part(side * (half_u - wing), -half_v, wing, wing + depth - 1.5, 3.0, pitch, gable))
    if rng.random() < 0.5:
        parts.append(Part(-side * (half_u - wing), half_v, wing, wing, base, pitch, gable))
    return Look(tuple(parts), _roof_colour(rng, base_colour))


def _roof_colour(rng: np.random.Generator, base_colour: int) -> Colour:
    """Three of four houses in a block share the block's colour."""
    weights = np.array([weight for _, weight in _ROOFS])
    own = int(rng.choice(len(_ROOFS), p=weights / weights.sum()))
    red, green, blue = _ROOFS[base_colour % len(_ROOFS) if rng.random() < 0.7 else own][0]
    factor = float(rng.uniform(0.82, 1.15))
    return red * factor, green * factor, blue * factor


def commercial_look(rng: np.random.Generator, half_u: float, half_v: float) -> Look:
    """A large flat roof with a second level and roof units; half sides in metres."""
    base = float(rng.uniform(5.0, 9.0))
    parts = [Part(0.0, 0.0, half_u, half_v, base)]
    if rng.random() < 0.5:
        u = float(rng.uniform(-0.4, 0.4)) * half_u
        parts.append(Part(u, 0.3 * half_v, 0.35 * half_u, 0.6 * half_v, base + 1.5, tone=0.93))
    for _ in range(int(rng.integers(3, 10))):
        u, v = float(rng.uniform(-0.85, 0.85)) * half_u, float(rng.uniform(-0.8, 0.8)) * half_v
        parts.append(Part(u, v, float(rng.uniform(0.6, 1.6)), float(rng.uniform(0.6, 1.4)), base + 2.6, tone=1.12))
    red, green, blue = _FLAT_ROOFS[int(rng.integers(len(_FLAT_ROOFS)))]
    factor = float(rng.uniform(0.9, 1.08))
    return Look(tuple(parts), (red * factor, green * factor, blue * factor))


def shrunk(look: Look, factor: float) -> Look:
    """The same building with sides scaled by a factor: what stood there before it was rebuilt larger."""
    parts = tuple(
        replace(p, u=p.u * factor, v=p.v * factor, half_u=p.half_u * factor, half_v=p.half_v * factor)
        for p in look.parts[:1]
    )
    return replace(look, parts=parts)


def local_box(
    building: Building, look: Look, shape: tuple[int, int], gsd_m: float, offset_m: tuple[float, float] = (0.0, 0.0)
) -> tuple[tuple[slice, slice], NDArray[np.float32], NDArray[np.float32]] | None:
    """The pixels around a building and their position in its own axes.

    Args:
        building: where it stands.
        look: its parts on one date.
        shape: (height, width) of the scene.
        gsd_m: metres per pixel.
        offset_m: (row, col) by which the building is drawn away from its place.

    Returns:
        (row, col) slices, and u and v of each pixel's centre in metres; None outside the scene.
    """
    row = (building.centre_m[0] + offset_m[0]) / gsd_m + shape[0] / 2
    col = (building.centre_m[1] + offset_m[1]) / gsd_m + shape[1] / 2
    reach = max(math.hypot(abs(p.u) + p.half_u, abs(p.v) + p.half_v) for p in look.parts) / gsd_m + 2
    top, bottom = max(int(row - reach), 0), min(int(row + reach) + 1, shape[0])
    left, right = max(int(col - reach), 0), min(int(col + reach) + 1, shape[1])
    if top >= bottom or left >= right:
        return None
    y = ((np.arange(top, bottom) + 0.5 - row) * gsd_m).astype(np.float32)[:, None]
    x = ((np.arange(left, right) + 0.5 - col) * gsd_m).astype(np.float32)[None, :]
    c, d = np.float32(math.cos(building.angle)), np.float32(math.sin(building.angle))
    return (slice(top, bottom), slice(left, right)), x * c + y * d, y * c - x * d


def footprint(
    building: Building, look: Look, shape: tuple[int, int], gsd_m: float
) -> tuple[tuple[slice, slice], NDArray[np.bool_]] | None:
    """Pixels whose centre the building covers, as slices and a mask of that window; None outside the scene."""
    box = local_box(building, look, shape, gsd_m)
    if box is None:
        return None
    window, u, v = box
    mask = np.zeros(u.shape, bool)
    for part in look.parts:
        mask |= (np.abs(u - part.u) < part.half_u) & (np.abs(v - part.v) < part.half_v)
    return window, mask
