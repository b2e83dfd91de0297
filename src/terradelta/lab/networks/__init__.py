"""The networks: one a file. Importing this package needs torch (the extra ``[train]``)."""

from terradelta.lab.networks import (
    bit,
    dasnet,
    fc_daudt,
    ifn,
    mccrnet,
    mlla_sianet,
    sfearnet,
    snunet,
    stanet,
    unetpp_msof,
)
from terradelta.lab.networks._counts import Macs, count_macs, count_parameters
from terradelta.lab.networks._probe import receptive_field
from terradelta.lab.networks._registry import (
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
    "dasnet",
    "fc_daudt",
    "ifn",
    "list_models",
    "mccrnet",
    "mlla_sianet",
    "model_info",
    "receptive_field",
    "sfearnet",
    "snunet",
    "stanet",
    "unetpp_msof",
]
