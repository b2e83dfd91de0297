"""Predictor on torch: CUDA, checkpoints, or a network in the middle of its training."""

import hashlib
import sys
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
        self._batch = sys.maxsize

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
        """``(B, C, H, W) x 2 -> (B, 1, H, W)`` float32.

        Where a batch does not fit into the device's memory it is halved, and later batches are no larger than what did.

        Raises:
            ModelError: if not even one pair fits.
        """
        was_training = self.network.training
        self.network.eval()
        parts, at = [], 0
        try:
            while at < len(before):
                stop = min(at + self._batch, len(before))
                try:
                    parts.append(self._run(before[at:stop], after[at:stop]))
                except torch.OutOfMemoryError as error:
                    self._shrink(stop - at, before.shape, error)
                else:
                    at = stop
        finally:
            self.network.train(was_training)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _run(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            out: Any = self.network(self._tensor(before), self._tensor(after))
        return np.asarray(out.float().cpu().numpy())

    def _shrink(self, batch: int, shape: tuple[int, ...], error: torch.OutOfMemoryError) -> None:
        """Halve the batch after it did not fit."""
        if batch == 1:
            height, width = shape[2:]
            raise ModelError(
                f"one pair of {height} x {width} pixels does not fit into the memory of {self.device}; use smaller "
                "tiles (--tile), close what else uses the device, or use --device cpu"
            ) from error
        self._batch = batch // 2
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _tensor(self, values: NDArray[np.float32]) -> torch.Tensor:
        tensor = torch.from_numpy(values).contiguous(memory_format=torch.channels_last)
        if self.device.type != "cuda":
            return tensor.to(self.device)
        return tensor.pin_memory().to(self.device, non_blocking=True)  # both dates are on their way at once


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


def load_torch_predictor(path: Path, device: str, threads: int | None, *, bf16: bool | None = None) -> TorchPredictor:
    """A predictor for a checkpoint or a training run's folder; ``bf16`` by default on CUDA only.

    Raises:
        ModelError: if it cannot be used, or torch has no such device here.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    network, card = load_network(path)
    if device == "cpu":
        network = network.inference()
    channels_last(to_device(network, device))
    return TorchPredictor(network, card, device, bf16=torch.device(device).type == "cuda" if bf16 is None else bf16)
