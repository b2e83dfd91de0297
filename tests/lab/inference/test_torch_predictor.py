"""Batches by free memory and compiled tiles, as on CUDA: with made-up figures of memory, and a compiler for the CPU."""

import pickle
import threading
import warnings

import numpy as np
import pytest
import torch

from terradelta.card import ModelCard
from terradelta.lab.inference import torch_predictor as adapter
from terradelta.lab.inference.torch_predictor import CompileWarning, TorchPredictor

CARD = ModelCard("m", "none", ("a", "b"), (0.4, 0.4), (0.2, 0.2), stride=8)
MIB = 2**20


class Small(torch.nn.Module):
    """Two convolutions of the difference."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = torch.nn.Conv2d(2, 4, 3, padding=1), torch.nn.Conv2d(4, 1, 1)

    def forward(self, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.first(after - before)))


class Compiled:
    """Stands for a compiled network: notes the batches, and can fail."""

    def __init__(self, network: Small, error: Exception | None = None, fails_from: int = 0) -> None:
        self.network, self.error, self.fails_from = network, error, fails_from
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        self.shapes.append(tuple(before.shape))
        if self.error is not None and len(self.shapes) > self.fails_from:
            raise self.error
        return self.network(before, after)


class Unpicklable(Compiled):
    def __reduce__(self) -> str:
        raise TypeError("what is compiled cannot travel")


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """What the device is said to hold, bytes."""
    said = {"held": 10 * MIB, "peak": 60 * MIB, "reserved": 70 * MIB, "free": 340 * MIB}
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: said["held"])
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: said["peak"])
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: said["reserved"])
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (said["free"], 1000 * MIB))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _: None)
    return said


def dates(count: int, height: int = 32, width: int = 40) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal((count, 2, height, width)).astype(np.float32) for _ in range(2)]


def fast(network: Small | None = None) -> TorchPredictor:
    return TorchPredictor(network or Small(), CARD, bf16=False, fast=True)


def test_the_cpu_takes_one_tile_and_does_not_compile() -> None:
    assert TorchPredictor(Small(), CARD, bf16=False).prepare(32, 40, 10_000) == 1


def test_half_of_the_free_memory_is_filled(memory: dict[str, int]) -> None:
    """340 MiB free and 60 MiB of the cache unused; a tile takes 50 MiB: half of 400 holds four."""
    assert fast().prepare(32, 40, 100) == 4
    memory["free"] = 0
    memory["reserved"] = memory["held"]
    assert fast().prepare(32, 40, 100) == 1


@pytest.mark.parametrize(("count", "side", "expected"), [(2, 32, 2), (100, 1024, 4), (100, 2048, 1), (100, 4096, 1)])
def test_never_more_than_there_are_or_than_pay(memory: dict[str, int], count: int, side: int, expected: int) -> None:
    memory["free"] = 10**6 * MIB
    predictor = fast()
    predictor.logits = lambda before, after: before[:, :1]  # type: ignore[method-assign]
    assert predictor.prepare(side, side, count) == expected


def test_only_scenes_of_many_tiles_are_compiled(memory: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(torch, "compile", lambda network, **options: asked.append(options) or Compiled(network))
    predictor = fast()
    predictor.prepare(32, 40, adapter.COMPILE_FROM - 1)
    assert asked == []
    predictor.prepare(32, 40, adapter.COMPILE_FROM)
    predictor.prepare(32, 40, adapter.COMPILE_FROM)
    assert asked == [{"mode": "reduce-overhead", "dynamic": False}], "once for a size"


def test_tiles_of_the_size_run_compiled_in_whole_batches(
    memory: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Small()
    compiled = Compiled(network)
    monkeypatch.setattr(torch, "compile", lambda *_, **__: compiled)
    predictor, plain = fast(network), TorchPredictor(network, CARD, bf16=False)
    assert predictor.prepare(30, 40, 1000) == 4, "30 rows are padded to the stride"
    compiled.shapes.clear()
    for count, side, runs in ((4, 40, 1), (3, 40, 1), (5, 40, 0), (2, 48, 0)):
        before, after = dates(count, 32, side)
        np.testing.assert_array_equal(predictor.logits(before, after), plain.logits(before, after))
        assert compiled.shapes == [(4, 2, 32, 40)] * runs
        compiled.shapes.clear()
    before, after = dates(4)
    other = threading.Thread(target=predictor.logits, args=(before, after))
    other.start()
    other.join()
    assert compiled.shapes == [], "a graph belongs to its thread"


def test_a_compiler_that_fails_is_named_and_done_without(
    memory: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Small()
    monkeypatch.setattr(torch, "compile", lambda *_, **__: Compiled(network, RuntimeError("no kernel\nfor this")))
    predictor = fast(network)
    with pytest.warns(CompileWarning, match=r"'m' could not be compiled for cpu \(RuntimeError: no kernel\); it runs"):
        assert predictor.prepare(32, 40, 1000) == 4
    before, after = dates(4)
    expected = TorchPredictor(network, CARD, bf16=False).logits(before, after)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(predictor.logits(before, after), expected)


def test_what_is_compiled_and_does_not_fit_any_more_runs_uncompiled(
    memory: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Small()
    compiled = Compiled(network, torch.OutOfMemoryError("CUDA out of memory"), fails_from=3)
    monkeypatch.setattr(torch, "compile", lambda *_, **__: compiled)
    predictor = fast(network)
    predictor.prepare(32, 40, 1000)
    before, after = dates(4)
    expected = TorchPredictor(network, CARD, bf16=False).logits(before, after)
    np.testing.assert_allclose(predictor.logits(before, after), expected, atol=1e-6)
    assert len(compiled.shapes) == 4, "the fourth does not fit; then two by two, uncompiled"


def test_a_prepared_predictor_can_travel(memory: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda network, **_: Unpicklable(network))
    predictor = fast()
    predictor.prepare(32, 40, 1000)
    copy = pickle.loads(pickle.dumps(predictor))
    before, after = dates(2)
    np.testing.assert_array_equal(copy.logits(before, after), predictor.logits(before, after))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_for_the_cpu_it_gives_what_the_network_gives(memory: dict[str, int]) -> None:
    """Inductor compiles for the CPU too; CUDA graphs are the only part that is not tried."""
    network = Small()
    predictor, plain = fast(network), TorchPredictor(network, CARD, bf16=False)
    assert predictor.prepare(32, 40, 1000) == 4
    before, after = dates(3)
    np.testing.assert_allclose(predictor.logits(before, after), plain.logits(before, after), atol=1e-5)
