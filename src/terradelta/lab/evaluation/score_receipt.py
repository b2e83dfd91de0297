"""Receipts: dated records of scores that say which weights were scored on which bytes, by which protocol."""

import datetime
import json
import re
from pathlib import Path
from typing import Any

import terradelta
from terradelta.card import ModelCard
from terradelta.errors import InputError
from terradelta.lab.data.pairs import PairSource
from terradelta.lab.evaluation.evaluator import Evaluation
from terradelta.strangers import read_json

__all__ = ["evaluation_receipt", "receipt_text", "with_receipt"]

_INNERMOST = re.compile(r"\[[^\[\]{}]*\]")


def evaluation_receipt(
    found: Evaluation, card: ModelCard, pairs: PairSource, *, weights: str | None = None, runtime: str | None = None
) -> dict[str, Any]:
    """A dated record of scores: which weights on which bytes, by which protocol.

    Args:
        found: the scores; those of `Details` and the intervals are added if details were collected.
        card: of the weights.
        pairs: what they were scored on.
        weights: a hash of the weights, as from `recard.weights_identity`.
        runtime: what ran them and in which precision, as `Predictor.runtime` says.
    """
    more: dict[str, Any] = {}
    if found.details is not None:
        counts = {name: list(each.as_tuple()) for name, each in found.images}
        more = {
            "intervals": found.intervals(),
            **found.details.receipt(),
            "images": {"columns": ["tp", "fp", "fn", "tn"], "confusion_px": counts},
        }
    return {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "version": terradelta.__version__,
        "model": card.name,
        "network": card.network,
        **({} if weights is None else {"weights": weights}),
        **({} if runtime is None else {"runtime": runtime}),
        "scaling": {"temperature": card.temperature, "logit_bias": card.logit_bias},
        "data": {"folder": pairs.name, "split": pairs.split, "pairs": len(pairs), "sha256": pairs.checksum()},
        **found.receipt(),
        **more,
    }


def receipt_text(receipt: dict[str, Any]) -> str:
    """The receipt as JSON for people: indented, but a list of plain values stays on one line."""
    text = json.dumps(receipt, indent=2, allow_nan=False)
    return _INNERMOST.sub(lambda found: re.sub(r"\s*\n\s*", " ", found[0]).replace("[ ", "[").replace(" ]", "]"), text)


def with_receipt(card: ModelCard, path: Path) -> ModelCard:
    """The card with the scores of a receipt that `evaluation_receipt` made, added behind those it has.

    Intervals, the robustness and the counts of the images come along; curves and the images' names stay behind.

    Raises:
        InputError: if the file is no such receipt, or one of other weights.
    """
    try:
        receipt = read_json(path.read_bytes())
        score = {name: receipt[name] for name in ("protocol", "threshold", "metrics", "created")}
        data, model = receipt["data"], receipt["model"]
        score |= {"data": data["folder"], "split": data["split"], "pairs": data["pairs"], "sha256": data["sha256"]}
        score |= {name: receipt[name] for name in ("runtime", "confusion_px", "intervals") if receipt.get(name)}
        if receipt.get("images"):
            score["images_px"] = list(receipt["images"]["confusion_px"].values())
        if "robustness" in receipt:
            score["robustness"] = [
                {name: row[name] for name in ("kind", "level", "f1")} for row in receipt["robustness"]["rows"]
            ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a receipt of `terradelta evaluate`; make one with -o") from error
    if model != card.name:
        raise InputError(f"{path} holds scores of {model!r}, but the weights are {card.name!r}; evaluate these weights")
    return card.replace(scores=(*card.scores, score))
