"""CCR of a fused MCCRNet on a CPU, in strips of rows: intermediate maps stay in the cache, and fewer products are made.

The result is that of `FusedRefinement` in one piece. Two savings need the strips or make no exported graph:

- Of the matrices that upsample rows only the few columns of a strip's neighbourhood are not zero.
- The context's share of the last hidden layer is ``g(r) = W ReLU(α r + γ)``, a function of one number a pixel, which
  is linear between the points ``-γ / α`` where a channel switches. Its slopes and offsets are summed up once, from
  point to point; a pixel takes those of its interval.

Shapes: C channels, K = C + 1 intervals, h x w a map's size, n pixels of a strip, H x W the input's size.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from terradelta.lab.networks._mccrnet_fused import FusedRefinement, SplitConv

__all__ = ["PiecewiseLinear", "refine_in_strips", "shifted_upsampling"]

STRIP_VALUES = 2**21
"""Values of a strip of the widest map: 8 MB in float32, which the allocator reuses and the cache holds."""


def refine_in_strips(refine: "FusedRefinement", outputs: Sequence[Tensor]) -> Tensor:
    """The decoder's outputs, coarse to fine ``-> (B, 1, H, W)`` logits."""
    coarse = refine.coarse(outputs)
    images = [_one_image(refine, [x[i : i + 1] for x in outputs], coarse[i]) for i in range(len(coarse))]
    return torch.stack(images)


def _one_image(refine: "FusedRefinement", outputs: Sequence[Tensor], coarse: Tensor) -> Tensor:
    """One image's outputs ``(1, C, h, w)`` and coarse map ``(2, H, W) -> (1, H, W)``."""
    height, width = coarse.shape[1:]
    weights = coarse.flatten(1).softmax(1)  # (2, N)
    strips = list(_pixels(refine, outputs))  # (C, n) each
    parts = torch.split(weights, [strip.shape[1] for strip in strips], 1)
    regions = torch.stack([strip @ part.T for strip, part in zip(strips, parts, strict=True)]).sum(0)  # Eq. (14)
    contrast, context = refine.describe(regions[None, :, :, None])
    table = PiecewiseLinear.of(context[0].flatten(), context[1].flatten(), refine.fuse_context.weight.flatten(1))
    fuse, fuse_bias = refine.fuse_pixels.weight.flatten(1), cast("Tensor", refine.fuse_pixels.bias)
    query, query_bias = _matrix(refine.pixel_query[0])
    head, head_bias = _matrix(refine.head)
    logits = []
    for strip in strips:
        relation = torch.sigmoid(contrast[0] @ torch.addmm(query_bias[:, None], query, strip).relu_())  # Eq. (15)
        hidden = table(relation[0]).add_(fuse_bias).addmm_(strip.T, fuse.T).relu_()  # (n, C)
        logits.append(torch.addmm(head_bias, hidden, head.T).flatten())
    return torch.cat(logits).view(1, height, width)


def _pixels(refine: "FusedRefinement", outputs: Sequence[Tensor]) -> Iterator[Tensor]:
    """The pixel representations, strip by strip: ``(C, n)``."""
    x8, x4, x2, x1 = outputs
    height, width = x1.shape[2:]
    weight, bias = refine.fine.weight, refine.fine.bias
    fine = torch.cat([F.interpolate(x2, size=(height, width), mode="bilinear", align_corners=False), x1], 1)
    fine = F.pad(fine, (0, 0, 1, 1))
    splits = [_across(split, x, width) for split, x in ((refine.split8, x8), (refine.split4, x4))]
    channels = len(weight)
    step = max(STRIP_VALUES // (channels * width) // 8, 1) * 8
    for top in range(0, height, step):
        bottom = min(top + step, height)
        out = F.conv2d(fine[:, :, top : bottom + 2], weight, bias, padding=(0, 1))[0].contiguous()
        for rows, matrix in splits:
            span = _rows_between(top, bottom, height, rows.shape[2])
            down = matrix[:, span, top:bottom].flatten(0, 1).T  # (n rows, 3 rows of the small map)
            out.baddbmm_(down.expand(channels, -1, -1), rows[:, :, span].flatten(1, 2))
        yield out.relu_().view(channels, -1)


def _across(split: "SplitConv", x: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The taps, upsampled along columns: ``(C, dy, h, W)``, and the matrices ``(dy, h, H)`` for the rows."""
    rows, cols = x.shape[2:]
    taps = split.taps(x).contiguous().view(-1, 3, rows, cols)  # (C dy, dx, h, w)
    matrices = shifted_upsampling(width, cols, x)
    across = taps[:, 0] @ matrices[0]
    for shift in (1, 2):
        across.baddbmm_(taps[:, shift], matrices[shift].expand(len(taps), -1, -1))
    return across.view(-1, 3, rows, width), shifted_upsampling(rows * (width // cols), rows, x)


def _rows_between(top: int, bottom: int, height: int, rows: int) -> slice:
    """Rows of a small map that rows ``top`` to ``bottom`` of the full one read, a neighbour for the kernel included."""
    scale = height // rows
    return slice(max(top // scale - 2, 0), min(bottom // scale + 2, rows))


def shifted_upsampling(full: int, low: int, like: Tensor) -> Tensor:
    """Matrices that upsample a line bilinearly and read it one to the left, at its place, one to the right.

    ``(3, low, full)``; zero where that is beyond the end, as a convolution pads.
    """
    at = torch.arange(full, device=like.device, dtype=like.dtype)
    of = torch.arange(low, device=like.device, dtype=like.dtype)
    place = ((at + 0.5) * (low / full) - 0.5).clamp(min=0).clamp(max=low - 1)
    matrix = (1 - (place - of[:, None]).abs()).clamp(min=0)  # (low, full)
    padded = F.pad(matrix, (1, 1))
    return torch.stack([padded[:, shift : shift + full] for shift in range(3)])


class PiecewiseLinear(NamedTuple):
    """``g(r) = W ReLU(α r + γ)`` of a number r, as slopes and offsets of the intervals between its kinks."""

    kinks: Tensor
    """``(C,)``, ascending."""
    slopes: Tensor
    """``(K, C')``."""
    offsets: Tensor
    """``(K, C')``."""

    @classmethod
    def of(cls, step: Tensor, start: Tensor, weight: Tensor) -> "PiecewiseLinear":
        """From α and γ ``(C,)`` and W ``(C', C)``; summed in float64, because offsets can be large and cancel."""
        alpha, gamma, columns = step.double(), start.double(), weight.double().T
        still = alpha == 0
        kinks = torch.where(still, torch.full_like(alpha, torch.inf), -gamma / torch.where(still, 1, alpha))
        kinks, order = kinks.sort()
        first = ((alpha < 0) | (still & (gamma > 0))).double()  # the channels that are on for r towards -∞
        tables = []
        for values in (alpha, gamma):
            switched = (alpha.sign() * values)[order, None] * columns[order]
            tables.append(torch.cat([(first * values)[None] @ columns, switched]).cumsum(0))
        return cls(kinks.to(step.dtype), tables[0].to(step.dtype), tables[1].to(step.dtype))

    def __call__(self, r: Tensor) -> Tensor:
        """``(n,) -> (n, C')``."""
        interval = torch.bucketize(r, self.kinks)
        return self.slopes[interval].mul_(r[:, None]).add_(self.offsets[interval])


def _matrix(conv: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight and bias of a 1x1 convolution."""
    conv = cast("nn.Conv2d", conv)
    return conv.weight.flatten(1), cast("Tensor", conv.bias)
