"""`fit`: one training run, from a recipe to the best weights. It never sees a test split."""

import copy
import csv
import math
import signal
import threading
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from lightning_fabric import Fabric
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

import terradelta
from terradelta.card import CARD_KEY, ModelCard
from terradelta.data.pairs import PairSource
from terradelta.errors import InputError, OutputExistsError, TerradeltaError
from terradelta.evaluation import Evaluation, evaluate
from terradelta.losses import LOSSES
from terradelta.networks import ChangeNetwork, create_model, model_info, receptive_field
from terradelta.networks.checkpoint import load_checkpoint, save_checkpoint, save_network
from terradelta.runtime.torch import TorchPredictor, channels_last
from terradelta.training.config import Recipe
from terradelta.training.crops import crop_loader, measure_bands

__all__ = ["CollapseWarning", "fit"]

COLLAPSED_LOW, COLLAPSED_HIGH = 1e-4, 0.9


class CollapseWarning(UserWarning):
    """The network calls everything changed, or nothing."""


@dataclass
class _State:
    """All that a resumed run needs besides the recipe and the data."""

    network: ChangeNetwork
    average: ChangeNetwork
    """Exponential moving average of the network; what is evaluated and kept."""
    optimizer: torch.optim.Optimizer
    card: ModelCard
    step: int = 0
    best_f1: float = -1.0
    evaluations_since_best: int = 0
    log: list[dict[str, Any]] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write everything to ``path``."""
        modules = {name: getattr(self, name).state_dict() for name in ("network", "average", "optimizer")}
        plain = {name: getattr(self, name) for name in ("step", "best_f1", "evaluations_since_best", "log")}
        save_checkpoint({**modules, **plain, CARD_KEY: self.card.to_json(), "rng": torch.get_rng_state()}, path)

    def load(self, path: Path) -> None:
        """Take everything from ``path``, the random numbers' state too."""
        saved = load_checkpoint(path)
        for name in ("network", "average", "optimizer"):
            getattr(self, name).load_state_dict(saved[name])
        for name in ("step", "best_f1", "evaluations_since_best", "log"):
            setattr(self, name, saved[name])
        self.card = ModelCard.from_json(saved[CARD_KEY], str(path))
        torch.set_rng_state(saved["rng"])


def fit(
    recipe: Recipe,
    train: PairSource,
    val: PairSource,
    run: Path,
    *,
    resume: bool = False,
    device: str = "auto",
    console: Console | None = None,
) -> ModelCard:
    """Train; the weights of the best validation F1 land in ``run/best.ckpt`` with their card.

    The run folder holds ``recipe.json``, ``last.ckpt`` (everything a resumed run needs), ``best.ckpt``, ``log.csv`` and
    TensorBoard events. A resumed run gives the same weights as an unbroken one (bit for bit on a CPU).

    Args:
        recipe: everything the run depends on.
        train: pairs to fit on.
        val: pairs to choose weights and threshold on.
        run: the run folder; must be new or empty unless ``resume``.
        resume: go on from ``run/last.ckpt``; a run folder without one starts from the beginning.
        device: Lightning Fabric's accelerator: ``auto``, ``cpu``, ``cuda``.
        console: where progress is shown.

    Returns:
        The card of the best weights.

    Raises:
        OutputExistsError: if ``run`` holds a run already and ``resume`` is not set.
        InputError: if ``resume`` is set and the recipe differs from the run's.
        DataError: if the data set is damaged.
        TerradeltaError: if the loss is no longer a finite number.
        KeyboardInterrupt: after Ctrl-C, once the step under way is done and saved; a second Ctrl-C does not wait.
    """
    _prepare_folder(recipe, run, resume)
    return _Trainer(recipe, train, val, run, device, console or Console()).run()


class _Interrupt:
    """Ctrl-C waits for the end of the step, so that what is saved is whole; a second one stops at once."""

    def __init__(self) -> None:
        self.asked = False
        in_main = threading.current_thread() is threading.main_thread()
        self._installed = in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def __enter__(self) -> Self:
        if self._installed:
            signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _ask(self, *_: object) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


class _Trainer:
    def __init__(
        self, recipe: Recipe, train: PairSource, val: PairSource, run: Path, device: str, console: Console
    ) -> None:
        self.recipe, self.train, self.val, self.folder, self.console = recipe, train, val, run, console
        if recipe.threads:
            torch.set_num_threads(recipe.threads)
        self.fabric = Fabric(accelerator=device, devices=1, precision=recipe.precision)  # type: ignore[arg-type]
        torch.manual_seed(recipe.seed)
        network = create_model(recipe.network, **recipe.network_args)
        card = _first_card(recipe, network, train)
        optimizer = torch.optim.AdamW(_decayed(network, recipe.weight_decay), lr=recipe.lr)
        self.state = _State(network, copy.deepcopy(network).requires_grad_(requires_grad=False), optimizer, card)
        if (run / "last.ckpt").is_file():
            self.state.load(run / "last.ckpt")
            console.print(f"resuming after step {self.state.step} of {recipe.steps}")

    def run(self) -> ModelCard:
        state = self.state
        channels_last(state.network)
        model, optimizer = self.fabric.setup(state.network, state.optimizer)
        model.mark_forward_method("forward_with_aux")
        state.average.to(self.fabric.device)
        start = self.recipe.steps if self._exhausted() else state.step
        batches = crop_loader(self.train, self.recipe, state.card, start)
        board = SummaryWriter(str(self.folder), purge_step=state.step)
        with board, _bar(self.console) as bar, _Interrupt() as interrupt:
            task = bar.add_task(self.recipe.name, total=self.recipe.steps, completed=state.step)
            for batch in batches:
                row = self._step(model, optimizer, [x.to(self.fabric.device) for x in batch])
                self._after_step(row, board)
                bar.update(task, completed=state.step, description=self._status(row))
                if self._exhausted():
                    self.console.print(f"stopped early: no better F1 in {self.recipe.patience} evaluations")
                    break
                if interrupt.asked:
                    self._save()
                    self.console.print(f"stopped after step {state.step}; with --resume it goes on from here")
                    raise KeyboardInterrupt
        self._save()
        return ModelCard.from_json(load_checkpoint(self.folder / "best.ckpt")[CARD_KEY])

    def _step(self, model: Any, optimizer: Any, batch: list[Tensor]) -> dict[str, Any]:  # noqa: ANN401  Fabric's wrappers
        state, recipe, started = self.state, self.recipe, time.perf_counter()
        rate = _learning_rate(recipe, state.step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        before, after, label = batch
        dates = [x.contiguous(memory_format=torch.channels_last) for x in (before, after)]
        loss = LOSSES[recipe.loss](model.forward_with_aux(*dates), label)
        value = _finite(loss, state.step + 1)
        optimizer.zero_grad()
        self.fabric.backward(loss)
        norm = self.fabric.clip_gradients(model, optimizer, max_norm=recipe.clip_norm, error_if_nonfinite=False)
        optimizer.step()
        _update_average(state.average, state.network, min(recipe.ema_decay, (1 + state.step) / (10 + state.step)))
        state.step += 1
        speed = len(label) / (time.perf_counter() - started)
        return {
            "step": state.step,
            "loss": value,
            "lr": rate,
            "grad_norm": 0.0 if norm is None else norm.item(),
            "pairs_per_s": speed,
        }

    def _after_step(self, row: dict[str, Any], board: SummaryWriter) -> None:
        state, recipe = self.state, self.recipe
        if state.step % recipe.eval_every == 0 or state.step == recipe.steps:
            row |= self._validate()
        state.log.append(row)
        for name, value in row.items():
            board.add_scalar(name, value, state.step)
        if state.step % recipe.save_every == 0 or state.step == recipe.steps or "val_f1" in row:
            self._save()

    def _save(self) -> None:
        self.state.save(self.folder / "last.ckpt")
        _write_log(self.state.log, self.folder / "log.csv")

    def _validate(self) -> dict[str, float]:
        state = self.state
        bf16 = self.recipe.precision == "bf16-mixed"
        predictor = TorchPredictor(state.average, state.card, self.fabric.device, bf16=bf16)
        found = evaluate(predictor, self.val, threshold=0.5)
        threshold = found.histogram.best_threshold()
        best = found.histogram.confusion(threshold)
        _warn_if_collapsed(found, state.step)
        state.evaluations_since_best += 1
        if best.f1 > state.best_f1:
            state.best_f1, state.evaluations_since_best = best.f1, 0
            score = {"data": self.recipe.data, "split": self.val.split, **_score(found, threshold)}
            card = state.card.replace(
                threshold=threshold, scores=(score,), training={**state.card.training, "best_step": state.step}
            )
            save_network(state.average, card, self.folder / "best.ckpt")
        return {
            "val_f1": best.f1,
            "val_precision": best.precision,
            "val_recall": best.recall,
            "val_threshold": threshold,
        }

    def _exhausted(self) -> bool:
        patience = self.recipe.patience
        return patience is not None and self.state.evaluations_since_best >= patience

    def _status(self, row: dict[str, Any]) -> str:
        best = f"best val F1 {self.state.best_f1:.4f}" if self.state.best_f1 >= 0 else "not yet evaluated"
        return f"loss {row['loss']:.3f}  {row['pairs_per_s']:.1f} pairs/s  {best}"


def _prepare_folder(recipe: Recipe, run: Path, resume: bool) -> None:
    """Make the run folder, or check that the one that is there is this recipe's."""
    described = run / "recipe.json"
    if described.is_file():
        if not resume:
            raise OutputExistsError(f"{run} holds a training run; go on with --resume, or name another folder")
        if described.read_text() != recipe.to_json():
            raise InputError(
                f"{run} was started with another recipe than the one given; use that one (it is in {described}), "
                "or name another folder"
            )
        return
    if run.exists() and (not run.is_dir() or any(run.iterdir())):
        raise OutputExistsError(f"{run} is there already and holds no training run; name another folder")
    run.mkdir(parents=True, exist_ok=True)
    described.write_text(recipe.to_json())


def _first_card(recipe: Recipe, network: ChangeNetwork, train: PairSource) -> ModelCard:
    mean, std = recipe.mean, recipe.std
    if mean is None or std is None:
        mean, std = measure_bands(train, recipe)
    return ModelCard(
        name=recipe.name,
        network=recipe.network,
        network_args=recipe.network_args,
        bands=recipe.bands,
        mean=mean,
        std=std,
        scale=recipe.scale,
        stride=network.stride,
        symmetric=network.symmetric,
        tile=network.tile,
        overlap=network.overlap,
        receptive_field=receptive_field(network, len(recipe.bands)),
        gsd_m=recipe.gsd_m,
        paper=model_info(recipe.network).paper,
        data=recipe.data,
        licence=recipe.licence,
        training={"steps": recipe.steps, "batch_size": recipe.batch_size, "seed": recipe.seed},
        code_version=terradelta.__version__,
    )


def _score(found: Evaluation, threshold: float) -> dict[str, Any]:
    return {
        "protocol": "whole images, one global confusion matrix over all pixels; threshold chosen on this split",
        "threshold": threshold,
        "metrics": found.histogram.confusion(threshold).metrics(),
    }


def _decayed(network: ChangeNetwork, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups: weight decay on kernels, none on biases and normalisation."""
    kernels = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    return [{"params": kernels, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def _finite(loss: Tensor, step: int) -> float:
    value = loss.item()
    if not math.isfinite(value):
        raise TerradeltaError(
            f"the loss is {value} at step {step}; the weights saved before it are untouched. Lower Recipe.lr, "
            "look for values in the images that are no numbers, or train with precision 32-true"
        )
    return value


def _learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, then a cosine down to ``lr * final_lr`` at the last step."""
    if step < recipe.warmup_steps:
        return recipe.lr * (step + 1) / recipe.warmup_steps
    share = (step - recipe.warmup_steps) / max(recipe.steps - recipe.warmup_steps, 1)
    cosine = 0.5 * (1 + math.cos(math.pi * share))
    return recipe.lr * (recipe.final_lr + (1 - recipe.final_lr) * cosine)


@torch.no_grad()
def _update_average(average: ChangeNetwork, network: ChangeNetwork, decay: float) -> None:
    for weight, new_weight in zip(average.parameters(), network.parameters(), strict=True):
        weight.lerp_(new_weight, 1 - decay)
    for kept, new in zip(average.buffers(), network.buffers(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(new, 1 - decay)
        else:
            kept.copy_(new)


def _warn_if_collapsed(found: Evaluation, step: int) -> None:
    total = found.total
    predicted = (total.tp + total.fp) / max(total.total, 1)
    if (predicted < COLLAPSED_LOW and total.tp + total.fn > 0) or predicted > COLLAPSED_HIGH:
        warnings.warn(
            f"step {step}: {predicted:.2%} of the validation pixels are called changed, "
            f"{(total.tp + total.fn) / total.total:.2%} are: the predictions have collapsed to one class. "
            "Usual in the first steps; later, lower the learning rate, raise Recipe.change_crops, or check the labels",
            CollapseWarning,
            stacklevel=2,
        )


def _write_log(rows: list[dict[str, Any]], path: Path) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, names)
        writer.writeheader()
        writer.writerows(rows)
    temporary.replace(path)


def _bar(console: Console) -> Progress:
    text = TextColumn("{task.description}")
    return Progress(
        text, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(), console=console
    )
