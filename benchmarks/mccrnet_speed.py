"""MCCRNet's inference: plain eager module, fused module, and its ONNX file on OpenVINO, in one run.

    python benchmarks/mccrnet_speed.py [--side 256] [--width 1.0] [--runs 3] [--json FILE]
    python benchmarks/mccrnet_speed.py --checkpoint RUN --data DIR [--pairs 8]

Every candidate runs in a process of its own, on one thread, on the same images and the same weights: a checkpoint and
tiles of test pairs, or random images and random weights with batch statistics that fit them. Prints the CPU seconds of
the quickest run on one pair, the ratio to the eager module, the highest memory of the process (the model's loading
included), and the differences to the eager module over all pairs: the largest one of a logit; of a probability the
largest one, those that one pixel in a thousand and in a hundred exceeds, and the mean; and the share of pixels that
change sides at a probability of a half. Random weights say nothing about the last ones. bfloat16 is
left out where the processor lacks it.
"""

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from processor import made_on

T = TypeVar("T")
Result = tuple[float, float, NDArray[np.float32]]
"""CPU seconds, highest memory in GiB, logits of all pairs."""
BANDS = ("red", "green", "blue")


def prepare(folder: Path, side: int, width: float) -> None:
    """Write a checkpoint and the ONNX file of one random network, and one pair of random images."""
    import torch

    from terradelta.card import ModelCard
    from terradelta.lab.networks import create_model
    from terradelta.lab.networks.checkpoint import save_network

    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = create_model("mccrnet", width=width).train()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None  # the mean of what it sees
        network(*torch.randn(2, 2, 3, side, side))
    card = ModelCard("benchmark", "mccrnet", BANDS, (0.0,) * 3, (1.0,) * 3, scale=1.0, network_args={"width": width})
    save_network(network, card.replace(stride=network.stride), folder / "best.ckpt")
    images = np.random.default_rng(0).normal(size=(1, 2, 1, 3, side, side))
    np.save(folder / "pairs.npy", images.astype(np.float32))
    _export(folder)


def prepare_trained(folder: Path, side: int, checkpoint: Path, data: Path, count: int) -> None:
    """Write the checkpoint again, its ONNX file, and tiles of the test pairs as the network takes them."""
    import torch

    from terradelta.lab.bench.tiles import tiled
    from terradelta.lab.data import open_pairs
    from terradelta.lab.networks.checkpoint import load_network, save_network

    torch.set_num_threads(1)
    network, card = load_network(checkpoint)
    save_network(network, card, folder / "best.ckpt")
    tiles = tiled(open_pairs(data, "test"), side, count)
    mean, std = (np.array(values)[:, None, None] for values in (card.mean, card.std))
    pairs = [[tiles.read(k).before, tiles.read(k).after] for k in range(len(tiles))]
    values = (np.array(pairs, np.float64) / card.scale - mean) / std
    np.save(folder / "pairs.npy", values[:, :, None].astype(np.float32))
    _export(folder)


def _export(folder: Path) -> None:
    from terradelta.lab.export.to_onnx import export_onnx
    from terradelta.lab.networks.checkpoint import load_network

    export_onnx(*load_network(folder / "best.ckpt"), folder / "model.onnx")


def run_torch(folder: Path, runs: int, *, as_fused: bool) -> Result:
    """Time the eager or the fused module."""
    import torch

    from terradelta.lab.inference.fused import fused
    from terradelta.lab.networks.checkpoint import load_network

    torch.set_num_threads(1)
    network, _ = load_network(folder / "best.ckpt")
    network = fused(network) if as_fused else network

    def call(pair: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(network(*torch.from_numpy(pair)).numpy())

    return _timed(call, folder, runs)


def run_openvino(folder: Path, runs: int, precision: str) -> Result:
    """Time the ONNX file."""
    from terradelta.predict.openvino import OpenVINOPredictor

    predictor = OpenVINOPredictor(folder / "model.onnx", precision="bf16" if precision == "bf16" else "f32", threads=1)
    return _timed(lambda pair: predictor.logits(*pair), folder, runs)


def _timed(call: Callable[[NDArray[np.float32]], NDArray[np.float32]], folder: Path, runs: int) -> Result:
    pairs = np.load(folder / "pairs.npy")
    seconds = []
    for _ in range(runs + 1):
        started = time.process_time()
        call(pairs[0])
        seconds.append(time.process_time() - started)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return min(seconds[1:]), memory, np.concatenate([call(pair) for pair in pairs])


def _apart(function: Callable[..., T], *arguments: object, **options: object) -> T:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments, options)


def _compare(result: Result, reference: Result) -> dict[str, float]:
    """What a candidate costs, and how far it is from the reference."""
    (seconds, memory, logits), (base, _, expected) = result, reference
    found, wanted = (1 / (1 + np.exp(-x.astype(np.float64))) for x in (logits, expected))
    gap = np.abs(found - wanted)
    return {
        "cpu_s": seconds,
        "ratio": base / seconds,
        "peak_gib": memory,
        "logit_largest": float(np.abs(logits - expected).max()),
        "largest": float(gap.max()),
        "p99.9": float(np.quantile(gap, 0.999)),
        "p99": float(np.quantile(gap, 0.99)),
        "mean": float(gap.mean()),
        "changed_sides": float(((found > 0.5) != (wanted > 0.5)).mean()),
    }


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--json", type=Path, help="file to write")
    arguments = parser.parse_args()
    if (arguments.checkpoint is None) != (arguments.data is None):
        parser.error("--checkpoint and --data go together")
    from terradelta.predict.openvino import cpu_has_bf16

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.checkpoint is None:
            _apart(prepare, folder, arguments.side, arguments.width)
        else:
            _apart(prepare_trained, folder, arguments.side, arguments.checkpoint, arguments.data, arguments.pairs)
        setting = (folder, arguments.runs)
        results = {
            "eager torch": _apart(run_torch, *setting, as_fused=False),
            "fused torch": _apart(run_torch, *setting, as_fused=True),
            "OpenVINO f32": _apart(run_openvino, *setting, "f32"),
        }
        if cpu_has_bf16():
            results["OpenVINO bf16"] = _apart(run_openvino, *setting, "bf16")
    found = {label: _compare(result, results["eager torch"]) for label, result in results.items()}
    print(f"{'':13} CPU s  ratio   GiB   logit    largest  p99.9    p99      mean     changed sides")
    for label, values in found.items():
        seconds, ratio, memory, *differences = values.values()
        print(f"{label:13} {seconds:5.2f}  {ratio:5.2f}  {memory:4.2f} ", "  ".join(f"{x:.1e}" for x in differences))
    if arguments.json:
        what = arguments.checkpoint.name if arguments.checkpoint else f"random weights, width {arguments.width:g}"
        content = {**made_on(), "what": what, "side": arguments.side, "candidates": found}
        arguments.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
