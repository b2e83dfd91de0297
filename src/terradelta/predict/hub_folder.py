"""A folder as a hub shows it: weights, their card as README with the hub's metadata, and the weights' SHA-256.

The README's head is YAML as https://huggingface.co/docs/hub/model-cards describes it. JSON is YAML too, so values are
written as JSON and nothing that a card says can end the head or begin another field.
"""

import hashlib
import html
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from terradelta.card import ModelCard
from terradelta.errors import OutputExistsError
from terradelta.files import cannot_write
from terradelta.predict.hub import ONNX, SAFETENSORS, SUMS

__all__ = ["README", "hub_readme", "write_hub_folder"]

README, CONFIG = "README.md", "config.json"
_METRICS = ("precision", "recall", "f1", "iou_changed")


def write_hub_folder(onnx: Path, card: ModelCard, folder: Path, safetensors: Path | None = None) -> list[str]:
    """Make a folder to be uploaded: it appears whole or not at all.

    Args:
        onnx: the ONNX file.
        card: its card.
        folder: to make.
        safetensors: the same weights for fine-tuning, if there are any.

    Returns:
        Names of the files in it.

    Raises:
        OutputExistsError: if there is something under its name.
        OutputError: if it cannot be written.
    """
    if os.path.lexists(folder):
        raise OutputExistsError(f"{folder} is there already; nothing was overwritten. Remove it or give another name")
    weights = {ONNX: onnx} | ({} if safetensors is None else {SAFETENSORS: safetensors})
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name[:40]}.", dir=folder.parent) as scratch:
            made = Path(scratch) / "folder"
            made.mkdir()
            for name, source in weights.items():
                shutil.copyfile(source, made / name)
            (made / CONFIG).write_bytes((_pretty(json.loads(card.to_json())) + "\n").encode())
            (made / README).write_bytes(hub_readme(card, safetensors is not None).encode())
            sums = (f"{hashlib.sha256((made / name).read_bytes()).hexdigest()}  {name}\n" for name in weights)
            (made / SUMS).write_bytes("".join(sums).encode())
            names = sorted(path.name for path in made.iterdir())
            made.replace(folder)
    except OSError as error:
        raise cannot_write(folder, error) from error
    return names


def hub_readme(card: ModelCard, with_safetensors: bool = False) -> str:
    """README.md of a model on a hub: metadata in YAML, then what the card says, in words.

    Args:
        card: what to tell.
        with_safetensors: whether the folder holds the weights for fine-tuning too.
    """
    head = "\n".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in _metadata(card).items())
    facts = {
        "finds": card.finds or "not stated",
        "bands": ", ".join(card.bands),
        "pixel size of the training data": card.sizes or "not stated",
        "threshold": f"{card.threshold:g}",
        "network": f"{card.network} ({card.paper})" if card.paper else card.network,
        "data": card.data or "not stated",
        "licence": card.licence or "not stated",
        "written by": f"terradelta {card.code_version}",
    }
    rows = "\n".join(f"| {key} | {_cell(value)} |" for key, value in facts.items())
    scores = "\n".join(f"| {_cell(_where(score))} | {_cell(_values(score))} |" for score in card.scores)
    parts = [
        f"---\n{head}\n---\n",
        f"# {_cell(card.name)}\n",
        f"Weights for [terradelta](https://github.com/terradelta/terradelta). {_cell(card.purpose())}\n",
        "```sh\nterradelta map BEFORE.tif AFTER.tif --model hf:OWNER/REPO -o OUT\n```\n",
        f"| | |\n|---|---|\n{rows}\n",
    ]
    if scores:
        parts.append(f"| scored on | scores |\n|---|---|\n{scores}\n")
    if with_safetensors:
        parts.append(f"`{SAFETENSORS}` holds the same weights for fine-tuning.\n")
    parts.append(
        f"`{CONFIG}` is the whole model card, which travels inside the weights too. `{SUMS}` has their SHA-256.\n"
    )
    return "\n".join(parts)


def _metadata(card: ModelCard) -> dict[str, Any]:
    """The fields that the hub reads."""
    results = [
        {
            "task": {"type": "image-segmentation"},
            "dataset": {"type": "custom", "name": str(score.get("data", "not stated")), "split": str(score["split"])},
            "metrics": [{"type": name, "value": value} for name, value in _metrics(score).items()],
        }
        for score in card.scores
        if "split" in score and _metrics(score)
    ]
    return {
        "license": "other",
        "license_name": "see-readme",
        "license_link": README,
        "library_name": "terradelta",
        "pipeline_tag": "image-segmentation",
        "tags": ["change-detection", "remote-sensing", "earth-observation", "onnx", card.network],
        **({"model-index": [{"name": card.name, "results": results}]} if results else {}),
    }


def _metrics(score: Mapping[str, Any]) -> dict[str, float]:
    metrics = score.get("metrics")
    found = metrics if isinstance(metrics, dict) else {}
    return {name: found[name] for name in _METRICS if isinstance(found.get(name), float)}


def _where(score: Mapping[str, Any]) -> str:
    return " ".join(str(score[key]) for key in ("data", "split") if key in score)


def _values(score: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in _metrics(score).items())


def _cell(text: str) -> str:
    """Text that is no markup in a table of Markdown."""
    return " ".join(html.escape(text, quote=False).replace("|", "\\|").replace("`", "'").split())


def _pretty(value: object) -> str:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)
