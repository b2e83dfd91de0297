"""The card of a model as a STAC item with the machine learning model extension.

Source: MLM 1.6.0 (https://github.com/stac-extensions/mlm), in STAC 1.1.0. A model has no place, and holds for no
particular time: the extension's advice for that is 1900 to 9999.
"""

import re
from pathlib import Path
from typing import Any

from terradelta.card import ModelCard
from terradelta.errors import ModelError
from terradelta.predict.classical import methods
from terradelta.predict.load import find_model, load_predictor
from terradelta.products.stac_item import multihash

__all__ = ["model_item"]

_EXTENSIONS = (
    "https://stac-extensions.github.io/mlm/v1.6.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
    "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
)
_KINDS = {
    ".onnx": ("ONNX", "onnx", "application/octet-stream; application=onnx"),
    ".ckpt": ("PyTorch", "torch.save", "application/octet-stream; application=pytorch"),
}
"""By the file's ending: framework, how the file was made, media type."""
_BEST = "best.ckpt"
_TASK = "semantic-segmentation"
"""MLM 1.6 has no task of its own for change: each pixel gets a class."""
_ANY = -1


def model_item(name: str) -> dict[str, Any]:
    """A model as a STAC item, to lie beside its file: the asset's address is the file's name.

    Args:
        name: ``default``, the name of shipped weights, an ONNX file, a checkpoint or a training run's folder.

    Raises:
        ModelError: if there is no such model, or it is a method without weights.
        MissingExtraError: if it needs torch and torch is not installed.
    """
    if name in methods():
        raise ModelError(f"the method {name} has no weights, so that there is no model to describe; give a model")
    card, path = load_predictor(name, threads=1).card, find_model(name)
    path = path / _BEST if path.is_dir() else path
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": list(_EXTENSIONS),
        "id": card.name,
        "geometry": None,
        "properties": _properties(card, path),
        "links": [],
        "assets": {"model": _asset(card, path)},
    }


def _properties(card: ModelCard, path: Path) -> dict[str, Any]:
    pretrained = card.training.get("encoder_weights")
    return {
        "title": f"{card.name}: {card.finds or 'change between two images'}",
        "description": f"{card.purpose()} Trained on {card.data or 'data that its card does not name'}.",
        "datetime": None,
        "start_datetime": "1900-01-01T00:00:00Z",
        "end_datetime": "9999-12-31T23:59:59Z",
        "license": "other",
        "terradelta:licence": card.licence,
        "bands": _bands(card),  # STAC allows them here where an asset has them, and MLM looks for them here
        "mlm:name": _mlm_name(card.name),
        "mlm:architecture": card.network,
        "mlm:framework": _kind(path)[0],
        "mlm:tasks": [_TASK],
        "mlm:pretrained": True,
        **({"mlm:pretrained_source": pretrained} if isinstance(pretrained, str) else {}),
        "mlm:batch_size_suggestion": 1,
        "mlm:input": [_input(card, date) for date in ("before", "after")],
        "mlm:output": [_output(card)],
        "mlm:hyperparameters": {
            name: getattr(card, name)
            for name in ("stride", "tile", "overlap", "threshold", "temperature", "logit_bias", "symmetric")
        },
        "terradelta:paper": card.paper,
        "terradelta:gsd_m": None if card.gsd_m is None else list(card.gsd_m),
        "terradelta:scores": [
            {key: score[key] for key in ("data", "split", "threshold", "metrics") if key in score}
            for score in card.scores
        ],
    }


def _mlm_name(name: str) -> str:
    """A name as the extension wants it: a letter, then letters, digits or ``_.-``, of which none comes last."""
    plain = re.sub(r"[^a-zA-Z0-9_.-]+", "-", name).strip("_.-")
    return plain if len(plain) > 2 and plain[0].isalpha() else f"model-{plain}".strip("-")


def _input(card: ModelCard, date: str) -> dict[str, Any]:
    """One date: raw values, of which the mean is taken away and which are divided by the standard deviation."""
    stretch = ""
    if card.stretch is not None:
        low, high = card.stretch
        stretch = (
            f" Images that are not 8 bit are stretched first: percentiles {low:g} and {high:g} of each band, of both "
            f"dates together, become 0 and {card.scale:g}."
        )
    return {
        "name": date,
        "description": f"The {'first' if date == 'before' else 'second'} date.{stretch}",
        "bands": list(card.bands),
        "input": {
            "shape": [_ANY, len(card.bands), _ANY, _ANY],
            "dim_order": ["batch", "bands", "height", "width"],
            "data_type": "float32",
        },
        "value_scaling": [
            {"type": "z-score", "mean": mean * card.scale, "stddev": std * card.scale}
            for mean, std in zip(card.mean, card.std, strict=True)
        ],
    }


def _output(card: ModelCard) -> dict[str, Any]:
    return {
        "name": "logits",
        "description": "Logit of change of each pixel; positive means changed.",
        "tasks": [_TASK],
        "result": {
            "shape": [_ANY, 1, _ANY, _ANY],
            "dim_order": ["batch", "channel", "height", "width"],
            "data_type": "float32",
        },
        "classification:classes": [
            {"value": 0, "name": "unchanged", "description": "unchanged"},
            {"value": 1, "name": "changed", "description": card.finds or "changed"},
        ],
        "post_processing_function": {
            "format": "text",
            "expression": f"sigmoid(logits / {card.temperature:g} + {card.logit_bias:g}) >= {card.threshold:g}",
        },
    }


def _bands(card: ModelCard) -> list[dict[str, str]]:
    return [{"name": band} for band in card.bands]


def _asset(card: ModelCard, path: Path) -> dict[str, Any]:
    _, made_by, media = _kind(path)
    return {
        "href": f"./{path.name}",
        "title": "Weights with their card",
        "type": media,
        "roles": ["mlm:model", "data"],
        "mlm:artifact_type": made_by,
        "bands": _bands(card),
        "file:size": path.stat().st_size,
        "file:checksum": multihash(path),
    }


def _kind(path: Path) -> tuple[str, str, str]:
    return _KINDS.get(path.suffix.lower(), _KINDS[".ckpt"])
