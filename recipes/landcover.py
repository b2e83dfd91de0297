"""The network of ``buildings`` on the DSIFN-subset: land cover and buildings, about 2 m a pixel.

    terradelta train recipes/landcover.py --from buildings --data DSIFN -o runs/landcover

DSIFN is a folder in LEVIR-CD's layout; the DSIFN-subset has 505 training and 80 validation pairs of 256 pixels.
Weights, threshold and calibration are chosen on the validation pairs, which show the city of the test pairs.
"""

from terradelta.lab.networks.layers.efficientnet_lite import MEAN, STD
from terradelta.lab.training.config import Augmentation, Recipe


def recipe() -> Recipe:
    """The weights ``landcover``; ``--from`` names those of ``buildings``."""
    return Recipe(
        name="landcover",
        network="mlla_sianet_lite0",
        frozen=("encoder.conv_stem", "encoder.bn0", "encoder.blocks.0"),
        encoder_lr=0.5,
        mean=MEAN,
        std=STD,
        change_crops=0.3,
        zoom=(("", 0.6, 1.0),),
        augmentation=Augmentation(
            p_rotation=0.0,
            saturation=0.4,
            hue=0.08,
            p_blur=0.15,
            p_noise=0.1,
            p_cast=0.4,
            p_haze=0.25,
            p_jpeg=0.15,
            p_twin=0.1,
        ),
        steps=700,
        warmup_steps=50,
        batch_size=16,
        lr=1.5e-3,
        ema_decay=0.99,
        eval_every=100,
        precision="32-true",
        workers=0,
        finds="changes of land cover: buildings, roads, fields, bare ground, water",
        gsd_m=(1.2, 2.0),
        data="DSIFN-subset: part of DSIFN (Zhang et al. 2020, ISPRS J. 166:183-200), 505 training pairs",
        licence="Non-commercial research use only: the weights were fitted on DSIFN and LEVIR-CD, which say so.",
    )
