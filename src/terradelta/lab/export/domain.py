"""Are these images like those that the network was trained on? A part of the exported file answers, from the encoder.

The means of the encoder's features over a crop form a cloud for the training images. Its main directions span what
training images differ in; what lies outside of them tells images of another kind (K. Lee et al., "A simple unified
framework for detecting out-of-distribution samples", NeurIPS 2018, takes the distance in the features; that of the
residual, as in P. Nomikos & J. F. MacGregor's control charts, 1995, tells more here). Strangeness is the squared length
of the residual in units of its mean over the training crops. Statistics of the pixels themselves do not tell: see
docs/decisions/090.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from terradelta.card import ModelCard
from terradelta.errors import DataError, ModelError
from terradelta.geo.windows import SPREAD_PX, spread_windows
from terradelta.lab.export.int8_crops import LabelledCrops, read_calibration
from terradelta.lab.networks import ChangeNetwork

__all__ = ["Domain", "DomainHead", "measure_domain"]

CROPS = 300
DIRECTIONS = 24
"""Main directions of the training images that count as known."""
WITHIN = 95
"""Per cent of the validation images that are within the limit."""


class DomainHead(nn.Module):
    """Strangeness of one date's features: ``(B, F) -> (B,)``."""

    mean: Tensor
    std: Tensor
    basis: Tensor
    rest: Tensor

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        mean, std = features.mean(0), features.std(0, correction=0) + 1e-6
        standard = (features - mean) / std
        _, _, directions = torch.linalg.svd(standard, full_matrices=False)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.register_buffer("basis", directions[:DIRECTIONS].T.contiguous())
        self.register_buffer("rest", torch.ones(()))
        self.rest = self(features).mean()

    def forward(self, features: Tensor) -> Tensor:
        """``(B, F) -> (B,)``."""
        standard = (features - self.mean) / self.std
        outside = standard - (standard @ self.basis) @ self.basis.T
        strangeness: Tensor = outside.square().sum(1) / self.rest
        return strangeness


@dataclass(frozen=True)
class Domain:
    """What a network's training images look like to it."""

    head: DomainHead
    limit: float
    """Of a scene's strangeness; 1 in 20 validation images is beyond it."""


@torch.no_grad()
def measure_domain(network: ChangeNetwork, card: ModelCard, location: str) -> Domain:
    """Fit the head on crops of the training pairs, and find the limit on the validation pairs.

    Args:
        network: the network, on the CPU.
        card: its card.
        location: labelled pairs as for training, with the splits ``train`` and ``val``; labels are not read.

    Raises:
        ModelError: if the network does not tell what its encoder sees.
        DataError: if there are too few crops, or no validation pairs.
    """
    network = network.eval()
    if type(network).features is ChangeNetwork.features:
        raise ModelError(f"network {card.network!r} does not tell what its encoder sees; leave --domain out")
    crops = read_calibration(location, card, CROPS, SPREAD_PX).crops
    seen = [_features(network, card, values) for dates in crops for values in dates]
    if len(seen) <= 2 * DIRECTIONS:
        raise DataError(f"{location}: {len(crops)} crops are too few to say what the images look like; give more pairs")
    head = DomainHead(torch.stack(seen))
    return Domain(head, _limit(network, card, head, LabelledCrops(location, card, "val")))


def _features(network: ChangeNetwork, card: ModelCard, values: np.ndarray) -> Tensor:
    """``(F,)`` of raw values ``(C, h, w)`` whose sides are multiples of the stride."""
    found = network.features(torch.from_numpy(card.normalise(values[None])))
    assert found is not None
    return found[0].double()


def _limit(network: ChangeNetwork, card: ModelCard, head: DomainHead, val: LabelledCrops) -> float:
    """What `WITHIN` per cent of the validation images are within: those of several windows, if there are any."""
    scenes: dict[bool, list[float]] = {True: [], False: []}
    for index in range(len(val)):
        crops = [val.crop(index, window) for window in spread_windows(val.size(index), card.stride)]
        found = [[float(head(_features(network, card, x)[None])) for x in dates] for dates in crops if dates]
        if found:
            scenes[len(found) > 1].append(float(np.median(np.array(found), axis=0).max()))
    medians = scenes[True] or scenes[False]
    if not medians:
        raise DataError(f"{val.name}: no validation pair is as large as {card.stride} x {card.stride} pixels")
    return round(float(np.percentile(medians, WITHIN)), 3)
