"""MLLA_SiaNet on the two archives of its paper, LEVIR-CD and SYSU-CD, in our four sizes.

Only the abstract is public: it says that every level of the decoder is supervised, and nothing of the optimiser. So
everything else here is ours, and stated: 100 epochs of 8 pairs, AdamW, a warm-up and one cosine, weights averaged over
the steps, and the augmentation of `Augmentation`, which draws what differs between two dates and is no change. Crops
are zoomed by up to a quarter. Validation is on whole images, as the network is used.

A name is ``METHOD_ARCHIVE``, e.g. ``terradelta train mlla_sianet_levir --data levir-cd:DIR -o RUN``.

None of these recipes was run here: how long they take and what they score is not known. One GPU is enough. What was run
is ``recipes/buildings.py``.
"""

from typing import Any

from terradelta.lab.evaluation import WHOLE
from terradelta.lab.networks.layers.efficientnet_lite import MEAN, STD
from terradelta.lab.training.config import IMAGENET_MEAN, IMAGENET_STD, Optimiser, Recipe, Schedule
from terradelta.lab.training.recipes.paper_data import LEVIR, TrainingData, paper_recipe

__all__ = ["mlla_sianet", "mlla_sianet_large", "mlla_sianet_light", "mlla_sianet_lite0"]


def mlla_sianet(data: TrainingData = LEVIR) -> Recipe:
    """MLLA_SiaNet, small: 89,000 steps of LEVIR-CD, 150,000 of SYSU-CD. Not run here."""
    return _mlla("mlla_sianet", data)


def mlla_sianet_large(data: TrainingData = LEVIR) -> Recipe:
    """MLLA_SiaNet on ResNet-34 from ImageNet, otherwise as `mlla_sianet`. Not run here."""
    return _mlla("mlla_sianet_large", data, **_FROM_IMAGENET)


def mlla_sianet_light(data: TrainingData = LEVIR) -> Recipe:
    """MLLA_SiaNet, light, otherwise as `mlla_sianet`. Not run here."""
    return _mlla("mlla_sianet_light", data)


def mlla_sianet_lite0(data: TrainingData = LEVIR) -> Recipe:
    """MLLA_SiaNet on EfficientNet-Lite0 from ImageNet, otherwise as `mlla_sianet`. Not run here."""
    return _mlla("mlla_sianet_lite0", data, encoder_weights="imagenet", encoder_lr=0.5, mean=MEAN, std=STD)


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
