"""Strict JSON for scorers: parse a model's text, find the objects in it, check an object against a flat schema.

The standard library's decoder accepts more than JSON (NaN, repeated keys, numbers that overflow to infinity, lone
surrogates) and raises RecursionError or ValueError on wild text. Here every such text gets a short reason instead.
Every function is linear in the length of the text. Nested schemas are left out: these tasks have none.
"""

from __future__ import annotations

import datetime
import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

MAX_DEPTH = 64
"""Deepest nesting that parses. A fixed limit: the interpreter's own depends on who calls."""
MAX_DIGITS = 300
"""Longest integer that parses: anything longer has no float and is costly to print."""

_WHITESPACE = " \t\n\r"  # JSON's own; str.strip() would also eat no-break spaces, which no JSON parser accepts
_MARK = re.compile(r'["\[\]{}]')
_STRING_REST = re.compile(r'(?:[^"\\\n]|\\.)*+"?')  # a raw newline cannot be in a JSON string: it ends a broken one
_SURROGATE = re.compile("[\ud800-\udfff]")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class StrictJSONError(ValueError):
    """The text is not what was asked for; ``str(error)`` is the short reason that gets counted."""


def parse_json(text: str) -> Any:
    """Exactly one JSON value, with nothing but JSON whitespace around it.

    Raises:
        StrictJSONError: ``json_parse_error``, ``trailing_text``, ``duplicate_keys``, ``non_finite_number`` (also a
            number too large for a float), ``nested_too_deep`` or ``lone_surrogate``.
    """
    text = text.strip(_WHITESPACE)
    if _deepest(text) > MAX_DEPTH:
        raise StrictJSONError("nested_too_deep")
    try:
        value, end = _DECODER.raw_decode(text)
    except json.JSONDecodeError as error:
        raise StrictJSONError("json_parse_error") from error
    if end != len(text):
        raise StrictJSONError("trailing_text")
    if _SURROGATE.search(json.dumps(value, ensure_ascii=False)):  # "\ud800" is legal syntax but no text: UTF-8 has none
        raise StrictJSONError("lone_surrogate")
    return value


def parse_object(text: str) -> dict[str, Any]:
    """As :func:`parse_json`, but the text must be one braced object.

    Raises:
        StrictJSONError: ``not_braced_json_object``, or a reason of :func:`parse_json`.
    """
    text = text.strip(_WHITESPACE)
    if not (text.startswith("{") and text.endswith("}")):
        raise StrictJSONError("not_braced_json_object")
    value: dict[str, Any] = parse_json(text)  # what starts with a brace and decodes is an object
    return value


def find_objects(text: str) -> list[str]:
    """The outermost balanced ``{...}`` pieces of ``text``, in order; they need not be valid JSON.

    Braces inside the strings of an object do not count, and neither does an opening brace that nothing closes; a stray
    quote after such a brace hides what follows on its line.
    """
    spans: list[tuple[int, int]] = []
    opened: list[int] = []
    pos = 0
    while mark := _MARK.search(text, pos):
        pos = mark.end()
        if mark[0] == '"' and opened:  # outside an object a quote is prose
            pos = _end_of_string(text, pos)
        elif mark[0] == "{":
            opened.append(mark.start())
        elif mark[0] == "}" and opened:
            start = opened.pop()
            while spans and spans[-1][0] > start:
                spans.pop()
            spans.append((start, pos))
    return [text[start:end] for start, end in spans]


def schema_error(value: Any, schema: Mapping[str, str]) -> str | None:
    """Why ``value`` does not fit ``schema``, or None.

    Args:
        value: a parsed JSON value.
        schema: key -> one of :data:`SCHEMA_TYPES`. The keys of the object must be exactly these, in any order.

    Returns:
        ``not_json_object``, ``keys_mismatch``, ``type_mismatch:<key>:<type>``, ``bad_date:<key>`` (looks like a date
        but no calendar has it) or None.
    """
    if not isinstance(value, dict):
        return "not_json_object"
    if value.keys() != schema.keys():
        return "keys_mismatch"
    for key, kind in schema.items():
        if not _FITS[kind](value[key]):
            return f"type_mismatch:{key}:{kind}"
        if kind == "date" and not _in_calendar(value[key]):
            return f"bad_date:{key}"
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)  # to Python True is a 1, to JSON it is not


_FITS: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: _is_number(value) and isinstance(value, int),
    "number": _is_number,
    "boolean": lambda value: isinstance(value, bool),
    "date": lambda value: isinstance(value, str) and _DATE.fullmatch(value) is not None,
}
SCHEMA_TYPES = frozenset(_FITS)
"""The types a schema may name. ``date`` is a string YYYY-MM-DD of a day that exists."""


def _in_calendar(text: str) -> bool:
    try:
        datetime.date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _end_of_string(text: str, pos: int) -> int:
    rest = _STRING_REST.match(text, pos)
    assert rest is not None  # it matches the empty string too
    return rest.end()


def _deepest(text: str) -> int:
    """Deepest nesting of brackets outside strings. Exact as far as the text is valid JSON, and no parser reads on."""
    depth = deepest = pos = 0
    while mark := _MARK.search(text, pos):
        pos = mark.end()
        if mark[0] == '"':
            pos = _end_of_string(text, pos)
        elif mark[0] in "[{":
            depth += 1
            deepest = max(deepest, depth)
        else:
            depth -= 1
    return deepest


def _no_constant(_name: str) -> NoReturn:
    raise StrictJSONError("non_finite_number")


def _float(digits: str) -> float:
    value = float(digits)
    return value if math.isfinite(value) else _no_constant(digits)


def _int(digits: str) -> int:
    return int(digits) if len(digits) <= MAX_DIGITS else _no_constant(digits)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise StrictJSONError("duplicate_keys")
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_float, parse_int=_int)
