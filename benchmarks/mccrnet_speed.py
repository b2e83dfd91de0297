"""MCCRNet's inference: plain eager module, fused module, and its ONNX file on OpenVINO in float32, in one run.

    python benchmarks/mccrnet_speed.py [--side 256] [--width 1.0] [--runs 3]

Every candidate runs in a process of its own, on one thread, on the same pair of random images and the same weights
(random, with batch statistics that fit the input). Prints the CPU seconds of the quickest run, the ratio to the eager
module, the highest memory of the process (the model's loading included), and the largest difference to the eager
module's logits and probabilities.
"""

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
Result = tuple[float, float, NDArray[np.float32]]
"""CPU seconds, highest memory in GB, logits."""


def images(side: int) -> list[NDArray[np.float32]]:
    """Two random images ``(1, 3, side, side)``."""
    rng = np.random.default_rng(0)
    return [rng.normal(size=(1, 3, side, side)).astype(np.float32) for _ in range(2)]


def prepare(folder: Path, side: int, width: float) -> None:
    """Write a checkpoint and the ONNX file of one network."""
    import torch

    from terradelta.card import ModelCard
    from terradelta.export import export_onnx
    from terradelta.networks import create_model
    from terradelta.networks.checkpoint import save_network

    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = create_model("mccrnet", width=width).train()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None  # the mean of what it sees
        network(*torch.randn(2, 2, 3, side, side))
    bands = ("red", "green", "blue")
    card = ModelCard("benchmark", "mccrnet", bands, (0.0,) * 3, (1.0,) * 3, scale=1.0, network_args={"width": width})
    save_network(network, card.replace(stride=network.stride), folder / "best.ckpt")
    export_onnx(network, card, folder / "model.onnx")


def run_torch(folder: Path, side: int, runs: int, *, fused: bool) -> Result:
    """Time the eager or the fused module."""
    import torch

    from terradelta.networks.checkpoint import load_network

    torch.set_num_threads(1)
    network, _ = load_network(folder / "best.ckpt")
    network = network.inference() if fused else network
    dates = [torch.from_numpy(image) for image in images(side)]

    def call() -> NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(network(*dates).numpy())

    return _timed(call, runs)


def run_openvino(folder: Path, side: int, runs: int) -> Result:
    """Time the ONNX file."""
    from terradelta.runtime.openvino import OpenVINOPredictor

    predictor = OpenVINOPredictor(folder / "model.onnx", precision="f32", threads=1)
    before, after = images(side)
    return _timed(lambda: predictor.logits(before, after), runs)


def _timed(call: Callable[[], NDArray[np.float32]], runs: int) -> Result:
    seconds = []
    for _ in range(runs + 1):
        started = time.process_time()
        logits = call()
        seconds.append(time.process_time() - started)
    return min(seconds[1:]), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, logits


def _apart(function: Callable[..., T], *arguments: object, **options: object) -> T:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments, options)


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _apart(prepare, folder, arguments.side, arguments.width)
        setting = (folder, arguments.side, arguments.runs)
        results = {
            "eager torch": _apart(run_torch, *setting, fused=False),
            "fused torch": _apart(run_torch, *setting, fused=True),
            "OpenVINO f32": _apart(run_openvino, *setting),
        }
    base, _, expected = results["eager torch"]
    print(f"{'':13} CPU s  ratio   GB    logit   probability")
    for label, (seconds, memory, logits) in results.items():
        gap = np.abs(logits - expected).max()
        chance = np.abs(1 / (1 + np.exp(-logits)) - 1 / (1 + np.exp(-expected))).max()
        print(f"{label:13} {seconds:5.2f}  {base / seconds:5.2f}  {memory:4.2f}  {gap:.1e}  {chance:.1e}")


if __name__ == "__main__":
    main()
