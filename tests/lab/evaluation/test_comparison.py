"""Two models on the same images."""

from pathlib import Path

import numpy as np
import pytest

from terradelta.errors import InputError
from terradelta.lab.evaluation import against_record, compare, read_images
from terradelta.lab.metrics import Confusion, metrics_of, permutation_test
from terradelta.receipt import EvaluationReceipt, write_receipt
from terradelta.receipt.evaluation_record import (
    ConfusionRecord,
    DataRecord,
    ImagesRecord,
    LogitScalingRecord,
    MetricsRecord,
    PerImageRecord,
)

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
    record = against_record(found, "other", None)
    assert record.difference.f1 == pytest.approx(totals[1]["f1"] - totals[0]["f1"])
    assert (record.model, record.metrics.f1, record.its_metrics.f1) == ("other", found.second["f1"], found.first["f1"])
    assert (record.images_with_higher_f1, record.images_with_lower_f1, record.images) == (20, 0, 20)


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


def written(path: Path, images: dict[str, tuple[int, int, int, int]] | None = FIRST) -> Path:
    zero = MetricsRecord(*[0.0] * 7)
    receipt = EvaluationReceipt(
        model="m",
        network="n",
        scaling=LogitScalingRecord(1.0, 0.0),
        data=DataRecord("d", "test", 20, "s"),
        protocol="p",
        threshold=0.5,
        metrics=zero,
        confusion_px=ConfusionRecord(0, 0, 0, 0),
        per_image=PerImageRecord(20, 0.0, 0.0, 0.0),
        images=None if images is None else ImagesRecord(("tp", "fp", "fn", "tn"), images),
    )
    write_receipt(receipt, path)
    return path


def test_counts_of_another_receipt(tmp_path: Path) -> None:
    path = written(tmp_path / "r.json")
    assert read_images(path, "s", "p") == ("m", FIRST)
    with pytest.raises(InputError, match=r"r.json holds scores on other data than this split"):
        read_images(path, "t", "p")
    with pytest.raises(InputError, match=r"made by another protocol \(p\); give the same --protocol and --patch"):
        read_images(path, "s", "q")


def test_receipts_without_counts_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "r.json", images=None)
    with pytest.raises(InputError, match="holds no counts of single images; make it with `terradelta evaluate -o`"):
        read_images(path, "s", "p")
    written(path, images={"a": (1, 2, 3)})
    with pytest.raises(InputError, match=r"is no receipt of .*: images.confusion_px.a is a list, but must be one of 4"):
        read_images(path, "s", "p")
    with pytest.raises(InputError, match="is no receipt"):
        read_images(tmp_path / "none.json", "s", "p")
