"""MLLA_SiaNet on EfficientNet-Lite0 from ImageNet weights, on the LEVIR-subset: the weights that ship as ``buildings``.

    terradelta train recipes/buildings.py:first --data LEVIR -o runs/buildings_first
    terradelta train recipes/buildings.py:second --from runs/buildings_first --data LEVIR -o runs/buildings_second
    terradelta train recipes/buildings.py --from runs/buildings_second --data LEVIR -o runs/buildings

Each run goes on from the weights of the one before with a learning rate that rises and falls once more. The third sees
pairs of native resolution, which the network is meant for, three times as often, and milder photometry.

LEVIR is a folder in LEVIR-CD's layout; the LEVIR-subset has 578 training and 134 validation pairs. Weights, threshold
and calibration are chosen on the validation pairs of native resolution (their names begin with ``full``).
``scripts/train_default`` trains, calibrates, exports and scores with one command.
"""

import dataclasses

from terradelta.lab.networks.layers.efficientnet_lite import MEAN, STD
from terradelta.lab.training.config import Augmentation, Recipe

AUGMENTATION = Augmentation(
    p_rotation=0.0,
    brightness=0.2,
    contrast=0.2,
    saturation=0.2,
    hue=0.02,
    p_colour=0.6,
    p_blur=0.1,
    p_noise=0.1,
    p_cast=0.15,
    p_haze=0.15,
    p_jpeg=0.1,
    p_twin=0.06,
    p_paste=0.1,
)


def recipe() -> Recipe:
    """The third run, whose weights ship; ``--from`` names the second."""
    milder = dataclasses.replace(
        AUGMENTATION, p_colour=0.4, p_blur=0.06, p_noise=0.05, p_cast=0.1, p_haze=0.1, p_jpeg=0.06, p_twin=0.1
    )
    return dataclasses.replace(
        second(),
        augmentation=milder,
        oftener=(("full", 3.0),),
        zoom=(("half512", 0.42, 0.7), ("full256", 0.7, 1.0), ("", 0.7, 1.25)),
        steps=2600,
        warmup_steps=150,
        lr=2.0e-3,
        encoder_lr=0.8,
        ema_decay=0.9985,
        seed=3,
        eval_every=325,
    )


def second() -> Recipe:
    """The second run; ``--from`` names the first."""
    return dataclasses.replace(
        first(), encoder_weights=None, steps=2900, warmup_steps=100, ema_decay=0.999, seed=1, eval_every=450
    )


def first() -> Recipe:
    """The first run, from ImageNet weights."""
    return Recipe(
        name="buildings",
        network="mlla_sianet_lite0",
        encoder_weights="imagenet",
        encoder_lr=0.5,
        mean=MEAN,
        std=STD,
        sampling="area",
        change_crops=0.6,
        validate_on=("full",),
        zoom=(("half512", 0.42, 0.85), ("full256", 0.6, 1.0), ("", 0.65, 1.4)),
        augmentation=AUGMENTATION,
        steps=3000,
        warmup_steps=200,
        batch_size=8,
        lr=1.5e-3,
        final_lr=0.01,
        ema_decay=0.998,
        eval_every=400,
        precision="bf16-mixed",
        workers=0,
        finds="buildings that appeared or disappeared",
        gsd_m=(0.4, 1.0),
        data="LEVIR-subset: part of LEVIR-CD (Chen & Shi 2020, Remote Sensing 12(10):1662), 578 training pairs",
        licence="Non-commercial research use only: the weights were fitted on LEVIR-CD images, which carry that limit.",
    )
