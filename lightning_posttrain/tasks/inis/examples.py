"""Questions about INIS passages with their right answers: a template, what was drawn for it, and one thing to ask.

An example knows a rival answer too: what the same question would get from another passage or, where the passage does
not say, from memory. Rejected answers are made of it. Left out: files and splits, which are in data.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .facts import Split
from .items import NOT_STATED
from .scenes import Scene, SceneMaker, Slot
from .texts import ASK, EXTRACT, LIST, Template

Asked = Literal["extract", "extract_null", "qa", "unanswerable", "list"]
SHARES: dict[Asked, float] = {"extract": 0.45, "extract_null": 0.12, "qa": 0.2, "unanswerable": 0.13, "list": 0.1}
"""How often each is asked where a template allows it."""
ALL_FIELDS = 0.5
"""Share of extractions of a whole object; the others want some of its fields, so that keys are read, not learnt."""

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_QUANTITY = {
    "type": "object",
    "properties": {"value": {"type": "number"}, "unit": {"type": "string"}},
    "required": ["value", "unit"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class Example:
    """One question.

    Args:
        template: of the passage.
        asked: what kind of question.
        prompt, passage: the user's message, and the passage in it.
        gold: the right answer: an object or a text.
        rival: a wrong one of the same form.
        schema, rules: of an object.
        numeric: a text answer is a quantity.
    """

    template: Template
    asked: Asked
    prompt: str
    passage: str
    gold: Any
    rival: Any
    schema: dict[str, Any] | None = None
    rules: Mapping[str, str] | None = None
    numeric: bool = False

    @property
    def answer(self) -> str:
        return self.gold if isinstance(self.gold, str) else json.dumps(self.gold, ensure_ascii=False)


class ExampleMaker:
    """Draws examples.

    Args:
        rng: of all draws.
        split: whose facts are told.
        templates: to choose from.
        simple: numbers without powers of ten.
    """

    def __init__(self, rng: random.Random, split: Split, templates: Sequence[Template], simple: bool) -> None:
        self.rng, self.templates = rng, templates
        self.scenes = SceneMaker(rng, split, simple)
        self.kinds = [kind for kind in SHARES if any(_allows(one, kind) for one in templates)]

    def example(self, asked: Asked | None = None) -> Example:
        """One example, of the kind ``asked`` if given, which has to be in ``kinds``."""
        template = self.rng.choice([one for one in self.templates if asked is None or _allows(one, asked)])
        if asked is None:
            possible = [kind for kind in SHARES if _allows(template, kind)]
            (asked,) = self.rng.choices(possible, [SHARES[kind] for kind in possible])
        told = self._told(template)
        others = self._told(template)
        if asked in ("qa", "unanswerable"):
            return self._words(template, asked, told, others)
        return self._object(template, asked, told, others)

    def _told(self, template: Template) -> dict[str, Scene]:
        """Scenes that can be told apart: no text of one is in another of its kind."""
        while True:
            scenes = {letter: self.scenes.scene(name) for letter, name in template.scenes.items()}
            texts = [str(slot) for scene in scenes.values() for key, slot in vars(scene).items() if key in _TELLING]
            if len(set(texts)) == len(texts):
                return scenes

    def _words(self, template: Template, asked: Asked, told: dict[str, Scene], others: dict[str, Scene]) -> Example:
        if asked == "qa":
            where, question = self.rng.choice(template.asks)
            slot, rival = _slot(where, told), _slot(where, others)
            gold, wrong, numeric = slot.text, rival.text, slot.rule in ("quantity", "numeric")
        else:
            _, where, question = self.rng.choice(template.lacks)
            gold, wrong, numeric = NOT_STATED, _slot(where, told).text, False
        passage = template.text.format(**told)
        prompt = ASK[template.level].format(text=passage, question=question.format(**told))
        return Example(template, asked, prompt, passage, gold, wrong, numeric=numeric)

    def _object(self, template: Template, asked: Asked, told: dict[str, Scene], others: dict[str, Scene]) -> Example:
        passage = template.text.format(**told)
        list_rule = template.lists[3] if template.lists else ""
        if asked == "list":
            assert template.lists is not None
            key, question, elements, _ = template.lists
            wanted: Mapping[str, Any] = {key: list(elements)}
        else:
            question, wanted = "", self._some(template.fields)
        gold, rival = _fill(wanted, told), _fill(wanted, others)
        schema, rules = _schema(wanted, told), _rules(wanted, told, list_rule)
        if asked == "extract_null":
            key, where, _ = self.rng.choice(template.lacks)
            slot = _slot(where, told)
            gold, rival = {**gold, key: None}, {**rival, key: slot.value}
            schema["properties"][key] = _leaf_schema(slot, null=True)
            schema["required"].append(key)
            rules |= {} if slot.rule == "exact" else {key: slot.rule}
        form = LIST if asked == "list" else EXTRACT
        prompt = form[template.level].format(
            text=passage,
            question=question,
            keys=", ".join(f"{key}{_kind(part)}" for key, part in schema["properties"].items()),
            schema=json.dumps(schema, ensure_ascii=False),
        )
        return Example(template, asked, prompt, passage, gold, rival, schema, rules)

    def _some(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        if len(fields) < 3 or self.rng.random() < ALL_FIELDS:
            return fields
        kept = set(self.rng.sample(list(fields), self.rng.randint(2, len(fields) - 1)))
        return {key: part for key, part in fields.items() if key in kept}


_TELLING = ("isotope", "sample", "badge", "event", "amount", "life", "date")


def _allows(template: Template, asked: Asked) -> bool:
    needed: dict[Asked, Any] = {
        "extract_null": template.lacks,
        "qa": template.asks,
        "unanswerable": template.lacks,
        "list": template.lists,
    }
    return bool(needed.get(asked, True))


def _slot(where: str, scenes: Mapping[str, Scene]) -> Slot:
    letter, _, name = where.partition(".")
    return scenes[letter][name]


def _fill(wanted: Any, scenes: Mapping[str, Scene]) -> Any:
    if isinstance(wanted, str):
        return _slot(wanted, scenes).value
    if isinstance(wanted, Mapping):
        return {key: _fill(part, scenes) for key, part in wanted.items()}
    return [_fill(part, scenes) for part in wanted]


def _schema(wanted: Any, scenes: Mapping[str, Scene], null: bool = True) -> dict[str, Any]:
    """Every field outside lists may be null, so that a schema does not tell what is not told."""
    if isinstance(wanted, str):
        return _leaf_schema(_slot(wanted, scenes), null)
    if isinstance(wanted, Mapping):
        return {
            "type": "object",
            "properties": {key: _schema(part, scenes, null) for key, part in wanted.items()},
            "required": list(wanted),
            "additionalProperties": False,
        }
    return {"type": "array", "items": _schema(wanted[0], scenes, null=False)}


def _leaf_schema(slot: Slot, null: bool) -> dict[str, Any]:
    if slot.rule == "quantity":
        leaf: dict[str, Any] = dict(_QUANTITY)
    elif slot.rule == "numeric":
        leaf = {"type": "number"}
    else:
        leaf = {"type": "string"}
        if _DATE.fullmatch(slot.value):
            leaf["format"] = "date"
    return {**leaf, "type": [leaf["type"], "null"]} if null else leaf


def _rules(wanted: Mapping[str, Any], scenes: Mapping[str, Scene], list_rule: str) -> dict[str, str]:
    rules: dict[str, str] = {}

    def visit(part: Any, path: str) -> None:
        if isinstance(part, str):
            rules[path] = _slot(part, scenes).rule
        elif isinstance(part, Mapping):
            for key, inner in part.items():
                visit(inner, f"{path}.{key}".removeprefix("."))
        else:
            rules[path] = list_rule
            visit(part[0], f"{path}[]")

    visit(wanted, "")
    return {path: rule for path, rule in rules.items() if rule != "exact"}


def _kind(schema: Mapping[str, Any]) -> str:
    """What a short prompt says of a field's type; texts are not mentioned."""
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return next((f" ({word})" for kind, word in (("number", "number"), ("array", "list")) if kind in kinds), "")
