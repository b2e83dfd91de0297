"""Encoders that start from torchvision's ImageNet weights."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from terradelta.errors import ModelError
from terradelta.lab.networks._registry import ChangeNetwork

__all__ = ["TORCHVISION", "initialise_encoder"]

TORCHVISION = {
    "resnet18": "https://download.pytorch.org/models/resnet18-f37072fd.pth",
    "resnet34": "https://download.pytorch.org/models/resnet34-b627a593.pth",
    "resnet50": "https://download.pytorch.org/models/resnet50-0676ba61.pth",
    "vgg16": "https://download.pytorch.org/models/vgg16-397923af.pth",
}
"""Checkpoints of ImageNet classifiers, bands red, green, blue: ``IMAGENET1K_V1`` of torchvision's models/resnet.py and
vgg.py. The digits are the beginning of the file's SHA-256, which is compared after the download."""
FIRST_LAYERS = ("features.0.weight", "conv1.weight")
"""First layer of VGG and of ResNet: what an encoder is known by."""
UNNEEDED = "num_batches_tracked"  # batch normalisation with a momentum never reads it; old checkpoints lack it


def initialise_encoder(network: ChangeNetwork, source: str | Path) -> None:
    """Copy an ImageNet classifier's weights into the network's encoder; its layers beyond the encoder are left out.

    The encoder is the network's part with torchvision's keys, whatever it is called. Layers that the classifier does
    not have (the third block of `stanet`'s last stage) keep their weights.

    Args:
        network: `mccrnet`, `ifn` or `dasnet` with ``backbone="vgg16"`` (``vgg16``), `bit` or `stanet` (``resnet18``),
            `mlla_sianet_large` (``resnet34``), `dasnet` (``resnet50``); with three bands in the order red, green, blue.
        source: a file of weights, or a key of `TORCHVISION`, which is downloaded once into torch's cache.

    Raises:
        ModelError: if the network has no encoder, the weights cannot be read or downloaded, or they do not fit it.
    """
    encoder = _encoder(network)
    own: tuple[str, ...] = getattr(encoder, "without_weights", ())
    state = encoder.state_dict().items()
    wanted = {key: value for key, value in state if not key.endswith(UNNEEDED) and not key.startswith(own)}
    found = _download(str(source)) if str(source) in TORCHVISION else _read(Path(source))
    _check_fit(wanted, found, str(source))
    encoder.load_state_dict({key: found[key] for key in wanted}, strict=False)


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
        raise ModelError(f"there is no file of weights {path}; give one, or one of: {', '.join(TORCHVISION)}")
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
            raise ModelError(f"{source} has no {key}; the encoder needs torchvision's weights of the same classifier")
        if found[key].shape != tensor.shape:
            raise ModelError(
                f"{source}: {key} is {tuple(found[key].shape)} and the encoder's is {tuple(tensor.shape)}; "
                "ImageNet weights fit three bands and the full width only"
            )
