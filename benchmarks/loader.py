"""Does loading keep up with training? Pairs a second of the loader and of the step, in one run.

    python benchmarks/loader.py [--network mlla_sianet] [--data DATA] [--batches 10] [--workers 0 1] [--device cpu]

The loader reads, cuts, zooms, augments and normalises as in a run with the default recipe; without `--data`, on
synthetic pairs made for the occasion. The step is forward, backward and optimiser on batches that are there already.
The ratio says how many times over one process (or the given ones) feeds the device; below 1 the device waits. Also what
a crop is made of, in milliseconds.
"""

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from training_step import step

from terradelta.card import ModelCard
from terradelta.lab.data import PairSource, open_pairs
from terradelta.lab.inference.torch_predictor import channels_last
from terradelta.lab.losses import LOSSES
from terradelta.lab.networks import create_model
from terradelta.lab.synthetic import SceneConfig, write_dataset
from terradelta.lab.training.augment import Augmenter
from terradelta.lab.training.config import Recipe
from terradelta.lab.training.crops import CropDataset, collate, crop_loader
from terradelta.lab.training.recipes import load_recipe
from terradelta.lab.training.schedule import make_optimiser


def loaded(pairs: PairSource, recipe: Recipe, card: ModelCard, batches: int) -> float:
    """Pairs a second that come out of the loader, after a first batch that starts it and fills the cache."""
    loader = iter(crop_loader(pairs, replace(recipe, steps=batches + 1 + 2 * recipe.workers), card, 0))
    for _ in range(1 + 2 * recipe.workers):  # what was prepared while nobody asked is not counted
        next(loader)
    start = time.perf_counter()
    count = sum(len(label) for _, _, label in itertools.islice(loader, batches))
    return count / (time.perf_counter() - start)


def stepped(recipe: Recipe, batch: list[Tensor], batches: int, device: str) -> float:
    """Pairs a second of training steps on one batch that is there already."""
    network = create_model(recipe.network, **recipe.network_args).to(device).train()
    channels_last(network)
    optimiser = make_optimiser(network, recipe)
    on_device = [x.to(device) for x in batch]
    loss = partial(LOSSES[recipe.loss], **recipe.loss_args)
    work = partial(step, network, optimiser, loss, on_device, bf16=recipe.precision == "bf16-mixed")
    work()
    return len(on_device[-1]) * batches / _seconds(work, batches)


def _seconds(work: Callable[[], object], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        work()
    return time.perf_counter() - start


def parts(pairs: PairSource, recipe: Recipe, card: ModelCard, count: int) -> dict[str, float]:
    """Milliseconds for one crop: decoding, cutting from decoded pairs, augmenting and normalising."""
    dataset = CropDataset(pairs, recipe)
    some = range(min(count, len(pairs)))
    decode = _seconds(lambda: [pairs.read(k) for k in some], 1) / len(some)
    crops = [dataset[k] for k in range(count)]
    cut = _seconds(lambda: [dataset[k] for k in range(count)], 1) / count
    batch = collate(Augmenter(recipe.augmentation), card, recipe.seed)
    augment = _seconds(lambda: batch(crops), 1) / count
    return {"decode one pair": 1e3 * decode, "cut": 1e3 * cut, "augment, normalise": 1e3 * augment}


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="mlla_sianet")
    parser.add_argument("--data", help="labelled pairs with a split `train`")
    parser.add_argument("--batches", type=int, default=10)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    recipe = load_recipe(arguments.network)
    card = ModelCard("x", recipe.network, recipe.bands, (0.4,) * 3, (0.2,) * 3)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.data is None:
            write_dataset(Path(folder), {"train": 4}, SceneConfig(height=1024, width=1024), 0)
        pairs = open_pairs(arguments.data or folder, "train")
        times = parts(pairs, recipe, card, 16)
        print(", ".join(f"{name} {ms:.1f} ms" for name, ms in times.items()))
        batch = next(iter(crop_loader(pairs, recipe, card, 0)))
        device = stepped(recipe, list(batch), arguments.batches, arguments.device)
        print(f"step of {recipe.network} on {arguments.device}: {device:.1f} pairs/s")
        for workers in arguments.workers:
            speed = loaded(pairs, replace(recipe, workers=workers), card, arguments.batches)
            print(f"loader, {workers} workers: {speed:.1f} pairs/s, {speed / device:.2f} of the step's")


if __name__ == "__main__":
    main()
