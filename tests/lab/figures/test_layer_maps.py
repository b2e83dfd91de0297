"""What layers give, against values worked by hand; attention, against weights that are written out."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from terradelta.card import ModelCard
from terradelta.errors import BandError, InputError, ShapeError
from terradelta.lab.figures.layer_maps import Layers
from terradelta.lab.networks import ChangeNetwork, create_model, list_models
from terradelta.lab.networks.layers.attention import attend_tokens, mean_attention, query_share
from terradelta.lab.networks.mccrnet import dates_of

SMALL = {"mccrnet": {"width": 0.0625}, "snunet": {"width": 8}, "dasnet": {"width": 0.0625}}
WIDE = ("ifn", "mlla_sianet_large", "stanet", "unetpp_msof")


class Both(nn.Module):
    def forward(self, f1: Tensor, f2: Tensor) -> tuple[Tensor, Tensor]:
        return f1 + f2, f1 - f2


class Toy(ChangeNetwork):
    """One band; one 1x1 convolution to the channels (x, 1 - 2x), then an activation that overwrites it."""

    stride = 4

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Conv2d(1, 2, 1)
        self.encode.weight.data = torch.tensor([1.0, -2.0]).view(2, 1, 1, 1)
        self.encode.bias.data = torch.tensor([0.0, 1.0])
        self.activate = nn.ReLU(inplace=True)
        self.mix = Both()
        self.pool = nn.AvgPool2d(2)
        self.joined = nn.Identity()
        self.tokens = nn.Linear(2, 3, bias=False)
        self.whole = nn.AdaptiveAvgPool2d(1)
        self.unused = nn.Conv2d(1, 1, 1)

    def forward_with_aux(self, before: Tensor, after: Tensor) -> list[Tensor]:
        f1, f2 = (self.activate(self.encode(x)) for x in (before, after))
        total, _ = self.mix(f1, f2)
        self.pool(torch.cat([f1, f2], 0))
        self.joined(torch.cat([f1, f2], 3))
        self.tokens(self.pool(total).flatten(2).transpose(1, 2))
        self.whole(total)
        return [total[:, :1]]


def card_of(network: ChangeNetwork, bands: int = 3) -> ModelCard:
    names = tuple(f"b{i}" for i in range(bands))
    args = {"mean": (0.0,) * bands, "std": (1.0,) * bands, "scale": 1.0, "stride": network.stride}
    return ModelCard(name="n", network="n", bands=names, **args)


BEFORE = np.array([[[1, 2, 3, 4], [5, 6, 7, 8], [0, 0, 0, 0], [-1, -1, 0, 0]]], np.float32)
AFTER = np.array([[[0, 0, 0, 1], [0, 0, 1, 0], [2, 2, 2, 2], [1, 1, 1, 1]]], np.float32)


@pytest.fixture
def toy() -> Layers:
    network = Toy()
    return Layers(network, card_of(network, 1), BEFORE, AFTER)


def values(layers: Layers, name: str, reduction: str = "mean") -> dict[str, np.ndarray]:
    return {each.label: each.values for each in layers.heat_maps([name], reduction=reduction)[name]}


def test_a_layer_before_an_activation_that_overwrites_it(toy):
    found = values(toy, "encode")
    assert list(found) == ["before", "after"]
    np.testing.assert_allclose(found["before"], (BEFORE[0] + 1 - 2 * BEFORE[0]) / 2)
    np.testing.assert_allclose(found["after"], (1 - AFTER[0]) / 2)


def test_channels_become_one_value_by_mean_maximum_or_norm(toy):
    x = BEFORE[0]
    np.testing.assert_allclose(values(toy, "encode", "max")["before"], np.maximum(x, 1 - 2 * x))
    np.testing.assert_allclose(values(toy, "encode", "norm")["before"], np.hypot(x, 1 - 2 * x), rtol=1e-6)


def test_dates_side_by_side_in_the_batch_in_the_width_or_as_a_pair(toy):
    relu = [np.maximum(x, 0) + np.maximum(1 - 2 * x, 0) for x in (BEFORE[0], AFTER[0])]
    joined, pooled, mixed = (values(toy, name) for name in ("joined", "pool", "mix"))
    np.testing.assert_allclose(joined["before"], relu[0] / 2)
    np.testing.assert_allclose(joined["after"], relu[1] / 2)
    np.testing.assert_allclose(pooled["before"], relu[0].reshape(2, 2, 2, 2).mean((1, 3)) / 2)
    assert list(pooled) == ["before", "after", ""]  # the second call sees both dates
    assert list(mixed) == ["before", "after"]  # both depend on both dates; the layer's inputs are a pair
    np.testing.assert_allclose(mixed["after"], (relu[0] - relu[1]) / 2)


def test_tokens_lie_on_the_image(toy):
    (found,) = values(toy, "tokens").values()
    assert found.shape == (2, 2)


def test_padding_is_part_of_what_a_map_covers():
    network = Toy()
    layers = Layers(network, card_of(network, 1), BEFORE[:, :3], AFTER[:, :3])
    (first, _) = layers.heat_maps(["encode"])["encode"]
    assert (first.values.shape, first.covers) == ((4, 4), (4, 4))


def test_the_table_says_what_there_is(toy):
    table = {info.name: info for info in toy.table()}
    assert "unused" not in table
    assert table["encode"].outputs == (("before", (2, 4, 4)), ("after", (2, 4, 4)))
    assert (table["encode"].kind, table["encode"].gives, table["whole"].gives) == ("Conv2d", "features", "no map")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("encod", "no layer 'encod'; did you mean encode"),
        ("zzz", "no layer 'zzz'; --layers lists them"),
        ("unused", "takes no part in a prediction"),
        ("whole", r"'whole' \(AdaptiveAvgPool2d\) gives nothing that lies on the image"),
    ],
)
def test_layers_that_cannot_be_drawn(toy, name, message):
    with pytest.raises(InputError, match=message):
        toy.heat_maps([name])


def test_inputs_that_do_not_fit(toy):
    network = Toy()
    with pytest.raises(ShapeError, match="must have one shape"):
        Layers(network, card_of(network, 1), BEFORE, AFTER[:, :2])
    with pytest.raises(BandError, match="takes 3 bands"):
        Layers(network, card_of(network, 3), BEFORE, AFTER)
    with pytest.raises(InputError, match="must be one of mean, max, norm"):
        toy.heat_maps(["encode"], reduction="median")


def written_out(query: Tensor, key: Tensor, scale: float | None = None) -> Tensor:
    """The weights ``(N, M)``, got by letting each key give itself as its value."""
    return attend_tokens(query, key, torch.eye(key.shape[1])[None], scale=scale)[0]


def test_mean_attention_is_the_mean_of_the_weights():
    torch.manual_seed(0)
    query, key = torch.randn(1, 6, 4), torch.randn(1, 5, 4)
    share = torch.tensor([[0, 0.5, 0, 0.25, 0.25, 0]])
    expected = share[0] @ written_out(query, key) * 5
    torch.testing.assert_close(mean_attention(query, key, share)[0], expected)
    assert mean_attention(query, key, torch.zeros(1, 6)).tolist() == [[0] * 5]


def test_query_share_takes_the_cells_that_a_place_touches():
    like = torch.zeros(())
    assert query_share((2, 4), (0.6, 0.3, 0.6, 0.3), like)[0, 0].tolist() == [[0, 0, 0, 0], [0, 1, 0, 0]]
    assert query_share((2, 4), (0, 0.25, 0.5, 0.75), like)[0, 0].tolist() == [[0, 0.5, 0.5, 0], [0, 0, 0, 0]]
    assert query_share((2, 4), (1, 1, 1, 1), like)[0, 0, 1, 3] == 1
    assert query_share((2, 4), None, like).unique().tolist() == [0.125]


def opened(name: str, **arguments) -> tuple[ChangeNetwork, Layers]:
    torch.manual_seed(0)
    network = create_model(name, **{**SMALL.get(name, {}), **arguments}).eval()
    rng = np.random.default_rng(0)
    dates = (rng.normal(size=(3, 64, 96)).astype(np.float32) for _ in range(2))
    return network, Layers(network, card_of(network), *dates)


def test_mccrnet_looks_from_one_date_at_the_other():
    network, layers = opened("mccrnet")
    seen = []
    hook = network.attention[2].position.register_forward_hook(lambda module, inputs, _: seen.append((module, inputs)))
    cell = (2.5 / 8, 7.5 / 12, 2.5 / 8, 7.5 / 12)  # level 3 has 8 x 12 cells
    found = {each.label: each for each in layers.heat_maps(["attention.2.position"], at=cell)["attention.2.position"]}
    hook.remove()
    module, inputs = seen[0]
    with torch.inference_mode():
        a, b = dates_of(module.pyramid(torch.cat(inputs, 0)), 1)
        query, key = module.query(a)[0].flatten(1).numpy(), module.key(b)[0].flatten(1).numpy()
    energy = np.array([sum(query[c, 2 * 12 + 7] * key[c, j] for c in range(len(query))) for j in range(96)])  # Eq. (2)
    expected = np.exp(energy - energy.max())
    np.testing.assert_allclose(found["before-after"].values.ravel(), expected / expected.sum() * 96, rtol=1e-4)
    energy = key[:, 2 * 12 + 7] @ query
    expected = np.exp(energy - energy.max())
    np.testing.assert_allclose(found["after-before"].values.ravel(), expected / expected.sum() * 96, rtol=1e-4)
    assert found["after-before"].queried


def test_mccrnet_relates_pixels_to_regions():
    layers = opened("mccrnet")[1]
    found = {
        each.label: each.values for each in layers.heat_maps(["refine.relation"], at=(0, 0, 1, 1))["refine.relation"]
    }
    assert {label: each.shape for label, each in found.items()} == {"unchanged": (64, 96), "changed": (64, 96)}
    np.testing.assert_allclose(found["unchanged"] + found["changed"], 1, rtol=1e-5)
    both = values(layers, "attention.1")
    assert list(both) == ["before", "after"]
    plain = opened("mccrnet", aspca=False, ccr=False)[1]
    assert list(values(plain, "attention.1")) == ["before", "after"]
    assert not plain.has("refine.relation")


@pytest.mark.parametrize("attention", ["bam", "pam"])
def test_stanet_looks_at_both_dates_within_its_parts(attention):
    network, layers = opened("stanet", attention=attention)
    name = "attention" if attention == "bam" else "attention.branches.1"
    seen = []
    module = network.get_submodule(name)
    hook = module.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    cell = (3.5 / 16, 20.5 / 24, 3.5 / 16, 20.5 / 24)  # row 3 of 16, column 20 of 24
    found = {each.label: each.values for each in layers.heat_maps([name], at=cell)[name]}
    hook.remove()
    assert list(found) == ["before-before", "before-after", "after-before", "after-after"]
    with torch.inference_mode():
        q, k = (layer(seen[0])[0] for layer in (module.query, module.key))  # (K, 16, 2 * 24)
    parts = 1 if attention == "bam" else 2
    rows, cols = slice(0, 16 // parts), slice(24 - 24 // parts, 24)
    keys = torch.stack([k[:, rows, cols], k[:, rows, cols.start + 24 : cols.stop + 24]])  # date, K, row, column
    for date, query in (("before", q[:, 3, 20]), ("after", q[:, 3, 44])):
        weights = (torch.einsum("k,dkrc->drc", query, keys) / 8**0.5).flatten().softmax(0).view(keys[:, 0].shape)
        for other, expected in zip(("before", "after"), weights * weights.numel(), strict=True):
            inside = np.zeros((16, 24), np.float32)
            inside[rows, cols] = expected
            np.testing.assert_allclose(found[f"{date}-{other}"], inside, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in WIDE)) for name in list_models()]
)
def test_every_layer_with_maps_can_be_drawn(name):
    network, layers = opened(name)
    weights = copy.deepcopy(network.state_dict())
    table = layers.table()
    drawn = [info for info in table if info.gives != "no map"]
    attention = [info.name for info in table if info.gives == "attention"]
    found = layers.heat_maps([info.name for info in drawn[:: max(len(drawn) // 12, 1)]] + attention)
    for maps in found.values():
        assert len({each.label for each in maps}) == len(maps)
        assert all(each.values.ndim == 2 and np.isfinite(each.values).all() for each in maps)
    by_place = [each for maps in found.values() for each in maps if each.unit == "attention, × even"]
    for layer in {each.layer for each in by_place}:
        same = [each.values.mean() for each in by_place if each.layer == layer]
        assert name == "stanet" or np.mean(same) == pytest.approx(1, abs=0.02)
    assert {key for key, x in network.state_dict().items() if not torch.equal(x, weights[key])} == set()
    assert not any(module._forward_hooks for module in network.modules())
