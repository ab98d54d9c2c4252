"""Rows of the INIS task as items: what is asked, what is right, and how each field is compared.

Three kinds of rows are read: SFT (``messages``, or ``prompt`` with ``completion``), preferences (``prompt``,
``chosen``, ``rejected``) and RLVR (``prompt`` or ``messages`` with ``verifier`` and ``ground_truth``). The form of the
answer comes from the item alone (``schema``, ``verifier``, ``gold``), never from an answer. Left out: summaries, which
no exact scorer can judge, and schemas that point to other documents.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, cast, get_args

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from referencing import Registry

from ...records.adapters import conversation
from ...types import Conversation, UserError
from .asked import asked_unit
from .json_answers import number_of, rule_problem
from .plain import plain
from .sentences import abstains, question_of
from .units import Unit, parse_unit
from .words import tokens

Kind = Literal["extract", "qa", "list", "unanswerable"]
VERIFIERS = ("numeric", "string", "json_field", "json_schema")
NOT_STATED = "not stated"
"""What the project's own rows want where a passage does not say."""


@dataclass(frozen=True, slots=True)
class Item:
    """What one row asks.

    Args:
        kind: extract, qa, list or unanswerable.
        form: of the answer.
        gold: an object, a list or a text.
        schema: JSON Schema 2020-12 of the answer; None = any.
        rules: path -> rule, see `json_answers`.
        context: the passage.
        partial: only the fields of ``gold`` are judged; others may be there.
        rel: share by which the quantity of a text answer may be off.
        question: the question alone, without the passage.
        unit: in which a number is asked for; None = no unit is named.
    """

    kind: Kind
    form: Literal["object", "array", "text"]
    gold: Any
    schema: Mapping[str, Any] | None
    rules: Mapping[str, str]
    context: str
    partial: bool = False
    rel: float = 0.0
    question: str = ""
    unit: Unit | None = None


def fits(value: Any, schema: Mapping[str, Any] | None) -> bool:
    """Whether a JSON value is valid by the schema. Never raises: a value that breaks the validator is not valid."""
    if schema is None:
        return True
    try:
        return bool(_validator(json.dumps(schema)).is_valid(value))
    except (ValueError, TypeError, OverflowError, RecursionError):
        return False


def read_item(row: Mapping[str, Any], origin: str) -> tuple[Item, Conversation]:
    """A row as an item and the conversation that its right answer makes.

    Raises:
        UserError: names ``origin``, the field, the value and the remedy.
    """
    prompt, answer = _prompt_and_answer(row, origin)
    gold, partial = _gold(row, answer, origin)
    schema, rules = _schema(row, origin), _rules(row, origin)
    if row.get("verifier") == "json_schema" and schema is None and isinstance(gold, dict) and "properties" in gold:
        raise _wrong(origin, "ground_truth", gold, "a schema, not an answer", "give the schema as `schema`")
    form = _form(row, gold, schema, origin)
    if form == "text":
        gold = _gold_text(gold, row, origin)
    context = row.get("context")
    if context is not None and not isinstance(context, str):
        raise _wrong(origin, "context", context, "not a text", "give the passage as a text, or leave it out")
    told = next((m["content"] for m in reversed(prompt) if m["role"] == "user"), "")
    question = question_of(told)
    item = Item(
        kind=_kind(row, form, gold, question, origin),
        form=form,
        gold=gold,
        schema=schema,
        rules=rules,
        context=context or "\n".join(m["content"] for m in prompt if m["role"] != "assistant"),
        partial=partial,
        rel=_tolerance(row, origin),
        question=question,
        unit=_unit(row, told, question) if form == "text" else None,
    )
    if answer is None:
        whole = row.get("gold", gold)
        answer = whole if isinstance(whole, str) else json.dumps(whole, ensure_ascii=False)
    context_only = {} if answer.strip() else {"train": False}  # nothing to learn from, but something to judge
    turns = [*prompt, {"role": "assistant", "content": answer, **context_only}]
    named = {"id": row["id"]} if row.get("id") is not None else {}
    return item, conversation({"messages": turns, **named}, origin)


def _prompt_and_answer(row: Mapping[str, Any], origin: str) -> tuple[list[dict[str, str]], str | None]:
    """The turns to answer and the right answer where the row has one."""
    name = next((key for key in ("messages", "prompt", "question") if row.get(key)), None)
    if name is None:
        raise _wrong(origin, "messages", None, "the row asks nothing", "give `messages`, `prompt` or `question`")
    turns = row[name]
    if isinstance(turns, str):
        passage = f"Passage: {row['context']}\n" if name == "question" and row.get("context") else ""
        turns = [{"role": "user", "content": passage + turns}]
    good = isinstance(turns, list | tuple) and all(
        isinstance(t, Mapping) and isinstance(t.get("role"), str) and isinstance(t.get("content"), str) for t in turns
    )
    if not good:
        raise _wrong(origin, name, turns, "not a list of {role, content}", "give messages with texts")
    turns = [{"role": t["role"], "content": t["content"]} for t in turns]
    answer: Any = next((row[key] for key in ("chosen", "completion") if row.get(key) is not None), None)
    if isinstance(answer, list | tuple) and answer and isinstance(answer[-1], Mapping):
        answer = answer[-1].get("content")
    if answer is not None and not isinstance(answer, str):
        raise _wrong(origin, "chosen", answer, "not an assistant message", "give a text or one assistant message")
    if answer is None and turns and turns[-1]["role"] == "assistant":
        answer = turns.pop()["content"]
    return turns, answer


def _gold(row: Mapping[str, Any], answer: str | None, origin: str) -> tuple[Any, bool]:
    """What the answer is compared with, and whether that is only a part of it."""
    verifier = row.get("verifier")
    if verifier is not None and verifier not in VERIFIERS:
        raise _wrong(origin, "verifier", verifier, "unknown", f"give one of {', '.join(VERIFIERS)}")
    if row.get("ground_truth") is not None:
        gold = row["ground_truth"]
        if verifier == "json_field" and isinstance(gold, Mapping) and gold.keys() == {"field", "value"}:
            gold = {str(gold["field"]): gold["value"]}
        return gold, verifier == "json_field"
    if verifier is not None and row.get("gold") is None:
        raise _wrong(origin, "ground_truth", None, f"missing beside verifier={verifier!r}", "give the right answer")
    if row.get("gold") is not None:
        return row["gold"], False
    if answer is not None and row.get("type") in ("qa", "unanswerable") and row.get("schema") is None:
        return answer, False
    remedy = "give `gold` (or `ground_truth`): the form of an answer is never guessed from an answer"
    raise _wrong(origin, "gold", None, "the row does not say what is right", remedy)


def _form(
    row: Mapping[str, Any], gold: Any, schema: Mapping[str, Any] | None, origin: str
) -> Literal["object", "array", "text"]:
    verifier = row.get("verifier")
    if verifier in ("numeric", "string"):
        return "text"
    if isinstance(gold, dict | list) and gold:
        return "object" if isinstance(gold, dict) else "array"
    if schema is not None or verifier is not None or isinstance(gold, dict | list):
        raise _wrong(origin, "gold", gold, "no object or list, which is asked for", "give one with something in it")
    return "text"


def _gold_text(gold: Any, row: Mapping[str, Any], origin: str) -> str:
    if isinstance(gold, Mapping) and gold.keys() == {"value", "unit"}:
        return f"{gold['value']} {gold['unit']}"
    if number_of(gold) is not None:
        gold = f"{gold} {row['unit']}" if isinstance(row.get("unit"), str) else str(gold)
    if not isinstance(gold, str) or not tokens(gold):
        raise _wrong(origin, "gold", gold, "no answer in words or numbers", "give a text or a number")
    return gold


def _unit(row: Mapping[str, Any], prompt: str, question: str) -> Unit | None:
    """The unit of the row, or that its prompt asks for."""
    if isinstance(row.get("unit"), str):
        return parse_unit(plain(row["unit"]))
    context = row.get("context")
    return asked_unit(prompt.replace(context, "") if isinstance(context, str) else prompt, question)


def _kind(row: Mapping[str, Any], form: str, gold: Any, question: str, origin: str) -> Kind:
    kind = row.get("type")
    if kind is None:
        kind = "extract" if form != "text" else "unanswerable" if abstains(gold, question) else "qa"
    if kind not in get_args(Kind):
        raise _wrong(origin, "type", kind, "unknown", f"give one of {', '.join(get_args(Kind))}")
    if form == "text" and (kind == "unanswerable") != abstains(gold, question):
        raise _wrong(origin, "type", kind, f"does not go with the answer {gold!r}", f"say {NOT_STATED!r}, or type: qa")
    return cast(Kind, kind)


def _schema(row: Mapping[str, Any], origin: str) -> Mapping[str, Any] | None:
    schema = row.get("schema")
    if schema is None:
        return None
    problem = _schema_problem(json.dumps(schema)) if isinstance(schema, dict) else "not an object"
    if problem is not None:
        raise _wrong(origin, "schema", schema, problem, "give a JSON Schema (2020-12) whose references stay inside it")
    return dict(schema)


@lru_cache(maxsize=4096)  # a file has few schemas, and checking one takes milliseconds
def _schema_problem(text: str) -> str | None:
    schema = json.loads(text)
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return f"no valid schema ({error.message[:100]})"
    outside = any(not ref.startswith("#") for ref in _references(schema))
    return "refers to another document" if outside else None


def _references(schema: Any) -> list[str]:
    if isinstance(schema, list):
        return [ref for part in schema for ref in _references(part)]
    if not isinstance(schema, dict):
        return []
    own = [v for k, v in schema.items() if k in ("$ref", "$dynamicRef") and isinstance(v, str)]
    return own + [ref for part in schema.values() for ref in _references(part)]


def _rules(row: Mapping[str, Any], origin: str) -> dict[str, str]:
    rules = row.get("field_rules") or {}
    if not isinstance(rules, Mapping):
        raise _wrong(origin, "field_rules", rules, "not an object of path -> rule", 'such as {"half_life": "numeric"}')
    for path, rule in rules.items():
        if (problem := rule_problem(rule)) is not None:
            raise _wrong(origin, f"field_rules.{path}", rule, problem, "correct the rule")
    return dict(rules)


def _tolerance(row: Mapping[str, Any], origin: str) -> float:
    value = row.get("tolerance") or 0.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise _wrong(origin, "tolerance", value, "not a share from 0 to 1", "such as 0.01, or leave it out")
    return float(value)


@lru_cache(maxsize=4096)
def _validator(schema: str) -> Draft202012Validator:
    """With a registry that fetches nothing."""
    return Draft202012Validator(
        json.loads(schema), registry=Registry(), format_checker=Draft202012Validator.FORMAT_CHECKER
    )


def _wrong(origin: str, key: str, value: Any, why: str, remedy: str) -> UserError:
    made_by = "`lightning-posttrain prepare inis` writes rows of the right form"
    return UserError(f"{origin}: field {key!r} = {reprlib.repr(value)}: {why}; {remedy} ({made_by})")
