"""Several processes, accumulated batches, and runs that are killed: the result is that of one quiet process."""

import csv
import ctypes
import multiprocessing
import os
import signal
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from terradelta.errors import InputError, TerradeltaError
from terradelta.lab.data import PairList
from terradelta.lab.networks import ChangeNetwork, _registry
from terradelta.lab.networks.checkpoint import load_checkpoint
from terradelta.lab.training import loop, processes
from terradelta.lab.training.config import Augmentation, Recipe
from terradelta.lab.training.loop import CollapseWarning, fit

Squares = Callable[[str], PairList]
RECIPE = Recipe(
    "plain run",
    network="plain",
    loss="cross_entropy",
    mean=(0.4, 0.4, 0.4),
    std=(0.2, 0.2, 0.2),
    crop_px=32,
    augmentation=Augmentation(shift_px=1),
    batch_size=4,
    steps=6,
    warmup_steps=2,
    lr=1e-2,
    precision="32-true",
    eval_every=3,
    save_every=2,
    data="Squares",
    licence="Any",
)
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


class Plain(ChangeNetwork):
    """No batch statistics and no random numbers: a step depends on its pairs alone, not on how they are shared out."""

    stride = 4

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(6, 8, 3, 1, 1), nn.GroupNorm(2, 8), nn.ReLU(), nn.Conv2d(8, 1, 3, 1, 1))
        self.unused = nn.Conv2d(8, 1, 1)

    def forward_with_aux(self, before: Tensor, after: Tensor) -> list[Tensor]:
        return [self.body(torch.cat([before, after], 1))]


def plain() -> Plain:
    """A network for these tests."""
    return Plain()


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network; and processes that inherit it, which those that start afresh would not."""
    info = _registry.NetworkInfo("plain", "no paper", 2026, "For tests.", plain)
    monkeypatch.setitem(_registry._NETWORKS, "plain", info)
    monkeypatch.setattr(processes, "START_METHOD", "fork")


def _fit(recipe: Recipe, squares: Squares, run: Path, *, resume: bool = False) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        fit(recipe, squares("train"), squares("val"), run, device="cpu", resume=resume)


def _curve(run: Path) -> list[tuple[float, float]]:
    with (run / "log.csv").open(newline="") as stream:
        return [(float(row["loss"]), float(row["grad_norm"])) for row in csv.DictReader(stream)]


def _weights(run: Path, name: str = "network") -> Tensor:
    saved = load_checkpoint(run / "last.ckpt")
    return torch.cat([value.flatten().float() for value in saved[name].values()])


def _assert_same_course(one: Path, two: Path) -> None:
    """Equal but for the order in which float32 sums are taken."""
    for a, b in zip(_curve(one), _curve(two), strict=True):
        assert a == pytest.approx(b, rel=1e-4)
    for name in ("network", "average"):
        torch.testing.assert_close(_weights(one, name), _weights(two, name), rtol=1e-3, atol=1e-5)


# ---- one step, shared out -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{"batch_size": 2, "accumulate": 2}, {"batch_size": 1, "accumulate": 4}])
def test_accumulated_batches_are_one_large_batch(squares: Squares, tmp_path: Path, changes: dict[str, int]) -> None:
    _fit(RECIPE, squares, tmp_path / "large")
    _fit(replace(RECIPE, **changes), squares, tmp_path / "small")
    _assert_same_course(tmp_path / "large", tmp_path / "small")


@pytest.mark.parametrize("changes", [{"batch_size": 2}, {"batch_size": 1, "accumulate": 2}])
def test_two_processes_are_one_with_the_doubled_batch(
    squares: Squares, tmp_path: Path, changes: dict[str, int]
) -> None:
    _fit(RECIPE, squares, tmp_path / "one")
    _fit(replace(RECIPE, devices=2, **changes), squares, tmp_path / "two")
    _assert_same_course(tmp_path / "one", tmp_path / "two")
    assert "MASTER_PORT" not in os.environ


class Needed(Plain):
    """Every parameter has a gradient; a 3x3 kernel of several input channels, as channels-last layouts need."""

    def forward_with_aux(self, before: Tensor, after: Tensor) -> list[Tensor]:
        hidden = self.body[:-1](torch.cat([before, after], 1))
        return [self.body[-1](hidden) + self.unused(hidden)]


@pytest.mark.parametrize("network", [Plain, Needed])
def test_two_processes_have_nothing_to_warn_of(
    squares: Squares, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, network: type
) -> None:
    """Torch warns if it is to look for parameters without a gradient and there are none, and fails if it is not to."""
    info = _registry.NetworkInfo("plain", "no paper", 2026, "For tests.", network)
    monkeypatch.setitem(_registry._NETWORKS, "plain", info)
    _fit(replace(RECIPE, devices=2, batch_size=1, accumulate=2), squares, tmp_path / "two")
    said = capfd.readouterr()
    assert "warn" not in (said.out + said.err).lower()


def test_only_what_the_loss_never_reaches_is_left_out() -> None:
    for network, expected in ((Plain(), {"unused.weight", "unused.bias"}), (Needed(), set())):
        network.body[0].bias.requires_grad_(requires_grad=False)
        before = {name: value.clone() for name, value in network.state_dict().items()}
        processes.leave_unreached(network, lambda outputs, label: (outputs[0] - label).square().mean(), 3)
        left = {name for name, p in network.named_parameters() if not p.requires_grad}
        assert left == expected | {"body.0.bias"}
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_another_batch_is_another_course(squares: Squares, tmp_path: Path) -> None:
    """The comparisons above can fail: half the pairs give other losses."""
    _fit(RECIPE, squares, tmp_path / "four")
    _fit(replace(RECIPE, batch_size=2), squares, tmp_path / "two")
    gaps = [abs(a[0] - b[0]) for a, b in zip(_curve(tmp_path / "four"), _curve(tmp_path / "two"), strict=True)]
    assert max(gaps) > 0.01


def test_processes_stop_together_when_patience_ends(squares: Squares, tmp_path: Path) -> None:
    recipe = replace(RECIPE, devices=2, batch_size=1, steps=40, eval_every=2, patience=1, lr=0.0)
    _fit(recipe, squares, tmp_path / "run")
    assert load_checkpoint(tmp_path / "run" / "last.ckpt")["step"] == 4


# ---- killed ---------------------------------------------------------------------------------------------------------


def _run_and_kill(recipe: Recipe, squares: Squares, run: Path, after: Callable[[], bool], *, resume: bool) -> int:
    """Train in a process of its own, which gets SIGKILL once ``after``; its exit code."""
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_fit_apart, args=(recipe, squares, run), kwargs={"resume": resume})
    process.start()
    _wait_until(lambda: not process.is_alive() or after())
    process.kill()
    process.join()
    _wait_until(lambda: _is_gone(int(process.pid or 0)))  # its own processes notice that it was killed, and end
    return int(process.exitcode or 0)


def _fit_apart(recipe: Recipe, squares: Squares, run: Path, *, resume: bool) -> None:
    """Train in a new group of processes."""
    os.setpgid(0, 0)
    _fit(recipe, squares, run, resume=resume)


def _is_gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def _wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 600
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def _step_of(run: Path) -> int:
    last = run / "last.ckpt"
    return load_checkpoint(last)["step"] if last.is_file() else 0


@pytest.mark.parametrize("devices", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_killed_run_goes_on_to_the_same_weights(squares: Squares, tmp_path: Path, devices: int) -> None:
    """SIGKILL once while it runs freely, and once more when it has resumed; the moments are whatever they are."""
    recipe = replace(RECIPE, devices=devices, batch_size=2, steps=36, eval_every=5, save_every=3)
    _fit(recipe, squares, tmp_path / "unbroken")
    broken = tmp_path / "broken"
    codes = [
        _run_and_kill(recipe, squares, broken, lambda at=at: _step_of(broken) >= at, resume=at > 6) for at in (6, 15)
    ]
    assert codes == [-signal.SIGKILL] * 2
    reached = _step_of(broken)
    assert 15 <= reached < 36
    (broken / f".last.ckpt.{'a' * 32}.part").write_bytes(b"unfinished")
    _fit(recipe, squares, broken, resume=True)
    assert not list(broken.glob(".last.ckpt.*"))
    for name in ("network", "average"):
        assert torch.equal(_weights(tmp_path / "unbroken", name), _weights(broken, name))
    assert _curve(tmp_path / "unbroken") == _curve(broken)
    best = [load_checkpoint(run / "best.ckpt") for run in (tmp_path / "unbroken", broken)]
    assert best[0]["weights"].keys() == best[1]["weights"].keys()
    assert all(torch.equal(best[0]["weights"][key], best[1]["weights"][key]) for key in best[0]["weights"])


def test_killed_before_the_recipe_was_written(squares: Squares, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / f".recipe.json.{'7' * 32}.part").write_text("{")
    _fit(replace(RECIPE, steps=1), squares, tmp_path / "run")
    assert {p.name for p in (tmp_path / "run").iterdir() if not p.name.startswith("events.")} == {
        *("recipe.json", "last.ckpt", "best.ckpt", "log.csv")
    }


# ---- interrupted, failing -------------------------------------------------------------------------------------------


def test_ctrl_c_stops_all_processes_after_one_step(
    squares: Squares, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = loop._Trainer._step

    def step(self, *args):
        if self.state.step == 3 and self.fabric.is_global_zero:
            os.kill(os.getppid(), signal.SIGINT)
            watch = signal.getsignal(signal.SIGUSR1).__self__
            _wait_until(lambda: watch.asked_here)  # the starting process passes it on
        return original(self, *args)

    recipe = replace(RECIPE, devices=2, batch_size=2)
    _fit(recipe, squares, tmp_path / "unbroken")
    with monkeypatch.context() as patch:
        patch.setattr(loop._Trainer, "_step", step)
        with pytest.raises(KeyboardInterrupt):
            _fit(recipe, squares, tmp_path / "run")
    assert load_checkpoint(tmp_path / "run" / "last.ckpt")["step"] == 4
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert not multiprocessing.active_children()
    _fit(recipe, squares, tmp_path / "run", resume=True)
    assert torch.equal(_weights(tmp_path / "unbroken"), _weights(tmp_path / "run"))


def test_an_error_in_a_process_is_the_error(squares: Squares, tmp_path: Path) -> None:
    with pytest.raises(TerradeltaError, match=r"^the loss is nan at step 1; .* Lower Recipe.lr") as found:
        _fit(replace(RECIPE, devices=2, mean=(float("nan"),) * 3), squares, tmp_path / "run")
    assert type(found.value) is TerradeltaError


def test_a_process_that_dies_is_said(squares: Squares, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop._Trainer, "_step", lambda self, *_: os._exit(7))
    with pytest.raises(TerradeltaError, match=r"a training process died \(.*exit code 7\); --resume goes on from what"):
        _fit(replace(RECIPE, devices=2), squares, tmp_path / "run")


def test_a_foreign_error_in_a_process_is_kept(
    squares: Squares, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self, *_):
        raise ZeroDivisionError("odd")

    monkeypatch.setattr(loop._Trainer, "_step", broken)
    with pytest.raises(Exception, match="ZeroDivisionError: odd"):
        _fit(replace(RECIPE, devices=2), squares, tmp_path / "run")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_devices_that_are_not_here(squares: Squares, tmp_path: Path) -> None:
    for devices in (1, 2):
        with pytest.raises(InputError, match=rf"training on {devices} x 'cuda' .* is not possible here .*--device cpu"):
            fit(replace(RECIPE, devices=devices), squares("train"), squares("val"), tmp_path / "run", device="cuda")
    assert not (tmp_path / "run").exists()


# --- memory


def test_freed_memory_is_kept_until_the_run_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[int, int]] = []
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=lambda *pair: said.append(pair)))
    with pytest.raises(KeyboardInterrupt), processes.freed_memory_kept():
        assert said == [(-1, -1), (-4, 0)]
        raise KeyboardInterrupt
    assert said[2:] == [(-1, 128 * 1024), (-4, 65536)]


def test_c_libraries_that_cannot_be_asked_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    with processes.freed_memory_kept():
        pass
