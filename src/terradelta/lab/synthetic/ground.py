"""The ground of a scene on one date: open land, fields, water, streets, lots."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from terradelta.lab.synthetic.noise import Field, fractal_noise, smoothstep, stream
from terradelta.lab.synthetic.scene_config import SceneConfig
from terradelta.lab.synthetic.site_plan import Plan, Stage

__all__ = ["Land", "Season", "make_land", "paint_ground"]

STREET_M = 4.5
ARTERIAL_M = 7.5
_CIRCLE_M = 11.0
_GAP_M = 20.0

# Sunlit reflectance (red, green, blue).
_SOIL = (0.59, 0.54, 0.46)
_GRADED = (0.71, 0.66, 0.58)
_CLAY = (0.55, 0.47, 0.40)
_DRY_GRASS = (0.46, 0.43, 0.36)
_GREEN_GRASS = (0.33, 0.38, 0.26)
_WATER = (0.17, 0.23, 0.22)
_ASPHALT = (0.46, 0.46, 0.45)
_CONCRETE = (0.70, 0.68, 0.64)
_FENCE = (0.33, 0.29, 0.25)
_POOL = (0.36, 0.60, 0.66)
_MARKING = (0.80, 0.79, 0.72)
_CROPS = ((0.35, 0.40, 0.26), (0.53, 0.48, 0.37), (0.58, 0.51, 0.43), (0.42, 0.40, 0.31), (0.47, 0.40, 0.34))


@dataclass(frozen=True)
class Season:
    """State of the vegetation on one date."""

    green: float
    """0 is dry or leaf-off, 1 lush."""
    crop_shift: int
    """By how many steps the crops of the fields have moved on."""
    water: float
    """Change of the water's edge, in standard deviations of the relief."""


@dataclass
class Land:
    """Fields of the scene that both dates share; arrays are (H, W)."""

    s: Field
    """Metres along the streets."""
    across: Field
    """Signed metres from the axis of the nearest street."""
    along: Field
    """Metres from the start of the lot."""
    lot: NDArray[np.intp]
    """Flat index into the plan's lot tables."""
    fine: Field
    """Texture at 1 to 4 pixels, standard deviation 1."""
    medium: Field
    """Texture at 4 to 32 m."""
    coarse: Field
    """Texture at 25 to 120 m; also the relief."""
    woods: Field
    """Where trees grow: a texture at 6 to 50 m."""
    gsd_m: float


def make_land(plan: Plan, config: SceneConfig, seed: int, shape: tuple[int, int]) -> Land:
    """Street coordinates and textures of a scene of the given (height, width)."""
    s, t = plan.frame.pixel_fields(shape, config.gsd_m)
    street = np.floor(t / np.float32(plan.pitch_m) + np.float32(0.5))
    across = t - street * np.float32(plan.pitch_m)
    number = np.floor(s / np.float32(plan.lot_m))
    along = s - number * np.float32(plan.lot_m)
    streets, sides, lots = plan.lot_shape
    row = np.clip(street.astype(np.intp) - plan.first_street, 0, streets - 1)
    col = np.clip(number.astype(np.intp) - plan.first_lot, 0, lots - 1)
    lot = (row * sides + (across > 0)) * lots + col
    px = 1 / config.gsd_m
    rng = stream(seed, "texture")
    return Land(
        s=s,
        across=across,
        along=along,
        lot=lot,
        fine=fractal_noise(rng, shape, (1, 2, 4), 0.8),
        medium=fractal_noise(rng, shape, (16 * px, 8 * px, 4 * px, 2 * px), 0.75),
        coarse=fractal_noise(rng, shape, (110 * px, 50 * px, 25 * px), 0.5),
        woods=fractal_noise(rng, shape, (45 * px, 22 * px, 10 * px, 5 * px), 0.75),
        gsd_m=config.gsd_m,
    )


def _blend(image: Field, colour: tuple[float, float, float] | Field, weight: Field | NDArray[np.bool_]) -> None:
    """Mix a colour, or an image, into a (3, H, W) image in place."""
    for channel in range(3):
        image[channel] += weight * (np.asarray(colour[channel], np.float32) - image[channel])


def _line(distance: Field, half_m: float, gsd_m: float) -> Field:
    """Coverage of a strip: 1 within ``half_m`` of its axis, with an edge one pixel wide."""
    cover: Field = np.clip((np.float32(half_m) - distance) / np.float32(gsd_m) + np.float32(0.5), 0, 1)
    return cover


def paint_ground(plan: Plan, land: Land, config: SceneConfig, seed: int, date: int, season: Season) -> Field:
    """Reflectance of the ground without trees, buildings and shadows.

    Args:
        plan: layout of the scene.
        land: its fields.
        config: its options.
        seed: of the scene.
        date: 0 before, 1 after.
        season: state of the vegetation.

    Returns:
        ``(3, H, W)`` in 0 to about 1.
    """
    stage = plan.stage[date].ravel()[land.lot]
    image = _open_land(land, seed, season)
    image *= 1 + np.float32(0.12) * land.fine + np.float32(0.07) * land.medium
    natural = stage == Stage.NATURAL
    _bare_ground(image, land, (stage == Stage.GRADED).astype(np.float32))
    _bare_ground(image, land, smoothstep(land.medium, -1.8, 0.6) * (stage == Stage.SERVICED))
    _built_ground(image, plan, land, seed, stage == Stage.BUILT, season)
    if stream(seed, "water").random() < 0.3:
        depth = smoothstep(land.coarse, -1.55 - season.water, -1.45 - season.water)
        _blend(image, _WATER, (1 - depth) * natural)
    _streets(image, plan, land, seed, stage >= Stage.SERVICED)
    return image


def _open_land(land: Land, seed: int, season: Season) -> Field:
    """Grass and soil in patches, with fields and paths on some scenes."""
    rng = stream(seed, "land")
    shape = land.s.shape
    grassy = smoothstep(land.medium + land.coarse + np.float32(rng.uniform(-0.4, 1.0)), -1.3, 1.2)
    green = np.float32(0.1 + 0.5 * season.green) * smoothstep(land.coarse - land.medium, -1.5, 2.0)
    image = np.empty((3, *shape), np.float32)
    hue = rng.uniform(-0.03, 0.03)
    for channel in range(3):
        soil = _SOIL[channel] + (0.06 + hue, 0.0, -hue)[channel]
        grass = _DRY_GRASS[channel] + green * np.float32(_GREEN_GRASS[channel] - _DRY_GRASS[channel])
        image[channel] = soil + grassy * (grass - np.float32(soil))
    if rng.random() < 0.35:
        _fields(image, land, rng, season)
    if rng.random() < 0.6:
        path = np.abs(land.coarse + np.float32(0.25) * land.woods - np.float32(rng.uniform(-0.3, 0.3)))
        _blend(image, _GRADED, np.float32(0.7) * (path < 0.045 * land.gsd_m / 0.5))
    return image


def _fields(image: Field, land: Land, rng: np.random.Generator, season: Season) -> None:
    """Voronoi parcels with rows of crops, over all open land."""
    height, width = land.s.shape
    y, x = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)[None, :]
    count = int(np.clip(height * width * land.gsd_m**2 / 15000, 3, 16))
    best = np.full((height, width), np.inf, np.float32)
    parcel = np.zeros((height, width), np.intp)
    seeds = rng.uniform((0, 0, 0.5), (height, width, 1.8), (count, 3)).astype(np.float32)
    for i, (row, col, squeeze) in enumerate(seeds):
        distance = (y - row) ** 2 * squeeze + (x - col) ** 2
        nearer = distance < best
        best[nearer], parcel[nearer] = distance[nearer], i
    crop = (rng.integers(0, len(_CROPS), count) + season.crop_shift) % len(_CROPS)
    turn, spacing = rng.uniform(0, np.pi, count), rng.uniform(1.6, 4.5, count)
    row_cos, row_sin = (np.round(f(turn) / spacing, 6).astype(np.float32) for f in (np.cos, np.sin))
    rows = (y * row_sin[parcel] + x * row_cos[parcel]) * np.float32(land.gsd_m)
    rows -= np.floor(rows)
    colour = np.array(_CROPS, np.float32)[crop]
    ridge = np.float32(0.2) * (np.abs(rows - np.float32(0.5)) - np.float32(0.25))
    shade = 1 + ridge + np.float32(0.06) * land.medium
    for channel in range(3):
        image[channel] = colour[:, channel][parcel] * shade


def _bare_ground(image: Field, land: Land, weight: Field) -> None:
    """Soil between chalk and clay with tracks of machines, mixed in by a weight."""
    tracks = np.abs(land.medium + np.float32(0.5) * land.woods) < 0.1
    clay = smoothstep(land.coarse + np.float32(0.6) * land.medium, -0.6, 2.2)
    tone = 1 + np.float32(0.05) * land.medium + np.float32(0.08) * land.fine + np.float32(0.08) * tracks
    for channel in range(3):
        bare = (np.float32(_GRADED[channel]) + clay * np.float32(_CLAY[channel] - _GRADED[channel])) * tone
        image[channel] += weight * (bare - image[channel])


def _built_ground(image: Field, plan: Plan, land: Land, seed: int, where: NDArray[np.bool_], season: Season) -> None:
    """Lawns, fences and pools on residential lots, car parks on commercial ones."""
    rng = stream(seed, "lots")
    lots = plan.lot_shape
    lush = np.clip(rng.uniform(-0.2, 0.9, lots) + 0.5 * (season.green - 0.5), 0, 1).astype(np.float32).ravel()
    weight = np.clip(lush[land.lot] + np.float32(0.2) * land.medium, 0, 1)
    tone = 1 + np.float32(0.09) * land.fine + np.float32(0.05) * land.medium
    for channel in range(3):
        dry, green = np.float32(_DRY_GRASS[channel]), np.float32(_GREEN_GRASS[channel])
        np.copyto(image[channel], (dry + weight * (green - dry)) * tone, where=where)
    commercial = plan.per_lot(plan.commercial).ravel()[land.lot]
    home = where & ~commercial
    _gardens(image, plan, land, rng, home)
    if plan.commercial.any():
        _car_park(image, plan, land, where & commercial)


def _gardens(image: Field, plan: Plan, land: Land, rng: np.random.Generator, home: NDArray[np.bool_]) -> None:
    depth = np.abs(land.across)
    half = np.float32(plan.pitch_m / 2)
    edge = np.minimum(land.along, np.float32(plan.lot_m) - land.along)
    if rng.random() < 0.8:
        fence = ((edge < 0.3) & (depth > 19)) | (half - depth < 0.3)
        _blend(image, _FENCE, np.float32(0.6) * (fence & home))
    drive = plan.drive_m.ravel()[land.lot]
    on_drive = _line(np.abs(land.along - np.nan_to_num(drive, nan=-99.0)), 2.6, land.gsd_m)
    _blend(image, _CONCRETE, on_drive * (home & (depth < 14)))
    pool = np.where(rng.random(plan.lot_shape) < 0.04, rng.uniform(5, plan.lot_m - 5, plan.lot_shape), -99)
    pool[..., 0 :: plan.lots_per_block] = -99
    where = pool.ravel().astype(np.float32)[land.lot]
    ellipse = ((land.along - where) / 4) ** 2 + ((half - 6 - depth) / np.float32(2.3)) ** 2
    _blend(image, _CONCRETE, (ellipse < 1.7) & home)
    _blend(image, _POOL, (ellipse < 1) & home)


def _car_park(image: Field, plan: Plan, land: Land, where: NDArray[np.bool_]) -> None:
    """Asphalt with rows of stalls that lie along the street."""
    depth = np.abs(land.across)
    paved = where & (plan.pitch_m / 2 - depth > 3)
    tone = 1 + np.float32(0.04) * land.fine + np.float32(0.04) * land.medium
    for channel in range(3):
        np.copyto(image[channel], np.float32(_ASPHALT[channel]) * tone, where=paved)
    beside = land.s / np.float32(2.8)
    lines = (np.abs(beside - np.floor(beside) - 0.5) < 0.05) & (np.abs(depth - (plan.pitch_m / 2 - 9)) < 5)
    _blend(image, _MARKING, np.float32(0.5) * (lines & paved))


def _streets(image: Field, plan: Plan, land: Land, seed: int, open_: NDArray[np.bool_]) -> None:
    """Carriageways, kerbs, pavements, turning circles and the arterial road."""
    rng = stream(seed, "streets")
    mix = float(rng.choice([0.1, 0.3, 0.7]))
    surface = tuple(a + mix * (c - a) for a, c in zip(_ASPHALT, _CONCRETE, strict=True))
    pavement = rng.random() < 0.6
    depth, distance = np.abs(land.across), _street_distance(plan, land)
    kerb = np.float32(STREET_M)
    near = open_ & (distance < 9)
    if pavement:
        _blend(image, _CONCRETE, _line(np.abs(distance - kerb - 2), 0.6, land.gsd_m) * near)
    worn = 1 + np.float32(0.025) * land.medium + np.float32(0.02) * land.fine
    street = np.stack([np.float32(c) * worn for c in surface])
    _blend(image, _CONCRETE, _line(distance, STREET_M + 0.5, land.gsd_m) * near)
    _blend(image, street, _line(distance, STREET_M, land.gsd_m) * near)
    if plan.arterial is None:
        return
    lots = plan.lot_shape
    main = (land.lot // (lots[1] * lots[2])) == plan.arterial
    _blend(image, street * np.float32(0.92), _line(depth, ARTERIAL_M, land.gsd_m) * main)
    _blend(image, _MARKING, np.float32(0.6) * (_line(np.abs(depth - 0.3), 0.15, land.gsd_m) * main))


def _street_distance(plan: Plan, land: Land) -> Field:
    """Metres from the nearest street's axis; commercial blocks have none of their own."""
    distance = np.abs(land.across)
    length = np.float32(plan.lots_per_block * plan.lot_m)
    in_block = land.s - np.floor(land.s / length) * length
    none = plan.per_lot(plan.commercial).ravel()[land.lot]
    gap = plan.per_lot(plan.gap).ravel()[land.lot]
    from_middle = np.abs(in_block - length / 2)
    circle = np.sqrt((from_middle - np.float32(_GAP_M)) ** 2 + land.across**2) - np.float32(_CIRCLE_M - STREET_M)
    ended = np.where(from_middle < _GAP_M, circle, np.minimum(circle, distance))
    distance = np.where(gap, ended, np.where(none, np.float32(99), distance))
    first = in_block < np.float32(plan.lot_m)
    crossing = plan.per_lot(plan.cross).ravel()[land.lot] & first
    to_cross = np.abs(land.along - np.float32(plan.lot_m / 2))
    return np.where(crossing, np.minimum(distance, to_cross), distance).astype(np.float32)
