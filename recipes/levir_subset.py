"""MLLA_SiaNet on LEVIR-subset: the weights that ship.

    terradelta train recipes/levir_subset.py --data DIR -o runs/levir

DIR is a folder in LEVIR-CD's layout.
"""

from terradelta.training.config import Recipe


def recipe() -> Recipe:
    """The default network on the LEVIR-subset; see the module's text."""
    return Recipe(
        name="mlla_sianet_levir_subset",
        network="mlla_sianet",
        mean=(0.3919, 0.3903, 0.3335),
        std=(0.1896, 0.1807, 0.1665),
        zoom=(("half512", 0.42, 0.85), ("", 0.75, 1.25)),
        steps=2500,
        batch_size=8,
        lr=1e-3,
        eval_every=500,
        workers=1,
        gsd_m=(0.4, 0.8),
        data="LEVIR-subset: part of LEVIR-CD (Chen & Shi 2020, Remote Sensing 12(10):1662), 578 training pairs",
        licence="Non-commercial research use only: the weights were fitted on LEVIR-CD images, which carry that limit.",
    )
