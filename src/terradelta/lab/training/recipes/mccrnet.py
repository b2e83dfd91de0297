"""MCCRNet on the four archives of its paper (Ke & Zhang 2021, section 2.4.2).

As printed: 256 x 256 crops; VGG16 from ImageNet; Adam with β = (0.5, 0.99) and a rate of 1e-4; a cosine that falls for
50 epochs and rises for the next 50; random crop, flip, and rotation from -30° to 30°; EAW loss with β = 0.5 and
cross-entropy, and λ = 0.4 for the auxiliary head.

Paper: prints neither batch size, nor normalisation, nor the lowest rate. We take 8 pairs a step, in two batches of 4,
ImageNet's mean and deviation, as its weights need, and a rate that falls to 0. Every crop is rotated. A crop lies
anywhere in an image, so the printed cutting into patches is not needed first; an epoch has as many crops as it gives.

A name is ``mccrnet_ARCHIVE``, e.g. ``terradelta train mccrnet_levir --data levir-cd:DIR -o RUN``.

Hardware of the paper: two GPUs with 12 GB. None of these recipes was run here: how long they take and what they score
is not known. The published scores are those of ``terradelta models mccrnet``.
"""

from terradelta.lab.training.config import IMAGENET_MEAN, IMAGENET_STD, Augmentation, Optimiser, Recipe, Schedule
from terradelta.lab.training.recipes.paper_data import LEVIR, TrainingData, paper_recipe

__all__ = ["mccrnet"]


def mccrnet(data: TrainingData = LEVIR) -> Recipe:
    """MCCRNet: 89,000 steps of LEVIR-CD, 125,000 of CDD, 42,800 of Google Data GZ, 180,000 of DSIFN. Not run here."""
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
