"""Receipts of all kinds by hypothesis, from the types of their fields."""

import dataclasses
import types
import typing
from typing import Any, Literal, Union, get_args, get_origin

from hypothesis import strategies as st

from terradelta.card import ModelCard

PLAIN = {
    str: st.text(max_size=6),
    bool: st.booleans(),
    int: st.integers(-(2**40), 2**40),
    float: st.floats(allow_nan=False, allow_infinity=False),
    types.NoneType: st.none(),
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3), lambda inner: st.lists(inner, max_size=2)
)


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Whatever fits a type."""
    if dataclasses.is_dataclass(kind):
        return records(kind)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return st.one_of([values(each) for each in arguments])
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is dict:
        return st.dictionaries(st.text(max_size=4), values(arguments[1]), max_size=2)
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(values(arguments[0]), max_size=2).map(tuple)
    return st.tuples(*map(values, arguments)) if origin is tuple else {**PLAIN, Any: JSON}[kind]


def records(kind: type) -> st.SearchStrategy[Any]:
    """Records of a class; a card with one band, whose numbers it checks itself."""
    hints = typing.get_type_hints(kind)
    fields = {field.name: values(hints[field.name]) for field in dataclasses.fields(kind)}
    if issubclass(kind, ModelCard):
        one = st.just((1.0,))
        fields |= {"bands": st.just(("grey",)), "mean": one, "std": one, "scale": st.just(255.0)}
        fields["temperature"] = st.floats(0.1, 9)
    return st.builds(kind, **fields)
