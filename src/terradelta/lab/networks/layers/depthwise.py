"""Depthwise convolution whose gradient in bfloat16 on a CPU is not the slowest part of a training step.

torch 2.13 has no fast kernel for two gradients of a depthwise convolution in bfloat16: that of the input at stride 2
(4 to 12 times float32's time) and that of a 5 x 5 kernel (4 times). Here the first is a convolution at stride 1 of the
gradient with zeros in between, and the second is summed in float32: the same sums. A training step of the pretrained
MLLA_SiaNet becomes a fifth shorter (docs/speed.md).
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

__all__ = ["depthwise_conv2d"]


def depthwise_conv2d(x: Tensor, weight: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    """Each channel convolved with its own kernel, as ``F.conv2d`` with as many groups as channels.

    Args:
        x: ``(B, C, h, w)``.
        weight: ``(C, 1, k, k)``.
        stride: of both axes.
        padding: zeros at each border.

    Returns:
        ``(B, C, (h + 2 padding - k) // stride + 1, (w + 2 padding - k) // stride + 1)``.
    """
    if _in_bf16_on_cpu(x) and torch.is_grad_enabled() and not torch.compiler.is_compiling():
        parts = x.to(torch.bfloat16), weight.to(torch.bfloat16)
        y: Tensor = _Depthwise.apply(*parts, stride, padding)  # type: ignore[no-untyped-call]
        return y
    return F.conv2d(x, weight, None, stride, padding, 1, len(weight))


def _in_bf16_on_cpu(x: Tensor) -> bool:
    if x.device.type != "cpu":
        return False
    return (
        torch.get_autocast_dtype("cpu") == torch.bfloat16
        if torch.is_autocast_enabled("cpu")
        else x.dtype == torch.bfloat16
    )


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:  # noqa: ANN401  torch's
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, None, stride, padding, 1, len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:  # noqa: ANN401
        x, weight = ctx.saved_tensors
        of_x = _of_input(gradient, weight, x.shape, ctx.stride, ctx.padding) if ctx.needs_input_grad[0] else None
        of_weight = _of_weight(gradient, x, weight, ctx.stride, ctx.padding) if ctx.needs_input_grad[1] else None
        return of_x, of_weight, None, None


def _of_input(gradient: Tensor, weight: Tensor, size: torch.Size, stride: int, padding: int) -> Tensor:
    """The gradient spread to stride 1, convolved with the kernel turned by 180 degrees."""
    kernel = weight.shape[-1]
    if stride > 1:
        shape = (*size[:2], *(length + 2 * padding - kernel + 1 for length in size[2:]))
        spread = torch.empty(shape, dtype=gradient.dtype, memory_format=torch.channels_last).zero_()
        spread[..., ::stride, ::stride] = gradient
        gradient = spread
    return F.conv2d(gradient, weight.flip(2, 3), None, 1, kernel - 1 - padding, 1, len(weight))


def _of_weight(gradient: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """In float32, but for the kernels of 3 x 3 that torch has a fast way for."""
    dtype = gradient.dtype if weight.shape[-1] == 3 else torch.float32
    parts = (each.to(dtype) for each in (gradient, x, weight))
    sides, pads, wanted = [stride] * 2, [padding] * 2, [False, True, False]
    found = torch.ops.aten.convolution_backward(*parts, None, sides, pads, [1, 1], False, [0, 0], len(weight), wanted)
    of_weight: Tensor = found[1]
    return of_weight.to(weight.dtype)
