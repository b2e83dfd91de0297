"""One network from several runs: the average of their weights."""

from collections.abc import Sequence
from pathlib import Path

import torch

from terradelta.card import ModelCard
from terradelta.errors import ModelError
from terradelta.lab.networks import ChangeNetwork
from terradelta.lab.networks.checkpoint import load_network
from terradelta.lab.training.start import forebears, start_source

__all__ = ["average"]

_ALIKE = ("network", "network_args", "bands", "mean", "std", "scale", "stretch", "finds", "gsd_m")


def average(runs: Sequence[Path]) -> tuple[ChangeNetwork, ModelCard]:
    """The network whose weights are the mean of those of runs that went on from one another or from the same weights.

    Such runs often end in one valley of the loss, within which the mean of their weights lies lower than each of them
    (Wortsman et al. 2022, Model soups, https://arxiv.org/abs/2203.05482). The statistics of batch normalisation are
    averaged too.

    Args:
        runs: see `terradelta.lab.networks.checkpoint.load_network`; two or more.

    Returns:
        The network in evaluation mode, and its card: that of the last run, with no score, for none was measured, with
        the mean of the runs' thresholds, and with what was averaged.

    Raises:
        ModelError: if there are fewer than two, one cannot be read, they are of different networks or inputs, or some
            have no beginning in common.
    """
    if len(runs) < 2:
        raise ModelError(f"{len(runs)} run cannot be averaged; give two or more")
    loaded = [load_network(path) for path in runs]
    network, card = loaded[-1]
    for path, (_, other) in zip(runs, loaded, strict=True):
        for name in _ALIKE:
            if getattr(other, name) != getattr(card, name):
                raise ModelError(
                    f"{path} has {name} {getattr(other, name)}, {runs[-1]} has {getattr(card, name)}; give runs of one "
                    "network on the same inputs"
                )
    names = [start_source(path, other) for path, (_, other) in zip(runs, loaded, strict=True)]
    lines = [[name, *forebears(other)] for name, (_, other) in zip(names, loaded, strict=True)]
    _require_kin(runs, lines)
    states = [each.state_dict() for each, _ in loaded]
    network.load_state_dict({name: _mean([state[name] for state in states]) for name in states[-1]})
    before = {name: None for line in lines for name in line[1:]}
    training = {**card.training, "average_of": names, "forebears": list(before)}
    threshold = sum(other.threshold for _, other in loaded) / len(loaded)
    return network, card.replace(threshold=threshold, scores=(), training=training)


def _require_kin(runs: Sequence[Path], lines: Sequence[Sequence[str]]) -> None:
    """Raise ModelError unless each run has weights in its line that another has, and so all with the first."""
    kin, rest = set(lines[0]), list(zip(runs, lines, strict=True))[1:]
    while found := [each for each in rest if not kin.isdisjoint(each[1])]:
        kin |= {name for _, line in found for name in line}
        rest = [each for each in rest if each not in found]
    if rest:
        raise ModelError(
            f"{rest[0][0]} began from other weights than {runs[0]} did, and the mean of unrelated weights is worth "
            "nothing: give runs that went on from one another, or from the same weights (train --from)"
        )


def _mean(values: Sequence[torch.Tensor]) -> torch.Tensor:
    """The mean, computed in float64; counters are taken from the last."""
    last = values[-1]
    if not last.is_floating_point():
        return last
    return torch.stack([value.double() for value in values]).mean(0).to(last.dtype)
