"""`fit`: one training run, from a recipe to the best weights. It never sees a test split."""

import contextlib
import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from terradelta.card import CARD_KEY, ModelCard
from terradelta.errors import TerradeltaError
from terradelta.lab.data.pairs import PairSource
from terradelta.lab.evaluation import Evaluation
from terradelta.lab.inference.torch_predictor import TorchPredictor, channels_last
from terradelta.lab.losses import LOSSES
from terradelta.lab.networks import create_model
from terradelta.lab.networks.checkpoint import load_checkpoint
from terradelta.lab.training.checks import check_pairs
from terradelta.lab.training.config import Recipe
from terradelta.lab.training.crops import crop_loader
from terradelta.lab.training.interrupts import Interrupt, ParentWatch
from terradelta.lab.training.processes import freed_memory_kept, launch, leave_unreached, make_fabric, precision_of
from terradelta.lab.training.schedule import freeze, learning_rate, make_optimiser
from terradelta.lab.training.start import start
from terradelta.lab.training.state import RunState, check_folder, prepare_folder, update_average, write_log
from terradelta.lab.training.validation import CollapseWarning, counted, first_card, validate

__all__ = ["Announce", "CollapseWarning", "Progress", "Seen", "Shown", "fit", "shown_by"]


class Advance(Protocol):
    """Shows how far a part is."""

    def __call__(self, done: int, total: int, line: str = "", /) -> None:
        """``done`` of ``total``; a line on how it goes, in place of the last one."""


Progress = Callable[[str], contextlib.AbstractContextManager[Advance]]
Announce = Callable[[str], None]
Seen = Callable[[int, Evaluation], None]


@dataclass(frozen=True)
class Shown:
    """Where a run shows how it goes."""

    progress: Progress
    announce: Announce


def shown_by(progress: Progress | None, announce: Announce | None) -> Shown:
    """What is given, and nothing shown by what is not."""
    return Shown(progress or _silent, announce or _drop)


WAITING, LONG_RUN_S = 0.2, 30.0
"""Of a run longer than this, the share of time spent on waiting for crops from which it is said."""


def fit(  # noqa: PLR0913  five of them by name alone
    recipe: Recipe,
    train: PairSource,
    val: PairSource,
    run: Path,
    *,
    resume: bool = False,
    device: str = "auto",
    progress: Progress | None = None,
    announce: Announce | None = None,
    seen: Seen | None = None,
) -> ModelCard:
    """Train; the weights of the best validation F1 land in ``run/best.ckpt`` with their card.

    The run folder holds ``recipe.json``, ``last.ckpt`` (everything a resumed run needs), ``best.ckpt``, ``log.csv`` and
    TensorBoard events. A resumed run gives the same weights as an unbroken one (bit for bit on a CPU), even after it
    was killed. With ``recipe.devices`` above 1, that many processes are started; the first one writes.

    Args:
        recipe: everything the run depends on.
        train: pairs to fit on.
        val: pairs to choose weights and threshold on.
        run: the run folder; must be new or empty unless ``resume``.
        resume: go on from ``run/last.ckpt``; a run folder without one starts from the beginning.
        device: Lightning Fabric's accelerator: ``auto``, ``cpu``, ``cuda``.
        progress: called with what is being done; the block gets the function to call with (done, total) and, where
            there is one, a line on how it goes. With more processes than one, it and ``announce`` must be functions
            of a module, so that they can be pickled.
        announce: called with sentences.
        seen: called with the step and what was found, at every validation; picklable, like ``announce``.

    Returns:
        The card of the best weights.

    Raises:
        OutputExistsError: if ``run`` holds a run already and ``resume`` is not set.
        InputError: if ``resume`` is set and the recipe differs from the run's, or there are not as many devices.
        DataError: if the data set is damaged.
        TerradeltaError: if the loss is no longer a finite number.
        KeyboardInterrupt: after Ctrl-C, once the step under way is done and saved; a second Ctrl-C does not wait.
    """
    shown = shown_by(progress, announce)
    val = counted(val, recipe)
    fabric = make_fabric(recipe, device)
    if precision_of(fabric) != recipe.precision:
        shown.announce("this CPU has no bfloat16, in which the recipe trains; training goes on in float32")
    check_folder(recipe, run, resume)
    decode = recipe.check_data and not (run / "last.ckpt").is_file()
    for pairs in (train, val):
        _check(pairs, recipe, shown, decode=decode)
    prepare_folder(recipe, run)
    if recipe.devices == 1:
        _Trainer(fabric, recipe, train, val, run, shown, seen).run(Interrupt())
    else:
        launch(fabric, partial(_train_in_process, recipe, train, val, run, shown, seen))
    return ModelCard.from_json(load_checkpoint(run / "best.ckpt")[CARD_KEY])


def _check(pairs: PairSource, recipe: Recipe, shown: Shown, *, decode: bool) -> None:
    cut = recipe.stretch is None and recipe.augmentation.cuts_off
    with shown.progress(f"checking the {pairs.split} pairs") as advance:
        warning = check_pairs(
            pairs,
            recipe.bands,
            scale=recipe.scale if cut else math.inf,
            decode=decode,
            workers=recipe.workers,
            progress=advance,
        )
    if warning:
        shown.announce(f"Warning: {warning}")


def _train_in_process(
    recipe: Recipe, train: PairSource, val: PairSource, run: Path, shown: Shown, seen: Seen | None, fabric: Fabric
) -> None:
    """In a process of its own: the first one shows how it goes."""
    shown = shown if fabric.is_global_zero else Shown(_silent, _drop)
    _Trainer(fabric, recipe, train, val, run, shown, seen).run(ParentWatch())


class _AllLevels(nn.Module):
    """`forward_with_aux` as the one method of which Fabric computes all in the precision of the run.

    What is called on a network by another name than ``forward`` stays in float32, on a single device even if it is
    marked as a forward method.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, before: Tensor, after: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.network.forward_with_aux(before, after)  # type: ignore[operator]
        return maps


class _Trainer:
    """One process of a run; the first one (of rank 0) evaluates, writes and prints."""

    def __init__(
        self,
        fabric: Fabric,
        recipe: Recipe,
        train: PairSource,
        val: PairSource,
        run: Path,
        shown: Shown,
        seen: Seen | None,
    ) -> None:
        self.fabric, self.recipe, self.train, self.val, self.folder = fabric, recipe, train, val, run
        self.shown, self.seen = shown, seen
        if recipe.threads:
            torch.set_num_threads(recipe.threads)
        last = run / "last.ckpt"
        torch.manual_seed(recipe.seed)
        network = create_model(recipe.network, **recipe.network_args)
        started = {} if last.is_file() else start(network, recipe)
        freeze(network, recipe.frozen, statistics=recipe.frozen_statistics)
        average = copy.deepcopy(network).requires_grad_(requires_grad=False)
        card = first_card(recipe, network, train, val)
        self.precision = precision_of(fabric)
        card = card.replace(training={**card.training, "precision": self.precision, **started})
        self.state = RunState(network, average, make_optimiser(network, recipe), card)
        self.loss = partial(LOSSES[recipe.loss], **recipe.loss_args)
        self.waited_s = self.worked_s = 0.0
        if last.is_file():
            fabric.strategy.precision.load_state_dict(self.state.load(last))
            shown.announce(f"resuming after step {self.state.step} of {recipe.steps}")

    def run(self, interrupt: Interrupt | ParentWatch) -> None:
        """Train to the end, or until asked to stop."""
        state, fabric, recipe = self.state, self.fabric, self.recipe
        channels_last(state.network)
        if fabric.world_size > 1:
            leave_unreached(state.network, self.loss, len(recipe.bands))
        model, optimizer = fabric.setup(_AllLevels(self._with_shared_statistics()), state.optimizer)
        state.average.to(fabric.device)
        first = recipe.steps if self._exhausted() else state.step
        loader = crop_loader(self.train, recipe, state.card, first, rank=fabric.global_rank, world=fabric.world_size)
        batches = iter(loader)
        with freed_memory_kept(), self._board() as board, self.shown.progress(recipe.name) as advance, interrupt:
            advance(state.step, recipe.steps)
            for _ in range(first, recipe.steps):
                row = self._step(model, optimizer, batches)
                self._after_step(row, board)
                advance(state.step, recipe.steps, self._status(row))
                if self._exhausted():
                    self.shown.announce(f"stopped early: no better F1 in {recipe.patience} evaluations")
                    break
                if self._agreed(interrupt.asked):
                    self._save()
                    self.shown.announce(f"stopped after step {state.step}; with --resume it goes on from here")
                    raise KeyboardInterrupt
        self._save()
        self._say_if_starved()

    def _step(self, model: Any, optimizer: Any, batches: Iterator[Any]) -> dict[str, Any]:  # noqa: ANN401  wrappers
        state, recipe, fabric = self.state, self.recipe, self.fabric
        rate = learning_rate(recipe, state.step, state.val_f1s)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["share"]
        torch.manual_seed(_seed(recipe.seed, state.step, fabric.global_rank))
        optimizer.zero_grad()
        waited, started, pairs = 0.0, time.perf_counter(), 0
        total = torch.zeros((), device=fabric.device)
        for number in range(1, recipe.accumulate + 1):
            before_waiting = time.perf_counter()
            before, after, label, *known = (x.to(fabric.device) for x in next(batches))
            waited += time.perf_counter() - before_waiting
            with fabric.no_backward_sync(model, enabled=number < recipe.accumulate):
                dates = (x.contiguous(memory_format=torch.channels_last) for x in (before, after))
                masked = {"mask": known[0]} if known else {}
                loss = self.loss(model(*dates), label, **masked) / recipe.accumulate
                fabric.backward(loss)
            total += loss.detach()
            pairs += len(label) * fabric.world_size
        value = _finite(float(fabric.all_reduce(total, reduce_op="mean")), state.step + 1)  # type: ignore[arg-type]
        limit = math.inf if recipe.clip_norm is None else recipe.clip_norm
        norm = fabric.clip_gradients(model, optimizer, max_norm=limit, error_if_nonfinite=False)
        optimizer.step()
        update_average(state.average, state.network, min(recipe.ema_decay, (1 + state.step) / (10 + state.step)))
        state.step += 1
        worked = time.perf_counter() - started - waited
        self.waited_s, self.worked_s = self.waited_s + waited, self.worked_s + worked
        return {
            "step": state.step,
            "loss": value,
            "lr": rate,
            "grad_norm": 0.0 if norm is None else norm.item(),
            "pairs_per_s": pairs / worked,
            "wait_s": waited,
        }

    def _after_step(self, row: dict[str, Any], board: SummaryWriter | None) -> None:
        state, recipe = self.state, self.recipe
        if state.step % recipe.eval_every == 0 or state.step == recipe.steps:
            row |= self._validate()
        state.log.append(row)
        if board is not None:
            for name, value in row.items():
                board.add_scalar(name, value, state.step)
        if state.step % recipe.save_every == 0 or state.step == recipe.steps or "val_f1" in row:
            self._save()

    def _save(self) -> None:
        if self.fabric.is_global_zero:
            self.state.save(self.folder / "last.ckpt", self.fabric.strategy.precision.state_dict())
            write_log(self.state.log, self.folder / "log.csv")

    def _validate(self) -> dict[str, float]:
        """The first process scores; all take over what it found."""
        state = self.state
        values: dict[str, float] = {}
        if self.fabric.is_global_zero:
            bf16 = self.precision == "bf16-mixed"
            predictor = TorchPredictor(state.average, state.card, self.fabric.device, bf16=bf16)
            values = validate(self.recipe, state, predictor, self.val, self.folder / "best.ckpt", self.seen)
        found = (values, state.best_f1, state.evaluations_since_best)
        values, state.best_f1, state.evaluations_since_best = self.fabric.broadcast(found)
        return values

    def _agreed(self, asked: bool) -> bool:
        """Whether any process was asked to stop."""
        if self.fabric.world_size == 1:
            return asked
        flag = torch.tensor(float(asked), device=self.fabric.device)
        return bool(self.fabric.all_reduce(flag, reduce_op="sum"))

    def _with_shared_statistics(self) -> nn.Module:
        """Batch normalisation over the pairs of all devices, where torch can: on CUDA."""
        network = self.state.network
        if self.fabric.world_size > 1 and self.fabric.device.type == "cuda":
            shared: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
            return shared
        return network

    def _exhausted(self) -> bool:
        patience = self.recipe.patience
        return patience is not None and self.state.evaluations_since_best >= patience

    def _status(self, row: dict[str, Any]) -> str:
        best = f"best val F1 {self.state.best_f1:.4f}" if self.state.best_f1 >= 0 else "not yet evaluated"
        return f"loss {row['loss']:.3f}  {row['pairs_per_s']:.1f} pairs/s  {best}"

    def _board(self) -> contextlib.AbstractContextManager[SummaryWriter | None]:
        if not self.fabric.is_global_zero:
            return contextlib.nullcontext()
        board: SummaryWriter = SummaryWriter(str(self.folder), purge_step=self.state.step)
        return board

    def _say_if_starved(self) -> None:
        spent = self.waited_s + self.worked_s
        if spent > LONG_RUN_S and self.waited_s > WAITING * spent:
            self.shown.announce(
                f"{self.waited_s / spent:.0%} of the time was spent on waiting for crops; raise Recipe.workers "
                f"(now {self.recipe.workers}) or Recipe.cache_mb"
            )


@contextlib.contextmanager
def _silent(text: str) -> Iterator[Advance]:
    yield lambda done, total, line="": None


def _drop(sentence: str) -> None:
    """Nobody listens."""


def _seed(seed: int, step: int, rank: int) -> int:
    """Where the random numbers of a step (dropout) start: the same in a resumed run, another in each process."""
    return int(np.random.SeedSequence((seed, step, rank)).generate_state(1)[0])


def _finite(loss: float, step: int) -> float:
    if not math.isfinite(loss):
        raise TerradeltaError(
            f"the loss is {loss} at step {step}; the weights saved before it are untouched. Lower Recipe.lr, "
            "look for values in the images that are no numbers, or train with precision 32-true"
        )
    return loss
