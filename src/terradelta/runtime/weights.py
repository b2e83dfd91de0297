"""Find a model: one that ships, an ONNX file, or a training run."""

import os
from importlib import resources
from pathlib import Path

from terradelta.errors import MissingExtraError, ModelError
from terradelta.runtime.predictor import Predictor

__all__ = ["DEFAULT_MODEL", "find_checkpoint", "load_predictor", "shipped_models"]

DEFAULT_MODEL = "mlla_sianet_levir_subset"


def shipped_models() -> dict[str, Path]:
    """Names and ONNX files of the weights in the package, sorted by name."""
    folder = Path(str(resources.files("terradelta") / "runtime" / "weights"))
    return {path.stem: path for path in sorted(folder.glob("*.onnx"))}


def load_predictor(model: str = "default", *, device: str = "cpu", threads: int | None = None) -> Predictor:
    """A predictor for a model.

    Args:
        model: ``default``, the name of shipped weights, an ONNX file, a checkpoint, or a training run's folder.
        device: ``cpu`` runs ONNX on OpenVINO (no torch) and checkpoints on torch; any other is torch's name of a device
            and takes checkpoints and runs.
        threads: compute threads on the CPU; None: all cores.

    Raises:
        ModelError: if there is no such model, or it cannot be used on the device.
        MissingExtraError: if it needs torch and torch is not installed.
    """
    shipped = shipped_models()
    path = shipped.get(DEFAULT_MODEL if model == "default" else model, Path(model))
    if path.suffix.lower() == ".onnx":
        if device != "cpu":
            raise ModelError(
                f"{path.name} is an ONNX file, which runs on the CPU; for --device {device} give the training run or "
                "checkpoint that it was exported from"
            )
        from terradelta.runtime.openvino import OpenVINOPredictor

        return OpenVINOPredictor(path, threads=threads)
    if not os.path.exists(path):  # also False where the name itself is impossible
        raise ModelError(
            f"there is no model {model!r}; give one of {', '.join(['default', *shipped])}, an .onnx file, "
            "or the folder of a training run"
        )
    return _torch_predictor(path, device, threads)


def find_checkpoint(model: str) -> Path:
    """The checkpoint or the training run that a model is, for what needs its layers.

    Raises:
        ModelError: if there is no such model, or it is an ONNX file.
    """
    path = shipped_models().get(DEFAULT_MODEL if model == "default" else model, Path(model))
    if path.suffix.lower() == ".onnx":
        raise ModelError(
            f"{model} is an ONNX file, whose layers cannot be told apart; give the training run or the checkpoint that "
            "it was exported from (`terradelta train` makes one)"
        )
    if not os.path.exists(path):  # also False where the name itself is impossible
        raise ModelError(f"there is no model {model!r}; give a checkpoint or the folder of a training run")
    return path


def _torch_predictor(path: Path, device: str, threads: int | None) -> Predictor:
    try:
        from terradelta.runtime.torch import load_torch_predictor
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"{path} is a training run, which", "train") from error
    return load_torch_predictor(path, device, threads)
