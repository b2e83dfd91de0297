import copy
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from terradelta.card import CARD_KEY, ModelCard
from terradelta.errors import ModelError, OutputError
from terradelta.lab.export import to_onnx as export
from terradelta.lab.export.to_onnx import ExportCheck, export_onnx
from terradelta.lab.inference.torch_predictor import TorchPredictor
from terradelta.lab.networks import ChangeNetwork, create_model, list_models, receptive_field
from terradelta.predict.load import PrecisionWarning
from terradelta.predict.openvino import OpenVINOPredictor, cpu_has_bf16

pytestmark = pytest.mark.usefixtures("one_thread")

DEFAULT = "mlla_sianet"
NARROWER: dict[str, dict[str, Any]] = {"mccrnet": {"width": 0.25}, "dasnet": {"width": 0.25}, "ifn": {"width": 0.25}}
"""Options of a smaller network with the same graph."""
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, NARROWER.get(name, {})) for name in list_models()),
    ("dasnet", {"width": 0.25, "backbone": "vgg16"}),
    ("stanet", {"attention": "base"}),
    ("stanet", {"attention": "bam"}),
    ("sfearnet", {"size": "b1"}),
    ("mccrnet", {"width": 0.25, "aspca": False}),
    ("mccrnet", {"width": 0.25, "ccr": False}),
]
NETWORKS = [
    pytest.param((name, options), marks=() if name == DEFAULT else pytest.mark.slow, id=f"{name}-{options}")
    for name, options in VARIANTS
]


@dataclass
class Exported:
    network: ChangeNetwork
    card: ModelCard
    path: Path
    check: ExportCheck


def _network(name: str, options: dict[str, Any]) -> ChangeNetwork:
    """As after training: batch statistics that fit the input, and a head whose logits differ from pixel to pixel."""
    torch.manual_seed(0)
    network = create_model(name, in_channels=2, **options)
    for key, p in network.named_parameters():
        if key == "head.weight":
            torch.nn.init.normal_(p, std=0.06)
    with torch.no_grad():
        for _ in range(20):  # the running statistics move by a tenth each time
            network(torch.randn(2, 2, 64, 64), torch.randn(2, 2, 64, 64))
    return network


def _card(
    name: str, options: dict[str, Any], stride: int = 1, temperature: float = 1.5, logit_bias: float = 0
) -> ModelCard:
    return ModelCard(
        f"w_{name}",
        name,
        ("red", "nir"),
        (0.4, 0.3),
        (0.2, 0.1),
        network_args={"in_channels": 2, **options},
        stride=stride,
        threshold=0.37,
        temperature=temperature,
        logit_bias=logit_bias,
        data="Fabricated",
        licence="Any",
    )


@pytest.fixture(scope="module", params=NETWORKS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    network = _network(*request.param)
    noise = (torch.randint(0, 256, (2, 1, 2, 64, 64)) / 255 - 0.35) / 0.15
    with torch.no_grad():  # random weights can have logits so large, or so far from 0, that rounding shows or vanishes
        logits = network.eval()(*noise)
    temperature = max(3.0, 2 * logits.std().item())
    card = _card(*request.param, network.stride, temperature, -logits.mean().item() / temperature)
    path = tmp_path_factory.mktemp("export") / "new" / "m.onnx"
    network.train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PrecisionWarning)  # random weights can round badly in bfloat16
        check = export_onnx(network, card, path)
    assert network.training, "the network that was given is left as it is"
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    return Exported(network.eval(), card, path, check)


@pytest.mark.parametrize("shape", [(1, 2, 64, 64), (3, 2, 96, 160), (1, 2, 33, 50)])
def test_openvino_gives_what_the_network_gives_at_any_batch_and_size(
    exported: Exported, shape: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(5)
    before, after = (rng.integers(0, 256, shape, np.uint8) for _ in range(2))
    expected = TorchPredictor(exported.network, exported.card, bf16=False).predict(before, after)
    found = OpenVINOPredictor(exported.path, precision="f32", threads=1).predict(before, after)
    assert np.abs(found - expected).max() < 0.02 * expected.std()
    np.testing.assert_allclose(found, expected, atol=export.TOLERANCE)


def test_the_card_travels_in_the_file(exported: Exported) -> None:
    model = onnx.load(exported.path)
    network = exported.network
    card = exported.card.replace(
        stride=network.stride, tile=network.tile, overlap=network.overlap, receptive_field=receptive_field(network, 2)
    )
    assert card.receptive_field > network.stride
    assert {p.key: p.value for p in model.metadata_props}[CARD_KEY] == card.to_json()
    assert model.doc_string == f"{exported.card.name}: Fabricated. Any"
    assert OpenVINOPredictor(exported.path, threads=1).card == card
    onnx.checker.check_model(model)
    assert [i.name for i in model.graph.input] == ["before", "after"]
    assert [o.name for o in model.graph.output] == ["logits"]


def test_no_path_of_this_machine_is_in_the_file(exported: Exported) -> None:
    assert str(Path(export.__file__).parents[3]).encode() not in exported.path.read_bytes()


def test_the_check_says_how_far_it_is_off(exported: Exported) -> None:
    check = exported.check
    assert set(check.largest_difference) == set(check.mean_difference) == {"f32"} | ({"bf16"} & _capable())
    assert check.largest_difference["f32"] <= export.TOLERANCE
    assert all(check.mean_difference[p] <= check.largest_difference[p] for p in check.mean_difference)
    assert {shape[0] for shape in check.shapes} == {1, 2}


def _capable() -> set[str]:
    return {"bf16"} if cpu_has_bf16() else set()


def test_nothing_else_is_left_in_the_folder(exported: Exported) -> None:
    assert [p.name for p in exported.path.parent.iterdir()] == ["m.onnx"]


def test_folding_batch_normalisation_keeps_the_function(exported: Exported) -> None:
    folded = export._fold_batch_norm(copy.deepcopy(exported.network))
    x, y = torch.randn(1, 2, 64, 64), torch.randn(1, 2, 64, 64)
    with torch.no_grad():
        expected = exported.network(x, y)
        torch.testing.assert_close(folded(x, y), expected, rtol=1e-4, atol=1e-4 * max(1, expected.abs().max().item()))
    kinds = [sum(isinstance(m, torch.nn.BatchNorm2d) for m in n.modules()) for n in (folded, exported.network)]
    assert kinds[0] <= kinds[1]
    assert exported.card.network != DEFAULT or kinds[0] < kinds[1]


@pytest.fixture
def quick(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> Exported:
    """Exporting gives the model that was exported already."""
    monkeypatch.setattr(export, "_trace", lambda *_: onnx.load(exported.path))
    return exported


def test_weights_as_half_precision(quick: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half the size, nearly the result, and checked against a tolerance of its own."""
    if quick.card.network != DEFAULT:  # random weights of a deep network show their rounding more than trained ones
        monkeypatch.setattr(export, "HALF_TOLERANCE", 1e-2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PrecisionWarning)
        check = export_onnx(quick.network, quick.card, tmp_path / "half.onnx", half_weights=True)
    sizes = [path.stat().st_size for path in (tmp_path / "half.onnx", quick.path)]
    assert sizes[0] < 0.56 * sizes[1]
    assert 0 < check.largest_difference["f32"] <= export.HALF_TOLERANCE
    model = onnx.load(tmp_path / "half.onnx")
    del model.metadata_props[1:]  # the card is there twice, because `quick` starts from a file that has one
    onnx.checker.check_model(model)


def test_weights_too_large_for_half_precision_stay(tmp_path: Path) -> None:
    values = [np.full(300, 1.5, np.float32), np.full(300, 1e6, np.float32), np.ones(3, np.float32)]
    names = ["fits", "large", "few"]
    constants = [onnx.numpy_helper.from_array(v, n) for v, n in zip(values, names, strict=True)]
    graph = onnx.helper.make_graph([], "g", [], [], constants)
    export._store_as_half(graph)
    assert [w.name for w in graph.initializer] == ["fits_half", "large", "few"]
    assert [(list(n.input), list(n.output)) for n in graph.node] == [(["fits_half"], ["fits"])]


def test_a_network_that_differs_is_not_written(quick: Exported, tmp_path: Path) -> None:
    torch.manual_seed(9)
    other = create_model(quick.card.network, in_channels=2)
    with pytest.raises(ModelError, match=r"differs from the eager one by up to .* \(allowed is 0.0005\); nothing w"):
        export_onnx(other, quick.card, tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_one_that_is_rough_in_bfloat16_is_written_with_a_warning(
    quick: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Rounding(OpenVINOPredictor):
        def __init__(self, path: Path, *, precision: str, threads: int) -> None:
            super().__init__(path, precision="f32", threads=threads)
            self.rough = precision == "bf16"

        def logits(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
            return super().logits(before, after) + (9 * self.card.temperature if self.rough else 0)

    monkeypatch.setattr(export, "cpu_has_bf16", lambda: True)
    monkeypatch.setattr(export, "OpenVINOPredictor", Rounding)
    with pytest.warns(
        PrecisionWarning, match=r"in bfloat16, .* are off by up to 0\.\d+, .* in the mean; --precision f32 "
    ):
        check = export_onnx(quick.network, quick.card, tmp_path / "m.onnx")
    assert check.largest_difference["bf16"] > 0.1 > check.largest_difference["f32"]
    assert (tmp_path / "m.onnx").is_file()


def test_a_place_that_cannot_be_written(quick: Exported, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match=r"file/m.onnx cannot be written"):
        export_onnx(quick.network, quick.card, tmp_path / "file" / "m.onnx")


def test_the_name_ends_in_onnx(tmp_path: Path) -> None:
    network = torch.nn.Identity()
    with pytest.raises(OutputError, match=r"m.pt: the name of an exported model ends in .onnx"):
        export_onnx(network, _card(DEFAULT, {}), tmp_path / "m.pt")
