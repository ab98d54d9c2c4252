"""JSON and UTF-8 decoded strictly: what the standard decoder lets through (NaN, infinities, keys given twice, half of a
surrogate pair) is refused, because it would change or lose data without a word. Knows positions, not files.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

BOM = "\ufeff"
_SPACE = " \t\r\n"


class BadText(ValueError):
    """Text that is no valid UTF-8 or JSON. Line and column count from 1; 0 where they are not known."""

    def __init__(self, message: str, line: int = 0, column: int = 0) -> None:
        super().__init__(message)
        self.line = line
        self.column = column


def decode_utf8(raw: bytes, offset: int) -> str:
    """``raw`` as text, without a byte-order mark if it begins the file. ``offset``: its place in the file, in bytes.

    Raises:
        BadText: naming the byte.
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        utf16 = raw[:2] in (b"\xff\xfe", b"\xfe\xff") and not offset
        hint = "It looks like UTF-16: save it as UTF-8." if utf16 else "Save the file as UTF-8."
        raise BadText(f"byte {offset + error.start} (0x{raw[error.start]:02x}) is not UTF-8. {hint}") from error
    return text.removeprefix(BOM) if not offset else text


def decode_object(text: str) -> dict[str, Any]:
    """The JSON object that ``text`` is.

    Raises:
        BadText: it is none, or no valid JSON.
    """
    end, value = _decode(text, _skip(text, 0))
    end = _skip(text, end)
    if end < len(text):
        raise _at(text, end, f"{text[end : end + 20]!r} follows the object. One line holds one object.")
    if not isinstance(value, dict):
        raise BadText(f"{text.strip()[:40]!r} is no JSON object. Each row must be one: {{...}}.")
    return value


def items(text: str) -> Iterator[tuple[int, str | None, Any]]:
    """(line number, key, value) of the JSON array or object that ``text`` is, one by one; in an array the key is None.

    Raises:
        BadText: at the first place that is no valid JSON.
    """
    at = _skip(text, 0)
    if at == len(text):
        return
    if text[at] not in "[{":
        raise _at(text, at, f"{text[at : at + 20]!r} begins neither an array nor an object.")
    keyed = text[at] == "{"
    close = "}" if keyed else "]"
    at = _skip(text, at + 1)
    line, counted = 1, 0
    while text[at : at + 1] != close:
        line, counted = line + text.count("\n", counted, at), at
        key = None
        if keyed:
            at, key = _key(text, at)
        at, value = _decode(text, at)
        yield line, key, value
        at = _skip(text, at)
        comma = text[at : at + 1] == ","
        if not comma and text[at : at + 1] != close:
            raise _at(text, at, f"',' or '{close}' expected, found {text[at : at + 20]!r}; the file may be cut off.")
        at = _skip(text, at + 1) if comma else at
    end = _skip(text, at + 1)
    if end < len(text):
        raise _at(text, end, f"{text[end : end + 20]!r} follows the end. One object per line belongs into a .jsonl.")


def _key(text: str, at: int) -> tuple[int, str]:
    end, key = _decode(text, at)
    end = _skip(text, end)
    if not isinstance(key, str) or text[end : end + 1] != ":":
        raise _at(text, at, f"'\"key\":' expected, found {text[at : at + 20]!r}.")
    return _skip(text, end + 1), key


def _skip(text: str, at: int) -> int:
    while text[at : at + 1] and text[at] in _SPACE:
        at += 1
    return at


def _at(text: str, at: int, message: str) -> BadText:
    return BadText(message, text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at))


def _decode(text: str, at: int) -> tuple[int, Any]:
    """(end, value) of the JSON value that begins at ``at``."""
    try:
        value, end = _DECODER.raw_decode(text, at)
        if "\\u" in text[at:end]:
            _check_surrogates(value)
    except json.JSONDecodeError as error:
        raise BadText(f"no valid JSON: {error.msg}.", error.lineno, error.colno) from error
    except StopIteration as error:
        raise _at(text, at, "no valid JSON: a value was expected.") from error
    except RecursionError as error:
        raise _at(text, at, "objects or arrays are nested too deeply.") from error
    except BadText as error:
        raise _at(text, at, str(error)) from error
    except ValueError as error:  # an integer of more digits than Python converts
        raise _at(text, at, f"a number cannot be read ({error}). Write it as a string.") from error
    return end, value


def _check_surrogates(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        raise BadText(
            f"a string holds half of a surrogate pair ({half!r}), which is no text. Clean the row."
        ) from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise BadText(f"the key {twice[:60]!r} is given twice, so one value would be lost.")
    return row


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise BadText(f"the number {text[:40]} is too large. Write it as a string, or leave it out.")
    return number


def _constant(text: str) -> float:
    raise BadText(f"{text} is no JSON number. Write null, or leave the key out.")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_finite, parse_constant=_constant)
