"""A discrete-event simulation of `terradelta map --cluster`: workers, scheduler, shared storage, and the head process.

A task is a row of tiles of one scene, or a whole pair of many. What is simulated:

- The scheduler hands out tasks in order, one after the other (`Costs.scheduler_s` each). A worker that has ended a task
  waits for its next one (`Costs.latency_s`); tasks are not sent ahead.
- A worker is one core. It reads a task in chunks, each while it computes on the one before; journal or products are
  written at the end. All bytes pass one shared storage, first come, first served, at `Site.storage_bytes_s`; one
  worker's connection takes at most `Site.worker_bytes_s`.
- The head process begins alone (`Costs.head_start_s`), takes finished rows in their order (`Costs.head_s` each), and
  ends alone (`Costs.head_end_s`): registration, products, evidence and report.
- Workers die at random (`Site.lifetime_s`); their task is the next to be handed out, from its beginning, and the worker
  is replaced after `Site.replace_s`. Some workers are slow (`Site.slow_share`, `Site.slow_factor`).
- If all share one machine (`Site.cores`), workers and head share its cores.

What is not: contention for memory bandwidth, networks with several switches, tasks that a scheduler moves or repeats
because they are late, and a head process that is lost.
"""

import heapq
import math
import random
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import simpy

__all__ = ["Costs", "Outcome", "Site", "bound_s", "simulate"]

Steps = Generator[Any, Any, None]


@dataclass(frozen=True)
class Costs:
    """What one task and one run cost; seconds are those of one undisturbed core."""

    compute_s: float
    """A worker's core for one task: network, blending, compression."""
    decode_s: float = 0.0
    """A worker's core for decoding one task; it may do so while an accelerator computes."""
    wait_s: float = 0.0
    """An accelerator for one task."""
    read_bytes: float = 0.0
    write_bytes: float = 0.0
    overhead_s: float = 0.0
    """A worker's core for one task, whatever its size: opening the files."""
    first_s: float = 0.0
    """A worker's core for its first task: loading the model."""
    scheduler_s: float = 0.0
    """Scheduler and client, one after the other, for one task."""
    latency_s: float = 0.0
    head_start_s: float = 0.0
    head_s: float = 0.0
    """The head process for one task, in order."""
    head_end_s: float = 0.0
    head_read_bytes: float = 0.0
    """What the head process reads again of one task."""
    spread: float = 0.0
    """Standard deviation of a task's time, as a share of it (log-normal)."""

    @property
    def task_s(self) -> float:
        """One task on an undisturbed worker with endless storage."""
        return self.overhead_s + self.compute_s + max(self.decode_s, self.wait_s)


@dataclass(frozen=True)
class Site:
    """Where it runs."""

    storage_bytes_s: float = math.inf
    worker_bytes_s: float = math.inf
    cores: float | None = None
    """Cores that workers and head share; None: each has its own."""
    lifetime_s: float = math.inf
    """Mean time until a worker is lost."""
    replace_s: float = 60.0
    slow_share: float = 0.0
    slow_factor: float = 1.0
    """How much longer a slow worker computes."""


@dataclass(frozen=True)
class Outcome:
    """What a simulated run took."""

    workers: int
    seconds: float
    repeated: int
    """Tasks begun again because their worker was lost."""
    busy: dict[str, float]
    """Share of the run in which each part was at work: workers (mean, waiting left out), scheduler, storage, head."""

    @property
    def limit(self) -> str:
        """The busiest part."""
        return max(self.busy, key=lambda part: self.busy[part])


def bound_s(tasks: int, costs: Costs, site: Site, workers: int) -> float:
    """Seconds below which no run can be: the slowest of workers, scheduler, storage and head, each as if alone."""
    rounds = math.ceil(tasks / workers)
    moved = tasks * (costs.read_bytes + costs.write_bytes + costs.head_read_bytes)
    middle = max(
        rounds * costs.task_s,
        tasks * costs.scheduler_s,
        moved / site.storage_bytes_s,
        tasks * costs.head_s,
    )
    return costs.head_start_s + middle + costs.head_end_s


def simulate(tasks: int, costs: Costs, site: Site, workers: int, *, chunks: int = 4, seed: int = 0) -> Outcome:
    """Run the simulation.

    Args:
        tasks: how many rows, or pairs.
        costs: of each.
        site: where.
        workers: how many.
        chunks: pieces in which a task is read.
        seed: of everything random.
    """
    return _Simulation(tasks, costs, site, workers, chunks, seed).run()


class _Server:
    """One or several places, first come, first served; counts the seconds for which they were taken."""

    def __init__(self, world: simpy.Environment, places: int = 1) -> None:
        self.world, self.places, self.busy_s = world, simpy.Resource(world, places), 0.0

    def serve(self, seconds: float) -> Steps:
        if seconds > 0:
            with self.places.request() as turn:
                yield turn
                self.busy_s += seconds
                yield self.world.timeout(seconds)


class _Simulation:
    def __init__(self, tasks: int, costs: Costs, site: Site, workers: int, chunks: int, seed: int) -> None:
        self.costs, self.site, self.workers, self.chunks = costs, site, workers, chunks
        self.draw = random.Random(seed)
        self.world = simpy.Environment()
        self.storage, self.scheduler = _Server(self.world), _Server(self.world)
        self.cores = None if site.cores is None else _Server(self.world, math.ceil(site.cores))
        self.speed = 1.0 if site.cores is None else site.cores / math.ceil(site.cores)
        self.waiting = list(range(tasks))
        self.done = [self.world.event() for _ in range(tasks)]
        self.worker_busy_s = self.head_busy_s = 0.0
        self.repeated = 0
        self.wake = self.world.event()

    def run(self) -> Outcome:
        self.world.run(self.world.process(self._head()))
        seconds = self.world.now
        busy = {
            "workers": self.worker_busy_s / (seconds * self.workers),
            "scheduler": self.scheduler.busy_s / seconds,
            "storage": self.storage.busy_s / seconds,
            "head": self.head_busy_s / seconds,
        }
        return Outcome(self.workers, seconds, self.repeated, busy)

    def _core(self, seconds: float) -> Steps:
        """A core at work."""
        if self.cores is None:
            yield self.world.timeout(seconds)
        else:
            yield from self.cores.serve(seconds / self.speed)

    def _move(self, size: float) -> Steps:
        """Bytes between a process and the storage."""
        shared = size / self.site.storage_bytes_s
        yield from self.storage.serve(shared)
        rest = size / self.site.worker_bytes_s - shared
        if rest > 0:
            yield self.world.timeout(rest)

    def _head(self) -> Steps:
        costs = self.costs
        yield from self._head_core(costs.head_start_s)
        for number in range(self.workers):
            self.world.process(self._worker(number))
        for done in self.done:
            yield done
            if costs.head_s:
                yield from self._move(costs.head_read_bytes)
                yield from self._head_core(costs.head_s)
        yield from self._head_core(costs.head_end_s)

    def _head_core(self, seconds: float) -> Steps:
        self.head_busy_s += seconds / self.speed
        yield from self._core(seconds)

    def _worker(self, number: int) -> Steps:
        """A place for a worker: one after the other until nothing is left to do."""
        slow = self.draw.random() < self.site.slow_share
        pace = self.site.slow_factor if slow else 1.0
        while True:
            life = self.world.process(self._life(pace))
            if math.isinf(self.site.lifetime_s):
                yield life
                return
            end = self.world.timeout(self.draw.expovariate(1 / self.site.lifetime_s))
            yield life | end
            if not life.is_alive:
                return
            life.interrupt()
            yield self.world.timeout(self.site.replace_s)

    def _life(self, pace: float) -> Steps:
        begun = None
        try:
            yield from self._core(self.costs.first_s * pace)
            while True:
                while not self.waiting:  # a task may yet come back from a worker that is lost
                    yield self.wake
                begun = heapq.heappop(self.waiting)
                yield from self.scheduler.serve(self.costs.scheduler_s)
                yield self.world.timeout(self.costs.latency_s)
                yield from self._task(pace)
                self.done[begun].succeed()
                begun = None
        except simpy.Interrupt:
            if begun is not None:
                self.repeated += 1
                heapq.heappush(self.waiting, begun)
                woken, self.wake = self.wake, self.world.event()
                woken.succeed()

    def _task(self, pace: float) -> Steps:
        costs, world = self.costs, self.world
        factor = pace * self._varied() / self.chunks
        self.worker_busy_s += costs.overhead_s * pace + (costs.task_s - costs.overhead_s) * factor * self.chunks
        yield from self._core(costs.overhead_s * pace)
        coming = world.process(self._move(costs.read_bytes / self.chunks))
        for chunk in range(self.chunks):
            yield coming
            if chunk < self.chunks - 1:
                coming = world.process(self._move(costs.read_bytes / self.chunks))
            accelerator = world.timeout(costs.wait_s * factor)
            yield from self._core(costs.decode_s * factor)
            yield accelerator
            yield from self._core(costs.compute_s * factor)
        yield from self._move(costs.write_bytes)

    def _varied(self) -> float:
        if not self.costs.spread:
            return 1.0
        sigma = math.sqrt(math.log1p(self.costs.spread**2))
        return self.draw.lognormvariate(-(sigma**2) / 2, sigma)
