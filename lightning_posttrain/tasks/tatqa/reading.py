"""The ways to read an answer of TAT-QA: as one part or as a list, with or without its scale."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from .official import MAX_LENGTH, SCALES
from .values import amount

_SEPARATORS = (
    re.compile(r"\s*[;\n]\s*"),
    re.compile(r",\s+"),
    re.compile(r",(?![0-9]{3}(?![0-9]))\s*"),
    re.compile(r"\s*(?:[;,]\s+(?:(?:and|&)\s+)?|\s(?:and|&)\s+)", re.I),
    re.compile(r"\s*(?:;\s*(?:and\s+)?|\s(?:and|&)\s+)", re.I),
)
_MARK = re.compile(r"^\s*(?:[-*•]|[0-9]{1,2}\.)\s+")
_LAST_WORD = re.compile(rf"(?P<rest>.*\S)(?:\s+(?P<word>{'|'.join(SCALES)})s?|\s*%)\s*\.?", re.I | re.S)
_MOST_PARTS = 100
"""A longer list is a model's stutter."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to read an answer: its parts and its scale ("" = none)."""

    parts: tuple[str, ...]
    scale: str


def splits(text: str) -> list[tuple[str, ...]]:
    """The ways to part an answer, at least one: whole, and as a list in the usual ways of writing one."""
    text = text.strip()[:MAX_LENGTH]
    found: list[tuple[str, ...]] = [(text,)]
    for whole in dict.fromkeys((text, _without_brackets(text))):
        found += [tuple(filter(None, map(_item, separator.split(whole)))) for separator in _SEPARATORS]
        found.append((_item(whole),))
    found.append(_json_items(text))
    return [parts for parts in dict.fromkeys(found) if any(parts) and len(parts) <= _MOST_PARTS] or [(text,)]


def readings(text: str) -> list[Reading]:
    """The ways to read an answer, at least one: each of `splits` as it stands, and without the scale it names."""
    return list(dict.fromkeys(reading for parts in splits(text) for reading in _scaled(parts)))


def _scaled(parts: tuple[str, ...]) -> Iterator[Reading]:
    yield Reading(parts, "")
    if match := _LAST_WORD.fullmatch(parts[-1]):
        yield Reading((*parts[:-1], match["rest"]), (match["word"] or "percent").lower())
    found = [one for one in map(amount, parts) if one is not None]
    scales = [one.scale for one in found]
    if len(found) == len(parts) and (len(set(scales)) == 1 or not any(scales[:-1])):
        yield Reading(tuple(one.bare for one in found), scales[-1])


def _item(text: str) -> str:
    """An item of a list without its mark and the quotes around it."""
    text = _MARK.sub("", text).strip()
    return text[1:-1].strip() if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'`" else text


def _without_brackets(text: str) -> str:
    listed = text[:1] + text[-1:] in ("[]", "{}") or re.fullmatch(r"\([^()]*,\s[^()]*\)", text)
    return text[1:-1].strip() if listed else text


def _json_items(text: str) -> tuple[str, ...]:
    """The items of a list in JSON."""
    try:
        found = json.loads(text) if text.startswith("[") else []
    except (ValueError, RecursionError):
        return ()
    return tuple(str(one) for one in found if isinstance(one, str | int | float) and not isinstance(one, bool))
