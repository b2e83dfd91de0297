"""Speed and memory of the whole `terradelta map` run on scenes of several sizes, in one go.

    python benchmarks/map_scene.py [--sides 4096 16384] [--model default|cheap|FILE.onnx] [--keep FOLDER]

Prints, for every side: megapixels per second of the whole run, the seconds of CPU, the share of the wall clock in which
each part was busy (parts overlap), and the peak resident memory; at the end the ratio of the peaks. The scenes are
synthetic suburbs, repeated and mirrored, as tiled GeoTIFFs of three 8-bit bands. ``--model cheap`` makes a network of
one convolution, so that everything else is what is measured, on the same path.
"""

import argparse
import json
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from resource import struct_rusage
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.windows import Window

from terradelta.card import CARD_KEY
from terradelta.lab.synthetic import SceneConfig, make_scene
from terradelta.predict.load import load_predictor

UNIT = 1024
MB = 1e6


def write_scenes(folder: Path, side: int) -> tuple[Path, Path]:
    """Write both dates of a scene of ``side`` x ``side`` pixels, block by block."""
    scene = make_scene(SceneConfig(height=UNIT, width=UNIT), 3)
    paths = (folder / f"before_{side}.tif", folder / f"after_{side}.tif")
    for path, image in zip(paths, (scene.before, scene.after), strict=True):
        profile = {
            "driver": "GTiff",
            "width": side,
            "height": side,
            "count": 3,
            "dtype": "uint8",
            "crs": CRS.from_epsg(32614),
            "transform": Affine(0.5, 0, 600000, 0, -0.5, 3400000),
            "tiled": True,
            "blockxsize": 512,
            "blockysize": 512,
            "compress": "deflate",
            "zlevel": 1,
            "predictor": 2,
            "interleave": "pixel",
        }
        if path.exists():  # kept from an earlier run
            continue
        with rasterio.Env(GDAL_CACHEMAX=64 << 20), rasterio.open(path, "w", **profile) as target:
            for row in range(0, side, UNIT):
                for col in range(0, side, UNIT):
                    flipped = image[:, :: -1 if row // UNIT % 2 else 1, :: -1 if col // UNIT % 2 else 1]
                    height, width = min(UNIT, side - row), min(UNIT, side - col)
                    target.write(
                        np.ascontiguousarray(flipped[:, :height, :width]), window=Window(col, row, width, height)
                    )
    return paths


def cheap_network(path: Path) -> Path:
    """An ONNX file with the tiles of the default model: changed where 5 x 5 pixels differ by 0.4 of the range."""
    from onnx import TensorProto, helper, save

    card = load_predictor("default", threads=1).card
    shape = ("b", 3, "h", "w")
    nodes = [
        helper.make_node("Sub", ["after", "before"], ["gap"]),
        helper.make_node("Abs", ["gap"], ["size"]),
        helper.make_node("Conv", ["size", "mean"], ["grey"]),
        helper.make_node("AveragePool", ["grey"], ["smooth"], kernel_shape=[5, 5], pads=[2] * 4),
        helper.make_node("Mul", ["smooth", "gain"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "bias"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "cheap",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("before", "after")],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ("b", 1, "h", "w"))],
        [
            helper.make_tensor("mean", TensorProto.FLOAT, [1, 3, 1, 1], [1 / 3] * 3),
            helper.make_tensor("gain", TensorProto.FLOAT, [1], [30 * card.std[0]]),
            helper.make_tensor("bias", TensorProto.FLOAT, [1], [12.0]),
        ],
    )
    card = replace(card, name="cheap", network="none", network_args={}, scores=())
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    helper.set_model_props(model, {CARD_KEY: card.to_json()})
    save(model, path)
    return path


def run_map(before: Path, after: Path, out: Path, options: list[str]) -> tuple[dict[str, Any], struct_rusage]:
    """Run the command in a process of its own; its receipt, and what the process used."""
    command = [sys.executable, "-m", "terradelta", "map", str(before), str(after), "-o", str(out), *options]
    with open(os.devnull, "w") as sink:
        pid = os.posix_spawn(
            sys.executable, command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, sink.fileno(), 1)]
        )
        _, status, usage = os.wait4(pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed with status {status}")
    return json.loads((out / "receipt.json").read_text()), usage


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[4096, 16384])
    parser.add_argument("--model", default="default")
    parser.add_argument("--keep", type=Path, help="folder for the scenes and products; default: temporary")
    arguments = parser.parse_args()
    peaks = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        model = str(cheap_network(folder / "cheap.onnx")) if arguments.model == "cheap" else arguments.model
        for side in arguments.sides:
            receipt, usage = run_map(*write_scenes(folder, side), folder / f"map_{side}", ["--model", model])
            timings, peaks[side] = receipt["timings"], usage.ru_maxrss * 1024 / MB
            total = timings["total"]
            shares = ", ".join(f"{name} {seconds / total:.0%}" for name, seconds in timings.items() if name != "total")
            speed = side * side / 1e6 / total
            cpu = usage.ru_utime + usage.ru_stime
            print(
                f"{side}²: {speed:.2f} Mpx/s in {total:.1f} s, {cpu:.1f} s of CPU; peak {peaks[side]:.0f} MB; "
                f"busy: {shares}"
            )
    first = arguments.sides[0]
    for side in arguments.sides[1:]:
        print(f"peak memory at {side}² / {first}²: {peaks[side] / peaks[first]:.3f}")


if __name__ == "__main__":
    main()
