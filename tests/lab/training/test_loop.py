"""The training loop: it learns, it resumes bit for bit, it stops, it warns, it refuses."""

import contextlib
import csv
import inspect
import json
import multiprocessing
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from terradelta.card import CARD_KEY
from terradelta.errors import InputError, OutputExistsError, TerradeltaError
from terradelta.lab.data import PairList
from terradelta.lab.evaluation import Evaluation, Scoring, evaluate
from terradelta.lab.inference.torch_predictor import TorchPredictor
from terradelta.lab.metrics import Confusion, ProbabilityHistogram
from terradelta.lab.networks import ChangeNetwork, _registry
from terradelta.lab.networks.checkpoint import load_checkpoint, load_network
from terradelta.lab.training import loop, processes, validation
from terradelta.lab.training import start as beginning
from terradelta.lab.training.config import Recipe
from terradelta.lab.training.loop import CollapseWarning, fit
from terradelta.lab.training.state import update_average

Squares = Callable[[str], PairList]
RECIPE = Recipe(
    "tiny run",
    network="tiny",
    mean=(0.4, 0.4, 0.4),
    std=(0.2, 0.2, 0.2),
    crop_px=32,
    batch_size=2,
    steps=8,
    warmup_steps=2,
    precision="32-true",
    eval_every=4,
    save_every=3,
    data="Squares",
    licence="Any",
)
TIMES = {"pairs_per_s", "wait_s"}
"""Columns of the log that differ between two equal runs."""


class Tiny(ChangeNetwork):
    """Three small layers with all that a step can change: weights, batch statistics, random numbers (dropout)."""

    stride = 4

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(6, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout2d(0.2))
        self.head = nn.Conv2d(8, 1, 1)

    def forward_with_aux(self, before: Tensor, after: Tensor) -> list[Tensor]:
        out = self.head(self.body(torch.cat([before, after], 1)))
        return [nn.functional.interpolate(out, size=before.shape[2:], mode="bilinear"), out]


def tiny() -> Tiny:
    """A network for these tests."""
    return Tiny()


@pytest.fixture(autouse=True)
def _tiny_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    info = _registry.NetworkInfo("tiny", "no paper", 2026, "For tests.", tiny)
    monkeypatch.setitem(_registry._NETWORKS, "tiny", info)


@pytest.fixture
def train(squares: Squares) -> Callable[..., str]:
    """Run `fit` on the squares; what it printed. Collapse is usual in so few steps and is no warning here."""

    def run(recipe: Recipe, folder: Path, **options: Any) -> str:
        said: list[str] = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CollapseWarning)
            fit(recipe, squares("train"), squares("val"), folder, device="cpu", announce=said.append, **options)
        return "\n".join(said)

    return run


def _log(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def _assert_same(one: Any, two: Any, where: str = "") -> None:
    """Equal to the bit: tensors, and plain values inside dictionaries and lists."""
    assert type(one) is type(two), where
    if isinstance(one, Tensor):
        assert one.dtype == two.dtype, where
        assert torch.equal(one, two), where
    elif isinstance(one, dict):
        assert one.keys() == two.keys(), where
        for key in one.keys() - TIMES:
            _assert_same(one[key], two[key], f"{where}/{key}")
    elif isinstance(one, list):
        assert len(one) == len(two), where
        for k, pair in enumerate(zip(one, two, strict=True)):
            _assert_same(*pair, f"{where}/{k}")
    else:
        assert one == two, where


def _assert_same_run(one: Path, two: Path) -> None:
    for name in ("last.ckpt", "best.ckpt"):
        _assert_same(load_checkpoint(one / name), load_checkpoint(two / name), name)
    rows = [[{k: v for k, v in row.items() if k not in TIMES} for row in _log(folder)] for folder in (one, two)]
    assert rows[0] == rows[1]


# ---- learning -------------------------------------------------------------------------------------------------------


def test_the_default_network_learns_to_see_squares(squares: Squares, tmp_path: Path) -> None:
    recipe = replace(
        RECIPE,
        name="squares",
        network="mlla_sianet",
        crop_px=64,
        batch_size=4,
        steps=25,
        lr=2e-3,
        warmup_steps=5,
        precision="bf16-mixed",
        eval_every=25,
        ema_decay=0.9,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        card = fit(recipe, squares("train"), squares("val"), tmp_path / "run", device="cpu")
    losses = [float(row["loss"]) for row in _log(tmp_path / "run")]
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])
    assert card.scores[0]["metrics"]["f1"] > 0.5
    network, loaded = load_network(tmp_path / "run")
    assert loaded == card
    found = evaluate(TorchPredictor(network, loaded, bf16=True), squares("val"))
    assert found.total.f1 == pytest.approx(card.scores[0]["metrics"]["f1"], abs=0.01)
    assert found.threshold == card.threshold


@pytest.mark.parametrize(
    ("asked", "has_bf16", "computed", "recorded"),
    [
        ("32-true", True, torch.float32, "32-true"),
        ("bf16-mixed", True, torch.bfloat16, "bf16-mixed"),
        ("bf16-mixed", False, torch.float32, "32-true"),
    ],
)
def test_a_run_computes_in_the_precision_that_its_card_says(
    train: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: str,
    has_bf16: bool,
    computed: torch.dtype,
    recorded: str,
) -> None:
    """In training and in validation; a CPU would emulate bfloat16 that it does not have, which takes longer."""
    monkeypatch.setattr(processes, "cpu_has_bf16", lambda: has_bf16)
    seen, scored = set(), set()

    class Watched(Tiny):
        def forward_with_aux(self, before: Tensor, after: Tensor) -> list[Tensor]:
            maps = super().forward_with_aux(before, after)
            (seen if self.training else scored).add(maps[-1].dtype)
            return maps

    info = _registry.NetworkInfo("tiny", "no paper", 2026, "For tests.", Watched)
    monkeypatch.setitem(_registry._NETWORKS, "tiny", info)
    said = train(replace(RECIPE, precision=asked), tmp_path / "run")
    assert ("no bfloat16" in said) == (asked != recorded)
    assert seen == {computed}
    assert computed in scored
    assert load_network(tmp_path / "run")[1].training["precision"] == recorded


def test_what_a_run_leaves(train: Callable[..., str], tmp_path: Path) -> None:
    assert train(RECIPE, tmp_path / "new" / "run") == ""
    run = tmp_path / "new" / "run"
    names = {p.name for p in run.iterdir() if not p.name.startswith("events.")}
    assert names == {"recipe.json", "last.ckpt", "best.ckpt", "log.csv"}
    assert json.loads((run / "recipe.json").read_text())["name"] == "tiny run"
    rows = _log(run)
    assert [int(row["step"]) for row in rows] == list(range(1, 9))
    assert [bool(row["val_f1"]) for row in rows] == [False, False, False, True] * 2
    assert all(float(row["loss"]) > 0 and float(row["grad_norm"]) > 0 for row in rows)
    network, card = load_network(run)
    assert (card.name, card.data, card.licence, card.paper) == ("tiny run", "Squares", "Any", "no paper")
    assert (card.network, card.stride, card.symmetric, card.mean) == ("tiny", 4, False, RECIPE.mean)
    assert card.scores[0]["split"] == "val"
    assert card.training["best_step"] in (4, 8)
    average = load_checkpoint(run / "last.ckpt")["average"]
    if card.training["best_step"] == 8:
        _assert_same(dict(network.state_dict()), dict(average))


def test_tensorboard_gets_every_step(train: Callable[..., str], tmp_path: Path) -> None:
    train(RECIPE, tmp_path / "run")
    board = EventAccumulator(str(tmp_path / "run")).Reload()
    assert [event.step for event in board.Scalars("loss")] == list(range(1, 9))
    assert [event.step for event in board.Scalars("val_f1")] == [4, 8]


def test_bands_are_measured_where_the_recipe_gives_none(train: Callable[..., str], tmp_path: Path) -> None:
    train(replace(RECIPE, mean=None, std=None, steps=1), tmp_path / "run")
    card = load_network(tmp_path / "run")[1]
    assert all(0.3 < mean < 0.5 for mean in card.mean)
    assert all(0.02 < std < 0.3 for std in card.std)


def test_validation_in_patches_is_the_evaluation_in_patches(
    train: Callable[..., str], squares: Squares, tmp_path: Path
) -> None:
    patches = Scoring("patches", 32)
    train(replace(RECIPE, validation=patches), tmp_path / "run")
    network, card = load_network(tmp_path / "run")
    score = card.scores[0]
    assert score["protocol"] == f"{patches.text}; threshold chosen on this split"
    predictor = TorchPredictor(network, card, bf16=False)
    found = evaluate(predictor, squares("val"), protocol=patches).total.f1
    assert found == pytest.approx(score["metrics"]["f1"], abs=0.002)
    assert found != evaluate(predictor, squares("val")).total.f1


def test_the_card_says_how_and_on_how_much_it_was_trained(train: Callable[..., str], tmp_path: Path) -> None:
    train(replace(RECIPE, steps=1), tmp_path / "run")
    facts = load_network(tmp_path / "run")[1].training
    assert (facts["steps"], facts["batch_size"], facts["devices"], facts["loss"]) == (1, 2, 1, "multi_level")
    assert (facts["train_pairs"], facts["val_pairs"]) == (6, 2)
    assert facts["data_name"].startswith("squares")


def test_an_encoder_starts_from_the_weights_that_are_named(
    train: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[str] = []

    def initialise(network: Tiny, source: str) -> None:
        given.append(source)
        nn.init.constant_(network.body[0].weight, 0.125)

    monkeypatch.setattr(beginning, "initialise_encoder", initialise)
    recipe = replace(RECIPE, encoder_weights="somewhere/vgg16.pth", lr=0.0, steps=1)
    train(recipe, tmp_path / "run")
    for name in ("network", "average"):
        weights = load_checkpoint(tmp_path / "run" / "last.ckpt")[name]["body.0.weight"]
        assert torch.equal(weights, torch.full_like(weights, 0.125))
    assert load_network(tmp_path / "run")[1].training["encoder_weights"] == "vgg16.pth"
    train(recipe, tmp_path / "run", resume=True)  # the file may be gone by then
    assert given == ["somewhere/vgg16.pth"]


def test_gradients_are_clipped(train: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []
    original = torch.optim.AdamW.step

    def step(self: torch.optim.AdamW, *args: Any, **options: Any) -> Any:
        grads = [p.grad for group in self.param_groups for p in group["params"]]
        norms.append(torch.cat([g.flatten() for g in grads]).norm().item())
        return original(self, *args, **options)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    train(replace(RECIPE, clip_norm=0.01, steps=2), tmp_path / "run")
    assert norms == pytest.approx([0.01, 0.01], rel=1e-3)
    assert all(float(row["grad_norm"]) > 0.01 for row in _log(tmp_path / "run"))
    norms.clear()
    train(replace(RECIPE, clip_norm=None, steps=2), tmp_path / "free")
    assert norms == pytest.approx([float(row["grad_norm"]) for row in _log(tmp_path / "free")], rel=1e-4)


def test_the_average_is_exponential() -> None:
    torch.manual_seed(0)
    average, network = tiny(), tiny()
    start = {key: value.clone() for key, value in average.state_dict().items()}
    network.body[1].num_batches_tracked += 5
    network.body[1].running_mean += 3
    update_average(average, network, 0.75)
    update_average(average, network, 0.75)
    for key, value in average.state_dict().items():
        new = network.state_dict()[key]
        expected = start[key] * 0.75**2 + new * (1 - 0.75**2) if value.is_floating_point() else new
        torch.testing.assert_close(value, expected)


# ---- interruptions --------------------------------------------------------------------------------------------------


def _at_step(monkeypatch: pytest.MonkeyPatch, step: int, act: Callable[[], None], *, before: bool) -> None:
    """Call ``act`` when the given step begins, or when it has been computed but not yet counted in the log."""
    original = loop._Trainer._step

    def patched(self: Any, *args: Any) -> dict[str, Any]:
        due = self.state.step == step - 1
        if due and before:
            act()
        row = original(self, *args)
        if due and not before:
            act()
        return row

    monkeypatch.setattr(loop._Trainer, "_step", patched)


def _power_cut() -> None:
    raise RuntimeError("power cut")


def _second_ctrl_c() -> None:
    raise KeyboardInterrupt


def _ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(
    ("act", "error", "step", "saved"),
    [
        (_ctrl_c, KeyboardInterrupt, 5, 5),
        (_ctrl_c, KeyboardInterrupt, 4, 4),  # the step with an evaluation, which is not lost
        (_ctrl_c, KeyboardInterrupt, 1, 1),
        (_second_ctrl_c, KeyboardInterrupt, 6, 4),
        (_power_cut, RuntimeError, 6, 4),
        (_power_cut, RuntimeError, 8, 6),
        (_power_cut, RuntimeError, 2, 0),
    ],
)
@pytest.mark.parametrize("before", [True, False])
def test_a_resumed_run_is_an_unbroken_one_to_the_bit(
    train: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    act: Callable[[], None],
    error: type[BaseException],
    step: int,
    saved: int,
    before: bool,
) -> None:
    train(RECIPE, tmp_path / "unbroken")
    with monkeypatch.context() as patch:
        _at_step(patch, step, act, before=before)
        with pytest.raises(error):
            train(RECIPE, tmp_path / "broken")
    last = tmp_path / "broken" / "last.ckpt"
    assert (load_checkpoint(last)["step"] if last.exists() else 0) == saved
    torch.rand(7)  # the random numbers are those of the step, whatever the process drew before
    printed = train(RECIPE, tmp_path / "broken", resume=True)
    assert (f"resuming after step {saved} of 8" in printed) == (saved > 0)
    _assert_same_run(tmp_path / "unbroken", tmp_path / "broken")


def test_ctrl_c_finishes_the_step_and_leaves_the_handler_as_it_was(
    train: Callable[..., str], squares: Squares, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    _at_step(monkeypatch, 3, _ctrl_c, before=True)
    with pytest.raises(KeyboardInterrupt):
        fit(RECIPE, squares("train"), squares("val"), tmp_path / "run", device="cpu", announce=said.append)
    assert said == ["stopped after step 3; with --resume it goes on from here"]
    assert [row["step"] for row in _log(tmp_path / "run")] == ["1", "2", "3"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_ctrl_c_does_not_wait(
    train: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice() -> None:
        _ctrl_c()
        _ctrl_c()
        pytest.fail("the second one was not noticed at once")

    _at_step(monkeypatch, 5, twice, before=True)
    with pytest.raises(KeyboardInterrupt):
        train(RECIPE, tmp_path / "run")
    assert load_checkpoint(tmp_path / "run" / "last.ckpt")["step"] == 4


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_ctrl_c_in_a_terminal_reaches_the_loading_process_too(
    train: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def all_processes() -> None:
        children = multiprocessing.active_children()
        assert len(children) == 1
        for process in (*children, multiprocessing.current_process()):
            os.kill(process.pid, signal.SIGINT)

    recipe = replace(RECIPE, workers=1)
    train(recipe, tmp_path / "unbroken")
    with monkeypatch.context() as patch:
        _at_step(patch, 3, all_processes, before=True)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, tmp_path / "broken")
    train(recipe, tmp_path / "broken", resume=True)
    _assert_same_run(tmp_path / "unbroken", tmp_path / "broken")


def test_resuming_a_finished_run_changes_nothing(train: Callable[..., str], tmp_path: Path) -> None:
    train(RECIPE, tmp_path / "run")
    weights = load_checkpoint(tmp_path / "run" / "last.ckpt")
    train(RECIPE, tmp_path / "run", resume=True)
    _assert_same(load_checkpoint(tmp_path / "run" / "last.ckpt"), weights)
    assert len(_log(tmp_path / "run")) == 8


def test_resume_without_a_run_starts_one(train: Callable[..., str], tmp_path: Path) -> None:
    train(RECIPE, tmp_path / "unbroken")
    train(RECIPE, tmp_path / "resumed", resume=True)
    _assert_same_run(tmp_path / "unbroken", tmp_path / "resumed")


def test_another_seed_is_another_run(train: Callable[..., str], tmp_path: Path) -> None:
    train(replace(RECIPE, steps=1), tmp_path / "a")
    train(replace(RECIPE, steps=1, seed=1), tmp_path / "b")
    networks = [load_checkpoint(tmp_path / name / "last.ckpt")["network"] for name in "ab"]
    assert not torch.equal(networks[0]["head.weight"], networks[1]["head.weight"])


# ---- choosing, stopping, warning ------------------------------------------------------------------------------------


def _scripted(*counts: Confusion) -> Callable[..., Evaluation]:
    """An `evaluate` that finds these counts one after the other."""
    left = list(counts)

    def found(predictor: object, pairs: object, **options: Any) -> Evaluation:
        c = left.pop(0)
        histogram = ProbabilityHistogram()
        called = [True] * c.tp + [True] * c.fp + [False] * c.fn + [False] * c.tn
        label = [True] * c.tp + [False] * c.fp + [True] * c.fn + [False] * c.tn
        histogram.add(np.array(called, np.float32)[None], np.array(label)[None])
        return Evaluation(options["threshold"], histogram, [("x", c)])

    return found


GOOD, FAIR, BETTER = Confusion(8, 2, 2, 8), Confusion(5, 5, 5, 5), Confusion(9, 1, 1, 9)


def test_training_stops_when_validation_no_longer_improves(
    train: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(RECIPE, steps=20, eval_every=2, patience=2)
    monkeypatch.setattr(validation, "evaluate", _scripted(FAIR, GOOD, FAIR, GOOD, BETTER))
    printed = train(recipe, tmp_path / "run")
    assert "stopped early: no better F1 in 2 evaluations" in " ".join(printed.split())
    assert len(_log(tmp_path / "run")) == 8
    card = load_network(tmp_path / "run")[1]
    assert card.training["best_step"] == 4
    assert card.scores[0]["metrics"]["f1"] == pytest.approx(0.8)
    train(recipe, tmp_path / "run", resume=True)  # and stays stopped
    assert load_checkpoint(tmp_path / "run" / "last.ckpt")["step"] == 8


def test_patience_survives_an_interruption(
    train: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(RECIPE, steps=20, eval_every=2, patience=2)
    monkeypatch.setattr(validation, "evaluate", _scripted(GOOD, FAIR, FAIR, BETTER))
    with monkeypatch.context() as patch:
        _at_step(patch, 5, _power_cut, before=True)
        with pytest.raises(RuntimeError):
            train(recipe, tmp_path / "run")
    train(recipe, tmp_path / "run", resume=True)
    assert load_checkpoint(tmp_path / "run" / "last.ckpt")["step"] == 6


def test_the_best_weights_are_kept_not_the_last(
    train: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "evaluate", _scripted(GOOD, FAIR))
    train(RECIPE, tmp_path / "run")
    best, last = (load_checkpoint(tmp_path / "run" / f"{name}.ckpt") for name in ("best", "last"))
    assert json.loads(best[CARD_KEY])["training"]["best_step"] == 4
    assert not torch.equal(best["weights"]["head.weight"], last["average"]["head.weight"])


@pytest.mark.parametrize(
    ("counts", "called", "are"),
    [
        (Confusion(0, 0, 10, 90), "0.00%", "10.00%"),
        (Confusion(10, 85, 0, 5), "95.00%", "10.00%"),
        (Confusion(0, 100, 0, 0), "100.00%", "0.00%"),
    ],
)
def test_a_collapse_to_one_class_is_a_warning(
    squares: Squares, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counts: Confusion, called: str, are: str
) -> None:
    monkeypatch.setattr(validation, "evaluate", _scripted(counts))
    message = rf"step 2: {called} of the validation pixels are called changed, {are} are: .*collapsed to one class"
    with pytest.warns(CollapseWarning, match=message):
        fit(replace(RECIPE, steps=2), squares("train"), squares("val"), tmp_path / "run", device="cpu")


@pytest.mark.parametrize("counts", [GOOD, Confusion(0, 0, 0, 100), Confusion(1, 0, 9, 90), Confusion(80, 5, 5, 10)])
def test_no_warning_without_a_collapse(
    squares: Squares, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counts: Confusion
) -> None:
    monkeypatch.setattr(validation, "evaluate", _scripted(counts))
    fit(replace(RECIPE, steps=2), squares("train"), squares("val"), tmp_path / "run", device="cpu")


def test_a_loss_that_is_no_number_ends_the_run_and_spares_the_weights(
    train: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = loop.LOSSES["multi_level"], []

    def broken(outputs: list[Tensor], label: Tensor) -> Tensor:
        calls.append(1)
        return original(outputs, label) * (float("nan") if len(calls) == 6 else 1.0)

    monkeypatch.setitem(loop.LOSSES, "multi_level", broken)
    with pytest.raises(TerradeltaError, match=r"the loss is nan at step 6; .* Lower Recipe.lr"):
        train(RECIPE, tmp_path / "run")
    saved = load_checkpoint(tmp_path / "run" / "last.ckpt")
    assert saved["step"] == 4
    assert all(value.isfinite().all() for value in saved["network"].values())


# ---- refusals -------------------------------------------------------------------------------------------------------


def test_a_folder_with_a_run_is_not_overwritten(train: Callable[..., str], tmp_path: Path) -> None:
    train(replace(RECIPE, steps=1), tmp_path / "run")
    with pytest.raises(OutputExistsError, match=r"run holds a training run; go on with --resume, or name another fol"):
        train(replace(RECIPE, steps=1), tmp_path / "run")
    with pytest.raises(InputError, match=r"another recipe than the one given \(steps\); use that .*recipe.json"):
        train(replace(RECIPE, steps=2), tmp_path / "run", resume=True)


@pytest.mark.parametrize("resume", [True, False])
def test_a_place_that_is_taken_by_something_else(train: Callable[..., str], tmp_path: Path, resume: bool) -> None:
    (tmp_path / "notes.txt").write_text("x")
    for place in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(OutputExistsError, match="is there already and holds no training run; name another folder"):
            train(RECIPE, place, resume=resume)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_an_empty_folder_is_fine(train: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    train(replace(RECIPE, steps=1), tmp_path / "run")
    assert (tmp_path / "run" / "best.ckpt").is_file()


def test_there_is_no_way_to_hand_in_a_test_split() -> None:
    parameters = list(inspect.signature(fit).parameters)
    assert parameters == ["recipe", "train", "val", "run", "resume", "device", "progress", "announce", "seen"]


def test_how_far_it_is_can_be_shown(train: Callable[..., str], tmp_path: Path) -> None:
    seen: dict[str, list[tuple[int, int, str]]] = {}

    @contextlib.contextmanager
    def progress(text: str) -> Iterator[Callable[..., None]]:
        yield lambda done, total, line="": seen.setdefault(text, []).append((done, total, line))

    train(replace(RECIPE, steps=3), tmp_path / "run", progress=progress)
    assert [*seen] == ["checking the train pairs", "checking the val pairs", RECIPE.name]
    assert [step[:2] for step in seen[RECIPE.name]] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert seen[RECIPE.name][-1][2].startswith("loss ")
    assert "pairs/s  best val F1" in seen[RECIPE.name][-1][2]
