"""`make_scene`: a georeferenced pair with a known change mask."""

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS

from terradelta.errors import InputError
from terradelta.geo.grid import Grid
from terradelta.lab.synthetic.buildings import Building, footprint
from terradelta.lab.synthetic.drawing import (
    Cars,
    Sun,
    Trees,
    draw_building,
    draw_cars,
    draw_trees,
    make_cars,
    make_trees,
)
from terradelta.lab.synthetic.ground import Land, Season, make_land, paint_ground
from terradelta.lab.synthetic.light import add_weather, cast_shadows, make_tone, misregister, sense
from terradelta.lab.synthetic.noise import stream
from terradelta.lab.synthetic.scene_config import SceneConfig
from terradelta.lab.synthetic.site_plan import Plan, make_plan

__all__ = ["Scene", "make_scene"]

_MARGIN_PX = 16
_CRS_CODE = 32614  # UTM zone 14 north
_ORIGIN_M = (3_345_000.0, 615_000.0)


@dataclass(frozen=True)
class Scene:
    """Two pictures of one place and what changed between them."""

    before: NDArray[np.uint8]
    """(3, H, W) red, green, blue, 1 to 255; 0 where not valid."""
    after: NDArray[np.uint8]
    """As ``before``."""
    label: NDArray[np.bool_]
    """(H, W): footprints of buildings that appeared, disappeared or were rebuilt (then both footprints)."""
    valid: NDArray[np.bool_] | None
    """(H, W): pixels with data on both dates; None if that is all of them."""
    grid: Grid
    """Where the pixels are, in UTM."""
    config: SceneConfig
    """Options that it was made with."""
    seed: int
    """Seed that it was made with."""


@dataclass
class _World:
    """What both dates of a scene share."""

    plan: Plan
    land: Land
    trees: Trees
    cars: Cars


def make_scene(config: SceneConfig, seed: int) -> Scene:
    """Make a pair. The same configuration and seed give the same bytes.

    Args:
        config: options of the scene.
        seed: 0 or more.

    Raises:
        InputError: if the seed is below 0.
    """
    if seed < 0:
        raise InputError(f"the seed of a scene is {seed}; give 0 or more")
    shape = (config.height + 2 * _MARGIN_PX, config.width + 2 * _MARGIN_PX)
    plan = make_plan(config, seed, shape)
    land = make_land(plan, config, seed, shape)
    trees = make_trees(plan, land, config, seed, _footprints(plan.buildings, shape, config.gsd_m))
    _repaint(plan, config, seed)
    world = _World(plan, land, trees, make_cars(plan, config, seed, shape))
    inner = (slice(_MARGIN_PX, -_MARGIN_PX),) * 2
    pictures = [_picture(world, config, seed, date)[(slice(None), *inner)].copy() for date in (0, 1)]
    changed = [b for b in plan.buildings if b.changed]
    label = _footprints(changed, shape, config.gsd_m)[inner].copy()
    valid = _swath(config, seed)
    if valid is not None:
        pictures[1][:, ~valid] = 0
    return Scene(pictures[0], pictures[1], label, valid, _grid(config, seed), config, seed)


def _footprints(buildings: list[Building], shape: tuple[int, int], gsd_m: float) -> NDArray[np.bool_]:
    """Union of the footprints on both dates."""
    mask = np.zeros(shape, bool)
    for building in buildings:
        for look in {id(x): x for x in building.looks if x is not None}.values():
            found = footprint(building, look, shape, gsd_m)
            if found is not None:
                mask[found[0]] |= found[1]
    return mask


def _repaint(plan: Plan, config: SceneConfig, seed: int) -> None:
    """Give some unchanged roofs another colour."""
    rng = stream(seed, "repaint")
    chosen = rng.random(len(plan.buildings)) < config.repaint
    factor = rng.uniform(0.6, 1.5, (len(plan.buildings), 1)) * rng.uniform(0.92, 1.08, (len(plan.buildings), 3))
    for i in np.flatnonzero(chosen):
        look = plan.buildings[i].looks[1]
        if look is not None and not plan.buildings[i].changed:
            red, green, blue = (float(min(c * f, 0.9)) for c, f in zip(look.colour, factor[i], strict=True))
            new = dataclasses.replace(look, colour=(red, green, blue))
            plan.buildings[i] = dataclasses.replace(plan.buildings[i], looks=(look, new))


def _season(config: SceneConfig, seed: int, date: int) -> Season:
    rng = stream(seed, "season")
    green, shift = rng.uniform(0.1, 0.9, 2), rng.integers(0, 5, 2)
    water = rng.normal(0, 0.15, 2)
    if date == 0:
        return Season(float(green[0]), 0, 0.0)
    k = config.season
    moved = int(shift[1]) if rng.random() < k else 0
    return Season(float(green[0] + k * (green[1] - green[0])), moved, float(k * water[1]))


def _sun(config: SceneConfig, seed: int, date: int) -> Sun:
    """Late morning on the northern hemisphere; the dates differ by up to 60 degrees in azimuth and 30 in elevation."""
    rng = stream(seed, "sun")
    azimuth, elevation = math.radians(rng.uniform(115, 175)), math.radians(rng.uniform(38, 66))
    turn, climb = math.radians(rng.uniform(-60, 60)), math.radians(rng.uniform(-30, 30))
    if date == 1:
        azimuth += config.sun * turn
        elevation = min(max(elevation + config.sun * climb, math.radians(28)), math.radians(72))
    return Sun(round(azimuth, 6), round(elevation, 6))


def _view(config: SceneConfig, seed: int, date: int) -> tuple[float, float]:
    row, col = stream(seed, f"view{date}").normal(0, config.parallax, 2) if config.parallax else (0.0, 0.0)
    return float(row), float(col)


def _picture(world: _World, config: SceneConfig, seed: int, date: int) -> NDArray[np.uint8]:
    """The picture of one date with its margin: ``(3, H + 32, W + 32)``."""
    season, sun, view = _season(config, seed, date), _sun(config, seed, date), _view(config, seed, date)
    image = paint_ground(world.plan, world.land, config, seed, date, season)
    height = np.zeros(image.shape[1:], np.float32)
    draw_cars(image, height, world.cars, date, config.gsd_m)
    for building in world.plan.buildings:
        look = building.looks[date]
        if look is not None:
            draw_building(image, height, building, look, world.land, sun, view)
    draw_trees(image, height, world.trees, world.land, date, season, sun)
    cast_shadows(image, height, sun, config.gsd_m)
    add_weather(image, config, seed, date)
    if date == 1:
        image = misregister(image, config, seed)
    return sense(image, make_tone(config, seed, date), config, seed, date)


def _swath(config: SceneConfig, seed: int) -> NDArray[np.bool_] | None:
    """Valid pixels: all but one slanted side of the scene."""
    if config.nodata_fraction == 0:
        return None
    angle = float(stream(seed, "swath").uniform(0, 2 * math.pi))
    row, col = np.ogrid[: config.height, : config.width]
    depth = row * round(math.sin(angle), 6) + col * round(math.cos(angle), 6)
    return np.asarray(depth <= np.quantile(depth, 1 - config.nodata_fraction))


def _grid(config: SceneConfig, seed: int) -> Grid:
    """A place in UTM zone 14 north, with its corner on a whole pixel."""
    north, east = stream(seed, "place").integers(0, 20_000, 2)
    corner = _ORIGIN_M[1] + float(east) * config.gsd_m, _ORIGIN_M[0] + float(north) * config.gsd_m
    transform = Affine(config.gsd_m, 0.0, corner[0], 0.0, -config.gsd_m, corner[1])
    return Grid(CRS.from_epsg(_CRS_CODE), transform, (config.height, config.width))
