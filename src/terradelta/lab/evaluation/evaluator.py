"""Score a predictor on labelled pairs: one global confusion matrix, and means over images under their own names."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from terradelta.errors import InputError
from terradelta.lab.data.pairs import PairList, PairSource
from terradelta.lab.evaluation.details import Details
from terradelta.lab.evaluation.scoring import WHOLE, Scoring
from terradelta.lab.metrics import METRICS, Confusion, ProbabilityHistogram, bootstrap, confusion, metrics_of
from terradelta.lab.metrics.resampling import RESAMPLES
from terradelta.predict.predictor import Predictor
from terradelta.receipt.evaluation_record import IntervalsRecord, PerImageRecord

__all__ = ["Evaluation", "evaluate", "image_names", "thinned"]

_LEVEL, _SEED = 0.95, 0
_MEANS = ("mean_f1_of_images_with_change", "mean_iou_of_images_with_change", "mean_oa")


@dataclass
class Evaluation:
    """Scores of one predictor on one split."""

    threshold: float
    histogram: ProbabilityHistogram
    images: list[tuple[str, Confusion]] = field(default_factory=list)
    """Confusion of each image at the threshold."""
    protocol: Scoring = WHOLE
    details: Details | None = None
    """What was counted beside the confusion matrices, if it was asked for."""
    each: list[ProbabilityHistogram] | None = None
    """Histogram of each image, if it was asked for."""

    @property
    def total(self) -> Confusion:
        """The global confusion matrix at the threshold."""
        return sum((counts for _, counts in self.images), Confusion())

    def counts(self) -> NDArray[np.float64]:
        """TP, FP, FN, TN of each image, ``(images, 4)``."""
        return np.array([counts.as_tuple() for _, counts in self.images], np.float64).reshape(-1, 4)

    def per_image(self) -> PerImageRecord:
        """Means over images; F1 and IoU over the images that hold change in label or prediction."""
        means = _image_means(_summands(self.counts()).sum(axis=0))
        return PerImageRecord(len(self.images), *(float(means[name]) for name in _MEANS))

    def intervals(self) -> IntervalsRecord | None:
        """Bootstrap confidence intervals over images of all scores; None for fewer than two images."""
        found = bootstrap(_summands(self.counts()), _all_scores, resamples=RESAMPLES, seed=_SEED, level=_LEVEL)
        if not found:
            return None
        pairs = {name: (interval.low, interval.high) for name, interval in found.items()}
        return IntervalsRecord(
            method="BCa bootstrap over images",
            level=_LEVEL,
            resamples=RESAMPLES,
            seed=_SEED,
            metrics={name: pairs[name] for name in METRICS},
            per_image={name: pairs[name] for name in _MEANS},
        )


def _summands(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """What all scores are made of, for each image: counts, 1, OA, whether it holds change, and then its F1 and IoU."""
    scores = metrics_of(counts)
    changed = counts[:, :3].any(axis=1)
    columns = (np.ones(len(counts)), scores["oa"], changed, scores["f1"] * changed, scores["iou_changed"] * changed)
    return np.column_stack([counts, *columns])


def _image_means(sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    images, oa, changed, f1, iou = np.moveaxis(sums[..., 4:], -1, 0)
    with_change = np.maximum(changed, 1)
    return dict(zip(_MEANS, (f1 / with_change, iou / with_change, oa / np.maximum(images, 1)), strict=True))


def _all_scores(sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    return metrics_of(sums[..., :4]) | _image_means(sums)


def image_names(pairs: PairSource) -> list[str]:
    """Names of the pairs, numbered where two are alike."""
    names = [files.name for files in pairs.files]
    return names if len(set(names)) == len(names) else [f"{k}: {name}" for k, name in enumerate(names, 1)]


def thinned(pairs: PairSource, count: int) -> PairSource:
    """At most ``count`` of the pairs, evenly spread over their order."""
    if count < 1:
        raise InputError(f"{count} pairs cannot be scored; give 1 or more")
    chosen = sorted({round(k) for k in np.linspace(0, len(pairs) - 1, min(count, len(pairs)))})
    return PairList(pairs.root, pairs.split, tuple(pairs.files[k] for k in chosen), pairs.name)


def evaluate(
    predictor: Predictor,
    pairs: PairSource,
    *,
    threshold: float | None = None,
    protocol: Scoring = WHOLE,
    details: Details | None = None,
    each: bool = False,
    progress: Callable[[int, int], None] | None = None,
    on_image: Callable[[str, NDArray[np.float32]], None] | None = None,
) -> Evaluation:
    """Predict every pair and count.

    Args:
        predictor: what to score.
        pairs: the labelled pairs.
        threshold: probability from which a pixel counts as changed; the card's by default.
        protocol: what the network sees at once; whole images by default.
        details: counts more than the confusion matrices, about a third more time for the default network.
        each: keep the histogram of each image, 16 kB.
        progress: called with (done, total) after every image.
        on_image: called with the name and the ``(H, W)`` probability of every image.

    Raises:
        DataError: if a pair cannot be read.
        BandError: if the images do not have the model's bands.

    Example:
        >>> import terradelta as td
        >>> found = td.evaluate(td.load_model("default"), td.open_pairs("pairs", "test"))
        >>> found.total.as_tuple()[3] > 0  # true negatives, in pixels
        True
    """
    cut = predictor.card.threshold if threshold is None else threshold
    result = Evaluation(cut, ProbabilityHistogram(), protocol=protocol, details=details, each=[] if each else None)
    names = image_names(pairs)
    for index in range(len(pairs)):
        pair = pairs.read(index)
        probability = protocol.predict(predictor, pair.before, pair.after, pair.valid)
        histogram = ProbabilityHistogram()
        histogram.add(probability, pair.label, pair.counted)
        result.histogram += histogram
        if result.each is not None:
            result.each.append(histogram)
        result.images.append((names[index], confusion(probability >= cut, pair.label, pair.counted)))
        if details is not None:
            details.add(pair, probability, cut, pairs.grid(index))
        if on_image is not None:
            on_image(pair.name, probability)
        if progress is not None:
            progress(index + 1, len(pairs))
    return result
