"""Two models on the same images: the difference of their scores, its interval, and whether chance explains it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terradelta.errors import InputError
from terradelta.lab.metrics import METRICS, bootstrap, metrics_of, permutation_test
from terradelta.lab.metrics.resampling import RESAMPLES
from terradelta.strangers import read_json

__all__ = ["Comparison", "compare", "read_images"]

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

    def receipt(self) -> dict[str, Any]:
        """The comparison as a JSON-ready record."""
        return {
            "method": "paired over images: BCa bootstrap of the difference, permutation test of F1",
            "resamples": RESAMPLES,
            "images": self.images,
            "metrics": self.second,
            "difference": {name: self.second[name] - self.first[name] for name in METRICS},
            "intervals": {name: list(interval) for name, interval in self.intervals.items()},
            "p_f1": self.p_f1,
            "images_with_higher_f1": self.better,
            "images_with_lower_f1": self.worse,
        }


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


def read_images(path: Path, receipt: dict[str, Any]) -> tuple[str, Images]:
    """Name of the model and counts of each image of another receipt, which must be on the same data.

    Args:
        path: the other receipt.
        receipt: the receipt to compare it with.

    Raises:
        InputError: if it is no receipt with the counts of each image, or one of other data or another protocol.
    """
    try:
        other = read_json(path.read_bytes())
        images = {str(name): tuple(map(int, each)) for name, each in other["images"]["confusion_px"].items()}
        sha256, protocol, model = other["data"]["sha256"], other["protocol"], str(other["model"])
        if not all(len(each) == 4 for each in images.values()):
            raise ValueError("four counts an image")
    except (OSError, OverflowError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is no receipt of `terradelta evaluate` with the counts of each image; make one with -o"
        ) from error
    if sha256 != receipt["data"]["sha256"]:
        raise InputError(f"{path} holds scores on other data than this split; evaluate both models on one split")
    if protocol != receipt["protocol"]:
        raise InputError(f"{path} was made by another protocol ({protocol}); give the same --protocol and --patch")
    return model, images  # type: ignore[return-value]  # four counts each
