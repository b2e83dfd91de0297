"""Receipts to JSON and back: the keys are the names of the fields, and nothing is guessed.

A field whose default is None is left out while it is None. A number that is not finite becomes null, as JSON has none;
so a field that may be one allows None. Values of the type `Any` are JSON values as they are.
"""

import contextlib
import dataclasses
import datetime
import functools
import json
import math
import numbers
import sys
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin

import terradelta
from terradelta.errors import InputError, TerradeltaError
from terradelta.files import write_whole
from terradelta.strangers import DEEPEST, read_json

__all__ = [
    "SCHEMA",
    "Receipt",
    "finite",
    "from_json",
    "json_text",
    "now",
    "plain",
    "read_receipt",
    "to_json",
    "write_receipt",
]

SCHEMA = 1
"""Version of the receipts that this code writes and reads. It rises with every change of a name, type or meaning."""

_MOST_BYTES = 256 * 2**20
_SHOWN = 60
_LARGEST = 2**63 - 1
_WORDS: dict[Any, str] = {
    **{str: "a text", bool: "true or false", int: "a whole number", float: "a finite number"},
    **{tuple: "a list", list: "a list", dict: "an object", types.NoneType: "null"},
}


def now() -> str:
    """The present time, UTC, to the second, ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What every receipt begins with; ``schema`` and ``kind`` stand before it in the file."""

    kind: ClassVar[str]
    """Name of the kind in the file."""
    command: ClassVar[str]
    """The command that makes it, for messages."""
    cure: ClassVar[str]
    """How to make one, for messages."""

    created: str = dataclasses.field(default_factory=now)
    """When it was made: UTC, ISO 8601, to the second."""
    version: str = terradelta.__version__
    """terradelta's."""


R = TypeVar("R", bound=Receipt)


class _MisfitError(Exception):
    """A value that is not what the schema says."""

    def __init__(self, where: str, value: object, wanted: str) -> None:
        given = {list: "a list", dict: "an object", object: "missing"}.get(type(value))
        given = f"{json.dumps(value):.{_SHOWN}}" if given is None else given
        super().__init__(f"{where or 'it'} is {given}, but must be {wanted}")


def finite(value: float | None) -> float | None:
    """The number as a float; None in place of infinity, NaN, and what no float can hold."""
    try:
        return None if value is None or not math.isfinite(value) else float(value)
    except OverflowError:
        return None


def plain(value: Any) -> Any:  # noqa: ANN401  a record, or any JSON value
    """A record, or what a field of one may hold, as JSON-ready values.

    Raises:
        InputError: if it is nested more than 64 deep.
    """
    return _plain(value, DEEPEST)


def _plain(value: Any, depth: int) -> Any:  # noqa: ANN401
    if not depth:
        raise InputError(f"values that are nested more than {DEEPEST} deep do not fit into a receipt; make them flat")
    if dataclasses.is_dataclass(value):
        pairs = ((field, getattr(value, field.name)) for field in dataclasses.fields(value))
        kept = {field.name: each for field, each in pairs if not (each is None and field.default is None)}
        return {name: _plain(each, depth - 1) for name, each in kept.items()}
    if isinstance(value, Mapping):
        return {str(name): _plain(each, depth - 1) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each, depth - 1) for each in value]
    if value is None or isinstance(value, str | bool):
        return value
    return int(value) if isinstance(value, numbers.Integral) else finite(value)


def to_json(receipt: Receipt) -> str:
    """The receipt as indented JSON; a list of plain values stays on one line."""
    return json_text({"schema": SCHEMA, "kind": receipt.kind, **plain(receipt)})


def json_text(value: Any) -> str:  # noqa: ANN401  any JSON value
    """JSON for people: indented, but a list of plain values stays on one line."""
    return _text(value, "") + "\n"


def write_receipt(receipt: Receipt, path: Path, *, make_folder: bool = False) -> None:
    """Write the JSON of a receipt.

    Raises:
        OutputError: if it cannot be written.
    """
    write_whole(path, to_json(receipt), make_folder=make_folder)


def _text(value: Any, indent: str) -> str:  # noqa: ANN401  any JSON value
    if not isinstance(value, list | dict) or not value:
        return json.dumps(value, allow_nan=False)
    inner = f"{indent}  "
    if isinstance(value, dict):
        lines = [f"{json.dumps(name)}: {_text(each, inner)}" for name, each in value.items()]
    elif not any(isinstance(each, list | dict) for each in value):
        return json.dumps(value, allow_nan=False)
    else:
        lines = [_text(each, inner) for each in value]
    first, last = "{}" if isinstance(value, dict) else "[]"
    return f"{first}\n{inner}" + f",\n{inner}".join(lines) + f"\n{indent}{last}"


def read_receipt(kind: type[R], path: Path) -> R:
    """Read a receipt from a file; see `from_json`.

    Raises:
        InputError: if the file cannot be read, or holds none of this kind and schema.
    """
    try:
        if path.exists() and not path.is_file():
            raise _not_one(kind, path, "it is no ordinary file")
        if path.stat().st_size > _MOST_BYTES:
            raise _not_one(kind, path, f"it is larger than {_MOST_BYTES // 2**20} MiB")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise _not_one(kind, path, getattr(error, "strerror", None) or "it is no text") from error
    return from_json(kind, text, path)


def from_json(kind: type[R], text: str, source: Path | str = "the text") -> R:
    """The receipt that `to_json` wrote.

    Args:
        kind: the class of the receipt, e.g. `terradelta.receipt.MapReceipt`.
        text: the JSON.
        source: where it came from, for the message.

    Raises:
        InputError: if it is no receipt of this kind, has another schema version, or a field does not fit its type.
    """
    try:
        found = read_json(text, ours=True, constants=False)
    except ValueError as error:
        raise _not_one(kind, source, f"it cannot be read as JSON ({error})") from error
    if not isinstance(found, dict):
        raise _not_one(kind, source, "it is no JSON object")
    schema, name = found.pop("schema", None), found.pop("kind", None)
    if schema is None and "version" in found:
        raise InputError(
            f"{source} was written by an older terradelta, before receipts had a schema version; this one reads "
            f"schema {SCHEMA}: {kind.cure}"
        )
    if schema is None or name != kind.kind:
        raise _not_one(kind, source, "it has no schema version" if schema is None else f"its kind is {name!r:.40}")
    if schema != SCHEMA or isinstance(schema, bool):
        raise InputError(
            f"{source} has schema {schema!r:.40}, but this terradelta reads schema {SCHEMA}: {kind.cure}, or read it "
            "with the terradelta that wrote it"
        )
    try:
        made = _decode(kind, found, "")
    except _MisfitError as error:
        raise _not_one(kind, source, str(error)) from error
    assert isinstance(made, kind)
    return made


def _not_one(kind: type[Receipt], source: Path | str, why: str) -> InputError:
    return InputError(f"{source} is no receipt of `{kind.command}`: {why}; {kind.cure}")


def _decode(kind: Any, value: Any, where: str) -> Any:  # noqa: ANN401  a type, and any JSON value
    """The value as its type says; types nest no deeper than the records do."""
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return _record(kind, value, where)
    return _DECODERS.get(get_origin(kind), _scalar)(kind, value, where)


def _scalar(kind: Any, value: Any, where: str) -> Any:  # noqa: ANN401
    if kind is float and type(value) in (int, float) and abs(value) <= sys.float_info.max:
        return float(value)
    if kind is float or type(value) is not kind or (kind is int and abs(value) > _LARGEST):
        raise _MisfitError(where, value, _words(kind))
    return value


def _literal(kind: Any, value: Any, where: str) -> Any:  # noqa: ANN401
    if not isinstance(value, str) or value not in get_args(kind):
        raise _MisfitError(where, value, _words(kind))
    return value


def _object(kind: Any, value: Any, where: str) -> dict[str, Any]:  # noqa: ANN401
    if not isinstance(value, dict):
        raise _MisfitError(where, value, "an object")
    return {name: _decode(get_args(kind)[1], each, _within(where, name)) for name, each in value.items()}


def _tuple(kind: Any, value: Any, where: str) -> tuple[Any, ...]:  # noqa: ANN401
    if not isinstance(value, list):
        raise _MisfitError(where, value, "a list")
    kinds = get_args(kind)
    kinds = kinds[:1] * len(value) if kinds[-1] is Ellipsis else kinds
    if len(kinds) != len(value):
        raise _MisfitError(where, value, f"one of {len(kinds)} values, not {len(value)}")
    return tuple(_decode(each, one, f"{where}[{i}]") for i, (each, one) in enumerate(zip(kinds, value, strict=True)))


def _one_of(kind: Any, value: Any, where: str) -> Any:  # noqa: ANN401
    if value is None and types.NoneType in get_args(kind):
        return None
    *others, last = (each for each in get_args(kind) if each is not types.NoneType)
    for each in others:
        with contextlib.suppress(_MisfitError):
            return _decode(each, value, where)
    try:
        return _decode(last, value, where)
    except _MisfitError as error:
        if others:
            raise _MisfitError(where, value, _words(kind)) from error
        raise


_DECODERS: dict[Any, Callable[[Any, Any, str], Any]] = {
    **{Union: _one_of, types.UnionType: _one_of, Literal: _literal},
    **{tuple: _tuple, dict: _object},
}


def _record(kind: Any, value: Any, where: str) -> Any:  # noqa: ANN401
    if not isinstance(value, dict):
        raise _MisfitError(where, value, "an object")
    known = _fields(kind)
    unknown = sorted(value.keys() - known.keys())
    if unknown:
        raise _MisfitError(_within(where, unknown[0]), value[unknown[0]], "absent, for there is no such field")
    fields = {}
    for name, (wanted, optional) in known.items():
        if name in value:
            fields[name] = _decode(wanted, value[name], _within(where, name))
        elif not optional:
            raise _MisfitError(_within(where, name), object(), _words(wanted))
    try:
        return kind(**fields)
    except TerradeltaError as error:  # a card checks itself
        raise _MisfitError(where, value, f"a valid one ({error})") from error


def _within(where: str, name: str) -> str:
    return f"{where}.{name:.{_SHOWN}}" if where else f"{name:.{_SHOWN}}"


@functools.cache
def _fields(kind: Any) -> dict[str, tuple[Any, bool]]:  # noqa: ANN401
    """Type of each field of a record, and whether it may be absent."""
    hints = typing.get_type_hints(kind)
    return {field.name: (hints[field.name], field.default is None) for field in dataclasses.fields(kind)}


def _words(kind: Any) -> str:  # noqa: ANN401
    """A type in words."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(_words(each) for each in arguments)
    if origin is Literal:
        return " or ".join(map(json.dumps, arguments))
    return _WORDS.get(origin) or _WORDS.get(kind, "an object")
