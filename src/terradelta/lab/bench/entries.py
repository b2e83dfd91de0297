"""Which rows a table has: networks by name, and the ablations of both papers."""

import itertools
from collections.abc import Callable
from typing import Any

from terradelta.errors import InputError
from terradelta.lab.bench.design import Entry
from terradelta.lab.networks import list_models, model_info
from terradelta.lab.networks.pretrained import IMAGENET

__all__ = ["ablation_entries", "choose_entries"]

NARROW: dict[str, dict[str, Any]] = {"mccrnet": {"width": 0.125}, "snunet": {"width": 16}, "dasnet": {"width": 0.25}}
"""Arguments of narrower networks of the same code, for `small`."""


def choose_entries(text: str, *, small: bool = False) -> list[Entry]:
    """The rows that a command line names.

    Args:
        text: ``all``, or names joined by commas, each with arguments of its builder: ``bit,snunet:width=16``. Values
            are numbers, ``true``, ``false`` or names. ``encoder_weights=imagenet`` is one of every network that has an
            encoder.
        small: take narrower variants of wide networks, where there are any and no arguments are given.

    Raises:
        InputError: if a network is not known, or an argument cannot be read.
    """
    words = list_models() if text == "all" else [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise InputError(f"--networks {text!r} names none; give `all` or some of {', '.join(list_models())}")
    return [_entry(word, small=small) for word in words]


def _entry(word: str, *, small: bool) -> Entry:
    name, *options = word.split(":")
    if name not in list_models():
        raise InputError(f"--networks: there is no network {name!r}; there are: {', '.join(list_models())}")
    arguments = dict(_option(word, option) for option in options)
    narrowed = small and not arguments and name in NARROW
    if narrowed:
        arguments = dict(NARROW[name])
    label = " ".join([name, *(f"{key}={value}" for key, value in arguments.items())])
    note = "narrower than the paper's network" if narrowed else ""
    start = arguments.pop("encoder_weights", None)
    return Entry(label, name, arguments, model_info(name).loss, note, None if start is None else str(start))


def _option(word: str, option: str) -> tuple[str, Any]:
    key, sign, text = option.partition("=")
    if not key.isidentifier() or not sign:
        raise InputError(
            f"--networks {word!r}: {option!r} is no argument; write NAME:ARGUMENT=VALUE, e.g. snunet:width=16"
        )
    return key, _value(word, text)


def _value(word: str, text: str) -> Any:  # noqa: ANN401  any builder's argument
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    if text.isidentifier():
        return text
    raise InputError(f"--networks {word!r}: {text!r} is neither a number, nor true or false, nor a name")


def ablation_entries(name: str, *, small: bool = False) -> list[Entry]:
    """The rows of one ablation.

    Args:
        name: ``mccrnet-modules`` (the paper's table 3), ``mccrnet-loss`` (its table 4), ``mlla`` or
            ``mlla-imagenet``, the same on an encoder that starts from ImageNet.
        small: an eighth of MCCRNet's width.

    Raises:
        InputError: if there is no such ablation.
    """
    if name not in _ABLATIONS:
        raise InputError(f"there is no ablation {name!r}; there are: {', '.join(_ABLATIONS)}")
    return _ABLATIONS[name](small)


def _mccrnet_modules(small: bool) -> list[Entry]:
    return [_mccrnet(label, aspca, ccr, "eaw_ce", small) for label, aspca, ccr in _MODULES]


def _mccrnet_loss(small: bool) -> list[Entry]:
    return [
        _mccrnet(f"{label}, {loss}", aspca, ccr, key, small)
        for (label, aspca, ccr), (loss, key) in itertools.product(_MODULES, (("CE", "ce"), ("EAW", "eaw_ce")))
    ]


_MODULES = (
    ("baseline", False, False),
    ("+ASPCA", True, False),
    ("+CCR", False, True),
    ("+ASPCA +CCR", True, True),
)


def _mccrnet(label: str, aspca: bool, ccr: bool, loss: str, small: bool) -> Entry:
    width = NARROW["mccrnet"] if small else {}
    note = "narrower than the paper's network" if small else ""
    return Entry(label, "mccrnet", {**width, "aspca": aspca, "ccr": ccr}, loss, note)


def _mlla(small: bool, network: str = "mlla_sianet", encoder_weights: str | None = None) -> list[Entry]:
    modules = ("dfm", "dsp", "mla")
    rows = [("all three", ()), *((f"without {name.upper()}", (name,)) for name in modules), ("none", modules)]
    loss = model_info(network).loss
    return [
        Entry(label, network, dict.fromkeys(off, False), loss, encoder_weights=encoder_weights) for label, off in rows
    ]


def _mlla_imagenet(small: bool) -> list[Entry]:
    return _mlla(small, "mlla_sianet_lite0", IMAGENET)


_ABLATIONS: dict[str, Callable[[bool], list[Entry]]] = {
    "mccrnet-modules": _mccrnet_modules,
    "mccrnet-loss": _mccrnet_loss,
    "mlla": _mlla,
    "mlla-imagenet": _mlla_imagenet,
}
