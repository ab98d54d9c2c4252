"""INIS: questions about short nuclear-science documents, answered in strict JSON or in a few words.

Extraction, lists, questions, and things that the passage does not say. One scorer judges supervised evaluation, the
right side of preferences and RLVR rewards alike. Nothing is repaired: what is measured is the text as it came, after
its reasoning (``<think>``) is taken away. Left out: summaries, evidence spans, and partial credit for near values
other than by a row's own tolerance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ...types import Completion, Record, UserError
from ..answers import final_answer
from ..bamboo import rows as bamboo_rows
from ..base import Score, Task
from ..reward import Reward
from .items import Item, read_item
from .score import judge_json, judge_text

LABELS = ("difficulty", "template", "facts", "verifier", "rejected_kind", "source", "synthetic")
JSON_METRICS = (
    *("parse", "sole_json", "no_duplicate_keys", "schema", "exact_object"),
    *("field_precision", "field_recall", "field_f1", "hallucinated_field_rate"),
)
QA_METRICS = ("qa_em", "qa_f1")


class Inis(Task):
    """Extract, list or answer from a nuclear-science passage, in strict JSON or in a few words.

    Of all examples, each 0 or 1:

    - ``correct``: the answer is of use as it stands: for JSON the whole text is one object or list, no key twice, valid
      by the schema and every field right; for text the same words, isotopes and quantities as gold, alone or in a
      sentence that says nothing else (``qa_em``).
    - ``grounded``: there is an answer, and its numbers, isotopes and dates are all in the passage, in whatever unit.
    - ``abstention_accuracy``: there is an answer, and it says "not stated" (in JSON: null) where gold does, only there.
    - ``eos_rate``: the model ended the answer itself.

    Of the examples that ask for JSON:

    - ``parse``: an object or list, as asked, is somewhere in the text. The other metrics judge the first one.
    - ``sole_json``, ``no_duplicate_keys``, ``schema`` (JSON Schema 2020-12).
    - ``field_precision``, ``field_recall``, ``field_f1``: of its leaves, under the row's ``field_rules``.
    - ``exact_object``: all of them right, none missing, none besides.
    - ``hallucinated_field_rate``: share of its values that gold has no place for or leaves null. Lower is better.

    Of those that ask for words: ``qa_em``; ``qa_f1`` of tokens, 0 where several different quantities are offered for
    one. Of those whose gold has numbers or quantities: ``numeric``, the share of them that is right, units converted.

    ``reason`` says what is wrong first, by the names of the rejected kinds of the preference data.

    Args:
        name: in file paths and metric tags, to tell several evaluations of a run apart.
        check_answers: refuse rows whose own answer is wrong; false to score such answers in a file.
    """

    name = "inis"
    primary = "correct"

    def __init__(self, name: str = "inis", check_answers: bool = True) -> None:
        self.name, self.check_answers = name, check_answers

    def reads(self, row: Mapping[str, Any]) -> bool:
        return not bamboo_rows.is_bamboo(row)

    def record(self, row: Mapping[str, Any], origin: str) -> Record:
        """A row as a record: SFT, preference or RLVR (see `items`); its right answer must pass its own checks."""
        item, talk = read_item(row, origin)
        labels = {key: row[key] for key in LABELS if row.get(key) is not None}
        answer = talk.messages[-1].content
        given = {} if answer.strip() else {"empty_answer": True}
        meta = {"item": item, "type": item.kind, **labels, **given}
        record = Record(talk.id, talk.messages[:-1], answer, origin, meta)
        whole = not item.partial or row.get("gold") is not None
        score = self.score(record, Completion((), (), record.answer, True))
        if self.check_answers and whole and not score.values["correct"]:
            raise UserError(
                f"{origin}: the answer {record.answer[:60]!r} fails its own checks ({score.reason}; wrong: "
                f"{score.detail.get('wrong_fields')}); correct `gold`, `schema`, `field_rules` or the answer"
            )
        return record

    def score(self, record: Record, completion: Completion) -> Score:
        """Judge one answer by the record's item; any text is judged, none raises."""
        item: Item = record.meta["item"]
        text = final_answer(completion.text)
        values, detail, reason = judge_text(item, text) if item.form == "text" else judge_json(item, text)
        values = {
            **dict.fromkeys((*JSON_METRICS, *QA_METRICS, "numeric"), math.nan),
            **{key: float(value) for key, value in values.items()},
            "eos_rate": float(completion.finished),
        }
        return Score(values, detail, reason)


class InisReward(Reward):
    """The task's scorer in stages, from 0 to 1. Only an answer that is ``correct`` gets 1.

    JSON: ``parse`` for a text that is one value with no key twice, ``schema`` for a valid one, ``fields`` times the F1
    of its fields. Words: 1 for the right answer, else ``fields`` times token F1.

    Args:
        parse, schema, fields: worth of the stages: above 0, together 1.
        weight: factor in the sum of the rewards.
        time_limit: seconds for one sample; null = none.
        name: name in metric tags.
    """

    optional = True  # rows of other tasks are not judged

    def __init__(
        self,
        parse: float = 0.1,
        schema: float = 0.2,
        fields: float = 0.7,
        weight: float = 1.0,
        time_limit: float | None = None,
        name: str = "inis",
    ) -> None:
        if not all(0 < stage < 1 for stage in (parse, schema, fields)) or not math.isclose(parse + schema + fields, 1):
            raise UserError(
                f"InisReward: parse={parse}, schema={schema}, fields={fields}; give numbers above 0 with the sum 1, so "
                "that only a right answer gets all of it"
            )
        self.parse, self.schema, self.fields = parse, schema, fields
        self.weight, self.time_limit, self.name = weight, time_limit, name
        self.task = Inis()

    def __call__(self, record: Record, completion: Completion) -> float | None:
        if "item" not in record.meta:
            return None
        values = self.task.score(record, completion).values
        if values["correct"]:
            return 1.0
        if record.meta["item"].form == "text":
            return self.fields * values["qa_f1"]
        strict = values["sole_json"] * values["no_duplicate_keys"]
        return self.parse * strict + self.schema * values["schema"] + self.fields * values["field_f1"]
