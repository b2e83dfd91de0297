"""One dictionary of networks: the key is the builder's function name, so that grep finds it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from terradelta.errors import ModelError, ShapeError

__all__ = ["ChangeNetwork", "NetworkInfo", "create_model", "list_models", "model_info", "register_model"]


class ChangeNetwork(nn.Module):
    """Base of every network: ``model(before, after) -> logits``.

    Both inputs are ``(B, C, H, W)`` float, normalised by the model card; the output is ``(B, 1, H, W)`` at input size,
    positive = changed. H and W are multiples of ``stride``; the predictor pads to it.
    """

    stride: int = 1
    """Heights and widths must be multiples of this."""
    symmetric: bool = False
    """Whether swapping the dates leaves the output unchanged, to rounding and to what keeps a root's slope finite."""
    whole_tile: bool = False
    """Whether a pixel's result depends on the whole input, through attention or pooling over all of it."""
    tile: int = 1024
    """Side of a tile for scenes, pixels."""
    overlap: int = 320
    """Pixels that tiles share, so that their seams cannot be seen; measured by ``benchmarks/seams.py``."""

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """``(B, C, H, W) x 2 -> (B, 1, H, W)`` logits."""
        return self.forward_with_aux(before, after)[0]

    def forward_with_aux(self, before: Tensor, after: Tensor) -> list[Tensor]:
        """Logits of the final map first, then those of the auxiliary heads at their own sizes, fine to coarse."""
        raise ShapeError(f"{type(self).__name__} defines neither forward nor forward_with_aux")  # pragma: no cover

    def features(self, images: Tensor) -> Tensor | None:
        """What one date's images look like to the encoder: ``(B, C, H, W) -> (B, F)``; None: it cannot be said."""
        return None

    def check_inputs(self, before: Tensor, after: Tensor, channels: int) -> None:
        """Raise ShapeError unless both inputs are ``(B, channels, H, W)`` of one size."""
        if torch.compiler.is_compiling():
            return
        if before.ndim != 4 or before.shape != after.shape or before.shape[1] != channels:
            raise ShapeError(
                f"{type(self).__name__} takes before and after of one shape (B, {channels}, H, W), "
                f"not {tuple(before.shape)} and {tuple(after.shape)}"
            )
        if before.shape[2] % self.stride or before.shape[3] % self.stride:
            raise ShapeError(
                f"{type(self).__name__} takes heights and widths that are multiples of {self.stride}, "
                f"not {before.shape[2]} x {before.shape[3]}; pad them (the predictors of terradelta.predict do)"
            )


Builder = Callable[..., ChangeNetwork]


@dataclass(frozen=True)
class NetworkInfo:
    """What `terradelta models` shows of a network that is not measured."""

    name: str
    paper: str
    """Citation."""
    year: int
    summary: str
    """One line: what it is."""
    builder: Builder
    loss: str = "multi_level"
    """Key of ``terradelta.lab.losses.LOSSES``: what it is meant to be trained with."""


_NETWORKS: dict[str, NetworkInfo] = {}


def register_model(*, paper: str, year: int, loss: str = "multi_level") -> Callable[[Builder], Builder]:
    """Register a builder under its own name; the first line of its docstring is the summary."""

    def add(builder: Builder) -> Builder:
        name = builder.__name__
        summary = (builder.__doc__ or "").strip().split("\n")[0]
        _NETWORKS[name] = NetworkInfo(name, paper, year, summary, builder, loss)
        return builder

    return add


def list_models() -> list[str]:
    """Names of all networks, sorted."""
    return sorted(_NETWORKS)


def model_info(name: str) -> NetworkInfo:
    """What is known of one network.

    Raises:
        ModelError: if there is none of that name.
    """
    if name not in _NETWORKS:
        raise ModelError(f"there is no network {name!r}; there are: {', '.join(list_models())}")
    return _NETWORKS[name]


def create_model(name: str, **arguments: Any) -> ChangeNetwork:  # noqa: ANN401  the builder's own arguments
    """Build a network with fresh weights.

    Raises:
        ModelError: if there is none of that name, or it does not take the arguments.
    """
    info = model_info(name)
    try:
        return info.builder(**arguments)
    except TypeError as error:
        raise ModelError(f"network {name!r} cannot be built with {arguments}: {error}") from error
