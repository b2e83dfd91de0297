"""The networks: one a file. Importing this package needs torch (the extra ``[train]``)."""

from terradelta.networks import mlla_sianet
from terradelta.networks._probe import receptive_field
from terradelta.networks._registry import (
    ChangeNetwork,
    NetworkInfo,
    create_model,
    list_models,
    model_info,
)

__all__ = [
    "ChangeNetwork",
    "NetworkInfo",
    "create_model",
    "list_models",
    "mlla_sianet",
    "model_info",
    "receptive_field",
]
