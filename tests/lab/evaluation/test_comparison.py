"""Two models on the same images."""

import json
from pathlib import Path

import numpy as np
import pytest

from terradelta.errors import InputError
from terradelta.lab.evaluation import compare, read_images
from terradelta.lab.metrics import Confusion, metrics_of, permutation_test

RNG = np.random.default_rng(0)
FIRST = {f"i{k}": tuple(map(int, RNG.integers(10, 100, 4))) for k in range(20)}
BETTER = {name: (tp + 9, fp, fn, tn - 9) for name, (tp, fp, fn, tn) in FIRST.items()}


def test_differences_and_their_doubt() -> None:
    found = compare(FIRST, BETTER)
    totals = [sum((Confusion(*c) for c in each.values()), Confusion()).metrics() for each in (FIRST, BETTER)]
    assert found.first == pytest.approx(totals[0])
    assert found.second == pytest.approx(totals[1])
    low, high = found.intervals["f1"]
    assert 0 < low < totals[1]["f1"] - totals[0]["f1"] < high
    assert (found.better, found.worse, found.images) == (20, 0, 20)
    rows = [np.array(list(each.values()), float) for each in (FIRST, BETTER)]
    assert found.p_f1 == permutation_test(*rows, lambda sums: metrics_of(sums)["f1"]) == 1 / 10_000
    receipt = found.receipt()
    assert receipt["difference"]["f1"] == pytest.approx(totals[1]["f1"] - totals[0]["f1"])
    assert json.loads(json.dumps(receipt)) == receipt


def test_the_order_of_the_images_does_not_matter() -> None:
    assert compare(FIRST, dict(reversed(BETTER.items()))) == compare(FIRST, BETTER)


def test_a_model_against_itself() -> None:
    found = compare(FIRST, FIRST)
    assert (found.p_f1, found.better, found.worse) == (1, 0, 0)
    assert set(found.intervals.values()) == {(0.0, 0.0)}


def test_other_images_are_refused() -> None:
    for other in ({}, {**FIRST, "more": (1, 1, 1, 1)}, {**FIRST, "i3": (0, 0, 0, 1)}):
        with pytest.raises(InputError, match="the two models were not scored on the same images"):
            compare(FIRST, other)
    with pytest.raises(InputError, match="evaluate both on one split"):
        compare({}, {})


def written(path: Path, **changes: object) -> Path:
    receipt = {
        "model": "m",
        "protocol": "p",
        "data": {"sha256": "s"},
        "images": {"confusion_px": {name: list(counts) for name, counts in FIRST.items()}},
    }
    path.write_text(json.dumps(receipt | changes))
    return path


def test_counts_of_another_receipt(tmp_path: Path) -> None:
    path = written(tmp_path / "r.json")
    assert read_images(path, {"data": {"sha256": "s"}, "protocol": "p"}) == ("m", FIRST)
    with pytest.raises(InputError, match=r"r.json holds scores on other data than this split"):
        read_images(path, {"data": {"sha256": "t"}, "protocol": "p"})
    with pytest.raises(InputError, match=r"made by another protocol \(p\); give the same --protocol and --patch"):
        read_images(path, {"data": {"sha256": "s"}, "protocol": "q"})


@pytest.mark.parametrize(
    "images", [None, {}, {"confusion_px": {"a": [1, 2, 3]}}, {"confusion_px": {"a": ["x"] * 4}}, {"confusion_px": 3}]
)
def test_receipts_without_counts_are_refused(tmp_path: Path, images: object) -> None:
    path = written(tmp_path / "r.json", images=images)
    with pytest.raises(InputError, match="is no receipt of `terradelta evaluate` with the counts of each image"):
        read_images(path, {"data": {"sha256": "s"}, "protocol": "p"})
    with pytest.raises(InputError, match="is no receipt"):
        read_images(tmp_path / "none.json", {})
