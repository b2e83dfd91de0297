"""Weights from other people's torch files, of any age, without running what is in them.

Everything is read by torch's own reader of weights alone (``weights_only=True``), which calls nothing but what makes
tensors. Files that hold a whole module, or a number of numpy's, name classes that it does not allow. Each such name is
answered by an empty class made here, which takes what is stored and does nothing; the real class is never looked for.
"""

import io
import pickletools
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from terradelta.errors import ModelError

__all__ = ["Foreign", "read_foreign"]

WRAPPERS = ("model_G_state_dict", "state_dict", "model_state_dict")
"""Under which names training scripts keep the weights beside other things."""
LEGACY_PICKLES = 4
"""Of a file from before torch 1.6: a magic number, a version, facts of the machine, the content."""
PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}
"""How pickles of protocol 2 name modules of today."""
TAKER = "terradelta.class_of"
"""Name, inside a file that is being read, of the function that takes a class out of its saved source."""
ENDS_MARK = {"TUPLE", "LIST", "DICT", "SETITEMS", "APPENDS", "FROZENSET", "ADDITEMS", "POP_MARK"}


@dataclass(frozen=True)
class Foreign:
    """What a file holds."""

    tensors: dict[str, Tensor]
    """Parameters and buffers by their names, without the ``module.`` of torch's DataParallel."""
    kinds: dict[str, str] = field(default_factory=dict)
    """For a whole module, the class names of its parts; empty for a state dict."""


class _Shell:
    """Stands for a class that is not there: keeps the attributes of its objects."""

    def __new__(cls, *_: object, **__: object) -> Self:
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)


def read_foreign(path: Path) -> Foreign:
    """Read a state dict, a training script's checkpoint around one, or a whole pickled module.

    Raises:
        ModelError: if there is no such file, it cannot be read without running code, or it holds no weights.
    """
    if not path.is_file():
        raise ModelError(f"there is no file of weights {path}")
    try:
        content = _load(path)
    except Exception as error:  # damaged, hostile or of an unknown kind: torch raises many
        raise ModelError(f"{path} holds no weights of torch ({type(error).__name__}: {error})") from error
    tensors: dict[str, Tensor] = {}
    kinds: dict[str, str] = {}
    if isinstance(content, _Shell):
        _walk(content, "", tensors, kinds)
    elif isinstance(content, dict):
        tensors = _state_dict(content)
    if not tensors:
        held = ", ".join(map(repr, list(content)[:5])) if isinstance(content, dict) else type(content).__name__
        raise ModelError(
            f"{path} holds no weights ({held}); needed is a state dict, alone or under one of {', '.join(WRAPPERS)}, "
            "or a whole module"
        )
    return Foreign({_bare(key): value for key, value in tensors.items()}, {_bare(k): v for k, v in kinds.items()})


def _bare(key: str) -> str:
    while key.startswith("module."):
        key = key.removeprefix("module.")
    return key


def _state_dict(content: Mapping[Any, Any]) -> dict[str, Tensor]:
    inner = next((content[key] for key in WRAPPERS if isinstance(content.get(key), dict)), content)
    return {key: value for key, value in inner.items() if isinstance(key, str) and isinstance(value, Tensor)}


def _walk(module: _Shell, prefix: str, tensors: dict[str, Tensor], kinds: dict[str, str]) -> None:
    """Collect what `torch.nn.Module.state_dict` would give, from the attributes that a module is pickled with."""
    parts = vars(module)
    for group in ("_parameters", "_buffers"):
        held = parts.get(group)
        for name, value in held.items() if isinstance(held, dict) else ():
            if isinstance(value, Tensor):
                tensors[f"{prefix}{name}"] = value.detach()
    children = parts.get("_modules")
    for name, child in children.items() if isinstance(children, dict) else ():
        if isinstance(child, _Shell):
            kinds[f"{prefix}{name}"] = type(child).__name__
            _walk(child, f"{prefix}{name}.", tensors, kinds)


def _load(path: Path) -> Any:  # noqa: ANN401  whatever the file holds
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            stream = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
        names = set(_classes(list(pickletools.genops(stream))))
        with torch.serialization.safe_globals(_shells(names)):
            return torch.load(path, map_location="cpu", weights_only=True)
    data, names = _without_sources(path.read_bytes())
    taker: Any = (_class_of, TAKER)
    with torch.serialization.safe_globals([*_shells(names), taker]):
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _class_of(_kind: str, cls: type, _file: str, _source: str) -> type:
    """What the saved source of a class is replaced by: the class, which is one of ours."""
    if not (isinstance(cls, type) and issubclass(cls, _Shell)):
        raise ModelError("a module's class is none")
    return cls


def _shells(names: set[str]) -> list[Any]:
    """(class, name) for each name that a file asks for; torch's own come first where it allows them."""
    return [(type(name.rsplit(".", 1)[-1], (_Shell,), {"__module__": "foreign"}), name) for name in sorted(names)]


def _classes(operations: list[Any]) -> Iterator[str]:
    for operation, argument, _ in operations:
        if operation.name == "GLOBAL":
            module, name = argument.split(" ", 1)
            yield f"{PYTHON_2.get(module, module)}.{name}"


def _without_sources(data: bytes) -> tuple[bytes, set[str]]:
    """A file of before torch 1.6 in which no class has its source with it, and the names of its classes.

    Whole modules were saved there with the source code of each class, as ``("module", class, file, source)`` behind a
    code that torch's reader of weights refuses. Here that code becomes a call of `_class_of` with the four. What is
    remembered under which number stays the same.
    """
    stream, pieces, names = io.BytesIO(data), [], set()
    for _ in range(LEGACY_PICKLES):
        start = stream.tell()
        operations = list(pickletools.genops(stream))
        names |= set(_classes(operations))
        end, inserts, replaced = stream.tell(), *_sources(operations)
        at = start
        for place in sorted([*inserts, *replaced]):
            pieces.append(data[at:place])
            module, name = TAKER.split(".")
            pieces.append(f"c{module}\n{name}\n".encode() if place in inserts else b"R")
            at = place + (place in replaced)
        pieces.append(data[at:end])
    return b"".join([*pieces, data[stream.tell() :]]), names


def _sources(operations: list[Any]) -> tuple[set[int], set[int]]:
    """Where the tuples of classes with their source begin, and where the codes behind them stand."""
    inserts: set[int] = set()
    replaced: set[int] = set()
    marks: list[int] = []
    memo: dict[int, Any] = {}
    begin, last = -1, None
    for number, (operation, argument, place) in enumerate(operations):
        if operation.name == "MARK":
            marks.append(number)
        elif operation.name in ENDS_MARK and marks:
            begin = marks.pop()
        elif operation.name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = last
        elif operation.name == "BINPERSID" and begin >= 0:
            first, word, _ = operations[begin + 1]
            if (memo.get(word) if first.name in ("BINGET", "LONG_BINGET") else word) == "module":
                inserts.add(operations[begin][2])
                replaced.add(place)
        if operation.name not in ("BINPUT", "LONG_BINPUT"):
            last = argument
    return inserts, replaced
