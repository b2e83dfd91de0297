"""The robustness card: how F1 falls when a pair is disturbed in known ways, with the threshold kept."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from terradelta.errors import InputError
from terradelta.files import cannot_write
from terradelta.lab.data.pairs import LabelledPair, PairSource
from terradelta.lab.evaluation.comparison import compare
from terradelta.lab.evaluation.evaluator import image_names
from terradelta.lab.evaluation.perturbations import Kind, disturb, kinds_for
from terradelta.lab.evaluation.scoring import WHOLE, Scoring
from terradelta.lab.metrics import Confusion, confusion
from terradelta.predict.predictor import Predictor
from terradelta.receipt.evaluation_record import DisturbanceRecord, KindRecord, RobustnessRecord
from terradelta.strangers import read_json

__all__ = ["Robustness", "robustness", "robustness_record"]

Counts = tuple[int, int, int, int]
Key = tuple[str, float]
"""Name of a kind and its level."""
_CLEAN: Key = ("none", 0.0)


@dataclass
class Robustness:
    """Counts of every image under every disturbance."""

    kinds: tuple[Kind, ...]
    skipped: dict[str, str]
    """Kinds that the model's bands do not allow, with the reason."""
    threshold: float
    protocol: Scoring
    seed: int
    counts: dict[Key, dict[str, Counts]] = field(default_factory=dict)
    """TP, FP, FN, TN of each image, by disturbance; those of the images as they are under ``("none", 0)``."""

    def rows(self) -> tuple[DisturbanceRecord, ...]:
        """The scores under each disturbance, undisturbed first."""
        clean = self.counts[_CLEAN]
        rows = [DisturbanceRecord("none", 0.0, "none", *_scores(clean))]
        for kind in self.kinds:
            for level in kind.levels:
                against = compare(clean, self.counts[kind.name, level])
                rows.append(
                    DisturbanceRecord(
                        *(kind.name, float(level), kind.label(level)),
                        *_scores(self.counts[kind.name, level]),
                        f1_change=against.second["f1"] - against.first["f1"],
                        f1_change_interval=against.intervals.get("f1"),
                    )
                )
        return tuple(rows)


def robustness_record(found: Robustness) -> RobustnessRecord:
    """The card for a receipt."""
    return RobustnessRecord(
        threshold=found.threshold,
        protocol=found.protocol.text,
        seed=found.seed,
        images=len(found.counts[_CLEAN]),
        kinds={kind.name: KindRecord(kind.unit, kind.what) for kind in found.kinds},
        skipped=found.skipped,
        rows=found.rows(),
    )


def _scores(images: dict[str, Counts]) -> tuple[float, float, float]:
    """F1, precision and recall."""
    total = sum((Confusion(*counts) for counts in images.values()), Confusion())
    return total.f1, total.precision, total.recall


def robustness(
    predictor: Predictor,
    pairs: PairSource,
    *,
    threshold: float | None = None,
    protocol: Scoring = WHOLE,
    seed: int = 0,
    journal: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Robustness:
    """Score a predictor on a split under every disturbance that its bands allow.

    Args:
        predictor: what to score; any kind.
        pairs: the labelled pairs.
        threshold: probability from which a pixel counts as changed, the same throughout; the card's by default.
        protocol: what the network sees at once.
        seed: of all that is random in the disturbances.
        journal: a file that keeps what is done. If it is there, finished work is not repeated; it is not removed.
        progress: called with (done, total) predictions.

    Raises:
        DataError: if a pair cannot be read.
        BandError: if the images do not have the model's bands.
        InputError: if the journal belongs to another model, data, threshold, protocol or seed.
        OutputError: if the journal cannot be written.
    """
    cut = predictor.card.threshold if threshold is None else threshold
    kinds, skipped = kinds_for(predictor.card)
    found = Robustness(kinds, skipped, cut, protocol, seed)
    conditions = [_CLEAN, *((kind.name, level) for kind in kinds for level in kind.levels)]
    found.counts = {key: {} for key in conditions}
    by_name = {kind.name: kind for kind in kinds}
    job = {
        "model": predictor.identity,
        "data": pairs.checksum(),
        "threshold": cut,
        "protocol": protocol.text,
        "seed": seed,
        "conditions": [[*key] for key in conditions],
    }
    book = _Journal(journal, job)
    done, names = 0, image_names(pairs)
    for index in range(len(pairs)):
        name, pair = names[index], None
        for key in conditions:
            counts = book.done.get((name, *key))
            if counts is None:
                pair = pairs.read(index) if pair is None else pair
                disturbed = _disturbed(pair, by_name.get(key[0]), key[1], predictor, seed)
                probability = protocol.predict(predictor, *disturbed, pair.valid)
                counts = confusion(probability >= cut, pair.label, pair.counted).as_tuple()
                book.add(name, key, counts)
            found.counts[key][name] = counts
            done += 1
            if progress is not None:
                progress(done, len(pairs) * len(conditions))
    return found


def _disturbed(
    pair: LabelledPair, kind: Kind | None, level: float, predictor: Predictor, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    if kind is None:
        return pair.before, pair.after
    return disturb(kind, level, pair.before, pair.after, predictor.card, key=f"{seed} {pair.name}")


class _Journal:
    """Counts that are known already, one JSON line each; the first line says what they belong to."""

    def __init__(self, path: Path | None, job: dict[str, Any]) -> None:
        self.path = path
        self.done: dict[tuple[str, str, float], Counts] = {}
        if path is None:
            return
        whole = path.read_bytes().rpartition(b"\n")[0] if path.exists() else b""
        if not whole:
            self._write("w", job)
            return
        self._take(path, whole.decode("utf-8", "replace"), job)
        with path.open("r+b") as stream:
            stream.truncate(len(whole) + 1)  # what follows the last line break was not finished

    def _take(self, path: Path, text: str, job: dict[str, Any]) -> None:
        try:
            first, *lines = map(partial(read_json, ours=True), text.split("\n"))
            if first != job:
                raise ValueError("another job")
            self.done = {(name, kind, level): tuple(counts) for name, kind, level, counts in lines}
        except (ValueError, TypeError) as error:
            raise InputError(
                f"{path} keeps the work of another model, split, threshold or protocol; give another name with -o, "
                "or remove the file to begin anew"
            ) from error

    def add(self, name: str, key: Key, counts: Counts) -> None:
        """Keep the counts of one image under one disturbance."""
        if self.path is not None:
            self._write("a", [name, *key, counts])

    def _write(self, mode: str, value: Any) -> None:  # noqa: ANN401  anything for JSON
        assert self.path is not None
        try:
            with self.path.open(mode, encoding="utf-8") as stream:
                stream.write(json.dumps(value) + "\n")
        except OSError as error:
            raise cannot_write(self.path, error, "what it held is kept; make room, and run this again") from error
