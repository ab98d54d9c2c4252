"""PubMedQA: yes, no or maybe to a question, from the abstract of a paper (Jin et al. 2019, arXiv:1909.06146; MIT)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..types import Completion, Message, Record, UserError
from .answers import final_answer
from .base import Score, Task
from .enterprise.labels import Rules, check_rules, contained, label_metrics, text_of
from .latex import last_box, plain

LABELS = ("yes", "no", "maybe")
"""The original looked for them in the order of a Python set, another in each process. Here the order is this one."""

_LABEL = r"\b(yes|no|maybe)\b"
_WORD = re.compile(_LABEL, re.I)
_LEADING = re.compile(rf"(?:(?:the\s)?(?:final\s)?(?:answer|conclusion)(?:\sis)?\s*:?\s*)?{_LABEL}", re.I)
_MARKED = re.compile(rf"\b(?:answer|conclusion)(?:\s(?:is|would\sbe)|\s*:)(?:\stherefore)?:?\s*{_LABEL}", re.I)
_HEDGE = re.compile(
    rf"{_LABEL}[\s,;]*(?:(?:or|and|to|but|then)\b|[/|&-])?[\s,;]*(?:(?:perhaps|possibly|also|even)\s)?{_LABEL}", re.I
)
_DENIED = re.compile(rf"\b(?:not|neither|either|whether|nor|never)\s(?:a\s|simply\s)?{_LABEL}|n['’]t\s{_LABEL}", re.I)
_MARKS = re.compile(r"[*`_\"“”()\[\]]|(?<!\w)'|'(?!\w)")
_ROWS = (
    "a row needs texts `question`, `context` (or a list `CONTEXTS`) and `answer` (yes, no or maybe), or PubMedQA's own"
)


class PubMedQA(Task):
    """A question about a medical abstract, answered by yes, no or maybe.

    Metrics of one completion, each 0 or 1:

    - ``accuracy``: the answer is the gold one of the words yes, no and maybe: the one it begins with, else the one
      after "the answer is", else the only one in it. What joins two of them ("yes or no") or denies one is no answer.
    - ``accuracy_lenient``: the rule of earlier reports: the first of "yes", "no", "maybe" that is anywhere in the text,
      also inside a word, is taken for the answer: "I do not know" is a "no".
    - ``accuracy_yes``, ``accuracy_no``, ``accuracy_maybe``: ``accuracy`` of the examples with that gold label.
    - ``valid_rate``: it is one of these words.
    - ``eos_rate``: the model ended the completion itself.

    Of all examples: ``macro_f1``, ``micro_f1`` and ``majority_baseline`` (`label_metrics`).

    Args:
        rules: ``strict``, or ``compat``: all metrics follow the lenient rule, and reasoning is not taken away. The
            prompt is the original's by both.
    """

    name = "pubmedqa"
    primary = "accuracy"

    def __init__(self, rules: Rules = "strict") -> None:
        check_rules(self.name, rules)
        self.rules = rules

    def record(self, row: Mapping[str, Any], origin: str) -> Record:
        """A row as `prepare pubmedqa` writes it, or of the published file (keys in capitals) or hub data set."""
        question = text_of(row, ("question", "QUESTION"), origin, _ROWS)
        gold = text_of(row, ("answer", "final_decision"), origin, _ROWS).lower()
        if gold not in LABELS:
            raise UserError(f"{origin}: the answer is {gold!r}; it must be yes, no or maybe")
        prompt = (
            "Answer the question from the medical context with one word: yes, no or maybe.\n\n"
            f"Context: {_context(row, origin)}\n\nQuestion: {question}\n\nAnswer:"
        )
        row_id = row.get("id", row.get("pubid", origin))
        return Record(str(row_id), (Message("user", prompt),), gold, origin, {"label": gold})

    def parse(self, text: str) -> str | None:
        """Which of the three words an answer is, by this task's rules, or None; any text is read."""
        if self.rules == "compat":
            return next((label for label in LABELS if label in text.lower()), None)
        text = final_answer(text)
        text = " ".join(_MARKS.sub("", plain(last_box(text) or text)).split())
        said = [word.lower() for word in _WORD.findall(text)]
        if any(a.lower() != b.lower() for a, b in _HEDGE.findall(text)) or _DENIED.search(text):
            return None
        marked = _MARKED.findall(text)
        if leading := _LEADING.match(text):
            return leading[1].lower()
        if marked:
            return str(marked[-1]).lower()
        return said[0] if len(set(said)) == 1 else None

    def score(self, record: Record, completion: Completion) -> Score:
        gold, text = record.meta["label"], completion.text
        parsed, strict = self.parse(text), self.rules == "strict"
        held = [label for label in LABELS if label in text.lower()]
        lenient = contained(held[0], gold) if held else False
        correct = parsed == gold if strict else lenient
        values = {
            "accuracy": correct,
            "accuracy_lenient": lenient,
            **{f"accuracy_{label}": correct if label == gold else math.nan for label in LABELS},
            "valid_rate": parsed is not None,
            "eos_rate": completion.finished,
        }
        detail = {"parsed": parsed, "gold": gold, "arbitrary_in_original": len(held) > 1}
        reason = None if correct else "invalid" if parsed is None else "wrong_label"
        return Score({name: float(value) for name, value in values.items()}, detail, reason)

    def corpus_metrics(self, scores: Sequence[Score]) -> dict[str, float]:
        return label_metrics(scores)


def _context(row: Mapping[str, Any], origin: str) -> str:
    """The passages of a row, joined by spaces."""
    found = row.get("context", row.get("CONTEXTS"))
    if isinstance(found, Mapping):  # the hub's {contexts, labels, meshes}
        found = found.get("contexts")
    parts = [found] if isinstance(found, str) else found
    if not isinstance(parts, list | tuple) or not parts or not all(isinstance(part, str) for part in parts):
        raise UserError(f"{origin}: context={found!r:.60}; {_ROWS}")
    joined = " ".join(part.strip() for part in parts).strip()
    if not joined:
        raise UserError(f"{origin}: the context is blank; {_ROWS}")
    return joined
