"""What a benchmark runs: entries (rows of the table), the protocol they share, and the jobs that follow."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from terradelta.errors import InputError

__all__ = ["BASELINES", "Entry", "Job", "Setup", "jobs_of"]

BASELINES = ("all changed", "CVA", "CVA, tuned")
"""Rows that need no training: the best constant, and change vector analysis with its own or a chosen threshold."""
_SLUG_CHARS = 40


@dataclass(frozen=True)
class Entry:
    """One row of the table: a network with its arguments, or a baseline."""

    label: str
    """What the row is called; unique in a table."""
    network: str
    """Registered name; empty for a baseline."""
    network_args: Mapping[str, Any] = field(default_factory=dict)
    loss: str = "multi_level"
    """What is minimised; a key of ``terradelta.lab.losses.LOSSES``."""
    note: str = ""
    """What a reader of the row must know."""
    encoder_weights: str | None = None
    """As in a recipe: where the encoder starts; None: fresh weights."""


@dataclass(frozen=True)
class Setup:
    """What all entries of a table share. Scores of two protocols do not belong into one table.

    Raises:
        InputError: if a number is below 1.
    """

    data: str
    """``synthetic``, or where the labelled pairs lie, as for ``terradelta train --data``."""
    steps: int = 300
    """Optimiser steps of each run."""
    crop_px: int = 64
    """Side of training crops, and of the tiles on which threshold and scores are found."""
    batch_size: int = 4
    """Pairs in a step."""
    tiles: int = 0
    """At most so many tiles of val and of test, drawn once with a fixed seed; 0: all."""
    device: str = "cpu"
    """Lightning Fabric's accelerator."""
    bf16: bool = False
    """Train in bfloat16 where the device has it and that is accurate enough, as on ``cuda`` always."""

    def __post_init__(self) -> None:
        for name, words in (("steps", "--steps"), ("crop_px", "--crop"), ("batch_size", "--batch")):
            if getattr(self, name) < 1:
                raise InputError(f"{words} is {getattr(self, name)}; it must be at least 1")
        if self.tiles < 0:
            raise InputError(f"--tiles is {self.tiles}; give the number of tiles, or 0 for all")

    @property
    def precision(self) -> str:
        """Lightning Fabric's precision of training."""
        return "bf16-mixed" if self.bf16 or self.device == "cuda" else "32-true"


@dataclass(frozen=True)
class Job:
    """One entry with one seed."""

    entry: Entry
    seed: int
    protocol: Setup

    @property
    def folder(self) -> str:
        """Name of its folder: readable, and another one for other arguments."""
        entry = self.entry
        start = [] if entry.encoder_weights is None else [entry.encoder_weights]
        content = json.dumps([entry.network, dict(entry.network_args), entry.loss, *start], sort_keys=True)
        digest = hashlib.sha256(content.encode()).hexdigest()[:6]
        slug = re.sub(r"[^a-z0-9]+", "-", entry.label.lower()).strip("-")[:_SLUG_CHARS]
        return f"{slug}-{digest}-seed{self.seed}"

    @property
    def name(self) -> str:
        """What a reader calls it."""
        return f"{self.entry.label}, seed {self.seed}" if self.entry.network else self.entry.label


def jobs_of(entries: Sequence[Entry], seeds: Sequence[int], protocol: Setup) -> list[Job]:
    """Baselines first, then the first seed of all entries, then the second: a stopped bench has whole columns.

    Raises:
        InputError: if two entries have one label, or a seed is below 0 or given twice.
    """
    labels = [entry.label for entry in entries]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise InputError(f"{', '.join(twice)} is given more than once; name each network, with its arguments, once")
    if not seeds or min(seeds) < 0 or len(set(seeds)) != len(seeds):
        raise InputError(f"the seeds are {list(seeds)}; give different whole numbers of 0 or more")
    rows = [Entry(label, "") for label in BASELINES]
    return [Job(row, seeds[0], protocol) for row in rows] + [
        Job(entry, seed, protocol) for seed in seeds for entry in entries
    ]
