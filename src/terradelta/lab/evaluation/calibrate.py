"""Temperature, bias and threshold of a card, fitted on validation data."""

from typing import Any

from terradelta.card import ModelCard
from terradelta.errors import InputError
from terradelta.lab.data.pairs import PairSource
from terradelta.lab.evaluation.evaluator import Evaluation
from terradelta.lab.metrics import LogitScaling, metrics_of
from terradelta.receipt import plain
from terradelta.receipt.evaluation_record import CalibrationRecord, CurveRecord, MetricsRecord, ThresholdRecord

__all__ = ["calibrated_card", "refuse_test", "sweep"]

_BEST = ("f1", "miou", "kappa")
_FIXED = (("precision", 0.9), ("recall", 0.9))


def refuse_test(split: str, what: str) -> None:
    """Raise InputError if a split is the one that nothing may be chosen on."""
    if split == "test":
        raise InputError(f"{what} on the test split would make its scores worthless; choose on --split val")


def sweep(found: Evaluation) -> tuple[ThresholdRecord, ...]:
    """Thresholds to choose from, each with its scores.

    The best for F1 (also the best for the IoU of the changed class, which rises with F1), for mean IoU and for kappa;
    and that of the highest F1 at a precision, and at a recall, of 0.9 or more, if there is one.
    """
    histogram = found.histogram
    chosen: list[tuple[str, float | None]] = [(f"best {name}", histogram.best_threshold(name)) for name in _BEST]
    chosen += [(f"{name} >= {least}", histogram.threshold_at(name, least)) for name, least in _FIXED]
    return tuple(
        ThresholdRecord(rule, None)
        if threshold is None
        else ThresholdRecord(rule, threshold, MetricsRecord(**histogram.confusion(threshold).metrics()))
        for rule, threshold in chosen
    )


def sweep_curve(found: Evaluation, points: int = 100) -> CurveRecord:
    """Precision, recall and F1 at evenly spaced thresholds."""
    counts = found.histogram.counts()
    step = max(len(counts) // points, 1)
    kept = range(step - 1, len(counts), step)
    scores = metrics_of(counts)
    names = ("precision", "recall", "f1")
    curve = (((k + 1) / len(counts), *(round(float(scores[name][k]), 6) for name in names)) for k in kept)
    return CurveRecord(("threshold", *names), tuple(curve))


def calibrated_card(
    found: Evaluation, card: ModelCard, pairs: PairSource, *, with_bias: bool = True
) -> tuple[ModelCard, CalibrationRecord]:
    """A card whose probabilities are calibrated on a split, with its best threshold, and a record of what changed.

    The order of the probabilities stays, so a threshold can be carried over: those of the scores that the card holds
    are, and the same pixels count as changed.

    Args:
        found: an evaluation with `Details` of these weights on the split.
        card: their card.
        pairs: the split; not the test split.
        with_bias: fit temperature and bias; False: the temperature alone.

    Raises:
        InputError: if it is the test split, or the evaluation has no details.
        DataError: if the split holds only one class, or no temperature can calibrate the model.
    """
    refuse_test(pairs.split, "calibrating")
    if found.details is None:
        raise InputError("calibration needs an evaluation with details; call evaluate(..., details=Details())")
    logits = found.details.logits
    fitted = logits.fit(with_bias=with_bias)
    temperature = float(f"{card.temperature / fitted.slope:.6g}")
    slope = card.temperature / temperature
    bias = float(f"{slope * card.logit_bias + fitted.bias:.6g}")
    scaling = LogitScaling(slope, bias - slope * card.logit_bias)
    before, after = logits.scores(), logits.scores(scaling)
    record = CalibrationRecord(
        data=pairs.name,
        split=pairs.split,
        pairs=len(pairs),
        protocol=found.protocol.text,
        temperature=temperature,
        logit_bias=bias,
        ece_before=before["ece"],
        brier_before=before["brier"],
        nll_before=before["nll"],
        ece_after=after["ece"],
        brier_after=after["brier"],
        nll_after=after["nll"],
        threshold=scaling.apply(found.histogram.best_threshold()),
    )
    changed = card.replace(
        temperature=temperature,
        logit_bias=bias,
        threshold=record.threshold,
        scores=tuple(_carried(score, scaling) for score in card.scores),
        training={**card.training, "calibration": {k: v for k, v in plain(record).items() if k != "threshold"}},
    )
    return changed, record


def _carried(score: dict[str, Any], scaling: LogitScaling) -> dict[str, Any]:
    """A score with its threshold on the new scale."""
    threshold = score.get("threshold")
    if not isinstance(threshold, int | float) or not 0 < threshold < 1:
        return score
    return {**score, "threshold": scaling.apply(threshold)}
