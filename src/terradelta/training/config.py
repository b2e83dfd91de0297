"""`Recipe`: everything a training run depends on, in one frozen value."""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

from terradelta.errors import InputError
from terradelta.losses import LOSSES

__all__ = ["Augmentation", "Recipe"]


@dataclass(frozen=True)
class Augmentation:
    """Random changes to training crops; strengths are half-widths of uniform ranges, ``p_`` are probabilities."""

    rotation_deg: float = 10.0
    """Rotation of both dates together, degrees."""
    p_rotation: float = 0.3
    brightness: float = 0.25
    """Per date, as a fraction; so are contrast and saturation."""
    contrast: float = 0.25
    saturation: float = 0.25
    hue: float = 0.03
    """Per date, as a fraction of the colour circle."""
    p_colour: float = 0.8
    p_blur: float = 0.2
    """Gaussian blur of one date, sigma 0.3 to 1.5 pixels."""
    noise: float = 0.02
    """Standard deviation of Gaussian noise, as a fraction of full scale."""
    p_noise: float = 0.2
    shift_px: int = 1
    """Misregistration: the second date is moved by up to this many whole pixels along each axis."""
    p_shift: float = 0.3


@dataclass(frozen=True)
class Recipe:
    """A training run. Derive others with `dataclasses.replace`; there is no inheritance of files."""

    name: str
    """Name of the weights that come out."""
    network: str = "mlla_sianet"
    """Registered network (see ``terradelta models``)."""
    network_args: dict[str, Any] = field(default_factory=dict)
    """Arguments of the network's builder."""
    loss: str = "multi_level"
    """What is minimised; a key of ``terradelta.losses.LOSSES``."""
    bands: tuple[str, ...] = ("red", "green", "blue")
    """Names of the images' bands, in file order."""
    scale: float = 255.0
    """Raw value that counts as 1."""
    mean: tuple[float, ...] | None = None
    """Mean of each band in units of ``scale``; None: measured on training crops."""
    std: tuple[float, ...] | None = None
    """Standard deviation likewise."""
    crop_px: int = 256
    """Side of a training crop; a multiple of the network's stride."""
    change_crops: float = 0.6
    """Share of crops that are centred near a changed pixel; the others lie anywhere."""
    zoom: tuple[tuple[str, float, float], ...] = (("", 0.75, 1.33),)
    """(name prefix, low, high): side of the window that becomes a crop, in units of ``crop_px``, log-uniform; the first
    prefix that fits a pair's name counts. 0.5 enlarges twofold: for images of half the target's resolution."""
    augmentation: Augmentation = Augmentation()
    steps: int = 20_000
    """Optimiser steps."""
    batch_size: int = 8
    """Pairs in a step, of each device."""
    lr: float = 1e-3
    """Highest learning rate (AdamW), reached after ``warmup_steps``, then falling as a cosine to ``lr * final_lr``."""
    final_lr: float = 0.01
    warmup_steps: int = 200
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    ema_decay: float = 0.998
    """Weights that are evaluated and kept are an exponential moving average with this decay a step."""
    precision: str = "bf16-mixed"
    """Lightning Fabric's precision: ``32-true``, ``bf16-mixed``, ``16-mixed``."""
    eval_every: int = 500
    """Steps between evaluations on the validation split."""
    save_every: int = 100
    """Steps between checkpoints."""
    patience: int | None = None
    """Stop after this many evaluations without a better validation F1; None: run all steps."""
    workers: int = 0
    """Processes that load and augment; 0: the training process does. The samples are the same for any number."""
    cache_mb: int = 2048
    """Decoded images kept in memory, of each loading process."""
    threads: int | None = 1
    """Compute threads on a CPU; None: torch's default, which is slow on a machine that does something else too."""
    seed: int = 0
    gsd_m: tuple[float, float] | None = None
    """Range of ground sampling distance of the crops, metres; goes into the card."""
    data: str = ""
    """What the data is; goes into the card."""
    licence: str = "none stated: set Recipe.licence"
    """Licence of the weights; goes into the card."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "crop_px", "eval_every", "save_every"):
            if getattr(self, name) < 1:
                raise InputError(f"recipe {self.name!r}: {name} is {getattr(self, name)}; it must be at least 1")
        if self.loss not in LOSSES:
            raise InputError(f"recipe {self.name!r}: loss is {self.loss!r}; it must be one of {', '.join(LOSSES)}")
        if not 0 <= self.change_crops <= 1:
            raise InputError(f"recipe {self.name!r}: change_crops is {self.change_crops}; it must be from 0 to 1")
        if not 0 <= self.ema_decay < 1:
            raise InputError(f"recipe {self.name!r}: ema_decay is {self.ema_decay}; it must be from 0 to below 1")

    def zoom_of(self, name: str) -> tuple[float, float]:
        """Range of window sides for a pair of this name; (1, 1) if no prefix fits."""
        return next(((low, high) for prefix, low, high in self.zoom if name.startswith(prefix)), (1.0, 1.0))

    def to_json(self) -> str:
        """The recipe as JSON, for the run folder."""
        return json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True)
