"""Wide 3x3 convolutions of an OpenVINO model by Winograd's minimal filtering, in float32.

Lavin & Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016, doi:10.1109/CVPR.2016.435: F(4x4, 3x3)
makes 4 x 4 outputs of 6 x 6 inputs with 36 products for each pair of channels in place of 144. oneDNN, which runs
OpenVINO's convolutions, has no such kernel in float32. Here it is three of its fast operations:

- ``V = B^T d B`` of each tile is a convolution of one channel to 36 with a kernel of 6x6 and stride 4.
- The products are 36 matrix products, ``M = U V`` with ``U = G g G^T`` of the kernels, computed once.
- ``Y = A^T M A`` is one matrix product, 36 to 16, and a transposition that puts the tiles side by side.

The result is that of the convolution but for rounding: about 1e-5 of the outputs' size. In bfloat16 the transforms lose
too much, so it is not for that. It pays where the products are many for each value that the transforms move; the
limits below were measured layer by layer, on one core with AVX-512.

Shapes: B batch, C and K channels in and out, h x w tiles of 4 x 4 pixels, T = h w.
"""

import platform

import numpy as np
import openvino as ov
import openvino.opset13 as ops
from numpy.typing import NDArray

__all__ = ["accelerate"]

LEAST_IN = 128
LEAST_OUT = 256
LEAST_PIXELS = 1024
"""Of a batch. On fewer pixels it is quick too, but four times the weights must be held for little work."""

INPUT = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    np.float64,
)
"""B^T, in the notation of the paper's Sec. 4.3."""
KERNEL = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]], np.float64) / 24
"""G."""
OUTPUT = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], np.float64)
"""A^T."""


def accelerate(model: ov.Model) -> int:
    """Replace the convolutions of a model for which it was measured to pay, in place; those of unknown size stay.

    Only on x86: OpenVINO's kernels for Arm have Winograd's convolution of their own.

    Returns:
        How many were replaced.
    """
    if platform.machine().lower() not in {"x86_64", "amd64"}:
        return 0
    convolutions = [node for node in model.get_ordered_ops() if _pays(node)]
    for node in convolutions:
        node.output(0).replace(_winograd(node.input_value(0), _weight(node)))
    if convolutions:
        model.validate_nodes_and_infer_types()
    return len(convolutions)


def _pays(node: ov.Node) -> bool:
    """Whether it is a convolution 3x3 of stride 1 that keeps the size, wide, on many pixels, with constant weights."""
    if node.get_type_name() != "Convolution" or node.get_output_partial_shape(0).is_dynamic:
        return False
    if node.get_output_element_type(0) != ov.Type.f32 or node.input_value(1).get_node().get_type_name() != "Constant":
        return False
    (channels, inputs, *kernel), (batch, _, *size) = node.get_input_shape(1), node.get_output_shape(0)
    settings = node.get_attributes()
    ones = all(list(settings[name]) == [1, 1] for name in ("strides", "dilations", "pads_begin", "pads_end"))
    if list(kernel) != [3, 3] or not ones or settings["auto_pad"] not in {"explicit", "notset"}:
        return False
    return bool(inputs >= LEAST_IN and channels >= LEAST_OUT and batch * size[0] * size[1] >= LEAST_PIXELS)


def _weight(node: ov.Node) -> NDArray[np.float32]:
    """``(K, C, 3, 3)``."""
    weight: NDArray[np.float32] = node.input_value(1).get_node().data
    return weight


def _winograd(x: ov.Output, weight: NDArray[np.float32]) -> ov.Output:
    """``(B, C, H, W) -> (B, K, H, W)``."""
    (batch, inputs, height, width), channels = x.get_shape(), len(weight)
    rows, cols = -(-height // 4), -(-width // 4)
    tiles = rows * cols
    ends = [4 * rows - height + 1, 4 * cols - width + 1]
    one_by_one = ops.reshape(x, _whole(batch * inputs, 1, height, width), False)
    v = ops.convolution(one_by_one, _constant(_both_axes(INPUT)[:, None]), [4, 4], [1, 1], ends, [1, 1])  # B C x 36
    v = ops.transpose(ops.reshape(v, _whole(batch, inputs, 36, tiles), False), _whole(0, 2, 1, 3))
    u = _both_axes(KERNEL).reshape(36, 9).astype(np.float32) @ weight.reshape(-1, 9).T
    m = ops.matmul(_constant(u.reshape(36, channels, inputs)), v, False, False)  # (B, 36, K, T)
    last = _constant(_both_axes(OUTPUT).reshape(16, 36))
    y = ops.matmul(last, ops.reshape(m, _whole(batch, 36, channels * tiles), False), False, False)
    y = ops.reshape(y, _whole(batch, 4, 4, channels, rows, cols), False)
    y = ops.reshape(ops.transpose(y, _whole(0, 3, 4, 1, 5, 2)), _whole(batch, channels, 4 * rows, 4 * cols), False)
    if (4 * rows, 4 * cols) != (height, width):
        y = ops.slice(y, _whole(0, 0), _whole(height, width), _whole(1, 1), _whole(2, 3))
    return y.output(0)


def _both_axes(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(n, m) -> (n n, m, m)``: the transform of rows and that of columns as one."""
    count, taps = matrix.shape
    return np.asarray(np.einsum("ai,bj->abij", matrix, matrix).reshape(count * count, taps, taps))


def _constant(values: NDArray[np.floating]) -> ov.Node:
    return ops.constant(np.ascontiguousarray(values, np.float32))


def _whole(*values: int) -> ov.Node:
    return ops.constant(np.array(values, np.int64))
