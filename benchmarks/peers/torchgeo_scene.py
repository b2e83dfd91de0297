"""TorchGeo's documented route over one scene: GridGeoSampler, DataLoader, its FCSiamDiff, windows into a GeoTIFF.

python torchgeo_scene.py BEFORE AFTER OUT. Windows of 512 pixels that do not overlap, in batches of 4: the cheapest
setting of its tutorials; weights are random, which costs the same.
"""

import sys
from pathlib import Path

import numpy as np
import rasterio
import torch
from rasterio.windows import Window, from_bounds
from torch.utils.data import DataLoader
from torchgeo.datasets import RasterDataset, stack_samples
from torchgeo.models import FCSiamDiff
from torchgeo.samplers import GridGeoSampler

SIZE, BATCH = 512, 4


class Before(RasterDataset):  # type: ignore[misc]
    """The first date."""

    filename_glob = "before_*.tif"


class After(RasterDataset):  # type: ignore[misc]
    """The second date."""

    filename_glob = "after_*.tif"


def window_of(file: rasterio.io.DatasetWriter, bounds: tuple[slice, slice, slice]) -> Window:
    """Where a sample lies in the product; its bounds are slices of x, of y and of time."""
    x, y = bounds[:2]
    return from_bounds(x.start, y.start, x.stop, y.stop, file.transform).round_offsets().round_lengths()


@torch.inference_mode()
def main(before: str, after: str, out: str) -> None:
    """Map one pair."""
    torch.set_num_threads(1)
    pair = Before([before]) & After([after])
    loader = DataLoader(
        pair, sampler=GridGeoSampler(pair, size=SIZE, stride=SIZE), batch_size=BATCH, collate_fn=stack_samples
    )
    network = FCSiamDiff(encoder_weights=None, in_channels=3, classes=1).eval()
    with rasterio.open(before) as source:
        profile = source.profile | {"count": 1, "dtype": "float32", "compress": "deflate", "predictor": 1}
        limits = source.shape
    with rasterio.open(out, "w", **profile) as target:
        for batch in loader:
            images = batch["image"].float() / 255
            count, _, height, width = images.shape
            found = torch.sigmoid(network(images.view(count, 2, 3, height, width)))[:, 0].numpy()
            for values, bounds in zip(found, batch["bounds"], strict=True):
                at = window_of(target, bounds)
                rows, cols = min(height, limits[0] - at.row_off), min(width, limits[1] - at.col_off)
                target.write(
                    np.ascontiguousarray(values[:rows, :cols]), 1, window=Window(at.col_off, at.row_off, cols, rows)
                )


if __name__ == "__main__":
    main(*(str(Path(each)) for each in sys.argv[1:]))
