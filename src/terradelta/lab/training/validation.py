"""Validation in the middle of a run: score the averaged weights, choose the threshold, keep the best, warn."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import terradelta
from terradelta.card import EIGHT_BIT, STRETCH, ModelCard
from terradelta.errors import DataError
from terradelta.geo.grid import Tile
from terradelta.lab.data.pairs import PairList, PairSource
from terradelta.lab.evaluation import Evaluation, evaluate
from terradelta.lab.networks import ChangeNetwork, model_info, receptive_field
from terradelta.lab.networks.checkpoint import save_network
from terradelta.lab.networks.pretrained import encoder_source
from terradelta.lab.training.config import Recipe
from terradelta.lab.training.crops import measure_bands
from terradelta.lab.training.state import RunState
from terradelta.predict.predictor import Predictor

__all__ = ["CollapseWarning", "counted", "first_card", "validate"]

COLLAPSED_LOW, COLLAPSED_HIGH = 1e-4, 0.9


class CollapseWarning(UserWarning):
    """The network calls everything changed, or nothing."""


def counted(val: PairSource, recipe: Recipe) -> PairSource:
    """The validation pairs that ``recipe.validate_on`` names.

    Raises:
        DataError: if no pair has such a name.
    """
    if not recipe.validate_on:
        return val
    files = tuple(pair for pair in val.files if pair.name.startswith(recipe.validate_on))
    if not files:
        raise DataError(
            f"no pair of the {val.split} split begins with {' or '.join(recipe.validate_on)} (Recipe.validate_on); "
            f"the first is called {val.files[0].name!r}; name other prefixes, or none"
        )
    return PairList(val.root, val.split, files, val.name)


def first_card(recipe: Recipe, network: ChangeNetwork, train: PairSource, val: PairSource) -> ModelCard:
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
        stretch=recipe.stretch or (STRETCH if recipe.scale == EIGHT_BIT and _is_eight_bit(train) else None),
        stride=network.stride,
        symmetric=network.symmetric,
        tile=network.tile,
        overlap=network.overlap,
        receptive_field=receptive_field(network, len(recipe.bands)),
        finds=recipe.finds,
        gsd_m=recipe.gsd_m,
        paper=model_info(recipe.network).paper,
        data=recipe.data,
        licence=recipe.licence,
        training=_training(recipe, network, train, val),
        code_version=terradelta.__version__,
    )


def _is_eight_bit(train: PairSource) -> bool:
    first = train.read_window(0, Tile(0, 0, 1, 1))
    return first.before.dtype == first.after.dtype == "uint8"


def _training(recipe: Recipe, network: ChangeNetwork, train: PairSource, val: PairSource) -> dict[str, Any]:
    names = ("steps", "batch_size", "accumulate", "devices", "seed", "loss")
    facts: dict[str, Any] = {name: getattr(recipe, name) for name in names}
    facts |= {"data_name": train.name, "train_pairs": len(train), "val_pairs": len(val)}
    if recipe.start is None and recipe.encoder_weights is not None:
        facts["encoder_weights"] = encoder_source(network, recipe.encoder_weights)
    return facts


def validate(
    recipe: Recipe,
    state: RunState,
    predictor: Predictor,
    val: PairSource,
    best: Path,
    seen: Callable[[int, Evaluation], None] | None = None,
) -> dict[str, float]:
    """Score on the validation split; weights with a better F1 than all before are written to ``best``.

    Args:
        recipe: of the run.
        state: of the run.
        predictor: of the averaged weights.
        val: the split.
        best: a checkpoint.
        seen: called with the step and what was found.

    Returns:
        F1, precision, recall and threshold, as columns of the log.
    """
    found = evaluate(predictor, val, threshold=0.5, protocol=recipe.validation, each=seen is not None)
    if seen is not None:
        seen(state.step, found)
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


def _score(recipe: Recipe, found: Evaluation, threshold: float) -> dict[str, Any]:
    return {
        "protocol": f"{recipe.validation.text}; threshold chosen on this split",
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
