"""What a run keeps in its folder: the state to go on from, the log, the recipe. Files appear whole or not at all."""

import contextlib
import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from terradelta.card import CARD_KEY, ModelCard
from terradelta.errors import InputError, OutputExistsError
from terradelta.files import unfinished, whole_file, write_whole
from terradelta.lab.networks import ChangeNetwork
from terradelta.lab.networks.checkpoint import load_checkpoint, save_checkpoint
from terradelta.lab.training.config import Recipe

__all__ = ["RunState", "check_folder", "prepare_folder", "update_average", "write_log"]

MODULES = ("network", "average", "optimizer")
PLAIN = ("step", "best_f1", "evaluations_since_best", "log")


@dataclass
class RunState:
    """All that a resumed run needs besides the recipe and the data.

    No state of random numbers is among it: those of a step are drawn from the seed, the step and the process alone.
    """

    network: ChangeNetwork
    average: ChangeNetwork
    """Exponential moving average of the network; what is evaluated and kept."""
    optimizer: torch.optim.Optimizer
    card: ModelCard
    step: int = 0
    best_f1: float = -1.0
    evaluations_since_best: int = 0
    log: list[dict[str, Any]] = field(default_factory=list)

    @property
    def val_f1s(self) -> list[float]:
        """Validation F1 of every evaluation so far."""
        return [row["val_f1"] for row in self.log if "val_f1" in row]

    def save(self, path: Path, precision: dict[str, Any]) -> None:
        """Write everything to ``path``, with the state of the gradient scaler (``precision``)."""
        modules = {name: getattr(self, name).state_dict() for name in MODULES}
        plain = {name: getattr(self, name) for name in PLAIN}
        save_checkpoint({**modules, **plain, CARD_KEY: self.card.to_json(), "precision": precision}, path)

    def load(self, path: Path) -> dict[str, Any]:
        """Take everything from ``path``; gives the state of the gradient scaler."""
        saved = load_checkpoint(path)
        for name in MODULES:
            getattr(self, name).load_state_dict(saved[name])
        for name in PLAIN:
            setattr(self, name, saved[name])
        self.card = ModelCard.from_json(saved[CARD_KEY], str(path))
        precision: dict[str, Any] = saved.get("precision", {})
        return precision


@torch.no_grad()
def update_average(average: ChangeNetwork, network: ChangeNetwork, decay: float) -> None:
    """Move the moving average towards the network; counters are copied."""
    for weight, new_weight in zip(average.parameters(), network.parameters(), strict=True):
        weight.lerp_(new_weight, 1 - decay)
    for kept, new in zip(average.buffers(), network.buffers(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(new, 1 - decay)
        else:
            kept.copy_(new)


def write_log(rows: list[dict[str, Any]], path: Path) -> None:
    """Write one row a step as CSV.

    Raises:
        OutputError: if it cannot be written.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    with whole_file(path) as temporary, temporary.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, names)
        writer.writeheader()
        writer.writerows(rows)


def check_folder(recipe: Recipe, run: Path, resume: bool) -> None:
    """Make sure that a run may be written into a folder; writes nothing.

    Raises:
        OutputExistsError: if the folder holds a run and ``resume`` is not set, or holds something else.
        InputError: if the run was started with another recipe.
    """
    described = run / "recipe.json"
    if described.is_file():
        if not resume:
            raise OutputExistsError(f"{run} holds a training run; go on with --resume, or name another folder")
        _check_same(recipe, described, run)
    elif run.exists() and (not run.is_dir() or set(run.iterdir()) - set(unfinished(run))):
        raise OutputExistsError(f"{run} is there already and holds no training run; name another folder")


def prepare_folder(recipe: Recipe, run: Path) -> None:
    """Make the run folder if there is none, and remove unfinished files of a run that was killed while it wrote."""
    run.mkdir(parents=True, exist_ok=True)
    for path in unfinished(run):
        with contextlib.suppress(OSError):
            path.unlink()
    described = run / "recipe.json"
    if not described.is_file():
        write_whole(described, recipe.to_json())


def _check_same(recipe: Recipe, described: Path, run: Path) -> None:
    changed = recipe.differences(described.read_text())
    if changed:
        raise InputError(
            f"{run} was started with another recipe than the one given ({', '.join(changed)}); use that one (it is in "
            f"{described}), or name another folder"
        )
