"""Predictor on torch: CUDA, checkpoints, or a network in the middle of its training."""

import hashlib
import sys
import threading
import warnings
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from terradelta.card import ModelCard
from terradelta.errors import ModelError
from terradelta.lab.inference.fused import fused
from terradelta.lab.networks.checkpoint import load_network
from terradelta.predict.predictor import Predictor

__all__ = ["CompileWarning", "TorchPredictor", "channels_last", "load_torch_predictor", "to_device"]

Network = TypeVar("Network", bound=nn.Module)

COMPILE_FROM = 256
"""Tiles of a scene from which its network is compiled, which takes about as long as some dozens of tiles."""
MEMORY_SHARE = 0.5
"""Share of the device's free memory that a batch may take; a captured graph holds some of its own."""
MOST_AT_ONCE_PX = 4 * 1024 * 1024
"""Larger batches give the device nothing more to do at once, and hold more in this machine's memory."""


class CompileWarning(UserWarning):
    """A network that runs uncompiled, because compiling it failed."""


class TorchPredictor(Predictor):
    """Run a torch network; bf16 on CUDA and where asked, float32 elsewhere.

    Args:
        network: called as ``network(before, after) -> logits``; put into evaluation mode for each call.
        card: its card.
        device: torch device.
        bf16: autocast to bfloat16.
        fast: let `prepare` choose a batch and compile the network; None: on CUDA only.
    """

    def __init__(
        self,
        network: nn.Module,
        card: ModelCard,
        device: torch.device | str = "cpu",
        *,
        bf16: bool,
        fast: bool | None = None,
    ) -> None:
        super().__init__(card)
        self.device = torch.device(device)
        self.bf16 = bf16
        self.network = network.to(self.device)
        self._fast = self.device.type == "cuda" if fast is None else fast
        self._batch = sys.maxsize
        self._prepared: tuple[int, int, int] | None = None
        self._at_once = 1
        self._compiled: Any = None
        self._shape: tuple[int, ...] = ()
        self._thread = 0

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_compiled": None, "_prepared": None}  # neither is of use in another process

    @property
    def identity(self) -> str:
        """Hash of card and weights, and the precision."""
        digest = hashlib.sha256(super().identity.encode())
        for name, values in sorted(self.network.state_dict().items()):
            digest.update(name.encode())
            digest.update(values.cpu().reshape(-1).view(torch.uint8).numpy().tobytes())  # also single numbers
        return f"{digest.hexdigest()} {'bf16' if self.bf16 else 'f32'}"

    def prepare(self, height: int, width: int, count: int) -> int:
        """A batch by the memory that one tile was seen to take; in large scenes, tiles of this size run compiled.

        Compiling is ``torch.compile(mode="reduce-overhead")``: fused kernels, replayed as a CUDA graph. Smaller batches
        are filled up to the compiled one. Where compiling fails, a `CompileWarning` says so and all runs uncompiled.
        """
        if not self._fast:
            return 1
        if self._prepared != (height, width, count):
            height_px, width_px = (side + -side % self.card.stride for side in (height, width))
            self._compiled = None
            self._at_once = self._room(height_px, width_px, count)
            if count >= COMPILE_FROM:
                self._compile((self._at_once, len(self.card.bands), height_px, width_px))
            self._prepared = (height, width, count)
        return self._at_once

    def _room(self, height: int, width: int, count: int) -> int:
        """How many tiles fit at once."""
        most = min(count, max(1, MOST_AT_ONCE_PX // (height * width)))
        if most == 1:
            return 1
        tile = np.zeros((1, len(self.card.bands), height, width), np.float32)
        self.logits(tile, tile)  # the first call also loads kernels, and takes more than later ones
        held = torch.cuda.memory_allocated(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        self.logits(tile, tile)
        each = max(torch.cuda.max_memory_allocated(self.device) - held, 1)
        cached = torch.cuda.memory_reserved(self.device) - held
        free = torch.cuda.mem_get_info(self.device)[0] + cached
        return max(1, min(most, int(MEMORY_SHARE * free / each)))

    def _compile(self, shape: tuple[int, ...]) -> None:
        compiled: Any = torch.compile(self.network, mode="reduce-overhead", dynamic=False)
        self._compiled, self._shape, self._thread = compiled, shape, threading.get_ident()
        tiles = np.zeros(shape, np.float32)
        try:
            for _ in range(3):  # compiled by the first, captured by the second, replayed by the third
                self.logits(tiles, tiles)
        except Exception as error:  # whatever the compiler meets, the network itself still runs
            self._compiled = None
            words = (str(error).strip().splitlines() or [""])[0]
            warnings.warn(
                f"the network of {self.card.name!r} could not be compiled for {self.device} ({type(error).__name__}: "
                f"{words:.200}); it runs uncompiled, which is slower",
                CompileWarning,
                stacklevel=2,
            )

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
        network, count = self.network, len(before)
        if self._suits_compiled(before.shape):
            network = self._compiled
            before, after = (_filled(values, self._shape[0]) for values in (before, after))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            out: Any = network(self._tensor(before), self._tensor(after))
        return np.asarray(out[:count].float().cpu().numpy())

    def _suits_compiled(self, shape: tuple[int, ...]) -> bool:
        """Whether arrays may go to the compiled network; a captured graph belongs to the thread that captured it."""
        if self._compiled is None or self._thread != threading.get_ident():
            return False
        return shape[1:] == self._shape[1:] and shape[0] <= self._shape[0]

    def _shrink(self, batch: int, shape: tuple[int, ...], error: torch.OutOfMemoryError) -> None:
        """Halve the batch after it did not fit; one that was compiled for more is of no use then."""
        self._compiled = None
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


def _filled(values: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """``(B, C, H, W)`` to ``(count, C, H, W)``, with zeros behind."""
    missing = count - len(values)
    return values if not missing else np.pad(values, [(0, missing), (0, 0), (0, 0), (0, 0)])


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
        network = fused(network)
    channels_last(to_device(network, device))
    return TorchPredictor(network, card, device, bf16=torch.device(device).type == "cuda" if bf16 is None else bf16)
