"""ImageNet weights: fabricated checkpoints with torchvision's keys, no network."""

import hashlib
import urllib.error
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from terradelta.errors import MissingExtraError, ModelError
from terradelta.lab.networks import create_model
from terradelta.lab.networks._registry import ChangeNetwork
from terradelta.lab.networks.mlla_sianet import Encoder, MLLASiaNet
from terradelta.lab.networks.pretrained import IMAGENET, PACKAGED, TORCHVISION, encoder_source, initialise_encoder

# torchvision's vgg16 in an eighth of its width; features.24 on is block 5.
VGG_CONVOLUTIONS = {0: (3, 8), 2: (8, 8), 5: (8, 16), 7: (16, 16), 10: (16, 32), 12: (32, 32), 14: (32, 32)}
VGG_CONVOLUTIONS |= {17: (32, 64), 19: (64, 64), 21: (64, 64), 24: (64, 64), 26: (64, 64), 28: (64, 64)}
WIDTH = 0.125


def vgg16() -> dict[str, Tensor]:
    torch.manual_seed(5)
    state = {}
    for index, (inputs, outputs) in VGG_CONVOLUTIONS.items():
        state[f"features.{index}.weight"] = torch.randn(outputs, inputs, 3, 3)
        state[f"features.{index}.bias"] = torch.randn(outputs)
    return state | {"classifier.0.weight": torch.randn(8, 8), "classifier.0.bias": torch.randn(8)}


def small() -> ChangeNetwork:
    return create_model("mccrnet", width=WIDTH, aspca=False)


@pytest.mark.parametrize("zipped", [True, False])
def test_vgg16_from_a_file(tmp_path: Path, zipped: bool) -> None:
    """Also in the format of before torch 1.6, which torchvision's vgg16 has."""
    weights = vgg16()
    torch.save(weights, tmp_path / "vgg16.pth", _use_new_zipfile_serialization=zipped)
    network = small()
    head = network.refine.head.weight.clone()
    initialise_encoder(network, tmp_path / "vgg16.pth")
    got = network.encoder.state_dict()
    assert len(got) == 20
    assert all(torch.equal(value, weights[key]) for key, value in got.items())
    assert torch.equal(network.refine.head.weight, head)


def resnet(network: MLLASiaNet) -> dict[str, Tensor]:
    """As torchvision names them; without the counters that old checkpoints lack."""
    torch.manual_seed(6)
    state = {k: torch.randn_like(v) for k, v in network.encoder.state_dict().items() if "num_batches" not in k}
    return state | {"fc.weight": torch.randn(10, 16), "fc.bias": torch.randn(10)}


def test_resnet_from_a_file(tmp_path: Path) -> None:
    network = MLLASiaNet(Encoder(3, (8, 8, 16, 16), (1, 2, 1, 1), "resnet"))
    weights = resnet(network)
    assert {"conv1.weight", "bn1.running_var", "layer2.0.conv2.weight", "layer3.0.downsample.1.bias"} <= set(weights)
    torch.save(weights, tmp_path / "resnet.pth")
    initialise_encoder(network, str(tmp_path / "resnet.pth"))
    got = network.encoder.state_dict()
    assert all(torch.equal(got[key], value) for key, value in weights.items() if not key.startswith("fc."))
    assert got["bn1.num_batches_tracked"] == 0


def test_the_large_network_has_resnet34_s_keys() -> None:
    with torch.device("meta"):
        state = create_model("mlla_sianet_large").encoder.state_dict()
    blocks = [f"layer{i + 1}.{j}." for i, depth in enumerate((3, 4, 6, 3)) for j in range(depth)]
    convolutions = {"conv1.weight"} | {f"{block}conv{i}.weight" for block in blocks for i in (1, 2)}
    convolutions |= {f"layer{i}.0.downsample.0.weight" for i in (2, 3, 4)}
    assert {key for key, value in state.items() if value.ndim == 4} == convolutions


CASES: list[tuple[str, dict[str, Any], str]] = [
    ("mccrnet", {"aspca": False, "width": WIDTH}, "features.21.weight"),
    ("ifn", {}, "features.28.weight"),
    ("dasnet", {"backbone": "vgg16"}, "features.28.weight"),
    ("bit", {}, "layer3.1.conv2.weight"),
    ("stanet", {}, "layer4.1.conv2.weight"),
    ("mlla_sianet_large", {}, "layer4.2.conv2.weight"),
    ("dasnet", {}, "layer4.2.conv3.weight"),
]
"""Network, options, last key that it takes from a classifier."""


def classifier(name: str, width: float) -> dict[str, Tensor]:
    """Keys and shapes of torchvision's checkpoint, written down by its rule; stride tricks keep it small in memory."""
    if name == "vgg16":
        widths = [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
        indices, inputs, shapes = sorted(VGG_CONVOLUTIONS), 3, {}
        for index, outputs in zip(indices, (round(w * width) for w in widths), strict=True):
            shapes |= {f"features.{index}.weight": (outputs, inputs, 3, 3), f"features.{index}.bias": (outputs,)}
            inputs = outputs
        return _filled(shapes | {"classifier.6.weight": (10, 16)})
    depths = (2, 2, 2, 2) if name == "resnet18" else (3, 4, 6, 3)
    wide = name == "resnet50"
    shapes, inputs = {"conv1.weight": (64, 3, 7, 7), **_norm("bn1", 64), "fc.weight": (10, 16)}, 64
    for stage, depth in enumerate(depths):
        inner = 64 * 2**stage
        outputs = 4 * inner if wide else inner
        for block in range(depth):
            key = f"layer{stage + 1}.{block}"
            kernels = [(inner, inputs, 1, 1), (inner, inner, 3, 3), (outputs, inner, 1, 1)]
            kernels = kernels if wide else [(inner, inputs, 3, 3), (inner, inner, 3, 3)]
            for i, kernel in enumerate(kernels, 1):
                shapes |= {f"{key}.conv{i}.weight": kernel, **_norm(f"{key}.bn{i}", kernel[0])}
            if inputs != outputs:
                shapes[f"{key}.downsample.0.weight"] = (outputs, inputs, 1, 1)
                shapes |= _norm(f"{key}.downsample.1", outputs)
            inputs = outputs
    return _filled(shapes)


def _norm(key: str, channels: int) -> dict[str, tuple[int, ...]]:
    return {f"{key}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}


def _filled(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Every tensor has a value of its own."""
    return {key: torch.full((1,), float(i + 1)).expand(shape) for i, (key, shape) in enumerate(shapes.items())}


@pytest.mark.parametrize(("name", "options", "last"), CASES)
def test_every_network_with_such_an_encoder(
    name: str, options: dict[str, Any], last: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = create_model(name, **options)
    kind = "vgg16" if last.startswith("features") else {"bit": "resnet18", "stanet": "resnet18"}.get(name, "")
    kind = kind or ("resnet34" if name == "mlla_sianet_large" else "resnet50")
    weights = classifier(kind, options.get("width", 1.0))
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: weights)
    old = {key: value.clone() for key, value in network.state_dict().items()}
    initialise_encoder(network, IMAGENET)  # finds out which
    assert encoder_source(network, IMAGENET).startswith(f"ImageNet, {kind} (torchvision, BSD-3-Clause")
    got = network.state_dict()
    taken = [key for key, value in weights.items() if f"encoder.{key}" in got]
    assert last in taken
    assert all(torch.equal(got[f"encoder.{key}"], weights[key]) for key in taken)
    changed = {key for key, value in got.items() if not torch.equal(value, old[key])}
    assert changed == {f"encoder.{key}" for key in taken}
    left = {key.split(".")[2] for key in set(got) - changed if key.startswith("encoder.layer4.") and "num_b" not in key}
    assert left == ({"2"} if name == "stanet" else set())  # the third block, which ResNet-18 does not have


def mit(widths: tuple[int, ...]) -> dict[str, Tensor]:
    """SegFormer's ``mit_b0.pth`` by its rule: four stages of two blocks, reductions 8, 4, 2, 1, and a classifier."""
    shapes: dict[str, tuple[int, ...]] = {"head.weight": (10, widths[-1]), "head.bias": (10,)}

    def layer(key: str, *shape: int) -> None:
        shapes[f"{key}.weight"], shapes[f"{key}.bias"] = shape, shape[:1]

    for k, (inputs, c, reduction) in enumerate(zip((3, *widths), widths, (8, 4, 2, 1), strict=False), 1):
        layer(f"patch_embed{k}.proj", c, inputs, *(7, 7) if k == 1 else (3, 3))
        for key in (f"patch_embed{k}.norm", f"norm{k}", *(f"block{k}.{j}.norm{i}" for j in (0, 1) for i in (1, 2))):
            layer(key, c)
        for block in (f"block{k}.0", f"block{k}.1"):
            layer(f"{block}.attn.q", c, c)
            layer(f"{block}.attn.kv", 2 * c, c)
            layer(f"{block}.attn.proj", c, c)
            layer(f"{block}.mlp.fc1", 4 * c, c)
            layer(f"{block}.mlp.dwconv.dwconv", 4 * c, 1, 3, 3)
            layer(f"{block}.mlp.fc2", c, 4 * c)
            if reduction > 1:
                layer(f"{block}.attn.sr", c, c, reduction, reduction)
                layer(f"{block}.attn.norm", c)
    torch.manual_seed(8)
    return {key: torch.randn(shape) for key, shape in shapes.items()}


def test_mit_from_a_file_in_segformer_s_layout(tmp_path: Path) -> None:
    """Every weight of the file but the classifier's; images that come red first meet kernels that want blue first."""
    weights = mit((32, 64, 160, 256))
    torch.save(weights, tmp_path / "mit_b0.pth")
    network = create_model("sfearnet")
    initialise_encoder(network, tmp_path / "mit_b0.pth")
    assert encoder_source(network, tmp_path / "mit_b0.pth") == "mit_b0.pth"
    got = {key: value for key, value in network.encoder.state_dict().items()}
    assert len(got) == len(weights) - 2
    image = torch.rand(1, 3, 16, 16)
    expected = F.conv2d(image.flip(1), weights["patch_embed1.proj.weight"], weights["patch_embed1.proj.bias"], 4, 3)
    torch.testing.assert_close(network.encoder[0].embed(image), expected)
    for own, theirs in (
        ("0.blocks.1.attention.shrink.weight", "block1.1.attn.sr.weight"),
        ("1.embed_norm.bias", "patch_embed2.norm.bias"),
        ("2.blocks.0.norm2.weight", "block3.0.norm2.weight"),
        ("2.blocks.1.feed_forward.mix.weight", "block3.1.mlp.dwconv.dwconv.weight"),
        ("3.blocks.0.attention.key_value.bias", "block4.0.attn.kv.bias"),
        ("3.norm.weight", "norm4.weight"),
    ):
        assert torch.equal(got[own], weights[theirs])
    totals = [sum(float(value.double().sum()) for value in values) for values in (got.values(), weights.values())]
    classifier_total = float(weights["head.weight"].double().sum() + weights["head.bias"].double().sum())
    assert totals[0] == pytest.approx(totals[1] - classifier_total)


def test_mit_has_no_place_to_come_from_and_another_size_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="MiT's ImageNet weights can neither be shipped nor fetched; give the path"):
        initialise_encoder(create_model("sfearnet"), IMAGENET)
    torch.save(mit((64, 128, 320, 512)), tmp_path / "mit_b1.pth")
    with pytest.raises(ModelError, match=r"0\.embed\.weight is \(64, 3, 7, 7\) and the encoder's is \(32, 3, 7, 7\)"):
        initialise_encoder(create_model("sfearnet"), tmp_path / "mit_b1.pth")


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PACKAGED, "efficientnet_lite0", "no_such_package_of_weights")
    with pytest.raises(MissingExtraError, match=r"'efficientnet_lite0' \(package no-such-package-of-weights\) needs"):
        initialise_encoder(create_model("mlla_sianet_lite0"), IMAGENET)


def test_an_encoder_under_another_name(tmp_path: Path) -> None:
    network = small()
    network.backbone = network.encoder
    del network.encoder
    torch.save(vgg16(), tmp_path / "vgg16.pth")
    initialise_encoder(network, tmp_path / "vgg16.pth")
    assert torch.equal(network.backbone.state_dict()["features.0.weight"], vgg16()["features.0.weight"])


def test_by_name_it_asks_torch_s_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def answer(url: str, **options: object) -> dict[str, Tensor]:
        asked.append((url, options["check_hash"], options["weights_only"]))
        return vgg16()

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", answer)
    network = small()
    initialise_encoder(network, "vgg16")
    assert asked == [(TORCHVISION["vgg16"], True, True)]
    assert torch.equal(network.encoder.state_dict()["features.0.weight"], vgg16()["features.0.weight"])


def test_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fail)
    with pytest.raises(ModelError, match=r"'vgg16' cannot be downloaded from https://\S+vgg16.*give its path"):
        initialise_encoder(small(), "vgg16")


@pytest.fixture
def served(file_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fabricated vgg16 on a server of this machine, named after its hash as torch's are; torch's cache is empty."""
    torch.save(vgg16(), tmp_path / "vgg16.pth")
    content = (tmp_path / "vgg16.pth").read_bytes()
    path = file_server.folder / f"vgg16-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    path.write_bytes(content)
    monkeypatch.setitem(TORCHVISION, "vgg16", file_server.url(path.name))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    return path


def cache(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "torch" / "hub" / "checkpoints").glob("*"))


def test_downloaded_once_and_then_from_the_cache(served: Path, file_server: Any, tmp_path: Path) -> None:
    for _ in range(2):
        network = small()
        initialise_encoder(network, "vgg16")
        got = network.encoder.state_dict()
        assert all(torch.equal(value, vgg16()[key]) for key, value in got.items())
    assert file_server.requests == [("GET", f"/{served.name}")]
    assert [path.name for path in cache(tmp_path)] == [served.name]
    assert cache(tmp_path)[0].read_bytes() == served.read_bytes()


def test_a_file_of_another_hash_is_not_taken(served: Path, tmp_path: Path) -> None:
    weights = vgg16()
    weights["features.0.weight"] += 1
    torch.save(weights, served)
    with pytest.raises(ModelError, match=r"'vgg16' cannot be downloaded .*\(invalid hash value .*give its path"):
        initialise_encoder(small(), "vgg16")
    assert cache(tmp_path) == []


def test_a_connection_that_breaks_leaves_nothing(served: Path, file_server: Any, tmp_path: Path) -> None:
    file_server.held_back = 1000
    with pytest.raises(ModelError, match=r"'vgg16' cannot be downloaded .*vgg16-\w{8}\.pth"):
        initialise_encoder(small(), "vgg16")
    assert cache(tmp_path) == []
    file_server.held_back = 0
    initialise_encoder(small(), "vgg16")
    assert [path.name for path in cache(tmp_path)] == [served.name]


def test_a_server_without_the_file_or_out_of_order(served: Path, file_server: Any, tmp_path: Path) -> None:
    file_server.failures = 1
    with pytest.raises(ModelError, match=r"'vgg16' cannot be downloaded .*HTTP Error 503"):
        initialise_encoder(small(), "vgg16")
    served.unlink()
    with pytest.raises(ModelError, match=r"'vgg16' cannot be downloaded .*HTTP Error 404"):
        initialise_encoder(small(), "vgg16")
    assert cache(tmp_path) == []


def test_nobody_answers(served: Path, file_server: Any, tmp_path: Path) -> None:
    file_server.close()
    with pytest.raises(ModelError, match=r"'vgg16' cannot be downloaded .*[Rr]efused"):
        initialise_encoder(small(), "vgg16")
    assert cache(tmp_path) == []


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("left", [0, 100, 20_000])
def test_a_damaged_file_in_the_cache(served: Path, tmp_path: Path, left: int, zipped: bool) -> None:
    """Torch looks at the hash of what it downloads, not at what it kept."""
    torch.save(vgg16(), served, _use_new_zipfile_serialization=zipped)
    kept = tmp_path / "torch" / "hub" / "checkpoints" / served.name
    kept.parent.mkdir(parents=True)
    kept.write_bytes(served.read_bytes()[:left])
    with pytest.raises(
        ModelError, match=rf"{served.name} holds no weights of torch \(.*; remove it, so that 'vgg16' is"
    ):
        initialise_encoder(small(), "vgg16")


def test_the_addresses_are_those_of_torchvision() -> None:
    """As printed in torchvision's models/resnet.py and models/vgg.py for ``IMAGENET1K_V1``."""
    assert {name: url.removeprefix("https://download.pytorch.org/models/") for name, url in TORCHVISION.items()} == {
        "resnet18": "resnet18-f37072fd.pth",
        "resnet34": "resnet34-b627a593.pth",
        "resnet50": "resnet50-0676ba61.pth",
        "vgg16": "vgg16-397923af.pth",
    }


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError,
        match=r"no file of weights vgg19; give one, or one of: imagenet, resnet18, resnet34, resnet50, vgg16, eff",
    ):
        initialise_encoder(small(), "vgg19")
    text = tmp_path / "weights.pth"
    text.write_text("not weights")
    with pytest.raises(ModelError, match=r"weights\.pth holds no weights of torch \(\w+: "):
        initialise_encoder(small(), text)
    torch.save(torch.zeros(3), tmp_path / "tensor.pth")
    with pytest.raises(ModelError, match=r"tensor\.pth holds a Tensor; a dictionary of tensors"):
        initialise_encoder(small(), tmp_path / "tensor.pth")


def test_weights_that_do_not_fit_change_nothing(tmp_path: Path) -> None:
    file = tmp_path / "vgg16.pth"
    torch.save(vgg16(), file)
    for network, message in (
        (
            create_model("mccrnet", in_channels=4, width=WIDTH, aspca=False),
            r"features\.0\.weight is \(8, 3, 3, 3\) and .*\(8, 4, ",
        ),
        (create_model("mccrnet", width=0.25, aspca=False), r"fit three bands and the full width only"),
        (create_model("mlla_sianet"), r"vgg16\.pth has no conv1\.weight; the encoder needs an ImageNet classifier of"),
    ):
        old = {key: value.clone() for key, value in network.encoder.state_dict().items()}
        with pytest.raises(ModelError, match=message):
            initialise_encoder(network, file)
        assert all(torch.equal(value, old[key]) for key, value in network.encoder.state_dict().items())


def test_a_network_without_an_encoder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="ChangeNetwork has no encoder"):
        initialise_encoder(ChangeNetwork(), tmp_path / "any.pth")
    with pytest.raises(ModelError, match="SNUNet has no encoder"):
        initialise_encoder(create_model("snunet", width=4), tmp_path / "any.pth")
