"""The plan of a scene: blocks, lots, buildings, and what stands on each date."""

import math
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terradelta.lab.synthetic.buildings import Building, commercial_look, footprint, house_look, shrunk
from terradelta.lab.synthetic.frame import Frame, make_frame
from terradelta.lab.synthetic.noise import stream
from terradelta.lab.synthetic.scene_config import SceneConfig

__all__ = ["Plan", "Stage", "make_plan"]

_CORNER_M = 16.0  # houses at a turning circle stand back if nearer than this to its centre


class Stage(IntEnum):
    """State of a lot's land on one date."""

    NATURAL = 0
    GRADED = 1
    SERVICED = 2
    """Bare lots with streets."""
    BUILT = 3


@dataclass
class Plan:
    """Blocks are indexed (street, block along it); lots (street, side, number along the street)."""

    frame: Frame
    pitch_m: float
    """Distance of parallel streets."""
    lot_m: float
    """Width of a lot; the first lot of each block is taken by a cross street."""
    lots_per_block: int
    first_street: int
    first_lot: int
    built: NDArray[np.bool_]
    """Blocks that hold buildings on at least one date."""
    commercial: NDArray[np.bool_]
    """Blocks with one large building and a car park."""
    cross: NDArray[np.bool_]
    """Blocks that begin with a cross street."""
    gap: NDArray[np.bool_]
    """Blocks whose street ends in two turning circles."""
    arterial: int | None
    """Index of the street that exists everywhere and always."""
    stage: NDArray[np.uint8]
    """(date, street, side, lot): values of `Stage`."""
    drive_m: NDArray[np.float32]
    """(street, side, lot): position of the driveway along the lot, NaN without one."""
    buildings: list[Building]

    @property
    def lot_shape(self) -> tuple[int, int, int]:
        """Streets, sides, lots along a street."""
        streets, blocks = self.built.shape
        return streets, 2, blocks * self.lots_per_block

    def per_lot(self, blocks: NDArray[Any]) -> NDArray[Any]:
        """A table over blocks spread over their lots: ``(streets, blocks) -> (streets, 2, lots)``."""
        return np.repeat(np.repeat(blocks, self.lots_per_block, axis=1)[:, None], 2, axis=1)


def make_plan(config: SceneConfig, seed: int, shape: tuple[int, int]) -> Plan:
    """Lay out the scene and choose its changes.

    Args:
        config: options of the scene.
        seed: of the scene.
        shape: (height, width) of the area that is drawn, in pixels.
    """
    plan = _lay_out(config, stream(seed, "layout"), shape)
    _place_buildings(plan, stream(seed, "buildings"))
    plan.buildings = [b for b in plan.buildings if _area_px(b, config, shape) > 0]
    rng = stream(seed, "change")
    _choose_blocks_and_houses(plan, config, rng, shape)
    _clear_land(plan, config, rng)
    return plan


def _lay_out(config: SceneConfig, rng: np.random.Generator, shape: tuple[int, int]) -> Plan:
    pitch, lot = float(rng.uniform(62, 78)), float(rng.uniform(15.5, 22))
    per_block = int(rng.integers(7, 13))
    reach = math.hypot(*shape) * config.gsd_m / 2 + 90
    streets, blocks = math.ceil(reach / pitch), math.ceil(reach / (lot * per_block))
    table = (2 * streets + 1, 2 * blocks)
    frame = make_frame(rng)
    extent = (shape[0] * config.gsd_m, shape[1] * config.gsd_m)
    built = _built_blocks(config.building_density, _block_centres(frame, (pitch, lot * per_block), table), extent, rng)
    arterial = int(rng.integers(streets - 1, streets + 2)) if rng.random() < 0.6 else None
    commercial = built & (rng.random(table) < 0.1)
    if arterial is not None:
        commercial[arterial] = False
    plan = Plan(
        frame=frame,
        pitch_m=pitch,
        lot_m=lot,
        lots_per_block=per_block,
        first_street=-streets,
        first_lot=-blocks * per_block,
        built=built,
        commercial=commercial,
        cross=rng.random(table) < 0.75,
        gap=(rng.random(table) < 0.25) & ~commercial,
        arterial=arterial,
        stage=np.zeros(0, np.uint8),
        drive_m=np.zeros(0, np.float32),
        buildings=[],
    )
    if arterial is not None:
        plan.gap[arterial] = False
    plan.stage = np.stack([np.where(plan.per_lot(built), Stage.BUILT, Stage.NATURAL).astype(np.uint8)] * 2)
    plan.drive_m = np.full(plan.lot_shape, np.nan, np.float32)
    return plan


def _block_centres(frame: Frame, block_m: tuple[float, float], table: tuple[int, int]) -> NDArray[np.float64]:
    """(row, col) in metres of each block's centre: ``(2, streets, blocks)``."""
    t = (np.arange(table[0]) - table[0] // 2)[:, None] * block_m[0] + np.zeros(table)
    s = (np.arange(table[1]) - table[1] / 2 + 0.5)[None, :] * block_m[1] + np.zeros(table)
    return np.stack(frame.to_ground(s, t))


def _built_blocks(
    density: float, centres: NDArray[np.float64], extent_m: tuple[float, float], rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Blocks to build on: those nearest, by a distorted distance, to a random centre of the town."""
    row, col = centres
    town = rng.uniform(-0.5, 0.5, 2) * extent_m
    score = np.hypot(row - town[0], col - town[1]) * rng.uniform(0.65, 1.35, row.shape)
    visible = (np.abs(row) < extent_m[0] / 2 + 20) & (np.abs(col) < extent_m[1] / 2 + 20)
    ranked = np.sort(score[visible] if visible.any() else score.ravel())
    count = max(round(density * len(ranked)), 1 if density > 0 else 0)
    return score <= ranked[count - 1] if count else np.zeros(row.shape, bool)


def _place_buildings(plan: Plan, rng: np.random.Generator) -> None:
    for street, block in np.argwhere(plan.built):
        colour = int(rng.choice([0, 1, 1, 2, 3, 4, 5]))
        if plan.commercial[street, block]:
            _place_commercial(plan, int(street), int(block), rng)
            continue
        for side in (0, 1):
            for number in range(1, plan.lots_per_block):
                _place_house(plan, (int(street), side, int(block) * plan.lots_per_block + number), colour, rng)


def _place_house(plan: Plan, lot: tuple[int, int, int], colour: int, rng: np.random.Generator) -> None:
    look = house_look(rng, plan.lot_m, colour)
    setback, vacant = float(rng.uniform(17.5, 20.0)), rng.random() < 0.06
    street, side, number = lot
    if vacant or (number % plan.lots_per_block == 1 and plan.lot_m < 17):
        return
    s = (plan.first_lot + number + 0.5) * plan.lot_m + float(rng.uniform(-0.5, 0.5))
    if street == plan.arterial:
        setback += 3.0
    if plan.gap[street, number // plan.lots_per_block]:
        block_s = (plan.first_lot + (number // plan.lots_per_block + 0.5) * plan.lots_per_block) * plan.lot_m
        setback += 4.5 if abs(abs(s - block_s) - 20.0) < _CORNER_M else 0.0
    sign = 1.0 if side else -1.0
    t = (plan.first_street + street) * plan.pitch_m + sign * setback
    row, col = (float(x) for x in plan.frame.to_ground(np.array(s), np.array(t)))
    angle = plan.frame.direction(s, t) + (0.0 if side else math.pi)
    garage = look.parts[1] if len(look.parts) > 1 and look.parts[1].v < 0 else look.parts[0]
    plan.drive_m[lot] = plan.lot_m / 2 + sign * garage.u
    plan.buildings.append(Building((row, col), angle, lot, (look, look)))


def _place_commercial(plan: Plan, street: int, block: int, rng: np.random.Generator) -> None:
    length = plan.lots_per_block * plan.lot_m
    half_u = min(float(rng.uniform(18, 45)), length / 2 - 14)
    half_v = float(rng.uniform(11, plan.pitch_m / 2 - 18))
    s = (plan.first_lot + (block + 0.5) * plan.lots_per_block) * plan.lot_m + plan.lot_m / 2
    t = (plan.first_street + street) * plan.pitch_m + float(rng.uniform(-5, 5))
    row, col = (float(x) for x in plan.frame.to_ground(np.array(s), np.array(t)))
    look = commercial_look(rng, half_u, half_v)
    lot = (street, 0, block * plan.lots_per_block + plan.lots_per_block // 2)
    plan.buildings.append(Building((row, col), plan.frame.direction(s, t), lot, (look, look)))


def _area_px(building: Building, config: SceneConfig, shape: tuple[int, int]) -> int:
    look = building.looks[1]
    found = footprint(building, look, shape, config.gsd_m) if look is not None else None
    return 0 if found is None else int(found[1].sum())


def _choose_blocks_and_houses(
    plan: Plan, config: SceneConfig, rng: np.random.Generator, shape: tuple[int, int]
) -> None:
    """Let whole blocks appear for up to three quarters of the change, then single buildings for the rest."""
    left = config.change_rate * shape[0] * shape[1]
    if not left:
        return
    area = np.array([_area_px(b, config, shape) for b in plan.buildings])
    block = [(b.lot[0], b.lot[2] // plan.lots_per_block) for b in plan.buildings]
    done = np.zeros(len(area), bool)
    whole = 0.75 * left
    names = sorted(set(block))
    for name in (names[i] for i in rng.permutation(len(names))):
        members = np.array([i for i, other in enumerate(block) if other == name])
        if 0 < area[members].sum() <= whole:
            done[members] = True
            whole -= area[members].sum()
            left -= _develop_block(plan, name, members, area, config, rng)
    for i in rng.permutation(len(area)):
        if not done[i] and area[i] / 2 <= left:
            left -= area[i]
            _change_house(plan, int(i), config, rng)


def _develop_block(
    plan: Plan,
    name: tuple[int, int],
    members: NDArray[np.intp],
    area: NDArray[np.intp],
    config: SceneConfig,
    rng: np.random.Generator,
) -> int:
    """Let a block's buildings appear; a few lots stay empty if the site changes with them. Returns the changed area."""
    site = rng.random() < config.site_change
    lots = slice(name[1] * plan.lots_per_block, (name[1] + 1) * plan.lots_per_block)
    before = rng.choice([Stage.NATURAL, Stage.GRADED, Stage.SERVICED], p=[0.5, 0.25, 0.25])
    if site:
        plan.stage[0, name[0], :, lots] = before
    empty = rng.random(len(members)) < (0.12 if site and len(members) > 3 else 0.0)
    for i, is_empty in zip(members, empty, strict=True):
        building = plan.buildings[i]
        plan.buildings[i] = replace(building, looks=(None, None if is_empty else building.looks[1]))
        if is_empty:
            plan.stage[1][building.lot] = Stage.SERVICED
    return int(area[members[~empty]].sum())


def _change_house(plan: Plan, index: int, config: SceneConfig, rng: np.random.Generator) -> None:
    building = plan.buildings[index]
    look = building.looks[1]
    kind, site = rng.random(), rng.random() < config.site_change
    if look is None:
        return
    if kind > 0.85:
        plan.buildings[index] = replace(building, looks=(shrunk(look, 0.62), look))
        return
    bare = 0 if kind < 0.7 else 1  # the date without the building
    plan.buildings[index] = replace(building, looks=(look, None) if bare else (None, look))
    if site and not plan.commercial[building.lot[0], building.lot[2] // plan.lots_per_block]:
        plan.stage[bare][building.lot] = Stage.SERVICED


def _clear_land(plan: Plan, config: SceneConfig, rng: np.random.Generator) -> None:
    """Clear some open blocks without building on them."""
    cleared = ~plan.built & (rng.random(plan.built.shape) < 0.08 * config.site_change)
    plan.stage[1][plan.per_lot(cleared)] = Stage.GRADED
