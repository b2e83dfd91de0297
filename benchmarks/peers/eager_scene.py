"""The network of the default weights in plain eager PyTorch over one scene, with the same tiles.

python eager_scene.py BEFORE AFTER OUT. Weights are random, which costs the same.
"""

import sys

import numpy as np
import rasterio
import torch
from rasterio.windows import Window

from terradelta.geo.windows import TilePlan
from terradelta.lab.networks import create_model
from terradelta.predict.load import load_predictor


@torch.inference_mode()
def main(before: str, after: str, out: str) -> None:
    """Map one pair; overlaps are averaged."""
    torch.set_num_threads(1)
    card = load_predictor("default", threads=1).card
    network = create_model(card.network, **card.network_args).eval()
    with rasterio.open(before) as first, rasterio.open(after) as second:
        plan = TilePlan(first.shape, card.tile, card.overlap, card.stride)
        total, count = (np.zeros(first.shape, np.float32) for _ in range(2))
        for row in plan.rows():
            for tile in row:
                window = Window(tile.col, tile.row, tile.width, tile.height)
                dates = [torch.from_numpy(card.normalise(file.read(window=window)[None])) for file in (first, second)]
                total[tile.slices] += torch.sigmoid(network(*dates))[0, 0].numpy()
                count[tile.slices] += 1
        profile = first.profile | {"count": 1, "dtype": "float32", "compress": "deflate", "predictor": 1}
    with rasterio.open(out, "w", **profile) as target:
        target.write(total / count, 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
