"""What the layers of a network give for one pair, and where its attention looks: maps for figures.

Any layer can be watched by its name in ``network.named_modules()``. The network is the one that was trained, not the
form that predicts quickly (`lab.inference.fused`), so its layers are the paper's.

Which date an output belongs to is measured: it is the date that it changes with. Where it changes with both, a layer
that takes two maps and returns two of the same shapes gives one for each date, in that order.

Shapes: C channels, H x W the padded pair, h x w a map's size, N = h w tokens.
"""

import difflib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from terradelta.card import ModelCard
from terradelta.errors import InputError, ShapeError
from terradelta.lab.inference.torch_predictor import to_device
from terradelta.lab.networks import ChangeNetwork
from terradelta.lab.networks.layers.attention import AttentionLayer, Box, WeightLayer
from terradelta.predict.predictor import pad_reflect

__all__ = ["HeatMap", "LayerInfo", "Layers", "Reduction"]

T = TypeVar("T")
Reduction = Literal["mean", "max", "norm"]
"""How the channels of a pixel become one value; the norm is that of their vector."""
_REDUCE: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda x: x.mean(0),
    "max": lambda x: x.amax(0),
    "norm": lambda x: x.square().sum(0).sqrt(),
}
_PROBE_SIDE = 64
_TWO = 2
_DATES = ("before", "after")
_CENTRE: Box = (0.5, 0.5, 0.5, 0.5)


@dataclass(frozen=True)
class LayerInfo:
    """One layer of a network that takes part in the prediction of a pair."""

    name: str
    kind: str
    """Its class."""
    gives: str
    """``attention``, ``features``, or ``no map`` where its outputs do not lie on the image."""
    outputs: tuple[tuple[str, tuple[int, ...]], ...]
    """Label and shape of each output for one pair; the label tells the outputs apart and may be empty."""


@dataclass(frozen=True)
class HeatMap:
    """One map of a layer."""

    layer: str
    label: str
    """Which of the layer's maps, such as ``before``; empty: its only one."""
    values: NDArray[np.float32]
    """``(h, w)``."""
    covers: tuple[int, int]
    """(height, width) in pixels of what the map shows: the pair, padded at the bottom and right to the stride."""
    unit: str
    """What the values are."""
    queried: bool = False
    """Whether they are attention from chosen places."""


@dataclass(frozen=True)
class _Piece:
    """One output of one call, for one image of the batch."""

    values: Tensor
    place: str = ""
    """The date that it belongs to by its place, if the layer takes two maps and returns two."""


@dataclass(frozen=True)
class _Item:
    """One map, or an output that is none."""

    label: str
    values: Tensor | None
    """``(h, w)``."""
    unit: str


class Layers:
    """The layers of a network while it sees one pair.

    Args:
        network: as it was trained; put into evaluation mode.
        card: its card.
        before: ``(C, H, W)`` raw sensor values of the first date.
        after: the same of the second date.
        device: torch device.

    Raises:
        ShapeError: if the two shapes differ or are not ``(C, H, W)``.
        BandError: if C is not what the card says.
        ModelError: if torch has no such device here.
    """

    def __init__(
        self,
        network: ChangeNetwork,
        card: ModelCard,
        before: NDArray[Any],
        after: NDArray[Any],
        device: torch.device | str = "cpu",
    ) -> None:
        if before.ndim != 3 or before.shape != after.shape or 0 in before.shape:
            raise ShapeError(f"before {before.shape} and after {after.shape} must have one shape (C, H, W)")
        self._network = to_device(network, device).eval()
        padded = [pad_reflect(card.normalise(date[None]), card.stride) for date in (before, after)]
        self._dates = tuple(torch.from_numpy(date).to(device) for date in padded)
        self._modules = {name: module for name, module in network.named_modules() if name}

    @property
    def covers(self) -> tuple[int, int]:
        """(height, width) of the padded pair in pixels."""
        return self._dates[0].shape[2], self._dates[0].shape[3]

    def has(self, name: str) -> bool:
        """Whether the network has a layer of a name."""
        return name in self._modules

    def near(self, name: str) -> list[str]:
        """Names of layers that resemble one."""
        return difflib.get_close_matches(name, self._modules, 4, 0.5)

    def table(self) -> list[LayerInfo]:
        """All layers that take part in a prediction, in the network's order."""
        names = list(self._modules)
        calls = self._run(self._dates, names, self._describe)
        return [self._info(name, calls[name], dates) for name, dates in self._dates_of(names).items() if calls[name]]

    def _describe(self, module: nn.Module, inputs: Any, output: Any) -> list[tuple[tuple[int, ...], bool]]:  # noqa: ANN401
        """Shape of each output, and whether the layer has a map there."""
        shapes = [tuple(piece.values.shape) for piece in _pieces(inputs, output, self.covers)]
        if isinstance(module, AttentionLayer):
            found = _attention(module.attention_maps(_CENTRE, *inputs), self.covers)
            return [(shape, any(item.values is not None for item in found)) for shape in shapes]
        return [(shape, _map_shape(shape, self.covers) is not None) for shape in shapes]

    def _info(self, name: str, calls: list[list[tuple[tuple[int, ...], bool]]], dates: list[list[str]]) -> LayerInfo:
        outputs = [output for call in calls for output in call]
        labels = _told_apart([label for call in dates for label in call])
        module = self._modules[name]
        attention = isinstance(module, AttentionLayer | WeightLayer)
        gives = ("attention" if attention else "features") if any(drawn for _, drawn in outputs) else "no map"
        shapes = [shape for shape, _ in outputs]
        return LayerInfo(name, type(module).__name__, gives, tuple(zip(labels, shapes, strict=True)))

    def heat_maps(
        self, names: Sequence[str], *, at: Box | None = None, reduction: Reduction = "mean"
    ) -> dict[str, list[HeatMap]]:
        """The maps of some layers, from one run of the network.

        Args:
            names: layers of the network.
            at: where the queries of attention lie, as shares of the sides of `covers`; None: everywhere.
            reduction: how the channels of features become one value.

        Returns:
            The maps of each layer: its attention where it has one, else its output.

        Raises:
            InputError: if there is no such layer, it takes no part in a prediction or gives no map, or there is no
                such reduction.
        """
        if reduction not in get_args(Reduction):
            raise InputError(f"reduction is {reduction!r}; it must be one of {', '.join(get_args(Reduction))}")
        for name in names:
            self._check(name)

        def keep(module: nn.Module, inputs: Any, output: Any) -> list[list[_Item]]:  # noqa: ANN401
            if isinstance(module, AttentionLayer):
                return [_attention(module.attention_maps(at, *inputs), self.covers)]
            return [
                _items(module, piece.values, self.covers, reduction) for piece in _pieces(inputs, output, self.covers)
            ]

        found = self._run(self._dates, names, keep)
        dates = self._dates_of(names)
        return {name: self._maps(name, found[name], dates[name], at is not None) for name in names}

    def _maps(self, name: str, calls: list[list[list[_Item]]], dates: list[list[str]], queried: bool) -> list[HeatMap]:
        labelled = []
        for groups, of_call in zip(calls, dates, strict=True):
            of_groups = of_call if len(groups) == len(of_call) else [""] * len(groups)
            for items, date in zip(groups, of_groups, strict=True):
                labelled += [("-".join(filter(None, (date, item.label))), item) for item in items]
        there = [(label, item.values, item.unit) for label, item in labelled if item.values is not None]
        if not there:
            self._refuse(name, calls)
        module = self._modules[name]
        queried &= isinstance(module, AttentionLayer) and module.by_place
        labels = _told_apart([label for label, _, _ in there])
        return [
            HeatMap(name, label, values.float().cpu().numpy(), self.covers, unit, queried)
            for label, (_, values, unit) in zip(labels, there, strict=True)
        ]

    def _refuse(self, name: str, calls: list[list[list[_Item]]]) -> None:
        if not calls:
            raise InputError(f"layer {name!r} takes no part in a prediction; --layers lists those that do")
        kind = type(self._modules[name]).__name__
        raise InputError(f"layer {name!r} ({kind}) gives nothing that lies on the image; --layers lists what has maps")

    def _check(self, name: str) -> None:
        if not self.has(name):
            near = self.near(name)
            hint = f"did you mean {' or '.join(near)}? " if near else ""
            raise InputError(f"the network has no layer {name!r}; {hint}--layers lists them")

    @torch.inference_mode()
    def _run(
        self, dates: Sequence[Tensor], names: Sequence[str], keep: Callable[[nn.Module, Any, Any], T]
    ) -> dict[str, list[T]]:
        """Predict once; for each named layer, what ``keep(module, inputs, output)`` gives for each of its calls."""
        found: dict[str, list[T]] = {name: [] for name in names}
        inside = False

        def watch(name: str) -> Callable[[nn.Module, Any, Any], None]:
            def hook(module: nn.Module, inputs: Any, output: Any) -> None:  # noqa: ANN401
                nonlocal inside
                if not inside:
                    inside = True  # attention maps call layers again
                    found[name].append(keep(module, inputs, output))
                    inside = False

            return hook

        hooks = [self._modules[name].register_forward_hook(watch(name)) for name in names]
        try:
            self._network(*dates)
        finally:
            for hook in hooks:
                hook.remove()
        return found

    def _dates_of(self, names: Sequence[str]) -> dict[str, list[list[str]]]:
        """For each layer, call and output: ``before``, ``after``, or nothing; measured on small random pairs."""
        stride, first = self._network.stride, self._dates[0]
        side = max(_PROBE_SIDE // stride, 1) * stride
        generator = torch.Generator().manual_seed(0)
        a, b, c = (torch.randn(1, first.shape[1], side, side, generator=generator).to(first) for _ in range(3))

        def keep(_: nn.Module, inputs: Any, output: Any) -> list[_Piece]:  # noqa: ANN401
            pieces = _pieces(inputs, output, (side, side))
            return [_Piece(piece.values.clone(), piece.place) for piece in pieces]  # later layers may work in place

        runs = [self._run(dates, names, keep) for dates in ((a, b), (c, b), (a, c))]
        return {
            name: [
                [_date(*same) for same in zip(*same_call, strict=True)]
                for same_call in zip(*(run[name] for run in runs), strict=True)
            ]
            for name in names
        }


def _date(base: _Piece, other_before: _Piece, other_after: _Piece) -> str:
    """The date that an output belongs to, from runs of which two have another first or second date."""
    with_before, with_after = (not torch.equal(base.values, other.values) for other in (other_before, other_after))
    if with_before == with_after:
        return base.place
    return "before" if with_before else "after"


def _pieces(inputs: Any, output: Any, covers: tuple[int, int]) -> list[_Piece]:  # noqa: ANN401  whatever it gives
    """The outputs of a call, image by image; maps of both dates side by side are two outputs."""
    tensors = _tensors(output)
    places = ("",) * len(tensors)
    if len(tensors) == _TWO and [x.shape for x in tensors] == [x.shape for x in _tensors(inputs)]:
        places = _DATES
    elif len(tensors) == 1 and tensors[0].ndim == 4 and _side_by_side(tensors[0], covers):
        tensors, places = list(tensors[0].chunk(2, 3)), _DATES
    return [_Piece(x, place) for tensor, place in zip(tensors, places, strict=True) for x in tensor]


def _side_by_side(x: Tensor, covers: tuple[int, int]) -> bool:
    """Whether a map is twice as wide as the pair."""
    return x.shape[2] > 1 and x.shape[3] * covers[0] == 2 * x.shape[2] * covers[1]


def _tensors(values: Any) -> list[Tensor]:  # noqa: ANN401
    """All tensors in nested lists and tuples that have a batch axis."""
    if isinstance(values, Tensor):
        return [values] if values.ndim else []
    if isinstance(values, list | tuple):
        return [tensor for each in values for tensor in _tensors(each)]
    return []


def _attention(maps: dict[str, Tensor], covers: tuple[int, int]) -> list[_Item]:
    items = []
    for label, values in maps.items():
        shape = _map_shape(tuple(values.unsqueeze(-1 if values.ndim == 1 else 0).shape), covers)
        items.append(_Item(label, values.reshape(shape) if shape else None, "attention, × even"))
    return items


def _items(module: nn.Module, values: Tensor, covers: tuple[int, int], reduction: str) -> list[_Item]:
    """An output of one image as one map, or one map a channel where these have names."""
    shape = _map_shape(tuple(values.shape), covers)
    if shape is None:
        return [_Item("", None, "")]
    planes = values if values.ndim == 3 else values.T.reshape(-1, *shape)
    if isinstance(module, WeightLayer):
        if module.weighs:
            return [_Item(label, plane.clone(), "weight") for label, plane in zip(module.weighs, planes, strict=True)]
        return [_Item("", planes.mean(0), "weight" if len(planes) == 1 else f"weight, mean of {len(planes)}")]
    unit = f"{reduction} of {len(planes)} channels" if len(planes) > 1 else "value"
    return [_Item("", _REDUCE[reduction](planes) if len(planes) > 1 else planes[0].clone(), unit)]


def _map_shape(shape: tuple[int, ...], covers: tuple[int, int]) -> tuple[int, int] | None:
    """(h, w) of an output ``(C, h, w)``, or of tokens ``(N, C)`` that cover the image; None if it is no map."""
    if len(shape) == 3:
        return shape[1:] if max(shape[1:]) > 1 else None
    if len(shape) != _TWO:
        return None
    for step in (2**power for power in range(12)):
        rows, cols = covers[0] // step, covers[1] // step
        if rows * cols == shape[0] and rows * cols > 1:
            return rows, cols
    return None


def _told_apart(labels: Sequence[str]) -> list[str]:
    """The labels, numbered where they are not unique."""
    counts, seen, out = Counter(labels), Counter[str](), []
    for label in labels:
        seen[label] += 1
        out.append(label if counts[label] == 1 else f"{label}-{seen[label]}".strip("-"))
    return out
