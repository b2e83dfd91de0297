"""MLLA_SiaNet on the two archives of its paper, LEVIR-CD and SYSU-CD, in our three sizes.

Only the abstract is public: it says that every level of the decoder is supervised, and nothing of the optimiser. So
everything else here is ours, and stated: 100 epochs of 8 pairs, AdamW, a warm-up and one cosine, weights averaged over
the steps, and the augmentation of `Augmentation`, which draws what differs between two dates and is no change. Crops
are zoomed by up to a quarter. Validation is on whole images, as the network is used.

None of these recipes was run here: how long they take and what they score is not known. One GPU is enough. What was run
is ``recipes/buildings.py``.
"""

from typing import Any

from terradelta.lab.evaluation import WHOLE
from terradelta.lab.training.config import IMAGENET_MEAN, IMAGENET_STD, Optimiser, Recipe, Schedule
from terradelta.lab.training.recipes.paper_data import LEVIR, SYSU, TrainingData, paper_recipe

__all__ = [
    "mlla_sianet_large_levir",
    "mlla_sianet_large_sysu",
    "mlla_sianet_levir",
    "mlla_sianet_light_levir",
    "mlla_sianet_light_sysu",
    "mlla_sianet_sysu",
]


def mlla_sianet_levir() -> Recipe:
    """MLLA_SiaNet, small, on LEVIR-CD: 445 pairs of 1024 x 1024 pixels, 7,120 crops, 89,000 steps. Not run here.

    terradelta train mlla_sianet_levir --data levir-cd:DIR -o RUN
    """
    return _mlla("mlla_sianet", LEVIR)


def mlla_sianet_sysu() -> Recipe:
    """MLLA_SiaNet, small, on SYSU-CD: 12,000 pairs of 256 x 256 pixels, 150,000 steps. Not run here.

    terradelta train mlla_sianet_sysu --data sysu-cd:DIR -o RUN
    """
    return _mlla("mlla_sianet", SYSU)


def mlla_sianet_large_levir() -> Recipe:
    """MLLA_SiaNet on ResNet-34 from ImageNet, on LEVIR-CD: 89,000 steps. Not run here.

    terradelta train mlla_sianet_large_levir --data levir-cd:DIR -o RUN
    """
    return _mlla("mlla_sianet_large", LEVIR, **_FROM_IMAGENET)


def mlla_sianet_large_sysu() -> Recipe:
    """MLLA_SiaNet on ResNet-34 from ImageNet, on SYSU-CD: 150,000 steps. Not run here.

    terradelta train mlla_sianet_large_sysu --data sysu-cd:DIR -o RUN
    """
    return _mlla("mlla_sianet_large", SYSU, **_FROM_IMAGENET)


def mlla_sianet_light_levir() -> Recipe:
    """MLLA_SiaNet, light, on LEVIR-CD: 89,000 steps. Not run here.

    terradelta train mlla_sianet_light_levir --data levir-cd:DIR -o RUN
    """
    return _mlla("mlla_sianet_light", LEVIR)


def mlla_sianet_light_sysu() -> Recipe:
    """MLLA_SiaNet, light, on SYSU-CD: 150,000 steps. Not run here.

    terradelta train mlla_sianet_light_sysu --data sysu-cd:DIR -o RUN
    """
    return _mlla("mlla_sianet_light", SYSU)


_FROM_IMAGENET = {"encoder_weights": "resnet34", "mean": IMAGENET_MEAN, "std": IMAGENET_STD, "lr": 5e-4}


def _mlla(network: str, data: TrainingData, **fields: Any) -> Recipe:  # noqa: ANN401  any field
    ours: dict[str, Any] = {
        "loss": "multi_level",
        "change_crops": 0.5,
        "zoom": (("", 0.75, 1.25),),
        "optimiser": Optimiser("adamw"),
        "schedule": Schedule("cosine"),
        "lr": 1e-3,
        "final_lr": 0.01,
        "weight_decay": 0.01,
        "warmup_steps": 1000,
        "clip_norm": 1.0,
        "ema_decay": 0.998,
        "precision": "bf16-mixed",
        "validation": WHOLE,
    }
    return paper_recipe(network, data, network=network, epochs=100, batch_size=8, **{**ours, **fields})
