"""The network of ``buildings`` on the DSIFN-subset: land cover and buildings, about 2 m a pixel.

    terradelta train recipes/landcover.py --from buildings --data DSIFN -o runs/landcover

DSIFN is a folder in LEVIR-CD's layout; the DSIFN-subset has 505 training and 80 validation pairs of 256 pixels.
Weights, threshold and calibration are chosen on the validation pairs, which show the city of the test pairs. These
weights do not ship: docs/results.md says what was found.
"""

from terradelta.lab.networks.layers.efficientnet_lite import MEAN, STD
from terradelta.lab.training.config import Augmentation, Recipe

AUGMENTATION = Augmentation(
    p_rotation=0.0,
    brightness=0.25,
    contrast=0.25,
    saturation=0.5,
    hue=0.06,
    p_colour=0.8,
    p_blur=0.15,
    p_noise=0.1,
    p_cast=0.3,
    p_haze=0.2,
    p_jpeg=0.1,
    p_shift=0.3,
    p_twin=0.2,
    p_paste=0.2,
)


def recipe() -> Recipe:
    """The weights ``landcover``; ``--from`` names those of ``buildings``."""
    return Recipe(
        name="landcover",
        network="mlla_sianet_lite0",
        encoder_lr=0.1,
        mean=MEAN,
        std=STD,
        change_crops=0.3,
        zoom=(("", 0.45, 1.0),),
        augmentation=AUGMENTATION,
        steps=700,
        warmup_steps=70,
        batch_size=8,
        lr=1.0e-3,
        weight_decay=0.05,
        final_lr=0.01,
        ema_decay=0.995,
        eval_every=100,
        precision="bf16-mixed",
        seed=1,
        workers=0,
        finds="changes of land cover: buildings, roads, fields, bare ground, water",
        gsd_m=(1.2, 2.0),
        data="DSIFN-subset: part of DSIFN (Zhang et al. 2020, ISPRS J. 166:183-200), 505 training pairs",
        licence="Non-commercial research use only: the weights were fitted on DSIFN and LEVIR-CD, which say so.",
    )
