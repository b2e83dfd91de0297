"""Find a model: one that ships, one on a hub or behind a URL, an ONNX file, or a training run."""

import os
import warnings
from importlib import resources
from pathlib import Path

from terradelta.errors import ModelError, needs
from terradelta.predict.hub import ONNX, is_elsewhere, obtain
from terradelta.predict.predictor import Predictor

__all__ = [
    "DEFAULT_MODEL",
    "PRECISIONS",
    "SHORT_NAMES",
    "PrecisionWarning",
    "find_checkpoint",
    "find_model",
    "load_predictor",
    "shipped_models",
]

DEFAULT_MODEL = "buildings"
SHORT_NAMES = {"default": DEFAULT_MODEL}
"""What shipped weights are called besides their name."""
INT8 = "_int8"
"""Ends the names of shipped weights that are the int8 form of others."""
PRECISIONS = ("auto", "f32", "bf16", "int8")


class PrecisionWarning(UserWarning):
    """A model whose precision does not suit the CPU."""


def shipped_models() -> dict[str, Path]:
    """Names and ONNX files of the weights in the package, sorted by name, each before its int8 form."""
    folder = Path(str(resources.files("terradelta") / "predict" / "shipped"))
    return {p.stem: p for p in sorted(folder.glob("*.onnx"), key=lambda p: (p.stem.removesuffix(INT8), p.stem))}


def load_predictor(
    model: str = "default", *, device: str = "cpu", threads: int | None = None, precision: str = "auto"
) -> Predictor:
    """A predictor for a model.

    Args:
        model: ``default``, the name of shipped weights, ``hf:OWNER/REPO[@REV]``, the URL of an ONNX file, an ONNX
            file, a checkpoint, or a training run's folder. See `terradelta.predict.hub` for what is fetched.
        device: ``cpu`` runs ONNX on OpenVINO (no torch) and checkpoints on torch; any other is torch's name of a device
            and takes checkpoints and runs.
        threads: compute threads on the CPU; None: all cores.
        precision: ``f32``, ``bf16``, ``int8``, or ``auto``: the file's own, with bf16 in place of f32 where the
            hardware has it (for checkpoints: on CUDA). ``int8`` takes files that are int8, and of shipped weights
            their int8 form.

    Raises:
        ModelError: if there is no such model, or it cannot be used on the device or in the precision.
        MissingExtraError: if it needs torch and torch is not installed.

    Warns:
        PrecisionWarning: if the model is int8 and the CPU has no instructions for it.

    Example:
        >>> import terradelta as td
        >>> td.load_predictor("default", precision="f32").runtime
        'OpenVINOPredictor, f32'
    """
    if precision not in PRECISIONS:
        raise ModelError(f"there is no precision {precision!r}; give one of {', '.join(PRECISIONS)}")
    path, origin = _resolve(model, int8=precision == "int8", layers=device != "cpu")
    predictor = _predictor(path, model, device, threads, precision)
    if origin is not None:
        predictor.card = predictor.card.replace(origin=origin)
    return predictor


def _predictor(path: Path, model: str, device: str, threads: int | None, precision: str) -> Predictor:
    if path.suffix.lower() == ".onnx":
        if device != "cpu":
            raise ModelError(
                f"{path.name} is an ONNX file, which runs on the CPU; for --device {device} give the training run or "
                "checkpoint that it was exported from"
            )
        return _onnx_predictor(path, threads, precision)
    if not os.path.exists(path):  # also False where the name itself is impossible
        raise ModelError(
            f"there is no model {model!r}; give one of {', '.join([*SHORT_NAMES, *shipped_models()])}, an .onnx file, "
            "the folder of a training run, hf:OWNER/REPO or a URL"
        )
    if precision == "int8":
        raise _no_int8(path)
    return _torch_predictor(path, device, threads, precision)


def find_model(model: str) -> Path:
    """The file or folder that a model's name stands for: of shipped and fetched weights their ONNX file, else the path.

    Raises:
        ModelError: if it is to be fetched and cannot be.
    """
    return _resolve(model)[0]


def find_checkpoint(model: str) -> Path:
    """The checkpoint, the training run, or the shipped or fetched safetensors of a model, for what needs its layers.

    Raises:
        ModelError: if there is no such model, or it is an ONNX file.
    """
    path = _resolve(model, layers=True)[0]
    if model in (*SHORT_NAMES, *shipped_models()):
        path = path.with_suffix(".safetensors")
    if path.suffix.lower() == ".onnx":
        raise ModelError(
            f"{model} is an ONNX file, whose layers cannot be told apart; give the training run or the checkpoint that "
            "it was exported from (`terradelta train` makes one)"
        )
    if not os.path.exists(path):  # also False where the name itself is impossible
        raise ModelError(f"there is no model {model!r}; give a checkpoint or the folder of a training run")
    return path


def _resolve(model: str, *, int8: bool = False, layers: bool = False) -> tuple[Path, dict[str, str] | None]:
    """What a model's name stands for: the file or folder, and where it was fetched from.

    Args:
        model: any name that `load_predictor` takes.
        int8: take the int8 form of shipped weights.
        layers: of what is fetched take the safetensors, whose layers can be told apart, not the ONNX file.
    """
    if is_elsewhere(model):
        fetched = obtain(model)
        file = fetched.file(".onnx" if ONNX in fetched.sha256 and not layers else ".safetensors")
        return file, fetched.origin(file)
    shipped = shipped_models()
    name = SHORT_NAMES.get(model, model)
    return shipped.get(name + INT8 * (int8 and name + INT8 in shipped), Path(model)), None


def _onnx_predictor(path: Path, threads: int | None, precision: str) -> Predictor:
    from terradelta.predict.openvino import OpenVINOPredictor, Precision, cpu_has_bf16, cpu_has_int8

    if precision == "bf16" and not cpu_has_bf16():
        raise ModelError("this CPU has no bfloat16; leave --precision out, or give f32")
    floating: Precision = "f32" if precision == "f32" else "bf16" if precision == "bf16" else "auto"
    predictor = OpenVINOPredictor(path, precision=floating, threads=threads)
    int8 = bool(predictor.card.quantisation)
    if precision == "int8" and not int8:
        raise _no_int8(path)
    if int8 and precision in ("f32", "bf16"):
        raise ModelError(f"{path.name} is an int8 model; leave --precision out, or give the one that it was made from")
    if int8 and cpu_has_int8() is False:
        warnings.warn(
            f"{path.name} is an int8 model, and this CPU has no instructions for it (VNNI or AMX): it may be slow, and "
            "its result may differ from what its card says; better use the floating-point model",
            PrecisionWarning,
            stacklevel=4,
        )
    return predictor


def _no_int8(path: Path) -> ModelError:
    return ModelError(f"{path} is no int8 model; make one with `terradelta export {path} --int8 DATA -o FILE.onnx`")


def _torch_predictor(path: Path, device: str, threads: int | None, precision: str) -> Predictor:
    with needs("train", f"{path} is a training run, which"):
        from terradelta.lab.inference.torch_predictor import load_torch_predictor
    return load_torch_predictor(path, device, threads, bf16=None if precision == "auto" else precision == "bf16")
