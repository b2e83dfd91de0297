"""Checkpoints, and weights as safetensors: written whole or not at all, read without unpickling code."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialised

from terradelta.card import CARD_KEY, ModelCard
from terradelta.errors import ModelError
from terradelta.files import whole_file
from terradelta.lab.networks._registry import ChangeNetwork, create_model

__all__ = ["SAFETENSORS", "load_checkpoint", "load_network", "save_checkpoint", "save_network", "save_safetensors"]

SAFETENSORS = ".safetensors"
"""Suffix of the files of `save_safetensors`."""


def save_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Write tensors and plain values to ``path``, replacing what is there only once the new file is complete.

    Raises:
        OutputError: if it cannot be written.
    """
    advice = "make room, or give a place that can be; a checkpoint that was there is untouched"
    with (
        whole_file(path, advice=advice, failures=(RuntimeError,), durable=True) as temporary,
        temporary.open("wb") as stream,
    ):
        torch.save(state, stream)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote; code inside the file is never run.

    Raises:
        ModelError: if the file is missing or is no such checkpoint.
    """
    if not path.is_file():
        raise ModelError(f"there is no checkpoint {path}; a run folder holds best.ckpt after its first evaluation")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ModelError(f"{path} is not a checkpoint of terradelta ({type(error).__name__}: {error})") from error
    if not isinstance(state, dict):
        raise ModelError(f"{path} is not a checkpoint of terradelta (it holds a {type(state).__name__})")
    return state


def save_network(network: ChangeNetwork, card: ModelCard, path: Path) -> None:
    """Write weights with their card.

    Raises:
        OutputError: if it cannot be written.
    """
    save_checkpoint({"weights": network.state_dict(), CARD_KEY: card.to_json()}, path)


def save_safetensors(network: ChangeNetwork, card: ModelCard, path: Path) -> None:
    """Write weights with their card as safetensors: kernels in float16, all else (0.5 % of it) as it is.

    Raises:
        OutputError: if it cannot be written.
    """
    state = network.state_dict().items()
    tensors = {name: (x.half() if x.ndim > 1 else x).contiguous() for name, x in state}
    with whole_file(path, durable=True) as temporary:
        temporary.write_bytes(serialised(tensors, {CARD_KEY: card.to_json()}))  # its own writer lets nobody else read


def load_network(path: Path) -> tuple[ChangeNetwork, ModelCard]:
    """Build the network that a checkpoint's card names and load its weights; in evaluation mode.

    Args:
        path: a file written by `save_network` or `save_safetensors`, or a run folder (its ``best.ckpt``).

    Raises:
        ModelError: if there is no such file, it has no card, or the weights do not fit the network.
    """
    file = path / "best.ckpt" if path.is_dir() else path
    weights, card_text = _read_safetensors(file) if file.suffix.lower() == SAFETENSORS else _read_weights(file)
    card = ModelCard.from_json(card_text, str(file))
    _check_shapes(card, weights, file)
    network = create_model(card.network, **card.network_args)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ModelError(f"{file}: the weights do not fit network {card.network!r} ({error})") from error
    network.eval()
    return network, card


def _read_weights(file: Path) -> tuple[dict[str, Any], str]:
    state = load_checkpoint(file)
    if CARD_KEY not in state or "weights" not in state:
        raise ModelError(f"{file} has no model card; only checkpoints written by `terradelta train` can be used")
    return state["weights"], state[CARD_KEY]


def _read_safetensors(file: Path) -> tuple[dict[str, Any], str]:
    try:
        with safe_open(file, "pt") as opened:
            card = (opened.metadata() or {}).get(CARD_KEY)
            weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  no mapping
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{file} cannot be read as safetensors ({error})") from error
    if card is None:
        raise ModelError(f"{file} has no model card; export it with `terradelta export RUN -o FILE.safetensors`")
    return weights, card


def _check_shapes(card: ModelCard, weights: Any, file: Path) -> None:  # noqa: ANN401  from a file
    """Raise ModelError if a card asks for a network of other shapes than the file's, before memory is taken for it."""
    with torch.device("meta"):  # shapes without memory
        wanted = create_model(card.network, **card.network_args).state_dict()
    given = {key: tuple(value.shape) for key, value in weights.items()} if isinstance(weights, dict) else {}
    odd = next((key for key, value in wanted.items() if given.get(key) != tuple(value.shape)), None)
    if odd is not None:
        there = given.get(odd, "nothing")
        raise ModelError(
            f"{file}: the weights do not fit network {card.network!r} with the arguments of its card: {odd} is "
            f"{there}, not {tuple(wanted[odd].shape)}; use the checkpoint as `terradelta train` wrote it"
        )
