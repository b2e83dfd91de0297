"""What bfloat16 saves in training: CPU seconds a pair of a step in float32 and in bfloat16, in turn, in one run.

    python benchmarks/training_step.py [--networks mlla_sianet_lite0,bit] [--batch 8] [--crop 256] [--rounds 3]

Forward, loss, backward and optimiser on one thread, on random images, each network with the loss that its method names.
A step of each comes first and is not counted. Prints the mean of the rounds, and the ratio. The processor should have
bfloat16; elsewhere `terradelta train` takes float32.
"""

import argparse
import time
from collections.abc import Callable, Sequence

import torch
from processor import made_on
from torch import Tensor
from torch.optim import Optimizer

from terradelta.lab.bench.design import Entry
from terradelta.lab.bench.entries import choose_entries
from terradelta.lab.inference.torch_predictor import channels_last
from terradelta.lab.losses import LOSSES
from terradelta.lab.networks import ChangeNetwork, create_model
from terradelta.lab.training.processes import freed_memory_kept

Loss = Callable[[list[Tensor], Tensor], Tensor]


def step(network: ChangeNetwork, optimiser: Optimizer, loss: Loss, batch: Sequence[Tensor], *, bf16: bool) -> None:
    """One step of training on a batch (before, after, label), as `terradelta train` takes it."""
    *dates, label = batch
    optimiser.zero_grad()
    with torch.autocast(label.device.type, torch.bfloat16, enabled=bf16):
        maps = network.forward_with_aux(*dates)
    value = loss([each.float() for each in maps], label)
    value.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    value.item()  # waits for the device


def measured(entry: Entry, batch: int, crop: int, rounds: int) -> tuple[float, float]:
    """CPU seconds a pair: float32, bfloat16."""
    torch.manual_seed(0)
    network = create_model(entry.network, in_channels=3, **entry.network_args).train()
    channels_last(network)
    optimiser = torch.optim.AdamW(network.parameters())
    dates = [torch.randn(batch, 3, crop, crop).contiguous(memory_format=torch.channels_last) for _ in range(2)]
    label = (torch.rand(batch, 1, crop, crop) > 0.9).float()

    def timed(*, bf16: bool) -> float:
        start = time.process_time()
        step(network, optimiser, LOSSES[entry.loss], [*dates, label], bf16=bf16)
        return (time.process_time() - start) / batch

    times = [(timed(bf16=False), timed(bf16=True)) for _ in range(1 + rounds)][1:]
    return sum(f32 for f32, _ in times) / rounds, sum(bf16 for _, bf16 in times) / rounds


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default="mlla_sianet_lite0,fc_siam_diff,bit,snunet:width=16")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(made_on())
    with freed_memory_kept():
        for entry in choose_entries(arguments.networks):
            f32, bf16 = measured(entry, arguments.batch, arguments.crop, arguments.rounds)
            print(
                f"{entry.label}: {f32:.3f} s a pair in float32, {bf16:.3f} in bfloat16, {bf16 / f32:.2f} of it",
                flush=True,
            )


if __name__ == "__main__":
    main()
