"""`run_bench`: data, jobs, speed, table. The same call goes on with one that was stopped."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from terradelta.errors import InputError, OutputExistsError
from terradelta.files import unfinished, write_whole
from terradelta.lab.bench.design import Entry, Job, Setup, jobs_of
from terradelta.lab.bench.runner import Listener, held, run_jobs, run_worker
from terradelta.lab.bench.summary import Outcome, outcomes_of, summary_table
from terradelta.lab.bench.tables import Table, write_tables
from terradelta.lab.bench.tiles import SYNTHETIC, bench_pairs, make_synthetic
from terradelta.lab.bench.worker import REQUEST, SPEED

__all__ = ["BenchResult", "run_bench"]

PROTOCOL, RUNS, DATA, TIMING = "protocol.json", "runs", "data", "speed"
SPEED_SIDE = 256


@dataclass(frozen=True)
class BenchResult:
    """What a benchmark left."""

    files: tuple[Path, ...]
    """The table in each format: Markdown, CSV, LaTeX, HTML."""
    table: Table
    outcomes: tuple[Outcome, ...]


def run_bench(
    protocol: Setup,
    entries: Sequence[Entry],
    seeds: Sequence[int],
    out: Path,
    listener: Listener,
    *,
    ablation: str | None = None,
    parallel: int | None = None,
    drawing: Callable[[int, int], None] | None = None,
) -> BenchResult:
    """Train and score all entries, each with all seeds, and write the table in four formats.

    ``out`` holds ``table.{md,csv,tex,html}``, rewritten after every run, and ``runs/NAME`` with log, training run,
    receipt and result of each. What is finished is not run again; a run that was stopped goes on from its last
    checkpoint; one that failed is tried again. More entries or seeds extend what is there.

    Args:
        protocol: what all runs share; must be the one that ``out`` was begun with.
        entries: rows of the table; baselines are added.
        seeds: of the runs of each entry.
        out: folder of the benchmark.
        listener: told of every start and end.
        ablation: name of the ablation that the entries are.
        parallel: runs at once; None: by cores and memory.
        drawing: called with (done, total) while the synthetic data are drawn.

    Raises:
        InputError: if the protocol differs from that of ``out``, or an argument is not allowed.
        OutputExistsError: if ``out`` holds something else, or another process works on it.
        DataError: if the data cannot be read.
        KeyboardInterrupt: after Ctrl-C, once the runs under way have saved.
    """
    jobs = jobs_of(entries, seeds, protocol)
    _check_folder(out)
    with held(out):
        _settle_protocol(out, protocol)
        if protocol.data == SYNTHETIC:
            make_synthetic(out / DATA, progress=drawing)
        hashes = _hashes(protocol, out)
        table = _TableWriter(out, protocol, jobs, hashes, seeds, ablation)
        table.write()
        run_jobs(jobs, out / RUNS, out / DATA, _AlsoWrites(listener, table), parallel=parallel, device=protocol.device)
        _time_networks(out, [o.entry for o in table.write().outcomes if o.entry.network and o.results])
        return table.write()


@dataclass(frozen=True)
class _TableWriter:
    out: Path
    protocol: Setup
    jobs: Sequence[Job]
    hashes: Mapping[str, str]
    seeds: Sequence[int]
    ablation: str | None

    def write(self) -> BenchResult:
        """Write the table as far as results are there."""
        outcomes = outcomes_of(self.jobs, self.out / RUNS)
        speeds = _known_speeds(self.out)
        table = summary_table(
            outcomes, self.protocol, hashes=self.hashes, speeds=speeds, seeds=self.seeds, ablation=self.ablation
        )
        return BenchResult(tuple(write_tables(table, self.out)), table, tuple(outcomes))


@dataclass(frozen=True)
class _AlsoWrites:
    """The listener, with the table written whenever a job ends."""

    listener: Listener
    table: _TableWriter

    def planned(self, count: int) -> None:
        """Pass on."""
        self.listener.planned(count)

    def started(self, job: Job) -> None:
        """Pass on."""
        self.listener.started(job)

    def advanced(self, job: Job, step: int) -> None:
        """Pass on."""
        self.listener.advanced(job, step)

    def ended(self, job: Job, failure: str | None) -> None:
        """Write the table, then pass on."""
        self.table.write()
        self.listener.ended(job, failure)


def _check_folder(out: Path) -> None:
    if out.exists() and not (out / PROTOCOL).is_file() and (not out.is_dir() or _holds_something(out)):
        raise OutputExistsError(f"{out} is there already and holds no benchmark; name another folder")


def _holds_something(out: Path) -> bool:
    return bool({*out.iterdir()} - {out / ".lock", *unfinished(out)})


def _settle_protocol(out: Path, protocol: Setup) -> None:
    """Write the protocol, or check that what is there is the same."""
    path = out / PROTOCOL
    if not path.is_file():
        write_whole(path, protocol.to_json())
        return
    if path.read_text() != protocol.to_json():
        raise InputError(
            f"{out} was begun by another protocol (data, steps, crop, batch, tiles or device); it is in {path}. Give "
            "the same options, or name another folder"
        )


def _hashes(protocol: Setup, out: Path) -> dict[str, str]:
    """Split -> number of pairs and hash; also finds missing data before anything is trained."""
    found = {}
    for split in ("train", "val", "test"):
        pairs = bench_pairs(protocol, out / DATA, split)
        what = "images" if split == "train" else "tiles"
        found[split] = f"{len(pairs)} {what}, SHA-256 {pairs.checksum()[:16]}"
    return found


def _time_networks(out: Path, entries: Sequence[Entry]) -> None:
    """Time what is not timed yet, in a process of its own, after the training: nothing of ours runs beside it."""
    folder = out / TIMING
    networks = {entry.label: (entry.network, dict(entry.network_args)) for entry in entries}
    known = _known_speeds(out)
    missing = {label: network for label, network in networks.items() if label not in known}
    if not missing:
        return
    folder.mkdir(exist_ok=True)
    (folder / REQUEST).write_text(json.dumps({"networks": networks, "side": SPEED_SIDE}))
    run_worker(folder, out / DATA)


def _known_speeds(out: Path) -> dict[str, Any]:
    try:
        found = json.loads((out / TIMING / SPEED).read_text())["speeds"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}
