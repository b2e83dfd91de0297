"""MCCRNet on the four archives of its paper (Ke & Zhang 2021, section 2.4.2).

As printed: 256 x 256 crops; VGG16 from ImageNet; Adam with β = (0.5, 0.99) and a rate of 1e-4; a cosine that falls for
50 epochs and rises for the next 50; random crop, flip, and rotation from -30° to 30°; EAW loss with β = 0.5 and
cross-entropy, and λ = 0.4 for the auxiliary head.

Paper: prints neither batch size, nor normalisation, nor the lowest rate. We take 8 pairs a step, in two batches of 4,
ImageNet's mean and deviation, as its weights need, and a rate that falls to 0. Every crop is rotated. A crop lies
anywhere in an image, so the printed cutting into patches is not needed first; an epoch has as many crops as it gives.

Hardware of the paper: two GPUs with 12 GB. None of these recipes was run here: how long they take and what they score
is not known. The published scores are those of ``terradelta models mccrnet``.
"""

from terradelta.lab.training.config import IMAGENET_MEAN, IMAGENET_STD, Augmentation, Optimiser, Recipe, Schedule
from terradelta.lab.training.recipes.paper_data import CDD, DSIFN, GZ, LEVIR, TrainingData, paper_recipe

__all__ = ["mccrnet_cdd", "mccrnet_dsifn", "mccrnet_gz", "mccrnet_levir"]


def mccrnet_levir() -> Recipe:
    """MCCRNet on LEVIR-CD: 445 pairs of 1024 x 1024 pixels, 7,120 crops, 89,000 steps. Not run here.

    terradelta train mccrnet_levir --data levir-cd:DIR -o RUN
    """
    return _mccrnet(LEVIR)


def mccrnet_cdd() -> Recipe:
    """MCCRNet on CDD: 10,000 pairs of 256 x 256 pixels, 125,000 steps. Not run here.

    terradelta train mccrnet_cdd --data cdd:DIR -o RUN
    """
    return _mccrnet(CDD)


def mccrnet_gz() -> Recipe:
    """MCCRNet on Google Data GZ: 9 scenes, taken for 3,420 crops, 42,800 steps. Not run here.

    terradelta train mccrnet_gz --data gz:DIR -o RUN
    """
    return _mccrnet(GZ)


def mccrnet_dsifn() -> Recipe:
    """MCCRNet on DSIFN: 3,600 pairs of 512 x 512 pixels, 14,400 crops, 180,000 steps. Not run here.

    terradelta train mccrnet_dsifn --data dsifn:DIR -o RUN
    """
    return _mccrnet(DSIFN)


def _mccrnet(data: TrainingData) -> Recipe:
    return paper_recipe(
        "mccrnet",
        data,
        network="mccrnet",
        encoder_weights="vgg16",
        loss="eaw_ce",
        loss_args={"auxiliary_weight": 0.4},
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        augmentation=Augmentation.only(orientations="flips", rotation_deg=30.0, p_rotation=1.0),
        epochs=100,
        batch_size=4,
        accumulate=2,
        optimiser=Optimiser("adam", betas=(0.5, 0.99)),
        schedule=Schedule("cosine_waves", period=50 / 100),
        lr=1e-4,
        weight_decay=0.0,
    )
