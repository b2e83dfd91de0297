"""The archives of the papers as training data: how many crops an epoch has, and what the card says of them."""

import math
from dataclasses import dataclass
from typing import Any

from terradelta.lab.data.archives import ARCHIVES
from terradelta.lab.evaluation import Scoring
from terradelta.lab.training.config import Recipe

__all__ = ["CDD", "DSIFN", "GZ", "LEVIR", "SYSU", "TRAINING_DATA", "TrainingData", "paper_recipe"]

CROP_PX = 256


@dataclass(frozen=True)
class TrainingData:
    """One archive, cut into 256 x 256 pixels as the papers do."""

    key: str
    """The last part of a recipe's name."""
    archive: str
    """Key of ``terradelta.lab.data.archives.ARCHIVES``."""
    crops: int
    """Crops of 256 x 256 pixels, side by side, in the training split: one epoch."""
    gsd_m: tuple[float, float]
    finds: str
    """What its labels show."""

    @property
    def name(self) -> str:
        """The archive's title."""
        return ARCHIVES[self.archive].title

    @property
    def text(self) -> str:
        """Title and citation, for the card."""
        return f"{self.name}: {ARCHIVES[self.archive].citation}"

    @property
    def licence(self) -> str:
        """What the weights may be used for, as far as the archive states terms."""
        return f"The weights were fitted on {self.name}, whose terms bind: {ARCHIVES[self.archive].licence}."


LEVIR = TrainingData("levir", "levir-cd", 445 * 16, (0.5, 0.5), "buildings that appeared or disappeared")
CDD = TrainingData(
    "cdd", "cdd", 10_000, (0.03, 1.0), "things that appeared or disappeared (buildings, roads, cars), seasons apart"
)
GZ = TrainingData("gz", "gz", 9 * 19 * 20, (0.55, 0.55), "buildings that appeared or disappeared")
"""Its scenes differ in size; 9 of the largest one, 4936 x 5224, would give this many crops, so an epoch is longer here
than a pass over the data."""
DSIFN = TrainingData("dsifn", "dsifn", 3600 * 4, (2.0, 2.0), "changed land cover: buildings, roads, fields, water")
SYSU = TrainingData(
    "sysu", "sysu-cd", 12_000, (0.5, 0.5), "new buildings and roads, ground works, changed vegetation and shores"
)
TRAINING_DATA = {data.key: data for data in (LEVIR, CDD, GZ, DSIFN, SYSU)}


def paper_recipe(name: str, data: TrainingData, *, epochs: int, batch_size: int, **fields: Any) -> Recipe:  # noqa: ANN401
    """A recipe of a paper: crops anywhere, no weight averaging, no clipping, float32, unless ``fields`` say otherwise.

    Steps are ``epochs`` times the batches of an epoch, the last of which may be short. Evaluated after every epoch, on
    patches of 256 x 256 pixels, because the papers cut their images.

    Args:
        name: of the recipe, without the archive.
        data: the archive.
        epochs: passes over the archive.
        batch_size: pairs at once on a device.
        **fields: any other field of `Recipe`.
    """
    accumulate = fields.get("accumulate", 1)
    epoch = math.ceil(data.crops / (batch_size * accumulate))
    complete: dict[str, Any] = {
        "name": f"{name}_{data.key}",
        "crop_px": CROP_PX,
        "change_crops": 0.0,
        "zoom": (("", 1.0, 1.0),),
        "steps": epochs * epoch,
        "batch_size": batch_size,
        "warmup_steps": 0,
        "final_lr": 0.0,
        "clip_norm": None,
        "ema_decay": 0.0,
        "precision": "32-true",
        "eval_every": epoch,
        "save_every": min(epoch, 200),
        "validation": Scoring("patches", CROP_PX),
        "workers": 4,
        "finds": data.finds,
        "gsd_m": data.gsd_m,
        "data": data.text,
        "licence": data.licence,
    }
    return Recipe(**{**complete, **fields})
