"""What every registered network must do; a new one gets these tests for free."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from terradelta.card import ModelCard
from terradelta.errors import ModelError, ShapeError
from terradelta.lab.inference.torch_predictor import TorchPredictor
from terradelta.lab.losses import LOSSES
from terradelta.lab.networks import ChangeNetwork, create_model, list_models, model_info
from terradelta.lab.networks.checkpoint import load_network, save_network

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = {"mccrnet": {"width": 0.125}, "snunet": {"width": 8}, "dasnet": {"width": 0.0625}, "ifn": {"width": 0.25}}
"""Arguments of a narrower network of the same code, where the default one takes minutes on a CPU."""
DISTANCES = ("stanet", "dasnet")
"""A millionth is added to each signed difference, so these are symmetric to about that."""

WIDER = {"mlla_sianet_large"}
"""Names of the same class as another, only wider and deeper: their tests are slow ones."""

CANCELS = {"bit": {"decoder.7.mlp.2.bias"}}
"""Parameters without effect by the method's own construction: a constant in both dates cancels in |X1 - X2|."""


def _create(name: str, **arguments: int) -> ChangeNetwork:
    return create_model(name, **SMALL.get(name, {}), **arguments)


NAMES = [pytest.param(name, marks=pytest.mark.slow) if name in WIDER else name for name in list_models()]


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def network(name: str) -> ChangeNetwork:
    """Evaluation mode, float32, with batch statistics that are not the initial ones."""
    torch.manual_seed(0)
    return _settled(_create(name)).eval()


def _settled(network: ChangeNetwork) -> ChangeNetwork:
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.8, 1.2)
            torch.nn.init.uniform_(module.bias, -0.1, 0.1)
    return network


def _opened(network: ChangeNetwork) -> ChangeNetwork:
    """Let attention through that starts at zero or next to it: behind a closed gate there is no gradient."""
    for key, p in network.named_parameters():
        if key.endswith("gamma") or (key.endswith("bn3.weight") and not p.any()):  # bn3: blocks of a fresh ResNet-50
            torch.nn.init.constant_(p, 0.3)
        elif key.startswith("attention.") and key.endswith("weight") and p.std() < 0.03:
            p.data.mul_(20)
    return network


def _dates(batch: int, channels: int, height: int, width: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(batch, channels, height, width, generator=generator, dtype=dtype) for _ in range(2)]


@pytest.mark.parametrize(("batch", "rows", "cols"), [(1, 1, 1), (2, 2, 3)])
def test_output_is_one_logit_a_pixel_at_input_size(network: ChangeNetwork, batch: int, rows: int, cols: int) -> None:
    height, width = rows * network.stride, cols * network.stride
    with torch.no_grad():
        out = network(*_dates(batch, 3, height, width))
    assert out.shape == (batch, 1, height, width)
    assert out.dtype == torch.float32
    assert out.isfinite().all()


@pytest.mark.parametrize("bands", [1, 4, 13])
def test_any_number_of_bands(name: str, bands: int) -> None:
    network = _create(name, in_channels=bands).eval()
    side = network.stride
    with torch.no_grad():
        assert network(*_dates(1, bands, side, side)).shape == (1, 1, side, side)


def test_forward_is_the_first_of_forward_with_aux(network: ChangeNetwork) -> None:
    dates = _dates(1, 3, 2 * network.stride, 2 * network.stride)
    with torch.no_grad():
        outputs = network.forward_with_aux(*dates)
        assert torch.equal(network(*dates), outputs[0])
    assert all(out.ndim == 4 and out.shape[:2] == (1, 1) for out in outputs)


def test_the_gradient_reaches_every_parameter(name: str) -> None:
    torch.manual_seed(0)
    network = _opened(_create(name)).train()
    outputs = network.forward_with_aux(*_dates(2, 3, 64, 64))
    sum(out.square().mean() for out in outputs).backward()
    without = [key for key, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert set(without) == CANCELS.get(name, set())


def test_the_gradient_is_the_numerical_slope(name: str) -> None:
    """Along a random direction through all parameters at once, in float64."""
    torch.manual_seed(0)
    network = _opened(_settled(_create(name))).double().eval()
    dates = _dates(1, 3, 64, 64, torch.float64)
    weights = torch.randn(64, 64, dtype=torch.float64)

    def value() -> Tensor:
        outputs = network.forward_with_aux(*dates)  # auxiliary maps may be smaller than the input
        return sum((out * weights[: out.shape[2], : out.shape[3]]).mean() for out in outputs)

    value().backward()
    parameters = list(network.parameters())
    direction = [torch.randn_like(p) * (p.detach().abs().mean() + 1e-3) for p in parameters]
    expected = sum((p.grad * d).sum() for p, d in zip(parameters, direction, strict=True)).item()
    ends = []
    with torch.no_grad():
        for step in (1e-8, -2e-8):  # short: a ReLU that switches bends the line
            _move(parameters, direction, step)
            ends.append(value().item())
    assert (ends[0] - ends[1]) / 2e-8 == pytest.approx(expected, rel=1e-4)


def _move(parameters: list[Tensor], direction: list[Tensor], step: float) -> None:
    for p, d in zip(parameters, direction, strict=True):
        p.add_(d, alpha=step)


def test_images_of_a_batch_do_not_see_each_other_in_eval_mode(network: ChangeNetwork) -> None:
    before, after = _dates(3, 3, 64, 96)
    with torch.no_grad():
        together = network(before, after)
        alone = torch.cat([network(before[i : i + 1], after[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5 * max(1, alone.abs().max().item()))


def test_swapping_the_dates_leaves_the_result_iff_symmetric(name: str) -> None:
    torch.manual_seed(0)
    network = _settled(_create(name)).double().eval()
    before, after = _dates(1, 3, 64, 64, torch.float64)
    with torch.no_grad():
        gap = (network(before, after) - network(after, before)).abs().max().item()
    limit = 1e-4 if name in DISTANCES else 1e-10
    assert (gap < limit) == network.symmetric


def test_same_seed_same_weights_and_output(name: str) -> None:
    dates = _dates(1, 3, 64, 64)
    outputs = []
    for seed in (7, 7, 8):
        torch.manual_seed(seed)
        with torch.no_grad():
            outputs.append(_create(name).eval()(*dates))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


def test_odd_sizes_through_the_predictor(name: str, network: ChangeNetwork) -> None:
    """Padded to the stride by reflection and cropped again: the same as padding and cropping by hand."""
    card = ModelCard(*("w", name, ("r", "g", "b"), (0.0,) * 3, (1.0,) * 3), scale=1.0, stride=network.stride)
    height, width = network.stride + 1, network.stride + 5
    before, after = (date.numpy() for date in _dates(1, 3, height, width))
    found = TorchPredictor(network, card, bf16=False).predict(before, after)
    assert found.shape == (1, height, width)
    padding = ((0, 0), (0, 0), (0, network.stride - 1), (0, network.stride - 5))
    padded = [torch.from_numpy(np.pad(date, padding, "reflect")) for date in (before, after)]
    with torch.no_grad():
        expected = network(*padded)[:, 0, :height, :width].sigmoid()
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-5)


def test_what_it_says_of_its_reach_is_so(name: str, network: ChangeNetwork) -> None:
    """The gradient of a corner reaches the opposite one iff it says that a pixel depends on the whole input."""
    side = 2 * max(network.stride, 8)
    before, after = _dates(1, 3, side, 512 if network.whole_tile else 2048)
    before.requires_grad_()
    _opened(copy.deepcopy(network))(before, after)[0, 0, 0, 0].backward()
    assert before.grad is not None
    far = before.grad[..., -side:].abs().max().item()
    assert (far > 0) == network.whole_tile


def test_save_and_load_round_trip(name: str, network: ChangeNetwork, tmp_path: Path) -> None:
    bands = ("red", "green", "blue")
    card = ModelCard(
        *("w", name, bands, (0.1, 0.2, 0.3), (1.0, 2.0, 3.0)),
        network_args=SMALL.get(name, {}),
        stride=network.stride,
        gsd_m=(0.5, 1.0),
    )
    save_network(network, card, tmp_path / "best.ckpt")
    dates = _dates(1, 3, 64, 64)
    for path in (tmp_path / "best.ckpt", tmp_path):
        loaded, read = load_network(path)
        assert read == card
        assert not loaded.training
        with torch.no_grad():
            assert torch.equal(loaded(*dates), network(*dates))


def test_errors_of_shape(network: ChangeNetwork) -> None:
    s, kind = network.stride, type(network).__name__
    fine = torch.zeros(1, 3, s, s)
    with pytest.raises(ShapeError, match=rf"{kind} takes before and after of one shape \(B, 3, H, W\), not \(1, 3, "):
        network(fine, torch.zeros(1, 3, s, 2 * s))
    with pytest.raises(ShapeError, match=r"one shape \(B, 3, H, W\), not \(1, 4, "):
        network(torch.zeros(1, 4, s, s), torch.zeros(1, 4, s, s))
    with pytest.raises(ShapeError, match="one shape"):
        network(fine[0], fine[0])
    odd = torch.zeros(1, 3, s, s + 1)
    with pytest.raises(ShapeError, match=rf"multiples of {s}, not {s} x {s + 1}; pad them"):
        network(odd, odd)


def test_it_is_described(name: str) -> None:
    info = model_info(name)
    assert info.name == name
    assert info.year >= 2000
    assert len(info.paper) > 20
    assert info.summary.endswith(".")
    assert info.loss in LOSSES


def test_there_is_no_such_network() -> None:
    with pytest.raises(ModelError, match=r"there is no network 'unet'; there are: .*mlla_sianet"):
        create_model("unet")
    with pytest.raises(ModelError, match=r"network 'mlla_sianet' cannot be built with \{'wings': 2\}: .*wings"):
        create_model("mlla_sianet", wings=2)
