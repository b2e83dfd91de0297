"""How strange images look to a network: from its training crops, in the exported file, with its limit."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from terradelta.card import ModelCard
from terradelta.errors import DataError, ModelError
from terradelta.lab.export import domain
from terradelta.lab.export.domain import DIRECTIONS, DomainHead, measure_domain
from terradelta.lab.export.to_onnx import export_onnx
from terradelta.lab.networks import create_model
from terradelta.predict.openvino import OpenVINOPredictor

pytestmark = pytest.mark.usefixtures("one_thread")
CARD = ModelCard("small", "mlla_sianet", ("red", "green", "blue"), (0.5,) * 3, (0.25,) * 3)


@pytest.fixture(autouse=True)
def few_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(domain, "CROPS", 40)


def smooth(rng: np.random.Generator, side: int) -> np.ndarray:
    """Soft blobs ``(3, side, side)``."""
    coarse = rng.integers(60, 190, (3, side // 16, side // 16))
    return np.kron(coarse, np.ones((16, 16))).astype(np.uint8)


def pair(write_image, root: Path, split: str, name: str, before: np.ndarray, after: np.ndarray) -> None:
    for part, values in (("A", before), ("B", after), ("label", np.zeros((1, *before.shape[1:]), np.uint8))):
        path = root / split / part / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, values)


@pytest.fixture
def folder(tmp_path: Path, write_image) -> Path:
    """Four pairs a split."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for number in range(4):
            pair(write_image, tmp_path / "data", split, str(number), smooth(rng, 320), smooth(rng, 320))
    return tmp_path / "data"


def test_what_lies_in_the_known_directions_is_not_strange():
    rng = torch.Generator().manual_seed(0)
    known = torch.randn(500, DIRECTIONS, generator=rng, dtype=torch.float64)
    axes = torch.linalg.qr(torch.randn(60, 60, generator=rng, dtype=torch.float64))[0]
    noise = 0.01 * torch.randn(500, 60, generator=rng, dtype=torch.float64)
    features = known @ axes[:DIRECTIONS] + noise + 7
    head = DomainHead(features)
    assert float(head(features).mean()) == pytest.approx(1)
    further = features.clone()
    further[:, :] += 0.3 * axes[DIRECTIONS]
    assert float(head(further).min()) > 10


def test_images_of_another_kind_are_beyond_the_limit(folder: Path, tmp_path: Path):
    torch.manual_seed(0)
    network = create_model("mlla_sianet").eval()
    found_domain = measure_domain(network, CARD, str(folder))
    path = tmp_path / "n.onnx"
    export_onnx(network, CARD, path, domain=found_domain)
    predictor = OpenVINOPredictor(path, precision="f32", threads=1)
    assert predictor.card.domain_limit == found_domain.limit
    rng = np.random.default_rng(5)
    own = np.stack([smooth(rng, 256) for _ in range(2)])[:, None].astype(np.float32)
    other = (rng.integers(0, 2, (2, 1, 3, 256, 256)) * 255).astype(np.float32)
    with torch.no_grad():
        features = network.features(torch.from_numpy(CARD.normalise(own[:, 0])))
        assert features is not None
        expected = found_domain.head(features.double())
    found = predictor.strangeness(own[0], own[1])
    assert found is not None
    assert found.shape == (2, 1)
    assert found[:, 0] == pytest.approx(expected.numpy(), rel=1e-3)
    strange = predictor.strangeness(other[0], other[1])
    assert strange is not None
    assert strange.min() > 2 * found_domain.limit > 2 * found.max() / 3
    # The network itself is what it is without.
    export_onnx(network, CARD, tmp_path / "plain.onnx")
    plain = OpenVINOPredictor(tmp_path / "plain.onnx", precision="f32", threads=1)
    assert plain.strangeness(own[0], own[1]) is None
    assert np.array_equal(plain.predict(own[0], own[1]), predictor.predict(own[0], own[1]))


def test_networks_that_do_not_tell_and_images_that_are_too_small(folder: Path, write_image, monkeypatch):
    with pytest.raises(ModelError, match="does not tell what its encoder sees; leave --domain out"):
        measure_domain(create_model("fc_ef"), dataclasses.replace(CARD, network="fc_ef"), str(folder))
    monkeypatch.setattr(domain, "CROPS", 20)
    with pytest.raises(DataError, match="20 crops are too few"):
        measure_domain(create_model("mlla_sianet"), CARD, str(folder))
    monkeypatch.setattr(domain, "CROPS", 40)
    shutil.rmtree(folder / "val")
    pair(write_image, folder, "val", "small", *np.zeros((2, 3, 8, 8), np.uint8))
    with pytest.raises(DataError, match="no validation pair is as large as 16 x 16 pixels"):
        measure_domain(create_model("mlla_sianet"), CARD, str(folder))
