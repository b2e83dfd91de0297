import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from terradelta.card import ModelCard
from terradelta.errors import BandError, ModelError, ShapeError
from terradelta.lab.inference.torch_predictor import TorchPredictor, channels_last, load_torch_predictor
from terradelta.lab.networks import create_model
from terradelta.lab.networks.checkpoint import save_network
from terradelta.predict.predictor import Predictor, pad_reflect, sigmoid

CARD = ModelCard("w", "none", ("a", "b"), (0.25, 0.5), (0.5, 0.25), scale=100.0, stride=8)


class Difference(Predictor):
    """Logit = sum over the bands of (after - before); keeps what it was given."""

    def logits(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        self.given = before, after
        return (after - before).sum(1, keepdims=True)


def _dates(*shape: int) -> list[NDArray[np.float64]]:
    rng = np.random.default_rng(4)
    return [rng.uniform(0, 100, shape) for _ in range(2)]


@pytest.mark.parametrize(("temperature", "bias"), [(1.0, 0.0), (2.5, 0.0), (2.5, -1.5)])
def test_predict_normalises_pads_calibrates_and_crops(temperature: float, bias: float) -> None:
    before, after = _dates(3, 2, 11, 5)
    predictor = Difference(CARD.replace(temperature=temperature, logit_bias=bias))
    found = predictor.predict(before, after)
    logits = (after - before)[:, 0] / 100 / 0.5 + (after - before)[:, 1] / 100 / 0.25
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-logits / temperature - bias)), rtol=1e-5)
    assert [x.shape for x in predictor.given] == [(3, 2, 16, 8)] * 2
    np.testing.assert_allclose(predictor.given[0][:, 0, :11, :5], (before[:, 0] / 100 - 0.25) / 0.5, atol=1e-6)


@given(st.integers(1, 20), st.integers(1, 20), st.sampled_from([1, 4, 16, 32]))
def test_padding_mirrors_at_the_border(height: int, width: int, multiple: int) -> None:
    values = np.arange(height * width, dtype=np.float32).reshape(1, height, width)
    padded = pad_reflect(values, multiple)
    assert padded.shape[1] == -(-height // multiple) * multiple
    assert padded.shape[2] == -(-width // multiple) * multiple

    def mirrored(i: int, size: int) -> int:
        period = max(2 * size - 2, 1)
        return min(i % period, period - i % period) if size > 1 else 0

    for i, j in np.ndindex(padded.shape[1:]):
        assert padded[0, i, j] == values[0, mirrored(i, height), mirrored(j, width)]


def test_one_pixel() -> None:
    before, after = _dates(1, 2, 1, 1)
    predictor = Difference(CARD)
    assert predictor.predict(before, after).shape == (1, 1, 1)
    assert (predictor.given[0] == predictor.given[0][..., :1, :1]).all()


def test_sigmoid_is_exact_and_does_not_overflow() -> None:
    logits = np.array([-1e4, -90, -2, 0, 2, 90, 1e4], np.float32)
    np.testing.assert_allclose(sigmoid(logits), [0, 0, 0.11920292, 0.5, 0.88079708, 1, 1], atol=1e-7)
    assert sigmoid(logits).dtype == np.float32


@pytest.mark.parametrize(
    ("before", "after"),
    [((1, 2, 4, 4), (1, 2, 4, 5)), ((2, 4, 4), (2, 4, 4)), ((0, 2, 4, 4), (0, 2, 4, 4)), ((1, 2, 0, 4), (1, 2, 0, 4))],
)
def test_shapes_that_are_refused(before: tuple[int, ...], after: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"before \(.*\) and after \(.*\) must have one shape \(B, C, H, W\)"):
        Difference(CARD).predict(np.zeros(before), np.zeros(after))


def test_other_bands_than_the_cards_are_refused() -> None:
    with pytest.raises(BandError, match=r"takes 2 bands \(a, b\), but the array has shape \(1, 3, 4, 4\)"):
        Difference(CARD).predict(np.zeros((1, 3, 4, 4)), np.zeros((1, 3, 4, 4)))


NET_CARD = ModelCard("w", "mlla_sianet", ("r", "g", "b"), (0.4, 0.4, 0.4), (0.2, 0.2, 0.2), stride=16)


def test_torch_predictor_is_the_network_in_eval_mode() -> None:
    torch.manual_seed(0)
    network = create_model("mlla_sianet").train()
    rng = np.random.default_rng(0)
    before, after = (rng.integers(0, 256, (2, 3, 32, 48), np.uint8) for _ in range(2))
    found = TorchPredictor(network, NET_CARD, bf16=False).predict(before, after)
    assert network.training
    network.eval()
    with torch.no_grad():
        x, y = (torch.from_numpy((v / 255 - 0.4) / 0.2).float() for v in (before, after))
        expected = network(x, y).sigmoid()[:, 0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    rough = TorchPredictor(network, NET_CARD, bf16=True).predict(before, after)
    np.testing.assert_allclose(rough, expected, atol=0.02)
    assert not np.array_equal(rough, found)


def test_torch_predictor_takes_odd_sizes_and_strided_views() -> None:
    torch.manual_seed(0)
    predictor = TorchPredictor(create_model("mlla_sianet"), NET_CARD, bf16=False)
    before, after = _dates(1, 17, 30, 3)
    views = [x.transpose(0, 3, 1, 2)[:, :, ::-1] for x in (before, after)]
    found = predictor.predict(*views)
    assert found.shape == (1, 17, 30)
    np.testing.assert_allclose(found, predictor.predict(*[v.copy() for v in views]), atol=1e-6)


def test_load_torch_predictor(tmp_path) -> None:
    torch.manual_seed(0)
    network = create_model("mlla_sianet")
    save_network(network, NET_CARD, tmp_path / "best.ckpt")
    before, after = _dates(1, 3, 16, 16)
    expected = TorchPredictor(network, NET_CARD, bf16=False).predict(before, after)
    loaded = load_torch_predictor(tmp_path, "cpu", 1)
    assert torch.get_num_threads() == 1
    assert loaded.card == NET_CARD
    np.testing.assert_allclose(loaded.predict(before, after), expected, atol=1e-5)
    with pytest.raises(ModelError, match=r"--device nowhere is not here .*use --device cpu"):
        load_torch_predictor(tmp_path, "nowhere", None)


def test_the_identity_of_a_network_with_batch_normalisation() -> None:
    """Its counters are single numbers; a weight that moves gives another identity, a copy the same."""
    predictors = []
    for _ in range(3):
        torch.manual_seed(0)
        predictors.append(TorchPredictor(create_model("fc_ef", in_channels=2), CARD, bf16=False))
    first, second, third = predictors
    assert first.identity == second.identity
    with torch.no_grad():
        next(third.network.parameters()).view(-1)[0] += 1e-3
    assert third.identity != first.identity
    assert TorchPredictor(second.network, CARD, bf16=True).identity != first.identity


def test_channels_last_kernels_have_the_strides_that_their_gradients_get() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(8, 4, 3), torch.nn.Conv2d(4, 1, 1))
    before = [p.clone() for p in network.parameters()]
    channels_last(network)
    assert [p.stride() for p in network.parameters() if p.ndim == 4] == [(72, 1, 24, 8), (4, 1, 4, 4)]
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


class Cramped(torch.nn.Module):
    """Adds the dates; more than ``room`` pairs at once do not fit."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.batches: list[int] = []

    def forward(self, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(before))
        if len(before) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return (before + after).sum(1, keepdim=True)


@pytest.mark.parametrize(("room", "tried"), [(99, [11]), (5, [11, 5, 5, 1]), (2, [11, 5, 2, 2, 2, 2, 2, 1])])
def test_a_batch_that_does_not_fit_is_halved(room: int, tried: list[int]) -> None:
    network = Cramped(room)
    predictor = TorchPredictor(network, CARD, bf16=False)
    before, after = (x.astype(np.float32) for x in _dates(11, 2, 8, 8))
    np.testing.assert_allclose(predictor.logits(before, after), (before + after).sum(1, keepdims=True), rtol=1e-6)
    assert network.batches == tried
    network.batches.clear()
    predictor.logits(before[:5], after[:5])
    assert max(network.batches) <= room, "what did not fit is not tried again"


def test_one_pair_that_does_not_fit() -> None:
    network = Cramped(0).train()
    before, after = _dates(3, 2, 8, 16)
    with pytest.raises(
        ModelError, match=r"one pair of 8 x 16 pixels does not fit into the memory of cpu; use smaller tiles \(--tile\)"
    ):
        TorchPredictor(network, CARD, bf16=False).predict(before, after)
    assert network.batches == [3, 1]
    assert network.training


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device here")
def test_cuda_gives_what_the_cpu_gives(tmp_path) -> None:
    torch.manual_seed(0)
    save_network(create_model("mlla_sianet"), NET_CARD, tmp_path / "best.ckpt")
    before, after = _dates(2, 3, 64, 96)
    expected = load_torch_predictor(tmp_path, "cpu", 1).predict(before, after)
    exact = load_torch_predictor(tmp_path, "cuda", None, bf16=False).predict(before, after)
    np.testing.assert_allclose(exact, expected, atol=1e-2)  # convolutions may use TF32
    rough = load_torch_predictor(tmp_path, "cuda", None).predict(before, after)
    np.testing.assert_allclose(rough, expected, atol=0.05)
