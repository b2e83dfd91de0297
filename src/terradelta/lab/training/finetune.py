"""Fine-tuning: weights that are there, fitted further on a few labelled pairs or on the verdicts of a review.

Made for 5 to 50 labelled tiles of some 256 x 256 pixels: a low and constant rate, the statistics of batch normalisation
and the first stages of the encoder as they were, weights averaged over the last steps. How many steps is the question
with so few pairs, so it is measured: on a validation split, or by cross-validation over the tiles, which also chooses
the threshold and says whether the model got better. Then all tiles are fitted for that many steps.
"""

import dataclasses
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import terradelta
from terradelta.card import ModelCard
from terradelta.errors import DataError, InputError, OutputExistsError
from terradelta.files import settle, unfinished, whole_file
from terradelta.geo.metres import ground_sampling_m
from terradelta.lab.data import open_pairs
from terradelta.lab.data.custom import ALL
from terradelta.lab.data.opening import find_data
from terradelta.lab.data.pairs import PairList, PairSource
from terradelta.lab.data.reviewed import ReviewedTiles, reviewed_tiles
from terradelta.lab.evaluation import Evaluation, evaluate
from terradelta.lab.evaluation.evaluator import image_names
from terradelta.lab.inference.torch_predictor import TorchPredictor
from terradelta.lab.losses import LOSSES
from terradelta.lab.metrics import LogitScaling
from terradelta.lab.networks import ChangeNetwork, model_info
from terradelta.lab.networks.checkpoint import load_network, save_network
from terradelta.lab.training.config import Augmentation, Recipe, Schedule
from terradelta.lab.training.heldback import Choice, Judgement, choose, deal, judge
from terradelta.lab.training.loop import Announce, Progress, Seen, fit, shown_by
from terradelta.lab.training.start import begun
from terradelta.lab.training.validation import CollapseWarning
from terradelta.predict.load import find_checkpoint

__all__ = ["FineTuned", "FineTuning", "finetune", "longest"]

FOLDS = 3
LEAST_TILES = 4
"""Tiles with change below which none is held back."""
EVALUATIONS = 8
"""How often a fold is scored; the last time after its last step."""
BATCH, LR = 4, 1e-3
_FIRST_STAGES = ("encoder.conv_stem", "encoder.bn0", *(f"encoder.blocks.{k}" for k in range(3)))
"""Of EfficientNet-Lite: they know edges and colours, and without them a step costs little over half."""
_MILD = Augmentation(
    p_rotation=0.0,
    brightness=0.15,
    contrast=0.15,
    saturation=0.15,
    hue=0.02,
    p_colour=0.6,
    p_blur=0.1,
    p_noise=0.05,
    p_shift=0.2,
)
_REQUEST, _DONE, _PARENT = "finetune.json", "best.ckpt", "parent.npy"

Pixels = NDArray[np.int64]


@dataclass(frozen=True)
class FineTuning:
    """What is to be fitted further, and on what."""

    model: str
    """As for `find_checkpoint`: shipped weights, a run, a checkpoint or safetensors."""
    run: Path
    """Folder of the run."""
    data: str | None = None
    """Labelled pairs, as for `open_pairs`: split ``train``, or all of data without splits; ``val``, if there is one,
    takes the place of cross-validation."""
    reviews: tuple[Path, ...] = ()
    """Folders that `map` made, with a review."""
    also: tuple[str, ...] = ()
    """Earlier data for replay."""
    replay: float = 0.25
    """Share of the crops that come from ``also``."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `Recipe` to set; ``steps`` are the most that are tried."""
    resume: bool = False
    device: str = "auto"

    def description(self) -> dict[str, Any]:
        """What the run depends on."""
        left_out = ("run", "resume", "device", "reviews", "changes")
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in left_out}
        return {
            **plain,
            "also": list(self.also),
            "reviews": list(map(str, self.reviews)),
            "changes": dict(self.changes),
        }


@dataclass(frozen=True)
class FineTuned:
    """What came out."""

    card: ModelCard
    judgement: Judgement | None
    """None where nothing could be held back."""
    how: str
    """On what it was judged, in words."""

    def lines(self) -> list[str]:
        """What to tell the user: scores before and after, and whether it got better."""
        if self.judgement is None:
            return [self.how]
        found, words = self.judgement.comparison, []
        for k, (name, scores) in enumerate((("before", found.first), ("after", found.second))):
            interval = self.judgement.intervals[k] if self.judgement.intervals else None
            said = f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
            words.append(
                f"{name} F1 {scores['f1']:.3f}{said}, precision {scores['precision']:.3f}, recall "
                f"{scores['recall']:.3f}"
            )
        alone = f"With a new threshold alone F1 is {self.judgement.threshold_alone:.3f}."
        return [f"On {self.how}: {'; '.join(words)}. {alone}", self.judgement.verdict]


def longest(tiles: int) -> int:
    """Optimiser steps that are tried with so many tiles."""
    return int(np.clip(EVALUATIONS * round(4 + tiles / 5), 40, 240))


@dataclass(frozen=True)
class _Labels:
    """The labelled pairs, and which of them belong together."""

    own: PairSource
    val: PairSource | None
    groups: tuple[int, ...]
    """Of each own pair; pairs of one place share a number."""
    changed: tuple[int, ...]
    """Changed pixels of each own pair."""
    reviewed: ReviewedTiles | None


def finetune(request: FineTuning, *, progress: Progress | None = None, announce: Announce | None = None) -> FineTuned:
    """Fit weights further; ``run/best.ckpt`` has the result with its card.

    Args:
        request: what.
        progress: as for `fit`.
        announce: as for `fit`.

    Raises:
        InputError: if the folder holds a run of another request, or labels do not suffice.
        OutputExistsError: if the folder is taken and ``resume`` is not set.
        ModelError: if there are no such weights.
        DataError: if the data cannot be used.
    """
    network, parent = load_network(find_checkpoint(request.model))
    begins = not (request.run / _REQUEST).is_file()
    _settle(request)
    try:
        labels = _labels(request, parent)
    except InputError:
        if begins:  # nothing was trained: the folder is free for another try
            shutil.rmtree(request.run)
        raise
    fitted, result = _Job(request, network, parent, labels, progress, announce).judged()
    save_network(fitted, result.card, request.run / _DONE)
    return result


def _settle(request: FineTuning) -> None:
    """Make sure that the folder is this run's."""
    run = request.run
    described = run / _REQUEST
    if described.is_file() and not request.resume:
        raise OutputExistsError(f"{run} holds a training run; go on with --resume, or name another folder")
    if not described.is_file() and run.exists() and (not run.is_dir() or set(run.iterdir()) - set(unfinished(run))):
        raise OutputExistsError(f"{run} is there already and holds no such run; name another folder")
    settle(
        described,
        request.description(),
        lambda names: InputError(
            f"{run} was started with other options than those given ({', '.join(names)}, see {described}); give the "
            "same, or name another folder"
        ),
    )


def _labels(request: FineTuning, parent: ModelCard) -> _Labels:
    own = val = None
    if request.data is not None:
        _, layout = find_data(request.data)
        own = open_pairs(request.data, ALL if layout.splits == (ALL,) else "train")
        val = open_pairs(request.data, "val") if "val" in layout.splits else None
    groups = list(range(len(own))) if own is not None else []
    reviewed = None
    if request.reviews:
        reviewed = reviewed_tiles(request.reviews, parent, request.run / "tiles")
        groups += [len(groups) + group for group in reviewed.groups]
        own = reviewed.pairs if own is None else own.joined(reviewed.pairs)
    if own is None:
        raise InputError("fine-tuning needs labels: name labelled pairs (--data) or reviewed products (--review)")
    changed = tuple(int(own.read(k).label.sum()) for k in range(len(own)))
    if not any(changed):
        raise DataError("no label holds a changed pixel; label changes too, or nothing can be learned")
    return _Labels(own, val, tuple(groups), changed, reviewed)


@dataclass(frozen=True)
class _Job:
    """One fine-tuning, its folder settled and its labels found."""

    request: FineTuning
    network: ChangeNetwork
    parent: ModelCard
    labels: _Labels
    progress: Progress | None
    announce: Announce | None

    def judged(self) -> tuple[ChangeNetwork, FineTuned]:
        """The network, and what is to be said of it."""
        labels = self.labels
        if labels.val is not None:
            return self._by_validation(labels.val)
        with_change = {group for group, pixels in zip(labels.groups, labels.changed, strict=True) if pixels}
        return self._by_folds() if len(with_change) >= LEAST_TILES else self._unjudged()

    def _by_validation(self, val: PairSource) -> tuple[ChangeNetwork, FineTuned]:
        """Steps and threshold by a validation split; then the training pairs are fitted for so many steps."""
        recipe = self._recipe(len(self.labels.own))
        folder = self.request.run / "validation"
        pixels = self._train(recipe, self.labels.own, val, folder)
        pixels[0] = self._of_parent(val, "parent_val.npy")
        choice = choose(pixels)
        judgement = judge(pixels, image_names(val), None, self._threshold)
        how = f"the {len(val)} validation pairs, which also chose {choice.steps} steps and the threshold"
        split = f"{val.split}, on which steps and threshold were chosen"
        return self._fit_all(choice.steps), self._result(choice, judgement, how, split)

    def _by_folds(self) -> tuple[ChangeNetwork, FineTuned]:
        """Steps and threshold by cross-validation; then all pairs are fitted."""
        own, groups = self.labels.own, self.labels.groups
        count = min(FOLDS, len(set(groups)))
        folds = deal(groups, self.labels.changed, count)
        recipe = self._recipe(len(own))
        found: dict[int, Pixels] = {}
        for fold in range(count):
            inside = [k for k, each in enumerate(folds) if each == fold]
            train = _part(own, [k for k, each in enumerate(folds) if each != fold])
            self._say(f"fold {fold + 1} of {count}: {len(inside)} tiles held back, {len(train)} to fit")
            folder = self.request.run / "folds" / str(fold + 1)
            for steps, values in self._train(recipe, train, _part(own, inside), folder).items():
                found.setdefault(steps, np.zeros((len(own), *values.shape[1:]), np.int64))[inside] = values
        found[0] = self._of_parent(own, _PARENT)
        choice = choose(found)
        judgement = judge(found, image_names(own), folds, self._threshold)
        how = f"{len(own)} tiles, each held back once ({count} folds)"
        self._say(f"{choice.steps} steps are best; fitting all {len(own)} tiles")
        return self._fit_all(choice.steps), self._result(choice, judgement, how, f"held back in {count} folds")

    def _unjudged(self) -> tuple[ChangeNetwork, FineTuned]:
        """Too few tiles to hold any back: half the steps, the parent's threshold."""
        recipe = self._recipe(len(self.labels.own))
        steps = recipe.eval_every * (EVALUATIONS // 2)
        how = (
            f"Nothing was held back: {LEAST_TILES} or more tiles (or places) with change are needed for that. So "
            f"nobody knows whether it got better. The number of steps ({steps}) is a guess, and the threshold is still "
            f"that of {self.parent.name}; look at its map, and label more."
        )
        return self._fit_all(steps), self._result(Choice(steps, self._threshold, 0.0), None, how, "")

    def _train(self, recipe: Recipe, train: PairSource, held: PairSource, folder: Path) -> dict[int, Pixels]:
        """Fit, and give what was found where pairs were held back, by steps; what is there already is taken."""
        points = range(recipe.eval_every, recipe.steps + 1, recipe.eval_every)
        paths = {steps: folder / f"{steps:05d}.npy" for steps in points}
        if not all(path.is_file() for path in paths.values()):
            folder.mkdir(parents=True, exist_ok=True)
            self._fit(recipe, train, held, folder / "run", partial(_keep, paths))
            shutil.rmtree(folder / "run")
        return {steps: np.load(path) for steps, path in paths.items()}

    def _fit_all(self, steps: int) -> ChangeNetwork:
        """The network after so many steps on all pairs."""
        if not steps:
            return self.network
        own, folder = self.labels.own, self.request.run / "final"
        recipe = dataclasses.replace(self._recipe(len(own)), steps=steps, eval_every=steps)
        # A run keeps weights that were scored, so these are, once, at its end; nothing is chosen by that.
        self._fit(recipe, own, _part(own, range(min(len(own), LEAST_TILES))), folder, None)
        return load_network(folder)[0]

    def _fit(self, recipe: Recipe, own: PairSource, held: PairSource, folder: Path, seen: Seen | None) -> None:
        """`fit`, with replay; what is there already is gone on with."""
        request = self.request
        if request.also:
            recipe = dataclasses.replace(recipe, replay=(len(own), request.replay))
        for place in request.also:
            own = own.joined(open_pairs(place, "train"))
        shown = {"progress": self.progress, "announce": self.announce}
        with warnings.catch_warnings():  # on other ground the threshold, which is chosen later, is far from a half
            warnings.simplefilter("ignore", CollapseWarning)
            fit(recipe, own, held, folder, resume=True, device=request.device, seen=seen, **shown)  # type: ignore[arg-type]

    def _of_parent(self, pairs: PairSource, name: str) -> Pixels:
        """What the parent finds, with its logits as they are."""
        path = self.request.run / name
        if not path.is_file():
            card = self.parent.replace(temperature=1.0, logit_bias=0.0)
            with shown_by(self.progress, self.announce).progress(f"scoring {self.parent.name}") as advance:
                found = evaluate(TorchPredictor(self.network, card, bf16=False), pairs, each=True, progress=advance)
            _save(path, found)
        return np.asarray(np.load(path))

    @property
    def _threshold(self) -> float:
        """The parent's, on the scale of its logits as they are."""
        card = self.parent
        raw = LogitScaling(card.temperature, -card.logit_bias * card.temperature).apply(card.threshold)
        return card.threshold if (card.temperature, card.logit_bias) == (1.0, 0.0) else raw

    def _say(self, sentence: str) -> None:
        shown_by(self.progress, self.announce).announce(sentence)

    def _recipe(self, tiles: int) -> Recipe:
        parent, changes = self.parent, dict(self.request.changes)
        every = max(int(changes.pop("steps", longest(tiles))) // EVALUATIONS, 1)
        parts = [name for name in _FIRST_STAGES if name in dict(self.network.named_modules())]
        loss = str(parent.training.get("loss", ""))
        loss = loss if loss in LOSSES else model_info(parent.network).loss
        fields: dict[str, Any] = {
            "name": self.request.run.name,
            "network": parent.network,
            "network_args": parent.network_args,
            "start": self.request.model,
            "frozen": tuple(parts),
            "frozen_statistics": True,
            "loss": loss,
            **{name: getattr(parent, name) for name in ("bands", "scale", "mean", "std", "stretch")},
            "steps": every * EVALUATIONS,
            "eval_every": every,
            "batch_size": BATCH,
            "lr": LR,
            "schedule": Schedule("constant"),
            "warmup_steps": 10,
            "ema_decay": 0.95,
            "precision": "32-true",
            "change_crops": 0.5,
            "augmentation": _MILD,
            "finds": self._finds(),
            "gsd_m": self._gsd_m(),
            "data": self._data(),
            "licence": self._licence(),
        }
        return Recipe(**{**fields, **changes})

    @property
    def _origin(self) -> dict[str, Any]:
        """What the card of a parent that was fine-tuned itself says of where it came from; empty of any other."""
        said = self.parent.training.get("started_from")
        return said if isinstance(said, dict) else {}

    @property
    def _first_purpose(self) -> str:
        """What the first of all parents finds."""
        return str(self._origin.get("finds", self.parent.finds))

    def _finds(self) -> str:
        what = "accepted in reviews" if self.labels.reviewed else f"labelled in {self.labels.own.name}"
        return f"what was {what}" + (f", after {self._first_purpose}" if self._first_purpose else "")

    def _data(self) -> str:
        reviewed, count = self.labels.reviewed, len(self.labels.own)
        count -= 0 if reviewed is None else len(reviewed.pairs)
        tiles = [f"{count} tiles of {self.labels.own.name}"] if count else []
        own = ", ".join([*tiles, *([] if reviewed is None else [reviewed.text])])
        replayed = f", with {self.request.replay:.0%} of the crops from {', '.join(self.request.also)}"
        return f"{self.parent.data}; then {own}" + (replayed if self.request.also else "")

    def _licence(self) -> str:
        given = self.parent.licence or f"{self.parent.name} states none."
        return f"{given} Fitted further on {self.labels.own.name}: the terms of these data bind as well."

    def _gsd_m(self) -> tuple[float, float] | None:
        """The parent's range, widened by the pairs that have a place."""
        own = self.labels.own
        grids = [own.grid(k) for k in range(len(own))]
        sizes = [size for grid in grids if grid is not None and (size := ground_sampling_m(grid)) is not None]
        known = [*(self.parent.gsd_m or ()), *(float(f"{size:.3g}") for size in sizes)]
        return (min(known), max(known)) if known else None

    def _result(self, choice: Choice, judgement: Judgement | None, how: str, split: str) -> FineTuned:
        recipe = self._recipe(len(self.labels.own))
        training: dict[str, Any] = {
            **begun(find_checkpoint(self.request.model), self.parent),
            "started_from": {
                "name": self.parent.name,
                "data": self.parent.data,
                "finds": self._first_purpose,
                "before_it": [*self._origin.get("before_it", ()), *filter(None, [self._origin.get("name")])],
            },
            "steps": choice.steps,
            "batch_size": recipe.batch_size,
            "seed": recipe.seed,
            "loss": recipe.loss,
            "train_pairs": len(self.labels.own),
            "data_name": self.labels.own.name,
            "judged_on": how,
        }
        if self.labels.reviewed is not None:
            training["review"] = self.labels.reviewed.facts
        scores: tuple[dict[str, Any], ...] = ()
        if judgement is not None:
            training["held_back"] = judgement.record()
            protocol = f"{recipe.validation.text}; steps and threshold chosen on held-back pairs"
            facts = {"data": self.labels.own.name, "split": split, "protocol": protocol}
            scores = ({**facts, "threshold": choice.threshold, "metrics": judgement.comparison.second},)
        names = ("name", "finds", "gsd_m", "data", "licence")
        card = self.parent.replace(
            **{name: getattr(recipe, name) for name in names},
            threshold=choice.threshold,
            temperature=1.0,
            logit_bias=0.0,
            quantisation={},
            code_version=terradelta.__version__,
            scores=scores,
            training=training,
        )
        return FineTuned(card, judgement, how)


def _part(pairs: PairSource, numbers: Sequence[int]) -> PairList:
    return PairList(pairs.root, pairs.split, tuple(pairs.files[k] for k in numbers), pairs.name)


def _keep(paths: Mapping[int, Path], steps: int, found: Evaluation) -> None:
    _save(paths[steps], found)


def _save(path: Path, found: Evaluation) -> None:
    assert found.each is not None
    with whole_file(path) as temporary, temporary.open("wb") as stream:
        np.save(stream, np.stack([histogram.pixels for histogram in found.each]))
