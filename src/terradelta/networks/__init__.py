"""The networks: one a file. Importing this package needs torch (the extra ``[train]``)."""

from terradelta.networks import bit, fc_daudt, ifn, mccrnet, mlla_sianet, snunet, unetpp_msof
from terradelta.networks._counts import Macs, count_macs, count_parameters
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
    "Macs",
    "NetworkInfo",
    "bit",
    "count_macs",
    "count_parameters",
    "create_model",
    "fc_daudt",
    "ifn",
    "list_models",
    "mccrnet",
    "mlla_sianet",
    "model_info",
    "receptive_field",
    "snunet",
    "unetpp_msof",
]
