"""Receipts: dated records of scores that say which weights were scored on which bytes, by which protocol."""

from pathlib import Path

from terradelta.card import ModelCard
from terradelta.errors import InputError
from terradelta.lab.data.pairs import PairSource
from terradelta.lab.evaluation.evaluator import Evaluation
from terradelta.receipt import EvaluationReceipt, plain, read_receipt
from terradelta.receipt.evaluation_record import (
    ConfusionRecord,
    DataRecord,
    ImagesRecord,
    LogitScalingRecord,
    MetricsRecord,
)

__all__ = ["evaluation_receipt", "with_receipt"]


def evaluation_receipt(
    found: Evaluation, card: ModelCard, pairs: PairSource, *, weights: str | None = None, runtime: str | None = None
) -> EvaluationReceipt:
    """A dated record of scores: which weights on which bytes, by which protocol.

    Args:
        found: the scores; those of `Details` and the intervals are added if details were collected.
        card: of the weights.
        pairs: what they were scored on.
        weights: a hash of the weights, as from `recard.weights_identity`.
        runtime: what ran them and in which precision, as `Predictor.runtime` says.
    """
    total, details = found.total, found.details
    counts = {name: each.as_tuple() for name, each in found.images}
    return EvaluationReceipt(
        model=card.name,
        network=card.network,
        weights=weights,
        origin=card.origin,
        runtime=runtime,
        scaling=LogitScalingRecord(card.temperature, card.logit_bias),
        data=DataRecord(pairs.name, pairs.split, len(pairs), pairs.checksum()),
        protocol=found.protocol.text,
        threshold=found.threshold,
        metrics=MetricsRecord(**total.metrics()),
        confusion_px=ConfusionRecord(*total.as_tuple()),
        per_image=found.per_image(),
        intervals=None if details is None else found.intervals(),
        average_precision=None if details is None else details.logits.average_precision(),
        precision_recall=None if details is None else details.curve(),
        calibration=None if details is None else details.probabilities(),
        by_size=None if details is None else details.by_size(),
        boundary=None if details is None else details.boundary.rows(),
        images=None if details is None else ImagesRecord(("tp", "fp", "fn", "tn"), counts),
    )


def with_receipt(card: ModelCard, path: Path) -> ModelCard:
    """The card with the scores of a receipt of `terradelta evaluate`, added behind those it has.

    Intervals and the robustness come along; curves and what single images got stay behind.

    Raises:
        InputError: if the file is no such receipt, or one of other weights.
    """
    receipt = read_receipt(EvaluationReceipt, path)
    if receipt.model != card.name:
        raise InputError(
            f"{path} holds scores of {receipt.model!r}, but the weights are {card.name!r}; evaluate these weights"
        )
    known, data = plain(receipt), receipt.data
    score = {name: known[name] for name in ("protocol", "threshold", "metrics", "created")}
    score |= {"data": data.folder, "split": data.split, "pairs": data.pairs, "sha256": data.sha256}
    score |= {name: known[name] for name in ("runtime", "confusion_px", "intervals") if known.get(name)}
    if receipt.robustness is not None:
        rows = receipt.robustness.rows
        score["robustness"] = [{"kind": row.kind, "level": row.level, "f1": row.f1} for row in rows]
    return card.replace(scores=(*card.scores, score))
