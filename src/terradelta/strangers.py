"""What strangers wrote: JSON is read within limits, and text is made printable, for terminals, pages and files."""

import json
import re
from typing import Any

__all__ = ["DEEPEST", "printable", "read_json"]

DEEPEST = 64
"""How deep lists and objects of JSON may lie in one another."""
_DIGITS = 300
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKET = re.compile(r"[\[\]{}]")
# C0 but tab and newline, DEL and C1 (terminals act upon them), marks that turn the direction of writing, surrogates.
_HARMFUL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
_ESCAPED = re.compile(r"\\u(?:00[0189]|007f|20|d[89a-f]|fe)", re.IGNORECASE)


def printable(text: str) -> str:
    """A text whose characters that a terminal or a page would act upon are written as escapes, such as for ESC."""
    return _HARMFUL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def read_json(text: str | bytes, *, ours: bool = False, constants: bool = True) -> Any:  # noqa: ANN401  any JSON value
    """Decode JSON that may come from anyone.

    Strings are made `printable`. Nothing is nested deeper than 64 levels, and no number is longer than 300 digits or
    beyond float64, so what takes the values apart needs no guard of its own.

    Args:
        text: the JSON.
        ours: it should be what terradelta wrote: strings stay as they are.
        constants: take NaN and Infinity, which Python and others write though JSON has none.

    Raises:
        ValueError: if it is no JSON, no UTF-8, or beyond these limits.
    """
    text = text.decode("utf-8-sig") if isinstance(text, bytes) else text
    depth = 0
    for bracket in _BRACKET.findall(_STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > DEEPEST:
            raise ValueError(f"it is nested more than {DEEPEST} deep")
    content = json.loads(text, parse_int=_integer, parse_float=_real, parse_constant=None if constants else _refuse)
    return _clean(content) if not ours and (_HARMFUL.search(text) or _ESCAPED.search(text)) else content


def _integer(text: str) -> int:
    if len(text) > _DIGITS:
        raise ValueError(f"a number of {len(text):,} digits")
    return int(text)


def _real(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"Out of range float values are not JSON compliant: {text[:40]}")
    return value


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")


def _clean(value: Any) -> Any:  # noqa: ANN401  any JSON value
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return [_clean(each) for each in value]
    if isinstance(value, dict):
        return {printable(key): _clean(each) for key, each in value.items()}
    return value
