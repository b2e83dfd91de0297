"""Where a run begins: from weights of the whole network, from those of an ImageNet classifier, or from chance."""

from terradelta.errors import ModelError
from terradelta.lab.networks import ChangeNetwork
from terradelta.lab.networks.checkpoint import load_network
from terradelta.lab.networks.pretrained import initialise_encoder
from terradelta.lab.training.config import Recipe
from terradelta.predict.load import find_checkpoint

__all__ = ["start"]


def start(network: ChangeNetwork, recipe: Recipe) -> None:
    """Give a fresh network the weights that the recipe says it starts from.

    Raises:
        ModelError: if there are no such weights, or they are of another network.
    """
    if recipe.start is None:
        if recipe.encoder_weights is not None:
            initialise_encoder(network, recipe.encoder_weights)
        return
    given, card = load_network(find_checkpoint(recipe.start))
    if (card.network, card.network_args) != (recipe.network, recipe.network_args):
        raise ModelError(
            f"{recipe.start} is a {card.network} with arguments {card.network_args}, and the recipe's network is "
            f"{recipe.network} with {recipe.network_args}; a run starts from weights of its own network"
        )
    network.load_state_dict(given.state_dict())
