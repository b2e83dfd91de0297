"""Score a predictor on labelled pairs: one global confusion matrix, and means over images under their own names."""

import datetime
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import terradelta
from terradelta.card import ModelCard
from terradelta.data.pairs import PairSource
from terradelta.errors import InputError
from terradelta.metrics import Confusion, ProbabilityHistogram, confusion
from terradelta.runtime.predictor import Predictor

__all__ = ["Evaluation", "evaluate", "evaluation_receipt", "with_receipt"]


@dataclass
class Evaluation:
    """Scores of one predictor on one split; whole images, no crops."""

    threshold: float
    histogram: ProbabilityHistogram
    images: list[tuple[str, Confusion]] = field(default_factory=list)
    """Confusion of each image at the threshold."""

    @property
    def total(self) -> Confusion:
        """The global confusion matrix at the threshold."""
        return sum((counts for _, counts in self.images), Confusion())

    def per_image(self) -> dict[str, float]:
        """Means over images; F1 and IoU over the images that hold change in label or prediction."""
        changed = [c for _, c in self.images if c.tp + c.fp + c.fn]
        return {
            "images": len(self.images),
            "mean_f1_of_images_with_change": float(np.mean([c.f1 for c in changed])) if changed else 0.0,
            "mean_iou_of_images_with_change": float(np.mean([c.iou_changed for c in changed])) if changed else 0.0,
            "mean_oa": float(np.mean([c.oa for _, c in self.images])) if self.images else 0.0,
        }

    def receipt(self) -> dict[str, Any]:
        """The scores as a JSON-ready record: metrics as fractions, counts in pixels."""
        total = self.total
        counts = {"tp": total.tp, "fp": total.fp, "fn": total.fn, "tn": total.tn}
        return {
            "protocol": "whole images, one global confusion matrix over all pixels",
            "threshold": self.threshold,
            "metrics": total.metrics(),
            "confusion_px": counts,
            "per_image": self.per_image(),
        }


def evaluate(
    predictor: Predictor,
    pairs: PairSource,
    *,
    threshold: float | None = None,
    progress: Callable[[int, int], None] | None = None,
    on_image: Callable[[str, NDArray[np.float32]], None] | None = None,
) -> Evaluation:
    """Predict every pair as a whole image and count.

    Args:
        predictor: what to score.
        pairs: the labelled pairs.
        threshold: probability from which a pixel counts as changed; the card's by default.
        progress: called with (done, total) after every image.
        on_image: called with the name and the ``(H, W)`` probability of every image.

    Raises:
        DataError: if a pair cannot be read.
        BandError: if the images do not have the model's bands.
    """
    cut = predictor.card.threshold if threshold is None else threshold
    result = Evaluation(cut, ProbabilityHistogram())
    for index in range(len(pairs)):
        pair = pairs.read(index)
        probability = predictor.predict(pair.before[None], pair.after[None])[0]
        result.histogram.add(probability, pair.label)
        result.images.append((pair.name, confusion(probability >= cut, pair.label)))
        if on_image is not None:
            on_image(pair.name, probability)
        if progress is not None:
            progress(index + 1, len(pairs))
    return result


def evaluation_receipt(found: Evaluation, card: ModelCard, pairs: PairSource) -> dict[str, Any]:
    """A dated record of scores: which weights on which bytes, by which protocol."""
    return {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "version": terradelta.__version__,
        "model": card.name,
        "network": card.network,
        "data": {"folder": pairs.name, "split": pairs.split, "pairs": len(pairs), "sha256": pairs.checksum()},
        **found.receipt(),
    }


def with_receipt(card: ModelCard, path: Path) -> ModelCard:
    """The card with the scores of a receipt that `evaluation_receipt` made, added behind those it has.

    Raises:
        InputError: if the file is no such receipt, or one of other weights.
    """
    try:
        receipt = json.loads(path.read_text())
        score = {name: receipt[name] for name in ("protocol", "threshold", "metrics", "created")}
        data, model = receipt["data"], receipt["model"]
        score |= {"data": data["folder"], "split": data["split"], "pairs": data["pairs"], "sha256": data["sha256"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a receipt of `terradelta evaluate`; make one with -o") from error
    if model != card.name:
        raise InputError(f"{path} holds scores of {model!r}, but the weights are {card.name!r}; evaluate these weights")
    return card.replace(scores=(*card.scores, score))
