"""From the results of the jobs to one table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from terradelta.errors import TerradeltaError
from terradelta.lab.bench.design import BASELINES, Entry, Job, Setup
from terradelta.lab.bench.facts import Facts, network_facts
from terradelta.lab.bench.job import RESULT, failure_of
from terradelta.lab.bench.published import ABLATIONS, MARK, AblationScore, contradictions, headline, headline_f1
from terradelta.lab.bench.recipe import describe_recipe
from terradelta.lab.bench.speed import REFERENCE
from terradelta.lab.bench.tables import Cell, Column, Spread, Table
from terradelta.lab.bench.tiles import SYNTHETIC
from terradelta.machine import describe_machine
from terradelta.strangers import read_json

__all__ = ["Outcome", "outcomes_of", "summary_table", "unlearnt"]

COLUMNS = (
    Column("network"),
    Column("loss"),
    Column("F1 %"),
    Column("precision %"),
    Column("recall %"),
    Column("IoU %"),
    Column("runs"),
    Column("learnt"),
    Column("published F1 %"),
    Column("parameters M"),
    Column("MACs G"),
    Column("MACs G, as thop"),
    Column("speed"),
    Column("pairs/s", 1),
    Column("training s", 0),
    Column("remark"),
)
PRECISIONS = {"32-true": "float32", "bf16-mixed": "bfloat16 where the device has it and that is accurate enough"}


@dataclass(frozen=True)
class Outcome:
    """What the runs of one row gave."""

    entry: Entry
    results: tuple[Mapping[str, Any], ...]
    failures: tuple[str, ...]
    waiting: int
    """Runs that have neither a result nor a failure yet."""

    def metric(self, name: str) -> Spread | None:
        """A metric in per cent over the runs that ended."""
        values = [100 * float(result["metrics"][name]) for result in self.results]
        return Spread.of(values) if values else None


def outcomes_of(jobs: Sequence[Job], runs: Path) -> list[Outcome]:
    """One outcome for each entry, in the order of the jobs."""
    found: dict[str, list[tuple[Mapping[str, Any] | None, str | None]]] = {}
    entries: dict[str, Entry] = {}
    for job in jobs:
        folder = runs / job.folder
        entries[job.entry.label] = job.entry
        found.setdefault(job.entry.label, []).append((_result(folder), failure_of(folder)))
    outcomes = []
    for label, runs_of_it in found.items():
        results = tuple(result for result, _ in runs_of_it if result is not None)
        failures = tuple(why for result, why in runs_of_it if result is None and why is not None)
        outcomes.append(Outcome(entries[label], results, failures, len(runs_of_it) - len(results) - len(failures)))
    return outcomes


def _result(folder: Path) -> Mapping[str, Any] | None:
    try:
        found = read_json((folder / RESULT).read_text(), ours=True)
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def unlearnt(outcomes: Sequence[Outcome]) -> list[str]:
    """Labels of the networks of which a run is no better than the best baseline."""
    best = _best_baseline(outcomes)
    return [o.entry.label for o in outcomes if o.entry.network and o.results and not _learnt(o, best)]


def _best_baseline(outcomes: Sequence[Outcome]) -> float:
    scores = [float(r["metrics"]["f1"]) for o in outcomes if not o.entry.network for r in o.results]
    return max(scores, default=0.0)


def _learnt(outcome: Outcome, best: float) -> bool:
    return all(float(result["metrics"]["f1"]) > best for result in outcome.results)


def summary_table(
    outcomes: Sequence[Outcome],
    protocol: Setup,
    *,
    hashes: Mapping[str, str],
    speeds: Mapping[str, Any],
    seeds: Sequence[int],
    ablation: str | None = None,
) -> Table:
    """The table, as far as results are there.

    Args:
        outcomes: one for each row.
        protocol: what they share.
        hashes: split -> SHA-256 of its data and number of pairs, for the notes.
        speeds: label -> what `measure_speeds` found; may be empty.
        seeds: of the runs.
        ablation: name of the ablation, whose published scores stand beside ours.
    """
    best = _best_baseline(outcomes)
    rows = [_row(outcome, best, speeds.get(outcome.entry.label), ablation) for outcome in outcomes]
    title = f"Ablation {ablation}" if ablation else "Networks"
    name = "synthetic suburbs" if protocol.data == SYNTHETIC else Path(protocol.data).name
    notes = [*_protocol_notes(protocol, hashes, seeds), *_meaning(speeds), *_published_notes(outcomes, ablation)]
    return Table(f"{title} on {name}, {protocol.steps} steps", COLUMNS, tuple(rows), tuple(notes))


def _row(outcome: Outcome, best: float, speed: Mapping[str, Any] | None, ablation: str | None) -> tuple[Cell, ...]:
    entry, facts = outcome.entry, _facts(outcome.entry)
    scores = [outcome.metric(name) for name in ("f1", "precision", "recall", "iou_changed")]
    times = [float(r["training_s"]) for r in outcome.results if "training_s" in r]
    learnt = None if not entry.network or not outcome.results else "yes" if _learnt(outcome, best) else "NO"
    return (
        entry.label,
        entry.loss if entry.network else None,
        *scores,
        len(outcome.results),
        learnt,
        _published(entry, ablation),
        None if facts is None else facts.parameters / 1e6,
        None if facts is None else facts.macs.true / 1e9,
        None if facts is None else facts.macs.thop / 1e9,
        None if speed is None else float(speed["ratio"]),
        None if speed is None else float(speed["pairs_per_s"]),
        Spread.of(times) if times else None,
        _remark(outcome),
    )


def _facts(entry: Entry) -> Facts | None:
    if not entry.network:
        return None
    try:
        return network_facts(entry.network, entry.network_args)
    except TerradeltaError:  # its run failed for the same reason, which its row says
        return None


def _remark(outcome: Outcome) -> str | None:
    waiting = [f"{outcome.waiting} not run yet"] if outcome.waiting else []
    failed = [f"failed: {why}" for why in dict.fromkeys(outcome.failures)]
    return "; ".join([*([outcome.entry.note] if outcome.entry.note else []), *failed, *waiting]) or None


def _ablated(entry: Entry, ablation: str) -> AblationScore | None:
    return next((a for a in ABLATIONS if (a.ablation, a.label) == (ablation, entry.label)), None)


def _published(entry: Entry, ablation: str | None) -> str | None:
    if ablation is not None:
        printed = _ablated(entry, ablation)
        return None if printed is None else f"{printed.f1:.2f} {printed.data}"
    return headline_f1(entry.network) or None


def _protocol_notes(protocol: Setup, hashes: Mapping[str, str], seeds: Sequence[int]) -> list[str]:
    sample = f"at most {protocol.tiles} of them, drawn once" if protocol.tiles else "all of them"
    side = f"{protocol.crop_px} x {protocol.crop_px}"
    return [
        f"A budget of {protocol.steps} steps is far below what the papers train: these scores say whether a network "
        "learns and what it costs, and are no ranking of methods.",
        f"Trained on whole images of train: {describe_recipe(protocol.batch_size, protocol.crop_px)}.",
        f"Threshold (and weights among a few evaluations) chosen on val, scored once on test; both on tiles of {side} "
        f"pixels that do not overlap, {sample}; one global confusion matrix over all pixels.",
        f"Seeds {', '.join(map(str, seeds))}; ± is the standard deviation over them.",
        "Data: " + "; ".join(f"{split} {text}" for split, text in hashes.items()) + ".",
        f"Made on {describe_machine()}; device {protocol.device}, trained in {PRECISIONS[protocol.precision]}.",
    ]


def _meaning(speeds: Mapping[str, Any]) -> list[str]:
    notes = [
        f"Baselines: {BASELINES[0]} is the best constant; {BASELINES[1]} is change vector analysis fitted to each tile "
        f"by EM, without labels; {BASELINES[2]} has its threshold chosen on val. Learnt: F1 of every run is above all "
        "of them.",
        "MACs: multiply-adds of a pair of 256 x 256 pixels; as thop: as papers count them, without attention, and "
        "transposed convolutions at output size.",
    ]
    if speeds:
        side = next(iter(speeds.values()))["side"]
        notes.append(
            f"Speed: prediction of pairs of {side} x {side} pixels on one CPU thread in float32, as a ratio to "
            f"{REFERENCE}, timed in turn; pairs/s are those of this machine."
        )
    return notes


def _published_notes(outcomes: Sequence[Outcome], ablation: str | None) -> list[str]:
    """Where the published numbers are from, and which of them contradict themselves."""
    if ablation is not None:
        shown = [a for o in outcomes if (a := _ablated(o.entry, ablation)) is not None]
        sources = dict.fromkeys(a.source for a in shown)
        notes = [f"Published: {source}, on {shown[0].data}; fully trained." for source in sources]
        if notes:
            notes.append(
                "The paper prints 93.20 for the baseline with EAW in table 3 and 93.71 in table 4: they cannot both be "
                "its F1; the gain of 1.95 by CCR in its text fits the second."
            )
        return notes
    notes = ["Published: fully trained, by other protocols, on the data set named; not comparable with our column."]
    rows = {o.entry.network: row for o in outcomes if o.entry.network and (row := headline(o.entry.network))}
    for network, row in rows.items():
        found = "".join(f"; {MARK} {sentence}" for sentence in contradictions(row))
        notes.append(f"{network}: {row.source}{f' ({row.variant})' if row.variant else ''}{found}.")
    return notes
