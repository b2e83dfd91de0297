"""Every registered network through the commands of a user: a run's folder on GeoTIFFs, its export, the same map."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from numpy.typing import NDArray
from typer.testing import CliRunner

from terradelta import cli
from terradelta.card import ModelCard
from terradelta.lab.export import to_onnx as export
from terradelta.lab.inference.torch_predictor import TorchPredictor
from terradelta.lab.networks import create_model, list_models
from terradelta.lab.networks.checkpoint import load_network, save_network
from terradelta.predict.load import shipped_models

NARROWER: dict[str, dict[str, Any]] = {
    "mccrnet": {"width": 0.125},
    "dasnet": {"width": 0.125},
    "snunet": {"width": 8},
}
"""Options of a smaller network of the same code, for a CPU."""
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, NARROWER.get(name, {})) for name in list_models()),
    ("dasnet", {"width": 0.125, "backbone": "vgg16"}),
    ("stanet", {"attention": "base"}),
    ("stanet", {"attention": "bam"}),
    ("sfearnet", {"size": "b1"}),
    ("mccrnet", {"width": 0.125, "aspca": False}),
    ("mccrnet", {"width": 0.125, "ccr": False}),
    ("snunet", {"width": 8, "ecam": False}),
]
SIZE = (75, 101)
"""Rows and columns of the scene: multiples of no network's stride."""
PLACE = Affine(0.5, 0, 600000, 0, -0.5, 3400000)


def _scene(folder: Path, bands: int) -> tuple[Path, Path]:
    """Two dates of smooth ground; a part of the second one is other ground."""
    rng = np.random.default_rng(2)

    def ground() -> NDArray[np.uint8]:
        coarse = torch.from_numpy(rng.uniform(60, 200, (1, bands, 12, 15)))
        return torch.nn.functional.interpolate(coarse, size=SIZE, mode="bicubic")[0].clamp(1, 255).byte().numpy()

    dates = [ground(), ground()]
    unchanged = np.ones(SIZE, bool)
    unchanged[20:45, 30:60] = False
    dates[1] = np.where(unchanged, dates[0], dates[1])
    paths = (folder / "before.tif", folder / "after.tif")
    for path, values in zip(paths, dates, strict=True):
        profile = {"driver": "GTiff", "count": bands, "dtype": "uint8", "crs": "EPSG:32614", "transform": PLACE}
        with rasterio.open(path, "w", height=SIZE[0], width=SIZE[1], **profile) as target:
            target.write(values)
    return paths


def _normalised(pair: tuple[Path, Path]) -> list[torch.Tensor]:
    """A part of the scene as the network gets it."""
    values = [rasterio.open(path).read()[None, :, :64, :64] for path in pair]
    return [(torch.from_numpy(x).float() / 255 - 0.5) / 0.15 for x in values]


def _run(
    folder: Path, name: str, options: dict[str, Any], pair: tuple[Path, Path], bands: int = 3, *, contrast: float = 1
) -> ModelCard:
    """A run's folder as training leaves it: weights with batch statistics that fit the input, and a card."""
    torch.manual_seed(0)
    network = create_model(name, in_channels=bands, **options).train()
    dates = torch.randn(2, 4, bands, 64, 64)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None  # the mean of what it sees
        network(*dates)
        logits = network.eval()(*_normalised(pair))
    # Random weights can have large logits, or ones that hardly differ; enlarged too much, float32 shows.
    spread = max(logits.std().item(), 0.25) / contrast
    card = ModelCard(
        f"{name} for a test",
        name,
        tuple(f"band {k + 1}" for k in range(bands)),
        (0.5,) * bands,
        (0.15,) * bands,
        network_args={"in_channels": bands, **options},
        stride=network.stride,
        tile=network.tile,
        overlap=network.overlap,
        temperature=spread,
        logit_bias=-logits.mean().item() / spread,
    )
    folder.mkdir()
    save_network(network, card, folder / "best.ckpt")
    return card


def _terradelta(*arguments: object) -> str:
    result = CliRunner().invoke(cli.app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def _probability(out: Path) -> NDArray[np.float32]:
    with rasterio.open(out / "probability.tif") as source:
        assert source.crs.to_epsg() == 32614
        assert source.transform == PLACE
        assert source.shape == SIZE
        return source.read(1)


@pytest.fixture(autouse=True)
def _set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    torch.set_num_threads(1)
    monkeypatch.setattr(export, "cpu_has_bf16", lambda: False)  # random weights round badly


def _check(folder: Path, name: str, options: dict[str, Any], bands: int) -> None:
    pair = _scene(folder, bands)
    card = _run(folder / "run", name, options, pair, bands)
    _terradelta("map", *pair, "--model", folder / "run", "-o", folder / "of_run")
    of_run = _probability(folder / "of_run")
    before, after = (rasterio.open(path).read()[None] for path in pair)
    network, _ = load_network(folder / "run")
    expected = TorchPredictor(network, card, bf16=False).predict(before, after)[0]
    assert expected.std() > 1e-3
    np.testing.assert_allclose(of_run, expected, atol=2e-3)  # the scene fits a tile; stored in steps of a thousandth
    _terradelta("export", folder / "run", "-o", folder / "model.onnx")
    f32 = ("--precision", "f32")  # as the run; the default is bfloat16 where the processor has it
    _terradelta("map", *pair, "--model", folder / "model.onnx", "-o", folder / "of_file", *f32)
    np.testing.assert_allclose(_probability(folder / "of_file"), of_run, atol=2e-3)
    receipts = [json.loads((folder / out / "receipt.json").read_text()) for out in ("of_run", "of_file")]
    assert [receipt["model"]["network"] for receipt in receipts] == [name, name]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=str)
def test_a_run_maps_geotiffs_and_its_export_maps_them_alike(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    _check(tmp_path, name, options, 3)


@pytest.mark.slow
def test_weights_as_half_precision(tmp_path: Path) -> None:
    """Half the file, the same map but for their rounding."""
    pair = _scene(tmp_path, 3)
    _run(tmp_path / "run", "fc_siam_diff", {}, pair, contrast=0.5)
    for name, options in (("whole", ()), ("half", ("--half-weights",))):
        _terradelta("export", tmp_path / "run", "-o", tmp_path / f"{name}.onnx", *options)
        _terradelta("map", *pair, "--model", tmp_path / f"{name}.onnx", "-o", tmp_path / name, "--precision", "f32")
    sizes = [(tmp_path / f"{name}.onnx").stat().st_size for name in ("half", "whole")]
    assert sizes[0] < 0.56 * sizes[1]
    gap = np.abs(_probability(tmp_path / "half") - _probability(tmp_path / "whole"))
    assert 0 < gap.max() < 2e-3  # stored in steps of a thousandth


@pytest.mark.slow
def test_weights_that_half_precision_would_change_too_much(tmp_path: Path) -> None:
    _run(tmp_path / "run", "fc_siam_diff", {}, _scene(tmp_path, 3), contrast=8)
    path = tmp_path / "half.onnx"
    done = CliRunner().invoke(cli.app, ["export", str(tmp_path / "run"), "-o", str(path), "--half-weights"])
    assert done.exit_code == 2
    said = " ".join(done.output.split())
    assert "(allowed is 0.001); nothing was written; without --half-weights its weights are not rounded" in said
    assert not path.exists()


def test_half_precision_of_a_file_that_is_exported_already(tmp_path: Path) -> None:
    shipped = next(iter(shipped_models().values()))
    done = CliRunner().invoke(cli.app, ["export", str(shipped), "-o", str(tmp_path / "m.onnx"), "--half-weights"])
    assert done.exit_code == 2
    assert "--half-weights needs the training run or its checkpoint; " in " ".join(done.output.split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_thirteen_bands(tmp_path: Path) -> None:
    _check(tmp_path, "fc_siam_diff", {}, 13)
