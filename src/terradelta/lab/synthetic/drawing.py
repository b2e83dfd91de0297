"""Trees, cars and buildings drawn on the ground, and the height that they add."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from terradelta.lab.synthetic.buildings import Building, Look, Part, local_box
from terradelta.lab.synthetic.ground import ARTERIAL_M, STREET_M, Land, Season
from terradelta.lab.synthetic.noise import Field, stream
from terradelta.lab.synthetic.scene_config import SceneConfig
from terradelta.lab.synthetic.site_plan import Plan, Stage

__all__ = ["Cars", "Sun", "Trees", "draw_building", "draw_cars", "draw_trees", "make_cars", "make_trees"]

_LEAF_OFF = (0.38, 0.34, 0.29)
_CAR_COLOURS = np.array(
    [
        (0.85, 0.85, 0.85),
        (0.62, 0.63, 0.65),
        (0.16, 0.16, 0.17),
        (0.30, 0.31, 0.33),
        (0.50, 0.13, 0.12),
        (0.18, 0.26, 0.42),
    ],
    np.float32,
)
_STALL_M = 2.8
_WALL = (0.55, 0.51, 0.46)


@dataclass(frozen=True)
class Sun:
    """Direction of the sun on one date and how much light it gives."""

    azimuth: float
    """Radians clockwise from north."""
    elevation: float
    """Radians above the horizon."""
    ambient: float = 0.25
    """Light in the shadow as a share of the light on flat ground."""

    def face(self, azimuth: float, pitch: float) -> float:
        """Light on a plane that falls towards an azimuth, relative to flat ground; ``pitch`` is rise over run."""
        flat = math.sin(self.elevation)
        slope = math.cos(self.elevation) * math.cos(self.azimuth - azimuth) * pitch
        direct = max(flat + slope, 0.0) / math.sqrt(1 + pitch * pitch) / flat
        return self.ambient + (1 - self.ambient) * direct


@dataclass
class Trees:
    """Trees by ascending height; arrays of length N."""

    row: NDArray[np.float64]
    col: NDArray[np.float64]
    """Position in pixels."""
    radius_m: NDArray[np.float32]
    colour: NDArray[np.float32]
    """(N, 3) reflectance in leaf."""
    evergreen: NDArray[np.bool_]
    stages: NDArray[np.bool_]
    """(N, 2): whether the tree stands on each date."""


def make_trees(plan: Plan, land: Land, config: SceneConfig, seed: int, keep_out: NDArray[np.bool_]) -> Trees:
    """Woods and shrubs on open land, single trees in gardens, none on ``keep_out``."""
    rng = stream(seed, "trees")
    row, col = _jittered(rng, land.s.shape, 3.4 / config.gsd_m)
    r, c = row.astype(np.intp), col.astype(np.intp)
    lot = land.lot[r, c]
    stage = plan.stage.reshape(2, -1)[:, lot]
    where = rng.random(len(row), dtype=np.float32)
    level = float(np.interp(config.tree_density, [0, 0.25, 0.5, 0.75, 1], [4, 0.8, 0.1, -0.6, -3]))
    sparse = 0.05 * config.tree_density
    clump = land.woods[r, c] + 0.5 * rng.standard_normal(len(row), dtype=np.float32)
    wooded = np.where(clump > level, 0.8, sparse)
    depth, home = np.abs(land.across[r, c]), stage == Stage.BUILT
    garden = np.where(depth > STREET_M + 3.5, 0.14 * config.tree_density, 0.0)
    crossing = plan.per_lot(plan.cross)
    crossing[..., np.arange(plan.lot_shape[2]) % plan.lots_per_block > 0] = False
    garden *= ~crossing.ravel()[lot] | (np.abs(land.along[r, c] - plan.lot_m / 2) > STREET_M + 2)
    garden *= ~plan.per_lot(plan.commercial).ravel()[lot] | (depth > plan.pitch_m / 2 - 3)
    stands = ((stage == Stage.NATURAL) & (where < wooded)) | (home & (where < garden))
    on_road = (depth < ARTERIAL_M + 2) & (lot // (plan.lot_shape[1] * plan.lot_shape[2]) == plan.arterial)
    stands &= ~(keep_out[r, c] | on_road)
    radius = (1.0 + 1.2 * rng.gamma(1.8, 0.5, len(row))).clip(1.0, 4.6).astype(np.float32)
    tint = rng.normal(0, 1, (len(row), 2)).astype(np.float32)
    base = np.array((0.20, 0.225, 0.16), np.float32)
    colour = base * (1 + 0.14 * tint[:, :1]) + np.array((0.02, 0.0, -0.01), np.float32) * tint[:, 1:]
    evergreen = rng.random(len(row)) < 0.65
    order = np.argsort(radius, kind="stable")
    order = order[stands.any(axis=0)[order]]
    return Trees(row[order], col[order], radius[order], colour[order], evergreen[order], stands[:, order].T)


def _jittered(
    rng: np.random.Generator, shape: tuple[int, int], spacing: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """One random point in each cell of a lattice, in pixels."""
    cells = tuple(int(side / spacing) + 1 for side in shape)
    rows, cols = np.indices(cells).reshape(2, -1)
    row, col = (rows + rng.random(rows.size)) * spacing, (cols + rng.random(rows.size)) * spacing
    inside = (row < shape[0]) & (col < shape[1])
    return row[inside], col[inside]


def _splat(
    row: NDArray[np.float64], col: NDArray[np.float64], reach: int, shape: tuple[int, int]
) -> tuple[NDArray[np.intp], NDArray[np.intp], Field, Field, NDArray[np.bool_]]:
    """The pixels in a square around each of N points.

    Returns:
        Rows and columns of the pixels, distance from the point along rows and columns in pixels, and which are inside
        the image; ``(N, (2 reach + 1)²)`` each.
    """
    steps = np.arange(-reach, reach + 1)
    dr, dc = (a.ravel() for a in np.meshgrid(steps, steps, indexing="ij"))
    rows = row.astype(np.intp)[:, None] + dr
    cols = col.astype(np.intp)[:, None] + dc
    inside = (rows >= 0) & (rows < shape[0]) & (cols >= 0) & (cols < shape[1])
    y = (rows + 0.5 - row[:, None]).astype(np.float32)
    x = (cols + 0.5 - col[:, None]).astype(np.float32)
    return rows, cols, y, x, inside


def draw_trees(image: Field, height: Field, trees: Trees, land: Land, date: int, season: Season, sun: Sun) -> None:
    """Draw the crowns into a ``(3, H, W)`` image and raise ``(H, W)`` heights in metres, in place."""
    shape = height.shape
    leaf_off = ~trees.evergreen * np.float32(np.clip(1.4 * (0.45 - season.green), 0, 0.8))
    colour = trees.colour * np.float32(0.85 + 0.3 * season.green)
    colour += leaf_off[:, None] * (np.array(_LEAF_OFF, np.float32) - colour)
    to_sun = np.float32(-math.cos(sun.azimuth)), np.float32(math.sin(sun.azimuth))
    lower = 0.0
    for upper in (2.0, 2.9, 3.7, 5.0):  # classes of size keep the squares small
        chosen = (trees.radius_m >= lower) & (trees.radius_m < upper) & trees.stages[:, date]
        lower = upper
        radius = trees.radius_m[chosen][:, None] / np.float32(land.gsd_m)
        rows, cols, y, x, inside = _splat(trees.row[chosen], trees.col[chosen], math.ceil(upper / land.gsd_m), shape)
        ragged = land.fine[rows.clip(0, shape[0] - 1), cols.clip(0, shape[1] - 1)]
        far = (y * y + x * x) / (radius * radius) + np.float32(0.18) * ragged
        covered = inside & (far < 1)
        owner = np.broadcast_to(np.flatnonzero(chosen)[:, None], covered.shape)[covered]
        flat = (rows * shape[1] + cols)[covered]
        facing = ((y * to_sun[0] + x * to_sun[1]) / radius)[covered]
        light = 1 + np.float32(0.32) * facing + np.float32(0.16) * ragged[covered]
        for channel in range(3):
            image[channel].ravel()[flat] = colour[owner, channel] * light
        dome = (1.5 - 0.5 * far[covered]) * trees.radius_m[owner] * (1 - np.float32(0.75) * leaf_off[owner])
        height.ravel()[flat] = dome


@dataclass
class Cars:
    """Parked and driving cars; arrays of length N."""

    row: NDArray[np.float64]
    col: NDArray[np.float64]
    """Position in pixels."""
    angle: NDArray[np.float32]
    """Direction in radians, from the column axis towards the row axis."""
    colour: NDArray[np.float32]
    """(N, 3) reflectance."""
    present: NDArray[np.bool_]
    """(2, N): whether the car is there on each date."""


def make_cars(plan: Plan, config: SceneConfig, seed: int, shape: tuple[int, int]) -> Cars:
    """Cars along the streets, on driveways and in car parks."""
    rng = stream(seed, "cars")
    places = _parking(plan, rng)
    row, col = plan.frame.to_ground(places.s, places.t)
    ahead = plan.frame.to_ground(places.s + 1.0, places.t)
    angle = np.arctan2(ahead[0] - row, ahead[1] - col) + np.where(places.turned, math.pi / 2, 0)
    n = len(row)
    draw = rng.random((2, n))
    draw[1] = np.where(rng.random(n) < config.cars, draw[1], draw[0])
    built = plan.stage.reshape(2, -1)[:, places.lot] == Stage.BUILT
    colour = _CAR_COLOURS[rng.choice(len(_CAR_COLOURS), n, p=[0.3, 0.25, 0.15, 0.15, 0.08, 0.07])]
    pixel = row / config.gsd_m + shape[0] / 2, col / config.gsd_m + shape[1] / 2
    return Cars(*pixel, np.round(angle, 6).astype(np.float32), colour, (draw < 0.6) & (built | places.always))


@dataclass
class _Places:
    """Where a car can be; arrays of length N."""

    s: NDArray[np.float64]
    t: NDArray[np.float64]
    turned: NDArray[np.bool_]
    """Whether it stands across the street."""
    always: NDArray[np.bool_]
    """Whether the place exists before the lot is built on."""
    lot: NDArray[np.intp]
    """Flat index of the lot."""


def _parking(plan: Plan, rng: np.random.Generator) -> _Places:
    street, side, lot = np.indices(plan.lot_shape).reshape(3, -1)
    sign = 2.0 * side - 1
    s0, t0 = (plan.first_lot + lot) * plan.lot_m, (plan.first_street + street) * plan.pitch_m
    drive, n = plan.drive_m.ravel(), len(lot)
    home, shop = np.isfinite(drive), plan.per_lot(plan.built & plan.commercial).ravel()
    kinds = [
        (home, 0.55, s0 + np.nan_to_num(drive), t0 + sign * rng.uniform(8, 11, n), True),
        (home, 0.22, s0 + rng.uniform(2, plan.lot_m - 2, n), t0 + sign * (STREET_M - 1.2), False),
        (street == plan.arterial, 0.3, s0, t0 + sign * 3.4, False),
    ]
    kinds += [
        (shop, 0.5, (np.floor(s0 / _STALL_M) + 1 + stall) * _STALL_M, t0 + sign * (plan.pitch_m / 2 - depth), True)
        for stall in range(int(plan.lot_m / _STALL_M))
        for depth in (6.6, 11.4)
    ]
    places = []
    for i, (where, share, s, t, turned) in enumerate(kinds):
        use = np.flatnonzero(where & (rng.random(n) < share))
        places.append((s[use], t[use], np.full(len(use), turned), np.full(len(use), i == 2), use))
    return _Places(*(np.concatenate(column) for column in zip(*places, strict=True)))


def draw_cars(image: Field, height: Field, cars: Cars, date: int, gsd_m: float) -> None:
    """Draw the cars of one date and raise the heights, in place."""
    chosen = cars.present[date]
    c, d = np.cos(cars.angle[chosen])[:, None], np.sin(cars.angle[chosen])[:, None]
    rows, cols, y, x, inside = _splat(cars.row[chosen], cars.col[chosen], math.ceil(2.5 / gsd_m), height.shape)
    along, aside = np.abs(x * c + y * d) * np.float32(gsd_m), np.abs(y * c - x * d) * np.float32(gsd_m)
    covered = inside & (along < 2.3) & (aside < 0.95)
    owner = np.broadcast_to(np.flatnonzero(chosen)[:, None], covered.shape)[covered]
    flat = (rows * height.shape[1] + cols)[covered]
    glass = 1 - np.float32(0.45) * (np.abs(along[covered] - 1.0) < 0.4)
    for channel in range(3):
        image[channel].ravel()[flat] = cars.colour[owner, channel] * glass
    height.ravel()[flat] = 1.4


def draw_building(
    image: Field, height: Field, building: Building, look: Look, land: Land, sun: Sun, view: tuple[float, float]
) -> None:
    """Draw one building and raise the heights, in place.

    Args:
        image: ``(3, H, W)`` reflectance.
        height: ``(H, W)`` metres.
        building: where it stands.
        look: what it looks like on this date.
        land: textures of the scene.
        sun: light of this date.
        view: (row, col) tangent of the view angle: the roof moves by this times the height of the eaves.
    """
    eaves = look.parts[0].base_m
    shift = (view[0] * eaves, view[1] * eaves)
    if max(abs(shift[0]), abs(shift[1])) > 0.1 * land.gsd_m:
        box = local_box(building, look, height.shape, land.gsd_m)
        if box is not None:
            cover, _, _ = _roof(building, look, box[1], box[2], sun, land.gsd_m)
            _lay(image[(slice(None), *box[0])], cover, _WALL, np.float32(0.7))
    box = local_box(building, look, height.shape, land.gsd_m, shift)
    if box is None:
        return
    window, u, v = box
    cover, light, rise = _roof(building, look, u, v, sun, land.gsd_m)
    grain = 1 + np.float32(0.035) * land.fine[window] + np.float32(0.02) * land.medium[window]
    _lay(image[(slice(None), *window)], cover, look.colour, light * grain)
    np.copyto(height[window], rise, where=cover > 0.5)


def _lay(target: Field, cover: Field, colour: tuple[float, float, float], light: Field | np.float32) -> None:
    for channel in range(3):
        target[channel] += cover * (np.float32(colour[channel]) * light - target[channel])


def _roof(building: Building, look: Look, u: Field, v: Field, sun: Sun, gsd_m: float) -> tuple[Field, Field, Field]:
    """Coverage, light and height of a roof; the highest part is on top."""
    cover, rise, light = np.zeros_like(u), np.zeros_like(u), np.ones_like(u)
    for part in look.parts:
        inside, top, lit = _part(building, part, u, v, sun)
        edge = np.clip(inside / np.float32(gsd_m) + np.float32(0.5), 0, 1)
        above = (edge > 0) & (top > rise)
        np.copyto(rise, top, where=above)
        np.copyto(light, lit, where=above)
        np.maximum(cover, edge, out=cover)
    return cover, light, rise


def _part(building: Building, part: Part, u: Field, v: Field, sun: Sun) -> tuple[Field, Field, Field]:
    """Distance from the edge (metres, above 0 inside), height and light of one part."""
    du, dv = u - np.float32(part.u), v - np.float32(part.v)
    from_u, from_v = np.float32(part.half_u) - np.abs(du), np.float32(part.half_v) - np.abs(dv)
    inside = np.minimum(from_u, from_v)
    if part.pitch == 0:
        rim = np.where(inside < 0.6, np.float32(1.1 * part.tone), np.float32(part.tone))
        return inside, np.full_like(u, part.base_m), rim
    on_u = np.full(u.shape, part.half_u < part.half_v) if part.gable else from_u < from_v
    run = np.where(on_u, from_u, from_v)
    faces = [_face_light(building, sun, part.pitch, turn) for turn in (0.0, math.pi, math.pi / 2, -math.pi / 2)]
    light = np.where(on_u, np.where(du > 0, faces[0], faces[1]), np.where(dv > 0, faces[2], faces[3]))
    return inside, np.float32(part.base_m) + np.float32(part.pitch) * run, light.astype(np.float32)


def _face_light(building: Building, sun: Sun, pitch: float, turn: float) -> float:
    """Light on the face whose outward direction is u turned by an angle; a picture's row axis points south."""
    direction = building.angle + turn
    azimuth = math.atan2(math.cos(direction), -math.sin(direction))
    return sun.face(azimuth, pitch)
