"""An ONNX file in float32 to one in 8-bit integers (post-training quantisation), compared before it is kept.

Weights of convolutions and matrix products become int8 with a scale for each output channel, their inputs uint8 with
one scale each, from the smallest and largest value on calibration crops, in both orders of the dates: so the branches
of a network that looks at one date after the other get the same scales. All else stays float32: sums, products and
pooling cost little and lose much. The file has QuantizeLinear and DequantizeLinear nodes, which OpenVINO runs as int8.
The insertion of these nodes is ONNX Runtime's (Jacob et al. 2018, arXiv:1712.05877, scheme of section 2).

Where the result differs too much, layers are ranked by what each of them alone does to the probabilities, and the worst
are kept in float32.
"""

import itertools
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from terradelta.card import ModelCard
from terradelta.errors import ModelError
from terradelta.files import write_whole
from terradelta.lab.export.int8_crops import CalibrationCrops, Dates
from terradelta.logs import quiet
from terradelta.predict.onnx_card import exchange_card
from terradelta.predict.openvino import OpenVINOPredictor

__all__ = ["CROPS", "CROP_SIDE", "TOLERANCE", "Int8Check", "quantise_onnx"]

CROPS, CROP_SIDE = 128, 256
"""Crops that are read by default, and their side in pixels. Ranges come from three of four, the check from the rest."""
KINDS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
TOLERANCE = {"mean": 0.005, "p99.9": 0.15}
"""Largest difference of a probability from float32: mean and 99.9th percentile over the pixels of the check's crops."""
TILE_GROWTH = 1.25
"""Maps of bytes take half the memory of bfloat16's: tiles with sides longer by this need no more, and overlap less."""
RANKED_ON = 4
"""Crops of the check on which layers are ranked."""
MOST_FLOAT = 0.5
"""Largest share of layers that may be kept in float32."""


@dataclass(frozen=True)
class Int8Check:
    """How far the int8 network is from the float32 one, on crops that its ranges were not measured on."""

    mean_difference: float
    """Of a pixel's probability; likewise below."""
    p999_difference: float
    largest_difference: float
    class_changed: float
    """Share of pixels that are on the other side of the card's threshold."""
    layers: int
    """Convolutions and matrix products in all."""
    kept_float: tuple[str, ...]
    """Names of those that stayed float32."""

    @property
    def holds(self) -> bool:
        """Whether the differences are within `TOLERANCE`."""
        return self.mean_difference <= TOLERANCE["mean"] and self.p999_difference <= TOLERANCE["p99.9"]


def quantise_onnx(
    source: Path,
    calibration: CalibrationCrops,
    path: Path,
    *,
    advance: Callable[[str], None] | None = None,
) -> Int8Check:
    """Write an int8 copy of an ONNX file.

    The card goes along: with ``_int8`` behind its name, a record of the quantisation, threshold and calibration as
    they were, and without scores, which belong to the float32 weights.

    Args:
        source: an ONNX file with a card.
        calibration: crops of typical pairs, changed places among them; see `terradelta.lab.export.int8_crops`.
        path: the file to write; it appears only once the comparison holds.
        advance: called with what is being done.

    Raises:
        ModelError: if the source is no float32 model, has no layer to quantise, or differs from its int8 form by more
            than `TOLERANCE` even with half of its layers in float32.
        OutputError: if the file cannot be written.
    """
    if path.suffix.lower() != ".onnx":
        raise ModelError(f"{path}: the name of an ONNX file ends in .onnx")
    say = advance or (lambda _: None)
    float32 = OpenVINOPredictor(source, precision="f32")
    card = float32.card
    model = onnx.load(source)
    layers = _layers(model, source)
    groups = _sharing(model, layers)
    model = _without_differences_of_layers(_with_own_weights(model))
    # Interleaved, so that both parts come from all over the data; with few crops all serve both.
    checked = calibration.crops[3::4] or calibration.crops
    measured = [crop for i, crop in enumerate(calibration.crops) if i % 4 != 3]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        say("measuring ranges")
        both_orders = [_inputs(card, dates) for crop in measured for dates in (crop, crop[::-1])]
        full = _quantised(source, model, work, both_orders)
        trial = _Trial(model, full, work / "trial.onnx", card, [(crop, _predict(float32, crop)) for crop in checked])
        say("comparing")
        check = _fitting(trial, groups, say)
        content = trial.content(check.kept_float)
    record = {**asdict(check), "crops": len(measured), "checked_on": len(checked), "pairs": calibration.pairs}
    record |= {"data": calibration.name, "sha256": calibration.sha256, "tolerance": TOLERANCE}
    record["threshold"] = "that of the float32 weights, likewise temperature and bias"
    tile = int(card.tile * TILE_GROWTH) // card.stride * card.stride
    card = card.replace(name=f"{card.name}_int8", tile=tile, scores=(), quantisation=record)
    write_whole(path, exchange_card(content, card.to_json()), make_folder=True)
    return check


def _with_own_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network in which no two layers share one constant of weights: each has a copy of its own.

    OpenVINO 2026.4 takes the scale of int8 weights out of a shared constant once, and computes the other layer wrongly.
    """
    weights = {weight.name: weight for weight in model.graph.initializer}
    taken: set[str] = set()
    for node in model.graph.node:
        if node.op_type not in KINDS:
            continue
        name = node.input[1]
        if name in taken and name in weights:
            copy = onnx.TensorProto.FromString(weights[name].SerializeToString())
            copy.name = node.input[1] = f"{name}_of_{node.name}"
            model.graph.initializer.append(copy)
        taken.add(name)
    return model


def _without_differences_of_layers(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network with ``max(a, b) - min(a, b)`` in place of ``|a - b|``.

    OpenVINO 2026.4 computes the difference of two int8 layers wrongly, by as much as the values; this form it computes
    rightly, and the result is the same to the last bit.
    """
    sizes = {node.input[0] for node in model.graph.node if node.op_type == "Abs"}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.op_type == "Sub" and node.output[0] in sizes:
            ends = [f"{node.output[0]}_{end}" for end in ("largest", "smallest")]
            for kind, end in zip(("Max", "Min"), ends, strict=True):
                nodes.append(onnx.helper.make_node(kind, list(node.input), [end], end))
            node.input[:] = ends
        nodes.append(node)
    _set_nodes(model.graph, nodes)
    return model


def _set_nodes(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> None:
    """Give a graph other nodes, some of which may be its own: they are copied before its own go."""
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def _layers(model: onnx.ModelProto, source: Path) -> list[str]:
    """Names of the layers that can be quantised."""
    if any(node.op_type == "DequantizeLinear" for node in model.graph.node):
        raise ModelError(f"{source} is quantised already; give the float32 file, or the training run")
    found = [node.name for node in model.graph.node if node.op_type in KINDS]
    if not found:
        raise ModelError(f"{source} has no convolution and no matrix product, so nothing would be gained by int8")
    if len(set(found)) < len(found) or not all(found):
        raise ModelError(f"{source}: its layers have no names of their own; make it with `terradelta export`")
    return found


def _sharing(model: onnx.ModelProto, layers: Sequence[str]) -> list[tuple[str, ...]]:
    """The layers, those that share their weights together: what one date passes and what the other does."""
    weights = {node.name: node.input[1] for node in model.graph.node if node.name in layers}
    groups: dict[str, list[str]] = {}
    for layer in layers:
        groups.setdefault(weights[layer], []).append(layer)
    return [tuple(group) for group in groups.values()]


def _fitting(trial: "_Trial", groups: Sequence[tuple[str, ...]], say: Callable[[str], None]) -> Int8Check:
    """The check of the fewest layers in float32, in powers of two, that keeps to the tolerance."""
    layers = list(itertools.chain(*groups))
    check = trial.check(layers, ())
    if check.holds:
        return check
    ranked = []
    for i, group in enumerate(groups, 1):
        say(f"layer {i} of {len(groups)} alone")
        gap = trial.gaps([other for other in layers if other not in group], RANKED_ON)
        ranked.append((float(gap.mean()), group))
    worst = [group for _, group in sorted(ranked, key=lambda each: (-each[0], each[1]))]
    count = 1
    while count <= MOST_FLOAT * len(groups):
        say(f"{count} of {len(groups)} layers in float32")
        check = trial.check(layers, list(itertools.chain(*worst[:count])))
        if check.holds:
            return check
        count *= 2
    raise ModelError(
        f"in int8 this network differs from float32 by {check.mean_difference:.3g} in the mean and "
        f"{check.p999_difference:.3g} at the 99.9th percentile of probability, even with {count // 2} of {len(groups)} "
        f"layers in float32 (allowed are {TOLERANCE['mean']} and {TOLERANCE['p99.9']}); nothing was written. Calibrate "
        "on more typical pairs, or use the float32 file"
    )


@dataclass(frozen=True)
class _Trial:
    """Forms of a network between wholly int8 and float32."""

    original: onnx.ModelProto
    full: onnx.ModelProto
    """With all layers in int8."""
    path: Path
    """Where a form is written to be run."""
    card: ModelCard
    expected: list[tuple[Dates, NDArray[np.float32]]]
    """Crops and their probabilities in float32."""

    def content(self, kept: Collection[str]) -> bytes:
        """The ONNX file with some layers in float32."""
        data: bytes = _restored(self.full, self.original, kept).SerializeToString(deterministic=True)
        return data

    def gaps(self, kept: Collection[str], crops: int | None = None) -> NDArray[np.float32]:
        """Differences of the probability, one a pixel."""
        return np.concatenate([np.abs(found - wanted) for found, wanted in self._results(kept, crops)])

    def check(self, layers: Sequence[str], kept: Sequence[str]) -> Int8Check:
        """The comparison with some layers in float32."""
        results = self._results(kept, None)
        gap = np.concatenate([np.abs(found - wanted) for found, wanted in results])
        line = self.card.threshold
        moved = np.concatenate([(found >= line) != (wanted >= line) for found, wanted in results])
        mean, p999, largest = float(gap.mean()), float(np.percentile(gap, 99.9)), float(gap.max())
        return Int8Check(mean, p999, largest, float(moved.mean()), len(layers), tuple(kept))

    def _results(
        self, kept: Collection[str], crops: int | None
    ) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        self.path.write_bytes(exchange_card(self.content(kept), self.card.to_json()))
        predictor = OpenVINOPredictor(self.path, precision="f32")
        return [(_predict(predictor, crop).ravel(), wanted.ravel()) for crop, wanted in self.expected[:crops]]


def _predict(predictor: OpenVINOPredictor, crop: Dates) -> NDArray[np.float32]:
    return predictor.predict(crop[0][None], crop[1][None])


def _inputs(card: ModelCard, crop: Dates) -> dict[str, NDArray[np.float32]]:
    return {name: card.normalise(values[None]) for name, values in zip(("before", "after"), crop, strict=True)}


def _quantised(
    source: Path, model: onnx.ModelProto, work: Path, inputs: list[dict[str, NDArray[np.float32]]]
) -> onnx.ModelProto:
    """The network with all its layers in int8, by ONNX Runtime."""
    original, path = work / "float.onnx", work / "full.onnx"
    onnx.save(model, original)
    try:
        with quiet(None):  # advice on its own preprocessing
            quantize_static(
                str(original),
                str(path),
                _Reader(inputs),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(KINDS),
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                # Outputs stay float32: each consumer rounds its own input, after the activation, and once.
                extra_options={"OpTypesToExcludeOutputQuantization": list(KINDS), "QuantizeBias": False},
            )
    except (RuntimeError, ValueError, KeyError, NotImplementedError) as error:
        raise ModelError(f"{source} cannot be quantised ({error}); use the float32 file") from error
    return onnx.load(path)


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # the package has no types
    """Inputs one after another, as ONNX Runtime takes them."""

    def __init__(self, inputs: list[dict[str, NDArray[np.float32]]]) -> None:
        self._inputs = iter(inputs)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self._inputs, None)


def _restored(full: onnx.ModelProto, original: onnx.ModelProto, kept: Collection[str]) -> onnx.ModelProto:
    """The quantised network with the inputs of some layers as they were; what nothing uses any more is left out."""
    model = onnx.ModelProto()
    model.CopyFrom(full)
    graph = model.graph
    inputs = {node.name: node.input for node in original.graph.node}
    for node in graph.node:
        if node.name in kept:
            node.input[:] = inputs[node.name]
    needed = {output.name for output in graph.output}
    nodes: list[Any] = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            nodes.append(node)
    weights = {weight.name: weight for weight in (*original.graph.initializer, *graph.initializer)}
    used = [onnx.TensorProto.FromString(weights[name].SerializeToString()) for name in sorted(needed & weights.keys())]
    _set_nodes(graph, nodes[::-1])
    del graph.initializer[:]
    graph.initializer.extend(used)
    return model
