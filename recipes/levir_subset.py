"""MLLA_SiaNet on LEVIR-subset and synthetic suburbs: the weights that ship.

    terradelta data synth SYNTH --train 160 --val 1 --test 1 --side 512 --seed 1
    terradelta train recipes/levir_subset.py --data LEVIR --also SYNTH -o runs/levir

LEVIR is a folder in LEVIR-CD's layout with 578 training and 134 validation pairs; the synthetic pairs are a fifth of
all crops. Weights and threshold are chosen on LEVIR's validation split. Two CPU cores, shared with other work: 70
minutes. Of its 1,900 steps, step 1,500 was best and ships. Number of steps, batch, bands and seed are those in the
card of the weights; the card does not hold the other fields.
"""

from dataclasses import replace

from terradelta.lab.training.config import Recipe


def recipe() -> Recipe:
    """The default network on the LEVIR-subset; see the module's text."""
    return Recipe(
        name="mlla_sianet_levir_subset",
        network="mlla_sianet",
        mean=(0.3919, 0.3903, 0.3335),
        std=(0.1896, 0.1807, 0.1665),
        zoom=(("half512", 0.42, 0.85), ("", 0.75, 1.25)),
        steps=1900,
        warmup_steps=150,
        batch_size=8,
        lr=1e-3,
        eval_every=500,
        workers=1,
        gsd_m=(0.4, 0.8),
        data="LEVIR-subset: part of LEVIR-CD (Chen & Shi 2020, Remote Sensing 12(10):1662), 578 training pairs; "
        "and 160 synthetic pairs",
        licence="Non-commercial research use only: the weights were fitted on LEVIR-CD images, which carry that limit.",
    )


def fast() -> Recipe:
    """The light network on the same data: ``terradelta train recipes/levir_subset.py:fast ...``.

    66 minutes on a core and a part of another. Step 2,700 was best and ships, as ``--model fast``.
    """
    return replace(
        recipe(),
        name="mlla_sianet_light_levir_subset",
        network="mlla_sianet_light",
        steps=3600,
        warmup_steps=200,
        lr=1.5e-3,
        eval_every=900,
    )
