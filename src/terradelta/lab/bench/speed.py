"""How fast networks predict on this machine, as a ratio to the default one: absolute times differ from hour to hour."""

import contextlib
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import terradelta
from terradelta.errors import OutputError
from terradelta.files import write_whole
from terradelta.lab.networks import ChangeNetwork, create_model
from terradelta.machine import cpu_name
from terradelta.predict.hub import cache_folder
from terradelta.strangers import read_json

__all__ = ["REFERENCE", "Speed", "known_speeds", "measure_speeds", "remember_speeds"]

REFERENCE = "mlla_sianet"
"""The default network; others are compared with it."""
REPEATS = 5
PATIENCE_S = 3.0
"""A network whose pass takes longer is timed fewer times, twice at least."""


@dataclass(frozen=True)
class Speed:
    """One network's speed in evaluation mode: float32, one CPU thread, one pair at a time."""

    pairs_per_s: float
    """Pairs a second of the thread's own time, so that other programs on the machine do not count."""
    ratio: float
    """Median of (seconds of the default network / seconds of this one), both timed in turn."""
    side: int
    """Of the pair, in pixels."""


def measure_speeds(
    networks: Mapping[str, tuple[str, Mapping[str, Any]]],
    *,
    side: int = 256,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Speed]:
    """Time networks with fresh weights on the CPU.

    Args:
        networks: label -> (registered name, arguments of its builder).
        side: of the pair, in pixels; a multiple of every network's stride.
        progress: called with each label before it is timed.

    Raises:
        ModelError: if a network cannot be built.
        ShapeError: if ``side`` is no multiple of a stride.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        reference = _prepared(REFERENCE, {})
        speeds = {}
        for label, (name, arguments) in networks.items():
            if progress is not None:
                progress(label)
            speeds[label] = _compared(_prepared(name, arguments), reference, side)
        return speeds
    finally:
        torch.set_num_threads(threads)


def _prepared(name: str, arguments: Mapping[str, Any]) -> ChangeNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return create_model(name, **arguments).eval()


def _compared(network: ChangeNetwork, reference: ChangeNetwork, side: int) -> Speed:
    generator = torch.Generator().manual_seed(0)
    channels = int(getattr(network, "in_channels", 3))
    dates = [torch.randn(1, channels, side, side, generator=generator) for _ in range(2)]
    other = [torch.randn(1, 3, side, side, generator=generator) for _ in range(2)]
    _seconds(reference, other)
    first = _seconds(network, dates)
    repeats = max(2, min(REPEATS, int(PATIENCE_S / max(first, 1e-3))))
    times = [(_seconds(reference, other), _seconds(network, dates)) for _ in range(repeats)]
    ratio = statistics.median(ours / theirs for ours, theirs in times)
    return Speed(1 / statistics.median(theirs for _, theirs in times), ratio, side)


@torch.inference_mode()
def _seconds(network: ChangeNetwork, dates: Sequence[torch.Tensor]) -> float:
    started = time.thread_time()
    network(*dates)
    return time.thread_time() - started


def _cache() -> Path:
    return cache_folder() / "speed.json"


def _machine() -> str:
    return f"{cpu_name()} | torch {version('torch')} | terradelta {terradelta.__version__}"


def known_speeds() -> dict[str, Speed]:
    """What `remember_speeds` wrote on this CPU with these versions; empty if there is nothing readable."""
    try:
        found = read_json(_cache().read_text(), ours=True)[_machine()]
        return {str(name): Speed(**fields) for name, fields in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError):
        return {}


def remember_speeds(speeds: Mapping[str, Speed]) -> None:
    """Keep speeds for `known_speeds`, in the user's cache folder; where that cannot be written, nothing is kept."""
    path = _cache()
    known = known_speeds() | dict(speeds)
    content = {_machine(): {name: vars(speed) for name, speed in known.items()}}
    with contextlib.suppress(OutputError):
        write_whole(path, json.dumps(content, indent=2, sort_keys=True), make_folder=True)
