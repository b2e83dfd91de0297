"""Counts of two small pairs by hand."""

from dataclasses import astuple

import numpy as np
import pytest
from numpy.typing import NDArray

from terradelta.card import ModelCard
from terradelta.errors import BandError, InputError
from terradelta.lab.data.pairs import LabelledPair, PairList
from terradelta.lab.evaluation import Details, Evaluation, evaluate, thinned
from terradelta.lab.metrics import METRICS, Confusion, ProbabilityHistogram, bootstrap, metrics_of

from .conftest import Brighter, Spoken, Write

CARD = ModelCard("w", "none", ("grey",), (0.0,), (1.0,), threshold=0.75, stride=2)


def test_counts_by_hand_at_the_cards_threshold(pairs: PairList) -> None:
    found = evaluate(Spoken(CARD), pairs)
    assert found.threshold == 0.75
    assert found.images == [("a", Confusion(tp=1, fp=1, fn=1, tn=1)), ("b", Confusion(tn=3))]
    assert found.total == Confusion(tp=1, fp=1, fn=1, tn=4)
    assert found.histogram.confusion(0.75) == found.total


def test_another_threshold(pairs: PairList) -> None:
    assert evaluate(Spoken(CARD), pairs, threshold=0.5).total == Confusion(tp=2, fp=2, fn=0, tn=3)
    assert evaluate(Spoken(CARD), pairs, threshold=0.0).total == Confusion(tp=2, fp=5)


def test_the_histogram_gives_every_other_threshold(pairs: PairList) -> None:
    histogram = evaluate(Spoken(CARD), pairs).histogram
    for threshold in (0.15, 0.5, 0.75, 0.85, 0.95):
        assert histogram.confusion(threshold) == evaluate(Spoken(CARD), pairs, threshold=threshold).total


def test_means_over_images_are_of_those_with_change(pairs: PairList) -> None:
    found = evaluate(Spoken(CARD), pairs)
    assert astuple(found.per_image()) == pytest.approx((2, 0.5, 1 / 3, (0.5 + 1) / 2))
    assert found.total.oa == pytest.approx(5 / 7)
    assert "one global confusion matrix" in found.protocol.text


def test_no_image_at_all() -> None:
    found = Evaluation(0.5, ProbabilityHistogram())
    assert set(found.total.metrics().values()) == {0}
    assert found.per_image().images == 0


def test_progress_and_maps_are_handed_out(pairs: PairList) -> None:
    done: list[tuple[int, int]] = []
    maps: dict[str, NDArray[np.float32]] = {}
    evaluate(Spoken(CARD), pairs, progress=lambda *n: done.append(n), on_image=maps.__setitem__)
    assert done == [(1, 2), (2, 2)]
    assert {name: p.shape for name, p in maps.items()} == {"a": (2, 2), "b": (1, 3)}
    np.testing.assert_allclose(maps["b"], [[0.1, 0.2, 0.7]], atol=1e-6)


def test_images_with_other_bands_than_the_models(pairs: PairList) -> None:
    card = CARD.replace(bands=("r", "g"), mean=(0.0, 0.0), std=(1.0, 1.0))
    with pytest.raises(BandError, match="takes 2 bands"):
        evaluate(Spoken(card), pairs)


def test_intervals_are_those_of_the_bootstrap(squares: PairList, card: ModelCard) -> None:
    found = evaluate(Brighter(card.replace(bands=("r", "g", "b"), mean=(0.0,) * 3, std=(1.0,) * 3)), squares)
    intervals = found.intervals()
    expected = bootstrap(found.counts(), metrics_of)
    for name in METRICS:
        assert intervals.metrics[name] == (expected[name].low, expected[name].high)
        assert intervals.metrics[name][0] <= found.total.metrics()[name] <= intervals.metrics[name][1]
    oa = intervals.per_image["mean_oa"]
    assert oa == pytest.approx(intervals.metrics["oa"])  # images of one size
    assert intervals.level == 0.95


def test_one_image_has_no_interval(pairs: PairList) -> None:
    assert evaluate(Spoken(CARD), thinned(pairs, 1)).intervals() is None


def test_thinned_is_spread_evenly(squares: PairList) -> None:
    assert [files.name for files in thinned(squares, 3).files] == ["s0", "s2", "s5"]
    assert len(thinned(squares, 99)) == 6
    assert thinned(squares, 2).read(1).name == "s5"
    assert (thinned(squares, 2).name, thinned(squares, 2).split) == (squares.name, "test")
    with pytest.raises(InputError, match="0 pairs cannot be scored; give 1 or more"):
        thinned(squares, 0)


def test_names_that_are_alike_are_numbered(pairs: PairList) -> None:
    twice = pairs.joined(pairs)
    assert [name for name, _ in evaluate(Spoken(CARD), twice).images] == ["1: a", "2: b", "3: a", "4: b"]


class Holed(PairList):
    """Pairs whose first column has no data."""

    def read(self, index: int) -> LabelledPair:
        pair = super().read(index)
        valid = np.ones(pair.label.shape, bool)
        valid[:, 0] = False
        return LabelledPair(pair.name, pair.before, pair.after, pair.label & valid, valid)


def test_pixels_without_data_do_not_count(pairs: PairList) -> None:
    details = Details()
    holed = Holed(pairs.root, pairs.split, pairs.files)
    found = evaluate(Spoken(CARD), holed, threshold=0.5, details=details)
    assert found.total == Confusion(tp=0, fp=2, fn=0, tn=2)
    assert found.histogram.confusion(0.5) == found.total
    assert details.logits.total == 4
    assert sum(row.fp for row in details.sizes_px.rows()) == 2


def test_details_are_those_of_the_images(squares: PairList, card: ModelCard) -> None:
    card = card.replace(bands=("r", "g", "b"), mean=(0.0,) * 3, std=(1.0,) * 3)
    details = Details(examples=2)
    found = evaluate(Brighter(card), squares, threshold=0.06, details=details)  # noise passes here and there
    scores = dict(found.images)
    wrong = sorted((c.fp + c.fn for c in scores.values()), reverse=True)
    assert [e.counts.fp + e.counts.fn for e in details.worst] == wrong[:2]
    assert wrong[1] > 0
    assert [e.counts.f1 for e in details.best] == sorted((c.f1 for c in scores.values()), reverse=True)[:2]
    assert all(e.counts == scores[e.pair.name] for e in (*details.best, *details.worst))
    assert details.by_size().m2 is None
    for name in ("tp", "fp", "fn"):
        assert sum(getattr(row, name) for row in details.by_size().px) == getattr(found.total, name)
    assert sum(row.pixels for row in details.probabilities().reliability) == found.total.total
    assert details.curve().columns == ("threshold", "recall", "precision")
    assert len(details.curve().curve) <= 101


def test_sizes_on_the_ground_where_the_files_say(write_pairs: Write, card: ModelCard) -> None:
    label = np.zeros((20, 20))
    label[:4, :4] = 1  # 16 pixels: 64 m2 at 2 m, give or take the scale of UTM
    found = write_pairs({"x": (np.zeros((20, 20)), label * 90 + 1, label)}, metres=2.05)
    details = Details()
    evaluate(Spoken(card), found, details=details)
    rows = details.by_size().m2
    assert [row.tp for row in rows] == [0, 0, 16, 0, 0]
    assert rows[2].at_least == 64


def test_one_image_without_a_place_leaves_no_sizes_on_the_ground(write_pairs: Write, card: ModelCard) -> None:
    content = {"x": (np.zeros((9, 9)), np.zeros((9, 9)), np.zeros((9, 9)))}
    both = write_pairs(content, "p", metres=2).joined(write_pairs(content, "q"))
    details = Details()
    evaluate(Spoken(card), both, details=details)
    assert details.by_size().m2 is None


def test_pixels_of_unknown_label_count_nowhere(pairs: PairList) -> None:
    """The same prediction with half of each image unknown: counts, histogram, histograms of each image, details."""

    class Half(PairList):
        def read(self, index: int) -> LabelledPair:
            pair = super().read(index)
            known = np.zeros(pair.label.shape, bool)
            known[:, : known.shape[1] // 2] = True
            return LabelledPair(pair.name, pair.before, pair.after, pair.label & known, known=known)

    half = Half(pairs.root, pairs.split, pairs.files)
    details = Details()
    found = evaluate(Spoken(CARD), half, details=details, each=True)
    whole: dict[str, NDArray[np.float32]] = {}
    evaluate(Spoken(CARD), pairs, on_image=whole.__setitem__)
    want = Confusion()
    for k, name in enumerate(("a", "b")):
        pair = half.read(k)
        guess, truth = (x[pair.known] for x in (whole[name] >= 0.75, pair.label))
        want += Confusion(*(int(n.sum()) for n in (guess & truth, guess & ~truth, ~guess & truth, ~guess & ~truth)))
    assert found.total == want
    assert found.histogram.confusion(0.75) == want
    assert details.logits.total == want.total
    assert found.each is not None
    assert [each.confusion(0.75) for each in found.each] == [counts for _, counts in found.images]
    assert evaluate(Spoken(CARD), pairs).each is None
