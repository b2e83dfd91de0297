"""MLLA_SiaNet on EfficientNet-Lite0 from ImageNet weights, on the LEVIR-subset: the weights that ship as ``buildings``.

    terradelta train recipes/buildings.py:first --data LEVIR -o runs/buildings_first
    terradelta train recipes/buildings.py:second --from runs/buildings_first --data LEVIR -o runs/buildings_second
    terradelta train recipes/buildings.py:third --from runs/buildings_second --data LEVIR -o runs/buildings_third
    terradelta train recipes/buildings.py:fourth --from runs/buildings_third --data LEVIR -o runs/buildings_fourth
    terradelta train recipes/buildings.py:fifth --from runs/buildings_third --data LEVIR -o runs/buildings_fifth
    terradelta average runs/buildings_third runs/buildings_fourth runs/buildings_fifth -o runs/buildings_three
    terradelta train recipes/buildings.py:sixth --from runs/buildings_three --data LEVIR -o runs/buildings_sixth
    terradelta average runs/buildings_three runs/buildings_sixth -o runs/buildings_average

Each run goes on from weights of an earlier one with a learning rate that rises and falls once more. From the third on
they see pairs of native resolution, which the network is meant for, more often, and milder photometry. What ships is
the mean of two: of the weights of three runs, and of those of a run that went on from there.

LEVIR is a folder in LEVIR-CD's layout; the LEVIR-subset has 578 training and 134 validation pairs. Weights, threshold
and calibration are chosen on the validation pairs of native resolution (their names begin with ``full``).
``scripts/train_default`` trains, calibrates, exports and scores with one command.

The same on synthetic scenes alone, which carry no limit of use; these weights ship as ``buildings-free``:

    terradelta data synth SYNTH --train 400 --val 30 --test 0 --seed 11
    terradelta train recipes/buildings.py:free --data SYNTH -o runs/buildings_free
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
MILDER = dataclasses.replace(
    AUGMENTATION, p_colour=0.4, p_blur=0.06, p_noise=0.05, p_cast=0.1, p_haze=0.1, p_jpeg=0.06, p_twin=0.1
)


def sixth() -> Recipe:
    """The sixth run, whose weights are averaged with those that it went on from: ``--from`` names the first average."""
    return dataclasses.replace(fifth(), warmup_steps=100, seed=6)


def fifth() -> Recipe:
    """The fifth run, whose weights are averaged with those of the two before; ``--from`` names the third."""
    return dataclasses.replace(fourth(), oftener=(("full", 6.0),), steps=1700, seed=5, eval_every=340)


def fourth() -> Recipe:
    """The fourth run; ``--from`` names the third."""
    return dataclasses.replace(
        third(),
        augmentation=dataclasses.replace(MILDER, p_noise=0.08, noise=0.04),
        encoder_lr=1.0,
        steps=2400,
        ema_decay=0.999,
        seed=4,
        eval_every=300,
    )


def third() -> Recipe:
    """The third run; ``--from`` names the second."""
    return dataclasses.replace(
        second(),
        augmentation=MILDER,
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


def free() -> Recipe:
    """On synthetic scenes: the encoder changes slowly and colours are disturbed much, to hold on to what it knows."""
    stronger = dataclasses.replace(
        AUGMENTATION,
        brightness=0.3,
        contrast=0.3,
        saturation=0.5,
        hue=0.08,
        p_colour=0.9,
        p_blur=0.3,
        p_noise=0.2,
        p_cast=0.3,
        p_haze=0.2,
        p_jpeg=0.2,
        p_shift=0.5,
    )
    return dataclasses.replace(
        first(),
        name="buildings-free",
        encoder_lr=0.1,
        augmentation=stronger,
        validate_on=(),
        zoom=(("", 0.6, 1.4),),
        steps=1600,
        warmup_steps=100,
        ema_decay=0.998,
        eval_every=200,
        finds="buildings that appeared or disappeared, as synthetic scenes show them",
        data="synthetic scenes of terradelta data synth: 400 training pairs",
        licence="Apache-2.0, as the code and the ImageNet weights that the encoder began from.",
    )
