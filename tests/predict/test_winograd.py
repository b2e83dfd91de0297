"""Winograd's convolutions against sums over the kernel's taps in float64; MCCRNet with them against the eager one."""

from pathlib import Path

import numpy as np
import openvino as ov
import openvino.opset13 as ops
import pytest
from numpy.typing import NDArray

from terradelta.predict import openvino, winograd
from terradelta.predict.openvino import OpenVINOPredictor
from terradelta.predict.predictor import pad_reflect, sigmoid


@pytest.fixture(autouse=True)
def _on_x86(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd.platform, "machine", lambda: "x86_64")


def naive(x: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float64]:
    height, width = x.shape[2:]
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    taps = [(i, j) for i in range(3) for j in range(3)]
    return sum(
        np.einsum("kc,bchw->bkhw", weight[:, :, i, j], padded[:, :, i : i + height, j : j + width], optimize=True)
        for i, j in taps
    )


def one_convolution(
    shape: tuple[int, ...],
    weight: NDArray[np.float32],
    *,
    stride: int = 1,
    dilation: int = 1,
    padding: int = 1,
    free: bool = False,
) -> ov.Model:
    x = ops.parameter([-1, shape[1], -1, -1] if free else list(shape), np.float32)
    convolution = ops.convolution(x, ops.constant(weight), [stride] * 2, [padding] * 2, [padding] * 2, [dilation] * 2)
    return ov.Model([convolution], [x], "one")


def run(model: ov.Model, x: NDArray[np.float32]) -> NDArray[np.float32]:
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = openvino._core().compile_model(model, "CPU", options)
    return np.array(compiled([x])[0])


def values(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("size", [(32, 32), (33, 35), (46, 31), (2, 515)])
def test_it_is_the_convolution(size: tuple[int, int]) -> None:
    """Sides that are no multiples of four, and one shorter than a tile; a batch of two."""
    x, weight = values(2, 128, *size), values(256, 128, 3, 3) / np.float32(34)
    model = one_convolution(x.shape, weight)
    assert winograd.accelerate(model) == 1
    found, expected = run(model, x), naive(x, weight)
    assert expected.std() > 0.5
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_a_bias_and_what_follows_stay() -> None:
    x, weight, bias = values(1, 128, 32, 36), values(256, 128, 3, 3) / np.float32(34), values(1, 256, 1, 1)
    given = ops.parameter(list(x.shape), np.float32)
    same = ops.convolution(given, ops.constant(weight), [1, 1], [0, 0], [0, 0], [1, 1], auto_pad="same_upper")
    wide = ops.convolution(given, ops.constant(weight), [1, 1], [1, 1], [1, 1], [1, 1])
    model = ov.Model([ops.relu(ops.add(wide, ops.constant(bias))), same], [given], "two")
    assert winograd.accelerate(model) == 1  # the one that says how it pads
    assert winograd.accelerate(model) == 0  # its own convolution is no candidate
    np.testing.assert_allclose(run(model, x), np.maximum(naive(x, weight) + bias, 0), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "channels", "options"),
    [
        ((1, 127, 64, 64), 256, {}),
        ((1, 128, 64, 64), 255, {}),
        ((1, 128, 31, 33), 256, {}),
        ((1, 128, 64, 64), 256, {"stride": 2}),
        ((1, 128, 64, 64), 256, {"dilation": 2}),
        ((1, 128, 64, 64), 256, {"padding": 0}),
        ((1, 128, 64, 64), 256, {"free": True}),
    ],
)
def test_others_stay(shape: tuple[int, ...], channels: int, options: dict[str, int]) -> None:
    """Narrow ones, small maps, strides, dilations, other padding, and sizes that are not known."""
    assert winograd.accelerate(one_convolution(shape, values(channels, shape[1], 3, 3), **options)) == 0


def test_other_processors_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd.platform, "machine", lambda: "aarch64")
    assert winograd.accelerate(one_convolution((1, 128, 64, 64), values(256, 128, 3, 3))) == 0


@pytest.mark.slow
def test_mccrnet_with_them_is_the_eager_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All layers of a narrow one that have its form; a batch of two, sides that are no multiples of the stride."""
    torch = pytest.importorskip("torch")
    from terradelta.card import ModelCard
    from terradelta.lab.export.to_onnx import export_onnx
    from terradelta.lab.networks import create_model

    torch.manual_seed(0)
    network = create_model("mccrnet", width=0.125).train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the mean of what it sees
    with torch.no_grad():
        network(*torch.randn(2, 2, 3, 80, 112))
    bands = ("red", "green", "blue")
    card = ModelCard("small", "mccrnet", bands, (0.5,) * 3, (0.25,) * 3, scale=255.0, tile=16, stride=16, overlap=0)
    export_onnx(network, card, tmp_path / "small.onnx")
    replaced = []
    for name in ("LEAST_IN", "LEAST_OUT", "LEAST_PIXELS"):
        monkeypatch.setattr(winograd, name, 1)
    monkeypatch.setattr(openvino, "accelerate", lambda model: replaced.append(winograd.accelerate(model)))
    monkeypatch.setattr(openvino, "_STATIC_PX", 1)
    before, after = np.random.default_rng(0).integers(0, 256, (2, 2, 3, 75, 101)).astype(np.uint8)
    inputs = [pad_reflect(card.normalise(x), 16) for x in (before, after)]
    found = OpenVINOPredictor(tmp_path / "small.onnx", precision="f32", threads=1).logits(*inputs)
    with torch.inference_mode():
        expected = network.double().eval()(*(torch.from_numpy(x).double() for x in inputs)).numpy()
    assert replaced[0] >= 10
    assert expected.std() > 0.5
    np.testing.assert_allclose(sigmoid(found), sigmoid(expected), rtol=0, atol=1e-4)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)  # of values to 5
