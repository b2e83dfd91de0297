"""Validation in the middle of a run: score the averaged weights, choose the threshold, keep the best, warn."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import terradelta
from terradelta.card import ModelCard
from terradelta.data.pairs import PairSource
from terradelta.evaluation import Evaluation, evaluate
from terradelta.networks import ChangeNetwork, model_info, receptive_field
from terradelta.networks.checkpoint import save_network
from terradelta.runtime.predictor import Predictor
from terradelta.training.config import Recipe, Validation
from terradelta.training.crops import measure_bands
from terradelta.training.state import RunState

__all__ = ["CollapseWarning", "PatchPredictor", "first_card", "validate"]

COLLAPSED_LOW, COLLAPSED_HIGH = 1e-4, 0.9


class CollapseWarning(UserWarning):
    """The network calls everything changed, or nothing."""


class PatchPredictor(Predictor):
    """Another predictor, given images in square patches; where patches overlap, probabilities are averaged.

    Args:
        inner: predicts a patch.
        side: of a patch, pixels; an image that is smaller is predicted as a whole.
        overlap: pixels that neighbours share, at most half of ``side``. The last patch of a row or column is moved
            inwards until it lies inside the image.
    """

    def __init__(self, inner: Predictor, side: int, overlap: int = 0) -> None:
        super().__init__(inner.card)
        self.inner, self.side, self.overlap = inner, side, overlap

    def predict(self, before: NDArray[Any], after: NDArray[Any]) -> NDArray[np.float32]:
        """``(B, C, H, W) x 2 -> (B, H, W)`` in [0, 1]; see `Predictor.predict`."""
        height, width = before.shape[-2:]
        total = np.zeros((len(before), height, width), np.float32)
        count = np.zeros((height, width), np.float32)
        for rows in self._spans(height):
            for cols in self._spans(width):
                total[:, rows, cols] += self.inner.predict(before[..., rows, cols], after[..., rows, cols])
                count[rows, cols] += 1
        return total / count

    def logits(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        """The inner predictor's, of one patch."""
        return self.inner.logits(before, after)

    def _spans(self, length: int) -> Iterator[slice]:
        side = min(self.side, length)
        for corner in range(0, max(length - self.overlap, 1), self.side - self.overlap):
            start = min(corner, length - side)
            yield slice(start, start + side)


def first_card(recipe: Recipe, network: ChangeNetwork, train: PairSource) -> ModelCard:
    """The card of a run that begins; where the recipe gives no mean or deviation, they are measured."""
    mean, std = recipe.mean, recipe.std
    if mean is None or std is None:
        measured = measure_bands(train, recipe)
        mean, std = mean or measured[0], std or measured[1]
    return ModelCard(
        name=recipe.name,
        network=recipe.network,
        network_args=recipe.network_args,
        bands=recipe.bands,
        mean=mean,
        std=std,
        scale=recipe.scale,
        stride=network.stride,
        symmetric=network.symmetric,
        tile=network.tile,
        overlap=network.overlap,
        receptive_field=receptive_field(network, len(recipe.bands)),
        gsd_m=recipe.gsd_m,
        paper=model_info(recipe.network).paper,
        data=recipe.data,
        licence=recipe.licence,
        training=_training(recipe),
        code_version=terradelta.__version__,
    )


def _training(recipe: Recipe) -> dict[str, Any]:
    names = ("steps", "batch_size", "accumulate", "devices", "seed", "loss")
    facts = {name: getattr(recipe, name) for name in names}
    if recipe.encoder_weights is not None:
        facts["encoder_weights"] = Path(recipe.encoder_weights).name
    return facts


def validate(recipe: Recipe, state: RunState, predictor: Predictor, val: PairSource, best: Path) -> dict[str, float]:
    """Score on the validation split; weights with a better F1 than all before are written to ``best``.

    Returns:
        F1, precision, recall and threshold, as columns of the log.
    """
    found = evaluate(_as_asked(predictor, recipe.validation), val, threshold=0.5)
    threshold = found.histogram.best_threshold()
    scores = found.histogram.confusion(threshold)
    _warn_if_collapsed(found, state.step)
    state.evaluations_since_best += 1
    if scores.f1 > state.best_f1:
        state.best_f1, state.evaluations_since_best = scores.f1, 0
        score = {"data": recipe.data, "split": val.split, **_score(recipe, found, threshold)}
        training = {**state.card.training, "best_step": state.step}
        card = state.card.replace(threshold=threshold, scores=(score,), training=training)
        save_network(state.average, card, best)
    values = {"f1": scores.f1, "precision": scores.precision, "recall": scores.recall, "threshold": threshold}
    return {f"val_{name}": value for name, value in values.items()}


def _as_asked(predictor: Predictor, validation: Validation) -> Predictor:
    if validation.patch_px is None:
        return predictor
    return PatchPredictor(predictor, validation.patch_px, validation.overlap_px)


def _score(recipe: Recipe, found: Evaluation, threshold: float) -> dict[str, Any]:
    patch, overlap = recipe.validation.patch_px, recipe.validation.overlap_px
    how = "whole images" if patch is None else f"patches of {patch} x {patch} pixels, {overlap} of them shared"
    return {
        "protocol": f"{how}, one global confusion matrix over all pixels; threshold chosen on this split",
        "threshold": threshold,
        "metrics": found.histogram.confusion(threshold).metrics(),
    }


def _warn_if_collapsed(found: Evaluation, step: int) -> None:
    total = found.total
    predicted = (total.tp + total.fp) / max(total.total, 1)
    if (predicted < COLLAPSED_LOW and total.tp + total.fn > 0) or predicted > COLLAPSED_HIGH:
        warnings.warn(
            f"step {step}: {predicted:.2%} of the validation pixels are called changed, "
            f"{(total.tp + total.fn) / total.total:.2%} are: the predictions have collapsed to one class. "
            "Usual in the first steps; later, lower the learning rate, raise Recipe.change_crops, or check the labels",
            CollapseWarning,
            stacklevel=2,
        )
