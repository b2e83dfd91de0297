"""The networks: one a file. Importing this package needs torch (the extra ``[train]``)."""

from terradelta.networks import bit, fc_daudt, ifn, mlla_sianet, snunet, unetpp_msof
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
    "bit",
    "create_model",
    "fc_daudt",
    "ifn",
    "list_models",
    "mlla_sianet",
    "model_info",
    "receptive_field",
    "snunet",
    "unetpp_msof",
]
