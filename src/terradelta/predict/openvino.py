"""Predictor on OpenVINO: reads ONNX directly, no torch."""

import os
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from terradelta.card import CARD_KEY, ModelCard
from terradelta.errors import ModelError
from terradelta.files import sha256_of
from terradelta.machine import CPUINFO, cpu_flags
from terradelta.predict.predictor import Predictor, pad_reflect
from terradelta.predict.silent_openvino import ov
from terradelta.predict.upsampling import before_upsampling, upsampled

__all__ = ["STRANGENESS", "OpenVINOPredictor", "Precision", "cpu_has_bf16", "cpu_has_int8"]

STRANGENESS = "strangeness"
"""Output of an ONNX file besides ``logits``, see `Predictor.strangeness`."""
Precision = Literal["auto", "f32", "bf16"]
"""Of all that is not in 8-bit integers already."""
_STATIC_PX = 512 * 512
"""An input of at least so many pixels, or of a tile of the card, is worth compiling the network for its very shape."""
_STATIC_FORMS = 2
"""Shapes that a predictor keeps the network compiled for."""
_INT8_FLAGS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp"})


@cache
def _core() -> ov.Core:
    # One for the process: each core swaps the stack on which signals run, and of two whose lives overlap the last to go
    # puts back one that no longer exists. The next signal (Ctrl-C) would then crash the process.
    return ov.Core()


def cpu_has_bf16() -> bool:
    """Whether OpenVINO can compute in bfloat16 on this CPU."""
    return "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@cache
def cpu_has_int8(cpuinfo: Path = CPUINFO) -> bool | None:
    """Whether the CPU multiplies 8-bit integers exactly and fast (VNNI, AMX, or Arm's dot product); None if unknown.

    OpenVINO runs int8 networks on any CPU, but without such instructions sums of products can overflow 16 bits.
    """
    flags = cpu_flags(cpuinfo)
    return None if flags is None else not _INT8_FLAGS.isdisjoint(flags)


class OpenVINOPredictor(Predictor):
    """Run an ONNX file that carries a model card, on the CPU.

    The network is compiled at the first prediction. Inputs of 512 x 512 pixels or more, or of as many as the card's
    tile if that is smaller, get a form for their own shape, in which OpenVINO fuses more and plans its buffers: about a
    fifth less time, for half a second once. A last upsampling is left to `predict.upsampling`. Which form computes
    depends on the shape alone, so results do not depend on what was predicted before.

    Args:
        path: an ONNX file written by `terradelta export`.
        precision: ``auto`` takes bfloat16 where the CPU has it and float32 elsewhere.
        threads: compute threads; None: all cores.

    Raises:
        ModelError: if the file is missing, is no ONNX model, has no card, or its inputs do not fit the card.
    """

    def __init__(self, path: Path | str, *, precision: Precision = "auto", threads: int | None = None) -> None:
        self.path = Path(path)
        model = _read(self.path)
        super().__init__(_card_of(model, self.path))
        _check_inputs(model, self.card, self.path)
        if precision == "auto":
            precision = "bf16" if cpu_has_bf16() else "f32"
        self.precision = precision
        options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = threads
        self._identity = f"{sha256_of(self.path)} {precision}"
        self._model, self._looks = _parted(model)
        self._looking: ov.InferRequest | None = None
        self._options = options
        self._forms: dict[tuple[int, ...], tuple[ov.InferRequest, int]] = {}

    @property
    def identity(self) -> str:
        """Hash of the file as it was read, and the precision."""
        return self._identity

    @property
    def runtime(self) -> str:
        """E.g. ``OpenVINOPredictor, int8 and f32``."""
        return f"{type(self).__name__}, {'int8 and ' if self.card.quantisation else ''}{self.precision}"

    def logits(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        """``(B, C, H, W) x 2 -> (B, 1, H, W)`` float32."""
        request, factor = self._form(before.shape)
        try:
            found = request.infer({"before": before, "after": after}, share_inputs=True)
        except RuntimeError as error:
            raise ModelError(
                f"{self.path}: the network does not run on arrays of shape {before.shape} ({_last_line(error)}); "
                "export it again"
            ) from error
        logits = np.array(found["logits"], np.float32)
        return upsampled(logits, factor) if factor > 1 else logits

    def strangeness(self, before: NDArray[Any], after: NDArray[Any]) -> NDArray[np.float32] | None:
        """``(2, B)``; None where the file does not say it."""
        if self._looks is None:
            return None
        if self._looking is None:
            options = {**self._options, "INFERENCE_PRECISION_HINT": "f32"}
            self._looking = _core().compile_model(self._looks, "CPU", options).create_infer_request()
        dates = (pad_reflect(self.card.normalise(values), self.card.stride) for values in (before, after))
        found = self._looking.infer(dict(zip(("before", "after"), dates, strict=True)))
        return np.array(found[STRANGENESS], np.float32).reshape(2, -1)

    def release(self) -> None:
        """Let go of the buffers between the layers, hundreds of megabytes after large tiles, and of `strangeness`'s."""
        self._looking = None
        for request, _ in self._forms.values():
            request.get_compiled_model().release_memory()

    def _form(self, shape: tuple[int, ...]) -> tuple[ov.InferRequest, int]:
        """The compiled form for inputs of a shape, and by what factor its logits are to be enlarged.

        The one for all small shapes has the key ().
        """
        least = min(_STATIC_PX, self.card.tile**2)
        static = shape[0] * shape[2] * shape[3] >= least and _fits(self._model, shape)
        key = shape if static else ()
        form = self._forms.pop(key, None)
        if form is None:
            large = [known for known in self._forms if known]
            if static and len(large) == _STATIC_FORMS:
                del self._forms[large[0]]  # the one used longest ago
            form = self._compiled(shape if static else None)
        self._forms[key] = form  # the one used last is the last
        return form

    def _compiled(self, shape: tuple[int, ...] | None) -> tuple[ov.InferRequest, int]:
        """The network, for one shape or for any, ready to run."""
        factor = 1
        try:
            model = self._model
            if shape is not None:
                model = model.clone()
                model.reshape({"before": list(shape), "after": list(shape)})
                model, factor = before_upsampling(model)
            return _core().compile_model(model, "CPU", self._options).create_infer_request(), factor
        except RuntimeError as error:
            raise ModelError(f"{self.path}: OpenVINO cannot run this network ({_last_line(error)})") from error


def _parted(model: ov.Model) -> tuple[ov.Model, ov.Model | None]:
    """The network, and what tells how strange its images are, where the file holds it."""
    outputs = {name: port for port in model.outputs for name in port.get_names()}
    if STRANGENESS not in outputs:
        return model, None
    parts = []
    for name in ("logits", STRANGENESS):
        part = ov.Model([outputs[name]], model.get_parameters(), model.get_friendly_name())
        part.output(0).set_names({name})
        parts.append(part)
    return parts[0], parts[1]


def _fits(model: ov.Model, shape: tuple[int, ...]) -> bool:
    """Whether both inputs may have a shape; where they may not, OpenVINO's message says so when it runs."""
    return all(port.get_partial_shape().compatible(ov.PartialShape(list(shape))) for port in model.inputs)


def _read(path: Path) -> ov.Model:
    if not os.path.isfile(path):  # also False where the name itself is impossible
        raise ModelError(f"there is no model file {path}; `terradelta models` lists those that ship")
    if path.suffix.lower() != ".onnx":
        raise ModelError(f"{path}: the name of an ONNX file ends in .onnx; make one with `terradelta export RUN`")
    try:
        return _core().read_model(path)
    except (RuntimeError, UnicodeError) as error:  # the second from names in a damaged file
        raise ModelError(f"{path} cannot be read as an ONNX model; it may be truncated. Export it again") from error


def _card_of(model: ov.Model, path: Path) -> ModelCard:
    key = ["framework", CARD_KEY]
    if not model.has_rt_info(key):
        raise ModelError(
            f"{path} has no model card: its bands, scaling and threshold are unknown, so its result would be a guess. "
            "Use a file written by `terradelta export`"
        )
    try:
        text = str(model.get_rt_info(key).value)
    except UnicodeError as error:
        raise ModelError(f"{path}: the model card is not readable; export the model again") from error
    return ModelCard.from_json(text, str(path))


def _check_inputs(model: ov.Model, card: ModelCard, path: Path) -> None:
    inputs, outputs = ({name for port in ports for name in port.get_names()} for ports in (model.inputs, model.outputs))
    if inputs != {"before", "after"} or "logits" not in outputs:
        raise ModelError(
            f"{path}: needs inputs 'before' and 'after' and output 'logits', has {sorted(inputs)} and {sorted(outputs)}"
        )
    for port in model.inputs:
        if port.get_partial_shape().rank != 4 or port.get_element_type() != ov.Type.f32:
            raise ModelError(f"{path}: inputs must be float32 of shape (B, C, H, W); export the model again")
    bands = model.input("before").get_partial_shape()[1]
    if bands.is_static and bands.get_length() != len(card.bands):
        raise ModelError(f"{path}: the network takes {bands.get_length()} bands, its card names {len(card.bands)}")


def _last_line(error: RuntimeError) -> str:
    """The part of OpenVINO's message that says what is wrong; the lines before it name its own source files."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
