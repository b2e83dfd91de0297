"""Networks of other kinds than the default's in int8: random weights, narrow."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from terradelta.card import ModelCard
from terradelta.lab.export.int8_crops import CalibrationCrops
from terradelta.lab.export.quantise import TOLERANCE, quantise_onnx
from terradelta.lab.export.to_onnx import export_onnx
from terradelta.lab.networks import create_model
from terradelta.predict.openvino import OpenVINOPredictor

NETWORKS: dict[str, dict[str, Any]] = {"snunet": {"width": 8}, "bit": {}, "mccrnet": {"width": 0.125}}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_other_networks_in_int8(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = create_model(name, in_channels=3, **NETWORKS[name]).eval()
    with torch.no_grad():  # random weights can have logits so large that every rounding shows
        spread = network(*torch.randn(2, 1, 3, 64, 64)).std().item()
    args = {"in_channels": 3, **NETWORKS[name]}
    card = ModelCard(
        *(name, name, ("r", "g", "b"), (0.4,) * 3, (0.2,) * 3),
        network_args=args,
        stride=network.stride,
        temperature=max(1.0, spread),
    )
    export_onnx(network, card, tmp_path / "f32.onnx")
    rng = np.random.default_rng(0)
    crops = rng.integers(0, 256, (8, 2, 3, 64, 64)).astype(np.float32)
    calibration = CalibrationCrops("noise", 8, "", tuple((before, after) for before, after in crops))
    check = quantise_onnx(tmp_path / "f32.onnx", calibration, tmp_path / "int8.onnx")
    assert 0 < check.mean_difference <= TOLERANCE["mean"]
    assert len(check.kept_float) <= check.layers / 2
    weights = onnx.load(tmp_path / "int8.onnx").graph.initializer
    large = [w for w in weights if len(w.dims) == 4]
    assert sum(w.data_type == onnx.TensorProto.INT8 for w in large) >= len(large) / 2
    f32, int8 = (OpenVINOPredictor(tmp_path / f"{p}.onnx", precision="f32", threads=1) for p in ("f32", "int8"))
    before, after = rng.integers(0, 256, (2, 2, 3, 96, 160)).astype(np.float32)  # another batch and size
    gap = np.abs(f32.predict(before, after) - int8.predict(before, after))
    assert gap.mean() <= 4 * TOLERANCE["mean"]  # attention over the whole image sees other statistics at another size
