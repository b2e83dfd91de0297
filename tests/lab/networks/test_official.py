"""Official checkpoints: each layout against the published network computed on the authors' names."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from terradelta.card import ModelCard
from terradelta.errors import InputError, ModelError
from terradelta.lab.networks import create_model, list_models
from terradelta.lab.networks.official import LAYOUTS, Scaling, import_official, official_name

from . import official_oracles as oracles
from .official_oracles import Weights

pytestmark = pytest.mark.usefixtures("one_thread")

OWN = Scaling((0.4, 0.5, 0.6), (0.2, 0.2, 0.3))


def _dates(side: int = 64, channels: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.rand(1, channels, side, side, generator=generator) for _ in range(2)]


def _published(oracle: Callable[..., Tensor], *files: Weights, dates: list[Tensor], **options: Any) -> Tensor:
    """What the official network gives for what is in the files, which it fills first."""
    with torch.no_grad():
        oracle(*files, *dates, **options)
        return oracle(*files, *dates, **options)


def _same(found: Tensor, expected: Tensor) -> None:
    assert expected.std() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=2e-4 * float(expected.abs().max()))


def _saved(path: Path, weights: Weights, wrap: str = "") -> Path:
    torch.save({wrap: weights.state, "best_val_acc": np.float64(0.9)} if wrap else weights.state, path)
    return path


@pytest.mark.parametrize("name", ["fc_ef", "fc_siam_conc", "fc_siam_diff"])
def test_fc(name: str, tmp_path: Path) -> None:
    weights, dates = Weights(), _dates(32, 4)
    expected = _published(oracles.fc, weights, dates=dates, kind=name.rsplit("_", 1)[1])
    file = _saved(tmp_path / "net.pth.tar", weights)
    with pytest.raises(
        InputError, match=rf"the official code of {name} holds no scaling that a card could; give a mean"
    ):
        import_official([file], name)
    with pytest.raises(
        InputError, match=r"net.pth.tar takes 4 bands and the scaling has 3 \(red, green, blue\); name its"
    ):
        import_official([file], name, scaling=OWN)
    four = Scaling((0.1,) * 4, (0.2,) * 4, ("red", "green", "blue", "nir"))
    found = import_official([file], name, scaling=four)
    assert (found.card.network_args, found.card.bands[3], found.left_out) == ({"in_channels": 4}, "nir", {})
    assert found.unknown == ("the mean and deviation: the official code scales every image by its own",)
    with torch.no_grad():
        _same(found.network(*dates), expected)


@pytest.mark.parametrize("pool", ["mean", "max", ""])
def test_snunet(pool: str, tmp_path: Path) -> None:
    """A state dict has no word of the pool, so that of the released weights is taken, and said."""
    weights, dates = Weights(), _dates(32)
    expected = _published(oracles.snunet, weights, dates=dates, n=8, pool=pool)
    arguments = {"ecam_pool": "max"} if pool == "max" else {}
    found = import_official([_saved(tmp_path / "a.pt", weights)], "snunet", arguments=arguments)
    assert found.card.network_args["width"] == 8
    assert found.card.network_args["ecam"] == bool(pool)
    assert bool(found.unknown) == (pool == "mean")
    with torch.no_grad():
        _same(found.network(*dates), expected)
    np.testing.assert_allclose(found.card.normalise(np.full((3, 1, 1), 200, np.uint8)), 200, rtol=1e-6)


@pytest.mark.parametrize(("depth", "width"), [(8, 8), (1, 64)])
def test_bit(depth: int, width: int, tmp_path: Path) -> None:
    weights, dates = Weights(), _dates()
    expected = _published(oracles.bit, weights, dates=dates, depth=depth, width=width)
    for key in ("resnet.layer4.0.conv1.weight", "resnet.layer4.1.bn2.bias", "resnet.fc.weight"):
        weights.get(key, 2, 2)
    file = _saved(tmp_path / "best_ckpt.pt", weights, "model_G_state_dict")
    found = import_official([file], "bit")
    assert found.card.network_args == {"in_channels": 3, "decoder_depth": depth, "decoder_head_width": width}
    assert sorted(found.left_out) == ["resnet.fc.weight", "resnet.layer4.0.conv1.weight", "resnet.layer4.1.bn2.bias"]
    assert found.unknown == ()
    with torch.no_grad():
        _same(found.network(*dates), expected)
    np.testing.assert_allclose(found.card.normalise(np.full((3, 1, 1), 255, np.uint8)), 1)
    assert found.card.threshold == 0.5


@pytest.mark.parametrize("attention", ["base", pytest.param("bam", marks=pytest.mark.slow), "pam"])
def test_stanet_of_two_files(attention: str, tmp_path: Path) -> None:
    features, attending, dates = Weights(1), Weights(2), _dates()
    expected = _published(oracles.stanet, features, attending, dates=dates, attention=attention)
    files = [_saved(tmp_path / "net_F.pth", features)]
    files += [] if attention == "base" else [_saved(tmp_path / "net_A.pth", attending)]
    found = import_official(files, "stanet")
    assert found.card.network_args["attention"] == attention
    assert list(found.left_out) == (["Self_Att.gamma"] if attention == "bam" else [])
    with torch.no_grad():
        _same(found.network(*dates) / 4 + 1, expected)


@pytest.mark.parametrize("backbone", [pytest.param("resnet50", marks=pytest.mark.slow), "vgg16"])
def test_dasnet_with_a_mean_of_each_date_and_blue_first(backbone: str, tmp_path: Path) -> None:
    """Values as stored go through the card into our network, and as in the authors' loader into theirs."""
    generator = np.random.default_rng(0)
    stored = [generator.integers(0, 256, (3, 64, 64), np.uint8) for _ in range(2)]
    means = ((87.72, 100.2, 90.43), (120.24, 127.93, 121.18))
    theirs = [
        torch.from_numpy(image[::-1].astype(np.float32) - np.float32(mean)[:, None, None])[None] / 100
        for image, mean in zip(stored, means, strict=True)
    ]
    weights = Weights()
    expected = _published(oracles.dasnet, weights, dates=theirs, backbone=backbone)
    first = next(key for key in weights.state if key.endswith("conv1.weight") or key.endswith("conv1.0.weight"))
    weights.state[first] /= 100  # keeps values small
    file = _saved(tmp_path / "model_best.pth", weights, "state_dict")
    with pytest.raises(
        InputError, match="dasnet has more than one scaling, by its training data; name one of cdd, bcdd"
    ):
        import_official([file], "dasnet")
    found = import_official([file], "dasnet", scaling="cdd")
    assert len(found.left_out) == (1 if backbone == "resnet50" else 3)
    assert not found.card.symmetric
    assert any(text.startswith("the threshold") for text in found.unknown)
    card = ModelCard.from_json(found.card.to_json())
    with torch.no_grad():
        ours = [torch.from_numpy(card.normalise(image))[None] for image in stored]
        _same(found.network(*ours) / 4 + 1, expected)


@pytest.mark.slow
def test_ifn(tmp_path: Path) -> None:
    weights, dates = Weights(), _dates(32)
    expected = _published(oracles.ifn, weights, dates=dates)
    found = import_official([_saved(tmp_path / "ifn.pth", weights)], "ifn", scaling=OWN)
    assert set(found.left_out.values()) == {
        "the second date's encoder, which is the first one's",
        "layers that the official network never uses",
    }
    with torch.no_grad():
        _same(torch.sigmoid(found.network(*dates)), expected)
    weights.state["t2_base.features.28.bias"] += 1
    with pytest.raises(
        ModelError, match=r"t1_base.features.28.bias differs between the dates: two encoders, where IFN"
    ):
        import_official([_saved(tmp_path / "two.pth", weights)], "ifn", scaling=OWN)
    weights.state["sa.conv1.weight"] = torch.zeros(1, 2, 7, 7)
    with pytest.raises(ModelError, match="it is of the code before March 2021"):
        import_official([_saved(tmp_path / "old.pth", weights)], "ifn", scaling=OWN)


def test_sfearnet_with_blue_first(tmp_path: Path) -> None:
    weights, dates = Weights(), _dates(64)
    expected = _published(oracles.sfearnet, weights, dates=dates)
    found = import_official([_saved(tmp_path / "netCD_epoch.pth", weights)], "sfearnet")
    assert found.card.bands == ("red", "green", "blue")
    with torch.no_grad():
        _same(found.network(*(date.flip(1) for date in dates)), expected)


def test_what_is_not_the_whole_network_is_refused(tmp_path: Path) -> None:
    weights = Weights()
    _published(oracles.fc, weights, dates=_dates(32), kind="diff")

    def refused(change: Callable[[dict[str, Tensor]], object], message: str) -> None:
        state = dict(weights.state)
        change(state)
        torch.save(state, tmp_path / "net.pth")
        with pytest.raises(ModelError, match=message):
            import_official([tmp_path / "net.pth"], "fc_siam_diff", scaling=OWN)

    refused(
        lambda s: s.pop("bn42d.running_var"), "net.pth has no bn42d.running_var, which FCSiamDiff's decoder.blocks.3.1"
    )
    refused(
        lambda s: s.update({"aux.weight": torch.zeros(1)}), "net.pth holds aux.weight, which the official network does"
    )
    refused(
        lambda s: s.update({"conv21.weight": torch.zeros(32, 16, 1, 1)}),
        r"net.pth: conv21.weight is \(32, 16, 1, 1\) and encoder.levels.1.0.0.weight is \(32, 16, 3, 3\)",
    )
    refused(
        lambda s: s.pop("conv11d.weight"), "net.pth: no conv11d.weight; it is not the official checkpoint of 'fc_siam"
    )
    with pytest.raises(
        ModelError, match="no official checkpoint of 'mccrnet' that could be read; there are layouts for bit"
    ):
        import_official([tmp_path / "net.pth"], "mccrnet")


def test_counters_that_old_files_lack(tmp_path: Path) -> None:
    weights, dates = Weights(), _dates(32)
    expected = _published(oracles.fc, weights, dates=dates, kind="diff")
    weights.state = {key: value for key, value in weights.state.items() if "num_batches" not in key}
    found = import_official([_saved(tmp_path / "net.pth", weights)], "fc_siam_diff", scaling=OWN)
    with torch.no_grad():
        _same(found.network(*dates), expected)


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_no_two_weights_have_one_official_name(name: str) -> None:
    with torch.device("meta"):
        keys = list(create_model(name).state_dict())
    names = [official_name(LAYOUTS[name].rules, key) for key in keys]
    assert len(set(names)) == len(keys)


def test_every_layout_states_its_source_and_licence() -> None:
    assert set(LAYOUTS) <= set(list_models())
    for name, layout in LAYOUTS.items():
        assert "github.com/" in layout.source, name
        assert layout.licence, name
        assert all(math.prod(s.std) > 0 for s in layout.scalings.values())
