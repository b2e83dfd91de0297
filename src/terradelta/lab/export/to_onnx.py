"""Checkpoint to ONNX, compared with the eager network before the command returns."""

import copy
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from terradelta.card import CARD_KEY, ModelCard
from terradelta.errors import ModelError, OutputError
from terradelta.files import whole_file
from terradelta.lab.export.domain import Domain, DomainHead
from terradelta.lab.inference.fused import fused
from terradelta.lab.inference.torch_predictor import TorchPredictor
from terradelta.lab.networks import ChangeNetwork, receptive_field
from terradelta.logs import quiet
from terradelta.predict.load import PrecisionWarning
from terradelta.predict.openvino import STRANGENESS, OpenVINOPredictor, Precision, cpu_has_bf16

__all__ = ["ExportCheck", "export_onnx"]

OPSET = 20
TOLERANCE = 5e-4
"""Largest difference of a probability between the exported network in float32 and the eager one: half of the step in
which maps store it. Rounding alone makes 2e-4 where features nearly cancel, as in STANet with random weights."""
HALF_TOLERANCE = 1e-3
"""Likewise where weights are stored as float16."""
ROUGH = 0.1
"""A difference in bfloat16 above this is worth a warning."""


@dataclass(frozen=True)
class ExportCheck:
    """How far the exported network is from the eager one, as the largest difference of a probability."""

    largest_difference: dict[str, float]
    """By precision: ``f32``, and ``bf16`` where the CPU has it."""
    mean_difference: dict[str, float]
    shapes: tuple[tuple[int, ...], ...]
    """The input shapes that were compared."""


def export_onnx(
    network: ChangeNetwork, card: ModelCard, path: Path, *, half_weights: bool = False, domain: Domain | None = None
) -> ExportCheck:
    """Write the network with its card to an ONNX file of any batch, height and width, and compare.

    Args:
        network: the network, on any device.
        card: its card; goes into the file's metadata.
        path: the file to write, ``.onnx``. It appears only once the comparison holds.
        half_weights: store weights as float16, for a file of half the size; they are float32 again when it is loaded.
        domain: what the training images look like to the network; the file then tells how strange its images are.

    Returns:
        The differences that were found, on random images of two batch and image sizes.

    Raises:
        ModelError: if the exported network in float32 differs from the eager one.
        OutputError: if the file cannot be written.

    Warns:
        PrecisionWarning: if it is far off in bfloat16, on a CPU that has it.
    """
    if path.suffix.lower() != ".onnx":
        raise OutputError(f"{path}: the name of an exported model ends in .onnx")
    eager = copy.deepcopy(network).cpu().eval()
    card = card.replace(
        stride=network.stride,
        tile=network.tile,
        overlap=network.overlap,
        receptive_field=receptive_field(network, len(card.bands)),
        domain_limit=None if domain is None else domain.limit,
    )
    folded = _fold_batch_norm(copy.deepcopy(fused(eager)))
    traced, names = (folded, ["logits"]) if domain is None else (_Looking(folded, domain.head), ["logits", STRANGENESS])
    model = _trace(traced, len(card.bands), card.stride, names)
    if half_weights:
        _store_as_half(model.graph)
    entry = model.metadata_props.add()
    entry.key, entry.value = CARD_KEY, card.to_json()
    model.doc_string = f"{card.name}: {card.data}. {card.licence}"
    with whole_file(path, make_folder=True, keep_suffix=True) as temporary:
        onnx.save(model, temporary)
        return _compare(eager, card, temporary, half_weights=half_weights)


class _Looking(nn.Module):
    """Logits, and the strangeness of both dates ``(2 B,)``."""

    def __init__(self, network: ChangeNetwork, head: DomainHead) -> None:
        super().__init__()
        self.network, self.head = network, copy.deepcopy(head).float()

    def forward(self, before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, C, H, W) x 2 -> (B, 1, H, W), (2 B,)``."""
        features = [self.network.features(date) for date in (before, after)]  # passes that the network makes, too
        return self.network(before, after), self.head(torch.cat([each for each in features if each is not None]))


def _trace(network: nn.Module, bands: int, stride: int, names: list[str]) -> onnx.ModelProto:
    rows, cols = torch.export.Dim("rows", min=1, max=2048), torch.export.Dim("cols", min=1, max=2048)
    axes = {0: torch.export.Dim("batch", min=1, max=4096), 2: stride * rows, 3: stride * cols}
    example = torch.zeros(2, bands, 4 * stride, 6 * stride)
    with quiet("torch.onnx"), warnings.catch_warnings():  # notes on torchvision, and its own deprecations
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network,
            (example, example.clone()),
            dynamo=True,
            input_names=["before", "after"],
            output_names=names,
            dynamic_shapes=(axes, dict(axes)),
            opset_version=OPSET,
            verbose=False,
        )
    if program is None:
        raise ModelError("torch.onnx.export returned nothing; the network cannot be exported")
    model = program.model_proto
    graph = model.graph
    for part in (graph, *graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info):
        part.ClearField("metadata_props")  # the exporter's notes: stack traces with paths of this machine
        part.ClearField("doc_string")
    return model


def _fold_batch_norm(network: ChangeNetwork) -> ChangeNetwork:
    """Fold each batch normalisation that directly follows a convolution in a `Sequential` into it."""
    for module in network.modules():
        if not isinstance(module, torch.nn.Sequential):
            continue
        for i in range(len(module) - 1):
            conv, norm = module[i], module[i + 1]
            if isinstance(conv, torch.nn.Conv2d) and isinstance(norm, torch.nn.BatchNorm2d):
                module[i], module[i + 1] = fuse_conv_bn_eval(conv, norm), torch.nn.Identity()
    return network


def _store_as_half(graph: onnx.GraphProto) -> None:
    """Keep float32 weights as float16 and widen them in the graph; those that float16 cannot hold stay."""
    casts, weights = [], []
    for weight in graph.initializer:
        values = onnx.numpy_helper.to_array(weight)
        if values.dtype != np.float32 or values.size < 256 or np.abs(values).max() > np.finfo(np.float16).max:
            weights.append(weight)
            continue
        half = f"{weight.name}_half"
        weights.append(onnx.numpy_helper.from_array(values.astype(np.float16), half))
        casts.append(onnx.helper.make_node("Cast", [half], [weight.name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(weights)


def _compare(eager: ChangeNetwork, card: ModelCard, path: Path, *, half_weights: bool) -> ExportCheck:
    tolerance = HALF_TOLERANCE if half_weights else TOLERANCE
    reference = TorchPredictor(eager, card, bf16=False)
    precisions: tuple[Precision, ...] = ("f32", "bf16") if cpu_has_bf16() else ("f32",)
    bands, rng = len(card.bands), np.random.default_rng(0)
    shapes = ((1, bands, 256, 256), (2, bands, 130, 200))
    pairs = [[_images(shape, card, rng) for _ in range(2)] for shape in shapes]
    expected = [reference.predict(*pair) for pair in pairs]
    largest: dict[str, float] = {}
    mean: dict[str, float] = {}
    for precision in precisions:
        predictor = OpenVINOPredictor(path, precision=precision, threads=1)
        gaps = [np.abs(predictor.predict(*pair) - e).ravel() for pair, e in zip(pairs, expected, strict=True)]
        together = np.concatenate(gaps)
        largest[precision], mean[precision] = float(together.max()), float(together.mean())
    if not largest["f32"] <= tolerance:
        raise ModelError(
            f"the exported network differs from the eager one by up to {largest['f32']:.3g} in probability "
            f"(allowed is {tolerance}); nothing was written"
            + ("; without --half-weights its weights are not rounded" if half_weights else "")
        )
    if largest.get("bf16", 0.0) > ROUGH:
        warnings.warn(
            f"in bfloat16, which CPUs that have it take by default, probabilities of random images are off by up to "
            f"{largest['bf16']:.2g}, {mean['bf16']:.2g} in the mean; --precision f32 avoids that",
            PrecisionWarning,
            stacklevel=3,
        )
    return ExportCheck(largest, mean, shapes)


def _images(shape: tuple[int, ...], card: ModelCard, rng: np.random.Generator) -> NDArray[np.float32]:
    """Smooth random images with the card's mean and standard deviation, as raw values."""
    batch, bands, height, width = shape
    coarse = torch.from_numpy(rng.normal(size=(batch, bands, height // 8 + 1, width // 8 + 1)))
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").numpy()
    values = smooth * np.array(card.std)[:, None, None] + np.array(card.mean)[:, None, None]
    return np.asarray(values.clip(0, 1) * card.scale, np.float32)
