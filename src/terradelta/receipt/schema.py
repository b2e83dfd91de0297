"""The JSON Schema of all receipts, written from the dataclasses: ``python -m terradelta.receipt.schema`` prints it."""

import ast
import dataclasses
import inspect
import textwrap
import types
import typing
from typing import Any, Literal, Union, get_args, get_origin

from terradelta.receipt.area_record import AreaReceipt
from terradelta.receipt.checkup_record import CheckupReceipt
from terradelta.receipt.codec import SCHEMA, Receipt, json_text
from terradelta.receipt.evaluation_record import EvaluationReceipt
from terradelta.receipt.map_record import MapReceipt

__all__ = ["KINDS", "schema_text"]

KINDS: tuple[type[Receipt], ...] = (MapReceipt, EvaluationReceipt, AreaReceipt, CheckupReceipt)
_PLAIN = {str: "string", bool: "boolean", int: "integer", float: "number", types.NoneType: "null"}


def schema_text() -> str:
    """The JSON Schema (draft 2020-12), as it stands in ``schema.json``."""
    known: dict[str, dict[str, Any]] = {}
    refs = [_schema(kind, known) for kind in KINDS]
    content = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Receipts of terradelta",
        "oneOf": refs,
        "$defs": dict(sorted(known.items())),
    }
    return json_text(content)


def _schema(kind: Any, known: dict[str, dict[str, Any]]) -> dict[str, Any]:  # noqa: ANN401  a type
    if dataclasses.is_dataclass(kind):
        return _record(kind, known)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        parts = [_schema(each, known) for each in arguments]
        return {"type": [each["type"] for each in parts]} if all(map(_is_plain, parts)) else {"anyOf": parts}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema(arguments[1], known)}
    if origin is tuple:
        return _array(arguments, known)
    if origin is Literal:
        return {"enum": list(arguments)}
    return {} if kind is Any else {"type": _PLAIN[kind]}


def _is_plain(part: dict[str, Any]) -> bool:
    return [*part] == ["type"]


def _array(kinds: tuple[Any, ...], known: dict[str, dict[str, Any]]) -> dict[str, Any]:
    if kinds[-1] is Ellipsis:
        return {"type": "array", "items": _schema(kinds[0], known)}
    items = [_schema(each, known) for each in kinds]
    return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}


def _record(kind: Any, known: dict[str, dict[str, Any]]) -> dict[str, Any]:  # noqa: ANN401
    name = kind.__name__
    if name not in known:
        known[name] = {}  # its place, should it refer to itself
        hints, words = typing.get_type_hints(kind), _words(kind)
        properties = _head(kind)
        required = list(properties)
        for field in dataclasses.fields(kind):
            text = {"description": words[field.name]} if words.get(field.name) else {}
            properties[field.name] = _schema(hints[field.name], known) | text
            required += [] if field.default is None else [field.name]
        known[name] = {
            "description": inspect.cleandoc(kind.__doc__).splitlines()[0],
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": False,
        }
    return {"$ref": f"#/$defs/{name}"}


def _head(kind: Any) -> dict[str, Any]:  # noqa: ANN401
    if not issubclass(kind, Receipt):
        return {}
    return {"schema": {"const": SCHEMA}, "kind": {"const": kind.kind}}


def _words(kind: type[Any]) -> dict[str, str]:
    """The docstrings below the fields, those of the classes above included."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__[:-1]):
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(each))).body
        assert isinstance(tree, ast.ClassDef)
        for node, below in zip(tree.body, tree.body[1:], strict=False):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and isinstance(below, ast.Expr):
                found[node.target.id] = " ".join(ast.literal_eval(below.value).split())
    return found


if __name__ == "__main__":
    print(schema_text(), end="")
