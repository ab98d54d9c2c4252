"""Format following: reply with one strict JSON object and nothing else.

The prompt names a payment, the reply must be {name, date, amount} as the row's own schema describes it. The format
metrics say whether a program could read the reply, the field metrics whether it holds the right values. Nothing here
repairs a reply: what is measured is the text as it came.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping
from typing import Any

from ..types import Completion, Message, Record, UserError
from .base import Score, Task
from .strict_json import SCHEMA_TYPES, StrictJSONError, find_objects, parse_object, schema_error

FIELDS = ("name", "date", "amount")
"""Keys every schema must have, because each has a metric of its own."""

_LABELS = ("variant", "json_format", "instruction_strictness", "bad_output_style")
_SPECIAL = r"(?:<\|[^|<>]{1,40}\|>\s*)*"
_ROLE_MARKER = re.compile(rf"\s*{_SPECIAL}assistant\b\s*{_SPECIAL}:?", re.IGNORECASE)


class FormatFollowing(Task):
    """Extract a payment as strict JSON. A row holds ``id``, ``prompt``, ``completion`` (gold) and ``schema``.

    Metrics of one completion, each 0 or 1:

    - ``format_success_rate``: the whole text is one object of the schema: its keys and no others, the right types,
      dates that exist. Values are not compared, and a text cut off by the length limit may pass.
    - ``format_success_rate_relaxed``: the same after taking away a leading "assistant" role marker.
    - ``extractable_json_rate``: the first balanced object anywhere in the text fits the schema.
    - ``prefix_brace_rate``: the text starts with a brace.
    - ``duplicate_json_objects_rate``: it holds two or more balanced objects.
    - ``eos_rate``: the model ended the reply itself.
    - ``field_match_name``, ``..._date``, ``..._amount``: that value in the first object equals gold, whatever is around
      the object or wrong with its other keys. Measures reading apart from format.
    - ``field_exact_match``: strict success and every value equal to gold: the reply is of use as it stands.

    ``reason`` is why strict success failed. ``detail`` shows the object found and which of its values are wrong.
    """

    name = "format_following"
    primary = "format_success_rate"

    def record(self, row: Mapping[str, Any], origin: str) -> Record:
        """A row as a record; the labels ``variant``, ``json_format``, ... are optional and kept in ``meta``."""
        row_id, prompt, completion = (_text(row, key, origin) for key in ("id", "prompt", "completion"))
        schema = _schema(row, origin)
        gold, reason = _strict(completion, schema)
        if reason is not None:
            raise _wrong(origin, "completion", completion, f"it fails its own schema ({reason})", "correct the row")
        labels = {key: _text(row, key, origin) for key in _LABELS if row.get(key) is not None}
        return Record(
            row_id, (Message("user", prompt),), completion, origin, {"schema": schema, "gold": gold, **labels}
        )

    def score(self, record: Record, completion: Completion) -> Score:
        """Judge one reply by the record's schema and gold values; any text is judged, none raises."""
        schema, gold, text = record.meta["schema"], record.meta["gold"], completion.text
        _, reason = _strict(text, schema)
        marker = _ROLE_MARKER.match(text)
        _, relaxed_reason = _strict(text[marker.end() :] if marker else text, schema)
        objects = find_objects(text)
        found, found_reason = _strict(objects[0], schema) if objects else (None, "no_object")
        wrong = [key for key in schema if not _equal((found or {}).get(key), gold[key])]
        values = {
            "format_success_rate": reason is None,
            "format_success_rate_relaxed": relaxed_reason is None,
            "extractable_json_rate": found_reason is None,
            "prefix_brace_rate": text.lstrip().startswith("{"),
            "duplicate_json_objects_rate": len(objects) >= 2,
            "eos_rate": completion.finished,
            "field_exact_match": reason is None and not wrong,
            **{f"field_match_{key}": key not in wrong for key in FIELDS},
        }
        detail = {"parsed": found, "wrong_fields": wrong, "num_json_objects": len(objects)}
        return Score({key: float(value) for key, value in values.items()}, detail, reason)


def _strict(text: str, schema: Mapping[str, str]) -> tuple[dict[str, Any] | None, str | None]:
    """The object ``text`` consists of (None when it does not parse) and why it fails the schema, if it does."""
    try:
        value = parse_object(text)
    except StrictJSONError as error:
        return None, str(error)
    return value, schema_error(value, schema)


def _equal(value: Any, gold: Any) -> bool:
    """JSON equality: 12 equals 12.0, but true does not equal 1."""
    return bool(value == gold) and isinstance(value, bool) == isinstance(gold, bool)


def _schema(row: Mapping[str, Any], origin: str) -> dict[str, str]:
    schema = row.get("schema")
    remedy = (
        f"give an object of key -> type with at least {', '.join(FIELDS)}; types: {', '.join(sorted(SCHEMA_TYPES))}"
    )
    if not isinstance(schema, Mapping) or not all(isinstance(kind, str) for kind in schema.values()):
        raise _wrong(origin, "schema", schema, "not an object of key -> type", remedy)
    if unknown := sorted(set(schema.values()) - SCHEMA_TYPES):
        raise _wrong(origin, "schema", schema, f"unknown type {unknown[0]!r}", remedy)
    if missing := [key for key in FIELDS if key not in schema]:
        raise _wrong(origin, "schema", schema, f"key {missing[0]!r} is missing", remedy)
    return dict(schema)


def _text(row: Mapping[str, Any], key: str, origin: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise _wrong(origin, key, value, "not a non-empty string", f"give every row a text under {key!r}")
    return value


def _wrong(origin: str, key: str, value: Any, why: str, remedy: str) -> UserError:
    made_by = "`lightning-posttrain prepare format` writes rows of the right form"
    return UserError(f"{origin}: field {key!r} = {reprlib.repr(value)}: {why}; {remedy} ({made_by})")
