"""What `terradelta map --cluster` costs, part by part, in seconds of CPU; see `scale`."""

import contextlib
import json
import math
import os
import platform
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
from map_scene import cheap_network, write_scenes
from numpy.typing import NDArray
from scale_simulation import Costs

from terradelta.geo.windows import TilePlan, fit_tiles
from terradelta.mapping.cluster import Cluster
from terradelta.mapping.journal import Journal
from terradelta.mapping.plan import ScenePlan
from terradelta.mapping.run import MapOptions, map_change
from terradelta.mapping.scene import predict_rows
from terradelta.predict.load import load_predictor
from terradelta.predict.openvino import OpenVINOPredictor
from terradelta.predict.predictor import Predictor
from terradelta.stages import StageClock

__all__ = ["SMALL", "SMALL_SIDES", "Line", "Link", "Profile", "Waiting", "measure_all", "read_costs"]

SIDES = (1024, 2048)
"""Scenes that are measured; the first is one tile of the default model."""
SMALL_SIDES = (512, 1024)
"""Scenes that are measured in small tiles."""
SMALLEST = 256
EMPTY_TASKS = 100
PAIR_BYTES = 6
"""Of a pixel of both dates, three 8-bit bands each, as if stored without compression."""
SMALL = MapOptions(tile=256, overlap=64)
"""Many rows in a small scene, for the check on local clusters."""


@dataclass(frozen=True)
class Line:
    """A cost that grows with the scene."""

    fixed: float
    slope: float
    most: float = math.inf

    def __call__(self, size: float) -> float:
        """The cost at a size."""
        return min(max(0.0, self.fixed + self.slope * size), self.most)

    @classmethod
    def through(cls, first: tuple[float, float], second: tuple[float, float]) -> "Line":
        """Through two points (size, cost)."""
        slope = (second[1] - first[1]) / (second[0] - first[0])
        return cls(first[1] - slope * first[0], slope)


@dataclass
class Measured:
    """What one scene cost in one process, part by part; seconds of CPU."""

    start_s: float = 0.0
    """Until the first row is wanted."""
    open_s: float = 0.0
    decode_s: list[float] = field(default_factory=list)
    """Of each row of tiles."""
    compute_s: list[float] = field(default_factory=list)
    row_bytes: list[int] = field(default_factory=list)
    pixels: int = 0
    """Of all tiles."""
    write_s: float = 0.0
    """From the journal to the products."""
    end_s: float = 0.0
    """Hashes, evidence, report."""

    @property
    def total_s(self) -> float:
        """The whole pair in one process."""
        return self.start_s + sum(self.decode_s) + sum(self.compute_s) + self.write_s + self.end_s


class ThreadClock(StageClock):
    """Seconds of CPU of the thread that is in the block, in place of the clock on the wall."""

    @contextlib.contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """See `StageClock.time`."""
        begun = time.thread_time()
        try:
            yield
        finally:
            with self._lock:
                self._seconds[stage] = self._seconds.get(stage, 0.0) + time.thread_time() - begun


class OneByOne:
    """In place of a cluster: first every row, one by one, then all of them to the products."""

    def __init__(self) -> None:
        self.found = Measured()
        self.begun = time.process_time()

    def rows(
        self,
        plan: ScenePlan,
        predictor: Predictor,
        journal: Journal,
        numbers: Sequence[int],
        on_tile: Callable[[], None],
    ) -> Generator[int]:
        """See `terradelta.mapping.plan.Workers`."""
        found = self.found
        found.start_s = time.process_time() - self.begun
        for number in numbers:
            clock, begun = ThreadClock(), time.process_time()
            with plan.open(predictor, clock) as reader:
                found.open_s = time.process_time() - begun
                begun = time.process_time()
                for _ in predict_rows(reader, plan.tiles, journal, [number], on_tile):
                    pass
            found.decode_s.append(clock.seconds()["read"])
            found.compute_s.append(time.process_time() - begun - found.decode_s[-1])
            found.pixels += sum(tile.height * tile.width for tile in plan.tiles.row(number))
            found.row_bytes.append(len(journal.take(number)))
        self.begun = time.process_time()
        yield from numbers

    def count(self) -> int:
        """See `terradelta.mapping.plan.Workers`."""
        return 1

    def starmap(self, *_: object) -> Generator[Any]:
        """Not for pairs."""
        raise NotImplementedError


def measure(dates: tuple[Path, Path], predictor: Predictor, options: MapOptions, out: Path) -> Measured:
    """Map a scene part by part."""
    one = OneByOne()
    with mock.patch("terradelta.stages.time", SimpleNamespace(perf_counter=time.process_time)):
        made = map_change(*dates, out, predictor, replace(options, workers=one))
    after_rows = time.process_time() - one.begun
    timings = made.receipt.timings
    one.found.end_s = sum(timings.get(stage, 0.0) for stage in ("hash", "evidence", "report"))
    one.found.write_s = after_rows - one.found.end_s
    return one.found


class Waiting(Predictor):
    """A network on a device that is not there: the core waits, as for an accelerator."""

    seconds = 0.2

    def logits(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        """Minus ten everywhere but in a corner."""
        time.sleep(self.seconds)
        out = np.full((len(before), 1, *before.shape[2:]), -10, np.float32)
        out[..., :16, :16] = 10
        return out


@dataclass(frozen=True)
class Profile:
    """What a model costs with its tiles, for scenes of any size."""

    tile: int
    even: bool
    """Whether tiles of about ``tile**2`` pixels divide a scene evenly; otherwise they have that side."""
    overlap: int
    multiple: int
    start_s: Line
    """By pixels of the scene, up to as many blocks for the shift as are ever measured; the next have no such end."""
    write_s: Line
    end_s: Line
    open_s: float
    decode_s: float
    """Of a pixel of a tile; so are the next two."""
    compute_s: float
    wait_s: float
    spread: float
    """Of the time of a row, as a share."""
    row_byte: float
    """Bytes in the journal for each byte of a row's pixels."""
    first_s: float
    """A worker's first task: imports, and the model."""

    def scene(self, side: int, link: "Link") -> tuple[int, Costs]:
        """Rows of tiles of a square scene, and what one costs."""
        plan, pixels = self._plan(side), side * side
        rows = len(plan.row_spans)
        area = _computed(plan) / rows
        return rows, Costs(
            compute_s=self.compute_s * area,
            decode_s=self.decode_s * area,
            wait_s=self.wait_s * area,
            read_bytes=PAIR_BYTES * area,
            write_bytes=self.row_byte * area,
            overhead_s=self.open_s,
            first_s=self.first_s,
            scheduler_s=link.scheduler_s,
            latency_s=link.latency_s,
            head_start_s=self.start_s(pixels),
            head_s=self.write_s(pixels) / rows,
            head_end_s=self.end_s(pixels),
            head_read_bytes=self.row_byte * area,
            spread=self.spread,
        )

    def pair(self, side: int, link: "Link") -> Costs:
        """What a whole pair costs as a task; its tiles are read, and everything once more for shift and evidence."""
        pixels, area = side * side, _computed(self._plan(side))
        return Costs(
            compute_s=self.compute_s * area + self.start_s(pixels) + self.write_s(pixels) + self.end_s(pixels),
            decode_s=self.decode_s * area,
            wait_s=self.wait_s * area,
            read_bytes=PAIR_BYTES * (area + pixels),
            write_bytes=self.row_byte * area + pixels,
            overhead_s=self.open_s,
            first_s=self.first_s,
            scheduler_s=link.scheduler_s,
            latency_s=link.latency_s,
            spread=self.spread,
        )

    def _plan(self, side: int) -> TilePlan:
        shape = (side, side)
        fitted: int | tuple[int, int] = (
            fit_tiles(shape, self.tile**2, self.overlap, self.multiple) if self.even else self.tile
        )
        return TilePlan(shape, fitted, self.overlap, self.multiple)


def _computed(plan: TilePlan) -> int:
    """Pixels of all tiles."""
    return sum(tile.height * tile.width for row in plan.rows() for tile in row)


@dataclass(frozen=True)
class Link:
    """What the scheduler costs for one task."""

    scheduler_s: float
    latency_s: float


class Heads(NamedTuple):
    """What the head process does, by pixels of the scene."""

    start_s: Line
    write_s: Line
    end_s: Line


def profile(
    predictor: Predictor, options: MapOptions, folder: Path, first_s: float, sides: tuple[int, int] = SIDES
) -> Profile:
    """Measure a model on scenes of two sizes."""
    found = [_measured(predictor, options, folder, side) for side in sides]

    def line(part: str) -> Line:
        first, second = ((float(side**2), float(getattr(one, part))) for side, one in zip(sides, found, strict=True))
        return Line.through(first, second)

    heads = Heads(replace(line("start_s"), most=found[1].start_s), line("write_s"), line("end_s"))
    return _profile(predictor, options, found[1], first_s, heads)


def profile_tiles(predictor: Predictor, folder: Path, like: Profile) -> Profile:
    """Measure a model's tiles on one of them; the rest is that of another model with the same tiles."""
    heads = Heads(like.start_s, like.write_s, like.end_s)
    found = _measured(predictor, MapOptions(), folder, SIDES[0])
    return replace(_profile(predictor, MapOptions(), found, like.first_s, heads), spread=like.spread)


def _measured(predictor: Predictor, options: MapOptions, folder: Path, side: int) -> Measured:
    with tempfile.TemporaryDirectory(dir=folder) as out:
        return measure(write_scenes(folder, side), predictor, options, Path(out) / "map")


def _profile(predictor: Predictor, options: MapOptions, found: Measured, first_s: float, heads: Heads) -> Profile:
    tile, overlap = options.tile or predictor.card.tile, options.overlap or predictor.card.overlap
    each = np.add(found.decode_s, found.compute_s)
    return Profile(
        tile,
        options.tile is None,
        overlap,
        predictor.card.stride,
        start_s=heads.start_s,
        write_s=heads.write_s,
        end_s=heads.end_s,
        open_s=found.open_s,
        decode_s=sum(found.decode_s) / found.pixels,
        compute_s=sum(found.compute_s) / found.pixels,
        wait_s=predictor.seconds / tile**2 if isinstance(predictor, Waiting) else 0.0,
        spread=float(each.std() / each.mean()),
        row_byte=sum(found.row_bytes) / found.pixels,
        first_s=first_s,
    )


def measure_link(predictor: Predictor, folder: Path) -> tuple[Link, float]:
    """Scheduler and latency from empty tasks; and seconds of CPU of a worker's first task, with imports and model."""
    with Cluster("local:1") as cluster:
        before = sum(cluster.client.run(time.process_time).values())
        list(cluster.starmap(_nothing, predictor, folder, [(0,)]))
        first_s = sum(cluster.client.run(time.process_time).values()) - before
        begun, used = time.perf_counter(), time.process_time()
        list(cluster.starmap(_nothing, predictor, folder, [(n,) for n in range(EMPTY_TASKS)]))
        wall, used = time.perf_counter() - begun, time.process_time() - used
    return Link(used / EMPTY_TASKS, max(0.0, wall - used) / EMPTY_TASKS), first_s


def _nothing(predictor: Predictor, number: int) -> int:
    return number


def measure_all(models: Sequence[str], folder: Path) -> dict[str, Any]:
    """Costs of the cheap network and of models, JSON-ready."""
    cheap = OpenVINOPredictor(cheap_network(folder / "cheap.onnx"), threads=1)
    link, first_s = measure_link(cheap, folder)
    _measured(cheap, SMALL, folder, SMALLEST)  # imports, and what libraries do once
    full = profile(cheap, MapOptions(), folder, first_s)
    profiles = {"cheap": full}
    for name, predictor in (("small tiles", cheap), ("waiting", Waiting(cheap.card))):
        profiles[name] = profile(predictor, SMALL, folder, first_s, SMALL_SIDES)
    for name in models:
        profiles[name] = profile_tiles(load_predictor(name, threads=1), folder, full)
    found = {name: asdict(each) for name, each in profiles.items()}
    return {"machine": machine(), "link": asdict(link), "models": found}


def machine() -> dict[str, Any]:
    """Where this runs."""
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }


def read_costs(path: Path) -> tuple[dict[str, Profile], Link]:
    """What `measure_all` wrote."""
    found = json.loads(path.read_text())
    lines = Heads._fields
    profiles: dict[str, Profile] = {}
    for name, each in found["models"].items():
        values: dict[str, Any] = {key: Line(**value) if key in lines else value for key, value in each.items()}
        profiles[name] = Profile(**values)
    return profiles, Link(**found["link"])
