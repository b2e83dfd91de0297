"""What screening keeps of labelled changes, against a count by hand and a naive loop."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.stats import binomtest

from terradelta.card import ModelCard
from terradelta.errors import DataError, InputError
from terradelta.lab.data.folder import PairFolder
from terradelta.lab.evaluation.cascade_recall import RECALLS, cascade_scores, measure_cascade

from .conftest import Brighter, Write


@pytest.fixture
def val(write_pairs: Write) -> PairFolder:
    """Three images of 130 x 200 pixels, each with 49 changes of 8 x 8 pixels that are brighter by more or less."""
    rng, content = np.random.default_rng(3), {}
    for k in range(3):
        before, label = np.full((130, 200), 100), np.zeros((130, 200), bool)
        after = before + rng.integers(0, 4, before.shape)
        for i, j in np.ndindex(7, 7):
            place = np.s_[16 * i + 4 : 16 * i + 12, 28 * j + 4 : 28 * j + 12]
            label[place], after[place] = True, 100 + rng.integers(5, 120)
        content[f"v{k}"] = (before, after, label)
    return write_pairs(content, "val")


def naive(predictor: Brighter, pairs: PairFolder) -> tuple[list[float], list[float], list[float]]:
    changes, blocks, images = [], [], []
    for k in range(len(pairs)):
        pair = pairs.read(k)
        height, width = pair.label.shape
        peaks = {}
        for row in range(0, height, 4):
            for col in range(0, width, 4):
                # A pixel of a border that is no multiple of 4 counts on: here the last two rows, twice each.
                rows = [min(r, height - 1) for r in range(row, row + 4)]
                part = [np.mean([date[0, r, col : col + 4] for r in rows]) for date in (pair.before, pair.after)]
                logit = 25.5 * (part[1] - part[0]) / 255 - 3
                key = (row // 64, col // 64)
                peaks[key] = max(peaks.get(key, 0), 1 / (1 + np.exp(-logit)))
        labels, count = ndimage.label(pair.label)
        for number in range(1, count + 1):
            touched = {(r // 64, c // 64) for r, c in zip(*np.nonzero(labels == number), strict=True)}
            changes.append(max(peaks[key] for key in touched))
        blocks += peaks.values()
        images.append(max(peaks.values()))
    return changes, blocks, images


def test_scores_are_those_of_a_naive_loop(val: PairFolder, card: ModelCard) -> None:
    found = cascade_scores(Brighter(card), val)
    for each, expected in zip(found, naive(Brighter(card), val), strict=True):
        assert np.sort(each) == pytest.approx(np.sort(expected), rel=1e-4)


def test_thresholds_keep_what_they_say(val: PairFolder, card: ModelCard) -> None:
    measured = measure_cascade(Brighter(card), val)
    changes, blocks, images = cascade_scores(Brighter(card), val)
    assert measured["changes"] == len(changes) == 147
    assert [row["recall"] for row in measured["rows"]] == [0.9, 0.95]  # 147 changes can promise no 98 %
    for row in measured["rows"]:
        missed = int((changes < row["threshold"]).sum())
        assert row["missed"] == missed
        bound = [binomtest(147 - m, 147, alternative="greater").proportion_ci(0.95).low for m in (missed, missed + 1)]
        assert bound[0] >= row["recall"]
        next_higher = changes[changes > row["threshold"]].min()
        more = int((changes < next_higher).sum())
        assert binomtest(147 - more, 147, alternative="greater").proportion_ci(0.95).low < row["recall"]
        assert row["skipped_blocks"] == pytest.approx((blocks < row["threshold"]).mean())
        assert row["skipped_images"] == pytest.approx((images < row["threshold"]).mean())
    assert set(RECALLS) > {0.9, 0.95}


def test_nothing_is_chosen_on_test_or_without_change(write_pairs: Write, card: ModelCard) -> None:
    blank = {"a": (np.zeros((8, 8)), np.zeros((8, 8)), np.zeros((8, 8)))}
    with pytest.raises(InputError, match="choosing a threshold of screening on the test split"):
        measure_cascade(Brighter(card), write_pairs(blank, "test"))
    with pytest.raises(DataError, match=r"no label of .* \(val\) holds change"):
        measure_cascade(Brighter(card), write_pairs(blank, "val"))
