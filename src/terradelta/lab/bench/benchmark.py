"""`run_bench`: data, jobs, speed, table. The same call goes on with one that was stopped."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from terradelta.errors import InputError, OutputError, OutputExistsError
from terradelta.files import settle, take_lock, unfinished, write_whole
from terradelta.lab.bench.design import Entry, Job, Setup, jobs_of
from terradelta.lab.bench.job import RESULT, try_job
from terradelta.lab.bench.speed import measure_speeds
from terradelta.lab.bench.summary import Outcome, outcomes_of, summary_table
from terradelta.lab.bench.tables import Table, write_tables
from terradelta.lab.bench.tiles import SYNTHETIC, bench_pairs, make_synthetic
from terradelta.lab.training.loop import Announce, Progress, shown_by
from terradelta.strangers import read_json

__all__ = ["BenchResult", "run_bench"]

PROTOCOL, RUNS, DATA, SPEED, LOCK = "protocol.json", "runs", "data", "speed.json", ".lock"


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
    *,
    ablation: str | None = None,
    progress: Progress | None = None,
    announce: Announce | None = None,
) -> BenchResult:
    """Train and score all entries, each with all seeds, one after another, and write the table in four formats.

    ``out`` holds ``table.{md,csv,tex,html}``, rewritten after every run, and ``runs/NAME`` with training run, receipt
    and result of each. What is finished is not run again; a run that was stopped goes on from its last checkpoint; one
    that failed is tried again. More entries or seeds extend what is there.

    Args:
        protocol: what all runs share; must be the one that ``out`` was begun with.
        entries: rows of the table; baselines are added.
        seeds: of the runs of each entry.
        out: folder of the benchmark.
        ablation: name of the ablation that the entries are.
        progress: as for `fit`.
        announce: called with sentences.

    Raises:
        InputError: if the protocol differs from that of ``out``, or an argument is not allowed.
        OutputExistsError: if ``out`` holds something else, or another process works on it.
        OutputError: if ``out`` cannot be written.
        DataError: if the data cannot be read.
        KeyboardInterrupt: after Ctrl-C, once the run under way has saved.
    """
    jobs, shown = jobs_of(entries, seeds, protocol), shown_by(progress, announce)
    _check_folder(out)
    with _held(out):
        _settle_protocol(out, protocol)
        if protocol.data == SYNTHETIC:
            shown.announce("drawing synthetic scenes, unless they are there")
            make_synthetic(out / DATA)
        table = _TableWriter(out, protocol, jobs, _hashes(protocol, out), seeds, ablation)
        table.write()
        waiting = [job for job in jobs if not (out / RUNS / job.folder / RESULT).is_file()]
        for number, job in enumerate(waiting, 1):
            shown.announce(f"run {number} of {len(waiting)}: {job.name}")
            failure = try_job(job, out / RUNS / job.folder, out / DATA, shown)
            if failure is not None:
                shown.announce(f"{job.name} failed: {failure}")
            table.write()
        _time_networks(out, [o.entry for o in table.write().outcomes if o.entry.network and o.results])
        return table.write()


@contextlib.contextmanager
def _held(out: Path) -> Iterator[None]:
    """Keep other processes from benchmarking into the same folder."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = (out / LOCK).open("w")
    except OSError as error:
        raise OutputError(f"{out} cannot be made ({error}); give a folder that you may write to") from error
    with lock:
        if not take_lock(lock):
            raise OutputExistsError(
                f"another process is benchmarking into {out} at this moment; wait for it, or give another folder"
            )
        yield


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


def _check_folder(out: Path) -> None:
    if out.exists() and not (out / PROTOCOL).is_file() and (not out.is_dir() or _holds_something(out)):
        raise OutputExistsError(f"{out} is there already and holds no benchmark; name another folder")


def _holds_something(out: Path) -> bool:
    return bool({*out.iterdir()} - {out / LOCK, *unfinished(out)})


def _settle_protocol(out: Path, protocol: Setup) -> None:
    def refusal(names: Sequence[str]) -> InputError:
        return InputError(
            f"{out} was begun by another protocol ({', '.join(names)}); it is in {out / PROTOCOL}. Give the same "
            "options, or name another folder"
        )

    settle(out / PROTOCOL, dataclasses.asdict(protocol), refusal)


def _hashes(protocol: Setup, out: Path) -> dict[str, str]:
    """Split -> number of pairs and hash; also finds missing data before anything is trained."""
    found = {}
    for split in ("train", "val", "test"):
        pairs = bench_pairs(protocol, out / DATA, split)
        what = "images" if split == "train" else "tiles"
        found[split] = f"{len(pairs)} {what}, SHA-256 {pairs.checksum()[:16]}"
    return found


def _time_networks(out: Path, entries: Sequence[Entry]) -> None:
    """Time what is not timed yet, after the training: nothing of ours runs beside it."""
    known = _known_speeds(out)
    networks = {e.label: (e.network, e.network_args) for e in entries if e.label not in known}
    if networks:
        speeds = {label: vars(speed) for label, speed in measure_speeds(networks).items()}
        write_whole(out / SPEED, json.dumps(known | speeds, indent=2))


def _known_speeds(out: Path) -> dict[str, Any]:
    try:
        found = read_json((out / SPEED).read_text(), ours=True)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
