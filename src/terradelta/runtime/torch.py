"""Predictor on torch: CUDA, checkpoints, or a network in the middle of its training."""

import hashlib
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from terradelta.card import ModelCard
from terradelta.errors import ModelError
from terradelta.networks.checkpoint import load_network
from terradelta.runtime.predictor import Predictor

__all__ = ["TorchPredictor", "channels_last", "load_torch_predictor", "to_device"]

Network = TypeVar("Network", bound=nn.Module)


class TorchPredictor(Predictor):
    """Run a torch network; bf16 on CUDA and where asked, float32 elsewhere.

    Args:
        network: called as ``network(before, after) -> logits``; put into evaluation mode for each call.
        card: its card.
        device: torch device.
        bf16: autocast to bfloat16.
    """

    def __init__(self, network: nn.Module, card: ModelCard, device: torch.device | str = "cpu", *, bf16: bool) -> None:
        super().__init__(card)
        self.device = torch.device(device)
        self.bf16 = bf16
        self.network = network.to(self.device)

    @property
    def identity(self) -> str:
        """Hash of card and weights, and the precision."""
        digest = hashlib.sha256(super().identity.encode())
        for name, values in sorted(self.network.state_dict().items()):
            digest.update(name.encode())
            digest.update(values.cpu().reshape(-1).view(torch.uint8).numpy().tobytes())  # also single numbers
        return f"{digest.hexdigest()} {'bf16' if self.bf16 else 'f32'}"

    @torch.inference_mode()
    def logits(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        """``(B, C, H, W) x 2 -> (B, 1, H, W)`` float32."""
        was_training = self.network.training
        self.network.eval()
        try:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                out: Any = self.network(self._tensor(before), self._tensor(after))
        finally:
            self.network.train(was_training)
        return np.asarray(out.float().cpu().numpy())

    def _tensor(self, values: NDArray[np.float32]) -> torch.Tensor:
        return torch.from_numpy(values).to(self.device, memory_format=torch.channels_last)


def channels_last(network: nn.Module) -> None:
    """Lay out the convolution kernels as channels-last, in place: the quicker layout on CPUs with bf16 and on CUDA.

    Kernels of one value a channel too, which torch counts as channels-last whatever their strides are; their gradients
    have those of the layout, and training on several devices warns where the two differ.
    """
    for weight in network.parameters():
        if weight.ndim == 4:
            weight.data = torch.empty_like(weight, memory_format=torch.channels_last).copy_(weight.data)


def to_device(network: Network, device: torch.device | str) -> Network:
    """The network on a device.

    Raises:
        ModelError: if torch has no such device here.
    """
    try:
        return network.to(device)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"--device {device} is not here ({error}); use --device cpu") from error


def load_torch_predictor(path: Path, device: str, threads: int | None) -> TorchPredictor:
    """A predictor for a checkpoint or a training run's folder.

    Raises:
        ModelError: if it cannot be used, or torch has no such device here.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    network, card = load_network(path)
    if device == "cpu":
        network = network.inference()
    channels_last(to_device(network, device))
    return TorchPredictor(network, card, device, bf16=torch.device(device).type == "cuda")
