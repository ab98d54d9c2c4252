"""Judging one INIS answer: JSON by its leaves, words by their tokens. What each metric means is said in `inis`.

Pure functions of an item and a text; any text is judged, none raises. The text itself decides nothing about the form
that is wanted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from .asked import follows_unit, is_gold, states
from .items import Item, fits
from .json_answers import Path, Reading, agrees, as_quantity, is_numeric, leaves, number_of, read, rule_of, shown
from .sentences import abstains, says
from .words import Quantity, Token, overlap, tokens, ungrounded

Judged = tuple[dict[str, float | bool], dict[str, Any], str | None]
"""Values of the metrics that apply, detail, and what is wrong first (None: nothing)."""


@dataclass
class _Fields:
    """The leaves of an answer against gold's."""

    right: list[Path] = field(default_factory=list)
    wrong: list[Path] = field(default_factory=list)
    missing: list[Path] = field(default_factory=list)
    extra: list[Path] = field(default_factory=list)

    def f1(self) -> tuple[float, float, float]:
        """Precision, recall, F1."""
        given = len(self.right) + len(self.wrong) + len(self.extra)
        wanted = len(self.right) + len(self.wrong) + len(self.missing)
        precision, recall = len(self.right) / max(given, 1), len(self.right) / max(wanted, 1)
        return precision, recall, 2 * len(self.right) / max(given + wanted, 1)


def judge_json(item: Item, text: str) -> Judged:
    reading = read(text, "object" if item.form == "object" else "array")
    gold = leaves(item.gold, item.rules)
    given = leaves(reading.value, item.rules) if reading.found else {}
    if item.partial:
        given = {path: value for path, value in given.items() if path in gold}
    fields = _compare(given, gold, item.rules)
    valid = reading.found and fits(reading.value, item.schema)
    exact = reading.found and not (fields.wrong or fields.missing or fields.extra)
    precision, recall, f1 = fields.f1()
    filled = [path for path, value in given.items() if value is not None]
    invented = [path for path in filled if gold.get(path) is None]
    nulls = {path for path, value in given.items() if value is None}
    numbers = [path for path, value in gold.items() if is_numeric(value, rule_of(path, value, item.rules))]
    right = set(fields.right)
    values: dict[str, float | bool] = {
        "correct": exact and reading.sole and not reading.duplicates and valid,
        "parse": reading.found,
        "sole_json": reading.sole,
        "no_duplicate_keys": reading.found and not reading.duplicates,
        "schema": valid,
        "exact_object": exact,
        "field_precision": precision,
        "field_recall": recall,
        "field_f1": f1,
        "hallucinated_field_rate": len(invented) / max(len(filled), 1),
        "numeric": sum(path in right for path in numbers) / len(numbers) if numbers else math.nan,
        "grounded": _grounded(_json_tokens(given) if reading.found else tokens(text), item, text),
        "abstention_accuracy": reading.found and nulls == {path for path, value in gold.items() if value is None},
    }
    detail = {
        "parsed": reading.value,
        "wrong_fields": [shown(path) for path in (*fields.wrong, *fields.missing, *fields.extra)],
        "fields_right": len(right),
        "fields_given": len(given),
        "fields_wanted": len(gold),
    }
    return values, detail, None if values["correct"] else _json_reason(text, reading, fields, given, gold, item.rules)


def _compare(given: Mapping[Path, Any], gold: Mapping[Path, Any], rules: Mapping[str, str]) -> _Fields:
    fields = _Fields(
        missing=[path for path in gold if path not in given], extra=[path for path in given if path not in gold]
    )
    for path, value in given.items():
        if path in gold:
            ok = agrees(value, gold[path], rule_of(path, gold[path], rules))
            (fields.right if ok else fields.wrong).append(path)
    return fields


def _json_reason(
    text: str,
    reading: Reading,
    fields: _Fields,
    given: Mapping[Path, Any],
    gold: Mapping[Path, Any],
    rules: Mapping[str, str],
) -> str:
    """The first thing that is wrong, from the outside in."""
    if not reading.found:
        return "invalid_json" if text else "no_answer"
    if reading.duplicates:
        return "duplicate_key"
    if not reading.sole:
        return "prose_around_json"
    return _field_reason(fields, given, gold, rules)


def _field_reason(
    fields: _Fields, given: Mapping[Path, Any], gold: Mapping[Path, Any], rules: Mapping[str, str]
) -> str:
    """What is wrong with the fields of the one object that the text is; ``schema`` where that alone fails."""
    if any(gold[path] is None for path in fields.wrong):
        return "answered_unanswerable"
    if any(given[path] is None for path in fields.wrong):
        return "abstained_answerable"
    if bool(fields.extra) != bool(fields.missing):
        return "hallucinated_field" if fields.extra else "missing_field"
    if any(_as_string(given[path], gold[path]) for path in fields.wrong):
        return "number_as_string"
    if fields.wrong and all(_other_unit(given[p], gold[p], rule_of(p, gold[p], rules)) for p in fields.wrong):
        return "wrong_unit"
    return "wrong_value" if fields.wrong or fields.missing else "schema"


def _as_string(value: Any, gold: Any) -> bool:
    """Whether a text stands where a number should, on its own or as the value of a quantity."""
    if isinstance(value, dict) and isinstance(gold, dict):
        return isinstance(value.get("value"), str)
    return isinstance(value, str) and number_of(gold) is not None


def _other_unit(value: Any, gold: Any, rule: str) -> bool:
    """Whether the number is right and its unit is not."""
    if rule == "unit":
        return True
    found, right = as_quantity(value), as_quantity(gold)
    return rule.startswith("quantity") and None not in (found, right) and found.bare == right.bare  # type: ignore[union-attr]


def _json_tokens(given: Mapping[Path, Any]) -> list[Token]:
    found: list[Token] = []
    for value in given.values():
        known = as_quantity(value)
        if known is not None:
            found.append(known)
        elif isinstance(value, str):
            found += tokens(value)
    return found


def judge_text(item: Item, text: str) -> Judged:
    gold, written = tokens(item.gold), tokens(text)
    snap = _snapper(gold, item)
    given = [snap(token) for token in written]
    wanted = {token for token in gold if isinstance(token, Quantity)}
    offered = {token for token in given if isinstance(token, Quantity)}
    refuses = abstains(text, item.question)
    if item.kind == "unanswerable" or refuses:
        em = item.kind == "unanswerable" and refuses
        f1 = float(em)
    else:
        em = (given == gold and not text.endswith("?")) or _says(written, given, gold, text, item, snap)
        f1 = 0.0 if len(wanted) == 1 and len(offered) > 1 else overlap(given, gold)[2]
        f1 = 1.0 if em else f1
    values: dict[str, float | bool] = {
        "correct": em,
        "qa_em": em,
        "qa_f1": f1,
        "numeric": float(em) if wanted else math.nan,
        "grounded": _grounded(given, item, text),
        "abstention_accuracy": bool(text) and refuses == (item.kind == "unanswerable"),
    }
    return values, {"parsed": text[:500]}, None if em else _text_reason(item, text, refuses, offered, wanted)


def _text_reason(item: Item, text: str, refuses: bool, offered: set[Quantity], wanted: set[Quantity]) -> str:
    if not text:
        return "no_answer"
    if refuses or item.kind == "unanswerable":
        return "abstained_answerable" if refuses else "answered_unanswerable"
    if len(wanted) == 1 and len(offered) > 1:
        return "several_values"
    if offered and wanted and {q.bare for q in offered} == {q.bare for q in wanted} and offered != wanted:
        return "wrong_unit"
    return "wrong_value"


def _says(
    written: list[Token], given: list[Token], gold: list[Token], text: str, item: Item, snap: Callable[[Token], Token]
) -> bool:
    """Whether a sentence says gold: a number, day or isotope by the rules of `asked`, else by those of `sentences`."""
    if len(gold) != 1 or isinstance(gold[0], str):
        return says(given, gold, text, item.question, item.context)
    known = _context(item.context) | frozenset(tokens(item.question))
    has_unit = item.unit is not None or (isinstance(gold[0], Quantity) and gold[0].dims is not None)
    if has_unit and any(token == gold[0] and follows_unit(written, at, known) for at, token in enumerate(given)):
        return False
    passage = list(map(snap, tokens(item.context, most=None)))
    return states(given, gold[0], text, item.question, passage)


def _snapper(gold: list[Token], item: Item) -> Callable[[Token], Token]:
    """What makes a quantity that is one of gold's into that one, and leaves other tokens as they are."""
    passage = _context(item.context)
    right = [(q, is_gold(q, item.unit, passage, item.rel)) for q in gold if isinstance(q, Quantity)]

    def snap(token: Token) -> Token:
        return next((q for q, same in right if isinstance(token, Quantity) and same(token)), token)

    return snap


def _grounded(found: list[Token], item: Item, text: str) -> bool:
    return bool(text) and not ungrounded(found, _context(item.context))


@lru_cache(maxsize=1024)
def _context(text: str) -> frozenset[Token]:
    return frozenset(tokens(text, most=None))
