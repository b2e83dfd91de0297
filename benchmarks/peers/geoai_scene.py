"""geoai's `predict_geotiff` over one scene, with its default tiles and TorchGeo's FCSiamDiff as the network.

python geoai_scene.py STACKED OUT, where STACKED holds the three bands of both dates.
"""

import sys

import torch
from geoai.inference import predict_geotiff
from torch import Tensor, nn
from torchgeo.models import FCSiamDiff


class Stacked(nn.Module):
    """Takes both dates as six bands: ``(B, 6, H, W) -> (B, 1, H, W)``."""

    def __init__(self) -> None:
        super().__init__()
        self.network = FCSiamDiff(encoder_weights=None, in_channels=3, classes=1)

    def forward(self, x: Tensor) -> Tensor:
        """Probability of change."""
        count, _, height, width = x.shape
        return torch.sigmoid(self.network(x.view(count, 2, 3, height, width)))


if __name__ == "__main__":
    torch.set_num_threads(1)
    predict_geotiff(Stacked(), sys.argv[1], sys.argv[2], device="cpu", verbose=False)
