"""The checkpoints that methods' authors published, as networks of this package.

A `Layout` says how the authors' code names each weight of ours. Names were read in the official repositories; where
only a Keras version (UNet++_MSOF) or no code (MCCRNet, MLLA_SiaNet) is public, there is nothing to read. An import is
whole or it fails: every weight of our network is found in the file with its shape, and every weight of the file is
used, or is one of those that the authors' own code never uses.

Their Siamese networks take one image a date, so weights for blue, green, red become weights for red, green, blue when
the kernels of the first convolution are turned round: the same sums.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

import terradelta
from terradelta.card import ModelCard
from terradelta.errors import InputError, ModelError
from terradelta.lab.networks._official_layouts import LAYOUTS, RGB, Layout, Rule, Scaling
from terradelta.lab.networks._probe import receptive_field
from terradelta.lab.networks._registry import ChangeNetwork, create_model, model_info
from terradelta.lab.networks.foreign import Foreign, read_foreign

__all__ = ["LAYOUTS", "Imported", "Layout", "Scaling", "import_official", "official_name"]

COUNTER = "num_batches_tracked"  # batch normalisation with a momentum never reads it; old files lack it


@dataclass(frozen=True)
class Imported:
    """A network with published weights."""

    network: ChangeNetwork
    card: ModelCard
    left_out: dict[str, str]
    """Names in the file that were not used, and why."""
    unknown: tuple[str, ...]
    """What the file does not tell."""


def import_official(
    paths: Sequence[Path],
    name: str,
    *,
    arguments: Mapping[str, Any] | None = None,
    scaling: str | Scaling | None = None,
) -> Imported:
    """Build a network from the checkpoint that its authors' code wrote.

    Args:
        paths: its file, or files (STANet has two). Nothing in them is run.
        name: registered network, a key of `LAYOUTS`.
        arguments: arguments of its builder, in place of what the file tells.
        scaling: a key of the layout's scalings, or one of your own.

    Raises:
        InputError: if the scaling is not one of those of the layout, or there is none.
        ModelError: if a file cannot be read, or is not the whole network.
    """
    if name not in LAYOUTS:
        raise ModelError(
            f"there is no official checkpoint of {name!r} that could be read; there are layouts for "
            f"{', '.join(sorted(LAYOUTS))}"
        )
    layout = LAYOUTS[name]
    found = _joined([read_foreign(path) for path in paths], layout.prefixes)
    if layout.mark not in found.tensors:
        raise ModelError(
            f"{_named(paths)}: no {layout.mark}; it is not the official checkpoint of {name!r} ({layout.source})"
        )
    chosen = _scaling(name, layout, scaling)
    told = {**layout.arguments(found), **chosen.arguments, **(arguments or {})}
    options = {**layout.assumed, **told}
    unknown = tuple(text for key, text in layout.unknown.items() if key not in told)
    network = create_model(name, **options)
    used = _fill(network, layout, found.tensors, _named(paths))
    left_out = _left_out(found.tensors, used, layout, _named(paths))
    channels = int(options.get("in_channels", len(RGB)))
    if channels != len(chosen.bands):
        raise InputError(
            f"{_named(paths)} takes {channels} bands and the scaling has {len(chosen.bands)} "
            f"({', '.join(chosen.bands)}); name its bands, a mean and a deviation of each"
        )
    return Imported(network.eval(), _card(network, name, options, chosen, layout), left_out, unknown)


def _named(paths: Sequence[Path]) -> str:
    return " and ".join(path.name for path in paths)


def _joined(files: Sequence[Foreign], prefixes: Sequence[str]) -> Foreign:
    def bare(key: str) -> str:
        return key.removeprefix(next((prefix for prefix in prefixes if key.startswith(prefix)), ""))

    tensors = {bare(key): value for each in files for key, value in each.tensors.items()}
    return Foreign(tensors, {bare(key): value for each in files for key, value in each.kinds.items()})


def _scaling(name: str, layout: Layout, given: str | Scaling | None) -> Scaling:
    if isinstance(given, Scaling):
        return given
    if given is None and len(layout.scalings) == 1:
        return next(iter(layout.scalings.values()))
    if given is not None and given in layout.scalings:
        return layout.scalings[given]
    if layout.scalings:
        names = ", ".join(layout.scalings)
        raise InputError(f"{name} has more than one scaling, by its training data; name one of {names}")
    raise InputError(
        f"the official code of {name} holds no scaling that a card could; give a mean and a deviation of each band, in "
        "units of full scale, as in the training that made the file"
    )


def _fill(network: ChangeNetwork, layout: Layout, tensors: Mapping[str, Tensor], file: str) -> set[str]:
    """Load every weight of the network; the names in the file that were used."""
    own = network.state_dict()
    state, used = {}, set()
    for key, value in own.items():
        name, part = official_name(layout.rules, key)
        if name not in tensors and key.endswith(COUNTER):
            state[key] = value
            continue
        if name not in tensors:
            raise ModelError(f"{file} has no {name}, which {type(network).__name__}'s {key} would be")
        theirs = tensors[name] if part is None else tensors[name].chunk(3)[part]
        theirs = theirs.reshape(()) if value.ndim == 0 and theirs.numel() == 1 else theirs
        if theirs.shape != value.shape:
            raise ModelError(f"{file}: {name} is {tuple(theirs.shape)} and {key} is {tuple(value.shape)}")
        state[key] = theirs.flip(1) if key in layout.turned else theirs
        used.add(name)
    network.load_state_dict(state)
    return used


def official_name(rules: Sequence[Rule], key: str) -> tuple[str, int | None]:
    """The authors' name of one of our weights, and which third of it is meant (``#0`` to ``#2``), if not all."""
    for pattern, replacement in rules:
        found = re.fullmatch(pattern, key)
        if found:
            name = found.expand(replacement) if isinstance(replacement, str) else replacement(found)
            name, _, part = name.partition("#")
            return name, int(part) if part else None
    raise ModelError(f"no rule names {key}")  # pragma: no cover  a test builds every layout


def _left_out(tensors: Mapping[str, Tensor], used: set[str], layout: Layout, file: str) -> dict[str, str]:
    reasons = {}
    for name in tensors:
        if name in used or name.endswith(COUNTER):
            continue
        reason = next((why for pattern, why in layout.unused.items() if re.fullmatch(pattern, name)), None)
        if reason is None:
            raise ModelError(f"{file} holds {name}, which the official network does not have; nothing was imported")
        reasons[name] = reason
    return reasons


def _card(network: ChangeNetwork, name: str, options: dict[str, Any], scaling: Scaling, layout: Layout) -> ModelCard:
    return ModelCard(
        name=f"{name}_official",
        network=name,
        network_args=options,
        bands=scaling.bands,
        mean=scaling.mean,
        std=scaling.std,
        stride=network.stride,
        symmetric=network.symmetric,
        tile=network.tile,
        overlap=network.overlap,
        receptive_field=receptive_field(network, len(scaling.bands)),
        paper=model_info(name).paper,
        data=layout.source,
        licence=layout.licence,
        training={"imported": "weights of others, not trained or scored here", "threshold": layout.threshold},
        code_version=terradelta.__version__,
    )
