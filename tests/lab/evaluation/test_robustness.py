"""The robustness card against single evaluations, and its journal."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from terradelta.card import ModelCard
from terradelta.errors import InputError, OutputError
from terradelta.lab.data import PairList
from terradelta.lab.evaluation import Scoring, evaluate, robustness, robustness_record, thinned
from terradelta.lab.evaluation.perturbations import KINDS, disturb
from terradelta.lab.metrics import Confusion, confusion

from .conftest import Brighter

CARD = ModelCard("w", "none", ("red", "green", "blue"), (0.0,) * 3, (1.0,) * 3, threshold=0.5, stride=2)
CONDITIONS = 1 + sum(len(kind.levels) for kind in KINDS)


class Counting(Brighter):
    calls = 0

    def logits(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        Counting.calls += 1
        if Counting.calls == getattr(self, "stop_at", None):
            raise KeyboardInterrupt
        return super().logits(before, after)


@pytest.fixture
def two(squares: PairList) -> PairList:
    return thinned(squares, 2)


def test_rows_are_those_of_single_evaluations(two: PairList) -> None:
    done: list[tuple[int, int]] = []
    found = robustness(Brighter(CARD), two, progress=lambda *n: done.append(n))
    rows = {(row.kind, row.level): row for row in found.rows()}
    assert len(rows) == CONDITIONS
    assert done[-1] == (2 * CONDITIONS, 2 * CONDITIONS)
    clean = evaluate(Brighter(CARD), two).total
    assert rows["none", 0].f1 == clean.f1
    for kind in KINDS[:3]:
        level, total = kind.levels[-1], Confusion()
        for index in range(2):
            pair = two.read(index)
            dates = disturb(kind, level, pair.before, pair.after, CARD, key=f"0 {pair.name}")
            total += confusion(Brighter(CARD).predict(*(d[None] for d in dates))[0] >= 0.5, pair.label)
        row = rows[kind.name, level]
        assert (row.f1, row.precision, row.recall) == pytest.approx((total.f1, total.precision, total.recall))
        assert row.f1_change == pytest.approx(total.f1 - clean.f1)
    record = robustness_record(found)
    assert record.images == 2
    assert record.kinds["noise"].unit == "% of scale"
    assert record.rows == found.rows()


def test_a_detector_of_brightening_loses_by_brightness_and_not_by_nothing(two: PairList) -> None:
    rows = {(row.kind, row.level): row for row in robustness(Brighter(CARD), two).rows()}
    assert rows["none", 0].f1 > 0.95
    assert rows["brightness", 1.6].f1 < 0.5
    assert rows["misregistration", 5].f1 < rows["misregistration", 1].f1
    assert rows["swapped dates", 1].f1 == 0  # it finds only what became brighter


def test_what_was_stopped_goes_on_without_repeating(two: PairList, tmp_path: Path) -> None:
    journal = tmp_path / "j"
    whole = robustness(Counting(CARD), two)
    Counting.calls = 0
    first = Counting(CARD)
    first.stop_at = 30
    with pytest.raises(KeyboardInterrupt):
        robustness(first, two, journal=journal)
    with journal.open("a") as stream:
        stream.write('["s0", "bl')  # killed in the middle of a line
    Counting.calls = 0
    again = robustness(Counting(CARD), two, journal=journal)
    assert Counting.calls == 2 * CONDITIONS - 29
    assert again.counts == whole.counts
    Counting.calls = 0
    assert robustness(Counting(CARD), two, journal=journal).rows() == whole.rows()
    assert Counting.calls == 0


def test_a_journal_cut_in_its_first_line_begins_anew(two: PairList, tmp_path: Path) -> None:
    journal = tmp_path / "j"
    journal.write_text('{"model": "half')
    robustness(Counting(CARD), thinned(two, 1), journal=journal)
    assert len(journal.read_text().splitlines()) == 1 + CONDITIONS


@pytest.mark.parametrize(
    "other",
    [{"threshold": 0.6}, {"seed": 1}, {"protocol": Scoring("patches", 32)}],
    ids=["threshold", "seed", "protocol"],
)
def test_the_journal_of_another_job_is_refused(two: PairList, tmp_path: Path, other: dict) -> None:
    one, journal = thinned(two, 1), tmp_path / "j"
    robustness(Brighter(CARD), one, journal=journal)
    with pytest.raises(InputError, match="keeps the work of another model, split, threshold or protocol"):
        robustness(Brighter(CARD), one, journal=journal, **other)
    with pytest.raises(InputError, match="keeps the work of another"):
        robustness(Brighter(CARD.replace(name="v")), one, journal=journal)
    with pytest.raises(InputError, match="keeps the work of another"):
        robustness(Brighter(CARD), two, journal=journal)


def test_a_damaged_journal_is_refused(two: PairList, tmp_path: Path) -> None:
    journal = tmp_path / "j"
    robustness(Brighter(CARD), thinned(two, 1), journal=journal)
    text = journal.read_text().splitlines()
    journal.write_text("\n".join([text[0], "[1, 2]", ""]))
    with pytest.raises(InputError, match="remove the file to begin anew"):
        robustness(Brighter(CARD), thinned(two, 1), journal=journal)


def test_a_journal_that_cannot_be_written(two: PairList, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"none/j cannot be written \(No such file or directory\)"):
        robustness(Brighter(CARD), two, journal=tmp_path / "none" / "j")


def test_bands_that_do_not_allow_a_kind_are_named(two: PairList) -> None:
    found = robustness(Brighter(CARD.replace(bands=("a", "b", "c"))), thinned(two, 1))
    assert robustness_record(found).skipped == {"season": "needs bands named red and nir, or red, green and blue"}
    assert "season" not in {row.kind for row in found.rows()}
