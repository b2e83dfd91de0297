"""The last upsampling outside the network against a sum over pixels, and against OpenVINO's own."""

from pathlib import Path

import numpy as np
import onnx
import openvino as ov
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from terradelta.predict.openvino import _core
from terradelta.predict.upsampling import before_upsampling, upsampled


def values(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


def naive(x: NDArray[np.float32], factor: int) -> NDArray[np.float64]:
    """Pixel by pixel: the four nearest pixel centres, those beyond the border being the outermost."""
    height, width = x.shape[2:]
    out = np.zeros((*x.shape[:2], height * factor, width * factor))
    for row in range(height * factor):
        for col in range(width * factor):
            y, z = (row + 0.5) / factor - 0.5, (col + 0.5) / factor - 0.5
            for i in (int(np.floor(y)), int(np.floor(y)) + 1):
                for j in (int(np.floor(z)), int(np.floor(z)) + 1):
                    pixel = x[:, :, min(max(i, 0), height - 1), min(max(j, 0), width - 1)]
                    out[:, :, row, col] += (1 - abs(y - i)) * (1 - abs(z - j)) * pixel.astype(np.float64)
    return out


def network(
    folder: Path,
    scale: tuple[float, float] = (4.0, 4.0),
    channels: int = 1,
    mode: str = "linear",
    coordinates: str = "half_pixel",
    last: str | None = None,
) -> ov.Model:
    """Takes an input of 1 x ``channels`` x 6 x 5 times 2, and enlarges it."""
    large = "large" if last else "logits"
    nodes = [
        helper.make_node("Mul", ["x", "two"], ["small"]),
        helper.make_node(
            "Resize", ["small", "", "scale"], [large], mode=mode, coordinate_transformation_mode=coordinates
        ),
    ]
    if last:
        nodes.append(helper.make_node(last, [large], ["logits"]))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("b", channels, "h", "w"))],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        [
            helper.make_tensor("two", TensorProto.FLOAT, [1], [2]),
            helper.make_tensor("scale", TensorProto.FLOAT, [4], [1, 1, *scale]),
        ],
    )
    path = folder / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    model = _core().read_model(path)
    model.reshape({"x": [1, channels, 6, 5]})
    return model


def run(model: ov.Model, x: NDArray[np.float32]) -> NDArray[np.float32]:
    compiled = _core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})
    return np.array(compiled({"x": x})["logits"])


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("shape", [(1, 1, 5, 4), (2, 3, 1, 6), (1, 1, 1, 1)])
def test_it_is_the_sum_over_the_nearest_pixels(shape: tuple[int, ...], factor: int) -> None:
    x = values(*shape)
    kept = x.copy()
    np.testing.assert_allclose(upsampled(x, factor), naive(x, factor), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(x, kept)


@pytest.mark.parametrize("coordinates", ["half_pixel", "pytorch_half_pixel"])
@pytest.mark.parametrize("factor", [2, 3, 8])
def test_the_model_before_it_and_what_follows_are_the_model(tmp_path: Path, factor: int, coordinates: str) -> None:
    x = values(1, 1, 6, 5)
    model = network(tmp_path, (factor, factor), coordinates=coordinates)
    whole = run(model, x)
    cut, found = before_upsampling(model)
    assert found == factor
    np.testing.assert_allclose(run(cut, x), 2 * x, rtol=1e-6)
    np.testing.assert_allclose(upsampled(run(cut, x), factor), whole, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(run(model, x), whole)  # it was not changed


@pytest.mark.parametrize(
    "other",
    [
        {"mode": "nearest"},
        {"mode": "cubic"},
        {"coordinates": "align_corners"},
        {"coordinates": "asymmetric"},
        {"scale": (4.0, 2.0)},
        {"scale": (2.5, 2.5)},
        {"scale": (1.0, 1.0)},
        {"channels": 2},
        {"last": "Neg"},
    ],
)
def test_what_is_no_such_upsampling_stays(tmp_path: Path, other: dict[str, object]) -> None:
    model = network(tmp_path, **other)
    assert before_upsampling(model) == (model, 1)
