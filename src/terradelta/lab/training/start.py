"""Where a run begins: from weights of the whole network, from those of an ImageNet classifier, or from chance."""

import hashlib
from pathlib import Path
from typing import Any

from terradelta.card import ModelCard
from terradelta.errors import ModelError
from terradelta.lab.networks import ChangeNetwork
from terradelta.lab.networks.checkpoint import load_network
from terradelta.lab.networks.pretrained import initialise_encoder
from terradelta.lab.training.config import Recipe
from terradelta.predict.load import find_checkpoint

__all__ = ["begun", "forebears", "start", "start_source"]


def start(network: ChangeNetwork, recipe: Recipe) -> dict[str, Any]:
    """Give a fresh network the weights that the recipe says it starts from.

    Returns:
        What the card says of it, by name.

    Raises:
        ModelError: if there are no such weights, or they are of another network.
    """
    if recipe.start is None:
        if recipe.encoder_weights is not None:
            initialise_encoder(network, recipe.encoder_weights)
        return {}
    path = find_checkpoint(recipe.start)
    given, card = load_network(path)
    if (card.network, card.network_args) != (recipe.network, recipe.network_args):
        raise ModelError(
            f"{recipe.start} is a {card.network} with arguments {card.network_args}, and the recipe's network is "
            f"{recipe.network} with {recipe.network_args}; a run starts from weights of its own network"
        )
    network.load_state_dict(given.state_dict())
    return begun(path, card)


def begun(path: Path, card: ModelCard) -> dict[str, Any]:
    """What the card of a run says of the weights that it went on from.

    Args:
        path: of these weights, see `load_network`.
        card: of these weights.
    """
    before = forebears(card)
    return {"start": start_source(path, card), **({"forebears": before} if before else {})}


def forebears(card: ModelCard) -> list[str]:
    """The weights that a run went on from, those that these went on from, and so on, as `start_source` calls them.

    Of an average, those that were averaged and theirs.
    """
    training = card.training
    found = [training.get("start"), *training.get("average_of", ()), *training.get("forebears", ())]
    return list(dict.fromkeys(name for name in found if name is not None))


def start_source(path: Path, card: ModelCard) -> str:
    """What a card says of the weights that a run started from: their name and hash, not where they lay.

    Args:
        path: see `load_network`.
        card: of the weights.
    """
    with (path / "best.ckpt" if path.is_dir() else path).open("rb") as stream:
        return f"{card.name} (SHA-256 {hashlib.file_digest(stream, 'sha256').hexdigest()})"
