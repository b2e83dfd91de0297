"""The recipe that all networks of a benchmark share."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from terradelta.geo.grid import Tile
from terradelta.lab.bench.design import Entry, Job
from terradelta.lab.data import PairSource
from terradelta.lab.networks import create_model
from terradelta.lab.networks.layers.efficientnet_lite import MEAN, STD, EfficientNetLite
from terradelta.lab.training.config import IMAGENET_MEAN, IMAGENET_STD, Augmentation, Recipe

__all__ = ["bench_recipe", "describe_recipe"]

LR = 1e-3
WARMUP_SHARE = 0.1
EVALUATIONS = 3
SAVES = 10
AUGMENTATION = Augmentation(
    p_blur=0.0, p_noise=0.0, p_colour=0.5, brightness=0.1, contrast=0.1, saturation=0.1, hue=0.01
)


def bench_recipe(job: Job, train: PairSource) -> Recipe:
    """One optimiser, schedule and augmentation for every network; only the loss is the method's own.

    Args:
        job: entry, seed and protocol.
        train: the training pairs; their first one tells the number of bands and the scaling.
    """
    protocol, entry = job.protocol, job.entry
    bands, scale = _bands(train)
    arguments = {"in_channels": len(bands), **entry.network_args}
    return Recipe(
        name=f"{entry.label} seed {job.seed}",
        network=entry.network,
        network_args=arguments,
        encoder_weights=entry.encoder_weights,
        loss=entry.loss,
        bands=bands,
        scale=scale,
        **_scaling(entry, arguments),
        crop_px=protocol.crop_px,
        zoom=(("", 0.8, 1.25),),
        augmentation=AUGMENTATION,
        steps=protocol.steps,
        batch_size=protocol.batch_size,
        lr=LR,
        warmup_steps=max(round(WARMUP_SHARE * protocol.steps), 1),
        eval_every=max(protocol.steps // EVALUATIONS, 1),
        save_every=max(protocol.steps // SAVES, 1),
        precision=protocol.precision,
        seed=job.seed,
        data=train.name,
        licence="for comparison only; carries the limits of the data that it was fitted on",
    )


def _scaling(entry: Entry, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The mean and deviation that the encoder's weights were fitted with; for fresh ones they are measured."""
    if entry.encoder_weights is None:
        return {}
    lite = any(isinstance(part, EfficientNetLite) for part in create_model(entry.network, **arguments).children())
    mean, std = (MEAN, STD) if lite else (IMAGENET_MEAN, IMAGENET_STD)
    return {"mean": mean, "std": std}


def describe_recipe(batch_size: int, crop_px: int) -> str:
    """What all runs share, in one sentence."""
    return (
        f"AdamW, learning rate {LR:g} after a warm-up and then falling as a cosine, batches of {batch_size} crops of "
        f"{crop_px} x {crop_px} pixels, mild augmentation, fresh weights (no ImageNet) unless the row says otherwise, "
        "exponential moving average; each network minimises the loss that its method names"
    )


def _bands(train: PairSource) -> tuple[tuple[str, ...], float]:
    """Names of the bands, and the raw value that counts as 1."""
    height, width = train.size(0)
    values: Any = train.read_window(0, Tile(0, 0, min(height, 16), min(width, 16))).before
    names = ("red", "green", "blue") if len(values) == 3 else tuple(f"band {k + 1}" for k in range(len(values)))
    integer = np.issubdtype(values.dtype, np.integer)
    return names, float(np.iinfo(values.dtype).max) if integer else 1.0
