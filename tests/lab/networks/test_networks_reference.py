"""Sizes of the compared networks against those of their authors' code, and variants that the registry does not list.

Expected numbers were counted on the official repositories' code for a pair of 256² pixels: parameters that a forward
pass uses, and multiply-adds of convolutions and matrix products.
"""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from terradelta.lab.networks import ChangeNetwork, create_model

SIZES: list[tuple[str, dict[str, Any], int, int]] = [
    ("fc_ef", {}, 1_350_578, 3_095_396_352),
    ("fc_siam_conc", {}, 1_545_986, 4_831_838_208),
    ("fc_siam_diff", {}, 1_350_146, 4_227_858_432),
    ("unetpp_msof", {}, 9_050_565, 29_859_250_176),
    ("snunet", {"width": 16}, 3_012_178, 11_683_235_072),
    ("snunet", {}, 12_034_978, 46_602_916_864),
    ("snunet", {"width": 48}, 27_068_402, 104_759_045_376),
    ("snunet", {"ecam": False}, 12_032_442, 46_603_960_320),
    ("ifn", {}, 35_727_549, 78_924_771_840),
    ("bit", {}, 3_037_026, 8_704_065_536),
    ("bit", {"decoder_head_width": 64}, 3_495_778, 10_819_829_760),
    ("bit", {"decoder_head_width": 64, "decoder_depth": 1}, 3_006_562, 8_469_184_512),
    ("stanet", {"attention": "base"}, 16_891_840, 12_817_793_024),
    ("stanet", {"attention": "bam"}, 16_897_040, 17_691_574_272),
    ("stanet", {}, 16_929_152, 19_537_068_032),
    ("stanet", {"attention": "bam", "pool": 2}, 16_897_040, 13_130_268_672),
    ("stanet", {"pool": 2}, 16_929_152, 13_395_034_112),
    ("dasnet", {}, 48_221_378, 102_716_407_808),
    ("sfearnet", {}, 5_563_101, 4_707_154_176),
    ("sfearnet", {"size": "b1"}, 20_885_149, 14_900_196_608),
]
TRAINED: list[tuple[str, dict[str, Any], list[str]]] = [
    ("fc_ef", {}, []),
    ("fc_siam_conc", {}, []),
    ("fc_siam_diff", {}, []),
    ("snunet", {"width": 8}, []),
    ("snunet", {"width": 8, "ecam": False}, []),
    ("bit", {}, ["decoder.7.mlp.2.bias"]),  # cancels in the difference of the dates
    ("bit", {"decoder_head_width": 64, "decoder_depth": 1}, ["decoder.0.mlp.2.bias"]),
    ("ifn", {}, []),
    ("unetpp_msof", {}, []),
]


def _dates(side: int, batch: int = 1) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(batch, 3, side, side, generator=generator) for _ in range(2)]


@pytest.mark.parametrize(("name", "options", "parameters", "multiply_adds"), SIZES)
def test_size_is_that_of_the_official_code(
    name: str, options: dict[str, Any], parameters: int, multiply_adds: int
) -> None:
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        network = create_model(name, **options).eval()
        date = torch.empty(1, 3, 256, 256)
        assert network(date, date).shape == (1, 1, 256, 256)
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert counter.get_total_flops() == 2 * multiply_adds


@pytest.mark.parametrize(("name", "options", "without"), TRAINED)
def test_the_gradient_reaches_every_parameter(name: str, options: dict[str, Any], without: list[str]) -> None:
    torch.manual_seed(0)
    network = create_model(name, **options).train()
    torch.stack([out.square().mean() for out in network.forward_with_aux(*_dates(32, batch=2))]).sum().backward()
    assert [key for key, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 1e-12] == without


@pytest.mark.parametrize(
    ("name", "options", "sides"),
    [
        ("fc_ef", {}, [64]),
        ("fc_siam_conc", {}, [64]),
        ("fc_siam_diff", {}, [64]),
        ("snunet", {}, [64]),
        ("snunet", {"ecam": False}, [64] * 5),
        ("bit", {}, [64]),
        ("ifn", {}, [64, 32, 16, 8, 4]),
        ("unetpp_msof", {}, [64] * 5),
        ("stanet", {"attention": "base"}, [64]),
        ("stanet", {}, [64]),
        ("dasnet", {}, [64, 8, 8, 8]),
        ("dasnet", {"backbone": "vgg16"}, [64, 9, 9, 9]),
        ("sfearnet", {}, [64, 64]),
    ],
)
def test_outputs_fine_to_coarse(name: str, options: dict[str, Any], sides: list[int]) -> None:
    with torch.device("meta"):
        network = create_model(name, in_channels=4, **options).eval()
        outputs = network.forward_with_aux(torch.empty(2, 4, 64, 96), torch.empty(2, 4, 64, 96))
    widths = [13 if side == 9 else side * 3 // 2 for side in sides]  # 9 and 13: rounded up three times, plus one
    assert [out.shape for out in outputs] == [(2, 1, *size) for size in zip(sides, widths, strict=True)]


@pytest.mark.parametrize("name", ["fc_ef", "fc_siam_conc", "fc_siam_diff", "snunet", "bit", "ifn", "unetpp_msof"])
def test_seed_and_order_of_dates(name: str) -> None:
    """Same seed, same result; none of these networks is symmetric, and none says so."""
    before, after = _dates(32, batch=2)
    first, again = (_with_statistics(name, before, after) for _ in range(2))
    with torch.no_grad():
        out, repeated, swapped = first(before, after), again(before, after), first(after, before)
    assert torch.equal(out, repeated)
    assert not first.symmetric
    assert (out - swapped).abs().max() > 1e-3 * out.abs().max()


def _with_statistics(name: str, before: torch.Tensor, after: torch.Tensor) -> ChangeNetwork:
    """Weights of one seed, batch statistics of the two dates, evaluation mode."""
    torch.manual_seed(5)
    network = create_model(name)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        network.train()(before, after)
    return network.eval()
