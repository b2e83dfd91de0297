"""One process a device, through Lightning Fabric: start them, pass Ctrl-C on, give their errors back as errors."""

import contextlib
import copy
import datetime
import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from terradelta import errors
from terradelta.errors import InputError, TerradeltaError
from terradelta.lab.networks import ChangeNetwork
from terradelta.lab.training.config import Recipe
from terradelta.lab.training.interrupts import Forwarded
from terradelta.machine import MMAP_MAX, TRIM_THRESHOLD, set_malloc
from terradelta.predict.openvino import cpu_has_bf16

__all__ = ["freed_memory_kept", "launch", "leave_unreached", "make_fabric", "precision_of"]

BF16, FLOAT32 = "bf16-mixed", "32-true"
START_METHOD = "spawn"
LONGEST_VALIDATION = datetime.timedelta(days=1)
"""The other processes wait this long for the first one, which validates."""

_PROBE_SIDE = 64
_NEVER, _TRIM_AS_SET_OUT, _MMAP_AS_SET_OUT = -1, 128 * 1024, 65536

Work = Callable[[Fabric], None]


def make_fabric(recipe: Recipe, device: str) -> Fabric:
    """Lightning Fabric for the recipe's devices and precision; float32 where that is bfloat16 and a CPU has none.

    Raises:
        InputError: if the machine does not have them.
    """
    try:
        fabric = _fabric(recipe, device, recipe.precision)
        if fabric.device.type == "cpu" and recipe.precision == BF16 and not cpu_has_bf16():
            return _fabric(recipe, device, FLOAT32)  # bfloat16 would be emulated, and slower
        return fabric
    except (ValueError, RuntimeError) as error:  # Fabric's MisconfigurationException is a ValueError
        raise InputError(
            f"training on {recipe.devices} x {device!r} in {recipe.precision!r} is not possible here ({error}); use "
            "--device cpu, fewer --devices, or another Recipe.precision"
        ) from error


def _fabric(recipe: Recipe, device: str, precision: str) -> Fabric:
    options: dict[str, Any] = {"accelerator": device, "devices": recipe.devices, "precision": precision}
    if recipe.devices > 1:
        options["strategy"] = DDPStrategy(
            start_method=START_METHOD,  # type: ignore[arg-type]
            timeout=LONGEST_VALIDATION,
        )
    return Fabric(**options)


def precision_of(fabric: Fabric) -> str:
    """What a run computes in: ``32-true``, ``bf16-mixed`` or ``16-mixed``."""
    return str(fabric.strategy.precision.precision)


@contextlib.contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep what freed tensors leave for the next ones, in place of handing it back to the system page by page.

    Of a training step of the pretrained MLLA_SiaNet on a CPU, a tenth went into pages that came and went; the process
    takes up to a tenth more memory. Only glibc can be asked; elsewhere this does nothing.
    """
    set_malloc(TRIM_THRESHOLD, _NEVER)
    set_malloc(MMAP_MAX, 0)
    try:
        yield
    finally:
        set_malloc(TRIM_THRESHOLD, _TRIM_AS_SET_OUT)
        set_malloc(MMAP_MAX, _MMAP_AS_SET_OUT)


def launch(fabric: Fabric, work: Work) -> None:
    """Run ``work`` in one process a device.

    Raises:
        KeyboardInterrupt: after Ctrl-C, once all processes have stopped.
        TerradeltaError: the error that a process raised, or that one died.
    """
    with _environment_kept(), Forwarded() as interrupt:
        try:
            finished: bool = fabric.launch(partial(_in_process, work))
        except ProcessRaisedException as error:
            raise _own(error) from error
        except ProcessExitedException as error:
            if interrupt.asked:
                raise KeyboardInterrupt from error
            raise TerradeltaError(f"a training process died ({error}); --resume goes on from what was saved") from error
    if not finished:
        raise KeyboardInterrupt


def leave_unreached(network: ChangeNetwork, loss: Callable[[list[Tensor], Tensor], Tensor], bands: int) -> None:
    """Say of parameters that the loss does not depend on that they need no gradient.

    Ablations have them, and losses that leave an auxiliary head out. Processes that share gradients wait for all that
    need one. Torch can look for the others in every step; that costs time, and torch warns where there are none.

    Args:
        network: stays as it is but for this.
        loss: of its outputs and a label.
        bands: of one date.
    """
    probe = copy.deepcopy(network).eval()
    side = max(_PROBE_SIDE // network.stride, 1) * network.stride
    generator = torch.Generator().manual_seed(0)
    dates = (torch.randn(1, bands, side, side, generator=generator) for _ in range(2))
    label = torch.zeros(1, 1, side, side)
    label[..., : side // 2] = 1
    trained, tried = ([p for p in each.parameters() if p.requires_grad] for each in (network, probe))
    gradients = torch.autograd.grad(loss(probe.forward_with_aux(*dates), label), tried, allow_unused=True)
    for parameter, gradient in zip(trained, gradients, strict=True):
        if gradient is None:
            parameter.requires_grad = False


def _in_process(work: Work, fabric: Fabric) -> bool:
    try:
        work(fabric)
    except KeyboardInterrupt:
        return False
    return True


def _own(error: ProcessRaisedException) -> BaseException:
    """The error of ours at the end of a process's traceback; the given one if it is not ours."""
    found = re.search(r"^terradelta\.errors\.(\w+): (.*)", error.msg, re.MULTILINE | re.DOTALL)
    if found is None:
        return error
    kind: type[TerradeltaError] = getattr(errors, found[1])
    return kind(found[2].strip())


@contextlib.contextmanager
def _environment_kept() -> Iterator[None]:
    """Fabric leaves the address of its processes in the environment; the next run needs one of its own."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
