"""`Recipe`: everything a training run depends on, in one frozen value."""

import dataclasses
import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from terradelta.errors import InputError
from terradelta.lab.evaluation import WHOLE, Scoring
from terradelta.lab.losses import LOSSES
from terradelta.strangers import read_json

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "Augmentation", "Optimiser", "Recipe", "Schedule"]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Red, green and blue of ImageNet, in units of full scale: what torchvision's weights were fitted with."""


@dataclass(frozen=True)
class Augmentation:
    """Random changes to training crops; strengths are half-widths of uniform ranges, ``p_`` are probabilities."""

    orientations: Literal["all", "flips", "none"] = "all"
    """``all``: one of the eight orientations of the square; ``flips``: mirrored along each axis or not; both dates and
    the label alike."""
    rotation_deg: float | tuple[float, float] = 10.0
    """Rotation of both dates together, degrees: up to this far either way, or from one angle to another,
    counterclockwise. What comes in at the corners is 0, and unchanged."""
    p_rotation: float = 0.3
    brightness: float = 0.25
    """Per date, as a fraction; so are contrast and saturation."""
    contrast: float = 0.25
    saturation: float = 0.25
    hue: float = 0.03
    """Per date, as a fraction of the colour circle."""
    p_colour: float = 0.8
    p_blur: float = 0.2
    """Gaussian blur."""
    blur_px: tuple[float, float] = (0.3, 1.5)
    """Its lowest and highest standard deviation, pixels."""
    blur_dates: Literal["each", "both"] = "each"
    """``each``: one date or the other, or both apart; ``both``: together and alike."""
    noise: float = 0.02
    """Standard deviation of Gaussian noise, as a fraction of full scale."""
    p_noise: float = 0.2
    shift_px: int = 1
    """Misregistration: the second date is moved by up to this many whole pixels along each axis."""
    p_shift: float = 0.3
    cast: float = 0.2
    """Colour cast of one date: each band is multiplied by a factor of its own, up to this far from 1."""
    p_cast: float = 0.0
    haze: float = 0.5
    """Up to this share of one date's light comes from haze as bright as its brightest pixels."""
    p_haze: float = 0.0
    jpeg: tuple[int, int] = (30, 95)
    """Lowest and highest quality of the JPEG that one date went through."""
    p_jpeg: float = 0.0
    p_twin: float = 0.0
    """Unchanged twins: both dates are one of the two, in two lights, and nothing has changed."""
    p_paste: float = 0.0
    """The changes of another crop are pasted into one date, with soft edges."""

    def __post_init__(self) -> None:
        _check_choice("Augmentation.orientations", self.orientations, Augmentation, "orientations")
        _check_choice("Augmentation.blur_dates", self.blur_dates, Augmentation, "blur_dates")
        if not 0 < self.blur_px[0] <= self.blur_px[1]:
            raise InputError(f"Augmentation.blur_px is {self.blur_px}; it must be two numbers above 0, the lower first")

    @property
    def cuts_off(self) -> bool:
        """Whether it ends in values from 0 to 1: light, colours and noise lead beyond, where no image has values."""
        return any((self.p_colour, self.p_noise, self.p_cast, self.p_haze))

    @classmethod
    def only(cls, **chosen: Any) -> "Augmentation":  # noqa: ANN401  any field
        """What is named and nothing else: probabilities that are not given are 0, and crops are not turned."""
        off = {f.name: 0.0 for f in dataclasses.fields(cls) if f.name.startswith("p_")}
        return cls(**{"orientations": "none", **off, **chosen})


@dataclass(frozen=True)
class Optimiser:
    """How gradients become steps; the rate and the weight decay are fields of `Recipe`."""

    kind: Literal["adamw", "adam", "sgd"] = "adamw"
    """``adamw`` decays weights apart from the gradient (Loshchilov & Hutter 2019); ``adam`` and ``sgd`` add the decay
    to the gradient, as torch does."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the running means of gradient and square, of Adam and AdamW."""
    momentum: float = 0.9
    """Of SGD."""
    decay_all: bool = False
    """Weight decay on every parameter, as plain torch does; False: on kernels, not on biases and normalisation."""

    def __post_init__(self) -> None:
        _check_choice("Optimiser.kind", self.kind, Optimiser, "kind")
        for name, value in (("betas", self.betas[0]), ("betas", self.betas[1]), ("momentum", self.momentum)):
            if not 0 <= value < 1:
                raise InputError(f"Optimiser.{name} holds {value}; it must be from 0 to below 1")


@dataclass(frozen=True)
class Schedule:
    """How the learning rate moves between ``Recipe.lr`` and ``Recipe.lr * Recipe.final_lr``, after the warm-up.

    Times are shares of the steps after the warm-up, so that a run with fewer steps keeps its shape: a paper's 8 of 100
    epochs are ``8 / 100``.
    """

    kind: Literal["cosine", "cosine_waves", "linear", "step", "exponential", "plateau", "constant"] = "cosine"
    """``cosine``: half a wave down, once. ``cosine_waves``: half a wave down in each ``period``, up in the next one.
    ``linear``: full rate for ``hold``, then straight down. ``step``: times ``factor`` after each whole ``period``.
    ``exponential``: the same without stairs. ``plateau``: times ``factor`` when more than ``patience`` evaluations in a
    row brought no better validation F1. ``constant``: no change. The last four do not use ``final_lr``."""
    period: float = 1.0
    hold: float = 0.0
    factor: float = 0.1
    patience: int = 5

    def __post_init__(self) -> None:
        _check_choice("Schedule.kind", self.kind, Schedule, "kind")
        if not 0 < self.period <= 1:
            raise InputError(f"Schedule.period is {self.period}; it must be above 0 and at most 1, a share of the run")
        if not 0 <= self.hold < 1:
            raise InputError(f"Schedule.hold is {self.hold}; it must be from 0 to below 1, a share of the run")
        if not 0 < self.factor <= 1:
            raise InputError(f"Schedule.factor is {self.factor}; it must be above 0 and at most 1")
        if self.patience < 0:
            raise InputError(f"Schedule.patience is {self.patience}; it must be 0 or more evaluations")


def _check_choice(name: str, given: str, owner: type, field_name: str) -> None:
    allowed = get_args(owner.__annotations__[field_name])
    if given not in allowed:
        raise InputError(f"{name} is {given!r}; it must be one of {', '.join(allowed)}")


@dataclass(frozen=True)
class Recipe:
    """A training run. Derive others with `dataclasses.replace`; there is no inheritance of files.

    A run counts optimiser steps. An epoch of an archive of n crops is ``ceil(n / (batch_size * accumulate *
    devices))`` of them; the functions of `terradelta.lab.training.recipes` do that sum.
    """

    name: str
    """Name of the weights that come out."""
    network: str = "mlla_sianet"
    """Registered network (see ``terradelta models``)."""
    network_args: dict[str, Any] = field(default_factory=dict)
    """Arguments of the network's builder."""
    encoder_weights: str | None = None
    """ImageNet weights that the encoder starts from: a name or a file, see
    `lab.networks.pretrained.initialise_encoder`. None: random ones."""
    start: str | None = None
    """Weights that the whole network starts from, in place of random ones and ``encoder_weights``: a run folder, a
    checkpoint, a file of safetensors, or the name of weights that ship; their network must be this one."""
    frozen: tuple[str, ...] = ()
    """Parts of the network that stay as they begin, weights and batch statistics, e.g. ``encoder.conv_stem``: with
    ImageNet weights the first stages know edges and colours already, and without them a step costs little over half."""
    frozen_statistics: bool = False
    """Batch normalisation keeps the statistics that the network starts with, as for fine-tuning on few pairs; its gains
    and biases are still fitted."""
    encoder_lr: float = 1.0
    """Learning rate of the encoder, as a share of ``lr``."""
    loss: str = "multi_level"
    """What is minimised; a key of ``terradelta.lab.losses.LOSSES``."""
    loss_args: dict[str, Any] = field(default_factory=dict)
    """Arguments of the loss besides outputs and target, e.g. ``{"auxiliary_weight": 0.4}``."""
    bands: tuple[str, ...] = ("red", "green", "blue")
    """Names of the images' bands, in file order."""
    scale: float = 255.0
    """Raw value that counts as 1."""
    mean: tuple[float, ...] | None = None
    """Mean of each band in units of ``scale``; None: measured on training crops."""
    std: tuple[float, ...] | None = None
    """Standard deviation likewise."""
    stretch: tuple[float, float] | None = None
    """Percentiles of a pair's values that become 0 and ``scale`` where its images are not 8 bit, as
    `ModelCard.stretch`; None: values are taken as they are stored."""
    crop_px: int = 256
    """Side of a training crop; a multiple of the network's stride."""
    change_crops: float = 0.6
    """Share of crops that are centred near a changed pixel, of a pair that holds one; the others lie anywhere."""
    sampling: Literal["pairs", "area"] = "pairs"
    """What is drawn alike often: ``pairs``, whatever their size, or equal ``area``, so that large images give more."""
    oftener: tuple[tuple[str, float], ...] = ()
    """(name prefix, factor): pairs whose names begin so are drawn this many times as often; the first prefix that fits
    counts, and 1 where none does. For what there is too little of, such as images of the target's resolution."""
    replay: tuple[int, float] | None = None
    """(n, share): the pairs after the first n are of earlier data, and give this share of the crops, so that what was
    learned from them is kept; within either part pairs are drawn alike often. None: all pairs are alike."""
    validate_on: tuple[str, ...] = ()
    """Name prefixes of the validation pairs that count, such as those of the resolution that is meant; empty: all."""
    zoom: tuple[tuple[str, float, float], ...] = (("", 0.75, 1.33),)
    """(name prefix, low, high): side of the window that becomes a crop, in units of ``crop_px``, log-uniform; the first
    prefix that fits a pair's name counts. 0.5 enlarges twofold: for images of half the target's resolution."""
    augmentation: Augmentation = Augmentation()
    steps: int = 20_000
    """Optimiser steps."""
    batch_size: int = 8
    """Pairs that go through the network at once, on each device."""
    accumulate: int = 1
    """Batches whose gradients are averaged into one step: less memory than one large batch, the same gradient (batch
    normalisation still sees single batches)."""
    devices: int = 1
    """Processes that train together, one a device, each on its own ``batch_size`` pairs."""
    optimiser: Optimiser = Optimiser()
    schedule: Schedule = Schedule()
    lr: float = 1e-3
    """Highest learning rate, reached in a straight line after ``warmup_steps``."""
    final_lr: float = 0.01
    """Lowest learning rate, as a share of ``lr``."""
    warmup_steps: int = 200
    weight_decay: float = 0.01
    clip_norm: float | None = 1.0
    """Gradients are scaled down to this norm; None: never."""
    ema_decay: float = 0.998
    """Weights that are evaluated and kept are an exponential moving average with this decay a step."""
    precision: str = "bf16-mixed"
    """Lightning Fabric's precision: ``32-true``, ``bf16-mixed`` (float32 on a CPU without bfloat16), ``16-mixed``."""
    eval_every: int = 500
    """Steps between evaluations on the validation split."""
    validation: Scoring = WHOLE
    """What the network sees at once there: whole images, or patches for networks whose cost grows faster than the image
    and for papers that cut their images."""
    save_every: int = 100
    """Steps between checkpoints."""
    patience: int | None = None
    """Stop after this many evaluations without a better validation F1; None: run all steps."""
    workers: int = 0
    """Processes that load and augment, at most one a core; 0: the training process does. The samples are the same for
    any number."""
    cache_mb: int = 2048
    """Decoded images kept in memory, of each loading process."""
    check_data: bool = True
    """Read every file of both splits before the first step of a new run; False: only look at names, sizes, bands."""
    threads: int | None = 1
    """Compute threads on a CPU; None: torch's default, which is slow on a machine that does something else too."""
    seed: int = 0
    finds: str = ""
    """What the labels show, as the end of a sentence, e.g. ``changed buildings``; goes into the card."""
    gsd_m: tuple[float, float] | None = None
    """Range of ground sampling distance of the crops, metres; goes into the card."""
    data: str = ""
    """What the data is; goes into the card."""
    licence: str = "none stated: set Recipe.licence"
    """Licence of the weights; goes into the card."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "devices", "crop_px", "eval_every", "save_every"):
            if getattr(self, name) < 1:
                raise InputError(f"recipe {self.name!r}: {name} is {getattr(self, name)}; it must be at least 1")
        if self.loss not in LOSSES:
            raise InputError(f"recipe {self.name!r}: loss is {self.loss!r}; it must be one of {', '.join(LOSSES)}")
        self._check_loss_args()
        _check_choice("Recipe.sampling", self.sampling, Recipe, "sampling")
        if self.replay is not None and not (self.replay[0] >= 1 and 0 <= self.replay[1] <= 1):
            raise InputError(
                f"recipe {self.name!r}: replay is {self.replay}; it must be a number of pairs, 1 or more, and a share "
                "from 0 to 1"
            )
        for name in ("change_crops", "final_lr", "encoder_lr"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"recipe {self.name!r}: {name} is {getattr(self, name)}; it must be from 0 to 1")
        for prefix, factor in self.oftener:
            if factor <= 0:
                raise InputError(f"recipe {self.name!r}: oftener names {prefix!r} {factor} times; it must be above 0")
        if not 0 <= self.ema_decay < 1:
            raise InputError(f"recipe {self.name!r}: ema_decay is {self.ema_decay}; it must be from 0 to below 1")

    def _check_loss_args(self) -> None:
        taken = [name for name in list(inspect.signature(LOSSES[self.loss]).parameters)[2:] if name != "mask"]
        unknown = sorted(set(self.loss_args) - set(taken))
        if unknown:
            raise InputError(
                f"recipe {self.name!r}: loss {self.loss!r} takes no {', '.join(unknown)}; it takes "
                f"{', '.join(taken) or 'no arguments'}"
            )

    def weight_of(self, name: str) -> float:
        """How many times as often as others a pair of this name is drawn."""
        return next((factor for prefix, factor in self.oftener if name.startswith(prefix)), 1.0)

    def zoom_of(self, name: str) -> tuple[float, float]:
        """Range of window sides for a pair of this name; (1, 1) if no prefix fits."""
        return next(((low, high) for prefix, low, high in self.zoom if name.startswith(prefix)), (1.0, 1.0))

    def to_json(self) -> str:
        """The recipe as JSON, for the run folder."""
        return json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True)

    def differences(self, text: str) -> list[str]:
        """Names of the fields in which a recipe of `to_json` differs from this one.

        A recipe that an older version wrote lacks fields; they count with the defaults that keep what it did.

        Raises:
            InputError: if the text is no recipe.
        """
        try:
            then = read_json(text)
        except ValueError as error:
            raise InputError(f"the recipe of the run is not readable ({error})") from error
        if not isinstance(then, dict):
            raise InputError("the recipe of the run is not readable (it is no JSON object)")
        now = read_json(self.to_json())
        then = _completed(then, read_json(Recipe("").to_json()))
        return sorted(key for key in then.keys() | now.keys() if then.get(key) != now.get(key))


def _completed(fields: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """``fields``, and the defaults of those that are not there; inside the nested values too."""
    whole = {**defaults, **fields}
    for key, value in defaults.items():
        if isinstance(value, dict) and isinstance(whole[key], dict):
            whole[key] = _completed(whole[key], value)
    return whole
