"""Two models on the same images: the difference of their scores, its interval, and whether chance explains it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from terradelta.errors import InputError
from terradelta.lab.metrics import METRICS, bootstrap, metrics_of, permutation_test
from terradelta.lab.metrics.resampling import RESAMPLES
from terradelta.receipt import EvaluationReceipt, read_receipt
from terradelta.receipt.evaluation_record import AgainstRecord, MetricsRecord

__all__ = ["Comparison", "against_record", "compare", "read_images"]

Images = dict[str, tuple[int, int, int, int]]
"""TP, FP, FN, TN of each image by its name."""


@dataclass(frozen=True)
class Comparison:
    """The second model minus the first, paired by image."""

    first: dict[str, float]
    """Global scores of the first model, fractions."""
    second: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    """95 % interval of each difference; empty for fewer than two images."""
    p_f1: float
    """Two-sided p-value of the difference in F1 (permutation test over images)."""
    better: int
    """Images where the second model has the higher F1."""
    worse: int
    images: int


def compare(first: Images, second: Images, *, seed: int = 0) -> Comparison:
    """Compare two models by their counts on the same images.

    Args:
        first: counts of the one.
        second: counts of the other, under the same names.
        seed: of the resamples.

    Raises:
        InputError: if the images or their sizes are not the same, or there is none.
    """
    differing = sorted(first.keys() ^ second.keys()) or [
        name for name, counts in first.items() if sum(counts) != sum(second[name])
    ]
    if differing or not first:
        named = f" ({', '.join(differing[:3])}, ...)" if differing else ""
        raise InputError(f"the two models were not scored on the same images{named}; evaluate both on one split")
    a, b = (np.array([counts[name] for name in sorted(first)], np.float64) for counts in (first, second))
    found = bootstrap(np.hstack([a, b]), _differences, seed=seed)
    f1_a, f1_b = metrics_of(a)["f1"], metrics_of(b)["f1"]
    return Comparison(
        _plain(metrics_of(a.sum(axis=0))),
        _plain(metrics_of(b.sum(axis=0))),
        {name: (interval.low, interval.high) for name, interval in found.items()},
        permutation_test(a, b, lambda sums: metrics_of(sums)["f1"], seed=seed),
        int((f1_b > f1_a).sum()),
        int((f1_b < f1_a).sum()),
        len(a),
    )


def _differences(sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    first, second = metrics_of(sums[..., :4]), metrics_of(sums[..., 4:])
    return {name: second[name] - first[name] for name in METRICS}


def _plain(scores: dict[str, NDArray[np.float64]]) -> dict[str, float]:
    return {name: float(value) for name, value in scores.items()}


def against_record(found: Comparison, name: str, runtime: str | None) -> AgainstRecord:
    """The comparison for a receipt.

    Args:
        found: the comparison.
        name: of the first model.
        runtime: what ran it; None where its receipt was taken.
    """
    first, second = MetricsRecord(**found.first), MetricsRecord(**found.second)
    return AgainstRecord(
        model=name,
        runtime=runtime,
        its_metrics=first,
        method="paired over images: BCa bootstrap of the difference, permutation test of F1",
        resamples=RESAMPLES,
        images=found.images,
        metrics=second,
        difference=MetricsRecord(*(found.second[name] - found.first[name] for name in METRICS)),
        intervals=found.intervals,
        p_f1=found.p_f1,
        images_with_higher_f1=found.better,
        images_with_lower_f1=found.worse,
    )


def read_images(path: Path, data_sha256: str, protocol: str) -> tuple[str, Images]:
    """Name of the model and counts of each image of a receipt, which must be on the same data by the same protocol.

    Args:
        path: the receipt.
        data_sha256: of the data to compare on, as `PairSource.checksum` gives it.
        protocol: in words, as `Protocol.text` gives them.

    Raises:
        InputError: if it is no receipt with the counts of each image, or one of other data or another protocol.
    """
    other = read_receipt(EvaluationReceipt, path)
    if other.images is None:
        raise InputError(f"{path} holds no counts of single images; make it with `terradelta evaluate -o`")
    if other.data.sha256 != data_sha256:
        raise InputError(f"{path} holds scores on other data than this split; evaluate both models on one split")
    if other.protocol != protocol:
        raise InputError(
            f"{path} was made by another protocol ({other.protocol}); give the same --protocol and --patch"
        )
    return other.model, other.images.confusion_px
